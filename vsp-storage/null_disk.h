/*
 * A disk that reads as zero and forgets what is written, for measuring what lies above disks:
 * "null:SIZE" where a disk is described.
 */
#ifndef VSP_STORAGE_NULL_DISK_H
#define VSP_STORAGE_NULL_DISK_H

#include <stdbool.h>

#include "hvcore/disk.h"

/* Is it "null:..."? A file of such a name is "./null:...". */
bool vsp_is_null_disk(const char *path);

/* -EINVAL for what is no size, or not one of a disk. */
int vsp_null_disk_open(const char *path, struct hv_loop *loop, struct hv_disk **ret,
		       struct hv_err *err);

#endif
