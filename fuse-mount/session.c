/*
 * The kernel asks, threads of libfuse answer, each for itself. Nodes of the tree are never freed, so
 * that an inode number is an index; larger numbers, and files/NAME, are the business of forward.c.
 *
 * A read is copied once by us, from the page cache of the disk's files, and once by the kernel.
 * (With libfuse's splice it would be copied once and then need pages of the kernel's own, which
 * cost more than the copy; and requests of 1 MiB do not fit into the pipes of ordinary users.)
 */
#define FUSE_USE_VERSION 312

#include "fuse-mount/session.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fuse-mount/forward.h"
#include "fuse-mount/negotiate.h"
#include "fuse-mount/unmount.h"
#include "hvcore/checked.h"
#include "hvcore/log.h"
#include "hvcore/memory.h"

#define REQUEST_BYTES (1u << 20)
#define MAX_READ "max_read=1048576" /* the same, for mount(2) */
#define AHEAD_MIN (1u << 20)
#define AHEAD_MAX (8u << 20)
#define THREADS 12
#define FOREVER 1e9 /* seconds that the kernel may remember what never changes */

struct buffer {
	struct buffer *next;
};

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
	struct buffer *buffers;
};

static const char zeros[REQUEST_BYTES];

static struct fm_session *session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static const struct fm_node *node_of(fuse_req_t req, fuse_ino_t ino)
{
	return fm_tree_get(session_of(req)->tree, ino);
}

/* What answers for ino, when that is not the tree but the reader of a filesystem; else NULL. */
static const struct fm_forward *elsewhere(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_session *session = session_of(req);
	const struct fm_node *node;

	if (!session->options.browse)
		return NULL;
	if (fm_forward_inside(ino))
		return &session->forward;
	node = fm_tree_get(session->tree, ino);
	return node && node->kind == FM_FILES ? &session->forward : NULL;
}

/* The same, but NULL for a filesystem that nobody reads: to look at its name starts no reader. */
static const struct fm_forward *awake(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_forward *forward = elsewhere(req, ino);

	if (!forward || fm_forward_inside(ino) || fm_browse_started(forward->browse, (uint32_t)ino))
		return forward;
	return NULL;
}

/* Buffers of REQUEST_BYTES: as many as threads have needed at once. */

static void *get_buffer(struct fm_session *session)
{
	struct buffer *buffer;

	pthread_mutex_lock(&session->lock);
	buffer = session->buffers;
	if (buffer)
		session->buffers = buffer->next;
	pthread_mutex_unlock(&session->lock);
	return buffer ? buffer : hv_io_memory(REQUEST_BYTES);
}

static void put_buffer(struct fm_session *session, void *memory)
{
	struct buffer *buffer = memory;

	pthread_mutex_lock(&session->lock);
	buffer->next = session->buffers;
	session->buffers = buffer;
	pthread_mutex_unlock(&session->lock);
}

/* Names and attributes. */

static mode_t mode_of(const struct fm_session *session, const struct fm_node *node)
{
	bool all = session->options.allow_other;

	switch (node->kind) {
	case FM_DIRECTORY:
		return S_IFDIR | (all ? 0755 : 0711);
	case FM_FILES:
		return S_IFDIR | (all ? 0555 : 0500);
	case FM_LINK:
		return S_IFLNK | 0777;
	case FM_TEXT:
		return S_IFREG | (all ? 0444 : 0400);
	case FM_VOLUME:
		if (fm_node_is_hidden(node))
			return S_IFREG | 0600;
		return S_IFREG | (all ? 0444 : 0400) | (session->volumes->engine ? 0200 : 0);
	}
	return 0;
}

