/*
 * Discard: whole blocks leave the table, and their space is used again.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/crash/world.h"
#include "tests/support/memdisk.h"
#include "vhd/footer.h"
#include "vhd/image.h"

#define BLOCK (512u << 10)
#define SIZE (20 * (uint64_t)BLOCK + 1536) /* the last block reaches beyond the disk */

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

TestSuite(space, .init = setup, .fini = teardown);

static struct memdisk dynamic(void)
{
	return memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
}

static void discard(struct memdisk *disk, uint64_t offset, uint64_t length)
{
	HV_ERR(err);

	cr_assert_eq(hv_disk_discard(disk->disk, length, offset, &err), 0, "%s", err.sentence);
}

Test(space, discarded_block_reads_zero_and_leaves_the_table)
{
	struct memdisk disk = dynamic();

	memdisk_write(&disk, 0, 3 * BLOCK, 1);
	memdisk_flush(&disk);
	discard(&disk, BLOCK, BLOCK);
	memdisk_expect(&disk, BLOCK, BLOCK, 0);
	memdisk_expect(&disk, 0, BLOCK, 1);
	memdisk_expect(&disk, 2 * BLOCK, BLOCK, 1);
	cr_assert_eq(memdisk_allocated(&disk), 2);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_allocated(&disk), 2);
	memdisk_expect(&disk, BLOCK, BLOCK, 0);
	memdisk_expect(&disk, 2 * BLOCK, BLOCK, 1);
	memdisk_close(&disk);
	memdisk_check(&disk, true);
}

Test(space, part_of_a_block_stays_allocated_and_reads_zero)
{
	struct memdisk disk = dynamic();

	memdisk_write(&disk, 0, BLOCK, 1);
	discard(&disk, 4096, 8192);
	memdisk_expect(&disk, 4096, 8192, 0);
	memdisk_expect(&disk, 0, 4096, 1);
	cr_assert_eq(memdisk_allocated(&disk), 1);
	memdisk_reopen(&disk, NULL);
	memdisk_expect(&disk, 4096, 8192, 0);
	memdisk_expect(&disk, 12288, BLOCK - 12288, 1);
	memdisk_close(&disk);
}

Test(space, short_last_block_is_dropped_whole)
{
	struct memdisk disk = dynamic();

	memdisk_write(&disk, 20 * (uint64_t)BLOCK, 1536, 1);
	discard(&disk, 20 * (uint64_t)BLOCK, 1536);
	cr_assert_eq(memdisk_allocated(&disk), 0);
	memdisk_close(&disk);
}

Test(space, freed_space_is_used_before_the_file_grows)
{
	struct memdisk disk = dynamic();
	uint64_t size;

	memdisk_write(&disk, 0, 10 * BLOCK, 1);
	memdisk_reopen(&disk, NULL);
	size = memdisk_file_bytes(&disk);
	for (unsigned round = 2; round < 50; round++) {
		unsigned block = round % 10;

		discard(&disk, block * (uint64_t)BLOCK, BLOCK);
		memdisk_flush(&disk);
		memdisk_write(&disk, block * (uint64_t)BLOCK + 4096, 4096, round);
		memdisk_expect(&disk, block * (uint64_t)BLOCK + 4096, 4096, round);
		memdisk_expect(&disk, block * (uint64_t)BLOCK, 4096, 0);
		memdisk_expect(&disk, block * (uint64_t)BLOCK + 8192, BLOCK - 8192, 0);
	}
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_file_bytes(&disk), size);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(space, space_is_not_used_again_before_a_flush)
{
	struct memdisk disk = dynamic();
	uint64_t size;

	memdisk_write(&disk, 0, 2 * BLOCK, 1);
	memdisk_reopen(&disk, NULL);
	size = memdisk_file_bytes(&disk);
	discard(&disk, 0, BLOCK);
	memdisk_write(&disk, 5 * (uint64_t)BLOCK, 4096, 2);
	cr_assert_gt(memdisk_file_bytes(&disk), size);
	memdisk_close(&disk);
}

