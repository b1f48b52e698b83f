/*
 * Fuzz target: checking an image, mending it, and undoing that. What check says, what opening says
 * and what is read must agree, before and after.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/checking.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/image.h"
#include "tests/fuzz/harness/reading.h"

#define VHD_ALIGN 4096

/* Neither -ENOTSUP (encrypted, too large a table) nor -EBUSY (saved state) is a defect. */
static bool is_refusal(int code)
{
	return code == -EBADMSG || code == -EINVAL;
}

static void judge_agreement(const struct checked *checked, int read_code, int write_code)
{
	const char *forbidden = checking_forbids_writing(checked);

	fuzz_assert(write_code || !read_code, "opens for writing only: %d", read_code);
	fuzz_assert(!checked->rc || write_code, "opens for writing, but is no VHD to check");
	fuzz_assert(!checked->rc || checked->rc == -ENOTSUP || read_code,
		    "opens for reading, but is no VHD to check");
	if (checked->rc)
		return;
	if (!checked->result.errors)
		fuzz_assert(!is_refusal(write_code), "is sound, but does not open for writing");
	fuzz_assert(write_code || !forbidden, "opens for writing, in spite of %s", forbidden);
}

static int try_open(const struct sparse *sparse, bool writable)
{
	int code;
	struct hv_disk *disk = reading_open(sparse_copy(sparse, writable), 0, &code);

	hv_disk_close(disk);
	return code;
}

static void check_twice(struct sparse *sparse, struct checked *ret)
{
	struct checked again;

	checking_run(sparse, NULL, ret);
	checking_run(sparse, NULL, &again);
	fuzz_assert(ret->rc == again.rc &&
			    !memcmp(&ret->result, &again.result, sizeof(again.result)),
		    "a second check finds something else");
	fuzz_assert(!ret->result.repaired, "a check repairs");
}

/* What the repaired file holds is what the file held before. */
/* Blocks that could not be read, because the table was wrong about them: repair may find them. */
static bool *unreadable_blocks(struct hv_disk *disk, const struct truth *truth)
{
	uint64_t count =
		truth->type == VHD_FIXED ? 0 : hv_div_up(disk->size_bytes, truth->block_bytes);
	bool *unreadable = calloc(count + 1, sizeof(*unreadable));
	uint8_t buf[HV_SECTOR_SIZE];
	HV_ERR(err);

	for (uint64_t i = 0; i < count; i++)
		unreadable[i] = hv_disk_pread(disk, buf, sizeof(buf), i * truth->block_bytes,
					      &err) == -EBADMSG;
	return unreadable;
}

static void judge_contents(const struct sparse *before, const struct sparse *after)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(free) bool *unreadable = NULL;
	struct reading reading = { .parent_bytes = UINT64_C(1) << 41 };
	struct hv_disk *old;
	uint64_t size;
	int code;

	old = reading_open(sparse_copy(before, false), 0, &code);
	if (!old)
		return;
	truth_init(&reading.truth, before, old);
	unreadable = unreadable_blocks(old, &reading.truth);
	reading.truth.any = unreadable;
	size = old->size_bytes;
	hv_disk_close(old);
	disk = reading_open(sparse_copy(after, false), reading.parent_bytes, &code);
	fuzz_assert(disk, "cannot be opened any more after a repair: %d", code);
	fuzz_assert(disk->size_bytes == size, "has another size after a repair");
	reading.disk = disk;
	reading_walk(&reading);
}

/* What was taken for a damaged footer may have been the table, and be mended. */
static bool was_no_footer(const char *error, const struct checked *repair)
{
	return !strcmp(error, "footer-missing") && checking_has_error(repair, "footer-cookie");
}

/* The last sector of a file of no whole sectors is looked at when a footer lies behind it. */
static bool half_a_sector(const struct checked *after, const struct sparse *before)
{
	return checking_has_error(after, "bitmap-data") &&
	       sparse_file((struct sparse *)(uintptr_t)before)->size_bytes % HV_SECTOR_SIZE;
}

static void judge_repaired(const struct sparse *before, struct sparse *repaired,
			   const struct checked *checked, const struct checked *repair)
{
	struct checked after;
	const char *new_error;
	unsigned half = 0;

	check_twice(repaired, &after);
	new_error = checking_new_error(repair, &after);
	if (new_error && was_no_footer(new_error, repair))
		new_error = NULL;
	if (half_a_sector(&after, before)) {
		half = 1;
		if (new_error && !strcmp(new_error, "bitmap-data"))
			new_error = NULL;
	}
	fuzz_assert(repair->rc == 0 && after.rc == 0, "cannot be checked any more: %d %d",
		    repair->rc, after.rc);
	fuzz_assert(repair->result.repaired == checked->result.repairable,
		    "%u of %u findings were repaired", repair->result.repaired,
		    checked->result.repairable);
	fuzz_assert(after.result.errors <= repair->result.errors + half && !new_error,
		    "%u errors after a repair, %u were left; new: %s", after.result.errors,
		    repair->result.errors, new_error);
	/*
	 * A footer that has moved lies on a boundary. Where entries are wrong nobody knows what
	 * belongs to nothing.
	 */
	fuzz_assert(checking_forbids_writing(checked) ||
			    after.result.leaked_bytes <=
				    repair->result.leaked_bytes + 2 * VHD_ALIGN,
		    "%llu bytes leak after a repair, %llu were left",
		    (unsigned long long)after.result.leaked_bytes,
		    (unsigned long long)repair->result.leaked_bytes);
	judge_agreement(&after, try_open(repaired, false), try_open(repaired, true));
	judge_contents(before, repaired);
}

static void judge_undo(const struct sparse *before, struct sparse *repaired, const char *undo_path)
{
	HV_ERR(err);
	int rc = vhd_undo(sparse_file(repaired), undo_path, &err);

	fuzz_assert(rc == 0, "vhd_undo failed with %d: %s", rc, err.sentence);
	fuzz_assert(sparse_difference(before, repaired) == UINT64_MAX,
		    "byte %llu differs after a repair was undone",
		    (unsigned long long)sparse_difference(before, repaired));
	rc = vhd_undo(sparse_file(repaired), undo_path, &err);
	fuzz_assert(rc == 0, "vhd_undo failed with %d when run again: %s", rc, err.sentence);
	fuzz_assert(sparse_difference(before, repaired) == UINT64_MAX, "undone twice");
}

static void repair_and_undo(const struct sparse *before, const struct checked *checked)
{
	HV_AUTO(sparse_free) struct sparse *repaired = sparse_copy(before, true);
	const char *undo_path = fuzz_temp_path();
	struct checked repair;

	unlink(undo_path);
	checking_run(repaired, undo_path, &repair);
	judge_repaired(before, repaired, checked, &repair);
	fuzz_assert((access(undo_path, F_OK) == 0) == (sparse_changes(repaired) > 0),
		    "%u changes, and the undo file is %sthere", sparse_changes(repaired),
		    access(undo_path, F_OK) ? "not " : "");
	if (sparse_changes(repaired))
		judge_undo(before, repaired, undo_path);
	unlink(undo_path);
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(sparse_free) struct sparse *sparse = fuzz_image_file(data, size);
	struct checked checked;

	if (reading_is_too_large(sparse))
		return;
	check_twice(sparse, &checked);
	judge_agreement(&checked, try_open(sparse, false), try_open(sparse, true));
	if (checked.rc == 0)
		repair_and_undo(sparse, &checked);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
