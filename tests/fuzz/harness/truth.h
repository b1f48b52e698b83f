/*
 * What a reader must see of a VHD file, told the slow way: one sector at a time, from the bytes of
 * footer, header, table and bitmap. Shares no code with the engine; takes from it which footer is
 * in force and the size of disk and blocks, which footer.c and header.c of this folder look at.
 *
 * What the file does not hold is the parent's. A parent of ours holds a pattern.
 */
#ifndef TESTS_FUZZ_TRUTH_H
#define TESTS_FUZZ_TRUTH_H

#include "tests/fuzz/harness/sparse.h"
#include "vhd/vhd.h"

enum truth_kind {
	TRUTH_DATA, /* the file's */
	TRUTH_ZERO, /* nobody's, or of a last block that is stored short */
	TRUTH_PARENT,
	TRUTH_LOST, /* cut off together with the footer */
	TRUTH_ANY,  /* a write failed there */
};

struct truth {
	const struct sparse *sparse; /* lent */
	enum vhd_type type;
	uint64_t size_bytes, bat_offset, block_bytes, bitmap_bytes;
	uint64_t limit;  /* blocks end here */
	const bool *any; /* NULL, or by block: whatever it holds is right */
	bool footer_valid;
};

/* disk is open for reading, and its file has not been changed since. sparse: a copy of it, or it. */
void truth_init(struct truth *truth, const struct sparse *sparse, struct hv_disk *disk);

/* Fills in what is read there, also what the parent of fuzz_parent holds. */
enum truth_kind truth_sector(const struct truth *truth, uint64_t sector, uint64_t parent_bytes,
			     uint8_t buf[HV_SECTOR_SIZE]);

/* A disk of patterned sectors, some runs of them zero, for vhd_set_backing. */
struct hv_disk *fuzz_parent(uint64_t size_bytes);

#endif
