/*
 * Contents of volumes.
 *
 * A read is copied once by us, from the page cache of the disk's files, and once by the kernel.
 * (With libfuse's splice it would be copied once and then need pages of the kernel's own, which
 * cost more than the copy; and requests of 1 MiB do not fit into the pipes of ordinary users.)
 */
#include "fuse-mount/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuse-mount/negotiate.h"
#include "fuse-mount/stream.h"
#include "hvcore/checked.h"
#include "hvcore/memory.h"

struct fm_buffer {
	struct fm_buffer *next;
};

static const char zeros[FM_REQUEST_BYTES];

/* Buffers of FM_REQUEST_BYTES: as many as threads have needed at once. */

static void *get_buffer(struct fm_session *session)
{
	struct fm_buffer *buffer;

	pthread_mutex_lock(&session->lock);
	buffer = session->buffers;
	if (buffer)
		session->buffers = buffer->next;
	pthread_mutex_unlock(&session->lock);
	return buffer ? buffer : hv_io_memory(FM_REQUEST_BYTES);
}

static void put_buffer(struct fm_session *session, void *memory)
{
	struct fm_buffer *buffer = memory;

	pthread_mutex_lock(&session->lock);
	buffer->next = session->buffers;
	session->buffers = buffer;
	pthread_mutex_unlock(&session->lock);
}

void fm_serve_free_buffers(struct fm_session *session)
{
	while (session->buffers) {
		struct fm_buffer *next = session->buffers->next;

		free(session->buffers);
		session->buffers = next;
	}
}

static void reply_engine(fuse_req_t req, struct fm_engine *engine, uint64_t offset, size_t length)
{
	struct fm_session *session = fm_serve_session(req);
	char *buf = get_buffer(session);
	int rc = buf ? fm_engine_read(engine, buf, offset, length) : -ENOMEM;

	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_buf(req, buf, length);
	if (buf)
		put_buffer(session, buf);
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
	const struct fm_session *session = fm_serve_session(req);
	struct fm_open_reply reply = fm_passthrough_reply(fi->fh, session->backing_id);

	if (!session->backing_id || node->kind != FM_VOLUME || node->partition)
		return fuse_reply_open(req, fi);
	return fuse_reply_buf(req, (char *)&reply, sizeof(reply));
}

void fm_on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
	struct fm_session *session = fm_serve_session(req);
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);
	struct fm_stream *stream = NULL;
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
		code = (stream = fm_stream_new(&session->handles)) ? 0 : -ENOMEM;
	if (code) {
		fuse_reply_err(req, -code);
		return;
	}
	fi->direct_io = node->kind == FM_VOLUME && !is_kept(session, node);
	fi->keep_cache = !fi->direct_io;
	fi->fh = (uintptr_t)stream;
	if (reply_open(req, node, fi))
		fm_handle_free(&session->handles, (struct fm_handle *)stream);
}

void fm_on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);

	if (forward) {
		fm_forward_release(forward, req, ino, fi, false);
		return;
	}
	fm_handle_free(&fm_serve_session(req)->handles, (struct fm_handle *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

static void reply_map(fuse_req_t req, struct fm_map *map, uint64_t offset, size_t length,
		      struct fm_stream *stream, uint64_t limit)
{
	struct fm_session *session = fm_serve_session(req);
	char *buf = get_buffer(session);
	int rc = buf ? 0 : -ENOMEM;

	fm_stream_read_ahead(stream, map, offset, length, limit);
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
			struct fm_stream *stream)
{
	struct fm_volumes *volumes = fm_serve_session(req)->volumes;
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

void fm_on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);
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
	size = at < end ? hv_min_u64(hv_min_u64(size, end - at), FM_REQUEST_BYTES) : 0;
	if (!size)
		fuse_reply_buf(req, NULL, 0);
	else if (node->kind == FM_TEXT)
		fuse_reply_buf(req, node->text + at, size);
	else
		read_volume(req, node, at, size, (struct fm_stream *)(uintptr_t)fi->fh);
}

/* The engine that a change of [offset, offset + length) goes to; NULL: req has been answered. */
static struct fm_engine *engine_for(fuse_req_t req, const struct fm_node *node, uint64_t offset,
				    uint64_t length)
{
	struct fm_volumes *volumes = fm_serve_session(req)->volumes;
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

void fm_on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		 struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
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
	at += fm_serve_session(req)->volumes->base + node->offset;
	rc = fm_engine_write(engine, buf, at, size);
	if (rc)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_write(req, size);
}

void fm_on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		     struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
	struct fm_engine *engine = engine_for(req, node, (uint64_t)offset, (uint64_t)length);
	uint64_t at = (uint64_t)offset;
	int rc = 0;

	(void)fi;
	if (!engine)
		return;
	at += fm_serve_session(req)->volumes->base + node->offset;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		rc = fm_engine_zero(engine, at, (uint64_t)length, true);
	else if (mode & FALLOC_FL_ZERO_RANGE)
		rc = fm_engine_zero(engine, at, (uint64_t)length, false);
	else if (mode & ~FALLOC_FL_KEEP_SIZE)
		rc = -EOPNOTSUPP;
	fuse_reply_err(req, -rc);
}

void fm_on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, -fm_volumes_flush(fm_serve_session(req)->volumes));
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

void fm_on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		 struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
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
		rc = seek_volume(fm_serve_session(req)->volumes, node, (uint64_t)offset,
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
