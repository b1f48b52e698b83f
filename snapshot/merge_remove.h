/*
 * Inside snapshot/: removing layers that have been merged.
 */
#ifndef SNAPSHOT_MERGE_REMOVE_H
#define SNAPSHOT_MERGE_REMOVE_H

#include "snapshot/merge_run.h"
#include "snapshot/merge_state.h"

/*
 * Removes the report's layers, which are closed, if they are what state says; nothing at all is
 * removed if one of them was changed or is in use. The order is that of merge_run.h.
 */
int snap_merge_remove(const struct snap_merge_request *request,
		      const struct snap_merge_state *state, struct hv_loop *loop,
		      struct snap_merge_report *report, struct hv_err *err);

/*
 * Removes what an interrupted removal has left of the layers between a child, which is the target's
 * own by now, and the target: files that state names, as they were, found beside the file at path.
 * state is complete, and of this child and this target.
 */
int snap_merge_remove_leftovers(const struct snap_merge_request *request,
				const struct snap_merge_state *state, const char *path,
				struct hv_loop *loop, struct hv_err *err);

#endif
