/*
 * Which parts of a disk its filesystems do not use, by the word of their own libraries. Found by
 * libblkid, on the bare disk or in partitions; read through libext2fs (ext2, ext3, ext4). For
 * others somebody else may speak.
 */
#ifndef HVCORE_FSMAP_H
#define HVCORE_FSMAP_H

#include "hvcore/disk.h"

/* A filesystem that was found. */
struct hv_fs {
	uint64_t offset, length; /* bytes of the disk, as its partition says */
	char type[32];
	unsigned partition;    /* its number in the table; 0: the bare disk */
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

/*
 * Somebody has asked filesystem i, which had an objection: bits, from the most significant of each
 * byte, say for units of so many bytes from its beginning whether they are used. What lies behind
 * them is. -EINVAL, with bits left to the caller: they reach beyond the filesystem. Else they are
 * owned by the map, which frees them.
 */
int hv_fsmap_told(struct hv_fsmap *map, unsigned i, uint8_t *bits, uint64_t units,
		  uint32_t unit_bytes, struct hv_err *err);

/* He could not: why, in place of the objection. -ENOMEM. */
int hv_fsmap_object(struct hv_fsmap *map, unsigned i, const char *objection);

/* Does all of the range lie inside one filesystem, and is not used by it? */
bool hv_fsmap_unused(const struct hv_fsmap *map, uint64_t offset, uint64_t length);

#endif
