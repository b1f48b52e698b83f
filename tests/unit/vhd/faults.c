/*
 * Failing writes and barriers, one at a time and told apart; vhdcrash makes every operation of long
 * workloads fail.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/crash/world.h"
#include "tests/unit/must.h"
#include "vhd/vhd.h"

#define MIB (UINT64_C(1) << 20)
#define SEEDS 200 /* orders of what happens at the same time */

static struct hv_loop *loop;
static struct crash_stage *stage;
static struct crash_world *world;
static uint8_t sector[HV_SECTOR_SIZE];

static void setup(void)
{
	HV_ERR(err);

	must(hv_loop_new(&loop, &err), &err);
	stage = crash_stage_new(loop, 1);
	world = crash_world_new(stage);
	memset(sector, 0x4d, sizeof(sector));
}

static void teardown(void)
{
	crash_world_free(world);
	crash_stage_free(stage);
	hv_loop_free(loop);
}

TestSuite(faults, .init = setup, .fini = teardown);

/* The file of a new dynamic disk, without a name. */
static struct hv_file *new_file(void)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC,
					      .size_bytes = 8 * MIB,
					      .block_bytes = VHD_MIN_BLOCK_BYTES };
	struct hv_file *file;
	HV_ERR(err);

	must(crash_create(world, "disk.vhd", true, &file, &err), &err);
	must(vhd_create(file, &options, &err), &err);
	return file;
}

static struct hv_disk *new_disk(void)
{
	struct hv_file *file = new_file();
	struct hv_disk *disk;
	HV_ERR(err);

	must(hv_file_publish(file, &err), &err);
	must(vhd_open(file, 0, &disk, &err), &err);
	return disk;
}

static void write_sector(struct hv_disk *disk, uint64_t offset)
{
	HV_ERR(err);

	must(hv_disk_pwrite(disk, sector, sizeof(sector), offset, &err), &err);
}

/* What the file holds now, opened by somebody else. */
static struct hv_disk *open_copy(void)
{
	struct crash_world *copy = crash_world_copy(world);
	struct hv_file *file;
	struct hv_disk *disk;
	HV_ERR(err);

	must(crash_open(copy, "disk.vhd", 0, &file, &err), &err);
	must(vhd_open(file, 0, &disk, &err), &err);
	crash_world_free(copy);
	return disk;
}

struct call {
	struct hv_io io;
	int result;
	bool done;
};

static void called(struct hv_io *io, int result)
{
	struct call *call = (struct call *)io;

	call->result = result;
	call->done = true;
}

static void wait_for(struct call *call)
{
	while (!call->done)
		hv_loop_turn(loop, true);
}

/* After a failed metadata write the disk goes on, and the next flush brings everything to the file.
 */
Test(faults, a_flush_that_failed_once_succeeds_when_repeated)
{
	for (unsigned nth = 1; nth < 8; nth++) {
		uint8_t back[HV_SECTOR_SIZE];
		struct hv_disk *disk = new_disk(), *copy;
		HV_ERR(err);

		write_sector(disk, 0);
		crash_fail(world, CRASH_WRITE, nth, -EIO, false);
		if (hv_disk_flush(disk, NULL))
			must(hv_disk_flush(disk, &err), &err);
		crash_fail(world, CRASH_WRITE, 0, 0, false);
		copy = open_copy();
		must(hv_disk_pread(copy, back, sizeof(back), 0, &err), &err);
		cr_assert_eq(memcmp(sector, back, sizeof(back)), 0);
		hv_disk_close(copy);
		hv_disk_close(disk);
	}
}

Test(faults, a_failed_barrier_ends_writing)
{
	struct hv_disk *disk = new_disk();
	uint8_t back[HV_SECTOR_SIZE];
	HV_ERR(err);

	write_sector(disk, 0);
	crash_fail(world, CRASH_BARRIER, 1, -EIO, false);
	cr_assert_eq(hv_disk_flush(disk, &err), -EIO);
	hv_err_clear(&err);
	cr_assert_eq(hv_disk_pwrite(disk, sector, sizeof(sector), 0, &err), -EIO);
	cr_assert(strstr(err.sentence, "an earlier flush failed"), "%s", err.sentence);
	cr_assert_eq(hv_disk_pread(disk, back, sizeof(back), 0, &err), 0);
	hv_disk_close(disk);
}

/* The kernel tells one barrier of a failure: here that of the extension, not that of the flush. */
Test(faults, a_flush_during_an_extension_whose_barrier_fails_fails_too)
{
	unsigned met = 0;

	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct iovec iov = { sector, sizeof(sector) };
		struct call write = { .io = { .op = HV_WRITE,
					      .offset = MIB,
					      .length = sizeof(sector),
					      .iov = &iov,
					      .iov_count = 1,
					      .done = called } };
		struct call flush = { .io = { .op = HV_FLUSH, .done = called } };
		struct hv_disk *disk = new_disk();

		crash_stage_seed(stage, seed);
		write_sector(disk, 0);
		/* There is room for one block: the next needs an extension. */
		hv_disk_submit(disk, &write.io);
		hv_disk_submit(disk, &flush.io);
		crash_fail(world, CRASH_BARRIER, 1, -EIO, false);
		wait_for(&flush);
		met += !write.done;
		cr_assert(flush.result || !crash_failed(world, CRASH_BARRIER), "seed %u", seed);
		wait_for(&write);
		hv_disk_close(disk);
	}
	cr_assert_gt(met, 0, "no flush ended while the extension was under way");
}

/* Also when a flush ends while the file is being extended: it gets its name as it is. */
Test(faults, a_file_that_is_published_after_a_flush_has_its_footer)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct iovec iov = { sector, sizeof(sector) };
		struct call write = { .io = { .op = HV_WRITE,
					      .length = sizeof(sector),
					      .iov = &iov,
					      .iov_count = 1,
					      .done = called } };
		struct call flush = { .io = { .op = HV_FLUSH, .done = called } };
		struct hv_disk *disk, *copy;
		HV_ERR(err);

		crash_stage_seed(stage, seed);
		must(vhd_open(new_file(), VHD_OPEN_UNORDERED, &disk, &err), &err);
		hv_disk_submit(disk, &write.io);
		hv_disk_submit(disk, &flush.io);
		wait_for(&flush);
		wait_for(&write);
		cr_assert_eq(write.result | flush.result, 0);
		must(hv_file_publish(vhd_get_file(disk), &err), &err);
		copy = open_copy();
		cr_assert(vhd_get_info(copy)->trailing_footer_valid, "seed %u", seed);
		hv_disk_close(copy);
		hv_disk_close(disk);
	}
}
