/*
 * Inside fuse-mount/: what the kernel asks about files/NAME/..., passed on to the reader of NAME,
 * and its answers passed back. No thread waits for a reader.
 *
 * An inode number (as libfuse calls it) has the number of files/NAME in the tree in its upper 16
 * bits, the generation of the reader below, and the reader's own number. The root of a filesystem
 * is the node files/NAME of the tree itself: it outlives its reader.
 */
#ifndef FUSE_MOUNT_FORWARD_H
#define FUSE_MOUNT_FORWARD_H

#include <fuse_lowlevel.h>

#include "fuse-mount/browse.h"
#include "fuse-mount/handle.h"

struct fm_forward {
	struct fm_browse *browse;
	struct fm_handles *handles; /* of open files; lent, as browse */
	bool write;
	uid_t uid; /* whose the files are where the filesystem knows none */
	gid_t gid;
	double timeout; /* seconds that the kernel may remember what does not change */
};

/* Is ino inside a filesystem? (Its root is not: that is the tree's.) */
static inline bool fm_forward_inside(fuse_ino_t ino)
{
	return ino >> 48;
}

/* The operations for which ino, or the directory, is inside a filesystem or the root of one. */
void fm_forward_lookup(const struct fm_forward *, fuse_req_t, fuse_ino_t, const char *name);
void fm_forward_forget(const struct fm_forward *, fuse_ino_t, uint64_t count);
void fm_forward_getattr(const struct fm_forward *, fuse_req_t, fuse_ino_t);
void fm_forward_readlink(const struct fm_forward *, fuse_req_t, fuse_ino_t);
void fm_forward_open(const struct fm_forward *, fuse_req_t, fuse_ino_t, struct fuse_file_info *,
		     bool directory);
void fm_forward_read(const struct fm_forward *, fuse_req_t, fuse_ino_t, size_t size, off_t offset,
		     struct fuse_file_info *);
void fm_forward_readdir(const struct fm_forward *, fuse_req_t, fuse_ino_t, size_t size,
			off_t offset, struct fuse_file_info *);
void fm_forward_release(const struct fm_forward *, fuse_req_t, fuse_ino_t, struct fuse_file_info *,
			bool directory);
void fm_forward_statfs(const struct fm_forward *, fuse_req_t, fuse_ino_t);
void fm_forward_getxattr(const struct fm_forward *, fuse_req_t, fuse_ino_t, const char *name,
			 size_t size);
void fm_forward_listxattr(const struct fm_forward *, fuse_req_t, fuse_ino_t, size_t size);

#endif
