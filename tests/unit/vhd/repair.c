/*
 * Repair and undo: what is mended, what is left alone, and that neither a power cut nor a failing
 * write makes anything worse. HVKIT_SEED in the environment repeats a run of the power cuts.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hvcore/digest.h"
#include "tests/crash/explore.h"
#include "tests/unit/vhd/image.h"
#include "vhd/footer.h"

#define FOOTER(field) offsetof(struct vhd_disk_footer, field)
#define HEADER(field) (IMAGE_HEADER + offsetof(struct vhd_disk_header, field))
#define STATES 32 /* of each cut */

TestSuite(repair, .init = image_setup, .fini = image_teardown);

static int undo_file(struct hv_file *file)
{
	HV_ERR(err);

	return vhd_undo(file, image_undo_path(), &err);
}

static int undo(void)
{
	struct hv_file *file;
	HV_ERR(err);
	int rc;

	cr_assert_eq(hv_file_open(image_path(), HV_FILE_WRITE, NULL, &file, &err), 0);
	rc = undo_file(file);
	hv_file_close(file);
	return rc;
}

static void assert_contents(struct hv_file *file, const uint8_t *bytes, uint64_t size)
{
	uint8_t *now = malloc(size + 1);
	HV_ERR(err);

	cr_assert_eq(file->size_bytes, size);
	cr_assert_eq(hv_file_pread(file, now, size, 0, &err), 0);
	cr_assert(memcmp(now, bytes, size) == 0);
	free(now);
}

/* The same file in memory, where every instant of a repair can be looked at. */
static struct crash_world *load(struct crash_stage *stage)
{
	struct crash_world *world = crash_world_new(stage);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	uint8_t *bytes = image_contents();
	HV_ERR(err);

	cr_assert_eq(crash_create(world, "disk.vhd", false, &file, &err), 0);
	cr_assert_eq(hv_file_pwrite(file, bytes, image_size(), 0, &err), 0);
	cr_assert_eq(hv_file_publish(file, &err), 0);
	crash_forget(world);
	free(bytes);
	return world;
}

static struct hv_file *open_loaded(struct crash_world *world)
{
	struct hv_file *file;
	HV_ERR(err);

	cr_assert_eq(crash_open(world, "disk.vhd", HV_FILE_WRITE, &file, &err), 0);
	return file;
}

static unsigned seed(void)
{
	const char *text = getenv("HVKIT_SEED");
	unsigned value = text ? (unsigned)strtoul(text, NULL, 0) : (unsigned)time(NULL);

	fprintf(stderr, "HVKIT_SEED=%u\n", value);
	return value;
}

static bool has_footer(struct hv_file *file)
{
	struct vhd_footers footers;
	HV_ERR(err);

	cr_assert_eq(vhd_footers_read(file, &footers, &err), 0);
	return footers.best != NULL;
}

/* What a repair, or an undo, began with. */
struct origin {
	bool footer; /* it had a good one, so that it always has */
	const uint8_t *bytes;
	uint64_t size;
};

/* After every cut: a footer is there if one was, undo works, and so does another check. */
static bool judge_cut(struct crash_world *state, uint64_t at, void *arg)
{
	HV_AUTO(crash_world_free) struct crash_world *copy = crash_world_copy(state);
	HV_AUTO(hv_file_close) struct hv_file *after = open_loaded(state);
	HV_AUTO(hv_file_close) struct hv_file *again = open_loaded(copy);
	const struct origin *origin = arg;
	char codes[256];

	(void)at;
	cr_assert(has_footer(after) || !origin->footer, "at %s", crash_explore_where());
	cr_assert_eq(undo_file(after), 0, "at %s", crash_explore_where());
	assert_contents(after, origin->bytes, origin->size);
	image_check_file(again, false, codes, sizeof(codes));
	return true;
}

static void power_cuts(void)
{
	struct crash_stage *stage = crash_stage_new(NULL, 1);
	struct crash_world *world = load(stage);
	struct hv_file *file = open_loaded(world);
	uint8_t *bytes = image_contents();
	struct origin origin = { has_footer(file), bytes, image_size() };
	struct crash_plan plan = { .seed = seed(), .states = STATES };
	char codes[256];

	image_check_file(file, true, codes, sizeof(codes));
	cr_assert(crash_explore(world, &plan, judge_cut, &origin));
	/* And of the undo. */
	crash_forget(world);
	origin.footer = false;
	cr_assert_eq(undo_file(file), 0);
	cr_assert(crash_explore(world, &plan, judge_cut, &origin));
	hv_file_close(file);
	crash_world_free(world);
	crash_stage_free(stage);
	cr_assert_eq(unlink(image_undo_path()), 0);
	free(bytes);
}

