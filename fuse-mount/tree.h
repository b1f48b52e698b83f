/*
 * What the mounted directory shows: an immutable tree of nodes, made of what libblkid has found.
 * Inside fuse-mount/.
 *
 *	disk.raw		the disk
 *	info.json		what is known of it
 *	p2-root.ext4		a partition; containers (extended partitions) have none
 *	by-label/root		links to them, and for a filesystem on the bare disk to disk.raw
 *	by-uuid/ by-partuuid/
 *	files/p2 files/disk	the files of each filesystem
 *	.volumes/p2		the same filesystems as volumes, for their readers; hidden
 *
 * A directory other than the root is there when something is in it. Every range lies inside the
 * disk; a partition that lies beyond it is a file of length 0. Of two partitions with one number
 * the first counts. Of several volumes with one label (or UUID) the first has the link of that
 *name, the others have "LABEL-pN". Every name is safe (names.h), and unique in its directory.
 */
#ifndef FUSE_MOUNT_TREE_H
#define FUSE_MOUNT_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/probe.h"

enum fm_kind {
	FM_DIRECTORY,
	FM_LINK,
	FM_TEXT,
	FM_VOLUME,
	FM_FILES, /* a directory; what is in it comes from a reader */
};

struct fm_node {
	uint64_t ino; /* the root's is 1; dense */
	enum fm_kind kind;
	bool hidden; /* found by name, not listed */
	const char *name;
	struct fm_node *parent;    /* the root's is itself */
	struct fm_node **children; /* FM_DIRECTORY, in the order of listing */
	unsigned child_count;
	const char *target; /* FM_LINK: relative */
	const char *text;   /* FM_TEXT */
	size_t text_bytes;
	uint64_t offset, length; /* FM_VOLUME, FM_FILES: a window of the disk, in bytes */
	/* FM_VOLUME, FM_FILES: what is there; lent by the probe. */
	const struct hv_partition *partition; /* NULL: the bare disk */
	const struct hv_signature *content;
};

/* Is it for the readers of files/ only? */
static inline bool fm_node_is_hidden(const struct fm_node *node)
{
	return node->hidden || node->parent->hidden;
}

struct fm_tree;

/*
 * probe is lent, and outlives the tree. info_text is copied; NULL: there is no info.json. 0, or
 * -ENOMEM with a sentence. The tree never changes: any thread may read it.
 */
int fm_tree_new(const struct hv_probe *probe, uint64_t size_bytes, const char *info_text,
		struct fm_tree **ret, struct hv_err *err);
void fm_tree_free(struct fm_tree *tree);
HV_DEFINE_CLEANUP(struct fm_tree, fm_tree_free)

/* NULL: there is none. Numbers go from 1 without a gap. */
const struct fm_node *fm_tree_get(const struct fm_tree *tree, uint64_t ino);

/* The child of that name, hidden or not; NULL: there is none, or directory is no FM_DIRECTORY. */
const struct fm_node *fm_tree_find(const struct fm_node *directory, const char *name);

#endif
