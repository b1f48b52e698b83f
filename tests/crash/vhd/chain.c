/*
 * Merging, and changing parents, under power cuts.
 */
#include "tests/crash/vhd/chain.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "snapshot/merge_run.h"
#include "snapshot/rebase.h"
#include "tests/crash/bytes.h"
#include "tests/crash/mount.h"

#define MAX_LAYERS 4
#define AGAIN_ONE_IN 100  /* states on which a workload of two levels is run again */
#define OTHER "other.vhd" /* the new parent */

/* The top first. */
static const char *const names[MAX_LAYERS] = { DISK, "high.vhd", "low.vhd", "base.vhd" };

/* What a chain is like, and what becomes of it: the seed says which. */
static const struct kind {
	unsigned layers, levels;  /* levels: to be merged */
	bool removes, overwrites; /* by a merge */
	bool fixed;               /* the base */
	bool smaller;             /* lower layers are */
	bool shrunk;              /* the layer on the base was as large as that, which is larger */
	bool inserted;            /* the new parent of a rebase is a child of the old one */
} kinds[] = {
	{ .layers = 2, .levels = 1, .removes = true, .smaller = true },
	{ .layers = 4, .levels = 3, .removes = true, .inserted = true },
	{ .layers = 3, .levels = 2, .fixed = true, .smaller = true, .overwrites = true },
	{ .layers = 4, .levels = 3, .removes = true, .shrunk = true },
	{ .layers = 3, .levels = 2, .removes = true, .smaller = true, .inserted = true },
	{ .layers = 4, .levels = 2, .removes = true, .overwrites = true },
	{ .layers = 2, .levels = 1, .fixed = true, .smaller = true, .removes = true },
	{ .layers = 3, .levels = 1, .smaller = true, .shrunk = true, .inserted = true },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
static_assert(KINDS == CHAIN_KINDS, "chain.h tells how many there are");

static const struct kind *kind_of(const struct run *run)
{
	return &kinds[run->seed % KINDS];
}

/* The top first; the base is always the same. */
static const char *layer_name(const struct run *run, unsigned i)
{
	return i + 1 == kind_of(run)->layers ? names[MAX_LAYERS - 1] : names[i];
}

static unsigned levels_of(const struct run *run)
{
	return kind_of(run)->levels;
}

/* Making. */

static int open_chain(const struct run *run, const char *name, unsigned flags, struct hv_disk **ret,
		      struct hv_err *err)
{
	HV_AUTO(free) char *path = crash_mount_path(run->mount, name);
	struct snap_open_options options = { .flags = flags };

	return snap_open(path, &options, run->loop, ret, err);
}

/* sectors: 0: as many as the parent has. */
static void create(struct run *run, const char *name, const char *parent, uint64_t sectors)
{
	HV_AUTO(free) char *path = crash_mount_path(run->mount, name);
	HV_AUTO(hv_disk_close) struct hv_disk *below = NULL;
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_create_options options = { .type = VHD_DYNAMIC };
	struct snap_child_paths paths = { 0 };
	HV_ERR(err);

	if (parent) {
		run_must(run, open_chain(run, parent, 0, &below, &err), &err);
		run_must(run, snap_describe_child(path, below, &options, &paths, &err), &err);
	} else if (kind_of(run)->fixed) {
		options.type = VHD_FIXED;
	}
	if (sectors)
		options.size_bytes = sectors * HV_SECTOR_SIZE;
	options.block_bytes = options.type == VHD_FIXED ? 0 : run->shape.block_bytes;
	run_must(run, hv_file_create(path, 0, false, run->loop, &file, &err), &err);
	run_must(run, vhd_create(file, &options, &err), &err);
	run_must(run, hv_file_publish(file, &err), &err);
	snap_child_paths_free(&paths);
}

/* The same sector has another stamp in every layer. */
static void change(struct run *run, struct hv_disk *disk, unsigned layer, bool seen)
{
	uint64_t sectors = hv_min_u64(disk->size_bytes / HV_SECTOR_SIZE, run->shape.sectors);
	uint64_t first = run_random(run, sectors);
	uint64_t block = run->shape.block_bytes / HV_SECTOR_SIZE, shift = (uint64_t)layer << 24;
	uint64_t count = 1 + run_random(run, run_random(run, 4) ? 40 : 2 * block);
	unsigned kind = (unsigned)run_random(run, 8);
	HV_AUTO(free) uint8_t *data = NULL;
	HV_ERR(err);
	int rc;

	if (run_random(run, 4) == 0) {
		first = hv_round_down(first, block);
		count = block;
	}
	count = hv_min_u64(count, sectors - first);
	data = crash_alloc(count * HV_SECTOR_SIZE);
	if (kind < 5)
		history_fill(data, 1, first + shift, count);
	if (kind < 6) /* also zeros that are written as data */
		rc = hv_disk_pwrite(disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE,
				    &err);
	else if (kind == 6)
		rc = hv_disk_zero(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err);
	else
		rc = hv_disk_discard(disk, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err);
	run_must(run, rc, &err);
	for (uint64_t i = first; i < first + count && seen; i++)
		history_begin(run->history, i, kind < 5 ? history_stamp(1, i + shift) : 0);
}

static void fill(struct run *run, const char *name, unsigned layer, unsigned changes, bool seen)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_ERR(err);

	run_must(run, open_chain(run, name, SNAP_OPEN_WRITE, &disk, &err), &err);
	while (changes--)
		change(run, disk, layer, seen);
	run_must(run, hv_disk_flush(disk, &err), &err);
}

