/*
 * The engine's children: what they do not hold shows their parent, and what is written to them or
 * zeroed in them hides it, sector by sector.
 */
#include "tests/unit/vhd/engine.h"

#include <errno.h>

TestSuite(engine, .init = setup, .fini = teardown);

/* The child's bitmap of a block, of 512 KiB. */
static void child_bitmap(uint32_t block, uint8_t bitmap[128])
{
	struct hv_disk *disk = open_disk("child.vhd", false);
	uint64_t bat = vhd_get_info(disk)->bat_offset;

	hv_disk_close(disk);
	cr_assert_neq(be32_at("child.vhd", bat + block * 4), UNUSED);
	read_at("child.vhd", UINT64_C(512) * be32_at("child.vhd", bat + block * 4), bitmap, 128);
}

Test(engine, write_to_unallocated_child_keeps_parent_sectors)
{
	uint64_t sectors = 4 * MIB / 512;
	struct hv_disk *disk;
	uint8_t bitmap[128];

	make_parent_and_child(4 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	write_stamp(disk, 1024 + 37, 4711);
	flush(disk);
	for (int pass = 0; pass < 2; pass++) {
		for (uint64_t i = 0; i < sectors; i++)
			cr_assert_eq(read_stamp(disk, i),
				     i == 1024 + 37      ? 4711 :
				     i < sectors / 4 * 3 ? i + 1 :
							   0,
				     "sector %llu", (unsigned long long)i);
		hv_disk_close(disk);
		disk = open_child("child.vhd", false, "parent.vhd");
	}
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 1);
	hv_disk_close(disk);
	child_bitmap(1, bitmap);
	for (unsigned i = 0; i < 128; i++)
		cr_assert_eq(bitmap[i], i == 4 ? 0x04 : 0, "byte %u of the bitmap: %02x", i,
			     bitmap[i]);
}

Test(engine, zeros_in_a_child_hide_the_parents_data)
{
	struct hv_disk *disk;
	uint8_t bitmap[128];
	HV_ERR(err);

	make_parent_and_child(4 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	/* Over zeros of the parent there is nothing to do. */
	must(hv_disk_zero(disk, MIB, 3 * MIB, &err), &err);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 0);
	/* Over data there is: for 3 sectors, in one block. */
	must(hv_disk_zero(disk, 3 * 512, 2 * 512, &err), &err);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 1);
	/* In an allocated block, too. */
	must(hv_disk_zero(disk, 512, 100 * 512, &err), &err);
	/* Across the end of the parent's data. */
	must(hv_disk_zero(disk, MIB, 3 * MIB - 512, &err), &err);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 2);
	flush(disk);
	for (int pass = 0; pass < 2; pass++) {
		for (uint64_t i = 0; i < 8192; i++) {
			bool zero = (i >= 2 && i < 5) || i == 100 || i >= 6143;

			cr_assert_eq(read_stamp(disk, i), zero ? 0 : i + 1, "sector %llu",
				     (unsigned long long)i);
		}
		hv_disk_close(disk);
		disk = open_child("child.vhd", false, "parent.vhd");
	}
	hv_disk_close(disk);
	child_bitmap(0, bitmap);
	cr_assert_eq(bitmap[0], 0x38);
	cr_assert_eq(bitmap[12], 0x08);
	for (unsigned i = 1; i < 128; i++)
		cr_assert(i == 12 || bitmap[i] == 0);
}

Test(engine, child_without_its_parent_gives_what_it_holds)
{
	struct hv_extent extent;
	struct hv_disk *disk;
	uint8_t data[512];
	HV_ERR(err);

	make_parent_and_child(4 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	write_stamp(disk, 5, 6);
	flush(disk);
	hv_disk_close(disk);
	disk = open_disk("child.vhd", false);
	cr_assert_eq(read_stamp(disk, 5), 6);
	cr_assert_eq(hv_disk_pread(disk, data, 512, 4 * 512, &err), -ENOENT);
	cr_assert(strstr(err.sentence, "parent"), "%s", err.sentence);
	must(hv_disk_extent(disk, 0, 4 * MIB, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_UNMAPPED);
	cr_assert_eq(extent.length, 5 * 512);
	hv_disk_close(disk);
}

Test(engine, extents_of_a_child_tell_the_layer)
{
	struct hv_disk *disk;

	make_parent_and_child(4 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	write_stamp(disk, 1030, 1);
	write_stamp(disk, 8000, 2);
	assert_extent(disk, 0, 0, HV_EXTENT_DATA, 1, 1024);
	assert_extent(disk, 1024, 0, HV_EXTENT_DATA, 1, 6);
	assert_extent(disk, 1030, 0, HV_EXTENT_DATA, 0, 1);
	assert_extent(disk, 1031, 0, HV_EXTENT_DATA, 1, 1017);
	assert_extent(disk, 6144, 0, HV_EXTENT_ZERO, 0, 8000 - 6144);
	assert_extent(disk, 8000, 0, HV_EXTENT_DATA, 0, 1);
	assert_extent(disk, 8001, 0, HV_EXTENT_ZERO, 0, 191);
	hv_disk_close(disk);
}
