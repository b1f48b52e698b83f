/*
 * A run from its beginning to the verdict.
 */
#include "tests/crash/vhd/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/crash/bytes.h"
#include "tests/crash/mount.h"
#include "tests/crash/vhd/internal.h"

bool run_wrong(const struct run *run, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "%s, seed %llu: ", run->workload->name, (unsigned long long)run->seed);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return false;
}

void run_must(const struct run *run, int rc, const struct hv_err *err)
{
	if (!rc)
		return;
	run_wrong(run, "%s", hv_err_text(err, rc));
	exit(1);
}

uint64_t run_random(struct run *run, uint64_t bound)
{
	return crash_random(&run->random, bound);
}

void run_room_new(struct run *run)
{
	uint64_t size = history_sectors(run->history) * HV_SECTOR_SIZE;

	run->requests = NULL;
	run->contents = crash_alloc(size);
	run->others = crash_alloc(size);
}

void run_room_free(struct run *run)
{
	run_forget_requests(run);
	history_free(run->history);
	free(run->contents);
	free(run->others);
}

void run_begin(struct run *run, const struct workload *workload, uint64_t seed,
	       const char *directory)
{
	HV_ERR(err);

	alarm(RUN_SECONDS);
	*run = (struct run){ .workload = workload,
			     .shape = workload->shape,
			     .seed = seed,
			     .random = crash_random_state(seed),
			     .directory = directory };
	run_must(run, hv_loop_new(&run->loop, &err), &err);
	run->stage = crash_stage_new(run->loop, seed);
	run->world = crash_world_new(run->stage);
	run->history = history_new(run->shape.sectors);
	run_room_new(run);
	shape_make(run);
	crash_forget(run->world);
}

void run_end(struct run *run)
{
	run_room_free(run);
	crash_world_free(run->before);
	crash_world_free(run->world);
	crash_mount_free(run->mount);
	crash_stage_free(run->stage);
	hv_loop_free(run->loop);
}

/* What the row asks for, from opening to closing. */
int run_through(struct run *run)
{
	int rc = run->shape.flags & (SHAPE_EMPTY | SHAPE_CHAIN) ? 0 : run_open(run, 0);

	if (rc == 0)
		rc = run->workload->run(run);
	return rc;
}

static bool go(struct run *run)
{
	int rc = run_through(run);
	bool right = rc == 0 || run_wrong(run, "fails without a reason: %d", rc);

	right = right && (!run->disk || run_verify(run));
	run_close(run);
	return right &&
	       crash_explore(run->world, &run->plan,
			     run->workload->judge ? run->workload->judge : judge_disk, run);
}

bool run_workload(const struct workload *workload, uint64_t seed, struct crash_plan *plan,
		  const char *directory)
{
	struct run run;
	bool right;

	run_begin(&run, workload, seed, directory);
	run.plan = *plan;
	run.plan.seed = seed;
	right = go(&run);
	*plan = run.plan;
	run_end(&run);
	return right;
}

bool run_again(struct run *run, struct crash_world *state)
{
	struct run again = *run;
	bool right;

	again.random = crash_random_state(crash_stage_random(run->stage, UINT64_MAX));
	again.world = state;
	again.history = history_after(run->history, run->contents);
	run_room_new(&again);
	again.level++;
	again.plan.seed = again.random;
	again.plan.states = 8;
	crash_forget(state);
	right = go(&again);
	run->plan.cuts = again.plan.cuts;
	run->plan.judged = again.plan.judged;
	run_room_free(&again);
	return right;
}
