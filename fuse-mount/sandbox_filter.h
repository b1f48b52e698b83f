/*
 * Inside fuse-mount/: what the kernel lets a reader do.
 */
#ifndef FUSE_MOUNT_SANDBOX_FILTER_H
#define FUSE_MOUNT_SANDBOX_FILTER_H

/* For the calling process and what it becomes. The descriptor that asks about opens, or -errno. */
int fm_sandbox_filter(void);

#endif
