/*
 * Inside vhd/check*.c: rebuilding the block allocation table. FORMAT.md tells what counts as proof.
 *
 *	check_places.c	where in the file blocks can be that no entry names
 *	check_evidence.c	which block a place holds
 *	check_salvage.c	the new table, and what is told of it
 */
#ifndef VHD_CHECK_SALVAGE_H
#define VHD_CHECK_SALVAGE_H

#include "vhd/check_internal.h"

#define NO_BLOCK UINT32_MAX
#define MANY_BLOCKS (UINT32_MAX - 1)

/* A place where a block may be, and that no entry which may be right names. */
struct check_place {
	uint64_t offset;      /* of the bitmap */
	bool held;            /* there is a bit in its bitmap */
	bool junk;            /* what should be its bitmap is none */
	bool disputed;        /* entries that contradict each other name it or reach into it */
	uint32_t named;       /* the block that marks inside name; NO_BLOCK, MANY_BLOCKS */
	uint32_t mark_sector; /* of the block: where the mark is */
	const char *mark;
};

/* A block whose place has been proven. */
struct check_find {
	uint32_t block;
	uint64_t offset;
	const char *mark; /* what says so; NULL: the order of the blocks */
};

struct salvage {
	struct check *check;
	uint32_t *bat;    /* the table as it shall be */
	uint8_t *lost;    /* bit per block: nobody knows yet where it is */
	uint8_t *losers;  /* bit per block: named the place of another block; a part of lost */
	uint8_t *cleared; /* bit per block: was wrong, and has no place in the file */
	uint64_t end;     /* of the part of the file that can hold blocks */

	uint32_t *known; /* sectors of all blocks whose place is known, ascending */
	uint32_t known_count;
	uint64_t stride;            /* from one place to the next; 0: there is no common distance */
	struct check_place *places; /* ascending */
	uint32_t place_count;

	struct check_find *finds;
	uint32_t find_count, find_limit;
	uint32_t more; /* blocks that ascending order would put back */
};

static inline uint32_t vhd_salvage_sectors(const struct salvage *s)
{
	return s->check->layout.block_bytes / HV_SECTOR_SIZE;
}

static inline bool vhd_salvage_is_known(const struct salvage *s, uint32_t block)
{
	return s->bat[block] != VHD_UNUSED && !hv_bit_get(s->lost, block);
}

/* Of a block with its bitmap. */
static inline uint64_t vhd_salvage_length(const struct salvage *s)
{
	return (uint64_t)s->check->layout.bitmap_bytes + s->check->layout.block_bytes;
}

static inline uint64_t vhd_salvage_place(const struct salvage *s, uint32_t block)
{
	return (uint64_t)s->bat[block] << HV_SECTOR_SHIFT;
}

/* Could the entry, by itself, be right? Then it is lost because it collides with another. */
bool vhd_salvage_is_possible(const struct salvage *s, uint32_t block);

/* Finds the places by what is known of the table now. 0 or -errno. */
int vhd_salvage_survey(struct salvage *s, struct hv_err *err);

/* Is everything that no entry can mean zero, so that nothing is left to be found? 1, 0 or -errno. */
int vhd_salvage_is_exhausted(const struct salvage *s, struct hv_err *err);

/* Compares places by their offsets. */
int vhd_salvage_compare(const void *a, const void *b);

/*
 * One step: blocks whose place (or that they have none) is proven by marks, by an entry that is one
 * bit off, or by the order of the blocks. Returns how many, or -errno; the survey is stale when
 * there were any. The order is proof only for a caller who knows that blocks were written in it;
 * with only_count nothing is changed.
 */
int vhd_salvage_by_marks(struct salvage *s, struct hv_err *err);
int vhd_salvage_by_bits(struct salvage *s, struct hv_err *err);
int vhd_salvage_by_order(struct salvage *s, bool only_count, struct hv_err *err);

#endif
