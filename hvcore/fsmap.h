/*
 * Which parts of a disk its filesystems do not use, by the word of their own libraries and tools.
 * Found by libblkid, on the bare disk or in partitions; read through libext2fs (ext2, ext3, ext4)
 * and by the tools of ntfs-3g (NTFS), confined.
 */
#ifndef HVCORE_FSMAP_H
#define HVCORE_FSMAP_H

#include "hvcore/disk.h"

/* A filesystem that was found. */
struct hv_fs {
	uint64_t offset, length; /* bytes of the disk, as its partition says */
	char type[32];
	char *objection;       /* why its word is not taken; NULL: it is */
	uint64_t unused_bytes; /* by its word */
};

struct hv_fsmap;

/*
 * 0 also when nothing is found. The disk is lent, must not change, and is not needed any more
 * afterwards. A filesystem that was not unmounted cleanly, is damaged, or is of a kind that cannot
 * be asked, gets an objection and counts as used throughout.
 */
int hv_fsmap_new(struct hv_disk *disk, struct hv_fsmap **ret, struct hv_err *err);
void hv_fsmap_free(struct hv_fsmap *map);
HV_DEFINE_CLEANUP(struct hv_fsmap, hv_fsmap_free)

unsigned hv_fsmap_count(const struct hv_fsmap *map);
const struct hv_fs *hv_fsmap_get(const struct hv_fsmap *map, unsigned i);

/* Does all of the range lie inside one filesystem, and is not used by it? */
bool hv_fsmap_unused(const struct hv_fsmap *map, uint64_t offset, uint64_t length);

#endif
