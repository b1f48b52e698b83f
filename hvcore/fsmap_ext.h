/*
 * Inside hvcore: the blocks that an ext2, ext3 or ext4 filesystem does not use.
 */
#ifndef HVCORE_FSMAP_EXT_H
#define HVCORE_FSMAP_EXT_H

#include "hvcore/disk.h"

struct hv_fsmap_ext;

/*
 * Reads the block bitmaps of the filesystem in [offset, offset + length) of disk. -EBUSY when it
 * was not unmounted cleanly, -EBADMSG when it is damaged, with a sentence without the disk's path.
 */
int hv_fsmap_ext_open(struct hv_disk *disk, uint64_t offset, uint64_t length,
		      struct hv_fsmap_ext **ret, struct hv_err *err);
void hv_fsmap_ext_close(struct hv_fsmap_ext *fs);

uint64_t hv_fsmap_ext_unused_bytes(const struct hv_fsmap_ext *fs);

/* offset counts from the filesystem's start. */
bool hv_fsmap_ext_unused(const struct hv_fsmap_ext *fs, uint64_t offset, uint64_t length);

#endif
