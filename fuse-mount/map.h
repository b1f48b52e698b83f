/*
 * Inside fuse-mount/: a disk that nobody writes, as a map: which of its bytes lie where in which
 * file. So many threads can read at once, each from the page cache of those files; holes take no
 * I/O at all.
 *
 * Any thread may call. A lock guards the look-up, which is in memory but for a sector bitmap now
 * and then; nothing is read under it.
 */
#ifndef FUSE_MOUNT_MAP_H
#define FUSE_MOUNT_MAP_H

#include "hvcore/disk.h"

struct fm_map;

/* A run of bytes within one file. */
struct fm_piece {
	int fd; /* -1: zeros */
	uint64_t offset, length;
};

/* Takes over the disk, a chain opened read-only and without O_DIRECT, and its loop. */
int fm_map_new(struct hv_disk *disk, struct fm_map **ret, struct hv_err *err);
void fm_map_free(struct fm_map *map);
HV_DEFINE_CLEANUP(struct fm_map, fm_map_free)

/* Lent, to be asked what it is only. */
struct hv_disk *fm_map_disk(const struct fm_map *map);

/*
 * The pieces of [offset, offset + length), which lies inside the disk; at most max, so that they
 * may be of the range's beginning only. Their number, or -errno: -EIO where what the file says
 * about itself cannot be read or is not to be trusted.
 */
int fm_map_look(struct fm_map *map, uint64_t offset, uint64_t length, struct fm_piece *pieces,
		int max);

/* 1: read; 0: all zeros, and buf is as it was; or -errno. */
int fm_map_read(struct fm_map *map, void *buf, uint64_t offset, uint64_t length);

/* Has the kernel begin to read what of the range lies in files. */
void fm_map_read_ahead(struct fm_map *map, uint64_t offset, uint64_t length);

/* The first byte at or after offset that is data (or is none); *ret is end when there is none. */
int fm_map_seek(struct fm_map *map, uint64_t offset, uint64_t end, bool data, uint64_t *ret);

#endif
