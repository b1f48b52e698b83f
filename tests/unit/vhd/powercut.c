/*
 * Power cuts and failing writes, on files in memory: whatever instant the power fails, and whichever
 * sectors in flight make it, the disk opens, nothing is worse than a leak, and each sector reads as
 * at the last completed flush or as something written after it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/memfile.h"
#include "vhd/check.h"
#include "vhd/vhd.h"

#define SECTORS 8296u /* nine blocks, the last of which reaches past the end of the disk */
#define BLOCK_BYTES (512u << 10)
#define MAX_WRITES 4096
#define PARENT_STAMP 0x5000000000000000u

struct world {
	struct hv_loop *loop;
	struct memfile *mem, *parent;
	struct hv_disk *disk;
	enum vhd_type type;
	uint64_t random;
	/* Each sector's history: stamps in order of writing, with the log's length before each. */
	struct {
		uint32_t sector;
		uint64_t stamp;
		size_t submitted_at;
		bool failed;
	} writes[MAX_WRITES];
	unsigned write_count;
	struct {
		size_t completed_at; /* the log's length when the flush was done */
		unsigned covers;     /* writes before it */
	} flushes[MAX_WRITES];
	unsigned flush_count;
};

static uint64_t next_random(struct world *world)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random >> 11;
}

static int dice(void *arg)
{
	return next_random(arg) & 1;
}

static void must(int rc, const struct hv_err *err, uint64_t seed)
{
	cr_assert_eq(rc, 0, "seed %llu: %s", (unsigned long long)seed, hv_err_text(err, rc));
}

static void stamp_sectors(uint8_t *data, uint32_t count, uint64_t stamp)
{
	for (uint32_t i = 0; i < count * HV_SECTOR_SIZE; i += 8)
		memcpy(data + i, &stamp, 8);
}

/* The stamp that a sector holds all over, or all ones when it is torn inside. */
static uint64_t stamp_of(const uint8_t *sector)
{
	uint64_t stamp;

	memcpy(&stamp, sector, 8);
	return memcmp(sector, sector + 8, HV_SECTOR_SIZE - 8) ? UINT64_MAX : stamp;
}

/* A fixed disk of stamps: what a child reads where it holds nothing. */
static struct hv_disk *open_parent(struct world *world)
{
	struct memfile *copy = memfile_copy(world->parent);
	struct hv_disk *disk;
	HV_ERR(err);

	must(vhd_open(memfile_file(copy), 0, &disk, &err), &err, 0);
	return disk;
}

static void make_parent(struct world *world)
{
	struct vhd_create_options options = { .type = VHD_FIXED,
					      .size_bytes = SECTORS * HV_SECTOR_SIZE };
	uint8_t sector[HV_SECTOR_SIZE];
	HV_ERR(err);

	world->parent = memfile_new(world->loop);
	for (uint32_t i = 0; i < SECTORS; i++) {
		stamp_sectors(sector, 1, PARENT_STAMP + i);
		must(hv_file_pwrite(memfile_file(world->parent), sector, sizeof(sector),
				    (uint64_t)i * HV_SECTOR_SIZE, &err),
		     &err, 0);
	}
	must(vhd_create(memfile_file(world->parent), &options, &err), &err, 0);
}

static void begin(struct world *world, enum vhd_type type, uint64_t seed)
{
	struct vhd_create_options options = { .type = type,
					      .size_bytes = SECTORS * HV_SECTOR_SIZE,
					      .block_bytes = BLOCK_BYTES,
					      .parent_uuid = { { 1 } },
					      .parent_name = "parent.vhd",
					      .parent_relative = ".\\parent.vhd" };
	HV_ERR(err);

	memset(world, 0, sizeof(*world));
	world->type = type;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	must(hv_loop_new(&world->loop, &err), &err, seed);
	if (type == VHD_DIFFERENCING)
		make_parent(world);
	world->mem = memfile_new(world->loop);
	must(vhd_create(memfile_file(world->mem), &options, &err), &err, seed);
	memfile_forget(world->mem);
	must(vhd_open(memfile_file(world->mem), 0, &world->disk, &err), &err, seed);
	if (type == VHD_DIFFERENCING)
		vhd_set_backing(world->disk, open_parent(world));
}

