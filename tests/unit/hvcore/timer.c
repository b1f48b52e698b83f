/*
 * A timer elapses once, not too early, and not at all when it is set to never or closed.
 */
#include "hvcore/timer.h"

#include <criterion/criterion.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "hvcore/clock.h"

#define MS UINT64_C(1000000)

static struct hv_loop *loop;
static struct hv_timer timer;
static unsigned times;

static void elapsed(struct hv_timer *which)
{
	cr_assert_eq(which, &timer);
	times++;
}

static void setup(void)
{
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_timer_open(&timer, loop, elapsed, &err), 0, "%s", err.sentence);
}

static void teardown(void)
{
	hv_timer_close(&timer);
	hv_loop_free(loop);
}

TestSuite(timer, .init = setup, .fini = teardown);

static void serve_for(uint64_t ns)
{
	uint64_t end = hv_now_ns() + ns;

	while (hv_now_ns() < end)
		hv_loop_serve(loop, 1);
}

Test(timer, elapses_once_and_not_too_early)
{
	uint64_t begin = hv_now_ns();

	hv_timer_set(&timer, 5 * MS);
	while (!times)
		hv_loop_serve(loop, -1);
	cr_expect_geq(hv_now_ns() - begin, 5 * MS);
	serve_for(12 * MS);
	cr_expect_eq(times, 1, "%u times", times);
}

Test(timer, the_last_setting_counts)
{
	hv_timer_set(&timer, MS);
	hv_timer_set(&timer, 3600000 * MS);
	serve_for(5 * MS);
	cr_expect_eq(times, 0, "what was set before is gone");
	hv_timer_set(&timer, MS);
	hv_timer_set(&timer, 0);
	serve_for(5 * MS);
	cr_expect_eq(times, 0, "0 is never");
}

/* The loop has been told already when it is set anew. */
static struct hv_watch first;

static void set_anew(struct hv_watch *watch, uint32_t events)
{
	(void)events;
	hv_timer_set(&timer, 3600000 * MS);
	hv_loop_unwatch(loop, watch);
}

Test(timer, set_anew_while_it_elapses_it_does_not_elapse)
{
	HV_ERR(err);
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	first = (struct hv_watch){ .fd = ends[0], .ready = set_anew };
	cr_assert_eq(hv_loop_watch(loop, &first, EPOLLIN, &err), 0);
	cr_assert_eq(write(ends[1], "x", 1), 1);
	hv_timer_set(&timer, MS);
	usleep(3000);
	hv_loop_serve(loop, 0);
	serve_for(2 * MS);
	cr_expect_eq(times, 0);
	close(ends[0]);
	close(ends[1]);
}

Test(timer, closed_it_is_silent_and_can_be_opened_again)
{
	HV_ERR(err);

	hv_timer_set(&timer, MS);
	hv_timer_close(&timer);
	hv_timer_close(&timer);
	serve_for(3 * MS);
	cr_expect_eq(times, 0);
	cr_assert_eq(hv_timer_open(&timer, loop, elapsed, &err), 0);
	hv_timer_set(&timer, MS);
	serve_for(5 * MS);
	cr_expect_eq(times, 1);
}
