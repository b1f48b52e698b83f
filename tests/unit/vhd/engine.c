/*
 * The engine, one layer at a time: what it writes lies where Windows would put it, it reads what
 * other programs write, and what it touches is no more than it was asked for. Images of others are
 * put together here, byte by byte. Every test works in a directory of its own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "hvcore/bytes.h"
#include "hvcore/checked.h"
#include "tests/crash/explore.h"
#include "vhd/vhd.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define UNUSED UINT32_MAX
#define HEADER 512
#define BAT 1536

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

static char directory[] = "engine-XXXXXX";
static struct hv_loop *loop;

static void setup(void)
{
	HV_ERR(err);

	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	hv_loop_free(loop);
	cr_assert_eq(chdir(".."), 0);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(engine, .init = setup, .fini = teardown);

static void must(int rc, const struct hv_err *err)
{
	cr_assert_eq(rc, 0, "%s", hv_err_text(err, rc));
}

static void create(const char *path, const struct vhd_create_options *options)
{
	struct hv_file *file;
	HV_ERR(err);

	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	must(vhd_create(file, options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
}

static void create_dynamic(const char *path, uint64_t size, uint32_t block)
{
	create(path, &(struct vhd_create_options){
			     .type = VHD_DYNAMIC, .size_bytes = size, .block_bytes = block });
}

static int try_open(const char *path, bool writable, struct hv_disk **ret, struct hv_err *err)
{
	struct hv_file *file;
	int rc;

	hv_err_clear(err);
	rc = hv_file_open(path, writable ? HV_FILE_WRITE : 0, loop, &file, err);
	if (rc)
		return rc;
	rc = vhd_open(file, 0, ret, err);
	if (rc)
		hv_file_close(file);
	return rc;
}

static struct hv_disk *open_disk(const char *path, bool writable)
{
	struct hv_disk *disk = NULL;
	HV_ERR(err);

	must(try_open(path, writable, &disk, &err), &err);
	return disk;
}

static struct hv_disk *open_child(const char *path, bool writable, const char *parent)
{
	struct hv_disk *disk = open_disk(path, writable);

	vhd_set_backing(disk, open_disk(parent, false));
	return disk;
}

static void assert_refused(const char *path, bool writable, int code, const char *words)
{
	struct hv_disk *disk;
	HV_ERR(err);
	int rc = try_open(path, writable, &disk, &err);

	cr_assert_eq(rc, code, "%d: %s", rc, err.sentence);
	cr_assert(strstr(err.sentence, words), "no '%s' in: %s", words, err.sentence);
	cr_assert(strstr(err.sentence, path), "%s", err.sentence);
}

/* Sectors that tell where they come from: a number, all over. */

static void stamp(uint8_t *sector, uint64_t number)
{
	for (size_t i = 0; i < HV_SECTOR_SIZE; i += 8)
		memcpy(sector + i, &number, 8);
}

/* The number in a sector; all ones when it is not one number all over. */
static uint64_t stamp_in(const uint8_t *sector)
{
	uint64_t number;

	memcpy(&number, sector, 8);
	return memcmp(sector, sector + 8, HV_SECTOR_SIZE - 8) ? UINT64_MAX : number;
}

static void write_stamp(struct hv_disk *disk, uint64_t sector, uint64_t number)
{
	uint8_t data[HV_SECTOR_SIZE];
	HV_ERR(err);

	stamp(data, number);
	must(hv_disk_pwrite(disk, data, sizeof(data), sector * HV_SECTOR_SIZE, &err), &err);
}

static uint64_t read_stamp(struct hv_disk *disk, uint64_t sector)
{
	uint8_t data[HV_SECTOR_SIZE];
	HV_ERR(err);

	must(hv_disk_pread(disk, data, sizeof(data), sector * HV_SECTOR_SIZE, &err), &err);
	return stamp_in(data);
}

static void flush(struct hv_disk *disk)
{
	HV_ERR(err);

	must(hv_disk_flush(disk, &err), &err);
}

/* Files, as bytes. */