static void end(struct world *world)
{
	hv_disk_close(world->disk);
	if (world->parent)
		hv_file_close(memfile_file(world->parent));
	hv_loop_free(world->loop);
}

static uint64_t initial_stamp(const struct world *world, uint32_t sector)
{
	return world->type == VHD_DIFFERENCING ? PARENT_STAMP + sector : 0;
}

/* What sector may read as after a cut at log length `cut`: true when stamp is allowed. */
static bool allowed(const struct world *world, uint32_t sector, uint64_t stamp, size_t cut)
{
	uint64_t durable = initial_stamp(world, sector);
	bool tried = false; /* by a write that failed, after what is durable */
	unsigned covered = 0;

	for (unsigned i = 0; i < world->flush_count; i++) {
		if (world->flushes[i].completed_at <= cut)
			covered = world->flushes[i].covers;
	}
	for (unsigned i = 0; i < covered; i++) {
		if (world->writes[i].sector != sector)
			continue;
		if (world->writes[i].failed) {
			tried |= world->writes[i].stamp == stamp;
		} else {
			durable = world->writes[i].stamp;
			tried = false;
		}
	}
	if (stamp == durable || tried)
		return true;
	for (unsigned i = covered; i < world->write_count; i++) {
		if (world->writes[i].sector == sector && world->writes[i].stamp == stamp &&
		    world->writes[i].submitted_at <= cut)
			return true;
	}
	return false;
}

static void count_errors(const struct vhd_finding *finding, void *arg)
{
	if (finding->severity == VHD_ERROR) {
		fprintf(stderr, "%s: %s\n", finding->code, finding->sentence);
		++*(unsigned *)arg;
	}
}

