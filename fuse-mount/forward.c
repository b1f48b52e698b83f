/*
 * Each operation is a call (process.h) and a function that answers the kernel when the reader has.
 * What a reader says is as untrusted as the filesystem that it reads: sizes are checked, and the
 * kernel checks names, modes and numbers as it does with any FUSE server.
 *
 * Requests go out in the name of root, so that whoever may look at the disk may look at all of it;
 * who may is decided by the mount.
 */
#define FUSE_USE_VERSION 312

#include "fuse-mount/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NODE_BITS 40
#define NODE_MASK ((UINT64_C(1) << NODE_BITS) - 1)
#define INODE_MASK ((UINT64_C(1) << 48) - 1)

/* One request of the kernel; it may take several calls. */
struct request {
	const struct fm_forward *forward;
	fuse_req_t req;
	uint32_t id; /* of the filesystem */
	uint8_t generation;
	uint64_t node;
	struct fuse_file_info fi; /* opening */
	/* Reading: what has been read of what is wanted. */
	uint64_t fh;
	uint8_t *buf;
	size_t size, done;
	off_t offset;
};

/* Answers the kernel; code is 0. Returns 0 or -errno, which is answered in its place. */
typedef int answer_fn(struct request *request, const void *body, size_t length);

/* What an open file is to the kernel. The root stays when its reader goes, its open files do not. */
struct opened {
	struct fm_handle handle;
	uint64_t fh; /* the reader's */
	uint8_t generation;
};

struct pending {
	struct request request;
	answer_fn *answer;
};

static uint32_t id_of(fuse_ino_t ino)
{
	return (uint32_t)(fm_forward_inside(ino) ? ino >> 48 : ino);
}

static uint8_t generation_of(fuse_ino_t ino)
{
	return fm_forward_inside(ino) ? (uint8_t)(ino >> NODE_BITS) : 0;
}

static uint64_t node_of(fuse_ino_t ino)
{
	return fm_forward_inside(ino) ? ino & NODE_MASK : FUSE_ROOT_ID;
}

static void called(struct fm_call *call, int code, const void *body, size_t length)
{
	struct pending *pending = call->context;

	free(call);
	if (code == 0)
		code = pending->answer(&pending->request, body, length);
	if (code > 0)
		return; /* it goes on */
	/* To the kernel this would mean that nobody in the whole mount knows the operation. */
	if (code == -ENOSYS)
		code = -EOPNOTSUPP;
	if (code)
		fuse_reply_err(pending->request.req, -code);
	free(pending->request.buf);
	free(pending);
}

static struct pending *pend(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
			    answer_fn *answer)
{
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	pending->answer = answer;
	pending->request = (struct request){ .forward = forward,
					     .req = req,
					     .id = id_of(ino),
					     .generation = generation_of(ino),
					     .node = node_of(ino) };
	return pending;
}

/* Sends opcode with arguments of length bytes, and name behind them when there is one. */
static void send_call(struct pending *pending, uint32_t opcode, const void *arguments,
		      size_t length, const char *name)
{
	size_t name_bytes = name ? strlen(name) + 1 : 0;
	struct request *request = &pending->request;
	struct fm_call *call = fm_call_new(opcode, request->node, length + name_bytes);

	if (!call) {
		fuse_reply_err(request->req, ENOMEM);
		free(request->buf);
		free(pending);
		return;
	}
	if (length)
		memcpy(fm_call_arguments(call), arguments, length);
	if (name)
		memcpy((char *)fm_call_arguments(call) + length, name, name_bytes);
	call->done = called;
	call->context = pending;
	fm_browse_call(request->forward->browse, request->id, call, &request->generation);
}

/* ---- Attributes ---- */

static struct stat stat_of(const struct request *request, const struct fuse_attr *attr)
{
	bool owners = fm_browse_owners(request->forward->browse, request->id);

	return (struct stat){
		/* No two filesystems of the disk share a number, for they share a device. */
		.st_ino = (attr->ino & INODE_MASK) | (uint64_t)request->id << 48,
		.st_size = (off_t)attr->size,
		.st_blocks = (blkcnt_t)attr->blocks,
		.st_atim = { (time_t)attr->atime, attr->atimensec },
		.st_mtim = { (time_t)attr->mtime, attr->mtimensec },
		.st_ctim = { (time_t)attr->ctime, attr->ctimensec },
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = owners ? attr->uid : request->forward->uid,
		.st_gid = owners ? attr->gid : request->forward->gid,
		.st_rdev = attr->rdev,
		.st_blksize = attr->blksize ? attr->blksize : 4096,
	};
}

/* Readers that speak an older version say less at the end. */
static int take(void *to, size_t size, size_t least, const void *body, size_t length)
{
	memset(to, 0, size);
	if (length < least)
		return -EIO;
	memcpy(to, body, length < size ? length : size);
	return 0;
}

