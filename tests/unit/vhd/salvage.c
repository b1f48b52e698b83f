/*
 * Rebuilding a damaged block allocation table. The heart is a property: whatever was done to the
 * table, after a repair every entry that repair has changed is what it was before the damage, or
 * unused and reported as lost; and undo brings the damaged file back, byte for byte. So no block
 * ever reads another block's data. HVKIT_SEED repeats a run, HVKIT_SALVAGE_IMAGES sets how many
 * images are tried, HVKIT_SALVAGE_TELL=1 prints what was found in them.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hvcore/bitmap.h"
#include "tests/support/memcut.h"
#include "tests/support/memvhd.h"
#include "vhd/check.h"

#define MOST_DAMAGES 4 /* to one image */

static char undo_path[64];

static void setup(void)
{
	/* In memory where possible: every repair syncs its undo file. */
	snprintf(undo_path, sizeof(undo_path), "%s/hvkit-salvage-%d.undo",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (int)getpid());
}

static void teardown(void)
{
	unlink(undo_path);
}

TestSuite(salvage, .init = setup, .fini = teardown);

static unsigned first_seed(void)
{
	const char *text = getenv("HVKIT_SEED");
	unsigned value = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);

	fprintf(stderr, "HVKIT_SEED=%u\n", value);
	return value;
}

static unsigned images(void)
{
	const char *text = getenv("HVKIT_SALVAGE_IMAGES");

	return text ? (unsigned)strtoul(text, NULL, 0) : 1000;
}

static unsigned roll(unsigned *seed, unsigned n)
{
	return (unsigned)rand_r(seed) % n;
}

/* What a check has said. */
struct said {
	uint8_t found[MEMVHD_MAX_BLOCKS / 8 + 1]; /* blocks whose place is said to be certain */
	uint8_t lost[MEMVHD_MAX_BLOCKS / 8 + 1], unused[MEMVHD_MAX_BLOCKS / 8 + 1];
	unsigned by_mark, by_order, lost_runs, unused_runs;
	struct vhd_check_result result;
};

static void add_run(uint8_t *bits, const struct vhd_finding *finding)
{
	uint64_t first = finding->disk_offset / MEMVHD_BLOCK_BYTES;
	uint64_t end = (finding->disk_offset + finding->disk_length + MEMVHD_BLOCK_BYTES - 1) /
		       MEMVHD_BLOCK_BYTES;

	cr_assert_eq((uint64_t)finding->block, first);
	hv_bits_set(bits, first, end - first);
}

static void found(const struct vhd_finding *finding, void *arg)
{
	struct said *said = arg;

	if (getenv("HVKIT_SALVAGE_TELL"))
		fprintf(stderr, "%s %s %lld %lld: %s\n", finding->repairable ? "+" : " ",
			finding->code, (long long)finding->block, (long long)finding->offset / 512,
			finding->sentence);

	if (!strcmp(finding->code, "block-lost"))
		add_run(said->lost, finding), said->lost_runs++;
	if (!strcmp(finding->code, "block-unused"))
		add_run(said->unused, finding), said->unused_runs++;
	if (!strcmp(finding->code, "block-found")) {
		hv_bit_set(said->found, (size_t)finding->block);
		(*(strstr(finding->sentence, "says so") ? &said->by_mark : &said->by_order))++;
	}
}

static int check(struct memvhd *disk, bool repair, bool ascending, struct said *ret)
{
	struct vhd_check_options options = { .repair = repair,
					     .ascending = ascending,
					     .undo_path = undo_path,
					     .found = found,
					     .arg = ret };
	HV_ERR(err);
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = vhd_check(memfile_file(disk->mem), &options, &ret->result, &err);
	cr_assert_eq(rc, 0, "%s", err.sentence);
	return rc;
}

/* Damage. */

static uint32_t blocks_of(const struct memvhd *disk)
{
	return disk->options.blocks;
}

