/*
 * The engine's requests: many at once that allocate the same blocks, and what they promise to be on
 * the medium when they end.
 */
#include "tests/unit/vhd/engine.h"

#include "tests/crash/explore.h"

TestSuite(engine, .init = setup, .fini = teardown);

/* Many requests at once. */

/*
 * Writes of one sector each and a few long ones, all in flight while none of their blocks is
 * allocated. Each sector ends as one of those who wrote it, or as it was.
 */
static void overlapping(struct hv_disk *disk, uint64_t parent_sectors)
{
	enum { SINGLES = 512, LONGS = 12, SECTORS = 4096 };
	struct request *requests = calloc(SINGLES + LONGS, sizeof(*requests));
	unsigned left = 0;

	for (unsigned i = 0; i < SINGLES + LONGS; i++) {
		struct request *request = &requests[i];

		request->left = &left;
		if (i < SINGLES)
			submit_write(disk, request, i * 5 % SECTORS, 1, 1000000 + i, 0);
		else
			submit_write(disk, request, (i - SINGLES) * 250 + 100, 700, 2000000 + i, 0);
	}
	while (left)
		hv_loop_turn(loop, true);
	for (uint64_t sector = 0; sector < SECTORS; sector++) {
		uint64_t have = read_stamp(disk, sector);
		bool allowed = false, written = false;

		for (unsigned i = 0; i < SINGLES + LONGS; i++) {
			uint64_t start = i < SINGLES ? i * 5 % SECTORS : (i - SINGLES) * 250 + 100;
			uint64_t count = i < SINGLES ? 1 : 700;

			if (sector < start || sector >= start + count)
				continue;
			written = true;
			allowed |= have == (i < SINGLES ? 1000000 : 2000000) + i;
		}
		if (!written)
			allowed = have == (sector < parent_sectors ? sector + 1 : 0);
		cr_assert(allowed, "sector %llu: %llu", (unsigned long long)sector,
			  (unsigned long long)have);
	}
	for (unsigned i = 0; i < SINGLES + LONGS; i++) {
		cr_assert_eq(requests[i].result, 0);
		free(requests[i].data);
	}
	free(requests);
}

static uint64_t *stamps_of(struct hv_disk *disk)
{
	uint64_t *stamps = malloc(disk->size_bytes / 512 * sizeof(*stamps));

	for (uint64_t i = 0; i < disk->size_bytes / 512; i++)
		stamps[i] = read_stamp(disk, i);
	return stamps;
}

static void assert_stamps(struct hv_disk *disk, const uint64_t *stamps)
{
	for (uint64_t i = 0; i < disk->size_bytes / 512; i++)
		cr_assert_eq(read_stamp(disk, i), stamps[i], "sector %llu after reopening",
			     (unsigned long long)i);
}

Test(engine, overlapping_allocations_of_a_dynamic_disk)
{
	struct hv_disk *disk;
	uint64_t *stamps;

	create_dynamic("disk.vhd", 2 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_disk("disk.vhd", true);
	overlapping(disk, 0);
	flush(disk);
	stamps = stamps_of(disk);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 4);
	hv_disk_close(disk);
	disk = open_disk("disk.vhd", false);
	assert_stamps(disk, stamps);
	cr_assert_eq(vhd_get_info(disk)->allocated_blocks, 4);
	hv_disk_close(disk);
	free(stamps);
}

Test(engine, overlapping_allocations_of_a_child)
{
	struct hv_disk *disk;
	uint64_t *stamps;

	make_parent_and_child(2 * MIB, VHD_MIN_BLOCK_BYTES);
	disk = open_child("child.vhd", true, "parent.vhd");
	overlapping(disk, 3072);
	flush(disk);
	stamps = stamps_of(disk);
	hv_disk_close(disk);
	disk = open_child("child.vhd", false, "parent.vhd");
	assert_stamps(disk, stamps);
	hv_disk_close(disk);
	free(stamps);
}