static void fill_stat(const struct fm_session *session, const struct fm_node *node, struct stat *st)
{
	const struct fm_session_options *options = &session->options;

	*st = (struct stat){
		.st_ino = node->ino,
		.st_mode = mode_of(session, node),
		.st_nlink = 1,
		.st_uid = options->uid,
		.st_gid = options->gid,
		.st_blksize = REQUEST_BYTES,
		.st_mtim = options->time,
		.st_ctim = options->time,
		.st_atim = options->time,
	};
	if (node->kind == FM_VOLUME)
		st->st_size = (off_t)node->length;
	else if (node->kind == FM_TEXT)
		st->st_size = (off_t)node->text_bytes;
	else if (node->kind == FM_LINK)
		st->st_size = (off_t)strlen(node->target);
	st->st_blocks = (st->st_size + 511) / 512;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fm_session *session = session_of(req);
	const struct fm_forward *forward = elsewhere(req, parent);
	const struct fm_node *directory = node_of(req, parent);
	const struct fm_node *node = directory ? fm_tree_find(directory, name) : NULL;
	struct fuse_entry_param entry = { .attr_timeout = FOREVER, .entry_timeout = FOREVER };

	if (forward) {
		fm_forward_lookup(forward, req, parent, name);
		return;
	}
	if (!node && directory && directory->kind == FM_DIRECTORY) {
		fuse_reply_entry(req, &entry); /* remembered, too */
		return;
	}
	if (!node) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	/* They change when somebody reads it. */
	if (node->kind == FM_FILES)
		entry.attr_timeout = 0;
	entry.ino = node->ino;
	fill_stat(session, node, &entry.attr);
	fuse_reply_entry(req, &entry);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = awake(req, ino);
	const struct fm_node *node = node_of(req, ino);
	struct stat st;

	(void)fi;
	if (forward) {
		fm_forward_getattr(forward, req, ino);
		return;
	}
	if (!node) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill_stat(session_of(req), node, &st);
	fuse_reply_attr(req, &st, node->kind == FM_FILES ? 0 : FOREVER);
}

/* A volume is as large as it is, like a device; times of what can be written may be set, in vain. */
static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
		    FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

	if (elsewhere(req, ino))
		fuse_reply_err(req, EROFS);
	else if (!node || !fm_volume_writable(session_of(req)->volumes, node))
		fuse_reply_err(req, node ? EROFS : ENOENT);
	else if ((to_set & FUSE_SET_ATTR_SIZE) && (uint64_t)attr->st_size != node->length)
		fuse_reply_err(req, EPERM);
	else if (to_set & ~(times | FUSE_SET_ATTR_SIZE))
		fuse_reply_err(req, EPERM);
	else
		on_getattr(req, ino, fi);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_forward *forward = elsewhere(req, ino);
	const struct fm_node *node = node_of(req, ino);

	if (forward)
		fm_forward_readlink(forward, req, ino);
	else if (node && node->kind == FM_LINK)
		fuse_reply_readlink(req, node->target);
	else
		fuse_reply_err(req, EINVAL);
}

static bool add_entry(fuse_req_t req, char *buf, size_t size, size_t *used, const char *name,
		      const struct fm_node *node, off_t next)
{
	struct stat st;
	size_t length;

	fill_stat(session_of(req), node, &st);
	length = fuse_add_direntry(req, buf + *used, size - *used, name, &st, next);
	if (length > size - *used)
		return false;
	*used += length;
	return true;
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = elsewhere(req, ino);

	if (forward) {
		fm_forward_open(forward, req, ino, fi, true);
		return;
	}
	fi->cache_readdir = fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = elsewhere(req, ino);

	if (forward)
		fm_forward_release(forward, req, ino, fi, true);
	else
		fuse_reply_err(req, 0);
}

/* Offsets: 0 ".", 1 "..", then the children. */
static void readdir_tree(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset)
{
	const struct fm_node *node = node_of(req, ino);
	HV_AUTO(free) char *buf = malloc(size);
	size_t used = 0;
	bool room = true;

	if (!node || !buf) {
		fuse_reply_err(req, node ? ENOMEM : ENOENT);
		return;
	}
	for (uint64_t i = (uint64_t)offset; room && i < node->child_count + 2; i++) {
		const struct fm_node *entry = i == 0 ? node :
					      i == 1 ? node->parent :
						       node->children[i - 2];
		const char *name = i == 0 ? "." : i == 1 ? ".." : entry->name;

		if (i < 2 || !entry->hidden)
			room = add_entry(req, buf, size, &used, name, entry, (off_t)i + 1);
	}
	fuse_reply_buf(req, buf, used);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	const struct fm_forward *forward = elsewhere(req, ino);

	if (forward)
		fm_forward_readdir(forward, req, ino, size, offset, fi);
	else
		readdir_tree(req, ino, size, offset);
}

/* Contents. */

static void reply_engine(fuse_req_t req, struct fm_engine *engine, uint64_t offset, size_t length)
{
	struct fm_session *session = session_of(req);
	char *buf = get_buffer(session);
	int rc = buf ? fm_engine_read(engine, buf, offset, length) : -ENOMEM;

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, buf, length);
	if (buf)
		put_buffer(session, buf);
}

