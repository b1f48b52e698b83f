/*
 * Inside snapshot/: the parts of a description.
 */
#ifndef SNAPSHOT_DESCRIBE_LAYER_H
#define SNAPSHOT_DESCRIBE_LAYER_H

#include "snapshot/describe.h"

/* A layer, with what has to be asked of its file. */
struct snap_layer_info {
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
int snap_layer_look(const struct snap_layer *layer, struct snap_layer_info *ret,
		    struct hv_err *err);

/* Everything about one layer. */
void snap_describe_layer(const struct hv_description *out, const struct snap_layer_info *layer);

/* Parts of that. Footer: any VHD; header: dynamic and differencing; parent: differencing. */
void snap_describe_footer(const struct hv_description *out, const struct snap_layer_info *layer);
void snap_describe_header(const struct hv_description *out, const struct snap_layer_info *layer);
void snap_describe_parent(const struct hv_description *out, const struct snap_layer_info *layer);

#endif