static void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out, "%s", path);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void read_at(const char *path, uint64_t offset, void *data, size_t length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, data, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static uint32_t be32_at(const char *path, uint64_t offset)
{
	hv_be32 value;

	read_at(path, offset, &value, sizeof(value));
	return hv_be32_get(value);
}

static uint64_t be64_at(const char *path, uint64_t offset)
{
	hv_be64 value;

	read_at(path, offset, &value, sizeof(value));
	return hv_be64_get(value);
}

static void put_be(uint8_t *at, unsigned bytes, uint64_t number)
{
	while (bytes--) {
		at[bytes] = (uint8_t)number;
		number >>= 8;
	}
}

static void seal(uint8_t *structure, size_t length, size_t checksum_at)
{
	uint32_t sum = 0;

	put_be(structure + checksum_at, 4, 0);
	for (size_t i = 0; i < length; i++)
		sum += structure[i];
	put_be(structure + checksum_at, 4, ~sum);
}

/*
 * An image by another hand: every sector of an allocated block holds its stamp (its number in the
 * disk, plus one), present or not. Blocks lie as Virtual PC puts them, close to each other.
 */
struct image {
	uint32_t type;
	uint64_t size;
	uint32_t block, entries; /* entries: 0 for as many as needed */
	uint64_t allocated;      /* a bit for each block */
	uint32_t absent;         /* every how manieth sector is absent; 0: none */
	uint32_t cut_sectors;    /* missing at the end of the last block */
	bool old_footer;
	uint8_t saved_state;
	uint32_t wrong_entry; /* of block 0, unless 0 */
};

static uint32_t bitmap_bytes(const struct image *image)
{
	return (uint32_t)hv_round_up(hv_div_up(image->block / 512, 8), 512);
}

static bool present(const struct image *image, uint64_t sector)
{
	uint64_t within = sector % (image->block / 512);

	if (!(image->allocated >> (sector * 512 / image->block) & 1))
		return false;
	return !image->absent || within % image->absent != 1;
}

static void put_footer(const struct image *image, uint8_t *footer)
{
	memset(footer, 0, 512);
	memcpy(footer, "conectix", 8);
	put_be(footer + 8, 4, 2);
	put_be(footer + 12, 4, 0x10000);
	put_be(footer + 16, 8, 512);
	memcpy(footer + 28, "win ", 4);
	put_be(footer + 32, 4, 0x60001);
	memcpy(footer + 36, "Wi2k", 4);
	put_be(footer + 40, 8, image->size);
	put_be(footer + 48, 8, image->size);
	put_be(footer + 60, 4, image->type ? image->type : VHD_DYNAMIC);
	memset(footer + 68, 0x42, 16);
	footer[84] = image->saved_state;
	seal(footer, 512, 64);
}

static void put_header(const struct image *image, uint8_t *header, uint32_t entries)
{
	memcpy(header, "cxsparse", 8);
	put_be(header + 8, 8, UINT64_MAX);
	put_be(header + 16, 8, BAT);
	put_be(header + 24, 4, 0x10000);
	put_be(header + 28, 4, entries);
	put_be(header + 32, 4, image->block);
	if (image->type == VHD_DIFFERENCING)
		memset(header + 40, 0x43, 16);
	seal(header, 1024, 36);
}

static void put_block(const struct image *image, uint8_t *at, uint32_t block)
{
	uint32_t sectors = image->block / 512;

	for (uint32_t i = 0; i < sectors; i++) {
		uint64_t sector = (uint64_t)block * sectors + i;

		if (present(image, sector))
			at[i / 8] |= (uint8_t)(0x80 >> i % 8);
		stamp(at + bitmap_bytes(image) + i * 512, sector + 1);
	}
}

static void build(const char *path, const struct image *image)
{
	uint32_t needed = (uint32_t)hv_div_up(image->size, image->block);
	uint32_t entries = image->entries ? image->entries : needed;
	uint64_t bat_bytes = hv_round_up((uint64_t)entries * 4, 512);
	uint64_t stride = bitmap_bytes(image) + image->block, end = BAT + bat_bytes;
	uint8_t *bytes =
		calloc(1, end + (uint64_t)__builtin_popcountll(image->allocated) * stride + 512);

	cr_assert_not_null(bytes);
	put_footer(image, bytes);
	put_header(image, bytes + HEADER, entries);
	memset(bytes + BAT, 0xff, bat_bytes);
	/* From the last to the first, so that the order is not the obvious one. */
	for (uint32_t block = needed; block--;) {
		if (!(image->allocated >> block & 1))
			continue;
		put_be(bytes + BAT + block * 4, 4, end / 512);
		put_block(image, bytes + end, block);
		end += stride;
	}
	if (image->wrong_entry)
		put_be(bytes + BAT, 4, image->wrong_entry);
	end -= image->cut_sectors * 512;
	put_footer(image, bytes + end);
	spill(path, bytes, end + (image->old_footer ? 511 : 512));
	free(bytes);
}

/* Reads all of the disk in pieces of odd length and compares each sector. */
static void assert_holds(struct hv_disk *disk, const struct image *image)
{
	uint64_t sectors = image->size / 512, at = 0;
	HV_ERR(err);

	cr_assert_eq(disk->size_bytes, image->size);
	for (uint64_t step = 1; at < sectors; step = step * 7 % 1021) {
		uint64_t count = hv_min_u64(step, sectors - at);
		uint8_t *data = malloc(count * 512);

		memset(data, 0xee, count * 512);
		must(hv_disk_pread(disk, data, count * 512, at * 512, &err), &err);
		for (uint64_t i = 0; i < count; i++)
			cr_assert_eq(stamp_in(data + i * 512),
				     present(image, at + i) ? at + i + 1 : 0, "sector %llu of %s",
				     (unsigned long long)(at + i), disk->path);
		free(data);
		at += count;
	}
}

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

Test(engine, footer_of_511_bytes)
{
	struct image image = {
		.size = 64 << 10, .block = 16384, .allocated = 5, .absent = 5, .old_footer = true
	};
	struct hv_disk *disk;

	build("disk.vhd", &image);
	cr_assert_eq(size_of("disk.vhd") % 512, 511);
	disk = open_disk("disk.vhd", false);
	assert_holds(disk, &image);
	cr_assert(vhd_get_info(disk)->trailing_footer_valid);
	hv_disk_close(disk);
	/* Written to, it gets a whole one. */
	disk = open_disk("disk.vhd", true);
	write_stamp(disk, 40, 99);
	flush(disk);
	hv_disk_close(disk);
	cr_assert_eq(size_of("disk.vhd") % 512, 0);
	disk = open_disk("disk.vhd", false);
	cr_assert_eq(read_stamp(disk, 40), 99);
	cr_assert_eq(read_stamp(disk, 0), 1);
	hv_disk_close(disk);
}

/* Images of others. */

Test(engine, every_block_size_is_read)
{
	for (uint32_t block = 512; block <= 256 << 10; block *= 2) {
		uint64_t size = (uint64_t)block * 9 + (block > 512 ? block / 1024 * 512 : 0);

		for (uint32_t absent = 0; absent <= 3; absent += 3) {
			struct image image = {
				.size = size, .block = block, .absent = absent, .allocated = 0x2ad
			};
			struct hv_disk *disk;

			build("disk.vhd", &image);
			disk = open_disk("disk.vhd", false);
			assert_holds(disk, &image);
			hv_disk_close(disk);
		}
	}
}

/* Every other sector is written, one by one; nothing else changes. */
Test(engine, every_block_size_is_written)
{
	for (uint32_t block = 512; block <= 64 << 10; block *= 4) {
		struct image image = { .size = (uint64_t)block * 5 + 1024,
				       .block = block,
				       .absent = block > 1024 ? 3 : 0,
				       .allocated = 0x13 };
		struct hv_disk *disk;

		build("disk.vhd", &image);
		for (int written = 0; written < 2; written++) {
			disk = open_disk("disk.vhd", !written);
			for (uint64_t i = 0; i < image.size / 512; i++) {
				uint64_t before = present(&image, i) ? i + 1 : 0;

				if (!written && i % 2)
					write_stamp(disk, i, i + 1000000);
				cr_assert_eq(read_stamp(disk, i), i % 2 ? i + 1000000 : before,
					     "sector %llu, blocks of %u", (unsigned long long)i,
					     block);
			}
			if (!written)
				flush(disk);
			hv_disk_close(disk);
		}
	}
}

Test(engine, last_block_may_be_partial)
{
	struct image image = { .size = 2 * 65536 + 3 * 512, .block = 65536, .allocated = 4 };
	struct hv_disk *disk;
	uint8_t data[1024];
	HV_ERR(err);

	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", true);
	assert_holds(disk, &image);
	cr_assert_eq(vhd_get_info(disk)->block_count, 3);
	cr_assert_eq(hv_disk_pread(disk, data, 1024, image.size - 512, &err), -EINVAL);
	write_stamp(disk, 258, 5);
	flush(disk);
	hv_disk_close(disk);
	disk = open_disk("disk.vhd", false);
	cr_assert_eq(read_stamp(disk, 258), 5);
	cr_assert_eq(read_stamp(disk, 257), 258);
	hv_disk_close(disk);
}

Test(engine, last_block_may_be_stored_short)
{
	struct image image = { .size = 4 * 65536, .block = 65536, .allocated = 0xc };
	uint64_t first_cut = 2 * 128 + 128 - 20;
	struct hv_disk *disk;

	/* The block that lies last in the file is the lower one. */
	image.cut_sectors = 20;
	build("disk.vhd", &image);
	for (int pass = 0; pass < 3; pass++) {
		disk = open_disk("disk.vhd", pass == 1);
		for (uint64_t i = 0; i < 512; i++) {
			bool cut = i >= first_cut && i < 3 * 128;

			if (pass == 2 && i == 300)
				cr_assert_eq(read_stamp(disk, i), 12345);
			else
				cr_assert_eq(read_stamp(disk, i), cut || i < 256 ? 0 : i + 1,
					     "sector %llu", (unsigned long long)i);
		}
		if (pass == 1) {
			write_stamp(disk, 300, 12345);
			flush(disk);
		}
		hv_disk_close(disk);
	}
	/* It is whole now. */
	cr_assert_geq(size_of("disk.vhd"), BAT + 512 + 2 * (65536 + 512) + 512);
}

Test(engine, table_may_have_more_entries_than_needed)
{
	struct image image = {
		.size = 4 * 65536, .block = 65536, .allocated = 0x5, .entries = 5000
	};
	struct hv_disk *disk;

	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", true);
	cr_assert_eq(vhd_get_info(disk)->max_entries, 5000);
	cr_assert_eq(vhd_get_info(disk)->block_count, 4);
	assert_holds(disk, &image);
	write_stamp(disk, 128, 77);
	flush(disk);
	hv_disk_close(disk);
	cr_assert_eq(be32_at("disk.vhd", HEADER + 28), 5000);
	for (uint32_t i = 4; i < 5000; i++)
		cr_assert_eq(be32_at("disk.vhd", BAT + i * 4), UNUSED);
	/* The new block is not where the rest of the table is. */
	cr_assert_geq(be32_at("disk.vhd", BAT + 4) * UINT64_C(512), BAT + 5000 * 4);
	disk = open_disk("disk.vhd", false);
	cr_assert_eq(read_stamp(disk, 128), 77);
	hv_disk_close(disk);
}

Test(engine, clear_bit_over_data_reads_as_zero)
{
	struct image image = { .size = 2 * 65536, .block = 65536, .allocated = 1, .absent = 2 };
	uint8_t bitmap[512];
	struct hv_disk *disk;

	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", true);
	assert_holds(disk, &image);
	/* A write makes its own sector present, and no other. */
	write_stamp(disk, 33, 4711);
	flush(disk);
	for (uint64_t i = 0; i < 128; i++)
		cr_assert_eq(read_stamp(disk, i), i == 33 ? 4711 : i % 2 ? 0 : i + 1);
	hv_disk_close(disk);
	disk = open_disk("disk.vhd", false);
	for (uint64_t i = 0; i < 128; i++)
		cr_assert_eq(read_stamp(disk, i), i == 33 ? 4711 : i % 2 ? 0 : i + 1);
	hv_disk_close(disk);
	read_at("disk.vhd", UINT64_C(512) * be32_at("disk.vhd", BAT), bitmap, sizeof(bitmap));
	for (unsigned i = 0; i < 16; i++)
		cr_assert_eq(bitmap[i], i == 4 ? 0xea : 0xaa);
}

Test(engine, zeroing_absent_and_present_sectors_of_a_dynamic_disk)
{
	struct image image = { .size = 2 * 65536, .block = 65536, .allocated = 1, .absent = 2 };
	struct hv_disk *disk;
	HV_ERR(err);

	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", true);
	must(hv_disk_zero(disk, 64 * 512, 32 * 512, &err), &err);
	must(hv_disk_zero(disk, 65536, 65536, &err), &err);
	flush(disk);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 1, "zeros need no block");
	hv_disk_close(disk);
	disk = open_disk("disk.vhd", false);
	for (uint64_t i = 0; i < 256; i++)
		cr_assert_eq(read_stamp(disk, i),
			     i >= 128 || (i >= 32 && i < 96) || i % 2 ? 0 : i + 1);
	hv_disk_close(disk);
}