static void look_after_cut(struct world *world, size_t cut, uint64_t seed)
{
	struct memfile *left = memfile_after_cut(world->mem, cut, dice, world);
	unsigned errors = 0;
	struct vhd_check_options options = { .data = true, .found = count_errors, .arg = &errors };
	struct vhd_check_result result;
	static uint8_t contents[SECTORS * HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	must(vhd_check(memfile_file(left), &options, &result, &err), &err, seed);
	cr_assert_eq(errors, 0, "seed %llu: check finds errors after a cut at %zu",
		     (unsigned long long)seed, cut);
	must(vhd_open(memfile_file(left), 0, &disk, &err), &err, seed);
	if (world->type == VHD_DIFFERENCING)
		vhd_set_backing(disk, open_parent(world));
	must(hv_disk_pread(disk, contents, sizeof(contents), 0, &err), &err, seed);
	for (uint32_t i = 0; i < SECTORS; i++) {
		uint64_t stamp = stamp_of(contents + i * HV_SECTOR_SIZE);

		cr_assert(allowed(world, i, stamp, cut),
			  "seed %llu: after a cut at %zu of %zu sector %u reads as %llx",
			  (unsigned long long)seed, cut, memfile_log_length(world->mem), i,
			  (unsigned long long)stamp);
	}
	hv_disk_close(disk);
}

struct flight {
	struct hv_io io;
	struct iovec iov;
	struct world *world;
	unsigned first_write, write_count;
	unsigned *pending;
	int *result;
};

static void landed(struct hv_io *io, int result)
{
	struct flight *flight = (struct flight *)io;

	--*flight->pending;
	if (result)
		*flight->result = result;
	for (unsigned i = 0; i < flight->write_count; i++)
		flight->world->writes[flight->first_write + i].failed = result != 0;
	free(flight->iov.iov_base);
	free(flight);
}

static void note_writes(struct world *world, uint32_t first, uint32_t count, uint64_t stamp)
{
	for (uint32_t i = 0; i < count; i++) {
		cr_assert_lt(world->write_count, MAX_WRITES);
		world->writes[world->write_count].sector = first + i;
		world->writes[world->write_count].stamp = stamp;
		world->writes[world->write_count++].submitted_at = memfile_log_length(world->mem);
	}
}

/* One request of random place and kind; sectors of one batch do not overlap. */
static void submit_one(struct world *world, uint32_t first, uint32_t count, unsigned *pending,
		       int *result)
{
	struct flight *flight = calloc(1, sizeof(*flight));
	bool zero = next_random(world) % 5 == 0;
	uint64_t stamp = zero ? 0 : next_random(world) | 1;

	flight->world = world;
	flight->first_write = world->write_count;
	flight->write_count = count;
	flight->pending = pending;
	flight->result = result;
	flight->io = (struct hv_io){ .op = zero ? HV_ZERO : HV_WRITE,
				     .offset = (uint64_t)first * HV_SECTOR_SIZE,
				     .length = (uint64_t)count * HV_SECTOR_SIZE,
				     .done = landed };
	if (!zero) {
		flight->iov = (struct iovec){ malloc(flight->io.length), flight->io.length };
		stamp_sectors(flight->iov.iov_base, count, stamp);
		flight->io.iov = &flight->iov;
		flight->io.iov_count = 1;
	}
	note_writes(world, first, count, stamp);
	++*pending;
	hv_disk_submit(world->disk, &flight->io);
}

/* A flush among the writes of a batch promises what was complete before the batch. */
static void flush_landed(struct hv_io *io, int result)
{
	struct flight *flight = (struct flight *)io;
	struct world *world = flight->world;

	if (result == 0) {
		world->flushes[world->flush_count].completed_at = memfile_log_length(world->mem);
		world->flushes[world->flush_count++].covers = flight->first_write;
		flight->first_write = 0;
	}
	landed(io, result);
}

static void submit_flush(struct world *world, unsigned covers, unsigned *pending, int *result)
{
	struct flight *flight = calloc(1, sizeof(*flight));

	flight->world = world;
	flight->first_write = covers;
	flight->pending = pending;
	flight->result = result;
	flight->io = (struct hv_io){ .op = HV_FLUSH, .done = flush_landed };
	++*pending;
	hv_disk_submit(world->disk, &flight->io);
}

static int write_batch(struct world *world)
{
	unsigned covers = world->write_count;
	unsigned pending = 0, requests = 1 + (unsigned)(next_random(world) % 4);
	int result = 0;

	for (unsigned i = 0; i < requests; i++) {
		/* Each request in a stripe of its own; some lie across block edges. */
		uint32_t stripe = SECTORS / requests;
		uint32_t count = 1 + (uint32_t)(next_random(world) % 12);
		uint32_t first = i * stripe + (uint32_t)(next_random(world) % (stripe - count));

		if (next_random(world) % 3 == 0 && first > 1024)
			first = first / 1024 * 1024 - count / 2;
		if (first < i * stripe)
			first = i * stripe;
		submit_one(world, first, count, &pending, &result);
		if (next_random(world) % 4 == 0)
			submit_flush(world, covers, &pending, &result);
	}
	while (pending)
		hv_loop_turn(world->loop, true);
	return result;
}

static int flush(struct world *world)
{
	HV_ERR(err);
	unsigned covers = world->write_count;
	int rc = hv_disk_flush(world->disk, &err);

	if (rc == 0) {
		world->flushes[world->flush_count].completed_at = memfile_log_length(world->mem);
		world->flushes[world->flush_count++].covers = covers;
	}
	return rc;
}

static void power_cuts(enum vhd_type type, uint64_t first_seed, unsigned seeds)
{
	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
		struct world world;

		begin(&world, type, seed);
		for (int i = 0; i < 12; i++) {
			cr_assert_eq(write_batch(&world), 0);
			if (next_random(&world) % 3 == 0)
				cr_assert_eq(flush(&world), 0);
		}
		for (size_t cut = 0; cut <= memfile_log_length(world.mem); cut++)
			look_after_cut(&world, cut, seed);
		end(&world);
	}
}