/* Repair leaves a sound disk, and undo what was there before. */
static void assert_mends(const char *codes)
{
	uint8_t *before = image_contents(), *after;
	uint64_t size = image_size();
	struct vhd_check_result result;
	char have[256];

	power_cuts();
	result = image_check(true, have, sizeof(have));
	cr_assert_str_eq(have, codes);
	cr_assert(image_first()->repaired);
	cr_assert_eq(result.errors + result.leaks, 0);
	cr_assert_eq(result.leaked_bytes, 0);
	image_assert_codes("");
	cr_assert_eq(undo(), 0);
	after = image_contents();
	cr_assert_eq(image_size(), size);
	cr_assert(memcmp(before, after, size) == 0);
	image_assert_codes(codes);
	free(before);
	free(after);
}

static void assert_leaves(const char *codes)
{
	uint8_t *before = image_contents(), *after;
	uint64_t size = image_size();
	char have[256];

	image_check(true, have, sizeof(have));
	cr_assert_str_eq(have, codes);
	cr_assert_eq(image_size(), size);
	after = image_contents();
	cr_assert(memcmp(before, after, size) == 0);
	cr_assert_neq(access(image_undo_path(), F_OK), 0);
	free(before);
	free(after);
}

Test(repair, leaves_a_sound_disk_alone)
{
	image_make(VHD_DYNAMIC);
	assert_leaves("");
}

Test(repair, trailing_footer_from_the_copy)
{
	image_make(VHD_DYNAMIC);
	image_put(image_footer() + 100, 0x42);
	assert_mends("footer-checksum");
}

Test(repair, trailing_footer_of_a_differencing_disk)
{
	image_make(VHD_DIFFERENCING);
	image_put(image_footer() + 4, 0);
	assert_mends("footer-cookie");
}

Test(repair, trailing_footer_that_was_cut_off)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer());
	assert_mends("footer-missing");
}

Test(repair, trailing_footer_that_was_cut_off_with_the_padding_before_it)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer() - 3584);
	assert_mends("footer-missing");
}

Test(repair, trailing_footer_that_was_cut_in_the_middle)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer() + 77);
	assert_mends("footer-missing");
}

Test(repair, trailing_footer_missing_with_slack_behind_the_blocks)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer());
	image_resize(image_size() + (1 << 20));
	image_write(image_size() - 70000, "junk", 4);
	assert_mends("footer-missing leak-tail");
}

Test(repair, trailing_footer_filled_by_xen)
{
	uint8_t fill[512];

	image_make(VHD_DYNAMIC);
	memset(fill, VHD_OPEN_BYTE, sizeof(fill));
	image_write(image_footer(), fill, sizeof(fill));
	assert_mends("footer-open");
}

Test(repair, trailing_footer_of_511_bytes)
{
	image_make(VHD_FIXED);
	image_resize(image_size() - 1);
	assert_mends("footer-511");
}

Test(repair, copy_from_the_trailing_footer)
{
	image_make(VHD_DYNAMIC);
	image_put(0, 'x');
	assert_mends("copy-missing");
}

Test(repair, copy_with_wrong_checksum)
{
	image_make(VHD_DIFFERENCING);
	image_put(66, 0x99);
	assert_mends("copy-checksum");
}

Test(repair, copy_that_differs)
{
	image_make(VHD_DYNAMIC);
	image_put32(FOOTER(timestamp), 1);
	image_seal_footer(0);
	assert_mends("footer-differs");
}

Test(repair, both_checksums_over_the_same_plausible_fields)
{
	image_make(VHD_DYNAMIC);
	image_put32(FOOTER(checksum), 1);
	image_put32(image_footer() + FOOTER(checksum), 2);
	assert_mends("footer-checksum copy-checksum");
}

Test(repair, checksum_of_a_fixed_disk)
{
	image_make(VHD_FIXED);
	image_put32(image_footer() + FOOTER(checksum), 1);
	assert_mends("footer-checksum");
}

Test(repair, checksum_of_the_header)
{
	image_make(VHD_DIFFERENCING);
	image_put32(HEADER(checksum), 1);
	assert_mends("header-checksum");
}

