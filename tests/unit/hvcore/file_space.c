/*
 * Files: the space that they take, their holes, and their ends.
 */
#include "tests/unit/hvcore/file.h"

TestSuite(file, .init = setup, .fini = teardown);

Test(file, reserving_changes_neither_size_nor_contents)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_file_layout layout;
	uint8_t data[3 * PAGE], back[3 * PAGE];
	int rc;

	fill_random(data, sizeof(data));
	put(file, data, sizeof(data), 0);
	rc = hv_file_reserve(file, 0, 4 * MIB);
	if (rc == -EOPNOTSUPP)
		cr_skip_test("the filesystem cannot reserve");
	cr_assert_eq(rc, 0);
	cr_assert_geq(allocated(file), 4 * MIB);
	cr_assert_eq(file->size_bytes, sizeof(data));
	cr_assert_eq(real_size(file), sizeof(data));
	get(file, back, sizeof(back), 0);
	cr_assert_eq(memcmp(data, back, sizeof(data)), 0);
	cr_assert_eq(hv_file_truncate(file, 4 * MIB, NULL), 0);
	get(file, back, sizeof(back), MIB);
	for (size_t i = 0; i < sizeof(back); i++)
		cr_assert_eq(back[i], 0);
	if (hv_file_layout(file, 0, 4 * MIB, &layout) == 0) {
		cr_assert_eq(layout.allocated_bytes, 4 * MIB);
		if (!strcmp(hv_file_fs_name(file), "ext4") ||
		    !strcmp(hv_file_fs_name(file), "xfs")) {
			cr_assert_eq(layout.unwritten_bytes, 4 * MIB - sizeof(data));
			cr_assert_eq(layout.unknown_bytes, 0);
		}
		/* A part of it. */
		must(hv_file_layout(file, PAGE, 2 * PAGE, &layout), NULL);
		cr_assert_eq(layout.allocated_bytes, 2 * PAGE);
		cr_assert_eq(layout.unwritten_bytes, 0);
	}
	cr_assert_neq(hv_file_reserve(file, 0, UINT64_C(1) << 60), 0);
	hv_file_close(file);
}

Test(file, layout_counts_extents_and_holes)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_file_layout layout;
	uint8_t data[64 << 10];
	int rc;

	fill_random(data, sizeof(data));
	for (unsigned i = 0; i < 600; i++)
		put(file, data, PAGE, (uint64_t)i * 4 * PAGE);
	put(file, "x", 1, 40 * MIB - 1);
	rc = hv_file_layout(file, 0, 40 * MIB, &layout);
	if (rc == -EOPNOTSUPP)
		cr_skip_test("the filesystem has no FIEMAP");
	cr_assert_eq(rc, 0);
	cr_assert_geq(layout.allocated_bytes, 601 * PAGE);
	cr_assert_leq(layout.allocated_bytes, allocated(file));
	cr_assert_geq(layout.extents, 600, "more than one call's worth");
	cr_assert_eq(layout.unwritten_bytes, 0);
	hv_file_close(file);
}

Test(file, zeroing_keeps_the_neighbours)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = { { 0, 1 },          { 100, 3000 },      { 4095, 2 },       { 70000, 65535 },
		       { 200001, 65536 }, { 300000, 200000 }, { 524288, 262144 } };
	uint8_t *model = malloc(MIB), *back = malloc(MIB);
	HV_ERR(err);

	for (int direct = 0; direct < 2; direct++) {
		struct hv_file *file = create_file("file", direct ? HV_FILE_DIRECT : 0, false);

		fill_random(model, MIB);
		put(file, model, MIB, 0);
		for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			must(hv_file_zero(file, ranges[i].offset, ranges[i].length, &err), &err);
			memset(model + ranges[i].offset, 0, ranges[i].length);
			get(file, back, MIB, 0);
			cr_assert_eq(memcmp(model, back, MIB), 0, "range %u", i);
		}
		/* Beyond the end nothing happens. */
		must(hv_file_zero(file, MIB - 10, 2 * MIB, &err), &err);
		must(hv_file_zero(file, 3 * MIB, MIB, &err), &err);
		cr_assert_eq(file->size_bytes, MIB);
		memset(model + MIB - 10, 0, 10);
		get(file, back, MIB, 0);
		cr_assert_eq(memcmp(model, back, MIB), 0);
		hv_file_close(file);
	}
	free(model);
	free(back);
}

