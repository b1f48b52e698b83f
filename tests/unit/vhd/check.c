/*
 * Checking: each kind of damage gives its code, and nothing but its code.
 */
#include "vhd/check.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/vhd/image.h"

#define FOOTER(field) offsetof(struct vhd_disk_footer, field)
#define HEADER(field) (IMAGE_HEADER + offsetof(struct vhd_disk_header, field))
#define LOCATOR(n, field)                                           \
	(HEADER(locators) + (n) * sizeof(struct vhd_disk_locator) + \
	 offsetof(struct vhd_disk_locator, field))
#define ENTRY(block) (IMAGE_BAT + 4 * (block))

TestSuite(check, .init = image_setup, .fini = image_teardown);

static void assert_sound(enum vhd_type type)
{
	struct vhd_check_result result;
	char codes[256];

	image_make(type);
	result = image_check(false, codes, sizeof(codes));
	cr_assert_str_eq(codes, "");
	cr_assert_eq(result.errors + result.leaks + result.repaired + result.untold, 0);
	cr_assert_eq(result.leaked_bytes, 0);
	cr_assert_eq(result.type, type);
	cr_assert_eq(result.allocated_blocks, type == VHD_FIXED ? 0 : 2);
}

Test(check, finds_nothing_in_a_new_fixed_disk)
{
	assert_sound(VHD_FIXED);
}

Test(check, finds_nothing_in_a_new_dynamic_disk)
{
	assert_sound(VHD_DYNAMIC);
}

Test(check, finds_nothing_in_a_new_differencing_disk)
{
	assert_sound(VHD_DIFFERENCING);
}

static void assert_no_vhd(void)
{
	struct vhd_check_options options = { .data = true };
	struct vhd_check_result result;
	struct hv_file *file;
	HV_ERR(err);

	cr_assert_eq(hv_file_open(image_path(), 0, NULL, &file, &err), 0);
	cr_assert_eq(vhd_check(file, &options, &result, &err), -EINVAL);
	cr_assert_not_null(strstr(err.sentence, "not a VHD"));
	hv_file_close(file);
}

Test(check, refuses_what_is_no_vhd)
{
	static const uint64_t sizes[] = { 0, 1, 7, 510, 511, 512, 100000 };

	image_make(VHD_FIXED);
	image_resize(0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		image_resize(sizes[i]);
		assert_no_vhd();
	}
}

/* Footers. */

Test(check, trailing_footer_with_wrong_checksum)
{
	image_make(VHD_DYNAMIC);
	image_put(image_footer() + 300, 1);
	image_assert_codes("footer-checksum");
	cr_assert_eq(image_first()->severity, VHD_ERROR);
	cr_assert_eq(image_first()->offset, image_footer());
	cr_assert(image_first()->repairable);
}

Test(check, trailing_footer_with_damaged_cookie)
{
	image_make(VHD_DYNAMIC);
	image_put(image_footer(), 'C');
	image_assert_codes("footer-cookie");
}

Test(check, trailing_footer_missing)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer());
	image_assert_codes("footer-missing");
	cr_assert(image_first()->repairable);
}

Test(check, trailing_footer_filled_by_xen)
{
	uint8_t fill[512];

	image_make(VHD_DYNAMIC);
	memset(fill, VHD_OPEN_BYTE, sizeof(fill));
	image_write(image_footer(), fill, sizeof(fill));
	image_assert_codes("footer-open");
}

Test(check, trailing_footer_of_511_bytes)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_size() - 1);
	image_assert_codes("footer-511");
	cr_assert_eq(image_first()->severity, VHD_NOTE);
}

Test(check, footer_cut_right_after_the_cookie)
{
	image_make(VHD_DYNAMIC);
	for (uint64_t size = 510; size > 100; size -= 100) {
		image_resize(size);
		image_assert_codes("footer-missing");
	}
}

Test(check, copy_missing)
{
	image_make(VHD_DYNAMIC);
	image_write(0, "\0\0\0\0\0\0\0", 8);
	image_assert_codes("copy-missing");
}