static void overwrite_sector(struct memvhd *disk, unsigned *seed, unsigned kind)
{
	uint32_t first = roll(seed, blocks_of(disk)) / 128 * 128;

	for (uint32_t i = first; i < first + 128 && i < blocks_of(disk); i++)
		memvhd_set_entry(memfile_file(disk->mem), i,
				 kind == 0 ? 0 :
				 kind == 1 ? MEMVHD_UNUSED :
					     (uint32_t)rand_r(seed));
}

static void damage_once(struct memvhd *disk, unsigned *seed)
{
	struct hv_file *file = memfile_file(disk->mem);
	uint32_t a = roll(seed, blocks_of(disk)), b = roll(seed, blocks_of(disk));
	uint32_t at_a = memvhd_entry(file, a), at_b = memvhd_entry(file, b);

	/* Twice the same entry, or what came of one in another, would be no single fault. */
	if (at_a != disk->table[a] || at_b != disk->table[b])
		return;
	switch (roll(seed, 9)) {
	case 0:
		overwrite_sector(disk, seed, roll(seed, 3));
		break;
	case 1: /* swapped */
		memvhd_set_entry(file, a, at_b);
		memvhd_set_entry(file, b, at_a);
		break;
	case 2: /* claimed twice */
		memvhd_set_entry(file, a, at_b);
		break;
	case 3: /* reaching into another */
		memvhd_set_entry(file, a, at_b + 1 + roll(seed, 7));
		break;
	case 4: /* somewhere in the file */
		memvhd_set_entry(file, a, roll(seed, (unsigned)(file->size_bytes / 512)));
		break;
	case 5: /* a bit has flipped */
		memvhd_set_entry(file, a, at_a ^ 1u << roll(seed, 32));
		break;
	case 6: /* a few in a row */
		for (uint32_t i = a; i < a + 1 + roll(seed, 3) && i < blocks_of(disk); i++)
			memvhd_set_entry(file, i, 0);
		break;
	case 7:
		memvhd_set_entry(file, a, MEMVHD_UNUSED);
		break;
	default: /* one, to nowhere */
		memvhd_set_entry(file, a, 0x70000000 + roll(seed, 1000));
		break;
	}
}

static struct memvhd_options any_options(unsigned *seed)
{
	struct memvhd_options options = {
		.layout = (enum memvhd_layout)roll(seed, MEMVHD_LAYOUTS),
		.order = (enum memvhd_order)roll(seed, MEMVHD_ORDERS),
		.contents = (enum memvhd_contents)roll(seed, MEMVHD_CONTENTS),
		.blocks = 20 + roll(seed, 300),
		.hole_percent = roll(seed, 2) ? 0 : roll(seed, 60),
		.stale_percent = roll(seed, 3) ? 0 : roll(seed, 20),
		.unfinished = !roll(seed, 6),
		.twin = !roll(seed, 4),
		.cut_sectors = roll(seed, 4) ? 0 : roll(seed, 7),
	};

	return options;
}

/* The property. */

/* Do the damaged entries, where they can be right, give this block's place to another? */
static bool is_taken(const struct memvhd *disk, const uint32_t *damaged, uint32_t block)
{
	for (uint32_t other = 0; other < blocks_of(disk); other++) {
		if (other != block && damaged[other] == disk->table[block])
			return true;
	}
	return false;
}

static void judge_entry(const struct memvhd *disk, const struct said *said, const uint32_t *damaged,
			uint32_t block, unsigned seed)
{
	uint32_t now = memvhd_entry(memfile_file(disk->mem), block), right = disk->table[block];

	/* An entry that could be right, and is left alone, is believed. */
	if (now == right || (now == damaged[block] && !hv_bit_get(said->found, block)))
		return;
	cr_assert_eq(
		now, MEMVHD_UNUSED,
		"seed %u: block %u was at sector %u, the damaged table said %u, now it is at %u",
		seed, block, right, damaged[block], now);
	cr_assert(hv_bit_get(said->lost, block) ||
			  (hv_bit_get(said->unused, block) && is_taken(disk, damaged, block)),
		  "seed %u: block %u was at sector %u and reads as zero now, without a word", seed,
		  block, right);
}

