/*
 * Compacting: what holds nothing goes, the rest moves together, and nothing is read otherwise.
 */
#include "vhd/compact.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/support/memdisk.h"

#define BLOCK (512u << 10)
#define BLOCKS 24
#define SIZE (BLOCKS * (uint64_t)BLOCK)

static struct hv_loop *loop;

static void setup(void)
{
	cr_assert_eq(hv_loop_new(&loop, NULL), 0);
}

static void teardown(void)
{
	memdisk_sweep();
	hv_loop_free(loop);
}

TestSuite(compact, .init = setup, .fini = teardown);

static struct vhd_compact_result compact(struct memdisk *disk,
					 const struct vhd_compact_options *options)
{
	struct vhd_compact_result result;
	HV_ERR(err);

	cr_assert_eq(vhd_compact(disk->disk, options, &result, &err), 0, "%s", err.sentence);
	return result;
}

/* Blocks in an order that is not theirs, some of them zeroed; returns the generation of each. */
static void scatter(struct memdisk *disk, unsigned *generation)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		unsigned block = i * 7 % BLOCKS;

		generation[block] = i % 3 == 1 ? 0 : i + 1;
		memdisk_write(disk, block * (uint64_t)BLOCK, BLOCK, generation[block]);
	}
	memdisk_flush(disk);
}

static void expect_all(struct memdisk *disk, const unsigned *generation)
{
	for (unsigned block = 0; block < BLOCKS; block++)
		memdisk_expect(disk, block * (uint64_t)BLOCK, BLOCK, generation[block]);
}

Test(compact, zero_blocks_go_and_the_file_is_as_small_as_if_written_anew)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct memdisk fresh = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { 0 }, dry = { .dry_run = true };
	struct vhd_compact_result result, expected;
	unsigned generation[BLOCKS];

	scatter(&disk, generation);
	expected = compact(&disk, &dry);
	cr_assert_eq(memdisk_allocated(&disk), BLOCKS);
	result = compact(&disk, &options);
	cr_assert_eq(result.blocks, BLOCKS);
	cr_assert_eq(result.freed_blocks, 8);
	cr_assert_eq(expected.freed_blocks, 8);
	cr_assert_gt(result.moved_blocks, 0);
	expect_all(&disk, generation);
	memdisk_reopen(&disk, NULL);
	expect_all(&disk, generation);
	memdisk_write(&fresh, 0, 16 * BLOCK, 1);
	memdisk_close(&fresh);
	cr_assert_eq(memdisk_file_bytes(&disk), memdisk_file_bytes(&fresh));
	cr_assert_eq(result.file_bytes_after, memdisk_file_bytes(&fresh));
	cr_assert_eq(expected.file_bytes_after, memdisk_file_bytes(&fresh));
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(compact, disk_goes_on_after_it)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { 0 };
	unsigned generation[BLOCKS];

	scatter(&disk, generation);
	compact(&disk, &options);
	for (unsigned block = 0; block < BLOCKS; block += 2) {
		generation[block] = 100 + block;
		memdisk_write(&disk, block * (uint64_t)BLOCK, BLOCK, generation[block]);
	}
	expect_all(&disk, generation);
	memdisk_reopen(&disk, NULL);
	expect_all(&disk, generation);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(compact, second_run_finds_nothing_to_do)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { 0 };
	struct vhd_compact_result result;
	unsigned generation[BLOCKS];

	scatter(&disk, generation);
	compact(&disk, &options);
	result = compact(&disk, &options);
	cr_assert_eq(result.freed_blocks, 0);
	cr_assert_eq(result.moved_blocks, 0);
	cr_assert_eq(result.file_bytes_after, result.file_bytes_before);
	memdisk_close(&disk);
}

Test(compact, gaps_of_earlier_sessions_are_closed)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { 0 };
	struct vhd_compact_result result;
	HV_ERR(err);

	memdisk_write(&disk, 0, SIZE, 1);
	memdisk_flush(&disk);
	cr_assert_eq(hv_disk_discard(disk.disk, 5 * BLOCK, 0, &err), 0);
	memdisk_reopen(&disk, NULL);
	result = compact(&disk, &options);
	cr_assert_eq(result.moved_blocks, 5);
	memdisk_expect(&disk, 0, 5 * BLOCK, 0);
	memdisk_expect(&disk, 5 * BLOCK, SIZE - 5 * BLOCK, 1);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