Test(check, copy_with_wrong_checksum)
{
	image_make(VHD_DYNAMIC);
	image_put(300, 1);
	image_assert_codes("copy-checksum");
}

Test(check, footers_that_differ)
{
	image_make(VHD_DYNAMIC);
	image_put32(FOOTER(timestamp), 5);
	image_seal_footer(0);
	image_assert_codes("footer-differs");
}

Test(check, copy_of_another_version_beside_a_footer_with_wrong_checksum)
{
	image_make(VHD_DYNAMIC);
	image_put32(FOOTER(version), 0x00020000);
	image_seal_footer(0);
	image_put32(image_footer() + FOOTER(checksum), 1);
	image_assert_codes("footer-checksum footer-differs");
}

Test(check, footer_fields_that_are_only_odd)
{
	static const struct {
		size_t field;
		uint32_t number;
		const char *code;
	} fields[] = {
		{ FOOTER(features), 0, "footer-features" },
		{ FOOTER(features), 0x12, "footer-features" },
		{ FOOTER(version), 0x00010003, "footer-version" },
		{ FOOTER(saved_state), 0x01000000, "saved-state" },
		{ FOOTER(reserved) + 100, 1, "footer-reserved" },
	};

	image_make(VHD_DYNAMIC);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		uint32_t old = image_get32(fields[i].field);

		image_both32(fields[i].field, fields[i].number);
		image_assert_codes(fields[i].code);
		cr_expect_eq(image_first()->severity, VHD_NOTE);
		image_both32(fields[i].field, old);
	}
}

Test(check, null_uuid)
{
	image_make(VHD_FIXED);
	image_write(image_footer() + FOOTER(uuid), (uint8_t[16]){ 0 }, 16);
	image_seal_footer(image_footer());
	image_assert_codes("uuid-null");
}

Test(check, version_and_type_that_nobody_knows)
{
	image_make(VHD_DYNAMIC);
	image_both32(FOOTER(version), 0x00020000);
	image_assert_codes("footer-version");
	image_both32(FOOTER(version), VHD_VERSION);
	image_both32(FOOTER(type), 6);
	image_assert_codes("footer-type");
}

Test(check, sizes_that_are_not_possible)
{
	static const uint64_t sizes[] = {
		0, 1, 8388607, UINT64_C(1) << 63, UINT64_MAX - 511, (UINT64_C(2040) << 30) + 512
	};

	image_make(VHD_DYNAMIC);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		image_both64(FOOTER(current_size), sizes[i]);
		image_assert_codes("footer-size");
	}
}

Test(check, fixed_disk_larger_than_its_file)
{
	image_make(VHD_FIXED);
	image_put64(image_footer() + FOOTER(current_size), IMAGE_BYTES + 512);
	image_seal_footer(image_footer());
	image_assert_codes("footer-size");
}

Test(check, fixed_disk_with_slack_before_the_footer)
{
	struct vhd_check_result result;
	char codes[64];

	image_make(VHD_FIXED);
	image_put64(image_footer() + FOOTER(current_size), IMAGE_BYTES - (1 << 20));
	image_seal_footer(image_footer());
	result = image_check(false, codes, sizeof(codes));
	cr_assert_str_eq(codes, "leak-tail");
	cr_assert_eq(result.leaked_bytes, 1 << 20);
	cr_assert_eq(result.repairable, 0);
}

Test(check, geometry_that_makes_readers_differ)
{
	image_make(VHD_DYNAMIC);
	image_both32(FOOTER(cylinders), 100 << 16 | 4 << 8 | 17);
	image_assert_codes("size-geometry");
}

/* The header. */

Test(check, header_where_none_can_be)
{
	static const uint64_t offsets[] = { 0,          256,
					    513,        UINT64_C(1) << 40,
					    UINT64_MAX, UINT64_MAX - 511 };

	image_make(VHD_DYNAMIC);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		image_both64(FOOTER(data_offset), offsets[i]);
		image_assert_codes("header-offset");
	}
}