/* Durability. */

static struct crash_world *new_world(struct crash_stage *stage,
				     const struct vhd_create_options *options)
{
	struct crash_world *world = crash_world_new(stage);
	struct hv_file *file;
	HV_ERR(err);

	must(crash_create(world, "disk.vhd", false, &file, &err), &err);
	must(vhd_create(file, options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
	crash_forget(world);
	return world;
}

static struct hv_disk *open_memory(struct crash_world *world)
{
	struct hv_file *file;
	struct hv_disk *disk;
	HV_ERR(err);

	must(crash_open(world, "disk.vhd", HV_FILE_WRITE, &file, &err), &err);
	must(vhd_open(file, 0, &disk, &err), &err);
	return disk;
}

struct left {
	uint64_t sector, stamp;
};

static bool look_at_left(struct crash_world *state, uint64_t at, void *arg)
{
	struct hv_disk *disk = open_memory(state);
	struct left *left = arg;

	(void)at;
	left->stamp = read_stamp(disk, left->sector);
	hv_disk_close(disk);
	return true;
}

/* When only what is promised is left. */
static uint64_t stamp_after_cut(struct crash_world *world, uint64_t sector)
{
	struct crash_plan plan = { .states = 1, .end_only = true };
	struct left left = { .sector = sector };

	cr_assert(crash_explore(world, &plan, look_at_left, &left));
	return left.stamp;
}

static void fua(uint32_t type)
{
	struct vhd_create_options options = { .type = type,
					      .size_bytes = 4 * MIB,
					      .block_bytes = VHD_MIN_BLOCK_BYTES,
					      .parent_uuid = { { 1 } } };
	struct crash_stage *stage = crash_stage_new(loop, type);
	struct crash_world *world = new_world(stage, &options);
	struct request request = { 0 };
	struct hv_disk *disk = open_memory(world);
	unsigned left = 0;

	request.left = &left;
	/* The first allocates, the second overwrites, the third spans two blocks. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t sector = i == 2 ? 1020 : 3;

		submit_write(disk, &request, sector, 10, 100 + i, HV_IO_FUA);
		while (left)
			hv_loop_turn(loop, true);
		cr_assert_eq(request.result, 0);
		free(request.data);
		cr_assert_eq(stamp_after_cut(world, sector), 100 + i);
		cr_assert_eq(stamp_after_cut(world, sector + 9), 100 + i);
	}
	/* Without it nothing is promised, and nothing is paid. */
	size_t before = crash_logged(world);

	write_stamp(disk, 3, 200);
	cr_assert_eq(crash_logged(world), before + 1);
	cr_assert_eq(stamp_after_cut(world, 3), 101);
	flush(disk);
	cr_assert_eq(stamp_after_cut(world, 3), 200);
	hv_disk_close(disk);
	crash_world_free(world);
	crash_stage_free(stage);
}

Test(engine, fua_of_a_dynamic_disk)
{
	fua(VHD_DYNAMIC);
}

Test(engine, fua_of_a_child)
{
	fua(VHD_DIFFERENCING);
}

Test(engine, full_bitmap_is_not_written_again)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC, .size_bytes = 4 * MIB };
	struct crash_stage *stage = crash_stage_new(loop, 1);
	struct crash_world *world = new_world(stage, &options);
	struct hv_disk *disk = open_memory(world);
	size_t before;

	write_stamp(disk, 0, 1);
	write_stamp(disk, 4096, 1);
	flush(disk);
	before = crash_logged(world);
	for (unsigned i = 0; i < 50; i++)
		write_stamp(disk, i % 2 ? i : 4096 + i, i);
	cr_assert_eq(crash_logged(world), before + 50);
	flush(disk);
	cr_assert_eq(crash_logged(world), before + 51);
	hv_disk_close(disk);
	crash_world_free(world);
	crash_stage_free(stage);
}
