/*
 * Creating, converting, repairing and undoing under power cuts.
 *
 * Undo files are real ones: a repair has its undo file complete before it touches the disk.
 */
#include "tests/crash/vhd/care.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/bytes.h"
#include "vhd/check.h"

#define HEADER_SUM 36 /* offset of the checksum in the header */

/* New disks. */

static int create(struct run *run, struct hv_file **ret)
{
	struct vhd_create_options options = { .type = run->shape.type,
					      .size_bytes =
						      run->shape.sectors * (uint64_t)HV_SECTOR_SIZE,
					      .parent_uuid = { { 1 } },
					      .parent_name = PARENT,
					      .parent_relative = ".\\" PARENT };
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	HV_ERR(err);
	int rc = crash_create(run->world, DISK, true, &file, &err);

	if (options.type != VHD_FIXED)
		options.block_bytes = run->shape.block_bytes;
	if (rc == 0)
		rc = vhd_create(file, &options, &err);
	if (rc == 0)
		*ret = hv_steal(file);
	return rc;
}

static int publish(struct run *run, struct hv_file *file)
{
	HV_ERR(err);
	int rc = hv_file_publish(file, &err);

	if (rc == 0)
		run->promised_at = crash_stage_tick(run->stage);
	return rc;
}

int care_create(struct run *run)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	int rc = create(run, &file);

	return rc ? rc : publish(run, file);
}

int care_convert(struct run *run)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	HV_ERR(err);
	int rc = create(run, &file);

	if (rc == 0)
		rc = vhd_open(file, VHD_OPEN_UNORDERED, &run->disk, &err);
	if (rc)
		return rc;
	hv_steal(file);
	for (int i = 0; i < 6; i++) {
		int result = run_batch(run);

		rc = rc ? rc : result;
	}
	/* Something may have been flushed already, and something is new since. */
	if (rc == 0 && run_random(run, 2))
		rc = run_flush(run);
	rc = rc ? rc : publish(run, vhd_get_file(run->disk));
	/* From now on it is a disk like any other. */
	rc = rc ? rc : run_batch(run);
	return rc ? rc : run_flush(run);
}

bool care_judge_new(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;

	if (crash_exists(state, DISK))
		return judge_disk(state, at, run);
	return !run->promised_at || at < run->promised_at ||
	       run_wrong(run, "the published file is not there");
}

/* Damage. */

static struct hv_file *open_file(struct run *run, struct crash_world *world, bool writable)
{
	struct hv_file *file;
	HV_ERR(err);

	run_must(run, crash_open(world, DISK, writable ? HV_FILE_WRITE : 0, &file, &err), &err);
	return file;
}

static void spoil(struct run *run, struct hv_file *file, uint64_t offset)
{
	uint8_t byte;
	HV_ERR(err);

	run_must(run, hv_file_pread(file, &byte, 1, offset, &err), &err);
	byte ^= 0x55;
	run_must(run, hv_file_pwrite(file, &byte, 1, offset, &err), &err);
}

/* Takes the footer away, and leaves something where it was, or further on. */
static void move_footer(struct run *run, struct hv_file *file, uint64_t slack, bool keep)
{
	uint8_t footer[VHD_FOOTER_BYTES], junk[700];
	uint64_t place = file->size_bytes - VHD_FOOTER_BYTES;
	HV_ERR(err);

	memset(junk, 0x77, sizeof(junk));
	run_must(run, hv_file_pread(file, footer, sizeof(footer), place, &err), &err);
	run_must(run, hv_file_truncate(file, place, &err), &err);
	if (slack)
		run_must(run, hv_file_pwrite(file, junk, sizeof(junk), place + slack - 4096, &err),
			 &err);
	if (keep)
		run_must(run, hv_file_pwrite(file, footer, sizeof(footer), place + slack, &err),
			 &err);
}

