/*
 * JSON output. A thin layer over jansson, so that commands build objects without checking each
 * step: a failed allocation is remembered and reported once by hv_json_print.
 *
 * Text that is not UTF-8 (a path may hold any bytes) is written with U+FFFD in place of what is
 * not. Numbers are exact to 63 bits.
 */
#ifndef HVCORE_JSON_H
#define HVCORE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hvcore/cleanup.h"

struct hv_json; /* a value; owned by its container once added to one */

struct hv_json *hv_json_object(void);
struct hv_json *hv_json_array(void);
void hv_json_free(struct hv_json *json); /* only what is in no container */
HV_DEFINE_CLEANUP(struct hv_json, hv_json_free)

void hv_json_set_string(struct hv_json *object, const char *key, const char *text); /* NULL: null */
void hv_json_set_number(struct hv_json *object, const char *key, uint64_t number);
void hv_json_set_real(struct hv_json *object, const char *key, double number);
void hv_json_set_bool(struct hv_json *object, const char *key, bool value);
void hv_json_set_null(struct hv_json *object, const char *key);

/* These lend the new container, which belongs to object (or array). */
struct hv_json *hv_json_set_object(struct hv_json *object, const char *key);
struct hv_json *hv_json_set_array(struct hv_json *object, const char *key);
struct hv_json *hv_json_add_object(struct hv_json *array);
void hv_json_add_string(struct hv_json *array, const char *text);

/* Writes the value, indented by two, and a newline. 0, -ENOMEM or -EIO. */
int hv_json_print(const struct hv_json *json, FILE *out);

/* The same on one line. */
int hv_json_print_line(const struct hv_json *json, FILE *out);

/* What hv_json_print writes, malloc'ed; NULL: no memory was left, now or before. */
char *hv_json_dump(const struct hv_json *json);

#endif