/* Children. */

static void make_parent_and_child(uint64_t size, uint32_t block)
{
	uint8_t *data = malloc(size);
	struct hv_disk *disk;
	HV_ERR(err);

	create_dynamic("parent.vhd", size, block);
	for (uint64_t i = 0; i < size / 512; i++)
		stamp(data + i * 512, i + 1);
	disk = open_disk("parent.vhd", true);
	/* The last quarter of the parent is empty. */
	must(hv_disk_pwrite(disk, data, size / 4 * 3, 0, &err), &err);
	flush(disk);
	hv_disk_close(disk);
	free(data);
	create("child.vhd", &(struct vhd_create_options){ .type = VHD_DIFFERENCING,
							  .size_bytes = size,
							  .block_bytes = block,
							  .parent_uuid = { { 1 } } });
}

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

/* Many requests at once. */

struct request {
	struct hv_io io;
	struct iovec iov;
	uint8_t *data;
	unsigned *left;
	int result;
};

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->result = result;
	--*request->left;
}

static void submit_write(struct hv_disk *disk, struct request *request, uint64_t sector,
			 uint32_t count, uint64_t number, unsigned flags)
{
	request->data = malloc((size_t)count * 512);
	for (uint32_t i = 0; i < count; i++)
		stamp(request->data + (size_t)i * 512, number);
	request->iov = (struct iovec){ request->data, (size_t)count * 512 };
	request->io = (struct hv_io){ .op = HV_WRITE,
				      .flags = flags,
				      .offset = sector * 512,
				      .length = (uint64_t)count * 512,
				      .iov = &request->iov,
				      .iov_count = 1,
				      .done = request_done };
	++*request->left;
	hv_disk_submit(disk, &request->io);
}

