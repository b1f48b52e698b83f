/*
 * The I/O loop: everything completes, once, on the loop's thread, and never under the feet of
 * whoever submits.
 */
#include "hvcore/loop.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "hvcore/file.h"
#include "tests/support/workdir.h"

#define PIECE 4096u

static struct hv_loop *loop;

static void setup(void)
{
	HV_ERR(err);

	workdir_enter();
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static void teardown(void)
{
	hv_loop_free(loop);
	workdir_leave();
}

TestSuite(loop, .init = setup, .fini = teardown);

/* What happens to a request; completions are counted here. */
struct request {
	struct hv_io io;
	struct iovec iov;
	unsigned times;
	int result;
	struct request *follow_up; /* submitted from the completion */
	struct hv_file *file;
};

static bool inside_submit;
static pthread_t own_thread;
static unsigned completed;

static void submit(struct request *request)
{
	bool before = inside_submit;

	inside_submit = true;
	hv_file_submit(request->file, &request->io);
	inside_submit = before;
}

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	cr_assert_not(inside_submit, "completed inside submit");
	cr_assert(pthread_equal(pthread_self(), own_thread));
	request->times++;
	request->result = result;
	completed++;
	if (request->follow_up)
		submit(request->follow_up);
}

static void prepare(struct request *request, struct hv_file *file, enum hv_io_op op, void *memory,
		    uint64_t offset, uint64_t length)
{
	*request = (struct request){ .iov = { memory, length }, .file = file };
	request->io = (struct hv_io){ .op = op,
				      .offset = offset,
				      .length = length,
				      .iov = op < HV_ZERO ? &request->iov : NULL,
				      .iov_count = op < HV_ZERO,
				      .done = request_done };
}

static struct hv_file *make_file(unsigned flags)
{
	struct hv_file *file;
	HV_ERR(err);

	own_thread = pthread_self();
	cr_assert_eq(hv_file_create("file", flags, false, loop, &file, &err), 0, "%s",
		     err.sentence);
	return file;
}

static uint8_t *memory_for(unsigned pieces)
{
	void *memory = NULL;

	cr_assert_eq(posix_memalign(&memory, PIECE, (size_t)pieces * PIECE), 0);
	return memory;
}

/* More requests at once than the kernel is given, written and read back. */
static void many(unsigned flags, unsigned count)
{
	struct hv_file *file = make_file(flags);
	struct request *requests = calloc(count, sizeof(*requests));
	uint8_t *memory = memory_for(count), *back = memory_for(count);

	for (int pass = 0; pass < 2; pass++) {
		completed = 0;
		for (unsigned i = 0; i < count; i++) {
			unsigned piece = i * 17 % count;
			uint8_t *at = (pass ? back : memory) + (size_t)piece * PIECE;

			memset(at, pass ? 0 : (int)(piece % 251 + 1), PIECE);
			prepare(&requests[i], file, pass ? HV_READ : HV_WRITE, at,
				(uint64_t)piece * PIECE, PIECE);
			submit(&requests[i]);
		}
		cr_assert_eq(completed, 0, "nothing completes before a turn of the loop");
		while (completed < count)
			cr_assert_gt(hv_loop_turn(loop, true), 0);
		for (unsigned i = 0; i < count; i++) {
			cr_assert_eq(requests[i].times, 1);
			cr_assert_eq(requests[i].result, 0);
		}
	}
	cr_assert_eq(memcmp(memory, back, (size_t)count * PIECE), 0);
	cr_assert_eq(hv_loop_turn(loop, true), 0, "nothing is left, so that nobody sleeps");
	hv_file_close(file);
	free(requests);
	free(memory);
	free(back);
}

Test(loop, many_requests_through_the_page_cache)
{
	many(0, 1511);
}

Test(loop, many_direct_requests)
{
	many(HV_FILE_DIRECT, 1511);
}

