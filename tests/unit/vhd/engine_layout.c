/*
 * The engine's new disks: every structure lies where Windows would put it, footers say what they
 * should, and the smallest and largest sizes are kept.
 */
#include "tests/unit/vhd/engine.h"

#include <errno.h>

#define GIB (UINT64_C(1) << 30)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

TestSuite(engine, .init = setup, .fini = teardown);

/* Where things lie. */

Test(engine, dynamic_disk_lies_as_windows_lays_it)
{
	static const uint32_t places[] = { 15, 4119, 8223 };
	struct hv_disk *disk;

	create_dynamic("disk.vhd", 10 * MIB, 0);
	disk = open_disk("disk.vhd", true);
	for (unsigned i = 0; i < 3; i++)
		write_stamp(disk, i * 4096 + 17, i + 1);
	flush(disk);
	hv_disk_close(disk);

	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(be32_at("disk.vhd", BAT + i * 4), places[i]);
		cr_expect_eq(be32_at("disk.vhd", places[i] * 512), UINT32_MAX, "bitmap of block %u",
			     i);
	}
	cr_expect_eq(be32_at("disk.vhd", BAT + 12), UNUSED);
	cr_expect_eq(size_of("disk.vhd"), 12328 * 512);
	cr_expect_eq(size_of("disk.vhd") % 4096, 0);
	cr_expect_eq(be64_at("disk.vhd", UINT64_C(12327) * 512), be64_at("disk.vhd", 0));
	disk = open_disk("disk.vhd", false);
	cr_expect(vhd_get_info(disk)->aligned);
	cr_expect_eq(vhd_get_info(disk)->fragments, 1);
	cr_expect_eq(vhd_get_info(disk)->allocated_blocks, 3);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(read_stamp(disk, i * 4096 + 17), i + 1);
	hv_disk_close(disk);
}

Test(engine, empty_dynamic_disk_lies_as_windows_lays_it)
{
	create_dynamic("disk.vhd", 127 * GIB, 0);
	cr_assert_eq(size_of("disk.vhd"), 265728 + 512);
	cr_assert_eq(be64_at("disk.vhd", 265728), be64_at("disk.vhd", 0));
	cr_assert_eq(be32_at("disk.vhd", HEADER + 28), 65024);
	cr_assert_eq(be32_at("disk.vhd", BAT), UNUSED);
	cr_assert_eq(be32_at("disk.vhd", BAT + 65023 * 4), UNUSED);
}

Test(engine, payload_lies_on_4k_boundaries_for_every_block_size)
{
	for (uint32_t block = VHD_MIN_BLOCK_BYTES; block <= VHD_MAX_BLOCK_BYTES; block *= 2) {
		uint64_t last = (GIB - 1) / 512;
		struct hv_disk *disk;
		char path[32];
		uint32_t entry;

		snprintf(path, sizeof(path), "%u.vhd", block);
		create_dynamic(path, GIB, block);
		disk = open_disk(path, true);
		cr_expect_eq(vhd_get_info(disk)->block_bytes, block);
		write_stamp(disk, last, 7);
		write_stamp(disk, 0, 8);
		flush(disk);
		hv_disk_close(disk);
		disk = open_disk(path, false);
		cr_expect_eq(read_stamp(disk, last), 7);
		cr_expect_eq(read_stamp(disk, last - 1), 0);
		cr_expect_eq(read_stamp(disk, 0), 8);
		cr_expect(vhd_get_info(disk)->aligned);
		entry = be32_at(path, BAT);
		cr_expect_eq(((uint64_t)entry * 512 + vhd_get_info(disk)->bitmap_bytes) % 4096, 0);
		cr_expect_eq(vhd_get_info(disk)->bitmap_bytes,
			     block / 4096 < 512 ? 512 : block / 4096);
		cr_expect_eq(size_of(path) % 4096, 0);
		hv_disk_close(disk);
		unlink(path);
	}
}