Test(powercut, dynamic_disk_survives_every_cut, .timeout = 120)
{
	power_cuts(VHD_DYNAMIC, 1, 10);
}

Test(powercut, child_survives_every_cut_and_keeps_parent_sectors, .timeout = 120)
{
	power_cuts(VHD_DIFFERENCING, 1, 10);
}

/* Fails the nth operation of a kind, for every n, and looks at what is left as after a cut. */
static void failures(enum vhd_type type, enum memfile_op op, int code)
{
	for (unsigned nth = 1; nth < 40; nth++) {
		struct world world;
		bool failed = false;

		begin(&world, type, nth);
		memfile_fail(world.mem, op, nth, code);
		for (int i = 0; i < 6; i++) {
			if (write_batch(&world))
				failed = true;
			if (flush(&world))
				failed = true;
		}
		/* A failed request may have written anything of itself: the rule of the cut. */
		look_after_cut(&world, memfile_log_length(world.mem), nth);
		if (!failed && op == MEM_BARRIER)
			cr_assert(nth > 6, "barrier %u failed and nobody was told", nth);
		end(&world);
	}
}

Test(faults, dynamic_disk_survives_any_failing_write, .timeout = 120)
{
	failures(VHD_DYNAMIC, MEM_WRITE, -ENOSPC);
}

Test(faults, child_survives_any_failing_write, .timeout = 120)
{
	failures(VHD_DIFFERENCING, MEM_WRITE, -EIO);
}

Test(faults, failing_barrier_is_reported_and_harmless, .timeout = 120)
{
	failures(VHD_DYNAMIC, MEM_BARRIER, -EIO);
	failures(VHD_DIFFERENCING, MEM_BARRIER, -EIO);
}

/* After a failed metadata write the disk goes on, and the next flush brings everything to the file. */
Test(faults, a_flush_that_failed_once_succeeds_when_repeated)
{
	for (unsigned nth = 1; nth < 8; nth++) {
		uint8_t sector[HV_SECTOR_SIZE], back[HV_SECTOR_SIZE];
		struct world world;
		struct memfile *copy;
		struct hv_disk *disk;
		HV_ERR(err);

		begin(&world, VHD_DYNAMIC, nth);
		stamp_sectors(sector, 1, 77);
		must(hv_disk_pwrite(world.disk, sector, sizeof(sector), 0, &err), &err, nth);
		memfile_fail(world.mem, MEM_WRITE, nth, -EIO);
		if (hv_disk_flush(world.disk, NULL))
			must(hv_disk_flush(world.disk, &err), &err, nth);
		copy = memfile_copy(world.mem);
		must(vhd_open(memfile_file(copy), 0, &disk, &err), &err, nth);
		must(hv_disk_pread(disk, back, sizeof(back), 0, &err), &err, nth);
		cr_assert_eq(memcmp(sector, back, sizeof(back)), 0);
		hv_disk_close(disk);
		end(&world);
	}
}

Test(faults, a_failed_barrier_ends_writing)
{
	uint8_t sector[HV_SECTOR_SIZE] = { 1 };
	struct world world;
	HV_ERR(err);

	begin(&world, VHD_DYNAMIC, 1);
	must(hv_disk_pwrite(world.disk, sector, sizeof(sector), 0, &err), &err, 1);
	memfile_fail(world.mem, MEM_BARRIER, 1, -EIO);
	cr_assert_eq(hv_disk_flush(world.disk, &err), -EIO);
	hv_err_clear(&err);
	cr_assert_eq(hv_disk_pwrite(world.disk, sector, sizeof(sector), 0, &err), -EIO);
	cr_assert(strstr(err.sentence, "an earlier flush failed"), "%s", err.sentence);
	cr_assert_eq(hv_disk_pread(world.disk, sector, sizeof(sector), 0, &err), 0);
	end(&world);
}
