/*
 * A request on the loop's ready list, the tick, lives as long as something waits: each time it
 * completes it lets one or more of the waiting have their turn. Threads of jobs and the loop's
 * thread hand a baton to each other; whoever does not have it sleeps.
 */
#include "tests/crash/stage.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/disk.h"
#include "tests/crash/bytes.h"

#define SLOW_ONE_IN 8 /* tasks that wait for all others */

struct crash_job {
	struct crash_stage *stage;
	struct hv_work *work;
	struct crash_task start; /* its first turn */
	pthread_t thread;
	pthread_cond_t go;
	bool running, ended;
	int result;
};

struct crash_stage {
	struct hv_loop *loop;
	struct crash_stage *next;
	uint64_t random, clock;
	struct hv_io tick;
	bool ticking;
	struct crash_task **waiting; /* in the order of arrival */
	size_t count, limit;
	pthread_mutex_t lock;
	pthread_cond_t back; /* the baton is the loop's thread's again */
};

static struct crash_stage *stages;
static __thread struct crash_job *current;

uint64_t crash_random_state(uint64_t seed)
{
	uint64_t x = seed + 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	x ^= x >> 31;
	return x ? x : 1;
}

uint64_t crash_random(uint64_t *state, uint64_t bound)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 11) % bound;
}

/* Has the loop's thread go to sleep until the job stops again. */
static void resume(struct crash_job *job)
{
	struct crash_stage *stage = job->stage;

	pthread_mutex_lock(&stage->lock);
	job->running = true;
	pthread_cond_signal(&job->go);
	while (job->running)
		pthread_cond_wait(&stage->back, &stage->lock);
	pthread_mutex_unlock(&stage->lock);
	if (!job->ended)
		return;
	pthread_join(job->thread, NULL);
	pthread_cond_destroy(&job->go);
	job->work->done(job->work, job->result);
	free(job);
}

/* The job's thread gives the baton back, and sleeps until it has another turn. */
static void stop(struct crash_job *job)
{
	struct crash_stage *stage = job->stage;

	pthread_mutex_lock(&stage->lock);
	job->running = false;
	pthread_cond_signal(&stage->back);
	while (!job->running && !job->ended)
		pthread_cond_wait(&job->go, &stage->lock);
	pthread_mutex_unlock(&stage->lock);
}

static void *job_thread(void *arg)
{
	struct crash_job *job = arg;

	current = job;
	pthread_mutex_lock(&job->stage->lock);
	while (!job->running)
		pthread_cond_wait(&job->go, &job->stage->lock);
	pthread_mutex_unlock(&job->stage->lock);
	job->result = job->work->run(job->work);
	job->ended = true;
	stop(job);
	return NULL;
}

static void start_job(struct crash_task *task)
{
	struct crash_job *job =
		(struct crash_job *)((char *)task - offsetof(struct crash_job, start));

	if (pthread_create(&job->thread, NULL, job_thread, job))
		abort();
	resume(job);
}

static size_t choose(struct crash_stage *stage)
{
	size_t start = crash_random(&stage->random, stage->count);

	for (size_t i = 0; i < stage->count; i++) {
		size_t at = (start + i) % stage->count;

		if (!stage->waiting[at]->slow)
			return at;
	}
	return start;
}

static void one_turn(struct crash_stage *stage)
{
	size_t at = choose(stage);
	struct crash_task *task = stage->waiting[at];
	struct crash_job *job = task->job;

	memmove(stage->waiting + at, stage->waiting + at + 1,
		(--stage->count - at) * sizeof(struct crash_task *));
	task->finish(task);
	if (job)
		resume(job);
}

static void keep_ticking(struct crash_stage *stage)
{
	if (!stage->count || stage->ticking)
		return;
	stage->ticking = true;
	hv_loop_finish(stage->loop, &stage->tick, 0);
}

static void ticked(struct hv_io *io, int result)
{
	struct crash_stage *stage =
		(struct crash_stage *)((char *)io - offsetof(struct crash_stage, tick));

	(void)result;
	stage->ticking = false;
	while (stage->count) {
		one_turn(stage);
		if (crash_random(&stage->random, 2))
			break;
	}
	keep_ticking(stage);
}

static void add(struct crash_stage *stage, struct crash_task *task, struct crash_job *job)
{
	assert(stage->loop);
	if (stage->count == stage->limit) {
		stage->limit = 2 * stage->limit + 16;
		stage->waiting =
			crash_realloc(stage->waiting, stage->limit * sizeof(struct crash_task *));
	}
	task->job = job;
	task->slow = !crash_random(&stage->random, SLOW_ONE_IN);
	stage->waiting[stage->count++] = task;
}

void crash_stage_later(struct crash_stage *stage, struct crash_task *task)
{
	add(stage, task, NULL);
	keep_ticking(stage);
}

void crash_stage_await(struct crash_stage *stage, struct crash_task *task)
{
	if (!current) {
		task->finish(task);
		return;
	}
	add(stage, task, current);
	stop(current);
}

void __real_hv_loop_work(struct hv_loop *loop, struct hv_work *work);
void __wrap_hv_loop_work(struct hv_loop *loop, struct hv_work *work);

void __wrap_hv_loop_work(struct hv_loop *loop, struct hv_work *work)
{
	struct crash_stage *stage = stages;
	struct crash_job *job;

	while (stage && stage->loop != loop)
		stage = stage->next;
	if (!stage) {
		__real_hv_loop_work(loop, work);
		return;
	}
	job = crash_alloc(sizeof(*job));
	job->stage = stage;
	job->work = work;
	job->start.finish = start_job;
	pthread_cond_init(&job->go, NULL);
	crash_stage_later(stage, &job->start);
}

struct crash_stage *crash_stage_new(struct hv_loop *loop, uint64_t seed)
{
	struct crash_stage *stage = crash_alloc(sizeof(*stage));

	stage->loop = loop;
	stage->random = crash_random_state(seed);
	stage->tick.done = ticked;
	pthread_mutex_init(&stage->lock, NULL);
	pthread_cond_init(&stage->back, NULL);
	stage->next = stages;
	stages = stage;
	return stage;
}

void crash_stage_free(struct crash_stage *stage)
{
	struct crash_stage **link = &stages;

	while (stage->ticking)
		hv_loop_turn(stage->loop, false);
	assert(!stage->count);
	while (*link != stage)
		link = &(*link)->next;
	*link = stage->next;
	pthread_mutex_destroy(&stage->lock);
	pthread_cond_destroy(&stage->back);
	free(stage->waiting);
	free(stage);
}

struct hv_loop *crash_stage_loop(struct crash_stage *stage)
{
	return stage->loop;
}

void crash_stage_seed(struct crash_stage *stage, uint64_t seed)
{
	stage->random = crash_random_state(seed);
}

uint64_t crash_stage_random(struct crash_stage *stage, uint64_t bound)
{
	return crash_random(&stage->random, bound);
}

uint64_t crash_stage_tick(struct crash_stage *stage)
{
	return ++stage->clock;
}

uint64_t crash_stage_now(const struct crash_stage *stage)
{
	return stage->clock;
}