static void read_all(struct hv_file *file, uint8_t **bytes, uint64_t *size)
{
	HV_ERR(err);

	*size = file->size_bytes;
	*bytes = malloc(*size);
	cr_assert_eq(hv_file_pread(file, *bytes, *size, 0, &err), 0);
}

static void judge_undo(struct memvhd *disk, const uint8_t *before, uint64_t size)
{
	struct hv_file *file = memfile_file(disk->mem);
	uint8_t *after;
	uint64_t after_size;
	HV_ERR(err);

	cr_assert_eq(vhd_undo(file, undo_path, &err), 0, "%s", err.sentence);
	read_all(file, &after, &after_size);
	cr_assert_eq(size, after_size);
	cr_assert(memcmp(before, after, size) == 0);
	free(after);
	unlink(undo_path);
}

struct totals {
	unsigned damages, repairs, by_mark, by_order, lost_runs, unused_runs;
};

static void add(struct totals *totals, const struct said *said)
{
	totals->repairs++;
	totals->by_mark += said->by_mark;
	totals->by_order += said->by_order;
	totals->lost_runs += said->lost_runs;
	totals->unused_runs += said->unused_runs;
}

/* Repairs a copy of the damaged disk, and judges. */
static void try_repair(const struct memvhd *damaged_disk, bool ascending, struct totals *totals,
		       unsigned seed)
{
	struct memvhd disk = *damaged_disk;
	uint32_t damaged[MEMVHD_MAX_BLOCKS];
	struct said said;
	uint8_t *before;
	uint64_t size;

	totals->damages++;
	check(&disk, false, ascending, &said);
	if (!said.result.repairable)
		return;
	disk.mem = memfile_copy(damaged_disk->mem);
	memfile_file(disk.mem)->writable = true;
	for (uint32_t block = 0; block < blocks_of(&disk); block++)
		damaged[block] = memvhd_entry(memfile_file(disk.mem), block);
	read_all(memfile_file(disk.mem), &before, &size);
	check(&disk, true, ascending, &said);
	for (uint32_t block = 0; block < blocks_of(&disk); block++)
		judge_entry(&disk, &said, damaged, block, seed);
	add(totals, &said);
	if (access(undo_path, F_OK) == 0)
		judge_undo(&disk, before, size);
	free(before);
	memvhd_free(&disk);
}

static void try_image(const struct memvhd_options *options, bool ascending, struct totals *totals,
		      unsigned seed)
{
	unsigned state = seed;
	struct memvhd disk = memvhd_make(options, &state);
	unsigned count = 1 + roll(&state, MOST_DAMAGES);

	for (unsigned i = 0; i < count; i++)
		damage_once(&disk, &state);
	try_repair(&disk, ascending, totals, seed);
	memvhd_free(&disk);
}

static void tell(const char *what, const struct totals *totals)
{
	fprintf(stderr,
		"%s: %u damages, %u repairs: %u blocks by marks, %u by order, %u runs unused, %u lost\n",
		what, totals->damages, totals->repairs, totals->by_mark, totals->by_order,
		totals->unused_runs, totals->lost_runs);
}

Test(salvage, never_gives_a_block_what_is_not_its_own)
{
	struct totals totals = { 0 };
	unsigned seed = first_seed(), count = images();

	for (unsigned i = 0; i < count; i++) {
		unsigned state = seed + i;
		struct memvhd_options options = any_options(&state);

		try_image(&options, false, &totals, seed + i);
	}
	tell("anything", &totals);
	cr_assert_gt(totals.by_mark, count);
}

/* Who says that blocks lie in ascending order gets more back, and nothing wrong where that is so. */
Test(salvage, ascending_order_is_believed_where_it_is_said)
{
	struct totals totals = { 0 };
	unsigned seed = first_seed(), count = images();

	for (unsigned i = 0; i < count; i++) {
		unsigned state = seed + i;
		struct memvhd_options options = any_options(&state);

		options.order = MEMVHD_ASCENDING;
		options.stale_percent = 0;
		options.unfinished = false;
		try_image(&options, true, &totals, seed + i);
	}
	tell("ascending", &totals);
	cr_assert_gt(totals.by_order, count);
}