/* What lies beyond the end of a smaller parent is zero. */
static uint64_t size_below(struct run *run, uint64_t sectors)
{
	return kind_of(run)->smaller ? sectors - run_random(run, sectors / 3) : sectors;
}

/* Whoever is on top of it reads zeros beyond its end, whatever is below. */
static void shrink(struct run *run, const char *name, uint64_t sectors)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_ERR(err);

	run_must(run, open_chain(run, name, SNAP_OPEN_WRITE, &disk, &err), &err);
	run_must(run, vhd_resize(disk, sectors * HV_SECTOR_SIZE, 0, &err), &err);
	for (uint64_t i = sectors; i < run->shape.sectors; i++)
		history_begin(run->history, i, 0);
}

/*
 * Layers are as large as the one on top of them, or smaller. A parent that is larger would be taken
 * for one that was resized, unless its child was made as large as that and has shrunk.
 */
static void make_layers(struct run *run)
{
	uint64_t sizes[MAX_LAYERS] = { run->shape.sectors };
	unsigned count = kind_of(run)->layers;

	for (unsigned i = 1; i < count; i++)
		sizes[i] = size_below(run, sizes[i - 1]);
	if (kind_of(run)->shrunk) {
		sizes[count - 2] -= sizes[count - 2] / 4;
		sizes[count - 1] = run->shape.sectors + 500;
	}
	for (unsigned i = count; i-- > 0;) {
		const char *parent = i + 1 < count ? layer_name(run, i + 1) : NULL;
		bool shrunk = kind_of(run)->shrunk && i + 2 == count;

		create(run, layer_name(run, i), parent, shrunk ? 0 : sizes[i]);
		fill(run, layer_name(run, i), i, parent ? 2 + (unsigned)run_random(run, 5) : 10,
		     true);
		if (shrunk)
			shrink(run, layer_name(run, i), sizes[i]);
	}
}

/* The new parent of a rebase: another disk of much the same contents, or a layer on the old one. */
static void make_other(struct run *run)
{
	bool child = kind_of(run)->inserted;

	if (child)
		create(run, OTHER, layer_name(run, 1), 0);
	else
		create(run, OTHER, NULL, size_below(run, run->shape.sectors));
	fill(run, OTHER, child ? MAX_LAYERS : 1, 1 + (unsigned)run_random(run, 4), false);
}

