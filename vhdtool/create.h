/*
 * Inside vhdtool/: one disk on its way into being, shared by cmd_create.c and create_fixed.c.
 */
#ifndef VHDTOOL_CREATE_H
#define VHDTOOL_CREATE_H

#include "vhd/vhd.h"
#include "vhdtool/zeroing.h"

struct create_options {
	const char *fixed, *dynamic, *diff, *secure_zero, *geometry;
	uint64_t block_bytes;
	bool allow_stale, azure, force, json, quiet;
};

struct creation {
	const struct create_options *options;
	const char *path;
	struct hv_loop *loop;
	struct vhd_create_options create;
	bool device;          /* path is a block device */
	bool max;             /* as large as the device */
	uint64_t asked_bytes; /* before rounding for Azure */
	struct hv_file *file; /* until disk has taken it over */
	struct hv_disk *disk;
	bool zeroed; /* by --secure-zero: zeroing tells how */
	struct tool_zeroing zeroing;
	const char *grounds; /* of reading as zeros; NULL: nobody vouches for it */
	double started;
};

/* These fill creation->disk, which is complete but may not have its name yet. */
int create_fixed_file(struct creation *creation, struct hv_err *err);
int create_fixed_device(struct creation *creation, struct hv_err *err);

#endif
