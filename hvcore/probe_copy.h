/*
 * A sparse copy, in an unlinked file, of the parts of a disk that libblkid looks at. Private to
 * the signature probe.
 */
#ifndef HVCORE_PROBE_COPY_H
#define HVCORE_PROBE_COPY_H

#include "hvcore/disk.h"

struct hv_probe_copy {
	struct hv_disk *disk; /* lent */
	int fd;               /* of the same size as the disk */
	void *buffer;
	bool lenient; /* what cannot be read is zero */
	bool missed;  /* and there was some */
};

/* fd is -1 before. What was opened, also what failed to open, is closed. */
int hv_probe_copy_open(struct hv_probe_copy *copy, struct hv_disk *disk, struct hv_err *err);
void hv_probe_copy_close(struct hv_probe_copy *copy);

/* What finds the partition table and the signatures of the bare disk. */
int hv_probe_copy_whole(struct hv_probe_copy *copy, struct hv_err *err);

/*
 * What finds the signature of a partition, which lies inside the disk. Drops everything copied
 * before, so that a thousand partitions take no more memory than one.
 */
int hv_probe_copy_partition(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
			    struct hv_err *err);

#endif