/* An open file that is read in sequence has what follows read ahead. */
struct stream {
	pthread_mutex_t lock;
	uint64_t next;   /* where the last read ended */
	uint64_t window; /* bytes to be ahead; 0: not in sequence */
	uint64_t ahead;  /* up to where that has been begun */
};

static struct stream *new_stream(void)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream)
		pthread_mutex_init(&stream->lock, NULL);
	return stream;
}

static void free_stream(struct stream *stream)
{
	if (stream)
		pthread_mutex_destroy(&stream->lock);
	free(stream);
}

/* Several requests of one sequence may be under way, and come out of order. */
static bool in_sequence(const struct stream *stream, uint64_t offset)
{
	uint64_t slack = stream->window;

	return offset + slack >= stream->next && offset <= stream->next + slack;
}

/* limit is where the volume ends. */
static void read_ahead(struct fm_map *map, struct stream *stream, uint64_t offset, size_t length,
		       uint64_t limit)
{
	uint64_t from = 0, to = 0, end = offset + length;

	pthread_mutex_lock(&stream->lock);
	if (in_sequence(stream, offset))
		stream->window = hv_min_u64(hv_max_u64(2 * stream->window, AHEAD_MIN), AHEAD_MAX);
	else
		stream->window = 0;
	stream->next = end;
	if (stream->ahead < end || !stream->window)
		stream->ahead = end;
	if (stream->window && stream->ahead - end <= stream->window / 2) {
		from = stream->ahead;
		to = stream->ahead = hv_min_u64(end + stream->window, limit);
	}
	pthread_mutex_unlock(&stream->lock);
	if (to > from)
		fm_map_read_ahead(map, from, to - from);
}

/*
 * Does the kernel keep a copy of the volume? Then it reads ahead for small reads, and reads again
 * for nothing: right for filesystems, whose tools read block by block. Otherwise requests are as
 * large as the reader makes them and go straight into its memory, from the page cache of the disk's
 * files, where they lie already: several times as fast for who copies a disk. What is written must
 * not be kept, because one byte has several names.
 */
static bool is_kept(const struct fm_session *session, const struct fm_node *node)
{
	if (session->volumes->engine)
		return false;
	return fm_node_is_hidden(node) || session->options.kernel_cache ||
	       !strcmp(node->content->usage, "filesystem");
}

