/*
 * Inside fuse-mount/: files/, the files of each filesystem in the disk.
 *
 * Readers open volumes as files of a second FUSE mount, which nobody sees: it is detached as soon
 * as its root is open. So a reader keeps nobody from unmounting, as root it needs no way through
 * directories that are not its own, and no request that waits for a reader can hold up those that
 * the reader waits for.
 */
#ifndef FUSE_MOUNT_FILES_H
#define FUSE_MOUNT_FILES_H

#include "fuse-mount/browse.h"
#include "fuse-mount/tree.h"
#include "fuse-mount/volume.h"

struct fm_files;

/* Both are lent. Starts nothing yet. */
int fm_files_new(const struct fm_tree *tree, struct fm_volumes *volumes, struct fm_files **ret,
		 struct hv_err *err);
struct fm_browse *fm_files_browse(struct fm_files *files);

/* Ends what has been started. No more requests may come. */
void fm_files_free(struct fm_files *files);
HV_DEFINE_CLEANUP(struct fm_files, fm_files_free)

#endif
