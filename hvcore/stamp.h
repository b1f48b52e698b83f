/*
 * Sectors that say what they are: data for writing and reading back, in which every sector carries
 * where it belongs and which write it came with, so that what a disk gives back wrong can be named:
 * a sector of another place, of an older write, of half a write, or with changed bytes.
 *
 * All of a sector follows from (seed, offset, generation), in the machine's byte order, and does
 * not compress.
 */
#ifndef HVCORE_STAMP_H
#define HVCORE_STAMP_H

#include <stddef.h>
#include <stdint.h>

/* Fills buf with the sectors of [offset, offset + length); buf is aligned to 8, the rest to 512. */
void hv_stamp_fill(void *buf, size_t length, uint64_t offset, uint64_t seed, uint64_t generation);

enum hv_stamp_fault {
	HV_STAMP_OK,
	HV_STAMP_FOREIGN,   /* nothing that was stamped with this seed */
	HV_STAMP_DAMAGED,   /* stamped, but bytes have changed */
	HV_STAMP_MISPLACED, /* stamped for another offset */
	HV_STAMP_STALE,     /* all of another generation than expected */
	HV_STAMP_TORN,      /* sectors of several generations */
};

/* What was found at the first sector that is wrong. */
struct hv_stamp_finding {
	uint64_t offset;       /* of the sector */
	uint64_t found_offset; /* for which it was stamped: MISPLACED */
	uint64_t generation;   /* of the sector: STALE, TORN */
	uint64_t expected;     /* generation: likewise */
};

#define HV_STAMP_ANY UINT64_MAX /* a generation: any, but the same for all sectors */

/* Looks at what hv_stamp_fill made of the same arguments. ret is filled unless all is well. */
enum hv_stamp_fault hv_stamp_check(const void *buf, size_t length, uint64_t offset, uint64_t seed,
				   uint64_t generation, struct hv_stamp_finding *ret);

#endif
