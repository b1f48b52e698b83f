/*
 * Inside hvcore: the clusters that an NTFS volume does not use.
 */
#ifndef HVCORE_FSMAP_NTFS_H
#define HVCORE_FSMAP_NTFS_H

#include "hvcore/disk.h"

struct hv_fsmap_ntfs;

/*
 * Asks the tools of ntfs-3g about the volume in [offset, offset + length) of disk. -EBUSY when it
 * was not unmounted cleanly or its system is hibernated, -EBADMSG when it is damaged, -ENOENT when
 * the tools are not installed, with a sentence without the disk's path.
 */
int hv_fsmap_ntfs_open(struct hv_disk *disk, uint64_t offset, uint64_t length,
		       struct hv_fsmap_ntfs **ret, struct hv_err *err);
void hv_fsmap_ntfs_close(struct hv_fsmap_ntfs *fs);

uint64_t hv_fsmap_ntfs_unused_bytes(const struct hv_fsmap_ntfs *fs);

/* offset counts from the volume's start. */
bool hv_fsmap_ntfs_unused(const struct hv_fsmap_ntfs *fs, uint64_t offset, uint64_t length);

#endif
