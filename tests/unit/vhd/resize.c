/*
 * Another virtual size.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/support/memdisk.h"

#define BLOCK (512u << 10)
#define MIB (UINT64_C(1) << 20)

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

TestSuite(resize, .init = setup, .fini = teardown);

static void resize(struct memdisk *disk, uint64_t size)
{
	HV_ERR(err);

	cr_assert_eq(vhd_resize(disk->disk, size, 0, &err), 0, "%s", err.sentence);
	cr_assert_eq(disk->disk->size_bytes, size);
}

Test(resize, dynamic_disk_grows_within_its_table)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL);

	memdisk_write(&disk, 0, 10 * MIB, 1);
	resize(&disk, 40 * MIB);
	memdisk_expect(&disk, 10 * MIB, 30 * MIB, 0);
	memdisk_write(&disk, 39 * MIB, MIB, 2);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(disk.disk->size_bytes, 40 * MIB);
	memdisk_expect(&disk, 0, 10 * MIB, 1);
	memdisk_expect(&disk, 10 * MIB, 29 * MIB, 0);
	memdisk_expect(&disk, 39 * MIB, MIB, 2);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

/* 128 entries fill a sector: beyond, the first block stands in the way. */
Test(resize, table_moves_when_it_has_no_room)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL);
	uint64_t table;

	memdisk_write(&disk, 0, 10 * MIB, 1);
	table = vhd_get_info(disk.disk)->bat_offset;
	resize(&disk, 2000 * MIB);
	cr_assert_neq(vhd_get_info(disk.disk)->bat_offset, table);
	memdisk_write(&disk, 1999 * MIB, MIB, 2);
	memdisk_reopen(&disk, NULL);
	memdisk_expect(&disk, 0, 10 * MIB, 1);
	memdisk_expect(&disk, 10 * MIB, 20 * MIB, 0);
	memdisk_expect(&disk, 1999 * MIB, MIB, 2);
	resize(&disk, 4000 * MIB);
	memdisk_write(&disk, 3999 * MIB, MIB, 3);
	memdisk_reopen(&disk, NULL);
	memdisk_expect(&disk, 0, 10 * MIB, 1);
	memdisk_expect(&disk, 1999 * MIB, MIB, 2);
	memdisk_expect(&disk, 3999 * MIB, MIB, 3);
	memdisk_close(&disk);
	memdisk_check(&disk, true);
}

Test(resize, sizes_that_are_no_number_of_blocks)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB + 512, BLOCK, NULL);

	memdisk_write(&disk, 10 * MIB, 512, 1);
	resize(&disk, 10 * MIB + 1536);
	memdisk_expect(&disk, 10 * MIB, 512, 1);
	memdisk_expect(&disk, 10 * MIB + 512, 1024, 0);
	resize(&disk, 10 * MIB + 1024);
	resize(&disk, 11 * MIB + 512);
	memdisk_expect(&disk, 10 * MIB, 512, 1);
	memdisk_expect(&disk, 10 * MIB + 512, MIB, 0);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(resize, what_shrinking_cut_off_does_not_come_back)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL);
	uint64_t full;

	memdisk_write(&disk, 0, 10 * MIB, 1);
	memdisk_reopen(&disk, NULL);
	full = memdisk_file_bytes(&disk);
	resize(&disk, 5 * MIB + 4096);
	memdisk_expect(&disk, 0, 5 * MIB + 4096, 1);
	memdisk_reopen(&disk, NULL);
	cr_assert_lt(memdisk_file_bytes(&disk), full);
	cr_assert_eq(disk.disk->size_bytes, 5 * MIB + 4096);
	resize(&disk, 10 * MIB);
	memdisk_expect(&disk, 0, 5 * MIB + 4096, 1);
	memdisk_expect(&disk, 5 * MIB + 4096, 5 * MIB - 4096, 0);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(resize, grown_child_does_not_show_its_larger_parent)
{
	struct memdisk parent = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL), child;

	memdisk_write(&parent, 0, 10 * MIB, 1);
	memdisk_flush(&parent);
	child = memdisk_new(loop, VHD_DIFFERENCING, 10 * MIB, BLOCK, &parent);
	memdisk_write(&child, 5 * MIB, 512, 2);
	resize(&child, 5 * MIB + 1024);
	memdisk_reopen(&child, &parent);
	resize(&child, 12 * MIB);
	memdisk_reopen(&child, &parent);
	memdisk_expect(&child, 0, 5 * MIB, 1);
	memdisk_expect(&child, 5 * MIB, 512, 2);
	memdisk_expect(&child, 5 * MIB + 512, 512, 1);
	memdisk_expect(&child, 5 * MIB + 1024, 7 * MIB - 1024, 0);
	memdisk_close(&child);
	memdisk_check(&child, false);
	memdisk_close(&parent);
}

