/*
 * JSON. A thin layer over jansson, so that commands build objects without checking each step: a
 * failed allocation is remembered and reported once by hv_json_print.
 *
 * Text that is not UTF-8 (a path may hold any bytes) is written with U+FFFD in place of what is
 * not. Numbers are exact to 63 bits.
 */
#ifndef HVCORE_JSON_H
#define HVCORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"

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

/* A copy of value, of another tree. */
void hv_json_set_copy(struct hv_json *object, const char *key, const struct hv_json *value);

/*
 * Reading: text that anybody may have sent, as one value and nothing behind it. -EINVAL with a
 * sentence for what is no JSON, names a key twice, or nests deeper than 2048; -ENOMEM.
 */
int hv_json_parse(const char *text, size_t length, struct hv_json **ret, struct hv_err *err);

/*
 * Members of an object, by key: NULL or false (and *ret untouched) when there is none, or one of
 * another kind, or json is NULL or no object. What is returned is lent.
 */
const char *hv_json_get_string(const struct hv_json *json, const char *key);
bool hv_json_get_number(const struct hv_json *json, const char *key, uint64_t *ret);
bool hv_json_get_bool(const struct hv_json *json, const char *key, bool *ret);
struct hv_json *hv_json_get_object(struct hv_json *json, const char *key);
struct hv_json *hv_json_get_array(struct hv_json *json, const char *key);
bool hv_json_has(const struct hv_json *json, const char *key); /* of any kind, null too */

/* Elements of an array; 0 and NULL for anything else. */
size_t hv_json_count(const struct hv_json *json);
const char *hv_json_string_at(const struct hv_json *array, size_t index);
struct hv_json *hv_json_object_at(struct hv_json *array, size_t index);

/* Writes the value, indented by two, and a newline. 0, -ENOMEM or -EIO. */
int hv_json_print(const struct hv_json *json, FILE *out);

/* The same on one line. */
int hv_json_print_line(const struct hv_json *json, FILE *out);

/* What hv_json_print writes, malloc'ed; NULL: no memory was left, now or before. */
char *hv_json_dump(const struct hv_json *json);

#endif