Test(loop, pool_and_aio_mixed)
{
	enum { COUNT = 600 };
	struct hv_file *file = make_file(HV_FILE_DIRECT);
	struct request *requests = calloc(COUNT, sizeof(*requests));
	uint8_t *memory = memory_for(2 * COUNT), *back = memory_for(2 * COUNT);
	HV_ERR(err);

	completed = 0;
	memset(memory, 0, (size_t)2 * COUNT * PIECE);
	cr_assert_eq(hv_file_truncate(file, (uint64_t)2 * COUNT * PIECE, &err), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		/* Every other one is not aligned: the pool has to do it. A few are flushes. */
		uint64_t at = (uint64_t)i * 2 * PIECE + (i % 2 ? 777 : 0);

		memset(memory + at, (int)(i % 250 + 1), PIECE);
		if (i % 50 == 49) {
			memset(memory + at, 0, PIECE);
			prepare(&requests[i], file, HV_FLUSH, NULL, 0, 0);
		} else {
			prepare(&requests[i], file, HV_WRITE, memory + at, at, PIECE);
		}
		submit(&requests[i]);
		if (i % 100 == 50)
			hv_loop_turn(loop, false);
	}
	while (completed < COUNT)
		cr_assert_gt(hv_loop_turn(loop, true), 0);
	for (unsigned i = 0; i < COUNT; i++)
		cr_assert(requests[i].times == 1 && requests[i].result == 0, "request %u", i);
	cr_assert_eq(hv_file_pread(file, back, (size_t)2 * COUNT * PIECE, 0, &err), 0);
	cr_assert_eq(memcmp(memory, back, (size_t)2 * COUNT * PIECE), 0);
	hv_file_close(file);
	free(requests);
	free(memory);
	free(back);
}

Test(loop, completion_may_submit_the_next)
{
	enum { CHAIN = 300 };
	uint8_t *memory = memory_for(1);

	for (int direct = 0; direct < 2; direct++) {
		struct hv_file *file = make_file(direct ? HV_FILE_DIRECT : 0);
		struct request *requests = calloc(CHAIN, sizeof(*requests));

		completed = 0;
		for (unsigned i = 0; i < CHAIN; i++) {
			prepare(&requests[i], file, i % 2 ? HV_READ : HV_WRITE, memory,
				(uint64_t)i / 2 * PIECE, PIECE);
			requests[i].follow_up = i + 1 < CHAIN ? &requests[i + 1] : NULL;
		}
		submit(&requests[0]);
		while (completed < CHAIN)
			cr_assert_gt(hv_loop_turn(loop, true), 0);
		for (unsigned i = 0; i < CHAIN; i++)
			cr_assert(requests[i].times == 1 && requests[i].result == 0);
		hv_file_close(file);
		free(requests);
	}
	free(memory);
}

/* Deferred completions. */

struct deferred {
	struct hv_io io;
	unsigned again;
	int result;
	unsigned times;
};

static void deferred_done(struct hv_io *io, int result)
{
	struct deferred *deferred = (struct deferred *)io;

	cr_assert_not(inside_submit);
	deferred->times++;
	deferred->result = result;
	if (deferred->again) {
		deferred->again--;
		inside_submit = true;
		hv_loop_finish(loop, io, -EIO);
		inside_submit = false;
	}
}

Test(loop, finishing_is_left_to_a_later_turn)
{
	struct deferred a = { .io.done = deferred_done, .again = 3 },
			b = { .io.done = deferred_done };

	cr_assert_eq(hv_loop_turn(loop, false), 0);
	hv_loop_finish(loop, &a.io, 0);
	hv_loop_finish(loop, &b.io, -ENOSPC);
	cr_assert_eq(a.times + b.times, 0);
	cr_assert_eq(hv_loop_turn(loop, true), 2);
	cr_assert(a.times == 1 && a.result == 0);
	cr_assert(b.times == 1 && b.result == -ENOSPC);
	/* What a completion finishes waits for the next turn, one after the other. */
	for (unsigned i = 2; i <= 4; i++) {
		cr_assert_eq(hv_loop_turn(loop, true), 1);
		cr_assert(a.times == i && a.result == -EIO);
	}
	cr_assert_eq(hv_loop_turn(loop, true), 0);
	cr_assert_eq(b.times, 1);
}

/* The pool. */

struct job {
	struct hv_work work;
	unsigned ran, done;
	int result;
	bool elsewhere, signals_blocked;
};

static int job_run(struct hv_work *work)
{
	struct job *job = (struct job *)work;
	sigset_t mask;

	job->ran++;
	job->elsewhere = !pthread_equal(pthread_self(), own_thread);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	job->signals_blocked = sigismember(&mask, SIGINT) && sigismember(&mask, SIGTERM);
	if (job->ran % 3 == 0)
		usleep(100);
	return job->result;
}