/* The last block is full up to the old end, but not up to the new one. */
Test(resize, child_grows_in_the_session_that_filled_its_last_block)
{
	struct memdisk parent = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL), child;

	memdisk_write(&parent, 0, 10 * MIB, 1);
	memdisk_flush(&parent);
	child = memdisk_new(loop, VHD_DIFFERENCING, 5 * MIB + 1024, BLOCK, &parent);
	memdisk_write(&child, 5 * MIB, 1024, 2);
	memdisk_flush(&child);
	resize(&child, 5 * MIB + 8192);
	memdisk_expect(&child, 5 * MIB + 1024, 7168, 0);
	memdisk_reopen(&child, &parent);
	memdisk_expect(&child, 5 * MIB, 1024, 2);
	memdisk_expect(&child, 5 * MIB + 1024, 7168, 0);
	memdisk_close(&child);
	memdisk_close(&parent);
}

Test(resize, fixed_disk_grows_and_shrinks)
{
	struct memdisk disk = memdisk_new(loop, VHD_FIXED, 10 * MIB, 0, NULL);

	memdisk_write(&disk, 0, 10 * MIB, 1);
	resize(&disk, 10 * MIB + 512);
	memdisk_expect(&disk, 10 * MIB, 512, 0);
	resize(&disk, 12 * MIB);
	memdisk_expect(&disk, 0, 10 * MIB, 1);
	memdisk_expect(&disk, 10 * MIB, 2 * MIB, 0);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(disk.disk->size_bytes, 12 * MIB);
	resize(&disk, 3 * MIB);
	memdisk_reopen(&disk, NULL);
	cr_assert_eq(memdisk_file_bytes(&disk), 3 * MIB + 512);
	memdisk_expect(&disk, 0, 3 * MIB, 1);
	memdisk_close(&disk);
	memdisk_check(&disk, false);
}

Test(resize, refuses_what_the_format_cannot_hold)
{
	struct memdisk disk = memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL);
	static const uint64_t sizes[] = { 0, 513, 10 * MIB + 1, (UINT64_C(2040) << 30) + 512,
					  UINT64_C(1) << 62 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		HV_ERR(err);

		cr_assert_eq(vhd_resize(disk.disk, sizes[i], 0, &err), -EINVAL);
		cr_assert_eq(disk.disk->size_bytes, 10 * MIB);
	}
	memdisk_close(&disk);
}

/* Whatever fails, the disk has one of the two sizes and goes on working. */
Test(resize, failing_writes_and_barriers_leave_a_sound_disk)
{
	static const uint64_t sizes[] = { 2000 * MIB, 12 * MIB, 3 * MIB };

	for (int op = MEM_WRITE; op <= MEM_BARRIER; op++) {
		for (unsigned i = 0; i < 3; i++) {
			int rc = -1;

			for (unsigned nth = 1; rc && nth < 100; nth++) {
				struct memdisk disk =
					memdisk_new(loop, VHD_DYNAMIC, 10 * MIB, BLOCK, NULL);

				memdisk_write(&disk, 0, 3 * MIB, 1);
				memdisk_flush(&disk);
				memfile_fail(disk.mem, (enum memfile_op)op, nth, -EIO);
				rc = vhd_resize(disk.disk, sizes[i], 0, NULL);
				memfile_fail(disk.mem, (enum memfile_op)op, 0, 0);
				memdisk_expect(&disk, 0, 3 * MIB, 1);
				cr_assert(disk.disk->size_bytes == 10 * MIB ||
					  disk.disk->size_bytes == sizes[i]);
				memdisk_drop(&disk);
				memdisk_open(&disk, NULL);
				memdisk_expect(&disk, 0, 3 * MIB, 1);
				memdisk_close(&disk);
				memdisk_sweep();
			}
			cr_assert_eq(rc, 0);
		}
	}
}
