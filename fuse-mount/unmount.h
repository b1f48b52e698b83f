/*
 * Inside fuse-mount/: vhdmount --unmount.
 */
#ifndef FUSE_MOUNT_UNMOUNT_H
#define FUSE_MOUNT_UNMOUNT_H

#include <stdbool.h>

#include "hvcore/err.h"

/* The type of our mounts in mountinfo, and the extended attribute of their root that has the
 * daemon's pid. */
#define FM_MOUNT_TYPE "fuse.vhdmount"
#define FM_PID_ATTRIBUTE "user.vhdmount.pid"

/*
 * Unmounts what is mounted upon directory by vhdmount, and before that what is mounted below it,
 * the deepest first. Returns when the daemon has gone: what was written is durable then. A mount
 * whose daemon is dead is detached. -EINVAL: it is no mount of vhdmount; -EBUSY: somebody uses it,
 * and nothing but mounts below has changed; -ETIMEDOUT: the daemon still writes.
 */
int fm_unmount(const char *directory, struct hv_err *err);

/* Unmounts target: by umount2 as root, else by fusermount3. lazy detaches it also while it is used.
 */
int fm_unmount_one(const char *target, bool lazy, struct hv_err *err);

#endif