/* Sectors whose bit is clear are zero, whatever lies there: a block takes its bitmap along. */
Test(compact, moved_block_keeps_its_absent_sectors)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { 0 };
	uint8_t entry[4], bits = 0x0f;
	uint64_t bat;

	memdisk_write(&disk, 0, BLOCK, 0);
	memdisk_write(&disk, 3 * BLOCK, BLOCK, 1);
	bat = vhd_get_info(disk.disk)->bat_offset;
	memdisk_close(&disk);
	cr_assert_eq(hv_file_pread(memfile_file(disk.mem), entry, 4, bat + 3 * 4, NULL), 0);
	cr_assert_eq(hv_file_pwrite(memfile_file(disk.mem), &bits, 1,
				    ((uint64_t)entry[2] << 8 | entry[3]) * 512, NULL),
		     0);
	memdisk_open(&disk, NULL);
	memdisk_expect(&disk, 3 * BLOCK, 2048, 0);
	cr_assert_eq(compact(&disk, &options).moved_blocks, 1);
	for (int i = 0; i < 2; i++) {
		memdisk_expect(&disk, 3 * BLOCK, 2048, 0);
		memdisk_expect(&disk, 3 * BLOCK + 2048, BLOCK - 2048, 1);
		memdisk_reopen(&disk, NULL);
	}
	memdisk_close(&disk);
}

Test(compact, child_frees_only_what_the_parent_also_reads_as)
{
	struct memdisk parent = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL), child;
	struct vhd_compact_options options = { 0 };
	struct vhd_compact_result result;

	memdisk_write(&parent, 0, 2 * BLOCK, 1);
	memdisk_write(&parent, 2 * BLOCK, BLOCK, 0); /* allocated, and zero by its contents */
	memdisk_flush(&parent);
	child = memdisk_new(loop, VHD_DIFFERENCING, SIZE, BLOCK, &parent);
	memdisk_write(&child, 0, BLOCK, 2);
	memdisk_write(&child, BLOCK, 4096, 0);     /* over data */
	memdisk_write(&child, 2 * BLOCK, 4096, 0); /* over zeros */
	memdisk_write(&child, 3 * BLOCK, 4096, 0); /* over nothing */
	memdisk_write(&child, 4 * BLOCK + 512, 1024, 3);
	memdisk_flush(&child);
	result = compact(&child, &options);
	cr_assert_eq(result.freed_blocks, 2);
	for (int i = 0; i < 2; i++) {
		memdisk_expect(&child, 0, BLOCK, 2);
		memdisk_expect(&child, BLOCK, 4096, 0);
		memdisk_expect(&child, BLOCK + 4096, BLOCK - 4096, 1);
		memdisk_expect(&child, 2 * BLOCK, 2 * BLOCK + 512, 0);
		memdisk_expect(&child, 4 * BLOCK + 512, 1024, 3);
		memdisk_reopen(&child, &parent);
	}
	memdisk_close(&child);
	memdisk_check(&child, false);
	memdisk_close(&parent);
}

Test(compact, punching_keeps_blocks_where_they_are)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { .punch = true };
	struct vhd_compact_result result;

	memdisk_write(&disk, 0, 4 * BLOCK, 1);
	memdisk_write(&disk, BLOCK, BLOCK, 0);
	memdisk_write(&disk, 2 * BLOCK + (128 << 10), 256 << 10, 0);
	memdisk_flush(&disk);
	result = compact(&disk, &options);
	cr_assert_eq(result.freed_blocks, 1);
	cr_assert_eq(result.moved_blocks, 0);
	cr_assert_eq(result.punched_bytes, 256 << 10);
	memdisk_expect(&disk, 0, BLOCK, 1);
	memdisk_expect(&disk, BLOCK, BLOCK, 0);
	memdisk_expect(&disk, 2 * BLOCK, 128 << 10, 1);
	memdisk_expect(&disk, 2 * BLOCK + (128 << 10), 256 << 10, 0);
	memdisk_expect(&disk, 3 * BLOCK, BLOCK, 1);
	memdisk_close(&disk);
	memdisk_check(&disk, true);
}