/*
 * Writes of one sector each and a few long ones, all in flight while none of their blocks is
 * allocated. Each sector ends as one of those who wrote it, or as it was.
 */
static void overlapping(struct hv_disk *disk, uint64_t parent_sectors)
{
	enum { SINGLES = 512, LONGS = 12, SECTORS = 4096 };
	struct request *requests = calloc(SINGLES + LONGS, sizeof(*requests));
	unsigned left = 0;

	for (unsigned i = 0; i < SINGLES + LONGS; i++) {
		struct request *request = &requests[i];

		request->left = &left;
		if (i < SINGLES)
			submit_write(disk, request, i * 5 % SECTORS, 1, 1000000 + i, 0);
		else
			submit_write(disk, request, (i - SINGLES) * 250 + 100, 700, 2000000 + i, 0);
	}
	while (left)
		hv_loop_turn(loop, true);
	for (uint64_t sector = 0; sector < SECTORS; sector++) {
		uint64_t have = read_stamp(disk, sector);
		bool allowed = false, written = false;

		for (unsigned i = 0; i < SINGLES + LONGS; i++) {
			uint64_t start = i < SINGLES ? i * 5 % SECTORS : (i - SINGLES) * 250 + 100;
			uint64_t count = i < SINGLES ? 1 : 700;

			if (sector < start || sector >= start + count)
				continue;
			written = true;
			allowed |= have == (i < SINGLES ? 1000000 : 2000000) + i;
		}
		if (!written)
			allowed = have == (sector < parent_sectors ? sector + 1 : 0);
		cr_assert(allowed, "sector %llu: %llu", (unsigned long long)sector,
			  (unsigned long long)have);
	}
	for (unsigned i = 0; i < SINGLES + LONGS; i++) {
		cr_assert_eq(requests[i].result, 0);
		free(requests[i].data);
	}
	free(requests);
}