static void damage(struct run *run)
{
	HV_AUTO(hv_file_close) struct hv_file *file = open_file(run, run->world, true);

	switch (run->seed % CARE_DAMAGES) {
	case 0: /* the trailing footer */
		spoil(run, file, file->size_bytes - VHD_FOOTER_BYTES + 40 + run_random(run, 20));
		break;
	case 1: /* the copy */
		spoil(run, file, run_random(run, 80));
		break;
	case 2: /* slack before the footer, and the copy */
		move_footer(run, file, 1 << 20, true);
		spoil(run, file, 70);
		break;
	case 3: /* no footer, and slack */
		move_footer(run, file, 600 << 10, false);
		break;
	case 4: /* the header */
		spoil(run, file, 512 + HEADER_SUM);
		break;
	default: /* the header, and slack */
		move_footer(run, file, 2 << 20, true);
		spoil(run, file, 512 + HEADER_SUM);
		break;
	}
}

/* A header that is not believed keeps everybody out. */
static bool was_readable(const struct run *run)
{
	return run->seed % CARE_DAMAGES < 4;
}

/* Repair and undo. */

static void undo_path(const struct run *run, const char *which, char *path, size_t size)
{
	snprintf(path, size, "%.3000s/%s.%llu.%u", run->directory, which,
		 (unsigned long long)run->seed, (unsigned)getpid());
}

static int repair(struct run *run, struct hv_file *file, const char *which, unsigned *errors)
{
	char path[PATH_MAX];
	struct vhd_check_options options = { .repair = true, .data = true, .undo_path = path };
	struct vhd_check_result result = { 0 };
	HV_ERR(err);
	int rc;

	undo_path(run, which, path, sizeof(path));
	unlink(path);
	rc = vhd_check(file, &options, &result, &err);
	if (rc && !run->faulty)
		run_wrong(run, "repair: %s", hv_err_text(&err, rc));
	*errors = result.errors + result.leaks;
	return rc;
}

static int undo(struct run *run, struct hv_file *file)
{
	char path[PATH_MAX];
	HV_ERR(err);
	int rc;

	undo_path(run, "undo", path, sizeof(path));
	rc = vhd_undo(file, path, &err);
	if (rc && !run->faulty)
		run_wrong(run, "undo: %s", hv_err_text(&err, rc));
	return rc;
}

static void remember_damage(struct run *run)
{
	run_close(run);
	damage(run);
	crash_forget(run->world);
	run->before = crash_world_copy(run->world);
}

int care_repair(struct run *run)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	unsigned left;
	int rc;

	remember_damage(run);
	file = open_file(run, run->world, true);
	rc = repair(run, file, "undo", &left);
	if (rc == 0 && left)
		return run_wrong(run, "the repair leaves %u findings", left), -EBADMSG;
	return rc;
}

int care_undo(struct run *run)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	int rc = care_repair(run);

	if (rc)
		return rc;
	crash_forget(run->world);
	file = open_file(run, run->world, true);
	return undo(run, file);
}

static bool same_bytes(struct run *run, struct crash_world *a, struct crash_world *b)
{
	HV_AUTO(hv_file_close) struct hv_file *one = open_file(run, a, false);
	HV_AUTO(hv_file_close) struct hv_file *other = open_file(run, b, false);
	uint64_t size = one->size_bytes;
	HV_AUTO(free) uint8_t *mine = crash_alloc(size), *theirs = crash_alloc(size);

	return size == other->size_bytes && hv_file_pread(one, mine, size, 0, NULL) == 0 &&
	       hv_file_pread(other, theirs, size, 0, NULL) == 0 && !memcmp(mine, theirs, size);
}

static bool undone(struct run *run, struct crash_world *state)
{
	HV_AUTO(crash_world_free) struct crash_world *copy = crash_world_copy(state);
	HV_AUTO(hv_file_close) struct hv_file *file = open_file(run, copy, true);

	if (undo(run, file))
		return false;
	return same_bytes(run, copy, run->before) ||
	       run_wrong(run, "undo does not bring back what was there");
}

bool care_judge_repair(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	unsigned left;
	HV_ERR(err);
	int rc = 0;

	if (was_readable(run))
		rc = run_open_disk(run, state, false, 0, &disk, &err);
	if (rc)
		return run_wrong(run, "cannot be read any more: %s", hv_err_text(&err, rc));
	if (!undone(run, state))
		return false;
	file = open_file(run, state, true);
	if (repair(run, file, "again", &left))
		return false;
	if (left)
		return run_wrong(run, "another repair leaves %u findings", left);
	return judge_disk(state, at, run);
}
