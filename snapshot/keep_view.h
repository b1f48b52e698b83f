/*
 * Inside snapshot/: a child keeps its view when its parent changes. Where it holds nothing itself,
 * it reads what is below; where the new thing below differs from the old one, the child is given
 * what it read so far.
 */
#ifndef SNAPSHOT_KEEP_VIEW_H
#define SNAPSHOT_KEEP_VIEW_H

#include "hvcore/disk.h"

struct snap_keep_view {
	struct hv_disk *child; /* open alone, without a backing disk; for writing unless dry_run */
	struct hv_disk *old_parent, *new_parent; /* beyond their ends is zero */
	unsigned depth;                          /* pieces in flight; 0: 8 */
	bool dry_run;                            /* count only */
	/* Called again and again; false: stop. May be NULL. */
	bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *arg);
	void *arg;
};

struct snap_kept_view {
	uint64_t compared_bytes; /* that were read on both sides */
	uint64_t copied_bytes;   /* that the child holds now, zeros among them */
	uint64_t zeroed_bytes;
};

/*
 * Whatever the child holds afterwards, and at every instant until then, it reads the same over
 * either parent as over the old one, as far as it was gone through. Not flushed. -EINTR: stopped.
 */
int snap_keep_view(const struct snap_keep_view *options, struct snap_kept_view *ret,
		   struct hv_err *err);

#endif