static void job_done(struct hv_work *work, int result)
{
	struct job *job = (struct job *)work;

	cr_assert(pthread_equal(pthread_self(), own_thread));
	cr_assert_eq(job->ran, 1);
	cr_assert_eq(result, job->result);
	job->done++;
	completed++;
}

Test(loop, work_runs_elsewhere_and_ends_here)
{
	enum { JOBS = 200 };
	struct job *jobs = calloc(JOBS, sizeof(*jobs));

	own_thread = pthread_self();
	completed = 0;
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i].work.run = job_run;
		jobs[i].work.done = job_done;
		jobs[i].result = i % 7 ? 0 : -(int)i - 1;
		hv_loop_work(loop, &jobs[i].work);
	}
	cr_assert_eq(completed, 0);
	while (completed < JOBS)
		cr_assert_gt(hv_loop_turn(loop, true), 0);
	for (unsigned i = 0; i < JOBS; i++) {
		cr_assert(jobs[i].ran == 1 && jobs[i].done == 1);
		cr_assert(jobs[i].elsewhere);
		cr_assert(jobs[i].signals_blocked, "signals belong to the program's own threads");
	}
	free(jobs);
}

/* Jobs that wait for each other: as many threads as may be needed at once. */
static pthread_barrier_t meeting;

static int meet(struct hv_work *work)
{
	(void)work;
	pthread_barrier_wait(&meeting);
	return 0;
}

static void met(struct hv_work *work, int result)
{
	(void)work;
	(void)result;
	completed++;
}

Test(loop, work_runs_side_by_side)
{
	struct hv_work jobs[4] = { 0 };

	pthread_barrier_init(&meeting, NULL, 4);
	completed = 0;
	for (unsigned i = 0; i < 4; i++) {
		jobs[i].run = meet;
		jobs[i].done = met;
		hv_loop_work(loop, &jobs[i]);
	}
	while (completed < 4)
		hv_loop_turn(loop, true);
	pthread_barrier_destroy(&meeting);
}

/* A page that its file has no more. */

static char *lost;

