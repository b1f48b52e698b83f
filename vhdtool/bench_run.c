/*
 * The load generator. It shall cost little beside what it measures: a request is a slot that is
 * filled again when it completes, memory is had before the start, and the clock is read once for
 * all requests that complete in one turn of the loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "hvcore/checked.h"
#include "hvcore/clock.h"
#include "hvcore/memory.h"
#include "hvcore/progress.h"
#include "hvcore/stamp.h"
#include "vhdtool/bench.h"

#define MEMORY_ALIGN 4096
#define REDRAW_NS 200000000
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

/* In the generation of a block: a request for it is in flight. */
#define BUSY (UINT64_C(1) << 63)

struct slot {
	struct hv_io io;
	struct iovec iov;
	struct run *run;
	struct slot *next;                /* idle */
	char *read_memory, *write_memory; /* the same, unless one would spoil the other */
	uint64_t block;
	uint64_t generation; /* of a write that is verified */
	uint64_t started_ns;
	bool counted;
};

struct run {
	const struct bench_plan *plan;
	struct hv_disk *disk;
	struct bench_result *result;
	struct slot *slots, *idle;
	char *memory;
	unsigned in_flight; /* without the flush */
	unsigned errors;    /* and mismatches */

	uint64_t now_ns;
	bool clock_is_old;
	bool measuring; /* the warm-up is over */
	uint64_t measure_at_ns, end_at_ns, finished_ns;
	struct rusage usage;
	struct hv_progress progress;
	uint64_t draw_at_ns;

	/* The next request, drawn but not sent while its block is busy. */
	bool drawn;
	enum hv_io_op op;
	uint64_t block;
	uint64_t random, position; /* state of the patterns */
	uint64_t issued;           /* since measuring began */

	struct hv_io flush;
	bool flushing, flush_counted;
	uint64_t flush_started_ns, flush_at_ns, unflushed_writes;

	/* Verifying: the generation that each block was last written with; 0: not by us. */
	uint64_t *generations;
	uint64_t generation;
	uint64_t check_at; /* the block that is checked next */
};

static void tick(struct run *run)
{
	if (!run->clock_is_old)
		return;
	run->now_ns = hv_now_ns();
	run->clock_is_old = false;
}

static double seconds_of(const struct timeval *from, const struct timeval *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_usec - from->tv_usec) / 1e6;
}

static void request_failed(struct run *run, const struct slot *slot, int code)
{
	bool read = slot->io.op == HV_READ;

	run->errors++;
	(read ? &run->result->read : &run->result->write)->errors++;
	hv_fail_errno(&run->result->err, code, "%s: cannot %s %" PRIu64 " bytes at %" PRIu64,
		      run->disk->path, read ? "read" : "write", slot->io.length,
		      run->plan->offset + slot->block * run->plan->request_bytes);
}

/* Choosing requests. */

