/*
 * Inside fuse-mount/: what the kernel offers and this libfuse does not know: memory mapping of
 * files without a page cache of their own, and passthrough, by which the kernel reads a file of the
 * host in place of ours, without asking us. The numbers are those of Linux'
 * include/uapi/linux/fuse.h.
 */
#ifndef FUSE_MOUNT_NEGOTIATE_H
#define FUSE_MOUNT_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcore/err.h"

struct fm_negotiation {
	bool passthrough; /* in: wanted; out: the kernel agrees */
};

/*
 * The first message, INIT, passes through our hands: answer has libfuse read it from fd and write
 * its reply there, fd standing for the kernel's descriptor meanwhile. 0, or -errno with a sentence.
 */
int fm_negotiate(int fd, void (*answer)(void *context), void *context,
		 struct fm_negotiation *negotiation, struct hv_err *err);

/*
 * Has the kernel take the file at backing_fd for reading in place of ours. *ret is its number. Root
 * only (-EPERM), and only some filesystems of the host; no sentence, for there is another way.
 */
int fm_passthrough_open(int fuse_fd, int backing_fd, int32_t *ret);

/* The reply to an open, as the kernel wants it for that. */
struct fm_open_reply {
	uint64_t fh;
	uint32_t flags;
	int32_t backing_id;
};

struct fm_open_reply fm_passthrough_reply(uint64_t fh, int32_t backing_id);

#endif