static int answer_entry(struct request *request, const void *body, size_t length)
{
	struct fuse_entry_out out;
	struct fuse_entry_param entry = { 0 };
	int rc = take(&out, sizeof(out), FUSE_COMPAT_ENTRY_OUT_SIZE, body, length);

	if (rc)
		return rc;
	if (!out.nodeid)
		return -ENOENT;
	if (out.nodeid > NODE_MASK || out.nodeid == FUSE_ROOT_ID)
		return -EIO;
	entry.ino = out.nodeid | (uint64_t)request->generation << NODE_BITS |
		    (uint64_t)request->id << 48;
	entry.generation = out.generation;
	entry.attr = stat_of(request, &out.attr);
	entry.attr_timeout = entry.entry_timeout = request->forward->timeout;
	fuse_reply_entry(request->req, &entry);
	return 0;
}

static int answer_attr(struct request *request, const void *body, size_t length)
{
	struct fuse_attr_out out;
	struct stat st;
	int rc = take(&out, sizeof(out), FUSE_COMPAT_ATTR_OUT_SIZE, body, length);

	if (rc)
		return rc;
	st = stat_of(request, &out.attr);
	/* The root's look different when nobody reads it. */
	fuse_reply_attr(request->req, &st,
			request->node == FUSE_ROOT_ID ? 0 : request->forward->timeout);
	return 0;
}

void fm_forward_lookup(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
		       const char *name)
{
	struct pending *pending = pend(forward, req, ino, answer_entry);

	if (pending)
		send_call(pending, FUSE_LOOKUP, NULL, 0, name);
}

void fm_forward_getattr(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino)
{
	struct pending *pending = pend(forward, req, ino, answer_attr);

	if (pending)
		send_call(pending, FUSE_GETATTR, &(struct fuse_getattr_in){ 0 },
			  sizeof(struct fuse_getattr_in), NULL);
}

void fm_forward_forget(const struct fm_forward *forward, fuse_ino_t ino, uint64_t count)
{
	struct fm_call *call =
		fm_call_new(FUSE_FORGET, node_of(ino), sizeof(struct fuse_forget_in));
	uint8_t generation = generation_of(ino);

	if (!call)
		return;
	memcpy(fm_call_arguments(call), &(struct fuse_forget_in){ .nlookup = count },
	       sizeof(struct fuse_forget_in));
	fm_browse_call(forward->browse, id_of(ino), call, &generation);
}

/* ---- Contents ---- */

static int answer_readlink(struct request *request, const void *body, size_t length)
{
	char target[4096];

	if (length >= sizeof(target))
		return -ENAMETOOLONG;
	memcpy(target, body, length);
	target[length] = '\0';
	fuse_reply_readlink(request->req, target);
	return 0;
}

void fm_forward_readlink(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino)
{
	struct pending *pending = pend(forward, req, ino, answer_readlink);

	if (pending)
		send_call(pending, FUSE_READLINK, NULL, 0, NULL);
}

static void free_opened(struct fm_handle *handle)
{
	free(handle);
}

static int answer_open(struct request *request, const void *body, size_t length)
{
	struct fuse_open_out out;
	int rc = take(&out, sizeof(out), sizeof(out), body, length);
	struct opened *opened = rc ? NULL : malloc(sizeof(*opened));
	struct fm_handles *handles = request->forward->handles;

	if (!opened)
		return rc ? rc : -ENOMEM;
	*opened = (struct opened){ .handle.free = free_opened,
				   .fh = out.fh,
				   .generation = request->generation };
	fm_handle_add(handles, &opened->handle);
	request->fi.fh = (uintptr_t)opened;
	request->fi.keep_cache = !request->forward->write;
	/* Who has been interrupted holds nothing. */
	if (fuse_reply_open(request->req, &request->fi))
		fm_handle_free(handles, &opened->handle);
	return 0;
}

void fm_forward_open(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
		     struct fuse_file_info *fi, bool directory)
{
	struct fuse_open_in in = { .flags = (uint32_t)fi->flags };
	struct pending *pending;

	if ((fi->flags & O_ACCMODE) != O_RDONLY) {
		fuse_reply_err(req, EROFS);
		return;
	}
	pending = pend(forward, req, ino, answer_open);
	if (!pending)
		return;
	pending->request.fi = *fi;
	send_call(pending, directory ? FUSE_OPENDIR : FUSE_OPEN, &in, sizeof(in), NULL);
}

static struct pending *pend_opened(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
				   const struct fuse_file_info *fi, answer_fn *answer)
{
	const struct opened *opened = (const void *)(uintptr_t)fi->fh;
	struct pending *pending = pend(forward, req, ino, answer);

	if (pending) {
		pending->request.fh = opened->fh;
		pending->request.generation = opened->generation;
	}
	return pending;
}

static void read_more(struct pending *pending)
{
	const struct request *request = &pending->request;
	size_t left = request->size - request->done;
	struct fuse_read_in in = { .fh = request->fh,
				   .offset = (uint64_t)request->offset + request->done,
				   .size = (uint32_t)(left < FM_CALL_DATA ? left : FM_CALL_DATA) };

	send_call(pending, FUSE_READ, &in, sizeof(in), NULL);
}