static int reply_open(fuse_req_t req, const struct fm_node *node, struct fuse_file_info *fi)
{
	const struct fm_session *session = session_of(req);
	struct fm_open_reply reply = fm_passthrough_reply(fi->fh, session->backing_id);

	if (!session->backing_id || node->kind != FM_VOLUME || node->partition)
		return fuse_reply_open(req, fi);
	return fuse_reply_buf(req, (char *)&reply, sizeof(reply));
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	struct fm_session *session = session_of(req);
	const struct fm_forward *forward = elsewhere(req, ino);
	struct stream *stream = NULL;
	int code = 0;

	if (forward) {
		fm_forward_open(forward, req, ino, fi, false);
		return;
	}
	if (!node)
		code = -ENOENT;
	else if ((fi->flags & O_ACCMODE) != O_RDONLY && !fm_volume_writable(session->volumes, node))
		code = -EROFS;
	else if (node->kind == FM_VOLUME && !fm_volume_engine(session->volumes, node, &code) &&
		 !code)
		code = (stream = new_stream()) ? 0 : -ENOMEM;
	if (code) {
		fuse_reply_err(req, -code);
		return;
	}
	fi->direct_io = node->kind == FM_VOLUME && !is_kept(session, node);
	fi->keep_cache = !fi->direct_io;
	fi->fh = (uintptr_t)stream;
	if (reply_open(req, node, fi))
		free_stream(stream);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = elsewhere(req, ino);

	if (forward) {
		fm_forward_release(forward, req, ino, fi, false);
		return;
	}
	free_stream((struct stream *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void reply_map(fuse_req_t req, struct fm_map *map, uint64_t offset, size_t length,
		      struct stream *stream, uint64_t limit)
{
	struct fm_session *session = session_of(req);
	char *buf = get_buffer(session);
	int rc = buf ? 0 : -ENOMEM;

	read_ahead(map, stream, offset, length, limit);
	if (rc == 0)
		rc = fm_map_read(map, buf, offset, length);
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, rc ? buf : zeros, length);
	if (buf)
		put_buffer(session, buf);
}

static void read_volume(fuse_req_t req, const struct fm_node *node, uint64_t offset, size_t length,
			struct stream *stream)
{
	struct fm_volumes *volumes = session_of(req)->volumes;
	uint64_t base = volumes->base + node->offset;
	int code;
	struct fm_engine *engine = fm_volume_engine(volumes, node, &code);

	offset += base;
	if (code)
		fuse_reply_err(req, -code);
	else if (engine)
		reply_engine(req, engine, offset, length);
	else
		reply_map(req, volumes->map, offset, length, stream, base + node->length);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	const struct fm_forward *forward = elsewhere(req, ino);
	uint64_t end, at = (uint64_t)offset;

	if (forward) {
		fm_forward_read(forward, req, ino, size, offset, fi);
		return;
	}
	if (!node || (node->kind != FM_VOLUME && node->kind != FM_TEXT)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	end = node->kind == FM_VOLUME ? node->length : node->text_bytes;
	size = at < end ? hv_min_u64(hv_min_u64(size, end - at), REQUEST_BYTES) : 0;
	if (!size)
		fuse_reply_buf(req, NULL, 0);
	else if (node->kind == FM_TEXT)
		fuse_reply_buf(req, node->text + at, size);
	else
		read_volume(req, node, at, size, (struct stream *)(uintptr_t)fi->fh);
}

/* The engine that a change of [offset, offset + length) goes to; NULL: req has been answered. */
static struct fm_engine *engine_for(fuse_req_t req, const struct fm_node *node, uint64_t offset,
				    uint64_t length)
{
	struct fm_volumes *volumes = session_of(req)->volumes;
	struct fm_engine *engine = NULL;
	int code = 0;

	if (!node || node->kind != FM_VOLUME)
		code = -EINVAL;
	else if (!fm_volume_writable(volumes, node))
		code = -EROFS;
	else if (offset > node->length || length > node->length - offset)
		code = -ENOSPC;
	else
		engine = fm_volume_engine(volumes, node, &code);
	if (!engine)
		fuse_reply_err(req, code ? -code : EROFS);
	return engine;
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	struct fm_engine *engine;
	uint64_t at = (uint64_t)offset;
	int rc;

	(void)fi;
	/* As much as there is room for, as on a device. */
	if (node && node->kind == FM_VOLUME && at < node->length)
		size = hv_min_u64(size, node->length - at);
	engine = engine_for(req, node, at, size);
	if (!engine)
		return;
	at += session_of(req)->volumes->base + node->offset;
	rc = fm_engine_write(engine, buf, at, size);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_write(req, size);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	struct fm_engine *engine = engine_for(req, node, (uint64_t)offset, (uint64_t)length);
	uint64_t at = (uint64_t)offset;
	int rc = 0;

	(void)fi;
	if (!engine)
		return;
	at += session_of(req)->volumes->base + node->offset;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		rc = fm_engine_zero(engine, at, (uint64_t)length, true);
	else if (mode & FALLOC_FL_ZERO_RANGE)
		rc = fm_engine_zero(engine, at, (uint64_t)length, false);
	else if (mode & ~FALLOC_FL_KEEP_SIZE)
		rc = -EOPNOTSUPP;
	fuse_reply_err(req, -rc);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, -fm_volumes_flush(session_of(req)->volumes));
}

static int seek_volume(struct fm_volumes *volumes, const struct fm_node *node, uint64_t offset,
		       bool data, uint64_t *ret)
{
	uint64_t base = volumes->base + node->offset;
	int code;
	struct fm_engine *engine = fm_volume_engine(volumes, node, &code);

	if (code == 0 && engine)
		code = fm_engine_seek(engine, base + offset, base + node->length, data, ret);
	else if (code == 0)
		code = fm_map_seek(volumes->map, base + offset, base + node->length, data, ret);
	if (code == 0)
		*ret -= base;
	return code;
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	const struct fm_node *node = node_of(req, ino);
	uint64_t found = 0, length;
	int rc = 0;

	(void)fi;
	if (!node || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	length = node->kind == FM_VOLUME ? node->length : node->text_bytes;
	if (offset < 0 || (uint64_t)offset >= length)
		rc = -ENXIO;
	else if (node->kind == FM_VOLUME)
		rc = seek_volume(session_of(req)->volumes, node, (uint64_t)offset,
				 whence == SEEK_DATA, &found);
	else
		found = whence == SEEK_DATA ? (uint64_t)offset : length;
	if (rc == 0 && whence == SEEK_DATA && found >= length)
		rc = -ENXIO;
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_lseek(req, (off_t)found);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_forward *forward = elsewhere(req, ino);
	const struct fm_session *session = session_of(req);
	const struct fm_node *disk = fm_tree_find(fm_tree_get(session->tree, 1), "disk.raw");
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_MAX };

	if (forward) {
		fm_forward_statfs(forward, req, ino);
		return;
	}
	if (disk)
		st.f_blocks = disk->length / st.f_frsize;
	fuse_reply_statfs(req, &st);
}

/* The nodes of the tree stay; those of readers are counted. */
static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	if (fm_forward_inside(ino))
		fm_forward_forget(&session_of(req)->forward, ino, count);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(req, ino, count);
	fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(req, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* The root has one attribute, which --unmount asks for. */
static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	const struct fm_forward *forward = awake(req, ino);
	char pid[16];
	size_t length;

	if (forward) {
		fm_forward_getxattr(forward, req, ino, name, size);
		return;
	}
	if (ino != FUSE_ROOT_ID || strcmp(name, FM_PID_ATTRIBUTE) != 0) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	length = (size_t)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (size == 0)
		fuse_reply_xattr(req, length);
	else if (size < length)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, pid, length);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct fm_forward *forward = awake(req, ino);

	if (forward)
		fm_forward_listxattr(forward, req, ino, size);
	else if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}

static void on_init(void *context, struct fuse_conn_info *conn)
{
	(void)context;
	conn->max_read = REQUEST_BYTES;
	conn->max_write = REQUEST_BYTES;
	conn->max_readahead = REQUEST_BYTES;
	conn->max_background = 64;
	conn->want |= conn->capable &
		      (FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
		       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_CACHE_SYMLINKS);
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_AUTO_INVAL_DATA);
}

