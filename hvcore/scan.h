/*
 * An ordered, parallel reader: walks a disk from start to end by its extents, keeps several reads
 * in flight, and hands out chunks in order. Holes cost nothing. Used by hash, compare and convert.
 */
#ifndef HVCORE_SCAN_H
#define HVCORE_SCAN_H

#include "hvcore/disk.h"

struct hv_scan;

struct hv_chunk {
	uint64_t offset, length; /* bytes; a chunk of zeros may be of any length */
	const void *data;        /* NULL: reads as zero */
};

struct hv_scan_options {
	uint64_t chunk_bytes; /* largest chunk of data; 0: 1 MiB */
	unsigned depth;       /* buffers, in flight or handed out; 0: 8 */
	bool find_zeros;      /* look into the data and report zeros as zeros */
	uint64_t zero_bytes;  /* granularity of that search; 0: 64 KiB */
};

int hv_scan_new(struct hv_disk *disk, const struct hv_scan_options *options, struct hv_scan **ret,
		struct hv_err *err);

/*
 * The next chunk: 1 with *ret filled, 0 at the end, -errno with a sentence. Runs the disk's loop
 * while it waits. data stays valid until hv_scan_release is called for the chunk, in any order; at
 * most depth chunks can be held.
 */
int hv_scan_next(struct hv_scan *scan, struct hv_chunk *ret, struct hv_err *err);

void hv_scan_release(struct hv_scan *scan, const struct hv_chunk *chunk);

/* Waits for reads in flight. */
void hv_scan_free(struct hv_scan *scan);
HV_DEFINE_CLEANUP(struct hv_scan, hv_scan_free)

/*
 * Does the disk read as zero there, by its extents or else its contents? 1, 0 (as soon as that is
 * known) or -errno. Blocking; nothing is kept in flight.
 */
int hv_disk_is_zero(struct hv_disk *disk, uint64_t offset, uint64_t length, struct hv_err *err);

/* Are all bytes zero? */
bool hv_is_zero(const void *data, size_t length);

#endif
