/*
 * Opening what is hostile, and comparing what the engine reads with the truth.
 */
#ifndef TESTS_FUZZ_READING_H
#define TESTS_FUZZ_READING_H

#include "tests/fuzz/harness/truth.h"
#include "vhd/check.h"

/*
 * vhd_open of the file, which is freed with the disk, or at once on failure (judged; *code gets
 * it). A differencing disk gets a parent of parent_bytes, unless 0.
 */
struct hv_disk *reading_open(struct sparse *sparse, uint64_t parent_bytes, int *code);

/* Are the tables of this size that would only cost time? Their limits have unit tests. */
bool reading_is_too_large(const struct sparse *sparse);

enum reading_touch { UNTOUCHED, TOUCHED, UNCERTAIN };

struct reading {
	struct hv_disk *disk;
	struct truth truth;
	uint64_t parent_bytes; /* 0: there is none */
	/* What was written since lies over the truth; touched holds an enum reading_touch per
	 * sector. */
	const struct sparse *written, *touched; /* NULL: nothing was */
};

/* Reads the sectors of [first, first + count) that lie in the disk, and judges. */
void reading_compare(const struct reading *reading, uint64_t first, uint64_t count);

/* Goes over the disk by extents: they follow each other, and what they say is so. */
void reading_walk(const struct reading *reading);

#endif