Test(space, last_blocks_are_cut_off_when_closed)
{
	struct memdisk disk = dynamic();
	uint64_t size;

	memdisk_write(&disk, 0, 2 * BLOCK, 1);
	memdisk_reopen(&disk, NULL);
	size = memdisk_file_bytes(&disk);
	memdisk_write(&disk, 2 * BLOCK, 5 * BLOCK, 1);
	memdisk_flush(&disk);
	discard(&disk, 2 * BLOCK, 5 * BLOCK);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_file_bytes(&disk), size);
	memdisk_expect(&disk, 0, 2 * BLOCK, 1);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(space, gaps_of_an_earlier_session_are_cleared_and_used)
{
	struct memdisk disk = dynamic();
	uint64_t size;

	memdisk_write(&disk, 0, 6 * BLOCK, 1);
	memdisk_flush(&disk);
	discard(&disk, BLOCK, 2 * BLOCK);
	memdisk_reopen(&disk, NULL);
	size = memdisk_file_bytes(&disk);
	memdisk_write(&disk, 10 * (uint64_t)BLOCK + 512, 512, 3);
	memdisk_write(&disk, 12 * (uint64_t)BLOCK + 512, 512, 3);
	memdisk_expect(&disk, 10 * (uint64_t)BLOCK, 512, 0);
	memdisk_expect(&disk, 10 * (uint64_t)BLOCK + 1024, BLOCK - 1024, 0);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_file_bytes(&disk), size);
	memdisk_expect(&disk, 12 * (uint64_t)BLOCK + 512, 512, 3);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

/* What nobody discarded: a writer of another kind has left it, or a power cut. */
Test(space, gap_full_of_old_data_is_cleared_before_it_is_used)
{
	struct memdisk disk = dynamic();
	uint64_t entry, size;

	memdisk_write(&disk, 0, 4 * BLOCK, 1);
	entry = vhd_get_info(disk.disk)->bat_offset + 4;
	memdisk_close(&disk);
	size = memdisk_file_bytes(&disk);
	cr_assert_eq(hv_file_pwrite(memfile_file(disk.mem), "\xff\xff\xff\xff", 4, entry, NULL), 0);
	memdisk_open(&disk, NULL);
	memdisk_write(&disk, 8 * (uint64_t)BLOCK + 512, 512, 3);
	memdisk_expect(&disk, 8 * (uint64_t)BLOCK, 512, 0);
	memdisk_expect(&disk, 8 * (uint64_t)BLOCK + 1024, BLOCK - 1024, 0);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_file_bytes(&disk), size);
	memdisk_expect(&disk, 8 * (uint64_t)BLOCK + 512, 512, 3);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(space, child_keeps_zeros_over_its_parents_data)
{
	struct memdisk parent = dynamic(), child;

	memdisk_write(&parent, 0, 2 * BLOCK, 1);
	memdisk_flush(&parent);
	child = memdisk_new(loop, VHD_DIFFERENCING, SIZE, BLOCK, &parent);
	memdisk_write(&child, 0, BLOCK, 2);
	discard(&child, 0, 2 * BLOCK);
	memdisk_expect(&child, 0, 2 * BLOCK, 0);
	cr_assert_eq(memdisk_allocated(&child), 2);
	memdisk_reopen(&child, &parent);
	memdisk_expect(&child, 0, 2 * BLOCK, 0);
	memdisk_close(&child);
	memdisk_check(&child, false);
	memdisk_close(&parent);
}

Test(space, child_drops_a_block_where_its_parent_is_zero)
{
	struct memdisk parent = dynamic(), child;

	memdisk_write(&parent, 0, BLOCK, 1);
	memdisk_flush(&parent);
	child = memdisk_new(loop, VHD_DIFFERENCING, SIZE, BLOCK, &parent);
	memdisk_write(&child, BLOCK + 1024, 1024, 2);
	discard(&child, BLOCK, BLOCK);
	cr_assert_eq(memdisk_allocated(&child), 0);
	/* And is written again, with other sectors. */
	memdisk_write(&child, BLOCK + 4096, 512, 3);
	memdisk_expect(&child, BLOCK + 1024, 1024, 0);
	memdisk_reopen(&child, &parent);
	memdisk_expect(&child, BLOCK, 4096, 0);
	memdisk_expect(&child, BLOCK + 4096, 512, 3);
	memdisk_close(&child);
	memdisk_check(&child, true);
	memdisk_close(&parent);
}