Test(check, header_into_which_the_trailing_footer_reaches)
{
	uint8_t header[VHD_HEADER_BYTES];

	image_make(VHD_DYNAMIC);
	image_read(IMAGE_HEADER, header, sizeof(header));
	image_write(image_footer() - HV_SECTOR_SIZE, header, HV_SECTOR_SIZE);
	image_both64(FOOTER(data_offset), image_footer() - HV_SECTOR_SIZE);
	image_assert_codes("header-offset");
}

Test(check, header_with_wrong_checksum_is_believed_if_possible)
{
	image_make(VHD_DYNAMIC);
	image_put(HEADER(checksum), 0x77);
	image_put32(ENTRY(0), 1);
	image_assert_codes("header-checksum bat-metadata");
	cr_assert_not(image_first()->repairable);
}

Test(check, header_with_damaged_cookie)
{
	image_make(VHD_DYNAMIC);
	image_put(IMAGE_HEADER, 'C');
	image_seal_header();
	image_assert_codes("header-cookie");
}

Test(check, header_that_is_something_else)
{
	image_make(VHD_DYNAMIC);
	image_write(IMAGE_HEADER, (uint8_t[1024]){ 0 }, 1024);
	image_assert_codes("header-cookie header-checksum");
}

Test(check, header_fields)
{
	static const struct {
		size_t field;
		uint32_t number;
		const char *codes;
	} fields[] = {
		{ HEADER(version), 0x00030000, "header-version" },
		{ HEADER(version), 0x00010001, "header-version" },
		{ HEADER(block_size), 0, "header-block-size" },
		{ HEADER(block_size), 128, "header-block-size" },
		{ HEADER(block_size), 0x12345678, "header-block-size" },
		{ HEADER(max_entries), 15, "header-entries" },
		{ HEADER(max_entries), 17, "" },
		{ HEADER(max_entries), UINT32_MAX, "bat-truncated" },
		{ HEADER(next), 0, "header-next" },
		{ HEADER(bat_offset), 1, "bat-offset" },        /* beyond the file */
		{ HEADER(bat_offset) + 4, 1537, "bat-offset" }, /* no sector */
		{ HEADER(bat_offset) + 4, 0, "bat-offset" },    /* the copy */
		{ HEADER(bat_offset) + 4, 1024, "bat-offset" }, /* the header */
	};

	image_make(VHD_DYNAMIC);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		uint32_t old = image_get32(fields[i].field);

		image_put32(fields[i].field, fields[i].number);
		image_seal_header();
		image_assert_codes(fields[i].codes);
		image_put32(fields[i].field, old);
	}
}

/* Locators and the parent. */

Test(check, parent_without_uuid)
{
	image_make(VHD_DIFFERENCING);
	image_write(HEADER(parent_uuid), (uint8_t[16]){ 0 }, 16);
	image_seal_header();
	image_assert_codes("parent-uuid-null");
	cr_assert_eq(image_first()->severity, VHD_ERROR);
}

Test(check, parent_without_uuid_is_raw_for_xen)
{
	image_make(VHD_DIFFERENCING);
	image_write(HEADER(parent_uuid), (uint8_t[16]){ 0 }, 16);
	image_seal_header();
	image_both32(FOOTER(creator), 0x74617000);
	image_assert_codes("parent-uuid-null");
	cr_assert_eq(image_first()->severity, VHD_NOTE);
}

Test(check, parent_without_name)
{
	image_make(VHD_DIFFERENCING);
	image_write(HEADER(parent_name), (uint8_t[512]){ 0 }, 512);
	image_seal_header();
	image_assert_codes("parent-name-empty");
}

Test(check, locators)
{
	static const struct {
		size_t field;
		uint32_t number;
		const char *codes;
	} fields[] = {
		{ LOCATOR(0, code), 0x41424344, "locator-code" },
		{ LOCATOR(2, code), 0x4d163258, "locator-code" },
		{ LOCATOR(0, data_offset), 1, "locator-range" },
		{ LOCATOR(0, data_offset) + 4, 0, "locator-range" },
		{ LOCATOR(0, data_offset) + 4, 1000, "locator-range" },
		{ LOCATOR(0, data_length), 64 << 10, "locator-range locator-range" },
		{ LOCATOR(0, data_space), 0xfffffe00, "locator-range" },
		{ LOCATOR(1, data_length), 5, "locator-text" },
		{ LOCATOR(1, data_length), 0, "locator-text" },
	};

	image_make(VHD_DIFFERENCING);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		uint32_t old = image_get32(fields[i].field);
		char codes[256];

		image_put32(fields[i].field, fields[i].number);
		image_seal_header();
		image_check(false, codes, sizeof(codes));
		cr_expect(strstr(codes, fields[i].codes), "%zu: %s", i, codes);
		image_put32(fields[i].field, old);
	}
}

