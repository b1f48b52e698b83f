/*
 * See table.h.
 */
#include "tests/fuzz/harness/table.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/fuzz.h"

#define NO_BLOCK UINT32_MAX

/* By both ways of judging. */
struct verdicts {
	const struct vhd_layout *layout;
	const uint32_t *bat;
	bool *bad;    /* per block */
	uint32_t cut; /* the block that the file's end cuts, or NO_BLOCK */
};

static void found(enum vhd_bat_fault fault, uint32_t block, int64_t other,
		  const struct vhd_region *region, void *arg)
{
	struct verdicts *verdicts = arg;
	char text[256] = "";

	fuzz_assert(block < verdicts->layout->block_count && verdicts->bat[block] != VHD_UNUSED,
		    "a fault of block %u", block);
	fuzz_assert((fault == VHD_BAT_METADATA) == (region != NULL), "a fault in no region");
	vhd_bat_fault_text(fault, verdicts->layout, verdicts->bat, block, other, region, text,
			   sizeof(text));
	fuzz_assert(*text && strlen(text) < sizeof(text) - 1, "a fault that says '%s'", text);
	if (fault == VHD_BAT_CUT) {
		fuzz_assert(verdicts->cut == NO_BLOCK, "two blocks are cut");
		verdicts->cut = block;
		return;
	}
	verdicts->bad[block] = true;
	fuzz_assert((other >= 0) == (fault == VHD_BAT_OVERLAP || fault == VHD_BAT_DUPLICATE),
		    "fault %d with block %lld", fault, (long long)other);
	if (other < 0)
		return;
	fuzz_assert(other < verdicts->layout->block_count && other != block,
		    "block %u collides with %lld", block, (long long)other);
	fuzz_assert((verdicts->bat[block] == verdicts->bat[other]) == (fault == VHD_BAT_DUPLICATE),
		    "fault %d of blocks %u and %lld", fault, block, (long long)other);
	verdicts->bad[other] = true;
}

static uint64_t place_of(const struct verdicts *verdicts, uint32_t block)
{
	return (uint64_t)verdicts->bat[block] * HV_SECTOR_SIZE;
}

static bool meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

/* Can the block lie there at all, whatever other blocks do? */
static bool is_possible(const struct verdicts *verdicts, uint32_t block, uint64_t bytes)
{
	const struct vhd_layout *layout = verdicts->layout;
	uint64_t place = place_of(verdicts, block);

	for (unsigned i = 0; i < layout->region_count; i++)
		if (layout->regions[i].length &&
		    meet(place, bytes, layout->regions[i].offset, layout->regions[i].length))
			return false;
	return place + layout->bitmap_bytes <= layout->file_end;
}

static void judge_pair(struct verdicts *verdicts, const bool *possible, uint32_t a, uint32_t b,
		       uint64_t bytes)
{
	if (!possible[a] || !possible[b] ||
	    !meet(place_of(verdicts, a), bytes, place_of(verdicts, b), bytes))
		return;
	verdicts->bad[a] = verdicts->bad[b] = true;
}

/* Of the possible blocks the last may be cut; whatever else reaches over the end is wrong. */
static void judge_ends(struct verdicts *verdicts, const bool *possible, uint64_t bytes)
{
	const struct vhd_layout *layout = verdicts->layout;
	uint32_t last = NO_BLOCK;

	for (uint32_t i = 0; i < layout->block_count; i++)
		if (possible[i] && (last == NO_BLOCK || verdicts->bat[i] >= verdicts->bat[last]))
			last = i;
	for (uint32_t i = 0; i < layout->block_count; i++) {
		if (!possible[i] || place_of(verdicts, i) + bytes <= layout->file_end)
			continue;
		if (i == last)
			verdicts->cut = i;
		else
			verdicts->bad[i] = true;
	}
}

static void judge_slowly(struct verdicts *verdicts)
{
	const struct vhd_layout *layout = verdicts->layout;
	uint64_t bytes = (uint64_t)layout->bitmap_bytes + layout->block_bytes;
	bool *possible = calloc(layout->block_count + 1, sizeof(*possible));

	for (uint32_t i = 0; i < layout->block_count; i++) {
		if (verdicts->bat[i] == VHD_UNUSED)
			continue;
		possible[i] = is_possible(verdicts, i, bytes);
		verdicts->bad[i] = !possible[i];
	}
	for (uint32_t i = 0; i < layout->block_count; i++)
		for (uint32_t j = 0; j < i; j++)
			judge_pair(verdicts, possible, i, j, bytes);
	judge_ends(verdicts, possible, bytes);
	free(possible);
}

static void compare(const struct verdicts *engine, const struct verdicts *slow)
{
	for (uint32_t i = 0; i < slow->layout->block_count; i++)
		fuzz_assert(engine->bad[i] == slow->bad[i], "block %u at sector %u is %s", i,
			    slow->bat[i], slow->bad[i] ? "wrong" : "right");
	fuzz_assert(engine->cut == slow->cut, "block %d is cut, not %d", (int)slow->cut,
		    (int)engine->cut);
}

void table_judge(const struct vhd_layout *layout, const uint32_t *bat)
{
	struct verdicts engine = { layout, bat, calloc(layout->block_count + 1, 1), NO_BLOCK };
	struct verdicts slow = { layout, bat, calloc(layout->block_count + 1, 1), NO_BLOCK };
	struct vhd_bat_summary sum;
	uint32_t allocated = 0;
	int rc = vhd_bat_judge(layout, bat, found, &engine, &sum);

	fuzz_assert(rc == 0, "vhd_bat_judge failed with %d", rc);
	judge_slowly(&slow);
	compare(&engine, &slow);
	for (uint32_t i = 0; i < layout->block_count; i++)
		allocated += bat[i] != VHD_UNUSED;
	fuzz_assert(sum.allocated == allocated && sum.fragments <= allocated,
		    "%u blocks in %u fragments, not %u", sum.allocated, sum.fragments, allocated);
	fuzz_assert(sum.data_end >= layout->metadata_end, "data ends before metadata");
	free(engine.bad);
	free(slow.bad);
}