static uint64_t *stamps_of(struct hv_disk *disk)
{
	uint64_t *stamps = malloc(disk->size_bytes / 512 * sizeof(*stamps));

	for (uint64_t i = 0; i < disk->size_bytes / 512; i++)
		stamps[i] = read_stamp(disk, i);
	return stamps;
}

static void assert_stamps(struct hv_disk *disk, const uint64_t *stamps)
{
	for (uint64_t i = 0; i < disk->size_bytes / 512; i++)
		cr_assert_eq(read_stamp(disk, i), stamps[i], "sector %llu after reopening",
			     (unsigned long long)i);
}

Test(engine, overlapping_allocations_of_a_dynamic_disk)
{
	struct hv_disk *disk;
	uint64_t *stamps;

	create_dynamic("disk.vhd", 2 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_disk("disk.vhd", true);
	overlapping(disk, 0);
	flush(disk);
	stamps = stamps_of(disk);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 4);
	hv_disk_close(disk);
	disk = open_disk("disk.vhd", false);
	assert_stamps(disk, stamps);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 4);
	hv_disk_close(disk);
	free(stamps);
}

Test(engine, overlapping_allocations_of_a_child)
{
	struct hv_disk *disk;
	uint64_t *stamps;

	make_parent_and_child(2 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	overlapping(disk, 3072);
	flush(disk);
	stamps = stamps_of(disk);
	hv_disk_close(disk);
	disk = open_child("child.vhd", false, "parent.vhd");
	assert_stamps(disk, stamps);
	hv_disk_close(disk);
	free(stamps);
}

/* On a filesystem whose smallest unit is 4096 bytes; what goes wrong there is put off to the
 * caller. */
static bool mount_4k(char *device, size_t size)
{
	FILE *out;

	if (geteuid() || system("truncate -s 64M image && mkdir mnt"))
		return false;
	out = popen("losetup -b 4096 --find --show image 2>/dev/null", "re");
	if (!out || !fgets(device, (int)size, out))
		*device = '\0';
	if (out)
		pclose(out);
	device[strcspn(device, "\n")] = '\0';
	return *device && setenv("DEVICE", device, 1) == 0 &&
	       system("mkfs.ext4 -q -b 4096 $DEVICE >/dev/null 2>&1") == 0 &&
	       mount(device, "mnt", "ext4", 0, NULL) == 0;
}

/*
 * In a disk of other programs the last block ends within a page. While the space behind it is made
 * ready for a new block, its last sectors are written: where O_DIRECT wants whole pages, both mean
 * to write the same one.
 */
static unsigned lost_at_the_end(void)
{
	struct image image = { .size = 40 * 65536, .block = 65536, .allocated = 3 };
	unsigned lost = 0;

	for (unsigned trial = 0; trial < 60; trial++) {
		struct request requests[9] = { 0 };
		unsigned left = 0;
		struct hv_file *file;
		struct hv_disk *disk;
		HV_ERR(err);

		build("mnt/disk.vhd", &image);
		must(hv_file_open("mnt/disk.vhd", HV_FILE_WRITE | HV_FILE_DIRECT, loop, &file,
				  &err),
		     &err);
		cr_assert_eq(file->align_bytes, 4096);
		must(vhd_open(file, 0, &disk, &err), &err);
		/* Block 0 lies last in the file, block 5 is new. */
		for (unsigned i = 0; i < 9; i++) {
			requests[i].left = &left;
			submit_write(disk, &requests[i], i ? 119 + i : 5 * 128, i ? 1 : 128,
				     5000 + i, 0);
		}
		while (left)
			hv_loop_turn(loop, true);
		flush(disk);
		for (unsigned i = 0; i < 9; i++) {
			lost += read_stamp(disk, i ? 119 + i : 5 * 128) != 5000 + i;
			free(requests[i].data);
		}
		hv_disk_close(disk);
	}
	return lost;
}

Test(engine, space_behind_the_last_block_is_made_ready_without_harm_to_it)
{
	char device[64] = "";
	bool mounted = mount_4k(device, sizeof(device));
	unsigned lost = mounted ? lost_at_the_end() : 0;

	if (mounted)
		umount("mnt");
	if (*device && system("losetup -d $DEVICE"))
		*device = '\0';
	if (!mounted)
		cr_skip_test("needs root and a loop device");
	cr_assert_eq(lost, 0, "%u sectors are not as they were written", lost);
}

/* Extents. */

static void assert_extent(struct hv_disk *disk, uint64_t sector, unsigned flags,
			  enum hv_extent_state state, unsigned depth, uint64_t sectors)
{
	struct hv_extent extent;
	HV_ERR(err);

	must(hv_disk_extent(disk, sector * 512, disk->size_bytes - sector * 512, flags, &extent,
			    &err),
	     &err);
	cr_assert(extent.offset == sector * 512 && extent.length == sectors * 512 &&
			  extent.state == state &&
			  (state != HV_EXTENT_DATA || extent.depth == depth),
		  "at %llu: %llu sectors, state %d, depth %u", (unsigned long long)sector,
		  (unsigned long long)extent.length / 512, extent.state, extent.depth);
}

Test(engine, extents_of_a_dynamic_disk)
{
	/* Blocks of 128 sectors; sectors 1, 5, 9... of block 1 are absent. */
	struct image image = { .size = 8 * 65536, .block = 65536, .allocated = 0x72, .absent = 4 };
	struct hv_disk *disk;
	struct hv_extent extent;
	HV_ERR(err);

	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", false);
	/* Nobody has read a bitmap yet: an allocated block may hold data everywhere. */
	assert_extent(disk, 0, HV_EXTENT_COARSE, HV_EXTENT_ZERO, 0, 128);
	assert_extent(disk, 128, HV_EXTENT_COARSE, HV_EXTENT_DATA, 0, 128);
	assert_extent(disk, 256, HV_EXTENT_COARSE, HV_EXTENT_ZERO, 0, 256);
	assert_extent(disk, 0, 0, HV_EXTENT_ZERO, 0, 128);
	assert_extent(disk, 128, 0, HV_EXTENT_DATA, 0, 1);
	assert_extent(disk, 129, 0, HV_EXTENT_ZERO, 0, 1);
	assert_extent(disk, 130, 0, HV_EXTENT_DATA, 0, 3);
	assert_extent(disk, 254, 0, HV_EXTENT_DATA, 0, 2);
	assert_extent(disk, 256, 0, HV_EXTENT_ZERO, 0, 256);
	must(hv_disk_extent(disk, 130 * 512, 512, 0, &extent, &err), &err);
	cr_assert_eq(extent.length, 512);
	cr_assert_eq(extent.host_offset,
		     UINT64_C(512) * be32_at("disk.vhd", BAT + 4) + 512 + 2 * 512);
	hv_disk_close(disk);

	/* Full blocks that follow each other in the file are one extent; others are not. */
	image.absent = 0;
	build("disk.vhd", &image);
	disk = open_disk("disk.vhd", false);
	assert_extent(disk, 512, 0, HV_EXTENT_DATA, 0, 128);
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

Test(engine, empty_disk_of_the_largest_size_is_one_extent)
{
	struct hv_disk *disk;

	create_dynamic("disk.vhd", VHD_MAX_SPARSE_BYTES, 0);
	disk = open_disk("disk.vhd", false);
	assert_extent(disk, 0, 0, HV_EXTENT_ZERO, 0, VHD_MAX_SPARSE_BYTES / 512);
	hv_disk_close(disk);
}

/* Durability. */

static struct crash_world *new_world(struct crash_stage *stage,
				     const struct vhd_create_options *options)
{
	struct crash_world *world = crash_world_new(stage);
	struct hv_file *file;
	HV_ERR(err);

	must(crash_create(world, "disk.vhd", false, &file, &err), &err);
	must(vhd_create(file, options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
	crash_forget(world);
	return world;
}

static struct hv_disk *open_memory(struct crash_world *world)
{
	struct hv_file *file;
	struct hv_disk *disk;
	HV_ERR(err);

	must(crash_open(world, "disk.vhd", HV_FILE_WRITE, &file, &err), &err);
	must(vhd_open(file, 0, &disk, &err), &err);
	return disk;
}

struct left {
	uint64_t sector, stamp;
};

static bool look_at_left(struct crash_world *state, uint64_t at, void *arg)
{
	struct hv_disk *disk = open_memory(state);
	struct left *left = arg;

	(void)at;
	left->stamp = read_stamp(disk, left->sector);
	hv_disk_close(disk);
	return true;
}

/* When only what is promised is left. */
static uint64_t stamp_after_cut(struct crash_world *world, uint64_t sector)
{
	struct crash_plan plan = { .states = 1, .end_only = true };
	struct left left = { .sector = sector };

	cr_assert(crash_explore(world, &plan, look_at_left, &left));
	return left.stamp;
}

static void fua(uint32_t type)
{
	struct vhd_create_options options = { .type = type,
					      .size_bytes = 4 * MIB,
					      .block_bytes = VHD_MIN_BLOCK_BYTES,
					      .parent_uuid = { { 1 } } };
	struct crash_stage *stage = crash_stage_new(loop, type);
	struct crash_world *world = new_world(stage, &options);
	struct request request = { 0 };
	struct hv_disk *disk = open_memory(world);
	unsigned left = 0;

	request.left = &left;
	/* The first allocates, the second overwrites, the third spans two blocks. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t sector = i == 2 ? 1020 : 3;

		submit_write(disk, &request, sector, 10, 100 + i, HV_IO_FUA);
		while (left)
			hv_loop_turn(loop, true);
		cr_assert_eq(request.result, 0);
		free(request.data);
		cr_assert_eq(stamp_after_cut(world, sector), 100 + i);
		cr_assert_eq(stamp_after_cut(world, sector + 9), 100 + i);
	}
	/* Without it nothing is promised, and nothing is paid. */
	size_t before = crash_logged(world);

	write_stamp(disk, 3, 200);
	cr_assert_eq(crash_logged(world), before + 1);
	cr_assert_eq(stamp_after_cut(world, 3), 101);
	flush(disk);
	cr_assert_eq(stamp_after_cut(world, 3), 200);
	hv_disk_close(disk);
	crash_world_free(world);
	crash_stage_free(stage);
}

Test(engine, fua_of_a_dynamic_disk)
{
	fua(VHD_DYNAMIC);
}

Test(engine, fua_of_a_child)
{
	fua(VHD_DIFFERENCING);
}

Test(engine, full_bitmap_is_not_written_again)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC, .size_bytes = 4 * MIB };
	struct crash_stage *stage = crash_stage_new(loop, 1);
	struct crash_world *world = new_world(stage, &options);
	struct hv_disk *disk = open_memory(world);
	size_t before;

	write_stamp(disk, 0, 1);
	write_stamp(disk, 4096, 1);
	flush(disk);
	before = crash_logged(world);
	for (unsigned i = 0; i < 50; i++)
		write_stamp(disk, i % 2 ? i : 4096 + i, i);
	cr_assert_eq(crash_logged(world), before + 50);
	flush(disk);
	cr_assert_eq(crash_logged(world), before + 51);
	hv_disk_close(disk);
	crash_world_free(world);
	crash_stage_free(stage);
}

/* What is refused. */

Test(engine, unsound_table_is_refused_for_writing_and_read_as_far_as_it_goes)
{
	static const uint32_t wrong[] = { 0, 1, 3, 100000, 0xfffffffe };
	uint8_t data[512];

	for (unsigned i = 0; i < 5; i++) {
		struct image image = { .size = 4 * 65536, .block = 65536, .allocated = 0xf };
		struct hv_disk *disk;
		HV_ERR(err);

		/* The first: block 0 is where block 1 is. */
		image.wrong_entry = wrong[i];
		build("disk.vhd", &image);
		if (!i) {
			image.wrong_entry = be32_at("disk.vhd", BAT + 4);
			build("disk.vhd", &image);
		}
		assert_refused("disk.vhd", true, -EBADMSG, "block");
		disk = open_disk("disk.vhd", false);
		cr_assert_eq(hv_disk_pread(disk, data, 512, 0, &err), -EBADMSG, "%u", wrong[i]);
		cr_assert(strstr(err.sentence, "disk.vhd"), "%s", err.sentence);
		cr_assert_eq(read_stamp(disk, 3 * 128), 3 * 128 + 1);
		hv_disk_close(disk);
	}
}

Test(engine, saved_state_is_refused_for_writing)
{
	struct image image = { .size = 65536, .block = 65536, .allocated = 1, .saved_state = 1 };
	struct hv_disk *disk;

	build("disk.vhd", &image);
	assert_refused("disk.vhd", true, -EBUSY, "saved state");
	disk = open_disk("disk.vhd", false);
	assert_holds(disk, &image);
	hv_disk_close(disk);
}

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