static void find_lost(int number)
{
	(void)number;
	mmap(lost, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static int touch_lost(struct hv_work *work)
{
	(void)work;
	return *(volatile char *)lost;
}

static void touched(struct hv_work *work, int result)
{
	(void)work;
	cr_assert_eq(result, 0);
	completed++;
}

Test(loop, a_fault_on_a_pool_thread_has_its_handler)
{
	struct hv_work work = { .run = touch_lost, .done = touched };
	int fd = memfd_create("guest", MFD_CLOEXEC);

	signal(SIGBUS, find_lost);
	cr_assert_eq(ftruncate(fd, PIECE), 0);
	lost = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(lost, MAP_FAILED);
	cr_assert_eq(ftruncate(fd, 0), 0);
	hv_loop_work(loop, &work);
	while (!completed)
		hv_loop_turn(loop, true);
	munmap(lost, PIECE);
	close(fd);
}

Test(loop, turning_without_waiting_returns_at_once)
{
	struct hv_work job = { .run = meet, .done = met };

	pthread_barrier_init(&meeting, NULL, 2);
	completed = 0;
	hv_loop_work(loop, &job);
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(hv_loop_turn(loop, false), 0);
	pthread_barrier_wait(&meeting);
	while (!completed)
		hv_loop_turn(loop, true);
	pthread_barrier_destroy(&meeting);
}

Test(loop, loops_live_side_by_side)
{
	enum { LOOPS = 20 };
	struct hv_loop *loops[LOOPS];
	HV_ERR(err);

	for (unsigned i = 0; i < LOOPS; i++)
		cr_assert_eq(hv_loop_new(&loops[i], &err), 0, "%s", err.sentence);
	for (unsigned i = 0; i < LOOPS; i++)
		hv_loop_free(loops[i]);
	hv_loop_free(NULL);
}

/* Serving: descriptors and other threads. */

struct seen {
	struct hv_watch watch;
	unsigned times;
	uint32_t events;
	struct hv_watch *end; /* not watched any more once this one was called */
};

static void see(struct hv_watch *watch, uint32_t events)
{
	struct seen *seen = (struct seen *)watch;

	seen->times++;
	seen->events = events;
	if (seen->end)
		hv_loop_unwatch(loop, seen->end);
}

static int event_descriptor(unsigned count)
{
	int fd = eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK);

	cr_assert_geq(fd, 0);
	return fd;
}

Test(loop, a_descriptor_is_watched_for_what_was_asked_until_it_is_not)
{
	struct seen seen = { .watch = { .fd = event_descriptor(0), .ready = see } };
	HV_ERR(err);

	cr_assert_eq(hv_loop_watch(loop, &seen.watch, EPOLLIN, &err), 0);
	cr_expect_eq(hv_loop_serve(loop, 0), 0);
	cr_assert_eq(eventfd_write(seen.watch.fd, 1), 0);
	cr_expect_eq(hv_loop_turn(loop, false), 0, "only a loop that serves looks at watches");
	cr_expect_eq(seen.times, 0);
	cr_expect_eq(hv_loop_serve(loop, -1), 1);
	cr_expect_eq(seen.times, 1);
	cr_expect_eq(seen.events, EPOLLIN);

	hv_loop_rewatch(loop, &seen.watch, EPOLLOUT);
	cr_expect_eq(hv_loop_serve(loop, -1), 1);
	cr_expect_eq(seen.events, EPOLLOUT);
	hv_loop_rewatch(loop, &seen.watch, 0);
	cr_expect_eq(hv_loop_serve(loop, 0), 0);

	hv_loop_rewatch(loop, &seen.watch, EPOLLIN);
	hv_loop_unwatch(loop, &seen.watch);
	cr_expect_eq(hv_loop_serve(loop, 0), 0);
	cr_expect_eq(seen.times, 2);
	close(seen.watch.fd);
}

Test(loop, what_one_watch_ends_another_does_not_see)
{
	struct seen first = { .watch = { .fd = event_descriptor(1), .ready = see } };
	struct seen second = { .watch = { .fd = event_descriptor(1), .ready = see } };
	HV_ERR(err);

	first.end = &second.watch;
	second.end = &first.watch;
	cr_assert_eq(hv_loop_watch(loop, &first.watch, EPOLLIN, &err), 0);
	cr_assert_eq(hv_loop_watch(loop, &second.watch, EPOLLIN, &err), 0);
	cr_expect_eq(hv_loop_serve(loop, -1), 1);
	cr_expect_eq(first.times + second.times, 1);
	close(first.watch.fd);
	close(second.watch.fd);
}

Test(loop, a_descriptor_that_cannot_be_watched_is_refused)
{
	struct seen seen = { .watch = { .fd = -1, .ready = see } };
	HV_ERR(err);

	cr_expect_eq(hv_loop_watch(loop, &seen.watch, EPOLLIN, &err), -EBADF);
	cr_expect_str_eq(err.sentence, "cannot watch descriptor -1: Bad file descriptor");
}

#define POSTS 1000

static struct hv_work posts[2][POSTS];
static unsigned posts_done[2];

static void post_done(struct hv_work *work, int result)
{
	unsigned thread = work >= posts[1];

	cr_assert_eq(result, 0);
	cr_assert(pthread_equal(pthread_self(), own_thread));
	cr_assert_eq(work, &posts[thread][posts_done[thread]], "out of order");
	posts_done[thread]++;
}

static void *post_all(void *arg)
{
	struct hv_work *work = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		work[i].done = post_done;
		hv_loop_post(loop, &work[i]);
	}
	return NULL;
}

Test(loop, other_threads_have_things_done_in_their_order, .timeout = 60)
{
	pthread_t threads[2];
	HV_ERR(err);

	own_thread = pthread_self();
	cr_assert_eq(hv_loop_listen(loop, &err), 0);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, post_all, posts[i]), 0);
	while (posts_done[0] + posts_done[1] < 2 * POSTS)
		hv_loop_serve(loop, -1);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(hv_loop_serve(loop, 0), 0);
}