/* What has to come back, to the last block. */

static struct memvhd_options plain(enum memvhd_order order, enum memvhd_contents contents)
{
	return (struct memvhd_options){
		.layout = MEMVHD_ALIGNED, .order = order, .contents = contents, .blocks = 200
	};
}

static void assert_restored(struct memvhd *disk)
{
	for (uint32_t block = 0; block < blocks_of(disk); block++)
		cr_assert_eq(memvhd_entry(memfile_file(disk->mem), block), disk->table[block],
			     "block %u", block);
}

/* Nothing is decided, and nothing written. */
static void assert_left(struct memvhd *disk, bool ascending)
{
	struct said said;

	check(disk, true, ascending, &said);
	cr_assert_eq(said.result.repairable, 0);
	cr_assert_gt(said.result.unreadable_blocks, 0);
	cr_assert_neq(access(undo_path, F_OK), 0);
}

static void zero_entries(struct memvhd *disk, uint32_t first, uint32_t count)
{
	for (uint32_t block = first; block < first + count; block++)
		memvhd_set_entry(memfile_file(disk->mem), block, 0);
}

Test(salvage, whole_table_of_every_layout_in_ascending_order)
{
	for (int layout = 0; layout < MEMVHD_LAYOUTS; layout++) {
		struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_GPT_EXT);
		unsigned seed = 7;
		struct said said;
		struct memvhd disk;

		options.layout = (enum memvhd_layout)layout;
		disk = memvhd_make(&options, &seed);
		zero_entries(&disk, 0, options.blocks);
		check(&disk, true, true, &said);
		cr_expect_eq(said.result.errors, 0, "layout %d", layout);
		assert_restored(&disk);
		check(&disk, false, false, &said);
		cr_expect_eq(said.result.errors + said.result.leaks, 0);
		unlink(undo_path);
		memvhd_free(&disk);
	}
}

Test(salvage, whole_table_without_a_mark_is_not_touched)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_NOISE);
	unsigned seed = 7;
	struct memvhd disk = memvhd_make(&options, &seed);

	zero_entries(&disk, 0, options.blocks);
	assert_left(&disk, true);
	memvhd_free(&disk);
}

Test(salvage, marks_bring_back_blocks_of_a_scattered_disk)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	struct said said;

	zero_entries(&disk, 0, 1);
	zero_entries(&disk, 199, 1);
	check(&disk, true, false, &said);
	cr_assert_eq(said.by_mark, 2);
	assert_restored(&disk);
	memvhd_free(&disk);
}

Test(salvage, flipped_bit_is_flipped_back)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	struct said said;

	memvhd_set_entry(memfile_file(disk.mem), 77, disk.table[77] ^ 1u << 27);
	check(&disk, true, false, &said);
	cr_assert_eq(said.result.errors, 0);
	assert_restored(&disk);
	memvhd_free(&disk);
}

Test(salvage, one_bit_among_garbage_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);

	memvhd_set_entry(memfile_file(disk.mem), 50, 0x70000055);
	memvhd_set_entry(memfile_file(disk.mem), 77, disk.table[50] ^ 1u << 27);
	assert_left(&disk, false);
	memvhd_free(&disk);
}

Test(salvage, one_bit_from_two_entries_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);

	memvhd_set_entry(memfile_file(disk.mem), 77, disk.table[77] ^ 1u << 27);
	memvhd_set_entry(memfile_file(disk.mem), 150, disk.table[77] ^ 1u << 26);
	assert_left(&disk, false);
	memvhd_free(&disk);
}

Test(salvage, order_that_the_table_contradicts_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);

	memvhd_set_entry(memfile_file(disk.mem), 10, disk.table[11]);
	memvhd_set_entry(memfile_file(disk.mem), 11, disk.table[10]);
	zero_entries(&disk, 50, 1);
	assert_left(&disk, true);
	memvhd_free(&disk);
}

