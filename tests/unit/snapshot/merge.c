/*
 * Merging random chains, on files in memory: layers of different sizes, blocks in parts, written
 * zeros and discards, merged at random levels. However the merge ends - undisturbed, stopped, by a
 * write or barrier that fails - the top reads as before, and going on from what was durable makes
 * the target read like it. Power cuts are for tests/crash.
 */
#include "snapshot/merge.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/chain.h"
#include "tests/support/memfile.h"
#include "vhd/check.h"
#include "vhd/vhd.h"

#define BLOCK_SECTORS 1024u
#define MAX_SECTORS (5 * BLOCK_SECTORS)
#define MAX_LAYERS 5

struct world {
	struct hv_loop *loop;
	uint64_t seed, random;
	unsigned count, levels; /* layers: 0 is the top; the target is the one at levels */
	struct memfile *layers[MAX_LAYERS];
	uint64_t sizes[MAX_LAYERS]; /* sectors */
	uint64_t view[MAX_SECTORS]; /* what the top reads: a stamp for each sector */
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

/* Opening. Layers that are only read are copies, so that nothing happens to them. */

static struct hv_disk *open_layer(struct world *world, unsigned i, struct memfile *written)
{
	struct memfile *mem = written ? written : memfile_copy(world->layers[i]);
	struct hv_disk *disk;
	HV_ERR(err);

	memfile_file(mem)->writable = written != NULL;
	must(world, vhd_open(memfile_file(mem), 0, &disk, &err), &err);
	return disk;
}

/* The chain from `top` down, with that file in place of the layer `at`, for writing. */
static struct hv_disk *open_chain(struct world *world, unsigned top, unsigned at,
				  struct memfile *written)
{
	struct hv_disk *disk = NULL;