static const struct fuse_lowlevel_ops ops = {
	.init = on_init,
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.readlink = on_readlink,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.releasedir = on_releasedir,
	.forget = on_forget,
	.forget_multi = on_forget_multi,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.open = on_open,
	.release = on_release,
	.read = on_read,
	.write = on_write,
	.fallocate = on_fallocate,
	.fsync = on_fsync,
	.lseek = on_lseek,
	.statfs = on_statfs,
};

/* Coming and going. */

static char last_word[256]; /* what libfuse had to say while mounting */

static void __attribute__((format(printf, 2, 0)))
hear(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t length;

	(void)level;
	vsnprintf(last_word, sizeof(last_word), fmt, ap);
	length = strcspn(last_word, "\n");
	last_word[length] = '\0';
	hv_log(HV_LOG_WARN, "%s", last_word);
}

static int add_option(struct fuse_args *args, const char *name, const char *value)
{
	HV_AUTO(free) char *text = NULL;

	if (asprintf(&text, "%s%s", name, value) < 0)
		return -1;
	return fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, text);
}

/* A comma in a value would end it. */
static char *escape(const char *value)
{
	char *escaped = malloc(2 * strlen(value) + 1), *to = escaped;

	for (; escaped && *value; value++) {
		if (*value == ',' || *value == '\\')
			*to++ = '\\';
		*to++ = *value;
	}
	if (escaped)
		*to = '\0';
	return escaped;
}

static int make_arguments(const struct fm_session_options *options, struct fuse_args *args)
{
	HV_AUTO(free) char *source = escape(options->source);
	int failed = !source || fuse_opt_add_arg(args, "vhdmount") ||
		     add_option(args, "fsname=", source) ||
		     add_option(args, "", "subtype=vhdmount," MAX_READ);

	/* Whoever has mounted the disk may look at all of it, also at what a filesystem keeps for
	 * root. */
	if (!failed && options->allow_other)
		failed = add_option(args, "", "allow_other,default_permissions");
	if (!failed && !options->write)
		failed = add_option(args, "", "ro");
	if (!failed && options->more && *options->more)
		failed = add_option(args, "", options->more);
	if (!failed && options->debug)
		failed = fuse_opt_add_arg(args, "-d");
	return failed ? -ENOMEM : 0;
}

/* Has libfuse take one request, from whatever its descriptor is. */
static void take_request(void *context)
{
	struct fm_session *session = context;
	struct fuse_buf buf = { 0 };

	if (fuse_session_receive_buf(session->fuse, &buf) > 0)
		fuse_session_process_buf(session->fuse, &buf);
	free(buf.mem);
}