static void read_in_watch(struct hv_watch *watch, uint32_t events)
{
	struct seen *seen = (struct seen *)watch;
	char byte[HV_SECTOR_SIZE];
	struct hv_file *file;
	HV_ERR(err);

	see(watch, events);
	if (seen->times > 1)
		return;
	/* Another thread's word comes while this one waits for the file. */
	posts[0][0].done = post_done;
	hv_loop_post(loop, &posts[0][0]);
	cr_assert_eq(hv_file_create("file", 0, false, loop, &file, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_file_truncate(file, 1 << 20, &err), 0);

	struct iovec iov = { byte, sizeof(byte) };
	struct request request = { .file = file,
				   .io = { .op = HV_READ,
					   .length = sizeof(byte),
					   .iov = &iov,
					   .iov_count = 1,
					   .done = request_done } };

	hv_file_submit(file, &request.io);
	while (!request.times)
		hv_loop_turn(loop, true);
	cr_expect_eq(posts_done[0], 0, "posted work ran inside a blocking call");
	cr_expect_eq(seen->times, 1, "a watch was called inside a watch");
	hv_file_close(file);
}

Test(loop, a_blocking_call_in_a_watch_lets_nothing_new_begin, .timeout = 60)
{
	struct seen seen = { .watch = { .fd = event_descriptor(1), .ready = read_in_watch } };
	HV_ERR(err);

	own_thread = pthread_self();
	cr_assert_eq(hv_loop_watch(loop, &seen.watch, EPOLLIN, &err), 0);
	hv_loop_serve(loop, -1);
	cr_expect_eq(posts_done[0], 1, "what was posted is not forgotten");
	close(seen.watch.fd);
}

/* Polling. */

struct place {
	struct hv_poller poller;
	unsigned has;  /* how many looks find something */
	unsigned late; /* comes while it is told to rest */
	unsigned looks, rests;
	struct place *ends; /* is not to be looked at again, once this one has been */
};

static bool look_at_place(struct hv_poller *poller)
{
	struct place *place = (struct place *)poller;

	place->looks++;
	if (place->ends)
		hv_loop_unpoll(loop, &place->ends->poller);
	return place->has && place->has--;
}

static bool let_place_rest(struct hv_poller *poller)
{
	struct place *place = (struct place *)poller;
	bool quiet = !place->late;

	place->rests++;
	place->has += place->late;
	place->late = 0;
	return quiet;
}

static void begin_polling(struct place *place)
{
	HV_ERR(err);

	cr_assert_eq(hv_loop_listen(loop, &err), 0, "%s", err.sentence);
	place->poller = (struct hv_poller){ .look = look_at_place, .rest = let_place_rest };
	hv_loop_poll(loop, &place->poller);
	hv_loop_poll(loop, &place->poller);
}

Test(loop, what_is_polled_is_looked_at_until_the_loop_sleeps)
{
	struct place place = { .has = 3 };

	begin_polling(&place);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(hv_loop_serve(loop, 1000), 1);
	cr_expect_eq(place.rests, 0);
	hv_loop_serve(loop, 1);
	cr_expect_eq(place.looks, 4);
	cr_expect_eq(place.rests, 1);
	hv_loop_serve(loop, 1);
	cr_expect_eq(place.looks, 4, "it rests");
}

Test(loop, the_loop_does_not_sleep_on_what_came_while_it_was_told_to_rest, .timeout = 10)
{
	struct place place = { .late = 1 };

	begin_polling(&place);
	hv_loop_serve(loop, -1);
	cr_expect_eq(hv_loop_serve(loop, -1), 1);
	cr_expect_eq(place.has, 0);
}

Test(loop, polling_may_end_another_place)
{
	struct place a = { 0 }, b = { 0 };

	begin_polling(&a);
	begin_polling(&b);
	a.ends = &b;
	b.ends = &a;
	hv_loop_serve(loop, 0);
	hv_loop_serve(loop, 1);
	cr_expect_eq(a.looks + b.looks, a.looks > b.looks ? a.looks : b.looks, "both were seen");
	cr_expect_eq(a.rests + b.rests, 1);
}

Test(loop, a_quiet_place_rests_while_the_loop_has_other_work)
{
	struct place busy = { .has = UINT32_MAX }, quiet = { 0 };

	begin_polling(&busy);
	begin_polling(&quiet);
	for (int i = 0; i < 10000; i++)
		hv_loop_serve(loop, -1);
	cr_expect_eq(quiet.rests, 1);
	cr_expect_eq(busy.rests, 0);
	cr_expect_eq(busy.looks, 10000);
	hv_loop_unpoll(loop, &busy.poller);
}

Test(loop, looking_instead_of_sleeping_lets_io_complete, .timeout = 60)
{
	struct place place = { 0 };

	own_thread = pthread_self();
	begin_polling(&place);
	hv_loop_set_polling(loop, 100);
	for (int i = 0; i < 1000; i++) {
		struct job job = { .work = { .run = job_run, .done = job_done } };

		hv_loop_poll(loop, &place.poller);
		hv_loop_work(loop, &job.work);
		while (!job.done)
			hv_loop_serve(loop, -1);
	}
	cr_expect_gt(place.looks, 1000);
	hv_loop_unpoll(loop, &place.poller);
}