	for (unsigned i = world->count; i-- > top;) {
		struct hv_disk *layer = open_layer(world, i, i == at ? written : NULL);

		if (disk)
			vhd_set_backing(layer, disk);
		disk = layer;
	}
	return disk;
}

/* Making a chain. */

static void stamp_memory(uint8_t *data, uint64_t count, uint64_t stamp)
{
	for (uint64_t i = 0; i < count * HV_SECTOR_SIZE; i += 8)
		memcpy(data + i, &stamp, 8);
}

static void change(struct world *world, struct hv_disk *disk, uint64_t size)
{
	static uint8_t data[MAX_SECTORS * HV_SECTOR_SIZE];
	uint64_t first = pick(world, size), count = 1 + pick(world, 40), kind = pick(world, 8);
	uint64_t stamp = kind < 5 ? next_random(world) | 1 : 0;
	HV_ERR(err);
	int rc;

	if (pick(world, 4) == 0) { /* whole blocks */
		first -= first % BLOCK_SECTORS;
		count = BLOCK_SECTORS * (1 + pick(world, 2));
	}
	if (count > size - first)
		count = size - first;
	stamp_memory(data, count, stamp);
	if (kind < 6) /* also zeros that are written as data */
		rc = hv_disk_pwrite(disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE,
				    &err);
	else if (kind == 6)
		rc = hv_disk_zero(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err);
	else
		rc = hv_disk_discard(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err);
	must(world, rc, &err);
	for (uint64_t i = 0; i < count; i++)
		world->view[first + i] = stamp;
}

static void make_layer(struct world *world, unsigned i)
{
	bool base = i == world->count - 1;
	struct vhd_create_options options = {
		.type = base ? pick(world, 2) ? VHD_DYNAMIC : VHD_FIXED : VHD_DIFFERENCING,
		.size_bytes = world->sizes[i] * HV_SECTOR_SIZE,
		.block_bytes = BLOCK_SECTORS * HV_SECTOR_SIZE,
		.parent_uuid = { { 1 } },
		.parent_name = "parent.vhd"
	};
	unsigned changes = (unsigned)pick(world, 10);
	struct hv_disk *disk;
	HV_ERR(err);

	if (options.type == VHD_FIXED)
		options.block_bytes = 0;
	world->layers[i] = memfile_new(world->loop);
	memfile_keep(world->layers[i]);
	must(world, vhd_create(memfile_file(world->layers[i]), &options, &err), &err);
	disk = open_chain(world, i, i, world->layers[i]);
	for (unsigned n = 0; n < changes; n++)
		change(world, disk, world->sizes[i]);
	must(world, hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static void begin(struct world *world, uint64_t seed)
{
	HV_ERR(err);

	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	must(world, hv_loop_new(&world->loop, &err), &err);
	world->count = 2 + (unsigned)pick(world, MAX_LAYERS - 1);
	world->levels = 1 + (unsigned)pick(world, world->count - 1);
	for (unsigned i = world->count; i-- > 0;) {
		bool same = i < world->count - 1 && pick(world, 3);

		world->sizes[i] = same ? world->sizes[i + 1] : 1 + pick(world, MAX_SECTORS);
		/* What lies beyond a smaller layer is zero for the ones above. */
		for (uint64_t s = world->sizes[i]; s < MAX_SECTORS; s++)
			world->view[s] = 0;
		make_layer(world, i);
	}
}

static void end(struct world *world)
{
	for (unsigned i = 0; i < world->count; i++)
		memfile_free(world->layers[i]);
	hv_loop_free(world->loop);
}

/* Looking. */

static void assert_view(struct world *world, struct hv_disk *disk, const char *which)
{
	static uint8_t contents[MAX_SECTORS * HV_SECTOR_SIZE];
	HV_ERR(err);

	must(world, hv_disk_pread(disk, contents, world->sizes[0] * HV_SECTOR_SIZE, 0, &err), &err);
	for (uint64_t i = 0; i < world->sizes[0]; i++) {
		uint64_t stamp;

		memcpy(&stamp, contents + i * HV_SECTOR_SIZE, 8);
		cr_assert_eq(stamp, world->view[i],
			     "seed %llu: sector %llu of the %s reads %llx instead of %llx",
			     (unsigned long long)world->seed, (unsigned long long)i, which,
			     (unsigned long long)stamp, (unsigned long long)world->view[i]);
	}
}

static void note_error(const struct vhd_finding *finding, void *arg)
{
	/* A resize that is cut short may leave the two footers different. */
	if (finding->severity == VHD_ERROR && strcmp(finding->code, "footer-differs")) {
		fprintf(stderr, "%s: %s\n", finding->code, finding->sentence);
		++*(unsigned *)arg;
	}
}

/* Through the top nothing has changed, whatever state the target is in. target is left as it is. */
static void assert_top_is_unharmed(struct world *world, struct memfile *target)
{
	unsigned errors = 0;
	struct vhd_check_options options = { .found = note_error, .arg = &errors };
	struct memfile *copy = memfile_copy(target);
	struct vhd_check_result result;
	struct hv_disk *disk;
	HV_ERR(err);

	must(world, vhd_check(memfile_file(copy), &options, &result, &err), &err);
	cr_assert_eq(errors, 0, "seed %llu", (unsigned long long)world->seed);
	disk = open_chain(world, 0, world->levels, copy);
	assert_view(world, disk, "top");
	hv_disk_close(disk);
}

/* Merging. */

static struct snap_merge_options random_options(struct world *world, uint64_t start_bytes)
{
	return (struct snap_merge_options){
		.start_bytes = start_bytes,
		.depth = 1 + (unsigned)pick(world, 6),
		.chunk_bytes = UINT64_C(512) << pick(world, 9),
		.flush_bytes = 1 + pick(world, 400000),
		.flush_seconds = 1e9,
		.overwrite = pick(world, 4) == 0,
	};
}

/*
 * Merges into the target from start_bytes, and stops by itself after some steps. Returns what the
 * merge returned; *durable is how far it came.
 */
static int merge(struct world *world, struct memfile *target, uint64_t start_bytes,
		 unsigned stop_after, uint64_t *durable)
{
	struct hv_disk *top = open_chain(world, 0, world->levels, target);
	struct hv_disk *disk = snap_layer_at(top, world->levels);
	struct snap_merge_options options = random_options(world, start_bytes);
	struct snap_merge_progress now;
	struct snap_merge *job;
	HV_ERR(err);
	int rc = 0;

	if (disk->size_bytes < top->size_bytes)
		rc = vhd_resize(disk, top->size_bytes, 0, &err);
	*durable = start_bytes;
	if (rc == 0)
		must(world, snap_merge_begin(top, disk, &options, &job, &err), &err);
	if (rc) {
		hv_disk_close(top);
		return rc;
	}
	while ((rc = snap_merge_step(job, &err)) > 0) {
		snap_merge_get_progress(job, &now);
		cr_assert_geq(now.durable_bytes, *durable);
		cr_assert_leq(now.in_flight, options.depth + 1);
		*durable = now.durable_bytes;
		if (stop_after && !--stop_after)
			snap_merge_stop(job);
		hv_loop_turn(world->loop, now.in_flight != 0);
	}
	snap_merge_get_progress(job, &now);
	*durable = now.durable_bytes;
	if (rc)
		cr_assert(err.code == rc && *err.sentence);
	snap_merge_free(job);
	hv_disk_close(top);
	return rc;
}

/* Goes on, undisturbed: then the target alone reads as the top does. Frees target. */
static void assert_completes(struct world *world, struct memfile *target, uint64_t start_bytes)
{
	struct memfile *copy;
	struct hv_disk *disk;
	uint64_t durable;

	memfile_keep(target);
	cr_assert_eq(merge(world, target, start_bytes, 0, &durable), 0);
	cr_assert_eq(durable, world->sizes[0] * HV_SECTOR_SIZE);
	assert_top_is_unharmed(world, target);
	copy = memfile_copy(target);
	disk = open_chain(world, world->levels, world->levels, copy);
	assert_view(world, disk, "target");
	hv_disk_close(disk);
	memfile_free(target);
}

Test(merge, random_chains_read_the_same_afterwards, .timeout = 120)
{
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct world world;

		begin(&world, seed);
		assert_completes(&world, memfile_copy(world.layers[world.levels]), 0);
		end(&world);
	}
}

Test(merge, stopped_anywhere_it_goes_on_there, .timeout = 120)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct world world;
		uint64_t durable = 0;

		begin(&world, seed);
		for (unsigned run = 1; run < 5; run++) {
			struct memfile *target = world.layers[world.levels];

			cr_assert_eq(merge(&world, target, durable,
					   1 + (unsigned)pick(&world, 4 * run), &durable),
				     0);
			assert_top_is_unharmed(&world, target);
		}
		assert_completes(&world, memfile_copy(world.layers[world.levels]), durable);
		end(&world);
	}
}

