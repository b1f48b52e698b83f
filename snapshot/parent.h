/*
 * Inside snapshot/: where a child says that its parent is.
 */
#ifndef SNAPSHOT_PARENT_H
#define SNAPSHOT_PARENT_H

#include "vhd/vhd.h"

#define SNAP_MAX_CANDIDATES (2 + 3 * VHD_LOCATORS)

struct snap_candidates {
	unsigned count;
	char *paths[SNAP_MAX_CANDIDATES]; /* in the order of trying; no path twice */
};

/* Fills ret from what child records; explicit_path (or NULL) comes first and stands alone. */
int snap_candidates(const struct vhd_info *child, const char *child_path, const char *explicit_path,
		    struct snap_candidates *ret);
void snap_candidates_free(struct snap_candidates *candidates);

/* The directory that holds path, free of links; malloc'ed, NULL on failure (errno). */
char *snap_directory_of(const char *path);

#endif
