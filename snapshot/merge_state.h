/*
 * Inside snapshot/: how far a merge has come, in a small file beside its target (FORMAT.md), so
 * that an interrupted merge goes on where it was.
 */
#ifndef SNAPSHOT_MERGE_STATE_H
#define SNAPSHOT_MERGE_STATE_H

#include "hvcore/guid.h"
#include "snapshot/chain.h"

/* What tells whether a layer is the file that it was. */
struct snap_merge_identity {
	struct hv_guid uuid; /* null for a raw layer */
	uint64_t dev, ino;
	uint64_t size_bytes, mtime_ns, ctime_ns; /* of the file; 0 for the target, which changes */
};

struct snap_merge_state {
	unsigned count; /* of layers: from the top to the target */
	struct snap_merge_identity layers[SNAP_MAX_DEPTH];
	uint64_t size_bytes;   /* of the top */
	uint64_t merged_bytes; /* what lies before it is merged, and durable */
};

/* Fills ret from an open chain whose target is the layer at depth levels; nothing is merged yet. */
int snap_merge_state_of(struct hv_disk *top, unsigned levels, struct snap_merge_state *ret,
			struct hv_err *err);

/* Is the file still what it was? */
bool snap_merge_is_layer(struct hv_file *file, const struct snap_merge_identity *identity);

/* The path of the file beside target; malloc'ed. */
char *snap_merge_state_path(const char *target);

enum snap_merge_found {
	SNAP_MERGE_NOTHING, /* there is no such file, or what is left of a finished merge */
	SNAP_MERGE_DAMAGED, /* it is of no use, and can be replaced */
	SNAP_MERGE_OTHER,   /* of an unfinished merge of another disk */
	SNAP_MERGE_CHANGED, /* of this disk, but a layer is not what it was */
	SNAP_MERGE_SAME,    /* now->merged_bytes is what it says */
};

/* -EEXIST when path is something else altogether, which shall not be replaced. */
int snap_merge_state_load(const char *path, struct snap_merge_state *now,
			  enum snap_merge_found *ret, struct hv_err *err);

/* What the file at path says, whatever merge it is of: 1, or 0 when there is no valid one. */
int snap_merge_state_read(const char *path, struct snap_merge_state *ret, struct hv_err *err);

/* Atomically, and durable on return. */
int snap_merge_state_save(const char *path, const struct snap_merge_state *state,
			  struct hv_err *err);

/* Removes the file; no error when there is none. */
int snap_merge_state_remove(const char *path, struct hv_err *err);

#endif
