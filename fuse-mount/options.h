/*
 * Inside fuse-mount/: what the user asks for.
 */
#ifndef FUSE_MOUNT_OPTIONS_H
#define FUSE_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hvcore/option.h"

struct fm_options {
	bool list, json, unmount; /* instead of mounting */
	bool foreground, verbose, debug;
	bool rw, kernel, kernel_cache, allow_other, force_share;
	const char *overlay, *format, *parent, *window, *uid_text, *gid_text;
	const char **mount_options; /* each the argument of one -o */

	/* Made of those. */
	uint64_t window_offset, window_bytes; /* window_bytes 0: to the end */
	uid_t uid;
	gid_t gid;
	char *more; /* mount options for libfuse and the kernel, with commas; malloc'ed, or NULL */
};

extern const struct hv_option fm_option_table[];

/*
 * Takes the words of -o, numbers and sizes apart, and refuses what excludes each other. -EINVAL
 * with a sentence.
 */
int fm_options_settle(struct fm_options *options, struct hv_err *err);

#endif