Test(repair, one_field_of_the_header_by_its_checksum)
{
	static const struct {
		size_t field;
		uint32_t number;
		const char *codes;
	} fields[] = {
		{ HEADER(cookie), 0, "header-cookie header-checksum header-derived" },
		{ HEADER(next), 5, "header-checksum header-next header-derived" },
		{ HEADER(version), 0x00330001, "header-checksum header-version header-derived" },
		{ HEADER(bat_offset), 1, "header-checksum header-derived" },
		{ HEADER(bat_offset) + 4, 0x2000, "header-checksum header-derived" },
		{ HEADER(max_entries), 3, "header-checksum header-derived" },
		{ HEADER(block_size), 0x00400000, "header-checksum header-derived" },
		{ HEADER(block_size), 12345, "header-checksum header-block-size header-derived" },
	};

	for (int type = VHD_DYNAMIC; type <= VHD_DIFFERENCING; type++) {
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
			image_make((enum vhd_type)type);
			image_put32(fields[i].field, fields[i].number);
			assert_mends(fields[i].codes);
			cr_assert_eq(unlink(image_path()), 0);
			cr_assert_eq(unlink(image_undo_path()), 0);
		}
	}
}

Test(repair, two_fields_of_the_header_are_too_many)
{
	image_make(VHD_DYNAMIC);
	image_put32(HEADER(bat_offset) + 4, 0x2000);
	image_put32(HEADER(block_size), 0x00400000);
	assert_leaves("header-checksum bat-outside bat-outside");
}

/* The checksum was right for a header that says nonsense. */
Test(repair, header_that_never_was_sound_is_not_derived)
{
	image_make(VHD_DYNAMIC);
	image_put32(HEADER(block_size), 524289);
	image_seal_header();
	image_put32(HEADER(cookie), 0);
	assert_leaves("header-cookie header-checksum");
}

/* Just as right, and too small a table. */
Test(repair, header_with_too_few_entries_is_not_derived)
{
	image_make(VHD_DYNAMIC);
	image_put32(HEADER(max_entries), 3);
	image_seal_header();
	image_put32(HEADER(cookie), 0);
	assert_leaves("header-cookie header-checksum header-entries");
}

Test(repair, slack_before_the_footer_is_cut_off)
{
	struct vhd_disk_footer footer;
	uint64_t place;

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, &footer, sizeof(footer));
	image_write(place, "old junk where the footer belongs", 33);
	image_write(place + (1 << 20), &footer, sizeof(footer));
	image_write(place + 5000, "more", 4);
	image_write(place + (512 << 10) + 300, "and more", 8);
	assert_mends("leak-tail");
}

Test(repair, slack_and_both_kinds_of_footer_damage)
{
	struct vhd_disk_footer footer;
	uint64_t place;

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, &footer, sizeof(footer));
	image_write(place + (1 << 20), &footer, sizeof(footer));
	image_put(0, 0);
	assert_mends("copy-missing leak-tail");
	image_write(0, "c", 1);
	image_put(image_footer() + 70, (uint8_t)~footer.uuid[2]);
	unlink(image_undo_path());
	assert_mends("footer-checksum leak-tail");
}

Test(repair, entry_that_cannot_have_meant_anything)
{
	image_make(VHD_DYNAMIC);
	image_put32(IMAGE_BAT + 20, 0);
	assert_mends("bat-metadata bat-scan block-unused");
}

Test(repair, entry_and_both_kinds_of_footer_damage)
{
	image_make(VHD_DYNAMIC);
	image_put32(IMAGE_BAT + 12, image_get32(IMAGE_BAT + 12) ^ 0x4000000);
	image_put(0, 0);
	image_put(image_footer() + 100, 0x42);
	assert_leaves("footer-checksum copy-missing footer-reserved bat-outside");
	image_write(0, "c", 1);
	assert_mends("footer-checksum bat-outside bat-scan block-found");
}

/* What is left alone. */

Test(repair, does_not_touch_an_entry_that_may_have_meant_something)
{
	image_make(VHD_DYNAMIC);
	image_put32(IMAGE_BAT + 12, 0);
	assert_leaves("bat-metadata bat-scan block-unclaimed");
}

/* Its last sector is the footer's as well, which a repair of the table would write over. */
Test(repair, does_not_touch_a_table_that_the_end_of_the_file_cuts)
{
	uint8_t table[IMAGE_BYTES / IMAGE_BLOCK_BYTES * 4], footer[VHD_FOOTER_BYTES];
	static const uint8_t zeros[512];
	uint64_t place;

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, footer, sizeof(footer));
	image_read(IMAGE_BAT, table, sizeof(table));
	image_write(IMAGE_BAT, zeros, sizeof(zeros));
	image_write(place, table, sizeof(table));
	image_write(place + sizeof(table), footer, sizeof(footer));
	image_put64(HEADER(bat_offset), place);
	image_seal_header();
	image_put32(place + 20, 0);
	assert_leaves("bat-truncated bat-metadata");
}

