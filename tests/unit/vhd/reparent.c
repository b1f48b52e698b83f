/*
 * Another parent: what is recorded, where it lies, and that the file leads to one parent or the
 * other, whole, after a power cut at any instant and after any write or barrier that fails.
 */
#include "vhd/reparent.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/memcut.h"
#include "tests/unit/must.h"
#include "vhd/check.h"
#include "vhd/footer.h"

#define BLOCK_BYTES (512u << 10)
#define SIZE_BYTES (4 * (uint64_t)BLOCK_BYTES)
#define LONG_LENGTH 3000 /* of a path that has no room in 4 KiB */

static struct hv_loop *loop;

static void setup(void)
{
	cr_assert_eq(hv_loop_new(&loop, NULL), 0);
}

static void teardown(void)
{
	hv_loop_free(loop);
}

TestSuite(reparent, .init = setup, .fini = teardown, .timeout = 120);

/* Parents: 'a', 'b', ... and 'L', whose path is long. */

struct parent {
	char name[LONG_LENGTH + 16], relative[LONG_LENGTH + 16], absolute[LONG_LENGTH + 16],
		url[LONG_LENGTH + 16];
};

static struct vhd_create_options parent_options(char which, struct parent *text)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING,
					      .size_bytes = SIZE_BYTES,
					      .block_bytes = BLOCK_BYTES,
					      .parent_timestamp = (uint32_t)which,
					      .parent_name = text->name,
					      .parent_relative = text->relative,
					      .parent_absolute = text->absolute,
					      .parent_url = text->url };
	char dir[LONG_LENGTH + 1];
	int length = which == 'L' ? LONG_LENGTH : 3;

	memset(dir, which, sizeof(dir));
	snprintf(text->name, sizeof(text->name), "%c.vhd", which);
	snprintf(text->relative, sizeof(text->relative), ".\\%.*s\\%c.vhd", length, dir, which);
	snprintf(text->absolute, sizeof(text->absolute), "\\%.*s\\%c.vhd", length, dir, which);
	snprintf(text->url, sizeof(text->url), "file:///%.*s/%c.vhd", length, dir, which);
	memset(options.parent_uuid.b, which, sizeof(options.parent_uuid.b));
	return options;
}

/* Which parent the disk records, by every means; they agree. */
static char parent_of(const struct vhd_info *info, bool paths)
{
	char which = (char)info->parent_uuid.b[0];
	const char *texts[3] = { 0 };
	struct parent want;

	parent_options(which, &want);
	cr_assert_eq(info->parent_timestamp, (uint32_t)which);
	cr_assert_str_eq(info->parent_name, want.name);
	if (!paths)
		return which;
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *locator = &info->locators[i];

		if (locator->code == VHD_LOCATOR_W2RU)
			texts[0] = locator->text;
		if (locator->code == VHD_LOCATOR_W2KU)
			texts[1] = locator->text;
		if (locator->code == VHD_LOCATOR_MACX)
			texts[2] = locator->text;
		cr_assert_leq(locator->length_bytes, locator->space_bytes);
	}
	cr_assert_str_eq(texts[0], want.relative);
	cr_assert_str_eq(texts[1], want.absolute);
	cr_assert_str_eq(texts[2], want.url);
	return which;
}

/* Disks: a child of 'a' that holds block 2, and a few sectors of block 0. */

enum layout {
	OURS,
	NO_PATHS,
	ONE_PATH,
	SMALL_SPACES,
	OVER_TABLE,
	AFTER_TABLE,
	OVER_BLOCKS,
	LAYOUTS
};

static void patch_header(struct hv_file *file, enum layout layout)
{
	struct vhd_disk_header header;
	uint32_t entries;
	HV_ERR(err);

	must(hv_file_pread(file, &header, sizeof(header), 512, &err), &err);
	entries = hv_be32_get(header.max_entries);
	for (int i = 0; i < 3; i++) {
		if (layout == SMALL_SPACES)
			header.locators[i].data_space = hv_be32_make(i ? 512 : 4096);
		if (layout == OVER_TABLE && !i) /* what is said to be reserved is not */
			header.locators[i].data_space = hv_be32_make(49664);
	}
	if (layout >= AFTER_TABLE) { /* the table goes first, paths follow it, in one sector each */
		uint8_t bat[512], text[512];

		must(hv_file_pread(file, bat, sizeof(bat), hv_be64_get(header.bat_offset), &err),
		     &err);
		header.bat_offset = hv_be64_make(1536);
		for (int i = 0; i < 3; i++) {
			must(hv_file_pread(file, text, sizeof(text),
					   hv_be64_get(header.locators[i].data_offset), &err),
			     &err);
			header.locators[i].data_offset = hv_be64_make(2048 + 512 * (uint64_t)i);
			header.locators[i].data_space = hv_be32_make(1); /* counted in sectors */
			must(hv_file_pwrite(file, text, sizeof(text), 2048 + 512 * (uint64_t)i,
					    &err),
			     &err);
		}
		if (layout == OVER_BLOCKS)
			header.locators[2].data_space = hv_be32_make(64 << 10);
		must(hv_file_pwrite(file, bat, sizeof(bat), 1536, &err), &err);
	}
	cr_assert_eq(entries, SIZE_BYTES / BLOCK_BYTES);
	vhd_header_seal(&header);
	must(hv_file_pwrite(file, &header, sizeof(header), 512, &err), &err);
}