/* splitmix64 */
static uint64_t next_random(struct run *run)
{
	uint64_t x = run->random += GOLDEN;

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static uint64_t random_below(struct run *run, uint64_t limit)
{
	return (uint64_t)((unsigned __int128)next_random(run) * limit >> 64);
}

static void choose(struct run *run)
{
	const struct bench_plan *plan = run->plan;

	if (bench_reads(plan) && bench_writes(plan))
		run->op = random_below(run, 100) < plan->read_percent ? HV_READ : HV_WRITE;
	if (plan->random) {
		run->block = random_below(run, plan->blocks);
		return;
	}
	run->block = run->position;
	run->position += plan->step;
	if (run->position >= plan->blocks)
		run->position %= plan->blocks;
}

/* As if choose had been called for all the requests that are skipped. */
static void start_pattern(struct run *run)
{
	const struct bench_plan *plan = run->plan;
	uint64_t draws = plan->random + (bench_reads(plan) && bench_writes(plan));

	run->random = plan->seed + GOLDEN * draws * plan->skip;
	run->position = (uint64_t)((unsigned __int128)plan->skip * plan->step % plan->blocks);
}

static bool over(const struct run *run)
{
	return run->now_ns >= run->end_at_ns ||
	       (run->measuring && run->issued >= run->plan->requests) ||
	       run->errors >= BENCH_MAX_ERRORS;
}

/* Is there a request that can be sent now? */
static bool draw(struct run *run)
{
	if (over(run))
		return false;
	if (!run->drawn)
		choose(run);
	run->drawn = true;
	return !run->generations || !(run->generations[run->block] & BUSY);
}

/* Verifying. */

static void report_mismatch(struct run *run, enum hv_stamp_fault fault,
			    const struct hv_stamp_finding *found)
{
	struct hv_err *err = &run->result->err;
	const char *path = run->disk->path;

	run->errors++;
	run->result->mismatches++;
	switch (fault) {
	case HV_STAMP_OK:
	case HV_STAMP_FOREIGN:
		hv_fail(err, -EIO,
			"%s: foreign sector at %" PRIu64
			": it holds nothing that was written with seed %" PRIu64,
			path, found->offset, run->plan->seed);
		break;
	case HV_STAMP_DAMAGED:
		hv_fail(err, -EIO,
			"%s: damaged sector at %" PRIu64
			": bytes have changed since it was written",
			path, found->offset);
		break;
	case HV_STAMP_MISPLACED:
		hv_fail(err, -EIO,
			"%s: misplaced sector at %" PRIu64
			": it holds what was written at %" PRIu64,
			path, found->offset, found->found_offset);
		break;
	case HV_STAMP_STALE:
		hv_fail(err, -EIO,
			"%s: stale sector at %" PRIu64 ": it holds write %" PRIu64
			", but write %" PRIu64 " came later",
			path, found->offset, found->generation, found->expected);
		break;
	case HV_STAMP_TORN:
		hv_fail(err, -EIO,
			"%s: torn write: the sector at %" PRIu64 " holds write %" PRIu64
			", its neighbours write %" PRIu64,
			path, found->offset, found->generation, found->expected);
		break;
	}
}

static void verify(struct run *run, const struct slot *slot, uint64_t generation)
{
	const struct bench_plan *plan = run->plan;
	struct hv_stamp_finding found;
	enum hv_stamp_fault fault = hv_stamp_check(slot->read_memory, plan->request_bytes,
						   plan->offset + slot->block * plan->request_bytes,
						   plan->seed, generation, &found);

	if (fault)
		report_mismatch(run, fault, &found);
	run->result->verified_blocks++;
	run->clock_is_old = true;
}

/* A request is done: what does its block hold now, or should it have held? */
static void settle(struct run *run, const struct slot *slot, bool failed)
{
	uint64_t *generation = &run->generations[slot->block];

	*generation &= ~BUSY;
	if (slot->io.op == HV_WRITE)
		*generation = failed ? 0 : slot->generation;
	else if (!failed && *generation)
		verify(run, slot, *generation);
	else if (!failed && !bench_writes(run->plan))
		verify(run, slot, HV_STAMP_ANY);
}

static void begin_verified(struct run *run, struct slot *slot)
{
	run->generations[slot->block] |= BUSY;
	if (slot->io.op == HV_READ)
		return;
	slot->generation = ++run->generation;
	hv_stamp_fill(slot->write_memory, run->plan->request_bytes, slot->io.offset,
		      run->plan->seed, slot->generation);
	run->clock_is_old = true;
}

/* Sending. */

static void send(struct run *run, enum hv_io_op op, uint64_t block)
{
	struct slot *slot = run->idle;

	run->idle = slot->next;
	run->in_flight++;
	slot->block = block;
	slot->io.op = op;
	slot->io.offset = run->plan->offset + block * run->plan->request_bytes;
	slot->iov.iov_base = op == HV_READ ? slot->read_memory : slot->write_memory;
	slot->counted = run->measuring;
	if (run->generations) {
		begin_verified(run, slot);
		tick(run);
	}
	slot->started_ns = run->now_ns;
	hv_disk_submit(run->disk, &slot->io);
}

static void start_measuring(struct run *run)
{
	run->measuring = true;
	run->issued = 0;
	run->measure_at_ns = run->now_ns;
	getrusage(RUSAGE_SELF, &run->usage);
}

static void send_flush(struct run *run)
{
	run->flushing = true;
	run->flush_counted = run->measuring;
	run->flush_started_ns = run->now_ns;
	run->unflushed_writes = 0;
	run->flush_at_ns += run->plan->flush_ns;
	if (run->flush_at_ns <= run->now_ns)
		run->flush_at_ns = run->now_ns + run->plan->flush_ns;
	hv_disk_submit(run->disk, &run->flush);
}

static bool flush_is_due(const struct run *run)
{
	const struct bench_plan *plan = run->plan;

	if (run->flushing)
		return false;
	return (plan->flush_ns && run->now_ns >= run->flush_at_ns) ||
	       (plan->flush_writes && run->unflushed_writes >= plan->flush_writes);
}

static void proceed(struct run *run)
{
	if (!run->measuring && run->now_ns >= run->measure_at_ns)
		start_measuring(run);
	if (flush_is_due(run))
		send_flush(run);
	while (run->idle && draw(run)) {
		run->drawn = false;
		run->issued++;
		send(run, run->op, run->block);
	}
}

static void make_idle(struct run *run, struct slot *slot)
{
	slot->next = run->idle;
	run->idle = slot;
	run->in_flight--;
}

static void request_done(struct hv_io *io, int code)
{
	struct slot *slot = (struct slot *)io;
	struct run *run = slot->run;
	bool read = io->op == HV_READ;
	struct bench_side *side = read ? &run->result->read : &run->result->write;

	tick(run);
	run->finished_ns = run->now_ns;
	if (code) {
		request_failed(run, slot, code);
	} else if (slot->counted) {
		hv_histogram_add(&side->latency, run->now_ns - slot->started_ns);
	}
	run->unflushed_writes += !read;
	make_idle(run, slot);
	if (run->generations)
		settle(run, slot, code);
	proceed(run);
}

static void flush_done(struct hv_io *io, int code)
{
	struct run *run = (struct run *)((char *)io - offsetof(struct run, flush));
	struct bench_side *side = &run->result->flush;

	tick(run);
	run->flushing = false;
	if (code) {
		run->errors++;
		side->errors++;
		hv_fail_errno(&run->result->err, code, "%s: cannot flush", run->disk->path);
	} else if (run->flush_counted) {
		hv_histogram_add(&side->latency, run->now_ns - run->flush_started_ns);
	}
}

/* Reading back what was written. */

static void check_more(struct run *run);

static void check_done(struct hv_io *io, int code)
{
	struct slot *slot = (struct slot *)io;
	struct run *run = slot->run;

	tick(run);
	make_idle(run, slot);
	if (code) {
		request_failed(run, slot, code);
	} else {
		verify(run, slot, run->generations[slot->block] & ~BUSY);
	}
	check_more(run);
}

static void check_more(struct run *run)
{
	for (; run->idle && run->check_at < run->plan->blocks; run->check_at++) {
		if (run->errors >= BENCH_MAX_ERRORS)
			return;
		if (!run->generations[run->check_at])
			continue;
		run->idle->io.done = check_done;
		send(run, HV_READ, run->check_at);
	}
}

/* The whole. */

static int prepare_slots(struct run *run, struct hv_err *err)
{
	const struct bench_plan *plan = run->plan;
	size_t stride = hv_round_up(plan->request_bytes, MEMORY_ALIGN);
	/* What is read must not become what is written, unless each write makes its data anew. */
	bool both = bench_reads(plan) && bench_writes(plan) && !plan->verify;
	size_t all = stride * plan->depth;

	run->slots = calloc(plan->depth, sizeof(*run->slots));
	run->memory = hv_io_memory(both ? 2 * all : all);
	if (!run->slots || !run->memory)
		return hv_fail(err, -ENOMEM, "%s: not enough memory for %u requests of %" PRIu64,
			       run->disk->path, plan->depth, plan->request_bytes);
	memset(run->memory, 0, all);
	for (unsigned i = plan->depth; i-- > 0;) {
		struct slot *slot = &run->slots[i];

		slot->run = run;
		slot->read_memory = run->memory + i * stride;
		slot->write_memory = slot->read_memory + (both ? all : 0);
		if (bench_writes(plan))
			hv_stamp_fill(slot->write_memory, plan->request_bytes, 0, plan->seed, 0);
		slot->iov.iov_len = plan->request_bytes;
		slot->io.length = plan->request_bytes;
		slot->io.iov = &slot->iov;
		slot->io.iov_count = 1;
		slot->io.err = &run->result->err;
		slot->io.done = request_done;
		slot->next = run->idle;
		run->idle = slot;
	}
	return 0;
}

static int prepare(struct run *run, struct hv_err *err)
{
	const struct bench_plan *plan = run->plan;
	int rc = prepare_slots(run, err);

	if (rc)
		return rc;
	start_pattern(run);
	run->op = bench_reads(plan) ? HV_READ : HV_WRITE;
	run->flush = (struct hv_io){ .op = HV_FLUSH, .err = &run->result->err, .done = flush_done };
	if (!plan->verify)
		return 0;
	run->generations = calloc(plan->blocks, sizeof(*run->generations));
	if (!run->generations)
		return hv_fail(err, -ENOMEM,
			       "%s: not enough memory to verify %" PRIu64
			       " blocks; take a larger --size or a smaller --length",
			       run->disk->path, plan->blocks);
	return 0;
}

static uint64_t add_limited(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* A part of the time that a run takes is shown as that part of what it will have transferred. */
static void draw_progress(struct run *run)
{
	const struct bench_plan *plan = run->plan;
	uint64_t elapsed_ns = run->now_ns - run->measure_at_ns;
	double part = (double)elapsed_ns / (double)plan->run_ns;
	double counted = (double)run->issued / (double)plan->requests;
	double done = (double)(run->issued * plan->request_bytes);

	run->draw_at_ns = run->now_ns + REDRAW_NS;
	if (counted > part)
		part = counted;
	if (!run->measuring || !run->issued)
		return;
	run->progress.total_bytes = (uint64_t)(part < 1 ? done / part : done);
	hv_progress_update(&run->progress, (uint64_t)done);
}

static void turn_until_idle(struct run *run, void (*draw_line)(struct run *run))
{
	while (run->in_flight || run->flushing) {
		run->clock_is_old = true;
		hv_loop_turn(run->disk->loop, true);
		if (run->now_ns >= run->draw_at_ns)
			draw_line(run);
	}
}

static void measure(struct run *run)
{
	struct bench_result *result = run->result;
	struct rusage usage;

	run->clock_is_old = true;
	tick(run);
	run->measure_at_ns = add_limited(run->now_ns, run->plan->warm_up_ns);
	run->end_at_ns = add_limited(run->measure_at_ns, run->plan->run_ns);
	run->flush_at_ns = add_limited(run->now_ns, run->plan->flush_ns);
	hv_progress_start(&run->progress, "measuring", 0, run->plan->quiet);
	proceed(run);
	turn_until_idle(run, draw_progress);
	hv_progress_end(&run->progress);
	if (!run->measuring) /* too many errors before that */
		start_measuring(run);
	getrusage(RUSAGE_SELF, &usage);
	result->seconds = (double)(run->finished_ns - run->measure_at_ns) / 1e9;
	result->user_seconds = seconds_of(&run->usage.ru_utime, &usage.ru_utime);
	result->system_seconds = seconds_of(&run->usage.ru_stime, &usage.ru_stime);
}

static void flush_at_last(struct run *run)
{
	struct bench_result *result = run->result;
	uint64_t started = hv_now_ns();

	if (hv_disk_flush(run->disk, &result->err))
		result->flush.errors++;
	result->last_flush_seconds = (double)(hv_now_ns() - started) / 1e9;
}

static void draw_checked(struct run *run)
{
	run->draw_at_ns = run->now_ns + REDRAW_NS;
	hv_progress_update(&run->progress, run->check_at * run->plan->request_bytes);
}

static void check_all(struct run *run)
{
	const struct bench_plan *plan = run->plan;

	hv_progress_start(&run->progress, "verifying", plan->blocks * plan->request_bytes,
			  plan->quiet);
	check_more(run);
	turn_until_idle(run, draw_checked);
	hv_progress_end(&run->progress);
}

int bench_run(struct hv_disk *disk, const struct bench_plan *plan, struct bench_result *ret,
	      struct hv_err *err)
{
	struct run run = { .plan = plan, .disk = disk, .result = ret };
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = prepare(&run, err);
	if (rc == 0) {
		measure(&run);
		if (bench_writes(plan))
			flush_at_last(&run);
		if (plan->verify && bench_writes(plan))
			check_all(&run);
	}
	free(run.generations);
	free(run.memory);
	free(run.slots);
	return rc;
}