Test(repair, does_not_cut_off_what_a_wrong_entry_may_have_meant)
{
	struct vhd_disk_footer footer;
	uint64_t place;

	image_make(VHD_DYNAMIC);
	place = image_footer();
	image_read(place, &footer, sizeof(footer));
	image_write(place + (1 << 20), &footer, sizeof(footer));
	image_put32(IMAGE_BAT, 0x70000000);
	assert_leaves("bat-outside bat-scan");
}

Test(repair, does_not_cut_off_the_blocks_of_a_wiped_table)
{
	uint8_t unused[512];

	memset(unused, 0xff, sizeof(unused));
	image_make(VHD_DYNAMIC);
	image_write(IMAGE_BAT, unused, sizeof(unused));
	assert_leaves("leak-tail");
}

Test(repair, does_not_shrink_a_disk_in_saved_state)
{
	struct vhd_disk_footer footer;

	image_make(VHD_DYNAMIC);
	image_both32(FOOTER(saved_state), 0x01000000);
	image_read(0, &footer, sizeof(footer));
	image_write(image_footer() + (1 << 20), &footer, sizeof(footer));
	assert_leaves("saved-state leak-tail");
}

Test(repair, does_not_choose_between_two_disks)
{
	image_make(VHD_DYNAMIC);
	image_put(FOOTER(uuid), 0x55);
	image_seal_footer(0);
	image_put(FOOTER(uuid) + 1, 0x55);
	image_seal_footer(0);
	assert_leaves("footer-differs");
}

Test(repair, does_not_choose_between_two_damaged_footers)
{
	image_make(VHD_DYNAMIC);
	image_put32(FOOTER(timestamp), 77);
	image_put32(image_footer() + FOOTER(timestamp), 78);
	assert_leaves("footer-checksum copy-checksum");
}

Test(repair, does_not_bless_a_header_with_wrong_fields)
{
	image_make(VHD_DYNAMIC);
	image_put(HEADER(parent_name), 'x');
	assert_leaves("header-checksum");
}

Test(repair, does_not_bless_a_fixed_footer_with_a_wrong_size)
{
	image_make(VHD_FIXED);
	image_put64(image_footer() + FOOTER(current_size), IMAGE_BYTES - 512);
	assert_leaves("footer-checksum");
}

Test(repair, does_not_build_a_footer_over_a_cut_block)
{
	image_make(VHD_DYNAMIC);
	image_resize(image_footer() - 65536);
	assert_leaves("footer-missing block-truncated");
}

/* Behind a good footer, what was lost would read as zero. */
Test(repair, does_not_hide_that_a_block_was_cut)
{
	struct vhd_disk_footer footer;

	image_make(VHD_DYNAMIC);
	image_read(image_footer(), &footer, sizeof(footer));
	image_resize(image_size() - 8192);
	footer.checksum = hv_be32_make(1);
	image_write(image_size(), &footer, sizeof(footer));
	assert_leaves("footer-checksum block-truncated");
}

Test(repair, does_not_touch_an_interrupted_resize)
{
	image_make(VHD_DYNAMIC);
	image_write(image_footer(), VHD_POISON_COOKIE, 8);
	image_put(0, 0);
	assert_leaves("xen-poison");
}

/* The undo file. */

static int try_repair(struct hv_file *file)
{
	struct vhd_check_options options = { .repair = true, .undo_path = image_undo_path() };
	struct vhd_check_result result;
	HV_ERR(err);

	return vhd_check(file, &options, &result, &err);
}

Test(repair, never_overwrites_an_undo_file)
{
	uint8_t *before, *after;
	struct hv_file *file;
	FILE *old = NULL;
	HV_ERR(err);

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	before = image_contents();
	old = fopen(image_undo_path(), "w");
	cr_assert_not_null(old);
	fclose(old);
	cr_assert_eq(hv_file_open(image_path(), HV_FILE_WRITE, NULL, &file, &err), 0);
	cr_assert_eq(try_repair(file), -EEXIST);
	hv_file_close(file);
	after = image_contents();
	cr_assert(memcmp(before, after, image_size()) == 0);
	free(before);
	free(after);
}

