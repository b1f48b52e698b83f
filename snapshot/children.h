/*
 * Who depends on a disk? A VHD does not know its children: they are looked for in directories, by
 * the parent's UUID that they record.
 */
#ifndef SNAPSHOT_CHILDREN_H
#define SNAPSHOT_CHILDREN_H

#include "snapshot/chain.h"

struct snap_child {
	char *path;
	unsigned parent; /* which of the disks it is a child of */
	bool unknown;    /* by its name it may be one, but it cannot be looked into */
};

struct snap_children {
	unsigned count;
	struct snap_child *list; /* by path */
};

/* Where to look, and for whose children. */
struct snap_children_query {
	const struct hv_guid *uuids; /* null UUIDs have no children */
	unsigned uuid_count;
	const struct snap_file_id *except; /* files that are left out */
	unsigned except_count;
};

/*
 * Adds the children found among the files in the directory itself (not below it) to ret, each once,
 * however often and by whatever path it is found. ret starts as zeros; snap_children_free also
 * after a failure.
 */
int snap_find_children(const char *directory, const struct snap_children_query *query,
		       struct snap_children *ret, struct hv_err *err);

/* Likewise beside the file at path, and beside a link by which it is reached. */
int snap_find_children_beside(const char *path, const struct snap_children_query *query,
			      struct snap_children *ret, struct hv_err *err);

/*
 * -EBUSY with a sentence when a child of the open disk lies beside it; how tells what that would
 * suffer: "its size".
 */
int snap_refuse_children(struct hv_disk *disk, const char *how, struct hv_err *err);
void snap_children_free(struct snap_children *children);

#endif