/* An entry looks right that is not: then there is a place too many somewhere. */
Test(salvage, order_with_a_place_too_many_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk;
	uint32_t hole = 5;

	options.hole_percent = 5;
	disk = memvhd_make(&options, &seed);
	while (disk.table[hole] != MEMVHD_UNUSED || disk.table[hole + 1] == MEMVHD_UNUSED ||
	       disk.table[hole + 2] == MEMVHD_UNUSED)
		hole++;
	memvhd_set_entry(memfile_file(disk.mem), hole, disk.table[hole + 2]);
	memvhd_set_entry(memfile_file(disk.mem), hole + 2, MEMVHD_UNUSED);
	zero_entries(&disk, hole + 1, 1);
	assert_left(&disk, true);
	memvhd_free(&disk);
}

Test(salvage, bits_beyond_the_end_are_not_those_of_the_last_block)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk;

	options.cut_sectors = 4;
	disk = memvhd_make(&options, &seed);
	zero_entries(&disk, 199, 1);
	memvhd_write_bitmap(&disk, 199, 0x3f);
	assert_left(&disk, true);
	memvhd_free(&disk);
}

/* Images of disks inside the disk, and what is left of other filesystems. */

Test(salvage, mark_that_a_known_block_has_too_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	uint8_t sector[512];

	/* Block 100 begins as block 0 does, whose place block 7 has by mistake. */
	memvhd_read_sector(&disk, 0, 1, sector);
	memvhd_write_sector(&disk, 100, 1, sector);
	memvhd_set_entry(memfile_file(disk.mem), 7, disk.table[0]);
	zero_entries(&disk, 0, 1);
	zero_entries(&disk, 100, 1);
	assert_left(&disk, false);
	memvhd_free(&disk);
}

Test(salvage, superblock_of_another_filesystem_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	uint32_t block = MEMVHD_EXT_BLOCK(5);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	uint8_t sector[512] = { 0 };
	struct said said;

	memvhd_write_sector(&disk, block, 2, sector);
	memvhd_make_superblock(sector, 1600, 5, MEMVHD_EXT_ID + 1);
	memvhd_write_sector(&disk, 100, 2, sector);
	zero_entries(&disk, block, 1);
	zero_entries(&disk, 100, 1);
	assert_left(&disk, false);
	/* With the right UUID it would have been one. */
	memvhd_make_superblock(sector, 1600, 5, MEMVHD_EXT_ID);
	memvhd_write_sector(&disk, 100, 2, sector);
	check(&disk, false, false, &said);
	cr_assert_eq(said.by_mark, 1);
	memvhd_free(&disk);
}

Test(salvage, table_of_a_smaller_disk_is_no_proof)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	uint8_t sector[512];
	struct said said;

	memvhd_make_gpt(sector, 1, 1500, 2, 0);
	memvhd_write_sector(&disk, 100, 1, sector);
	zero_entries(&disk, 0, 1);
	zero_entries(&disk, 100, 1);
	assert_left(&disk, false);
	memvhd_make_gpt(sector, 1, 1599, 2, 0);
	memvhd_write_sector(&disk, 100, 1, sector);
	check(&disk, false, false, &said);
	cr_assert_eq(said.by_mark, 1);
	memvhd_free(&disk);
}

Test(salvage, place_that_says_two_things_says_nothing)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	uint32_t block = MEMVHD_EXT_BLOCK(5);
	unsigned seed = 9;
	struct memvhd disk = memvhd_make(&options, &seed);
	uint8_t sector[512] = { 0 };

	memvhd_write_sector(&disk, block, 2, sector);
	memvhd_make_superblock(sector, 1600, 5, MEMVHD_EXT_ID);
	memvhd_write_sector(&disk, 199, 2, sector); /* in the last sector is a GPT header */
	zero_entries(&disk, block, 1);
	zero_entries(&disk, 199, 1);
	assert_left(&disk, false);
	memvhd_free(&disk);
}

