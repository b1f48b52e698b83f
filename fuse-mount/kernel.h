/*
 * Inside fuse-mount/: --kernel: filesystems that the kernel reads, each upon files/NAME, through a
 * loop device on the volume that a reader would have had. So what the kernel writes, be it the
 * replay of a journal only, goes where a reader's writes go.
 */
#ifndef FUSE_MOUNT_KERNEL_H
#define FUSE_MOUNT_KERNEL_H

#include "fuse-mount/browse.h"
#include "fuse-mount/tree.h"

struct fm_kernel;

struct fm_kernel_options {
	const struct fm_tree *tree;
	struct fm_browse *browse; /* where volumes are files */
	const char *directory;    /* where the tree is mounted, and answered */
	bool write;
};

/*
 * As root: mounts the filesystems for which no program of their own is installed. Those that cannot
 * be mounted are left to what reads them otherwise, and the log says why.
 */
int fm_kernel_new(const struct fm_kernel_options *options, struct fm_kernel **ret,
		  struct hv_err *err);

/*
 * While the tree is mounted and answered: unmounts them; what is in use is written back and
 * detached. NULL is none.
 */
void fm_kernel_unmount(struct fm_kernel *kernel);

/* Does anybody still use one of them, or is one still being written back? NULL is none. */
bool fm_kernel_in_use(struct fm_kernel *kernel);
void fm_kernel_free(struct fm_kernel *kernel);
HV_DEFINE_CLEANUP(struct fm_kernel, fm_kernel_free)

#endif
