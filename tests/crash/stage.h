/*
 * Who goes next. Requests in flight and work of the pool, which run side by side in life, run here
 * one at a time on the turns of one loop, in an order that a seed decides: late, out of order, some
 * of them after everything else. So the same seed gives the same run, to the byte.
 *
 * Programs that use this are linked with -Wl,--wrap=hv_loop_work: what is given to the pool of a
 * staged loop runs in a thread of its own, which stops at each operation on a file of the world
 * (world.h) and goes on when that has had its turn.
 */
#ifndef TESTS_CRASH_STAGE_H
#define TESTS_CRASH_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/loop.h"

struct crash_stage;
struct crash_job;

/* loop is lent; NULL where only blocking calls are made. */
struct crash_stage *crash_stage_new(struct hv_loop *loop, uint64_t seed);

/* Nothing may be in flight. */
void crash_stage_free(struct crash_stage *stage);

struct hv_loop *crash_stage_loop(struct crash_stage *stage);

/* From here on the order is that of this seed. */
void crash_stage_seed(struct crash_stage *stage, uint64_t seed);

/* A number below bound that depends on nothing but the seed and what has happened since. */
uint64_t crash_stage_random(struct crash_stage *stage, uint64_t bound);

/* The clock of a run: every event has an instant of its own. */
uint64_t crash_stage_tick(struct crash_stage *stage); /* the next instant */
uint64_t crash_stage_now(const struct crash_stage *stage);

/* For files: something that has its turn later. The caller owns it until finish is called. */
struct crash_task {
	void (*finish)(struct crash_task *task);
	struct crash_job *job; /* the stage's */
	bool slow;             /* the stage's */
};

/* finish is called from a later turn of the loop. */
void crash_stage_later(struct crash_stage *stage, struct crash_task *task);

/* finish has been called on return: at once on the loop's thread, in its turn on any other. */
void crash_stage_await(struct crash_stage *stage, struct crash_task *task);

/* A number below bound, and the next state of the generator; state is never 0. */
uint64_t crash_random(uint64_t *state, uint64_t bound);
uint64_t crash_random_state(uint64_t seed);

#endif
