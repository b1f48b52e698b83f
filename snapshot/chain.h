/*
 * Opens a disk of any format with all its parents as one struct hv_disk, and makes children.
 *
 * A parent is looked for in this order: the caller's word; the relative locator (W2ru) against the
 * child's directory; the file name of any recorded path in the child's directory; the absolute
 * locators (W2ku, MacX). A candidate whose UUID is not the recorded one is passed over. Loops,
 * chains deeper than SNAP_MAX_DEPTH, missing, wrong and resized parents are refused with a
 * sentence that names both files and says what to do. Parents are opened read-only, locked shared;
 * one layer, the leaf or another one, can be opened for writing, and is locked exclusively then.
 */
#ifndef SNAPSHOT_CHAIN_H
#define SNAPSHOT_CHAIN_H

#include "hvcore/disk.h"
#include "vhd/vhd.h"

#define SNAP_MAX_DEPTH 256 /* layers, the leaf included */

enum snap_open_flags {
	SNAP_OPEN_WRITE = 1 << 0,      /* one layer for writing: the leaf, or write_layer */
	SNAP_OPEN_DIRECT = 1 << 1,     /* O_DIRECT on every layer */
	SNAP_OPEN_NO_LOCK = 1 << 2,    /* no locks: for looking at a disk in use */
	SNAP_OPEN_NO_PARENTS = 1 << 3, /* the leaf alone; what it does not hold cannot be read */
};

/* A file, by whatever path it is reached. */
struct snap_file_id {
	dev_t dev;
	ino_t ino;
};

/* 0, or -errno of stat. */
int snap_file_id_of(const char *path, struct snap_file_id *ret);

struct snap_open_options {
	unsigned flags;
	const char *format;      /* NULL: look; "raw" or "vhd" */
	const char *parent_path; /* the leaf's parent, by the caller's word; NULL: look */
	/*
	 * With SNAP_OPEN_WRITE: the layer to be opened for writing; NULL: the leaf. -ESTALE when
	 * it is not in the chain. No other handle of the file may be open in this program.
	 */
	const struct snap_file_id *write_layer;
};

int snap_open(const char *path, const struct snap_open_options *options, struct hv_loop *loop,
	      struct hv_disk **ret, struct hv_err *err);

/*
 * The parent of the differencing disk at path, with all that is below it: what the disk reads where
 * it holds nothing. The disk itself is closed again.
 */
int snap_open_parent(const char *path, const struct snap_open_options *options,
		     struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err);

/* The layer of an open chain at that depth (0: disk itself); NULL beyond its base. Lent. */
struct hv_disk *snap_layer_at(struct hv_disk *disk, unsigned depth);

/* The file of one layer, which snap_open made; lent. */
struct hv_file *snap_layer_file(struct hv_disk *layer);

/*
 * A child and its parent are made equally large. Has one of them been resized in a way that makes
 * the child read what it never held? snap_open refuses such a chain.
 */
bool snap_was_resized(struct hv_disk *child, struct hv_disk *parent);

enum snap_parent_state {
	SNAP_PARENT_NONE, /* not a differencing disk */
	SNAP_PARENT_OK,
	SNAP_PARENT_MISSING,
	SNAP_PARENT_WRONG, /* the candidates have another UUID */
	SNAP_PARENT_RESIZED,
	SNAP_PARENT_LOOP,
	SNAP_PARENT_TOO_DEEP,
	SNAP_PARENT_FAILED, /* could not be opened */
};

/* "ok", "missing", ...: a constant. */
const char *snap_parent_state_name(enum snap_parent_state state);

/* One layer of a chain, opened by itself (nothing is stacked). */
struct snap_layer {
	struct hv_disk *disk;          /* NULL once stacked */
	enum snap_parent_state parent; /* of its parent: OK when that is the next layer */
	char *parent_path; /* where that is; the best guess when it is not OK; NULL: none */
	int code;          /* -errno of what is wrong, 0 when nothing is */
	char *sentence;    /* what is wrong, or NULL */
};

struct snap_chain {
	unsigned count; /* at least 1; the leaf comes first */
	struct snap_layer *layers;
};

/*
 * Opens the leaf at path and its parents, as far as they can be had, without judging: the last
 * layer tells why the chain ends there. Fails only when the leaf cannot be opened.
 */
int snap_examine(const char *path, const struct snap_open_options *options, struct hv_loop *loop,
		 struct snap_chain **ret, struct hv_err *err);
void snap_chain_free(struct snap_chain *chain);
HV_DEFINE_CLEANUP(struct snap_chain, snap_chain_free)

/*
 * Makes one disk of the layers, as snap_open gives, which the caller owns; the chain keeps the
 * rest. Fails, and changes nothing, when a layer is missing or encrypted.
 */
int snap_chain_stack(struct snap_chain *chain, struct hv_disk **ret, struct hv_err *err);

/*
 * Fills the differencing part of options for a child at child_path of the open parent: size,
 * UUID, names. The strings are malloc'ed into *storage, which the caller frees with
 * snap_child_paths_free after vhd_create. A parent of null UUID is refused; so is a path that
 * UTF-16 or Windows syntax cannot carry. A raw parent is refused.
 */
struct snap_child_paths {
	char *name, *relative, *absolute, *url;
};

int snap_describe_child(const char *child_path, struct hv_disk *parent,
			struct vhd_create_options *options, struct snap_child_paths *storage,
			struct hv_err *err);
void snap_child_paths_free(struct snap_child_paths *paths);

#endif