static void assert_zeros(const struct memdisk *disk, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += 4096) {
		char page[4096], zero[4096] = { 0 };
		size_t n = to - at < sizeof(page) ? (size_t)(to - at) : sizeof(page);

		cr_assert_eq(hv_file_pread(memfile_file(disk->mem), page, n, at, NULL), 0);
		cr_assert(!memcmp(page, zero, n), "byte %llu", (unsigned long long)at);
	}
}

/* What is cut off or left behind has been zeros for some time before. */
Test(compact, overwriting_leaves_no_trace_of_what_was_there)
{
	struct vhd_compact_options options = { .overwrite = true };
	struct vhd_compact_result result;
	uint64_t size = 0;

	/* The second file is seen as it was right before it was cut. */
	for (int cannot_be_cut = 0; cannot_be_cut < 2; cannot_be_cut++) {
		struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
		unsigned generation[BLOCKS];

		scatter(&disk, generation);
		memdisk_reopen(&disk, NULL);
		memfile_fail(disk.mem, MEM_TRUNCATE, (unsigned)cannot_be_cut, -EIO);
		cr_assert_eq(vhd_compact(disk.disk, &options, &result, NULL),
			     cannot_be_cut ? -EIO : 0);
		if (!cannot_be_cut)
			size = memdisk_file_bytes(&disk);
		cr_assert(!cannot_be_cut || memdisk_file_bytes(&disk) > size);
		assert_zeros(&disk, size, memdisk_file_bytes(&disk) - VHD_FOOTER_BYTES);
		expect_all(&disk, generation);
		memdisk_drop(&disk);
	}
}

static bool upper_half(uint64_t offset, uint64_t length, void *arg)
{
	(void)length;
	(void)arg;
	return offset >= SIZE / 2;
}

Test(compact, what_a_filesystem_does_not_use_is_given_up)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	struct vhd_compact_options options = { .unused = upper_half };

	memdisk_write(&disk, 0, SIZE, 1);
	memdisk_flush(&disk);
	cr_assert_eq(compact(&disk, &options).freed_blocks, BLOCKS / 2);
	memdisk_expect(&disk, 0, SIZE / 2, 1);
	memdisk_expect(&disk, SIZE / 2, SIZE / 2, 0);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(compact, fixed_and_read_only_disks_are_refused)
{
	struct memdisk disk = memdisk_new(loop, VHD_FIXED, SIZE, 0, NULL);
	struct vhd_compact_options options = { 0 };
	struct vhd_compact_result result;

	cr_assert_eq(vhd_compact(disk.disk, &options, &result, NULL), -EINVAL);
	memdisk_close(&disk);
}

Test(compact, failing_operations_lose_nothing)
{
	for (int op = MEM_WRITE; op <= MEM_BARRIER; op++) {
		int rc = -1;

		for (unsigned nth = 1; rc && nth < 500; nth++) {
			struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
			struct vhd_compact_options options = { 0 };
			struct vhd_compact_result result;
			unsigned generation[BLOCKS];

			scatter(&disk, generation);
			memfile_fail(disk.mem, (enum memfile_op)op, nth, -EIO);
			rc = vhd_compact(disk.disk, &options, &result, NULL);
			/* What cannot be cleared is a leak, and no failure. */
			if (op == MEM_ZERO && nth > 64)
				rc = 0;
			memfile_fail(disk.mem, (enum memfile_op)op, 0, 0);
			expect_all(&disk, generation);
			memdisk_drop(&disk);
			memdisk_check(&disk, true);
			memdisk_open(&disk, NULL);
			expect_all(&disk, generation);
			memdisk_close(&disk);
			memdisk_sweep();
		}
		cr_assert_eq(rc, 0);
	}
}
