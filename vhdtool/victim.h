/*
 * Inside vhdtool/: a disk whose contents are about to be destroyed, and what they are.
 */
#ifndef VHDTOOL_VICTIM_H
#define VHDTOOL_VICTIM_H

#include "hvcore/disk.h"

struct tool_victim {
	const char *path, *format, *parent; /* as the user named them; format and parent or NULL */
	const char *verb;                   /* "wipes": what --from raw does to a raw image */
	bool force;

	/* Found by looking: */
	const char *type;
	uint64_t size_bytes;
	char *contents; /* malloc'ed; NULL: nothing that libblkid knows */
};

/*
 * Opens the disk for reading, looks, and closes it again. Without force that ends with -EEXIST and
 * a sentence that names what would be destroyed. -EINVAL for a raw image that the user has not
 * called one: a mistyped path must not cost a device its contents.
 */
int tool_victim_look(struct tool_victim *victim, struct hv_loop *loop, struct hv_err *err);

#endif
