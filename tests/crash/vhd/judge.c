/*
 * What is left of a VHD is looked at as a user would: checked, opened, read, and written to.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "tests/crash/vhd/run.h"
#include "vhd/check.h"

#define AGAIN_ONE_IN 24 /* states on which a workload of two levels is run again */
#define REPAIR_WRITES 3 /* after recovery */

struct errors {
	bool copy_may_lag;
	unsigned count;
};

static void count_error(const struct vhd_finding *finding, void *arg)
{
	struct errors *errors = arg;

	if (finding->severity != VHD_ERROR ||
	    (errors->copy_may_lag && !strcmp(finding->code, "footer-differs")))
		return;
	fprintf(stderr, "check: %s: %s\n", finding->code, finding->sentence);
	errors->count++;
}

bool judge_file(struct run *run, struct crash_world *state, const char *name, bool copy_may_lag)
{
	struct errors errors = { .copy_may_lag = copy_may_lag };
	const struct vhd_check_options options = { .data = true,
						   .found = count_error,
						   .arg = &errors };
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_check_result result;
	HV_ERR(err);
	int rc = crash_open(state, name, 0, &file, &err);

	if (rc == 0)
		rc = vhd_check(file, &options, &result, &err);
	if (rc)
		return run_wrong(run, "check: %s", hv_err_text(&err, rc));
	return !errors.count || run_wrong(run, "check finds errors in '%s'", name);
}

bool judge_check(struct run *run, struct crash_world *state, bool reopened)
{
	bool switches = run->workload->resizes || run->workload->reparents;

	return judge_file(run, state, DISK, switches && !reopened);
}

static bool read_all(struct run *run, struct crash_world *state, uint8_t *contents)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	uint64_t size = history_sectors(run->history) * HV_SECTOR_SIZE, have;
	HV_ERR(err);
	int rc = run_open_disk(run, state, false, 0, &disk, &err);

	if (rc)
		return run_wrong(run, "%s", hv_err_text(&err, rc));
	if (disk->size_bytes != size && !run->workload->resizes)
		return run_wrong(run, "the disk has %llu bytes",
				 (unsigned long long)disk->size_bytes);
	/* What is not there any more, or not yet, is zero. */
	have = hv_min_u64(size, disk->size_bytes);
	memset(contents + have, 0, size - have);
	rc = hv_disk_pread(disk, contents, have, 0, &err);
	return rc == 0 || run_wrong(run, "%s", hv_err_text(&err, rc));
}

bool judge_look(struct run *run, struct crash_world *state, uint64_t at)
{
	uint64_t stamp;
	int64_t sector;

	if (!judge_check(run, state, false) || !read_all(run, state, run->contents))
		return false;
	sector = history_judge(run->history, run->contents, at, &stamp);
	return sector < 0 || run_wrong(run, "sector %lld reads as %llx", (long long)sector,
				       (unsigned long long)stamp);
}

/* Writes somewhere, and makes the same change to run->contents. */
static int write_more(struct run *run, struct hv_disk *disk, struct hv_err *err)
{
	uint64_t sectors =
		hv_min_u64(history_sectors(run->history), disk->size_bytes / HV_SECTOR_SIZE);
	uint64_t first = crash_stage_random(run->stage, sectors - 8);
	uint64_t count = 1 + crash_stage_random(run->stage, 8);
	uint8_t *data = run->contents + first * HV_SECTOR_SIZE;

	if (crash_stage_random(run->stage, 4) == 0) {
		memset(data, 0, count * HV_SECTOR_SIZE);
		return hv_disk_zero(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, err);
	}
	history_fill(data, 1, first + sectors, count);
	return hv_disk_pwrite(disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, err);
}

/* The disk can be used: what is written to it is there, and nothing else has changed. */
static bool goes_on(struct run *run, struct crash_world *state)
{
	uint64_t size = history_sectors(run->history) * HV_SECTOR_SIZE;
	struct hv_disk *disk = NULL;
	HV_ERR(err);
	int rc = run_open_disk(run, state, true, 0, &disk, &err);

	for (int i = 0; i < REPAIR_WRITES && rc == 0; i++)
		rc = write_more(run, disk, &err);
	if (rc == 0)
		rc = hv_disk_flush(disk, &err);
	hv_disk_close(disk);
	if (rc)
		return run_wrong(run, "after recovery: %s", hv_err_text(&err, rc));
	if (!judge_check(run, state, true) || !read_all(run, state, run->others))
		return false;
	for (uint64_t i = 0; i < size; i += HV_SECTOR_SIZE) {
		if (memcmp(run->contents + i, run->others + i, HV_SECTOR_SIZE))
			return run_wrong(run, "sector %llu has changed after recovery",
					 (unsigned long long)(i / HV_SECTOR_SIZE));
	}
	return true;
}

bool judge_disk(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;

	alarm(RUN_SECONDS);
	if (!judge_look(run, state, at))
		return false;
	if (run->level + 1 < run->workload->levels && !run->faulty &&
	    crash_stage_random(run->stage, AGAIN_ONE_IN) == 0)
		return run_again(run, state);
	return goes_on(run, state);
}