Test(check, locator_text_that_is_none)
{
	uint32_t offset;

	image_make(VHD_DIFFERENCING);
	offset = image_get32(LOCATOR(1, data_offset) + 4);
	image_write(offset + 6, "\x00\xd8", 2);
	image_assert_codes("locator-text");
	cr_assert_eq(image_first()->severity, VHD_ERROR);
	image_write(offset + 6, "b\0", 2);
	image_write(image_get32(LOCATOR(2, data_offset) + 4) + 9, "\xff", 1);
	image_assert_codes("locator-text");
}

Test(check, locator_of_no_length_lies_over_nothing)
{
	image_make(VHD_DIFFERENCING);
	image_put64(LOCATOR(1, data_offset),
		    (uint64_t)image_get32(image_get32(HEADER(bat_offset) + 4)) * 512 + 512);
	image_put32(LOCATOR(1, data_length), 0);
	image_seal_header();
	image_assert_codes("locator-text");
	cr_assert_eq(image_first()->severity, VHD_NOTE);
}

/* The BAT. */

Test(check, table_entries)
{
	static const struct {
		uint32_t block, sector;
		const char *codes;
	} entries[] = {
		{ 0, 0, "bat-metadata" },
		{ 5, 1, "bat-metadata" },
		{ 5, 3, "bat-metadata" },
		{ 5, 0xfffffffe, "bat-outside" },
		{ 5, 0x80000000, "bat-outside" },
		{ 5, IMAGE_BITMAP / 512, "bat-duplicate" },
		{ 5, IMAGE_BITMAP / 512 + 8, "bat-overlap" },
		{ 5, IMAGE_BITMAP / 512 + 1024, "bat-overlap bat-overlap" },
	};

	image_make(VHD_DYNAMIC);
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		uint32_t old = image_get32(ENTRY(entries[i].block));
		char codes[256];

		image_put32(ENTRY(entries[i].block), entries[i].sector);
		image_check(false, codes, sizeof(codes));
		cr_expect(!strncmp(codes, entries[i].codes, strlen(entries[i].codes)), "%zu: %s", i,
			  codes);
		image_put32(ENTRY(entries[i].block), old);
	}
}

Test(check, table_cut_by_the_end_of_the_file)
{
	image_make(VHD_DYNAMIC);
	image_resize(IMAGE_BAT + 40);
	image_assert_codes("footer-missing bat-truncated");
}

Test(check, block_cut_where_it_holds_data)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_size() - 8192);
	image_assert_codes("footer-missing block-truncated");
	cr_assert_not(image_first()->repairable);
}

Test(check, block_cut_where_it_holds_nothing)
{
	image_make(VHD_DIFFERENCING);
	image_resize(image_size() - 8192);
	image_assert_codes("footer-missing block-short");
}

Test(check, blocks_not_on_4_kib_are_one_note)
{
	image_make(VHD_DYNAMIC);
	image_put32(ENTRY(0), IMAGE_BITMAP / 512 - 1);
	image_put32(ENTRY(3), image_get32(ENTRY(3)) - 1);
	image_assert_codes("block-misaligned bitmap-data bitmap-data");
}