Test(engine, child_keeps_its_locators_before_its_table)
{
	struct vhd_create_options options = {
		.type = VHD_DIFFERENCING,
		.size_bytes = 4 * MIB,
		.parent_uuid = { { 1 } },
		.parent_name = "parent.vhd",
		.parent_relative = ".\\parent.vhd",
		.parent_absolute = "\\vms\\parent.vhd",
		.parent_url = "file:///vms/parent.vhd",
	};
	const struct vhd_info *info;
	struct hv_disk *disk;
	unsigned locators = 0;

	create("child.vhd", &options);
	disk = open_disk("child.vhd", false);
	info = vhd_get_info(disk);
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *locator = &info->locators[i];

		if (!locator->code)
			continue;
		locators++;
		cr_expect_eq(locator->offset % 512, 0);
		cr_expect_eq(locator->space_bytes % 512, 0);
		cr_expect_geq(locator->space_bytes, 512, "the space is told in bytes");
		cr_expect_leq(locator->offset + locator->space_bytes, info->bat_offset);
		cr_expect_leq(locator->length_bytes, locator->space_bytes);
	}
	cr_assert_eq(locators, 3);
	cr_assert_str_eq(info->parent_name, "parent.vhd");
	cr_assert_eq(size_of("child.vhd") % 4096, 0);
	hv_disk_close(disk);
}

/* Footers. */

static void assert_footer(uint64_t size, enum vhd_geometry_rule rule, unsigned cylinders,
			  unsigned heads, unsigned spt)
{
	static const uint8_t zeros[427];
	uint8_t footer[512], sealed[512];

	unlink("disk.vhd");
	create("disk.vhd", &(struct vhd_create_options){
				   .type = VHD_FIXED, .size_bytes = size, .geometry = rule });
	cr_assert_eq(size_of("disk.vhd"), size + 512);
	read_at("disk.vhd", size, footer, sizeof(footer));
	cr_expect_eq(memcmp(footer, "conectix", 8), 0);
	cr_expect_eq(be32_at("disk.vhd", size + 8), 2);
	cr_expect_eq(be32_at("disk.vhd", size + 12), 0x10000);
	cr_expect_eq(be64_at("disk.vhd", size + 16), UINT64_MAX);
	cr_expect_eq(memcmp(footer + 28, "hvkt", 4), 0, "nobody else's creator");
	cr_expect_eq(be64_at("disk.vhd", size + 40), size);
	cr_expect_eq(be64_at("disk.vhd", size + 48), size);
	cr_expect(footer[56] << 8 == (int)(cylinders & 0xff00) &&
			  footer[57] == (cylinders & 0xff) && footer[58] == heads &&
			  footer[59] == spt,
		  "%llu bytes: %u/%u/%u", (unsigned long long)size, footer[56] << 8 | footer[57],
		  footer[58], footer[59]);
	cr_expect_eq(be32_at("disk.vhd", size + 60), VHD_FIXED);
	cr_expect_neq(memcmp(footer + 68, zeros, 16), 0, "the UUID is null");
	cr_expect_eq(memcmp(footer + 85, zeros, 427), 0);
	memcpy(sealed, footer, 512);
	seal(sealed, 512, 64);
	cr_expect_eq(memcmp(sealed, footer, 512), 0, "the checksum is wrong");
}

Test(engine, geometry_is_exact_or_the_largest)
{
	assert_footer(104448, VHD_GEOMETRY_EXACT_MAX, 3, 4, 17);
	assert_footer(4194304, VHD_GEOMETRY_EXACT_MAX, 65535, 16, 255);
	assert_footer(528482304, VHD_GEOMETRY_EXACT_MAX, 1024, 16, 63);
	assert_footer(33822350848, VHD_GEOMETRY_EXACT_MAX, 65535, 16, 255);
	assert_footer(33822351360, VHD_GEOMETRY_EXACT_MAX, 16191, 16, 255);
	assert_footer(136899993600, VHD_GEOMETRY_EXACT_MAX, 65535, 16, 255);
	assert_footer(512, VHD_GEOMETRY_EXACT_MAX, 65535, 16, 255);
}

