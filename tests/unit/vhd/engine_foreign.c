/*
 * The engine reads and writes what other programs made, whatever they make differently, and refuses
 * what cannot be right. Images of others are put together here, byte by byte.
 */
#include "tests/unit/vhd/engine.h"

#include <errno.h>
#include <sys/mount.h>

#include "hvcore/checked.h"

TestSuite(engine, .init = setup, .fini = teardown);

static void assert_refused(const char *path, bool writable, int code, const char *words)
{
	struct hv_disk *disk;
	HV_ERR(err);
	int rc = try_open(path, writable, &disk, &err);

	cr_assert_eq(rc, code, "%d: %s", rc, err.sentence);
	cr_assert(strstr(err.sentence, words), "no '%s' in: %s", words, err.sentence);
	cr_assert(strstr(err.sentence, path), "%s", err.sentence);
}

static void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out, "%s", path);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
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

/* What is read and written. */

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

/* The end of the file. */

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