Test(file, data_and_holes)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_extent extent;
	uint64_t data = 1, hole = 1;
	HV_ERR(err);

	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	cr_assert(data == 0 && hole == 0, "an empty file has none");
	must(hv_file_truncate(file, 8 * MIB, &err), &err);
	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	if (data == 0 && hole == 8 * MIB)
		cr_skip_test("the filesystem knows no holes");
	cr_assert(data == 8 * MIB && hole == 8 * MIB);
	put(file, "x", 1, 2 * MIB);
	put(file, "x", 1, 8 * MIB - 100);
	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	cr_assert_gt(data, MIB);
	cr_assert_leq(data, 2 * MIB);
	cr_assert_gt(hole, 2 * MIB);
	cr_assert_lt(hole, 3 * MIB);
	must(hv_file_next_data(file, 2 * MIB, &data, &hole), NULL);
	cr_assert_eq(data, 2 * MIB);
	must(hv_file_next_data(file, 5 * MIB, &data, &hole), NULL);
	cr_assert_gt(data, 7 * MIB);
	cr_assert_eq(hole, 8 * MIB);
	must(hv_file_next_data(file, 8 * MIB, &data, &hole), NULL);
	cr_assert(data == 8 * MIB && hole == 8 * MIB);

	must(hv_file_extent(file, 0, 8 * MIB, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.host_offset, HV_NO_HOST_OFFSET);
	cr_assert_leq(extent.length, 2 * MIB);
	must(hv_file_extent(file, 2 * MIB, 8 * MIB, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_DATA);
	cr_assert_eq(extent.host_offset, 2 * MIB);
	must(hv_file_extent(file, 2 * MIB, 512, 0, &extent, &err), &err);
	cr_assert_eq(extent.length, 512);
	must(hv_file_extent(file, 5 * MIB, 512, 0, &extent, &err), &err);
	cr_assert(extent.state == HV_EXTENT_ZERO && extent.length == 512);
	hv_file_close(file);
}

Test(file, behind_a_file_that_ends_within_a_sector_is_a_hole)
{
	struct hv_file *file;
	struct hv_extent extent;
	HV_ERR(err);

	must(hv_file_create("f", HV_FILE_WRITE, false, loop, &file, &err), &err);
	must(hv_file_pwrite(file, "x", 1, PAGE, &err), &err);
	must(hv_file_extent(file, PAGE, PAGE, 0, &extent, &err), &err);
	cr_assert(extent.state == HV_EXTENT_DATA && extent.length == 512);
	for (uint64_t offset = PAGE + 512; offset < 2 * PAGE; offset += 512) {
		must(hv_file_extent(file, offset, PAGE, 0, &extent, &err), &err);
		cr_assert(extent.state == HV_EXTENT_ZERO && extent.length == PAGE);
	}
	hv_file_close(file);
}

Test(file, truncating)
{
	struct hv_file *file = create_file("file", 0, false);
	uint8_t back[16];
	HV_ERR(err);

	put(file, "0123456789", 10, 0);
	must(hv_file_truncate(file, 5, &err), &err);
	cr_assert_eq(file->size_bytes, 5);
	must(hv_file_truncate(file, 10, &err), &err);
	get(file, back, 10, 0);
	cr_assert_eq(memcmp(back, "01234\0\0\0\0\0", 10), 0);
	cr_assert_lt(hv_file_truncate(file, UINT64_C(1) << 63, &err), 0);
	cr_assert_eq(file->size_bytes, 10);
	hv_file_close(file);
}

Test(file, raw_disk_ends_with_a_whole_sector)
{
	struct hv_disk *disk;
	struct hv_file *file;
	uint8_t back[1024];
	HV_ERR(err);

	spill("raw", "0123456789", 10);
	file = open_file("raw", 0);
	must(hv_raw_open(file, file->size_bytes, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, 512);
	cr_assert_str_eq(hv_disk_format(disk), "raw");
	must(hv_disk_pread(disk, back, 512, 0, &err), &err);
	cr_assert_eq(memcmp(back, "0123456789\0\0", 12), 0);
	cr_assert_eq(hv_disk_pread(disk, back, 1024, 0, NULL), -EINVAL);
	hv_disk_close(disk);
	file = open_file("raw", 0);
	cr_assert_eq(hv_raw_open(file, UINT64_MAX, &disk, &err), -EOVERFLOW);
	hv_file_close(file);
}