Test(repair, that_fails_can_be_undone)
{
	static const enum crash_op ops[] = { CRASH_WRITE, CRASH_BARRIER, CRASH_TRUNCATE };
	struct crash_stage *stage = crash_stage_new(NULL, 1);
	struct vhd_disk_footer footer;
	uint8_t *bytes;

	image_make(VHD_DYNAMIC);
	image_read(0, &footer, sizeof(footer));
	image_write(image_footer() + (1 << 20), &footer, sizeof(footer));
	image_put(0, 0);
	bytes = image_contents();
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (unsigned nth = 1; nth <= (ops[i] == CRASH_TRUNCATE ? 1 : 2); nth++) {
			struct crash_world *world = load(stage);
			struct hv_file *file = open_loaded(world);

			crash_fail(world, ops[i], nth, -EIO, false);
			cr_assert_eq(try_repair(file), -EIO);
			cr_assert(has_footer(file));
			/* By somebody who opens it: no barrier succeeds after one that failed. */
			hv_file_close(file);
			file = open_loaded(world);
			cr_assert_eq(undo_file(file), 0);
			assert_contents(file, bytes, image_size());
			hv_file_close(file);
			crash_world_free(world);
			cr_assert_eq(unlink(image_undo_path()), 0);
		}
	}
	crash_stage_free(stage);
	free(bytes);
}

Test(repair, cannot_be_undone_once_a_block_was_added)
{
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	image_put32(IMAGE_BAT + 20, 5);
	cr_assert_eq(undo(), -ESTALE);
}

Test(repair, cannot_be_undone_once_the_footer_was_changed)
{
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	image_put(24, 0x33);
	cr_assert_eq(undo(), -ESTALE);
}

Test(repair, cannot_be_undone_once_the_size_was_changed)
{
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	image_resize(image_size() + 512);
	cr_assert_eq(undo(), -ESTALE);
}

Test(repair, undo_refuses_a_damaged_undo_file)
{
	uint8_t *before;
	long size;
	FILE *file;
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	before = image_contents();
	file = fopen(image_undo_path(), "r+");
	cr_assert_not_null(file);
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	for (long at = 0; at < size; at += 7) {
		uint8_t *after;
		int byte;

		fseek(file, at, SEEK_SET);
		byte = fgetc(file);
		fseek(file, at, SEEK_SET);
		fputc(byte ^ 0x20, file);
		fflush(file);
		cr_assert_eq(undo(), -EBADMSG, "byte %ld", at);
		after = image_contents();
		cr_assert(memcmp(before, after, image_size()) == 0);
		free(after);
		fseek(file, at, SEEK_SET);
		fputc(byte, file);
		fflush(file);
	}
	cr_assert_eq(undo(), 0);
	fclose(file);
	free(before);
}

/* Makes the digest at the end right again. */
static void seal_undo_file(FILE *file)
{
	char digest[HV_SHA256_TEXT_SIZE];
	struct hv_sha256 *sha;
	uint8_t bytes[8192];
	long size;

	fseek(file, 0, SEEK_END);
	size = ftell(file) - (HV_SHA256_TEXT_SIZE - 1);
	cr_assert_leq(size, (long)sizeof(bytes));
	rewind(file);
	cr_assert_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
	cr_assert_eq(hv_sha256_new(&sha), 0);
	hv_sha256_update(sha, bytes, (size_t)size);
	hv_sha256_final(sha, digest);
	hv_sha256_free(sha);
	fseek(file, size, SEEK_SET);
	fwrite(digest, 1, HV_SHA256_TEXT_SIZE - 1, file);
	fflush(file);
}

/* A large file would be read from beginning to end. */
Test(repair, undo_refuses_a_witness_larger_than_any_table)
{
	hv_be64 length = hv_be64_make((64 << 20) + 4);
	FILE *file;
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	file = fopen(image_undo_path(), "r+");
	cr_assert_not_null(file);
	seal_undo_file(file);
	cr_assert_eq(undo(), 0);
	fseek(file, 32, SEEK_SET);
	fwrite(&length, 1, sizeof(length), file);
	seal_undo_file(file);
	cr_assert_eq(undo(), -EBADMSG);
	fclose(file);
}

Test(repair, undo_refuses_a_cut_undo_file)
{
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	image_check(true, codes, sizeof(codes));
	for (off_t size = 1247; size >= 0; size -= 13) {
		cr_assert_eq(truncate(image_undo_path(), size), 0);
		cr_assert_eq(undo(), -EBADMSG);
	}
}

Test(repair, undo_file_is_no_more_readable_than_the_disk)
{
	struct stat st;
	char codes[64];

	image_make(VHD_DYNAMIC);
	image_put(0, 0);
	cr_assert_eq(chmod(image_path(), 0600), 0);
	image_check(true, codes, sizeof(codes));
	cr_assert_eq(stat(image_undo_path(), &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
}
