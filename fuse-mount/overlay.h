/*
 * Inside fuse-mount/: differencing disks that take what is written, so that the disk below stays as
 * it is.
 */
#ifndef FUSE_MOUNT_OVERLAY_H
#define FUSE_MOUNT_OVERLAY_H

#include "snapshot/chain.h"

/*
 * An overlay without a name upon the disk, which is open for reading and taken over on success: it
 * goes when it is closed. -EOVERFLOW for a disk that is larger than differencing disks can be.
 */
int fm_overlay_temporary(struct hv_disk *below, struct hv_disk **ret, struct hv_err *err);

/*
 * The overlay at path, upon the disk at below: a child that any VHD tool can open. It is made where
 * there is none; one that is there must be a child of that disk (-ESTALE).
 */
int fm_overlay_open(const char *path, const char *below, const struct snap_open_options *options,
		    struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err);

#endif
