/*
 * Inside fuse-mount/: a map as a disk, so that an overlay can lie upon what is open already.
 */
#ifndef FUSE_MOUNT_BELOW_H
#define FUSE_MOUNT_BELOW_H

#include "fuse-mount/map.h"

/* A read-only disk of loop, whose thread waits for what it reads. Both are lent. */
int fm_below_new(struct fm_map *map, struct hv_loop *loop, struct hv_disk **ret,
		 struct hv_err *err);

#endif