Test(engine, geometry_of_the_specification_on_request)
{
	assert_footer(104448, VHD_GEOMETRY_SPEC, 3, 4, 17);
	assert_footer(4194304, VHD_GEOMETRY_SPEC, 120, 4, 17);
	assert_footer(3221225472, VHD_GEOMETRY_SPEC, 6241, 16, 63);
	assert_footer(34359738368, VHD_GEOMETRY_SPEC, 16448, 16, 255);
	assert_footer(200 * GIB, VHD_GEOMETRY_SPEC, 65535, 16, 255);
}

Test(engine, both_footers_of_a_dynamic_disk_are_the_same)
{
	uint8_t copy[512], trailing[512];

	create_dynamic("disk.vhd", 8 * MIB, 0);
	read_at("disk.vhd", 0, copy, 512);
	read_at("disk.vhd", size_of("disk.vhd") - 512, trailing, 512);
	cr_assert_eq(memcmp(copy, trailing, 512), 0);
	cr_assert_eq(be64_at("disk.vhd", 16), HEADER);
	cr_assert_eq(be64_at("disk.vhd", HEADER + 16), BAT);
}

/* Into the copy, whose checksum is made right. */
static void patch_copy(const char *path, size_t field, uint8_t byte)
{
	uint8_t copy[512];
	FILE *out;

	read_at(path, 0, copy, 512);
	copy[field] = byte;
	seal(copy, 512, 64);
	out = fopen(path, "r+b");
	cr_assert_not_null(out);
	cr_assert_eq(fwrite(copy, 1, 512, out), 512);
	fclose(out);
}

Test(engine, copy_that_lags_behind_is_mended_when_opened_for_writing)
{
	uint8_t copy[512], trailing[512];

	create_dynamic("disk.vhd", 8 * MIB, 0);
	read_at("disk.vhd", size_of("disk.vhd") - 512, trailing, 512);
	patch_copy("disk.vhd", 22, 6); /* its header is elsewhere */
	hv_disk_close(open_disk("disk.vhd", false));
	read_at("disk.vhd", 0, copy, 512);
	cr_assert_neq(memcmp(copy, trailing, 512), 0);
	hv_disk_close(open_disk("disk.vhd", true));
	read_at("disk.vhd", 0, copy, 512);
	cr_assert_eq(memcmp(copy, trailing, 512), 0);
	read_at("disk.vhd", size_of("disk.vhd") - 512, copy, 512);
	cr_assert_eq(memcmp(copy, trailing, 512), 0);
	/* Another disk's copy is not our affair. */
	patch_copy("disk.vhd", 68, trailing[68] ^ 1);
	hv_disk_close(open_disk("disk.vhd", true));
	read_at("disk.vhd", 0, copy, 512);
	cr_assert_eq(copy[68], trailing[68] ^ 1);
}

/* Sizes. */

static void assert_impossible(const struct vhd_create_options *options, const char *words)
{
	struct hv_file *file;
	HV_ERR(err);

	cr_expect_eq(vhd_create_check(options, &err), -EINVAL);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	must(hv_file_create("none.vhd", 0, false, loop, &file, NULL), NULL);
	cr_expect_eq(vhd_create(file, options, NULL), -EINVAL);
	cr_expect_eq(file->size_bytes, 0);
	hv_file_close(file);
}

Test(engine, sizes_that_cannot_be)
{
	static const uint32_t blocks[] = { 1, 512, 256 << 10, 3 << 20, 512 << 20, (2 << 20) + 512 };
	struct vhd_create_options options = { .type = VHD_DYNAMIC };

	assert_impossible(&options, "512");
	options.size_bytes = 513;
	assert_impossible(&options, "513");
	options.size_bytes = VHD_MAX_SPARSE_BYTES + 512;
	assert_impossible(&options, "2040 GiB");
	options.type = VHD_DIFFERENCING;
	assert_impossible(&options, "2040 GiB");
	options.type = VHD_FIXED;
	options.size_bytes = VHD_MAX_FIXED_BYTES + 512;
	assert_impossible(&options, "64 TiB");
	options.size_bytes = 0;
	assert_impossible(&options, "512");
	options.type = VHD_DYNAMIC;
	options.size_bytes = MIB;
	for (unsigned i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		options.block_bytes = blocks[i];
		assert_impossible(&options, "power of two");
	}
	options.type = VHD_DIFFERENCING;
	options.block_bytes = 0;
	assert_impossible(&options, "UUID");
}

