/*
 * Requests that the history knows of, from their submission to their end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "tests/crash/bytes.h"
#include "tests/crash/vhd/run.h"

/* Kept to the end of the run, so that a second completion is seen. */
struct request {
	struct hv_io io;
	struct iovec iov;
	struct run *run;
	struct request *older;
	uint32_t number;
	bool landed;
};

int run_open_disk(struct run *run, struct crash_world *world, bool writable, unsigned flags,
		  struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL, *below = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL, *parent = NULL;
	int rc = crash_open(world, DISK, writable ? HV_FILE_WRITE : 0, &file, err);

	if (rc == 0)
		rc = vhd_open(file, flags, &disk, err);
	if (rc)
		return rc;
	hv_steal(file);
	if (run->shape.type == VHD_DIFFERENCING) {
		rc = crash_open(world, PARENT, 0, &below, err);
		if (rc == 0)
			rc = vhd_open(below, 0, &parent, err);
		if (rc)
			return rc;
		hv_steal(below);
		vhd_set_backing(disk, hv_steal(parent));
	}
	*ret = hv_steal(disk);
	return 0;
}

int run_open(struct run *run, unsigned flags)
{
	HV_ERR(err);
	int rc = run_open_disk(run, run->world, true, flags, &run->disk, &err);

	if (rc && !run->faulty)
		run_wrong(run, "%s", hv_err_text(&err, rc));
	return rc;
}

void run_close(struct run *run)
{
	if (run->disk)
		history_close(run->history, crash_stage_tick(run->stage));
	hv_disk_close(hv_steal(run->disk));
}

static void landed(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;
	struct run *run = request->run;

	if (request->landed) {
		run_wrong(run, "request %u is completed a second time", request->number);
		abort();
	}
	request->landed = true;
	free(request->iov.iov_base);
	run->in_flight--;
	if (result && !run->result)
		run->result = result;
	history_complete(run->history, request->number, result, io->flags & HV_IO_FUA,
			 crash_stage_tick(run->stage));
}

static enum history_kind kind_of(enum hv_io_op op)
{
	return op == HV_WRITE ? HISTORY_WRITE : op == HV_FLUSH ? HISTORY_FLUSH : HISTORY_ZERO;
}

uint32_t run_submit(struct run *run, enum hv_io_op op, uint64_t first, uint64_t count,
		    unsigned flags)
{
	struct request *request;
	uint64_t sectors;

	if (!run->disk)
		return 0;
	sectors = hv_min_u64(history_sectors(run->history), run->disk->size_bytes / HV_SECTOR_SIZE);
	first = hv_min_u64(first, sectors - 1);
	count = op == HV_FLUSH ? 0 : hv_min_u64(count, sectors - first);
	request = crash_alloc(sizeof(*request));
	request->run = run;
	request->older = run->requests;
	run->requests = request;
	request->number = history_submit(run->history, kind_of(op), first, count,
					 crash_stage_tick(run->stage));
	request->io = (struct hv_io){ .op = op,
				      .flags = flags,
				      .offset = count ? first * HV_SECTOR_SIZE : 0,
				      .length = count * HV_SECTOR_SIZE,
				      .done = landed };
	if (op == HV_WRITE) {
		request->iov =
			(struct iovec){ crash_alloc(request->io.length), request->io.length };
		history_fill(request->iov.iov_base, request->number, first, count);
		request->io.iov = &request->iov;
		request->io.iov_count = 1;
	}
	run->in_flight++;
	hv_disk_submit(run->disk, &request->io);
	return request->number;
}

bool run_landed(const struct run *run, uint32_t number)
{
	const struct request *request = run->requests;

	while (request && request->number != number)
		request = request->older;
	return !request || request->landed;
}

int run_wait(struct run *run)
{
	int result;

	while (run->in_flight)
		hv_loop_turn(run->loop, true);
	result = run->result;
	run->result = 0;
	return result;
}

int run_flush(struct run *run)
{
	run_submit(run, HV_FLUSH, 0, 0, 0);
	return run_wait(run);
}

int run_write(struct run *run, uint64_t first, uint64_t count)
{
	run_submit(run, HV_WRITE, first, count, 0);
	return run_wait(run);
}

/* Anywhere, across the edge of a block, or near the last one. */
static uint64_t any_place(struct run *run, uint64_t last, uint64_t count)
{
	uint64_t sectors = history_sectors(run->history);
	uint64_t block = run->shape.block_bytes / HV_SECTOR_SIZE;
	uint64_t place = run_random(run, sectors);

	switch (run_random(run, 4)) {
	case 0:
		place = hv_round_down(place, block);
		return place - hv_min_u64(place, count / 2);
	case 1:
		return last + run_random(run, 2 * count);
	default:
		return place;
	}
}

int run_batch(struct run *run)
{
	unsigned requests = 1 + (unsigned)run_random(run, 5);
	uint64_t place = run_random(run, history_sectors(run->history));

	for (unsigned i = 0; i < requests; i++) {
		uint64_t count = 1 + run_random(run, run_random(run, 24) ? 12 : 1500);
		bool zero = run_random(run, 5) == 0;

		place = any_place(run, place, count);
		run_submit(run, zero ? HV_ZERO : HV_WRITE, place, count,
			   run_random(run, 6) ? 0 : HV_IO_FUA);
		if (run_random(run, 4) == 0)
			run_submit(run, HV_FLUSH, 0, 0, 0);
		/* Some of what was submitted is done when the next comes. */
		for (uint64_t turns = run_random(run, 4); turns && run->in_flight; turns--)
			hv_loop_turn(run->loop, true);
	}
	return run_wait(run);
}

bool run_verify(struct run *run)
{
	uint64_t size = history_sectors(run->history) * HV_SECTOR_SIZE, stamp;
	HV_ERR(err);
	int rc = hv_disk_pread(run->disk, run->contents, size, 0, &err);
	int64_t sector;

	if (rc)
		return run_wrong(run, "the running disk: %s", hv_err_text(&err, rc));
	sector = history_judge(run->history, run->contents, HISTORY_NO_CUT, &stamp);
	return sector < 0 || run_wrong(run, "sector %lld of the running disk reads as %llx",
				       (long long)sector, (unsigned long long)stamp);
}

void run_forget_requests(struct run *run)
{
	while (run->requests) {
		struct request *request = run->requests;

		run->requests = request->older;
		free(request);
	}
}