Test(check, at_most_a_thousand_findings_of_a_code_are_told_and_all_counted)
{
	enum { ENTRIES = 5000 };
	struct vhd_check_result result;
	char *codes = malloc(1 << 20);
	uint64_t bat = 2 << 20;

	image_make(VHD_DYNAMIC);
	image_both64(FOOTER(current_size), (uint64_t)ENTRIES * IMAGE_BLOCK_BYTES);
	image_put32(HEADER(max_entries), ENTRIES);
	image_put64(HEADER(bat_offset), bat);
	image_seal_header();
	for (uint32_t i = 0; i < ENTRIES; i++)
		image_put32(bat + 4 * i, 0x7f000000 + i);
	image_resize(bat + (4 * ENTRIES + 511) / 512 * 512);
	result = image_check(false, codes, 1 << 20);
	cr_assert_eq(result.errors, ENTRIES + 1); /* and the footer is gone */
	cr_assert_eq(result.untold, ENTRIES - VHD_CHECK_MAX_TOLD);
	free(codes);
}

static int open_image(unsigned flags)
{
	struct hv_loop *loop;
	struct hv_file *file;
	struct hv_disk *disk;
	HV_ERR(err);
	int rc;

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	cr_assert_eq(hv_file_open(image_path(), flags, loop, &file, &err), 0);
	rc = vhd_open(file, 0, &disk, &err);
	if (rc)
		hv_file_close(file);
	else
		hv_disk_close(disk);
	hv_loop_free(loop);
	return rc;
}

/* Where such a table or locator would be, new blocks would come to lie. */
Test(check, metadata_beyond_the_end_of_the_file_is_for_reading_only)
{
	image_make(VHD_DIFFERENCING);
	image_put32(HEADER(max_entries), 1 << 24);
	image_seal_header();
	image_assert_codes("bat-truncated");
	cr_assert_eq(open_image(0), 0);
	cr_assert_eq(open_image(HV_FILE_WRITE), -EBADMSG);
	image_put32(HEADER(max_entries), 16);
	image_put32(LOCATOR(0, data_offset) + 4, 1 << 24);
	image_seal_header();
	cr_assert_eq(open_image(0), 0);
	cr_assert_eq(open_image(HV_FILE_WRITE), -EBADMSG);
}

/* Bitmaps. */

Test(check, data_under_a_clear_bit)
{
	image_make(VHD_DYNAMIC);
	image_put(IMAGE_BITMAP, 0xef); /* sector 3 of 8 that hold data */
	image_assert_codes("bitmap-data");
	cr_assert_eq(image_first()->block, 0);
	cr_assert_eq(image_first()->offset, IMAGE_BITMAP + 512 + 3 * 512);
	cr_assert_eq(image_first()->severity, VHD_ERROR);
}

Test(check, data_under_a_clear_bit_of_a_differencing_disk_is_nobodys_business)
{
	image_make(VHD_DIFFERENCING);
	image_put(image_get32(image_get32(HEADER(bat_offset) + 4)) * 512, 0);
	image_assert_codes("");
}

Test(check, zeros_under_a_clear_bit_are_fine)
{
	image_make(VHD_DYNAMIC);
	image_put(IMAGE_BITMAP + 1, 0);
	image_assert_codes("");
}

/* Space that nothing uses. */

Test(check, slack_before_the_footer)
{
	struct vhd_check_result result;
	struct vhd_disk_footer footer;
	uint64_t place;
	char codes[64];

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, &footer, sizeof(footer));
	image_write(place + (3 << 20), &footer, sizeof(footer));
	result = image_check(false, codes, sizeof(codes));
	cr_assert_str_eq(codes, "leak-tail");
	cr_assert_eq(result.leaked_bytes, 3 << 20);
	cr_assert_eq(result.leaks, 1);
	cr_assert(image_first()->repairable);
}

Test(check, padding_before_the_footer_is_no_slack)
{
	struct vhd_disk_footer footer;
	uint64_t place;

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, &footer, sizeof(footer));
	image_write(place + 4096, &footer, sizeof(footer));
	image_assert_codes("");
}

Test(check, space_between_blocks)
{
	struct vhd_check_result result;
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put32(ENTRY(0), VHD_UNUSED);
	result = image_check(false, codes, sizeof(codes));
	cr_assert_str_eq(codes, "leak-gap");
	cr_assert_not(image_first()->repairable);
	cr_assert_eq(image_first()->offset, 2048);
	cr_assert_eq(result.leaked_bytes, IMAGE_BITMAP + IMAGE_STRIDE - 2048);
}

