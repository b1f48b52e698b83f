/*
 * Inside fuse-mount/: a part of a disk as a disk.
 */
#ifndef FUSE_MOUNT_WINDOW_H
#define FUSE_MOUNT_WINDOW_H

#include "hvcore/disk.h"

/* [offset, offset + length) of below, both multiples of the sector size, which is lent. */
int fm_window_new(struct hv_disk *below, uint64_t offset, uint64_t length, struct hv_disk **ret,
		  struct hv_err *err);

#endif
