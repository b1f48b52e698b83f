/*
 * Names and attributes, of a tree that never changes.
 */
#include "fuse-mount/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse-mount/unmount.h"

const struct fm_forward *fm_serve_elsewhere(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_session *session = fm_serve_session(req);
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
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);

	if (!forward || fm_forward_inside(ino) || fm_browse_started(forward->browse, (uint32_t)ino))
		return forward;
	return NULL;
}

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
		.st_blksize = FM_REQUEST_BYTES,
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

void fm_on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fm_session *session = fm_serve_session(req);
	const struct fm_forward *forward = fm_serve_elsewhere(req, parent);
	const struct fm_node *directory = fm_serve_node(req, parent);
	const struct fm_node *node = directory ? fm_tree_find(directory, name) : NULL;
	struct fuse_entry_param entry = { .attr_timeout = FM_FOREVER, .entry_timeout = FM_FOREVER };

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

void fm_on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = awake(req, ino);
	const struct fm_node *node = fm_serve_node(req, ino);
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
	fill_stat(fm_serve_session(req), node, &st);
	fuse_reply_attr(req, &st, node->kind == FM_FILES ? 0 : FM_FOREVER);
}

/* A volume is as large as it is, like a device; times of what can be written may be set, in vain. */
void fm_on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		   struct fuse_file_info *fi)
{
	const struct fm_node *node = fm_serve_node(req, ino);
	int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
		    FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

	if (fm_serve_elsewhere(req, ino))
		fuse_reply_err(req, EROFS);
	else if (!node || !fm_volume_writable(fm_serve_session(req)->volumes, node))
		fuse_reply_err(req, node ? EROFS : ENOENT);
	else if (((to_set & FUSE_SET_ATTR_SIZE) && (uint64_t)attr->st_size != node->length) ||
		 (to_set & ~(times | FUSE_SET_ATTR_SIZE)))
		fuse_reply_err(req, EPERM);
	else
		fm_on_getattr(req, ino, fi);
}

void fm_on_readlink(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);
	const struct fm_node *node = fm_serve_node(req, ino);

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

	fill_stat(fm_serve_session(req), node, &st);
	length = fuse_add_direntry(req, buf + *used, size - *used, name, &st, next);
	if (length > size - *used)
		return false;
	*used += length;
	return true;
}

void fm_on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);

	if (forward) {
		fm_forward_open(forward, req, ino, fi, true);
		return;
	}
	fi->cache_readdir = fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

void fm_on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);

	if (forward)
		fm_forward_release(forward, req, ino, fi, true);
	else
		fuse_reply_err(req, 0);
}

/* Offsets: 0 ".", 1 "..", then the children. */
static void readdir_tree(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset)
{
	const struct fm_node *node = fm_serve_node(req, ino);
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

void fm_on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);

	if (forward)
		fm_forward_readdir(forward, req, ino, size, offset, fi);
	else
		readdir_tree(req, ino, size, offset);
}

void fm_on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct fm_forward *forward = fm_serve_elsewhere(req, ino);
	const struct fm_session *session = fm_serve_session(req);
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
		fm_forward_forget(&fm_serve_session(req)->forward, ino, count);
}

void fm_on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(req, ino, count);
	fuse_reply_none(req);
}

void fm_on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(req, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* The root has one attribute, which --unmount asks for. */
void fm_on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
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

void fm_on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct fm_forward *forward = awake(req, ino);

	if (forward)
		fm_forward_listxattr(forward, req, ino, size);
	else if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}