Test(check, gaps_are_what_may_be_lost_while_the_table_is_wrong)
{
	image_make(VHD_DYNAMIC);
	image_put32(ENTRY(0), 0x70000000);
	image_assert_codes("bat-outside bat-scan block-unclaimed");
}

/* Xen. */

Test(check, interrupted_resize_stops_everything)
{
	image_make(VHD_DYNAMIC);
	image_write(0, VHD_POISON_COOKIE, 8);
	image_put(IMAGE_HEADER, 0);
	image_assert_codes("xen-poison");
	cr_assert_not(image_first()->repairable);
}

Test(check, bitmaps_in_another_bit_order)
{
	image_make(VHD_DYNAMIC);
	image_both32(FOOTER(creator), 0x74617000);
	image_both32(FOOTER(creator_version), 1);
	image_put(IMAGE_BITMAP, 0);
	image_assert_codes("xen-bitmap-order");
}

/* Puts a batmap right behind the BAT of a dynamic disk, with block 0 in it. */
static void put_batmap(uint32_t checksum, uint8_t encrypted)
{
	struct vhd_disk_batmap batmap = { .cookie = VHD_BATMAP_COOKIE,
					  .offset = hv_be64_make(IMAGE_BAT + 1024),
					  .sectors = hv_be32_make(1),
					  .version = hv_be32_make(0x00010002),
					  .checksum = hv_be32_make(checksum),
					  .keyhash_cookie = encrypted };

	image_both32(FOOTER(creator), 0x74617000);
	image_both32(FOOTER(creator_version), 0x00010003);
	image_write(IMAGE_BAT + 512, &batmap, sizeof(batmap));
	image_put(IMAGE_BAT + 1024, 0x80);
}

Test(check, batmap_that_is_right_is_noted)
{
	image_make(VHD_DYNAMIC);
	put_batmap(~UINT32_C(0x80), 0);
	image_assert_codes("xen-batmap");
	cr_assert_eq(image_first()->severity, VHD_NOTE);
}

Test(check, batmap_with_wrong_checksum)
{
	struct vhd_check_result result;
	char codes[64];

	image_make(VHD_DYNAMIC);
	put_batmap(0, 0);
	result = image_check(false, codes, sizeof(codes));
	cr_assert_str_eq(codes, "xen-batmap xen-batmap");
	cr_assert_eq(result.errors, 1);
}

Test(check, batmap_that_contradicts_a_bitmap)
{
	image_make(VHD_DYNAMIC);
	put_batmap(~UINT32_C(0x80), 0);
	image_put(IMAGE_BITMAP + 30, 0);
	image_assert_codes("xen-batmap xen-batmap");
}

Test(check, batmap_that_knows_a_block_which_is_not_there)
{
	image_make(VHD_DYNAMIC);
	put_batmap(~UINT32_C(0xc0), 0);
	image_put(IMAGE_BAT + 1024, 0xc0);
	image_assert_codes("xen-batmap xen-batmap");
}

/* What is missing in the file is absent by the bitmap, but there by the batmap. */
Test(check, batmap_that_contradicts_the_bitmap_of_a_block_stored_short)
{
	struct vhd_disk_footer footer;
	uint64_t cut;

	image_make(VHD_DYNAMIC);
	put_batmap(~UINT32_C(0x90), 0);
	image_put(IMAGE_BAT + 1024, 0x90);
	image_put((uint64_t)image_get32(ENTRY(3)) * 512 + IMAGE_BLOCK_BYTES / 512 / 8 - 1, 0);
	cut = (uint64_t)image_get32(ENTRY(3)) * 512 + 512 + IMAGE_BLOCK_BYTES - 8 * 512;
	image_read(0, &footer, sizeof(footer));
	image_resize(cut);
	image_write(cut, &footer, sizeof(footer));
	image_assert_codes("block-short xen-batmap xen-batmap");
}

Test(check, encrypted_contents)
{
	image_make(VHD_DYNAMIC);
	put_batmap(~UINT32_C(0x80), 1);
	image_assert_codes("xen-batmap xen-encrypted");
}
