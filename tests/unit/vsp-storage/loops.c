/*
 * I/O loops and their threads.
 */
#include "vsp-storage/loops.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#define LOOPS 3

static struct vsp_loops *loops;

static void begin(void)
{
	HV_ERR(err);

	cr_assert_eq(vsp_loops_new(LOOPS, 0, &loops, &err), 0, "%s", err.sentence);
}

static void end(void)
{
	vsp_loops_free(loops);
}

TestSuite(loops, .init = begin, .fini = end, .timeout = 60);

Test(loops, disks_go_where_there_are_fewest)
{
	unsigned expected[] = { 0, 1, 2, 0, 1, 2, 0 };

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		struct vsp_loop *loop = vsp_loops_least(loops);

		cr_assert_eq(loop->number, expected[i]);
		loop->disks++;
	}
	/* A loop that has lost its disks is first in line until it has caught up. */
	loops->loop[1].disks = 0;
	for (unsigned i = 0; i < 2; i++)
		vsp_loops_least(loops)->disks++;
	cr_assert_eq(loops->loop[1].disks, 2);
	cr_assert_eq(vsp_loops_least(loops)->number, 1, "equal ones by number");
}

static void note_thread(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

Test(loops, what_is_run_is_done_by_the_loops_thread_when_run_returns)
{
	for (unsigned i = 0; i < LOOPS; i++) {
		for (unsigned turn = 0; turn < 100; turn++) {
			pthread_t ran = pthread_self();

			vsp_loop_run(&loops->loop[i], note_thread, &ran);
			cr_assert(pthread_equal(ran, loops->loop[i].thread));
		}
	}
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

static void interrupted(int number)
{
	(void)number;
}

/* A signal that a handler takes must not let the caller go on too early. */
Test(loops, a_signal_does_not_end_the_waiting)
{
	struct sigaction action = { .sa_handler = interrupted };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec often = { { 0, 100000 }, { 0, 100000 } };
	unsigned counted = 0;
	timer_t timer;

	cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
	cr_assert_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	cr_assert_eq(timer_settime(timer, 0, &often, NULL), 0);
	for (unsigned i = 1; i <= 5000; i++) {
		vsp_loop_run(&loops->loop[i % LOOPS], count, &counted);
		cr_assert_eq(counted, i);
	}
	timer_delete(timer);
}

static void note_signals(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
}

Test(loops, threads_take_signals_of_faults_only)
{
	sigset_t blocked;

	vsp_loop_run(&loops->loop[0], note_signals, &blocked);
	cr_assert(sigismember(&blocked, SIGTERM));
	cr_assert(sigismember(&blocked, SIGHUP));
	cr_assert(sigismember(&blocked, SIGINT));
	cr_assert_not(sigismember(&blocked, SIGBUS));
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	cr_assert_not(sigismember(&blocked, SIGTERM), "ours are as they were");
}

Test(loops_count, is_a_number_or_that_of_usable_processors)
{
	static const char *const bad[] = { "", "0", "-1", " 2", "2x", "65", "99999999999999999999" };
	unsigned parsed = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int cpu = 0; !CPU_COUNT(&one); cpu++) {
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			CPU_ZERO(&one);
	}
	cr_assert_eq(vsp_loops_parse(NULL, &parsed, NULL), 0);
	cr_assert_eq(parsed, 1);
	cr_assert_eq(vsp_loops_parse("64", &parsed, NULL), 0);
	cr_assert_eq(parsed, 64);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		HV_ERR(err);

		cr_assert_eq(vsp_loops_parse(bad[i], &parsed, &err), -EINVAL, "\"%s\"", bad[i]);
		cr_assert_eq(parsed, 64);
	}
}
