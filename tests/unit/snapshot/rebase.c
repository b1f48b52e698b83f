/*
 * Random children that get another random parent, on files in memory. However that ends -
 * undisturbed, stopped, by a write or barrier that fails - the child, over the parent that it
 * records then, reads what it read before; and it is enough to begin again. Power cuts are for
 * tests/crash.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/keep_view.h"
#include "tests/support/memfile.h"
#include "vhd/check.h"
#include "vhd/reparent.h"
#include "vhd/vhd.h"

#define BLOCK_SECTORS 1024u
#define MAX_SECTORS (4 * BLOCK_SECTORS)

enum { OLD, NEW, PARENTS };

struct world {
	struct hv_loop *loop;
	uint64_t seed, random;
	struct memfile *child, *parents[PARENTS];
	uint64_t child_sectors, parent_sectors[PARENTS];
	uint64_t view[MAX_SECTORS]; /* what the child reads: a stamp for each sector */
	unsigned stop_after;
};

static uint64_t next_random(struct world *world)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random >> 11;
}

static uint64_t pick(struct world *world, uint64_t below)
{
	return next_random(world) % below;
}

static void must(const struct world *world, int rc, const struct hv_err *err)
{
	cr_assert_eq(rc, 0, "seed %llu: %s", (unsigned long long)world->seed, hv_err_text(err, rc));
}

/* Making. */

static struct hv_guid parent_uuid(unsigned which)
{
	return (struct hv_guid){ { (uint8_t)(1 + which) } };
}

static struct vhd_create_options child_of(const struct world *world, unsigned which)
{
	return (struct vhd_create_options){ .type = VHD_DIFFERENCING,
					    .size_bytes = world->child_sectors * HV_SECTOR_SIZE,
					    .block_bytes = BLOCK_SECTORS * HV_SECTOR_SIZE,
					    .parent_uuid = parent_uuid(which),
					    .parent_name = which ? "new.vhd" : "old.vhd",
					    .parent_relative =
						    which ? ".\\new.vhd" : ".\\old.vhd" };
}

static struct hv_disk *open_file(struct world *world, struct memfile *mem, bool write)
{
	struct hv_disk *disk;
	HV_ERR(err);

	memfile_file(mem)->writable = write;
	must(world, vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	return disk;
}

static struct hv_disk *open_parent(struct world *world, unsigned which)
{
	return open_file(world, memfile_copy(world->parents[which]), false);
}

static void put(struct world *world, struct hv_disk *disk, uint64_t first, uint64_t count,
		uint64_t stamp)
{
	static uint8_t data[MAX_SECTORS * HV_SECTOR_SIZE];
	HV_ERR(err);

	for (uint64_t i = 0; i < count * HV_SECTOR_SIZE; i += 8)
		memcpy(data + i, &stamp, 8);
	if (stamp || pick(world, 2))
		must(world,
		     hv_disk_pwrite(disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE,
				    &err),
		     &err);
	else
		must(world,
		     hv_disk_zero(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err),
		     &err);
}

/* Random runs over a disk; view, unless NULL, learns of them. Equal seeds make equal contents. */
static void scribble(struct world *world, struct hv_disk *disk, uint64_t *view, unsigned changes)
{
	uint64_t size = disk->size_bytes / HV_SECTOR_SIZE;

	while (changes--) {
		uint64_t first = pick(world, size);
		uint64_t count = 1 + pick(world, pick(world, 3) ? 30 : 2 * BLOCK_SECTORS);
		uint64_t stamp = pick(world, 5) ? next_random(world) | 1 : 0;

		if (count > size - first)
			count = size - first;
		put(world, disk, first, count, stamp);
		for (uint64_t i = 0; view && i < count; i++)
			view[first + i] = stamp;
	}
}

static struct memfile *make(struct world *world, const struct vhd_create_options *options)
{
	struct memfile *mem = memfile_new(world->loop);
	HV_ERR(err);