Test(salvage, entry_that_hides_a_lost_block_does_not_prove_that_nothing_is_left)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_NOISE);
	unsigned seed = 9;
	struct memvhd disk;
	uint32_t hole = 5;

	options.layout = MEMVHD_PACKED;
	options.hole_percent = 5;
	disk = memvhd_make(&options, &seed);
	while (disk.table[hole] != MEMVHD_UNUSED)
		hole++;
	cr_assert_neq(disk.table[0], MEMVHD_UNUSED);
	cr_assert_neq(disk.table[1], MEMVHD_UNUSED);
	memvhd_set_entry(memfile_file(disk.mem), 0, 0x70000055);
	memvhd_set_entry(memfile_file(disk.mem), hole, disk.table[0] + 1);
	assert_left(&disk, false);
	memvhd_free(&disk);
}

Test(salvage, entries_that_never_meant_a_block_are_cleared)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_NOISE);
	unsigned seed = 3;
	struct memvhd disk;
	struct said said;

	options.hole_percent = 30;
	disk = memvhd_make(&options, &seed);
	for (uint32_t block = 0; block < 200; block++) {
		if (disk.table[block] == MEMVHD_UNUSED)
			zero_entries(&disk, block, 1);
	}
	check(&disk, true, false, &said);
	cr_assert_eq(said.result.errors, 0);
	cr_assert_eq(said.result.lost_bytes, 0);
	assert_restored(&disk);
	memvhd_free(&disk);
}

Test(salvage, double_claim_is_decided_by_contents_only)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_GPT_EXT);
	unsigned seed = 5;
	struct memvhd disk = memvhd_make(&options, &seed);
	struct said said;

	memvhd_set_entry(memfile_file(disk.mem), 40, disk.table[0]);
	check(&disk, true, true, &said);
	cr_assert(hv_bit_get(said.found, 0));
	cr_assert_eq(memvhd_entry(memfile_file(disk.mem), 0), disk.table[0]);
	cr_assert_eq(memvhd_entry(memfile_file(disk.mem), 40), disk.table[40]); /* by order */
	unlink(undo_path);
	memvhd_free(&disk);
	/* Without contents that say something both stay as they are, whatever the order. */
	options.contents = MEMVHD_NOISE;
	disk = memvhd_make(&options, &seed);
	memvhd_set_entry(memfile_file(disk.mem), 40, disk.table[120]);
	assert_left(&disk, true);
	memvhd_set_entry(memfile_file(disk.mem), 40, disk.table[41]);
	assert_left(&disk, true);
	memvhd_free(&disk);
}

Test(salvage, loser_of_a_double_claim_is_lost)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	unsigned seed = 5;
	struct memvhd disk = memvhd_make(&options, &seed);
	struct said said;

	memvhd_set_entry(memfile_file(disk.mem), 40, disk.table[0]);
	check(&disk, true, false, &said);
	cr_assert_eq(said.lost_runs, 1);
	cr_assert(hv_bit_get(said.lost, 40));
	cr_assert_eq(said.result.lost_bytes, MEMVHD_BLOCK_BYTES);
	cr_assert_eq(said.result.errors, 1);
	cr_assert_eq(said.result.leaks, 1); /* its place, which nothing names */
	cr_assert_eq(memvhd_entry(memfile_file(disk.mem), 40), MEMVHD_UNUSED);
	memvhd_free(&disk);
}

Test(salvage, cut_file_is_not_touched)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_GPT_EXT);
	unsigned seed = 5;
	struct memvhd disk = memvhd_make(&options, &seed);
	struct said said;
	HV_ERR(err);

	zero_entries(&disk, 0, 1);
	cr_assert_eq(hv_file_truncate(memfile_file(disk.mem),
				      (uint64_t)disk.table[150] * 512 + 1024, &err),
		     0);
	check(&disk, true, true, &said);
	for (uint32_t block = 1; block < 200; block++)
		cr_assert_eq(memvhd_entry(memfile_file(disk.mem), block), disk.table[block]);
	cr_assert_eq(memvhd_entry(memfile_file(disk.mem), 0), 0);
	memvhd_free(&disk);
}