static int answer_read(struct request *request, const void *body, size_t length)
{
	size_t left = request->size - request->done;

	if (length > (left < FM_CALL_DATA ? left : FM_CALL_DATA))
		return -EIO;
	memcpy(request->buf + request->done, body, length);
	request->done += length;
	if (length == FM_CALL_DATA && request->done < request->size) {
		read_more((struct pending *)request);
		return 1;
	}
	fuse_reply_buf(request->req, (char *)request->buf, request->done);
	return 0;
}

void fm_forward_read(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino, size_t size,
		     off_t offset, struct fuse_file_info *fi)
{
	struct pending *pending = pend_opened(forward, req, ino, fi, answer_read);

	if (!pending)
		return;
	pending->request.size = size;
	pending->request.offset = offset;
	pending->request.buf = malloc(size);
	if (pending->request.buf) {
		read_more(pending);
		return;
	}
	fuse_reply_err(req, ENOMEM);
	free(pending);
}

/* Entries have the form that the kernel wants; only their numbers must agree with those of stat. */
static int answer_readdir(struct request *request, const void *body, size_t length)
{
	size_t at = 0;

	if (length > request->size)
		return -EIO;
	memcpy(request->buf, body, length);
	while (length - at >= FUSE_NAME_OFFSET) {
		struct fuse_dirent *entry = (void *)(request->buf + at);
		size_t bytes = FUSE_DIRENT_SIZE(entry);

		if (bytes > length - at)
			return -EIO;
		entry->ino = (entry->ino & INODE_MASK) | (uint64_t)request->id << 48;
		at += bytes;
	}
	fuse_reply_buf(request->req, (char *)request->buf, at);
	return 0;
}

void fm_forward_readdir(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
			size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct pending *pending = pend_opened(forward, req, ino, fi, answer_readdir);
	struct fuse_read_in in = { .offset = (uint64_t)offset };

	if (!pending)
		return;
	in.fh = pending->request.fh;
	in.size = (uint32_t)(size < FM_CALL_DATA ? size : FM_CALL_DATA);
	pending->request.size = in.size;
	pending->request.buf = malloc(in.size);
	if (pending->request.buf) {
		send_call(pending, FUSE_READDIR, &in, sizeof(in), NULL);
		return;
	}
	fuse_reply_err(req, ENOMEM);
	free(pending);
}

static int answer_nothing(struct request *request, const void *body, size_t length)
{
	(void)body;
	(void)length;
	fuse_reply_err(request->req, 0);
	return 0;
}

void fm_forward_release(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
			struct fuse_file_info *fi, bool directory)
{
	struct pending *pending = pend_opened(forward, req, ino, fi, answer_nothing);
	struct fuse_release_in in = { .flags = (uint32_t)fi->flags };

	if (!pending)
		return;
	in.fh = pending->request.fh;
	fm_handle_free(forward->handles, (struct fm_handle *)(uintptr_t)fi->fh);
	send_call(pending, directory ? FUSE_RELEASEDIR : FUSE_RELEASE, &in, sizeof(in), NULL);
}

/* ---- The rest ---- */

static int answer_statfs(struct request *request, const void *body, size_t length)
{
	struct fuse_statfs_out out;
	int rc = take(&out, sizeof(out), FUSE_COMPAT_STATFS_SIZE, body, length);
	struct statvfs st = { 0 };

	if (rc)
		return rc;
	st.f_bsize = out.st.bsize;
	st.f_frsize = out.st.frsize ? out.st.frsize : out.st.bsize;
	st.f_blocks = out.st.blocks;
	st.f_bfree = out.st.bfree;
	st.f_bavail = out.st.bavail;
	st.f_files = out.st.files;
	st.f_ffree = st.f_favail = out.st.ffree;
	st.f_namemax = out.st.namelen;
	fuse_reply_statfs(request->req, &st);
	return 0;
}

void fm_forward_statfs(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino)
{
	struct pending *pending = pend(forward, req, ino, answer_statfs);

	if (pending)
		send_call(pending, FUSE_STATFS, NULL, 0, NULL);
}

/* A value, or its size where the caller asked for that. */
static int answer_xattr(struct request *request, const void *body, size_t length)
{
	struct fuse_getxattr_out out;

	if (request->size) {
		if (length > request->size)
			return -EIO;
		fuse_reply_buf(request->req, body, length);
		return 0;
	}
	if (take(&out, sizeof(out), sizeof(out), body, length))
		return -EIO;
	fuse_reply_xattr(request->req, out.size);
	return 0;
}

static void send_xattr(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
		       uint32_t opcode, const char *name, size_t size)
{
	struct fuse_getxattr_in in = { .size = (uint32_t)size };
	struct pending *pending = pend(forward, req, ino, answer_xattr);

	if (!pending)
		return;
	pending->request.size = size;
	send_call(pending, opcode, &in, sizeof(in), name);
}

void fm_forward_getxattr(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
			 const char *name, size_t size)
{
	send_xattr(forward, req, ino, FUSE_GETXATTR, name, size);
}

void fm_forward_listxattr(const struct fm_forward *forward, fuse_req_t req, fuse_ino_t ino,
			  size_t size)
{
	send_xattr(forward, req, ino, FUSE_LISTXATTR, NULL, size);
}