void chain_make(struct run *run)
{
	run->mount = crash_mount_new(run->directory);
	crash_mount_show(run->mount, run->world);
	make_layers(run);
	if (run->workload->run == chain_rebase)
		make_other(run);
}

/* Looking. */

/* What the disk or layer reads, into run->contents: as in the beginning. */
static bool reads_the_same(struct run *run, const char *name, uint64_t at)
{
	uint64_t size = history_sectors(run->history) * HV_SECTOR_SIZE, stamp;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	int64_t sector;
	HV_ERR(err);
	int rc = open_chain(run, name, 0, &disk, &err);

	if (rc == 0)
		rc = hv_disk_pread(disk, run->contents, size, 0, &err);
	if (rc)
		return run_wrong(run, "%s", hv_err_text(&err, rc));
	sector = history_judge(run->history, run->contents, at, &stamp);
	return sector < 0 || run_wrong(run, "sector %lld of '%s' reads as %llx", (long long)sector,
				       name, (unsigned long long)stamp);
}

static bool files_are_sound(struct run *run, struct crash_world *state)
{
	for (unsigned i = 0; i < MAX_LAYERS; i++) {
		if (crash_exists(state, names[i]) && !judge_file(run, state, names[i], true))
			return false;
	}
	return !crash_exists(state, OTHER) || judge_file(run, state, OTHER, true);
}

/* Merging. */

static const char *target_name(const struct run *run)
{
	return layer_name(run, levels_of(run));
}

static int merge(struct run *run, struct crash_world *world, uint64_t random, struct hv_err *err)
{
	HV_AUTO(free) char *child = crash_mount_path(run->mount, DISK);
	HV_AUTO(free) char *into = crash_mount_path(run->mount, target_name(run));
	struct snap_merge_report report;
	struct snap_merge_request request = {
		.child = child,
		.into = into,
		.remove = kind_of(run)->removes,
		.options = { .depth = 1 + (unsigned)crash_random(&random, 6),
			     .chunk_bytes = UINT64_C(4096) << crash_random(&random, 8),
			     .flush_bytes = 1 + crash_random(&random, 2 << 20),
			     .flush_seconds = 1e9, /* time is not in the seed's hands */
			     .overwrite = kind_of(run)->overwrites },
	};
	int rc;

	crash_mount_show(run->mount, world);
	rc = snap_merge_run(&request, run->loop, &report, err);
	snap_merge_report_free(&report);
	return rc;
}

int chain_merge(struct run *run)
{
	HV_ERR(err);
	int rc;

	run->promised_at = 0;
	rc = merge(run, run->world, run_random(run, UINT64_MAX), &err);
	if (rc == 0)
		run->promised_at = crash_stage_tick(run->stage);
	else if (!run->faulty)
		run_wrong(run, "merge: %s", hv_err_text(&err, rc));
	return rc;
}

static bool any_is_gone(const struct run *run, struct crash_world *state)
{
	for (unsigned i = 1; i < levels_of(run); i++) {
		if (!crash_exists(state, layer_name(run, i)))
			return true;
	}
	return false;
}

/* Once one of them is gone none opens, for it would not read right. */
static bool layers_between_are_there_or_shut(struct run *run, struct crash_world *state)
{
	bool gone = any_is_gone(run, state);

	for (unsigned i = 1; i < levels_of(run); i++) {
		HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;

		if (!crash_exists(state, layer_name(run, i)))
			continue;
		if (!crash_exists(state, DISK))
			return run_wrong(run, "'%s' outlives the disk", layer_name(run, i));
		if (gone && !open_chain(run, layer_name(run, i), 0, &disk, NULL))
			return run_wrong(run, "'%s' opens, although another is gone",
					 layer_name(run, i));
	}
	return true;
}

