/*
 * Giving back the space of a dynamic or differencing disk: blocks that hold nothing leave the
 * table, those that lie last in the file move into the places that became free, and the file is cut.
 */
#ifndef VHD_COMPACT_H
#define VHD_COMPACT_H

#include "hvcore/disk.h"

struct vhd_compact_options {
	bool punch;     /* nothing is moved: holes are punched in place, also inside blocks */
	bool overwrite; /* space that is given back is overwritten with zeros first */
	bool dry_run;   /* only counts; the disk may be open read-only */
	/*
	 * Sectors whose contents nobody wants, by the word of a filesystem: does [offset, offset +
	 * length) of the disk hold only such? May be NULL. What is given up reads as zero, or as
	 * the parent does.
	 */
	bool (*unused)(uint64_t offset, uint64_t length, void *arg);
	/* Called now and then; phase is a constant ("looking", "moving", ...). May be NULL. */
	void (*progress)(const char *phase, uint64_t done_bytes, uint64_t total_bytes, void *arg);
	void *arg;
};

struct vhd_compact_result {
	uint32_t blocks;       /* allocated before */
	uint32_t freed_blocks; /* of these */
	uint32_t moved_blocks;
	uint64_t punched_bytes;                       /* given back inside blocks that stay */
	uint64_t file_bytes_before, file_bytes_after; /* a dry run tells what it expects */
};

/*
 * Blocking; nothing may be in flight. A differencing disk needs its backing disk: a block of zeros
 * is given up only where the backing disk reads as zero too. The view of the disk never changes
 * (but for unused sectors), and a power cut at any instant leaves leaks at worst: run it again.
 * -EINVAL for a fixed disk; -ENOTSUP where Xen's block map forbids it.
 */
int vhd_compact(struct hv_disk *disk, const struct vhd_compact_options *options,
		struct vhd_compact_result *ret, struct hv_err *err);

#endif
