/*
 * Blocks that go, and come again elsewhere.
 */
#include "tests/crash/vhd/reshape.h"

#include <errno.h>

#include "vhd/compact.h"

#define STORED 20                       /* a sector that every filled disk holds */
#define LARGE_BYTES (UINT64_C(1) << 30) /* needs a larger table than any shape has room for */

static uint64_t block_sectors(const struct run *run)
{
	return run->shape.block_bytes / HV_SECTOR_SIZE;
}

/* One or two whole blocks; what follows may come while that is under way. */
static void discard_blocks(struct run *run)
{
	uint64_t blocks = (run->shape.sectors + block_sectors(run) - 1) / block_sectors(run);

	run_submit(run, HV_DISCARD, run_random(run, blocks) * block_sectors(run),
		   (1 + run_random(run, 2)) * block_sectors(run),
		   run_random(run, 4) ? 0 : HV_IO_FUA);
}

int reshape_discard(struct run *run)
{
	int rc = 0;

	for (int i = 0; i < 10 && rc == 0; i++) {
		for (uint64_t n = run_random(run, 3); n; n--)
			discard_blocks(run);
		if (run_random(run, 3) == 0)
			run_submit(run, HV_FLUSH, 0, 0, 0);
		rc = run_batch(run);
		if (rc == 0 && run_random(run, 3) == 0)
			rc = run_flush(run);
	}
	return rc;
}

/* Until the request has landed there is always something else to do: who is slow stays behind. */
static void outrun(struct run *run, uint32_t number)
{
	while (!run_landed(run, number)) {
		if (run->in_flight < 4)
			run_submit(run, HV_WRITE, STORED, 1, 0);
		hv_loop_turn(run->loop, true);
	}
}

/*
 * A block is written and discarded at the same time, and a flush ends while the write may still be
 * on its way: then its place is another block's, where the write must not land.
 */
int reshape_reuse(struct run *run)
{
	uint64_t last = run->shape.sectors / block_sectors(run) - 1;
	int rc = 0;

	for (int i = 0; i < 16 && rc == 0; i++) {
		uint64_t first = (1 + run_random(run, last)) * block_sectors(run);

		for (int n = 0; n < 4; n++)
			run_submit(run, HV_WRITE, first + run_random(run, block_sectors(run)), 8,
				   0);
		run_submit(run, HV_DISCARD, first, block_sectors(run), 0);
		outrun(run, run_submit(run, HV_FLUSH, 0, 0, 0));
		for (int n = 0; n < 2; n++)
			outrun(run, run_submit(run, HV_WRITE, run_random(run, run->shape.sectors),
					       8, 0));
		rc = run_wait(run);
		if (rc == 0 && !run_verify(run))
			rc = -EIO;
	}
	return rc;
}

int reshape_size(struct run *run)
{
	uint64_t full = run->shape.sectors, rest = 1 + run_random(run, full / 2);
	HV_ERR(err);
	int rc = run_batch(run);

	/* What is cut off has to be zero, or the history would miss it. */
	if (rc == 0)
		run_submit(run, HV_ZERO, full - rest, rest, 0);
	if (rc == 0)
		rc = run_wait(run);
	if (rc == 0)
		rc = run_flush(run);
	if (rc == 0)
		rc = vhd_resize(run->disk, (full - rest) * HV_SECTOR_SIZE, 0, &err);
	if (rc == 0)
		rc = run_batch(run);
	if (rc == 0)
		rc = vhd_resize(run->disk, full * HV_SECTOR_SIZE, 0, &err);
	if (rc == 0)
		rc = run_batch(run);
	return rc ? rc : run_flush(run);
}

int reshape_table(struct run *run)
{
	HV_ERR(err);
	int rc = run_batch(run);

	if (rc == 0)
		rc = vhd_resize(run->disk, LARGE_BYTES, 0, &err);
	if (rc == 0)
		rc = run_batch(run);
	return rc ? rc : run_flush(run);
}

int reshape_compact(struct run *run)
{
	struct vhd_compact_options options = { .punch = run_random(run, 3) == 0,
					       .overwrite = run_random(run, 3) == 0 };
	struct vhd_compact_result result;
	HV_ERR(err);
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++) {
		rc = run_batch(run);
		/* Allocated blocks of zeros are what it looks for. */
		if (rc == 0)
			run_submit(run, HV_ZERO,
				   run_random(run, run->shape.sectors / 2) / block_sectors(run) *
					   block_sectors(run),
				   2 * block_sectors(run), 0);
		if (rc == 0)
			rc = run_wait(run);
		if (rc == 0)
			rc = vhd_compact(run->disk, &options, &result, &err);
	}
	return rc ? rc : run_batch(run);
}