static void failures(enum memfile_op op, int code, uint64_t seeds)
{
	unsigned failed = 0;

	for (uint64_t seed = 1; seed <= seeds; seed++) {
		struct world world;
		struct memfile *target;
		uint64_t durable;

		begin(&world, seed);
		target = world.layers[world.levels];
		memfile_fail(target, op, 1 + (unsigned)pick(&world, op == MEM_ZERO ? 3 : 30), code);
		if (merge(&world, target, 0, 0, &durable))
			failed++;
		memfile_fail(target, op, 0, 0);
		assert_top_is_unharmed(&world, target);
		assert_completes(&world, memfile_copy(target), durable);
		end(&world);
	}
	cr_assert_gt(failed, seeds / 12, "only %u of %llu failed", failed,
		     (unsigned long long)seeds);
}

Test(merge, failing_writes_and_barriers_are_told_and_harm_nothing, .timeout = 120)
{
	failures(MEM_WRITE, -ENOSPC, 60);
	failures(MEM_ZERO, -EIO, 60);
	failures(MEM_BARRIER, -EIO, 60);
}

/* Contracts. */

Test(merge, each_sector_is_copied_once_from_its_newest_holder)
{
	struct world world;
	struct snap_merge_options options = { .dry_run = true };
	struct snap_merge_progress now;
	struct snap_merge *job;
	struct hv_disk *top;
	uint8_t data[BLOCK_SECTORS * HV_SECTOR_SIZE];
	HV_ERR(err);
	int rc;

	memset(&world, 0, sizeof(world));
	must(&world, hv_loop_new(&world.loop, &err), &err);
	world.count = 3;
	world.levels = 2;
	world.random = 1;
	for (unsigned i = 3; i-- > 0;) {
		struct vhd_create_options create = { .type = i == 2 ? VHD_DYNAMIC :
								      VHD_DIFFERENCING,
						     .size_bytes = MAX_SECTORS * HV_SECTOR_SIZE,
						     .block_bytes = sizeof(data),
						     .parent_uuid = { { 1 } } };

		world.sizes[i] = MAX_SECTORS;
		world.layers[i] = memfile_new(world.loop);
		memfile_keep(world.layers[i]);
		must(&world, vhd_create(memfile_file(world.layers[i]), &create, &err), &err);
		top = open_chain(&world, i, i, world.layers[i]);
		memset(data, 'a' + (int)i, sizeof(data));
		/* The base holds blocks 0..3, the middle 0 and 1, the top half of 0, and a zero. */
		for (unsigned block = 0; block < (unsigned[]){ 0, 2, 4 }[i]; block++)
			must(&world,
			     hv_disk_pwrite(top, data, sizeof(data), block * sizeof(data), &err),
			     &err);
		if (i == 0) {
			must(&world, hv_disk_pwrite(top, data, sizeof(data) / 2, 0, &err), &err);
			must(&world, hv_disk_zero(top, sizeof(data), 3 * sizeof(data), &err), &err);
		}
		must(&world, hv_disk_flush(top, &err), &err);
		hv_disk_close(top);
	}
	top = open_chain(&world, 0, 0, NULL);
	cr_assert_eq(snap_merge_begin(top, top, &options, &job, NULL), -EINVAL);
	must(&world, snap_merge_begin(top, snap_layer_at(top, 2), &options, &job, &err), &err);
	while ((rc = snap_merge_step(job, &err)) > 0)
		;
	must(&world, rc, &err);
	snap_merge_get_progress(job, &now);
	cr_assert_eq(now.levels, 2);
	cr_assert_eq(now.layers[0].copied_bytes, sizeof(data) / 2 + sizeof(data));
	cr_assert_eq(now.layers[0].copied_blocks, 2);
	cr_assert_eq(now.layers[1].copied_bytes, sizeof(data) + sizeof(data) / 2);
	cr_assert_eq(now.layers[1].copied_blocks, 2);
	cr_assert_eq(now.copied_bytes, 3 * sizeof(data));
	cr_assert_eq(now.reached_bytes, top->size_bytes);
	snap_merge_free(job);
	hv_disk_close(top);
	end(&world);
}