/* The largest disks. */

static uint64_t status_kib(const char *field)
{
	FILE *in = fopen("/proc/self/status", "re");
	unsigned long long value = 0;
	char line[256];

	cr_assert_not_null(in);
	while (fgets(line, sizeof(line), in)) {
		if (!strncmp(line, field, strlen(field)))
			value = strtoull(line + strlen(field), NULL, 10);
	}
	fclose(in);
	return value;
}

Test(engine, largest_dynamic_disk)
{
	uint64_t last = VHD_MAX_SPARSE_BYTES / 512 - 1, before, peak;
	struct hv_disk *disk;

	create_dynamic("disk.vhd", VHD_MAX_SPARSE_BYTES, 0);
	disk = open_disk("disk.vhd", true);
	cr_assert_eq(disk->size_bytes, VHD_MAX_SPARSE_BYTES);
	cr_assert_eq(vhd_get_info(disk)->block_count, 1044480);
	write_stamp(disk, last, 1);
	write_stamp(disk, 0, 2);
	write_stamp(disk, last / 2, 3);
	flush(disk);
	hv_disk_close(disk);

	before = status_kib("VmRSS:");
	disk = open_disk("disk.vhd", false);
	peak = status_kib("VmHWM:");
	cr_assert_eq(read_stamp(disk, last), 1);
	cr_assert_eq(read_stamp(disk, 0), 2);
	cr_assert_eq(read_stamp(disk, last / 2), 3);
	cr_assert_eq(read_stamp(disk, last - 1), 0);
	hv_disk_close(disk);
	if (!SANITIZED)
		cr_assert_lt(peak - before, 16 << 10, "opening took %llu KiB",
			     (unsigned long long)(peak - before));
}

/* On whichever filesystem can hold it. */
static struct hv_file *create_huge(void)
{
	struct vhd_create_options options = { .type = VHD_FIXED,
					      .size_bytes = VHD_MAX_FIXED_BYTES };
	static const char *const places[] = { "huge.vhd", "/dev/shm/hvkit-huge.vhd" };

	for (unsigned i = 0; i < 2; i++) {
		struct hv_file *file;

		/* It never gets its name. */
		if (hv_file_create(places[i], 0, false, loop, &file, NULL))
			continue;
		if (vhd_create(file, &options, NULL) == 0)
			return file;
		hv_file_close(file);
	}
	return NULL;
}

Test(engine, largest_fixed_disk)
{
	struct hv_file *file = create_huge();
	uint64_t last = VHD_MAX_FIXED_BYTES / 512 - 1;
	struct hv_extent extent;
	struct hv_disk *disk;
	HV_ERR(err);

	if (!file)
		cr_skip_test("no filesystem here holds a file of 64 TiB");
	cr_assert_eq(file->size_bytes, VHD_MAX_FIXED_BYTES + 512);
	must(vhd_open(file, 0, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, VHD_MAX_FIXED_BYTES);
	write_stamp(disk, last, 1);
	cr_assert_eq(read_stamp(disk, last), 1);
	cr_assert_eq(read_stamp(disk, last - 1), 0);
	must(hv_disk_extent(disk, 0, disk->size_bytes, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_geq(extent.length, VHD_MAX_FIXED_BYTES - GIB);
	hv_disk_close(disk);
}

Test(engine, empty_disk_of_the_largest_size_is_one_extent)
{
	struct hv_disk *disk;

	create_dynamic("disk.vhd", VHD_MAX_SPARSE_BYTES, 0);
	disk = open_disk("disk.vhd", false);
	assert_extent(disk, 0, 0, HV_EXTENT_ZERO, 0, VHD_MAX_SPARSE_BYTES / 512);
	hv_disk_close(disk);
}