	memfile_keep(mem);
	must(world, vhd_create(memfile_file(mem), options, &err), &err);
	return mem;
}

static void make_parents(struct world *world)
{
	uint64_t common = next_random(world);

	for (unsigned i = 0; i < PARENTS; i++) {
		struct vhd_create_options options = {
			.type = VHD_DYNAMIC,
			.size_bytes = world->parent_sectors[i] * HV_SECTOR_SIZE,
			.block_bytes = BLOCK_SECTORS * HV_SECTOR_SIZE,
		};
		uint64_t *view = i == OLD ? world->view : NULL, after;
		struct hv_disk *disk;
		HV_ERR(err);

		world->parents[i] = make(world, &options);
		disk = open_file(world, world->parents[i], true);
		/* Much of both is the same. */
		after = world->random;
		if (world->parent_sectors[OLD] == world->parent_sectors[NEW])
			world->random = common;
		scribble(world, disk, view, 6);
		world->random = after + i;
		scribble(world, disk, view, (unsigned)pick(world, 4));
		must(world, hv_disk_flush(disk, &err), &err);
		hv_disk_close(disk);
	}
}

static void begin(struct world *world, uint64_t seed)
{
	struct vhd_create_options options;
	struct hv_disk *disk;
	HV_ERR(err);

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	must(world, hv_loop_new(&world->loop, &err), &err);
	world->parent_sectors[OLD] = 1 + pick(world, MAX_SECTORS);
	world->parent_sectors[NEW] =
		pick(world, 3) ? world->parent_sectors[OLD] : 1 + pick(world, MAX_SECTORS);
	world->child_sectors =
		pick(world, 3) ? world->parent_sectors[OLD] : 1 + pick(world, MAX_SECTORS);
	make_parents(world);
	options = child_of(world, OLD);
	world->child = make(world, &options);
	disk = open_file(world, world->child, true);
	vhd_set_backing(disk, open_parent(world, OLD));
	scribble(world, disk, world->view, (unsigned)pick(world, 8));
	must(world, hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static void end(struct world *world)
{
	memfile_free(world->child);
	for (unsigned i = 0; i < PARENTS; i++)
		memfile_free(world->parents[i]);
	hv_loop_free(world->loop);
}

/* Looking. */

static void note_error(const struct vhd_finding *finding, void *arg)
{
	if (finding->severity == VHD_ERROR && strcmp(finding->code, "footer-differs")) {
		fprintf(stderr, "%s: %s\n", finding->code, finding->sentence);
		++*(unsigned *)arg;
	}
}

/* The child over the parent that it records reads as ever. Returns which that is. mem is kept. */
static unsigned assert_view(struct world *world, struct memfile *mem)
{
	static uint8_t contents[MAX_SECTORS * HV_SECTOR_SIZE];
	unsigned errors = 0, which;
	struct vhd_check_options options = { .found = note_error, .arg = &errors };
	struct memfile *copy = memfile_copy(mem);
	struct vhd_check_result result;
	struct hv_disk *disk;
	HV_ERR(err);

	must(world, vhd_check(memfile_file(copy), &options, &result, &err), &err);
	cr_assert_eq(errors, 0, "seed %llu", (unsigned long long)world->seed);
	disk = open_file(world, copy, false);
	which = vhd_get_info(disk)->parent_uuid.b[0] - 1u;
	cr_assert_lt(which, PARENTS);
	vhd_set_backing(disk, open_parent(world, which));
	must(world, hv_disk_pread(disk, contents, world->child_sectors * HV_SECTOR_SIZE, 0, &err),
	     &err);
	for (uint64_t i = 0; i < world->child_sectors; i++) {
		uint64_t stamp;

		memcpy(&stamp, contents + i * HV_SECTOR_SIZE, 8);
		cr_assert_eq(stamp, world->view[i],
			     "seed %llu: over the %s parent sector %llu reads %llx instead of %llx",
			     (unsigned long long)world->seed, which ? "new" : "old",
			     (unsigned long long)i, (unsigned long long)stamp,
			     (unsigned long long)world->view[i]);
	}
	hv_disk_close(disk);
	return which;
}

/* Changing parents, as snap_rebase does it on files. */

static bool stop_sometime(uint64_t done, uint64_t total, void *arg)
{
	struct world *world = arg;

	cr_assert_leq(done, total);
	return !world->stop_after || --world->stop_after;
}

static int rebase(struct world *world, struct memfile *mem, struct snap_kept_view *kept)
{
	struct hv_disk *child = open_file(world, mem, true);
	struct snap_keep_view options = { .child = child,
					  .old_parent = open_parent(world, OLD),
					  .new_parent = open_parent(world, NEW),
					  .depth = 1 + (unsigned)pick(world, 5),
					  .progress = stop_sometime,
					  .arg = world };
	struct vhd_create_options record = child_of(world, NEW);
	HV_ERR(err);
	int rc = 0;

	if (vhd_get_info(child)->parent_uuid.b[0] == 1 + OLD)
		rc = snap_keep_view(&options, kept, &err);
	if (rc == 0)
		rc = vhd_reparent(child, &record, 0, &err);
	hv_disk_close(options.old_parent);
	hv_disk_close(options.new_parent);
	hv_disk_close(child);
	return rc;
}

/* Frees mem. */
static void assert_completes(struct world *world, struct memfile *mem)
{
	struct snap_kept_view kept;

	memfile_keep(mem);
	world->stop_after = 0;
	cr_assert_eq(rebase(world, mem, &kept), 0);
	cr_assert_eq(assert_view(world, mem), NEW);
	memfile_free(mem);
}

Test(rebase, random_children_read_the_same_afterwards, .timeout = 120)
{
	unsigned idle = 0;

	for (uint64_t seed = 1; seed <= 120; seed++) {
		struct snap_kept_view kept;
		struct world world;

		begin(&world, seed);
		cr_assert_eq(rebase(&world, world.child, &kept), 0);
		cr_assert_eq(assert_view(&world, world.child), NEW);
		cr_assert_leq(kept.copied_bytes, kept.compared_bytes);
		idle += !kept.copied_bytes;
		end(&world);
	}
	/* Parents that are the same where it matters cost nothing in the child. */
	cr_assert(idle > 5 && idle < 100, "%u", idle);
}

Test(rebase, stopped_anywhere_it_can_begin_again, .timeout = 120)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct snap_kept_view first, second;
		struct world world;
		int rc;

		begin(&world, seed);
		world.stop_after = 1 + (unsigned)pick(&world, 8);
		rc = rebase(&world, world.child, &first);
		cr_assert(rc == 0 || rc == -EINTR);
		cr_assert_eq(assert_view(&world, world.child), rc ? OLD : NEW);
		if (rc) {
			world.stop_after = 0;
			cr_assert_eq(rebase(&world, world.child, &second), 0);
			/* What was copied is not even compared again. */
			cr_assert_eq(assert_view(&world, world.child), NEW);
		}
		end(&world);
	}
}

static void failures(enum memfile_op op, int code)
{
	unsigned failed = 0;

	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct snap_kept_view kept;
		struct world world;

		begin(&world, seed);
		memfile_fail(world.child, op, 1 + (unsigned)pick(&world, 25), code);
		failed += rebase(&world, world.child, &kept) != 0;
		memfile_fail(world.child, op, 0, 0);
		assert_view(&world, world.child);
		assert_completes(&world, memfile_copy(world.child));
		end(&world);
	}
	cr_assert_gt(failed, 10, "%u", failed);
}

Test(rebase, failing_writes_and_barriers_are_told_and_harm_nothing, .timeout = 120)
{
	failures(MEM_WRITE, -ENOSPC);
	failures(MEM_BARRIER, -EIO);
}