static void fill(struct hv_disk *disk)
{
	static uint8_t data[BLOCK_BYTES];
	HV_ERR(err);

	memset(data, 'x', sizeof(data));
	must(hv_disk_pwrite(disk, data, sizeof(data), 2 * (uint64_t)BLOCK_BYTES, &err), &err);
	must(hv_disk_pwrite(disk, data, 1536, 1024, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
}

static struct memfile *make_child(enum layout layout)
{
	struct memfile *mem = memfile_new(loop), *copy;
	struct parent text;
	struct vhd_create_options options = parent_options('a', &text);
	struct hv_disk *disk;
	HV_ERR(err);

	if (layout == NO_PATHS || layout == ONE_PATH)
		options.parent_absolute = options.parent_url = NULL;
	if (layout == NO_PATHS)
		options.parent_relative = NULL;
	must(vhd_create(memfile_file(mem), &options, &err), &err);
	if (layout > ONE_PATH)
		patch_header(memfile_file(mem), layout);
	/* The flush puts the footer into its place. */
	must(vhd_open(memfile_file(mem), VHD_OPEN_UNORDERED, &disk, &err), &err);
	fill(disk);
	copy = memfile_copy(mem);
	hv_disk_close(disk);
	return copy;
}

static void assert_data(struct hv_disk *disk)
{
	static uint8_t data[BLOCK_BYTES], want[BLOCK_BYTES];
	HV_ERR(err);

	memset(want, 'x', sizeof(want));
	must(hv_disk_pread(disk, data, sizeof(data), 2 * (uint64_t)BLOCK_BYTES, &err), &err);
	cr_assert_eq(memcmp(data, want, sizeof(data)), 0);
	must(hv_disk_pread(disk, data, 1536, 1024, &err), &err);
	cr_assert_eq(memcmp(data, want, 1536), 0);
}

/* Checking. */

struct findings {
	unsigned errors, leaks;
	bool differs;
};

static void note(const struct vhd_finding *finding, void *arg)
{
	struct findings *findings = arg;

	if (!strcmp(finding->code, "footer-differs")) {
		findings->differs = true;
	} else if (finding->severity == VHD_ERROR) {
		fprintf(stderr, "%s: %s\n", finding->code, finding->sentence);
		findings->errors++;
	} else if (finding->severity == VHD_LEAK) {
		findings->leaks++;
	}
}

static struct findings check(struct memfile *mem)
{
	struct findings findings = { 0 };
	struct vhd_check_options options = { .data = true, .found = note, .arg = &findings };
	struct vhd_check_result result;
	HV_ERR(err);

	must(vhd_check(memfile_file(mem), &options, &result, &err), &err);
	return findings;
}

static int reparent(struct hv_disk *disk, char to, unsigned flags, struct hv_err *err)
{
	struct parent text;
	struct vhd_create_options options = parent_options(to, &text);

	return vhd_reparent(disk, &options, flags, err);
}

/* Whoever looks at only one of the footers sees a whole parent, too. */
static void assert_each_footer_leads_somewhere(struct memfile *mem, bool old_has_paths)
{
	static const uint8_t zeros[VHD_FOOTER_BYTES];
	uint64_t places[] = { 0, memfile_file(mem)->size_bytes - VHD_FOOTER_BYTES };

	for (int i = 0; i < 2; i++) {
		struct memfile *copy = memfile_copy(mem);
		struct hv_disk *disk;
		char which;
		HV_ERR(err);

		must(hv_file_pwrite(memfile_file(copy), zeros, sizeof(zeros), places[i], &err),
		     &err);
		memfile_file(copy)->writable = false;
		must(vhd_open(memfile_file(copy), 0, &disk, &err), &err);
		which = (char)vhd_get_info(disk)->parent_uuid.b[0];
		cr_assert(which == 'a' || which == 'b' || which == 'L');
		parent_of(vhd_get_info(disk), which != 'a' || old_has_paths);
		assert_data(disk);
		hv_disk_close(disk);
	}
}

/* What is left opens, and goes on: another change brings everything into its place. */
static char look_at_what_is_left(struct memfile *left, bool old_has_paths, bool fits)
{
	struct findings findings = check(left);
	struct memfile *after;
	struct hv_disk *disk;
	char which;
	HV_ERR(err);

	cr_assert_eq(findings.errors, 0);
	assert_each_footer_leads_somewhere(left, old_has_paths);
	must(vhd_open(memfile_file(left), 0, &disk, &err), &err);
	which = (char)vhd_get_info(disk)->parent_uuid.b[0];
	parent_of(vhd_get_info(disk), which != 'a' || old_has_paths);
	assert_data(disk);
	after = memfile_copy(left);
	cr_assert_not(check(after).differs, "opening for writing mends the copy");
	hv_file_close(memfile_file(after));

	must(reparent(disk, 'c', 0, &err), &err);
	cr_assert_eq(parent_of(vhd_get_info(disk), true), 'c');
	cr_assert_eq(vhd_get_info(disk)->header_offset, 512);
	assert_data(disk);
	after = memfile_copy(left);
	findings = check(after);
	cr_assert(!findings.errors && !findings.differs);
	/* Where paths go to the end, they go behind what an interrupted change has left there. */
	cr_assert(!findings.leaks || !fits);
	hv_file_close(memfile_file(after));
	hv_disk_close(disk);
	return which;
}

struct change {
	char to, last; /* last: what the last state had */
	bool old_has_paths, begun;
};

static void judge_cut(struct memfile *left, void *arg)
{
	struct change *change = arg;
	bool fits = change->old_has_paths && change->to != 'L';

	change->last = look_at_what_is_left(left, change->old_has_paths, fits);
	cr_assert(change->last == 'a' || change->last == change->to);
	cr_assert(change->begun || change->last == 'a', "it begins with room, not with a parent");
	change->begun = true;
}

/* A change to parent `to`, cut short everywhere. */
static void cut_everywhere(enum layout layout, char to)
{
	struct memfile *mem = make_child(layout);
	struct memcut *cut = memcut_new(mem);
	struct change change = { .to = to,
				 .old_has_paths = layout != NO_PATHS && layout != ONE_PATH };
	struct hv_disk *disk;
	HV_ERR(err);

	must(vhd_open(memcut_open(cut), 0, &disk, &err), &err);
	must(reparent(disk, to, VHD_REPARENT_ZERO, &err), &err);
	cr_assert_eq(parent_of(vhd_get_info(disk), true), to);
	assert_data(disk);
	memcut_explore(cut, 1, 8, judge_cut, &change);
	cr_assert_eq(change.last, to, "layout %d", layout);
	hv_disk_close(disk);
	memcut_free(cut);
	hv_file_close(memfile_file(mem));
}

Test(reparent, every_cut_leaves_one_parent_or_the_other)
{
	for (int layout = OURS; layout < LAYOUTS; layout++) {
		cut_everywhere((enum layout)layout, 'b');
		cut_everywhere((enum layout)layout, 'L');
	}
}

static void fail_everywhere(enum memfile_op op, int code)
{
	for (unsigned nth = 1;; nth++) {
		struct memfile *mem = make_child(SMALL_SPACES);
		struct hv_disk *disk;
		HV_ERR(err);
		char byte[512] = { 0 };
		int rc;

		must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
		memfile_fail(mem, op, nth, code);
		rc = reparent(disk, 'b', 0, &err);
		memfile_fail(mem, op, 0, 0);
		if (rc == 0) {
			cr_assert_gt(nth, 3);
			hv_disk_close(disk);
			return;
		}
		cr_assert_eq(rc, code);
		/* Nothing more is written, but for a failure before anything was changed. */
		if (hv_disk_pwrite(disk, byte, sizeof(byte), 0, NULL) == 0)
			cr_assert_leq(nth, 1);
		look_at_what_is_left(memfile_copy(mem), true, true);
		hv_disk_close(disk);
	}
}

Test(reparent, every_failing_write_leaves_one_parent_or_the_other)
{
	fail_everywhere(MEM_WRITE, -ENOSPC);
	fail_everywhere(MEM_BARRIER, -EIO);
}

/* Where things lie. */

Test(reparent, what_fits_stays_where_it_was_and_the_file_keeps_its_size)
{
	static const enum layout fitting[] = { OURS, AFTER_TABLE };

	for (unsigned i = 0; i < 2; i++) {
		struct memfile *mem = make_child(fitting[i]);
		uint64_t size, places[3];
		struct hv_disk *disk;
		HV_ERR(err);

		must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
		size = memfile_file(mem)->size_bytes;
		for (int j = 0; j < 3; j++)
			places[j] = vhd_get_info(disk)->locators[j].offset;
		must(reparent(disk, 'b', 0, &err), &err);
		for (int j = 0; j < 3; j++)
			cr_assert_eq(vhd_get_info(disk)->locators[j].offset, places[j]);
		cr_assert_eq(vhd_get_info(disk)->header_offset, 512);
		cr_assert_eq(memfile_file(mem)->size_bytes, size);
		hv_disk_close(disk);
	}
}

Test(reparent, long_paths_go_to_the_end_and_blocks_behind_them)
{
	struct memfile *mem = make_child(AFTER_TABLE), *copy;
	uint8_t data[512];
	struct hv_disk *disk;
	uint64_t end;
	HV_ERR(err);

	must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	end = vhd_get_info(disk)->data_end;
	must(reparent(disk, 'L', 0, &err), &err);
	for (int i = 0; i < 3; i++)
		cr_assert_geq(vhd_get_info(disk)->locators[i].offset, end);
	memset(data, 'y', sizeof(data));
	must(hv_disk_pwrite(disk, data, sizeof(data), 3 * (uint64_t)BLOCK_BYTES, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
	copy = memfile_copy(mem);
	cr_assert_eq(check(copy).errors, 0);
	hv_disk_close(disk);
	must(vhd_open(memfile_file(copy), 0, &disk, &err), &err);
	cr_assert_eq(parent_of(vhd_get_info(disk), true), 'L');
	assert_data(disk);
	must(hv_disk_pread(disk, data, sizeof(data), 3 * (uint64_t)BLOCK_BYTES, &err), &err);
	cr_assert_eq(data[0], 'y');
	/* Short ones find room among the long ones. */
	must(reparent(disk, 'b', 0, &err), &err);
	cr_assert_eq(parent_of(vhd_get_info(disk), true), 'b');
	cr_assert_eq(check(copy).errors, 0);
	hv_disk_close(disk);
}

static bool contains(struct memfile *mem, const void *text, size_t length)
{
	uint64_t size = memfile_file(mem)->size_bytes;
	uint8_t *bytes = malloc(size);
	bool found;
	HV_ERR(err);

	must(hv_file_pread(memfile_file(mem), bytes, size, 0, &err), &err);
	found = memmem(bytes, size, text, length) != NULL;
	free(bytes);
	return found;
}

Test(reparent, old_paths_are_overwritten)
{
	struct memfile *mem = make_child(OURS);
	struct hv_disk *disk;
	HV_ERR(err);

	cr_assert(contains(mem, "file:///aaa", 11));
	must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	must(reparent(disk, 'L', VHD_REPARENT_ZERO, &err), &err);
	cr_assert_not(contains(mem, "aaa", 3));
	cr_assert_not(contains(mem, "a\0a\0a\0", 6));
	hv_disk_close(disk);
}

/* Before the end is cut off, nothing of it is left. */
Test(reparent, what_has_passed_at_the_end_is_overwritten)
{
	struct memfile *mem = make_child(OURS);
	struct hv_disk *disk;
	uint64_t keep, rest;
	uint8_t *tail;
	HV_ERR(err);

	keep = memfile_file(mem)->size_bytes;
	must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	memfile_fail(mem, MEM_TRUNCATE, 1, -EIO);
	cr_assert_eq(reparent(disk, 'b', VHD_REPARENT_ZERO, &err), -EIO);
	cr_assert_gt(memfile_file(mem)->size_bytes, keep + VHD_FOOTER_BYTES);
	rest = memfile_file(mem)->size_bytes - keep - VHD_FOOTER_BYTES;
	tail = malloc(rest);
	must(hv_file_pread(memfile_file(mem), tail, rest, keep, &err), &err);
	for (uint64_t i = 0; i < rest; i++)
		cr_assert_eq(tail[i], 0);
	free(tail);
	hv_disk_close(disk);
}

/* Refusals. */

Test(reparent, only_a_writable_child_takes_another_parent)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC,
					      .size_bytes = SIZE_BYTES,
					      .block_bytes = BLOCK_BYTES };
	struct memfile *mem = make_child(OURS), *dynamic = memfile_new(loop);
	uint8_t data[512] = { 1 };
	struct hv_disk *disk;
	struct parent text;
	HV_ERR(err);

	must(vhd_create(memfile_file(dynamic), &options, &err), &err);
	must(vhd_open(memfile_file(dynamic), 0, &disk, &err), &err);
	cr_assert_eq(reparent(disk, 'b', 0, &err), -EINVAL);
	hv_disk_close(disk);

	must(vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	must(hv_disk_pwrite(disk, data, sizeof(data), 0, &err), &err);
	options = parent_options('b', &text);
	memset(&options.parent_uuid, 0, sizeof(options.parent_uuid));
	cr_assert_eq(vhd_reparent(disk, &options, 0, NULL), -EINVAL);
	options = parent_options('b', &text);
	options.parent_name = "bad \xff name";
	cr_assert_eq(vhd_reparent(disk, &options, 0, NULL), -EINVAL);
	must(reparent(disk, 'b', 0, &err), &err);
	hv_disk_close(disk);
}
