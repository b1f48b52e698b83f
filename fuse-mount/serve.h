/*
 * Inside the FUSE session: what answers requests. Nodes of the tree are never freed, so that an
 * inode number is an index; larger numbers, and files/NAME, are the business of forward.c.
 */
#ifndef FUSE_MOUNT_SERVE_H
#define FUSE_MOUNT_SERVE_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <pthread.h>

#include "fuse-mount/forward.h"
#include "fuse-mount/handle.h"
#include "fuse-mount/session.h"

#define FM_REQUEST_BYTES (1u << 20) /* at most */
#define FM_FOREVER 1e9              /* seconds that the kernel may remember what never changes */

struct fm_buffer;

struct fm_session {
	const struct fm_tree *tree;
	struct fm_volumes *volumes;
	struct fm_session_options options;
	struct fm_forward forward;
	struct fuse_session *fuse;
	pthread_t thread;
	int ended_fd;
	bool started;
	int result;           /* of the loop */
	int32_t backing_id;   /* of disk.raw; 0: we read it */
	pthread_mutex_t lock; /* buffers */
	struct fm_buffer *buffers;
	struct fm_handles handles; /* whose address, or none, the kernel knows as fh */
};

static inline struct fm_session *fm_serve_session(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline const struct fm_node *fm_serve_node(fuse_req_t req, fuse_ino_t ino)
{
	return fm_tree_get(fm_serve_session(req)->tree, ino);
}

/* What answers for ino, when that is not the tree but the reader of a filesystem; else NULL. */
const struct fm_forward *fm_serve_elsewhere(fuse_req_t req, fuse_ino_t ino);

/* Names and attributes: serve_tree.c */
void fm_on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fm_on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fm_on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi);
void fm_on_readlink(fuse_req_t req, fuse_ino_t ino);
void fm_on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fm_on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fm_on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		   struct fuse_file_info *fi);
void fm_on_statfs(fuse_req_t req, fuse_ino_t ino);
void fm_on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void fm_on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void fm_on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fm_on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

/* Contents: serve_volume.c */
void fm_on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fm_on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fm_on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		struct fuse_file_info *fi);
void fm_on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		 struct fuse_file_info *fi);
void fm_on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		     struct fuse_file_info *fi);
void fm_on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fm_on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		 struct fuse_file_info *fi);

/* The memory that requests were read into. */
void fm_serve_free_buffers(struct fm_session *session);

#endif
