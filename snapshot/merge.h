/*
 * Merging: what the layers above a target hold goes into the target, any number of levels in one
 * pass, each sector once, from the newest layer that holds it. What the top reads as zero is
 * discarded from the target where that reads otherwise.
 *
 * While it runs, and wherever it is left, the disk as seen through the top stays what it was: the
 * target only receives what a layer above it holds already. Only the target seen by itself, and
 * other children of it or of layers in between, change.
 *
 * Nothing here waits. Whoever drives a merge calls snap_merge_step, and turns the loop, which may
 * serve other disks at the same time; see merge_run.h for the one that does so for files.
 */
#ifndef SNAPSHOT_MERGE_H
#define SNAPSHOT_MERGE_H

#include "hvcore/disk.h"

struct snap_merge;

struct snap_merge_options {
	uint64_t start_bytes; /* what lies before it is merged already; a multiple of the sector */
	unsigned depth;       /* requests in flight; 0: 8 */
	uint64_t chunk_bytes; /* of one request; 0: 1 MiB */
	/* The target is flushed when so much was written, or so long after the last time. */
	uint64_t flush_bytes; /* 0: 1 GiB */
	double flush_seconds; /* 0: 2 */
	bool overwrite;       /* zeros are written: no space that held something is given back */
	bool dry_run;         /* count, and write nothing: the target may be open read-only */
};

/* What a layer above the target gave (or would give). */
struct snap_merge_layer {
	uint64_t copied_bytes;
	uint64_t copied_blocks; /* of its own blocks; of 2 MiB where it has none */
};

struct snap_merge_progress {
	uint64_t total_bytes;   /* of the top */
	uint64_t reached_bytes; /* looked at */
	uint64_t durable_bytes; /* what lies before it is merged, and durable */
	uint64_t copied_bytes, zeroed_bytes;
	unsigned in_flight;
	unsigned levels;                       /* layers above the target */
	const struct snap_merge_layer *layers; /* the top first; lent */
};

/*
 * top is an open chain, target a layer of it below top (snap_layer_at), open for writing, and at
 * least as large as top. Both outlive the merge.
 */
int snap_merge_begin(struct hv_disk *top, struct hv_disk *target,
		     const struct snap_merge_options *options, struct snap_merge **ret,
		     struct hv_err *err);

/*
 * Submits what there is room for. 1: there is more to do, call again after a turn of the loop
 * (which may sleep only if something is in flight); 0: everything is merged and durable, or as far
 * as it had come when it was stopped; -errno with a sentence once nothing is in flight any more.
 */
int snap_merge_step(struct snap_merge *merge, struct hv_err *err);

/* Begins nothing new: what is in flight lands, and is made durable. */
void snap_merge_stop(struct snap_merge *merge);

void snap_merge_get_progress(const struct snap_merge *merge, struct snap_merge_progress *ret);

/* Waits for what is in flight. */
void snap_merge_free(struct snap_merge *merge);
HV_DEFINE_CLEANUP(struct snap_merge, snap_merge_free)

#endif
