/*
 * Inside vhdtool/: what `info` tells, said once. Each part has one function that describes it to a
 * struct info_out, which makes text or JSON of it; so neither can tell more than the other by
 * accident.
 */
#ifndef VHDTOOL_INFO_H
#define VHDTOOL_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/json.h"
#include "snapshot/chain.h"

/*
 * Where a description goes. As text, json is NULL, and setting members of it does nothing; as JSON,
 * what is for the text only is not printed.
 */
struct info_out {
	struct hv_json *json;
	bool text;
	unsigned indent; /* columns */
};

/* One line of text: "label:   value", made harmless. */
void info_line(const struct info_out *out, const char *label, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A line of text and a member of the JSON object. No line for NULL, and null in JSON. */
void info_text(const struct info_out *out, const char *key, const char *label, const char *value);
void info_number(const struct info_out *out, const char *key, const char *label, uint64_t value);
void info_bytes(const struct info_out *out, const char *key, const char *label, uint64_t bytes);
void info_flag(const struct info_out *out, const char *key, const char *label, bool value);
void info_hex(const struct info_out *out, const char *key, const char *label, uint32_t value);
void info_uuid(const struct info_out *out, const char *key, const char *label,
	       const struct hv_guid *uuid);

/* A headline and an object; what goes to the result stands below it. */
struct info_out info_section(const struct info_out *out, const char *key, const char *title);

/* The whole text "10 MiB (10485760 bytes)". */
#define INFO_BYTES_SIZE 64
void info_format_bytes(uint64_t bytes, char text[INFO_BYTES_SIZE]);

/* A layer, with what has to be asked of its file. */
struct info_layer {
	const struct snap_layer *layer;
	struct hv_disk *disk;
	const struct vhd_info *vhd; /* NULL: a raw image */
	uint64_t file_bytes, allocated_bytes;
	int64_t extents; /* on the host's medium; -1: not known */
	bool block_device;
	char filesystem[32];
	uint32_t header_version, header_checksum; /* dynamic and differencing only */
};

/* 0, or -errno with a sentence. layer is lent to ret. */
int info_look(const struct snap_layer *layer, struct info_layer *ret, struct hv_err *err);

/* Everything about one layer. */
void info_describe_layer(const struct info_out *out, const struct info_layer *layer);

/* Parts of that. Footer: any VHD; header: dynamic and differencing; parent: differencing. */
void info_describe_footer(const struct info_out *out, const struct info_layer *layer);
void info_describe_header(const struct info_out *out, const struct info_layer *layer);
void info_describe_parent(const struct info_out *out, const struct info_layer *layer);

/* What is inside disk; NULL: the disk cannot be read, for the reason given. */
void info_describe_contents(const struct info_out *out, struct hv_disk *disk, const char *reason);

#endif
