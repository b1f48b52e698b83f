/*
 * A merge from beginning to end, on files: finds the layers, looks for disks that would be harmed,
 * grows what is too small, goes on where an interrupted merge was, and removes what was merged.
 */
#ifndef SNAPSHOT_MERGE_RUN_H
#define SNAPSHOT_MERGE_RUN_H

#include "snapshot/children.h"
#include "snapshot/merge.h"

struct snap_merge_request {
	const char *child;
	const char *into;               /* an ancestor; NULL: the parent */
	const char *const *siblings_in; /* more directories to look in; ends with NULL; or NULL */
	bool force;                     /* also when other disks would be harmed */
	bool remove;                    /* the layers above the target, when all is merged */
	bool direct;
	struct snap_merge_options options; /* dry_run: nothing is changed, whatever else is set */

	/* Called again and again; false: stop, and keep what has been done. May be NULL. */
	bool (*progress)(const struct snap_merge_progress *progress, void *arg);
	/* Called before a file is removed, which is open for writing and locked. May be NULL. */
	int (*before_removal)(struct hv_file *file, void *arg, struct hv_err *err);
	void *arg;
};

struct snap_merged_layer {
	char *path;
	uint64_t copied_bytes, copied_blocks; /* in this run */
	bool removed;
};

struct snap_merge_report {
	char *target;
	uint64_t size_bytes;        /* of the child */
	uint64_t target_size_bytes; /* of the target, before */
	unsigned levels;
	struct snap_merged_layer *layers; /* the child first, without the target */
	uint64_t resumed_bytes;           /* were merged by an earlier run */
	const char *restarted; /* why an earlier run's progress is of no use; NULL: none such */
	uint64_t merged_bytes, copied_bytes, zeroed_bytes;
	struct snap_children harmed; /* disks whose contents change, or whose parent goes */
};

/*
 * What an interruption leaves, at whatever instant: the child reads as before, and the same call
 * goes on. -EBUSY: another disk would be harmed (report->harmed) or a file is in use; -EINTR:
 * stopped by progress. report is filled as far as it is known, also on failure, and freed with
 * snap_merge_report_free.
 *
 * Removal: all layers are locked first. Then the child is made the target's own child, the layers
 * between both go, the lowest first, and the child goes last. So the child, as long as it is there,
 * opens and reads as before, and what is left of the others does not open. Over a raw target, which
 * can have no child, the child goes first.
 */
int snap_merge_run(const struct snap_merge_request *request, struct hv_loop *loop,
		   struct snap_merge_report *report, struct hv_err *err);
void snap_merge_report_free(struct snap_merge_report *report);

#endif