static bool is_finished(struct run *run, struct crash_world *state)
{
	char progress[64];

	snprintf(progress, sizeof(progress), "%s.hvmerge", target_name(run));
	if (crash_exists(state, progress))
		return run_wrong(run, "the progress of a finished merge is left");
	for (unsigned i = 0; i < levels_of(run); i++) {
		if (crash_exists(state, layer_name(run, i)) == kind_of(run)->removes)
			return run_wrong(run, "'%s' is %s", layer_name(run, i),
					 kind_of(run)->removes ? "left" : "gone");
	}
	return true;
}

static bool looks_right(struct run *run, struct crash_world *state, uint64_t at)
{
	const char *top = crash_exists(state, DISK) ? DISK : target_name(run);

	crash_mount_show(run->mount, state);
	return files_are_sound(run, state) && reads_the_same(run, top, at) &&
	       layers_between_are_there_or_shut(run, state);
}

bool chain_judge_merge(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;
	HV_ERR(err);
	int rc;

	alarm(RUN_SECONDS);
	if (!looks_right(run, state, at))
		return false;
	if (run->promised_at && at >= run->promised_at)
		return is_finished(run, state) && reads_the_same(run, target_name(run), at);
	if (!crash_exists(state, DISK) && !kind_of(run)->removes)
		return run_wrong(run, "the disk is gone");
	/* What is left of a merge is not in the way of the next disk's. */
	if (!crash_exists(state, DISK))
		create(run, DISK, target_name(run), 0);
	if (run->level + 1 < run->workload->levels && !run->faulty &&
	    crash_stage_random(run->stage, AGAIN_ONE_IN) == 0)
		return run_again(run, state);
	rc = merge(run, state, crash_stage_random(run->stage, UINT64_MAX), &err);
	if (rc)
		return run_wrong(run, "merging again: %s", hv_err_text(&err, rc));
	return looks_right(run, state, at) && is_finished(run, state) &&
	       reads_the_same(run, target_name(run), at);
}

/* Changing parents. */

static int rebase(struct run *run, struct crash_world *world, struct hv_err *err)
{
	HV_AUTO(free) char *child = crash_mount_path(run->mount, DISK);
	HV_AUTO(free) char *parent = crash_mount_path(run->mount, OTHER);
	struct snap_rebase_request request = { .child = child,
					       .parent = parent,
					       .overwrite = kind_of(run)->overwrites };
	struct snap_rebase_report report;
	int rc;

	crash_mount_show(run->mount, world);
	rc = snap_rebase(&request, run->loop, &report, err);
	snap_rebase_report_free(&report);
	return rc;
}

int chain_rebase(struct run *run)
{
	HV_ERR(err);
	int rc;

	run->promised_at = 0;
	rc = rebase(run, run->world, &err);
	if (rc == 0)
		run->promised_at = crash_stage_tick(run->stage);
	else if (!run->faulty)
		run_wrong(run, "rebase: %s", hv_err_text(&err, rc));
	return rc;
}

static bool has_new_parent(struct run *run)
{
	HV_AUTO(free) char *path = crash_mount_path(run->mount, OTHER);
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_ERR(err);
	int rc = open_chain(run, DISK, 0, &disk, &err);

	if (rc)
		return run_wrong(run, "%s", hv_err_text(&err, rc));
	return !strcmp(snap_layer_at(disk, 1)->path, path) ||
	       run_wrong(run, "its parent is '%s'", snap_layer_at(disk, 1)->path);
}

bool chain_judge_rebase(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;
	HV_ERR(err);
	int rc;

	alarm(RUN_SECONDS);
	crash_mount_show(run->mount, state);
	if (!files_are_sound(run, state) || !reads_the_same(run, DISK, at))
		return false;
	if (run->promised_at && at >= run->promised_at)
		return has_new_parent(run);
	if (run->level + 1 < run->workload->levels && !run->faulty &&
	    crash_stage_random(run->stage, AGAIN_ONE_IN) == 0)
		return run_again(run, state);
	rc = rebase(run, state, &err);
	if (rc)
		return run_wrong(run, "rebasing again: %s", hv_err_text(&err, rc));
	return files_are_sound(run, state) && reads_the_same(run, DISK, at) && has_new_parent(run);
}