/* A block that is dropped and taken again while a commit is under way. */
struct flight {
	struct hv_io io;
	struct iovec iov;
	bool done;
	int result;
};

static void landed(struct hv_io *io, int result)
{
	struct flight *flight = (struct flight *)io;

	flight->done = true;
	flight->result = result;
}

Test(space, dropping_during_a_commit_waits_for_the_next)
{
	struct memdisk disk = dynamic();
	struct flight flush = { .io = { .op = HV_FLUSH, .done = landed } };
	struct flight drop = { .io = { .op = HV_DISCARD, .length = BLOCK, .done = landed } };

	memdisk_write(&disk, 0, BLOCK, 1);
	hv_disk_submit(disk.disk, &flush.io);
	hv_disk_submit(disk.disk, &drop.io);
	memdisk_write(&disk, 512, 512, 2);
	while (!flush.done || !drop.done)
		hv_loop_turn(loop, true);
	cr_assert_eq(flush.result | drop.result, 0);
	memdisk_expect(&disk, 0, 512, 0);
	memdisk_expect(&disk, 512, 512, 2);
	memdisk_reopen(&disk, NULL);
	memdisk_expect(&disk, 0, 512, 0);
	memdisk_expect(&disk, 512, 512, 2);
	memdisk_expect(&disk, 1024, BLOCK - 1024, 0);
	memdisk_close(&disk);
	memdisk_check(&disk, true);
}

/* A disk of blocks of 4 KiB, of which one lies far behind all others. */
static struct hv_file *file_with_a_wide_gap(struct crash_world *world, uint64_t place)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC,
					      .size_bytes = 128 * (uint64_t)BLOCK,
					      .block_bytes = BLOCK };
	hv_be32 entry = hv_be32_make((uint32_t)(place / HV_SECTOR_SIZE));
	uint64_t ends[] = { 0, place + 512 + 4096 };
	struct vhd_disk_header header;
	struct vhd_disk_footer footer;
	struct hv_file *file;
	HV_ERR(err);

	cr_assert_eq(crash_create(world, "disk.vhd", true, &file, &err), 0);
	cr_assert_eq(vhd_create(file, &options, &err), 0);
	cr_assert_eq(hv_file_pread(file, &header, sizeof(header), 512, &err), 0);
	header.block_size = hv_be32_make(4096);
	vhd_header_seal(&header);
	cr_assert_eq(hv_file_pwrite(file, &header, sizeof(header), 512, &err), 0);
	cr_assert_eq(hv_file_pwrite(file, &entry, 4, hv_be64_get(header.bat_offset), &err), 0);
	cr_assert_eq(hv_file_pread(file, &footer, sizeof(footer), 0, &err), 0);
	vhd_footer_set_size(&footer, 128 * 4096);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(hv_file_pwrite(file, &footer, sizeof(footer), ends[i], &err), 0);
	return file;
}

/* Tiny blocks, and a sparse file: nothing but a bound keeps the memory for its gaps small. */
Test(space, not_all_gaps_of_a_huge_file_are_remembered)
{
	struct crash_stage *stage = crash_stage_new(loop, 1);
	struct crash_world *world = crash_world_new(stage);
	struct hv_file *file = file_with_a_wide_gap(world, UINT64_C(20) << 30);
	uint64_t size = file->size_bytes;
	uint8_t data[HV_SECTOR_SIZE], back[HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	memset(data, 'x', sizeof(data));
	cr_assert_eq(vhd_open(file, 0, &disk, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_disk_pwrite(disk, data, sizeof(data), 8192, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_disk_pread(disk, back, sizeof(back), 8192, &err), 0, "%s", err.sentence);
	cr_assert_eq(memcmp(data, back, sizeof(data)), 0);
	cr_assert_eq(file->size_bytes, size, "the first gaps are used");
	cr_assert_leq(vhd_of(disk)->space.gaps.limit, 2u << 20);
	hv_disk_close(disk);
	crash_world_free(world);
	crash_stage_free(stage);
}