struct origin {
	const struct memvhd *disk;
	const uint8_t *bytes; /* before the repair */
	uint64_t size;
};

/* After a cut: undo works; and so does a second repair, which ends where the first would have. */
static void judge_cut(struct memfile *after, void *arg)
{
	const struct origin *origin = arg;
	struct memvhd cut = *origin->disk, again = *origin->disk;
	char first_undo[sizeof(undo_path)];
	struct said said;

	cut.mem = after;
	again.mem = memfile_copy(after);
	memfile_file(after)->writable = memfile_file(again.mem)->writable = true;
	memcpy(first_undo, undo_path, sizeof(first_undo));
	strcat(undo_path, "2");
	check(&again, true, true, &said);
	assert_restored(&again);
	unlink(undo_path);
	memcpy(undo_path, first_undo, sizeof(first_undo));
	check(&cut, false, true, &said);
	cr_assert_eq(vhd_undo(memfile_file(after), undo_path, NULL), 0);
	for (uint64_t at = 0; at < origin->size; at += 4096) {
		uint8_t now[4096];
		size_t length = origin->size - at < 4096 ? origin->size - at : 4096;

		cr_assert_eq(hv_file_pread(memfile_file(after), now, length, at, NULL), 0);
		cr_assert(memcmp(now, origin->bytes + at, length) == 0);
	}
	memvhd_free(&again);
	memvhd_free(&cut);
}

Test(salvage, power_cut_leaves_what_a_repair_or_undo_mends)
{
	struct memvhd_options options = plain(MEMVHD_ASCENDING, MEMVHD_GPT_EXT);
	unsigned seed = first_seed();
	struct vhd_check_options repair = { .repair = true,
					    .ascending = true,
					    .undo_path = undo_path };
	struct vhd_check_result result;
	struct memvhd disk;
	struct memcut *cut;
	struct hv_file *file;
	uint8_t *before;
	uint64_t size;
	HV_ERR(err);

	options.blocks = 400; /* four sectors of the table, and a bad copy of the footer */
	disk = memvhd_make(&options, &seed);
	zero_entries(&disk, 0, options.blocks);
	cr_assert_eq(hv_file_pwrite(memfile_file(disk.mem), "x", 1, 0, NULL), 0);
	read_all(memfile_file(disk.mem), &before, &size);
	cut = memcut_new(disk.mem);
	file = memcut_open(cut);
	cr_assert_eq(vhd_check(file, &repair, &result, &err), 0, "%s", err.sentence);
	cr_assert_eq(result.errors, 0);
	hv_file_close(file);
	memcut_explore(cut, seed, 24, judge_cut, &(struct origin){ &disk, before, size });
	memcut_free(cut);
	free(before);
	memvhd_free(&disk);
}

/* Every entry as the undo file remembers it: a block added since is seen. */
Test(salvage, undo_sees_that_a_block_was_added_since)
{
	struct memvhd_options options = plain(MEMVHD_SCATTERED, MEMVHD_GPT_EXT);
	unsigned seed = 1;
	struct memvhd disk;
	struct said said;
	HV_ERR(err);

	options.hole_percent = 30;
	disk = memvhd_make(&options, &seed);
	zero_entries(&disk, 0, 1);
	check(&disk, true, false, &said);
	cr_assert_eq(said.result.repaired, 1);
	memvhd_set_entry(memfile_file(disk.mem), 150, 0x12345);
	cr_assert_eq(vhd_undo(memfile_file(disk.mem), undo_path, &err), -ESTALE);
	memvhd_set_entry(memfile_file(disk.mem), 150, disk.table[150]);
	cr_assert_eq(vhd_undo(memfile_file(disk.mem), undo_path, &err), 0);
	memvhd_free(&disk);
}