static int negotiate(struct fm_session *session, struct hv_err *err)
{
	int fd = fuse_session_fd(session->fuse);
	struct fm_negotiation negotiation = { .passthrough = session->options.passthrough_fd >= 0 };
	int rc = fm_negotiate(fd, take_request, session, &negotiation, err);

	if (rc == 0 && negotiation.passthrough)
		fm_passthrough_open(fd, session->options.passthrough_fd, &session->backing_id);
	return rc;
}

bool fm_session_passes_through(const struct fm_session *session)
{
	return session->backing_id != 0;
}

int fm_session_new(const struct fm_tree *tree, struct fm_volumes *volumes,
		   const struct fm_session_options *options, struct fm_session **ret,
		   struct hv_err *err)
{
	HV_AUTO(fm_session_free) struct fm_session *session = calloc(1, sizeof(*session));
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc;

	if (!session)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", options->directory);
	session->tree = tree;
	session->volumes = volumes;
	session->options = *options;
	session->forward = (struct fm_forward){ .browse = options->browse,
						.write = volumes->engine,
						.uid = options->uid,
						.gid = options->gid,
						.timeout = volumes->engine ? 1 : FOREVER };
	pthread_mutex_init(&session->lock, NULL);
	session->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (session->ended_fd < 0)
		return hv_fail_errno(err, -errno, "cannot create an eventfd");
	fuse_set_log_func(hear);
	if (make_arguments(options, &args) == 0)
		session->fuse = fuse_session_new(&args, &ops, sizeof(ops), session);
	fuse_opt_free_args(&args);
	if (!session->fuse)
		return hv_fail(err, -EINVAL, "%s: cannot be mounted so: %s", options->directory,
			       last_word);
	if (fuse_session_mount(session->fuse, options->directory))
		return hv_fail(err, -EPERM, "%s: cannot be mounted upon: %s", options->directory,
			       *last_word ? last_word : "fusermount3 refused");
	rc = negotiate(session, err);
	if (rc == 0)
		*ret = hv_steal(session);
	return rc;
}

static void *serve(void *arg)
{
	struct fm_session *session = arg;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	uint64_t one = 1;

	if (config) {
		fuse_loop_cfg_set_clone_fd(config, 1);
		fuse_loop_cfg_set_max_threads(config, THREADS);
		fuse_loop_cfg_set_idle_threads(config, THREADS);
		session->result = fuse_session_loop_mt(session->fuse, config);
		fuse_loop_cfg_destroy(config);
	}
	if (write(session->ended_fd, &one, sizeof(one)) < 0)
		hv_log(HV_LOG_WARN, "cannot signal an eventfd: %s", strerror(errno));
	return NULL;
}

int fm_session_start(struct fm_session *session, int *fd, struct hv_err *err)
{
	int rc = pthread_create(&session->thread, NULL, serve, session);

	if (rc)
		return hv_fail_errno(err, -rc, "cannot start a thread");
	session->started = true;
	*fd = session->ended_fd;
	return 0;
}

/* Only to interrupt what the loop of libfuse waits in. */
static void nothing(int signal)
{
	(void)signal;
}

int fm_session_stop(struct fm_session *session)
{
	struct sigaction interrupt = { .sa_handler = nothing };
	struct pollfd ended = { .fd = session->ended_fd, .events = POLLIN };

	if (!session->started)
		return 0;
	sigaction(SIGUSR1, &interrupt, NULL);
	fuse_session_exit(session->fuse);
	/* It may be just about to wait. */
	do
		pthread_kill(session->thread, SIGUSR1);
	while (poll(&ended, 1, 20) == 0);
	pthread_join(session->thread, NULL);
	session->started = false;
	return session->result < 0 ? -EIO : 0;
}

void fm_session_free(struct fm_session *session)
{
	if (!session)
		return;
	fm_session_stop(session);
	if (session->fuse) {
		fuse_session_unmount(session->fuse);
		fuse_session_destroy(session->fuse);
	}
	while (session->buffers) {
		struct buffer *next = session->buffers->next;

		free(session->buffers);
		session->buffers = next;
	}
	if (session->ended_fd >= 0)
		close(session->ended_fd);
	pthread_mutex_destroy(&session->lock);
	free(session);
}
