/*
 * Descriptions, said once: each part of something has one function that describes it to a struct
 * hv_description, which makes lines of text, members of a JSON object, or both of it; so neither
 * can tell more than the other by accident.
 */
#ifndef HVCORE_DESCRIBE_H
#define HVCORE_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hvcore/guid.h"
#include "hvcore/json.h"
#include "hvcore/probe.h"

/* Where a description goes; both are lent. Setting members of NULL does nothing. */
struct hv_description {
	struct hv_json *json;
	FILE *text;
	unsigned indent; /* columns */
};

/* One line of text: "label:   value", made harmless. */
void hv_describe_line(const struct hv_description *out, const char *label, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A line of text and a member of the JSON object. No line for NULL, and null in JSON. */
void hv_describe_text(const struct hv_description *out, const char *key, const char *label,
		      const char *value);
void hv_describe_number(const struct hv_description *out, const char *key, const char *label,
			uint64_t value);
void hv_describe_bytes(const struct hv_description *out, const char *key, const char *label,
		       uint64_t bytes);
void hv_describe_flag(const struct hv_description *out, const char *key, const char *label,
		      bool value);
void hv_describe_hex(const struct hv_description *out, const char *key, const char *label,
		     uint32_t value);
void hv_describe_uuid(const struct hv_description *out, const char *key, const char *label,
		      const struct hv_guid *uuid);

/* A headline and an object; what goes to the result stands below it. */
struct hv_description hv_describe_section(const struct hv_description *out, const char *key,
					  const char *title);

/* The whole text "10 MiB (10485760 bytes)". */
#define HV_DESCRIBE_BYTES_SIZE 64
void hv_describe_format_bytes(uint64_t bytes, char text[HV_DESCRIBE_BYTES_SIZE]);

/*
 * A section "contents": what libblkid has found, with the partition table. probe is NULL where it
 * could not be looked for, for the reason given; reason is not read otherwise.
 */
void hv_describe_contents(const struct hv_description *out, const struct hv_probe *probe,
			  const char *reason);

/* The members of a partition, those of its content among them; nothing as text. */
void hv_describe_partition(struct hv_json *json, const struct hv_partition *partition);
void hv_describe_signature(struct hv_json *json, const struct hv_signature *found);

#endif
