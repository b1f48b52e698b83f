/*
 * vhdcrash: power cuts, failing operations and killed writers against the VHD engine.
 *
 *	vhdcrash [NAME...]	all tests, or those whose name begins with one of the names
 *
 *	HVKIT_CRASH_SEED=S	the (first) seed; without it 1, and for a few tests the next ones
 *	HVKIT_CRASH_ROUNDS=N	so many seeds for each test; 1
 *	HVKIT_CRASH_STATES=N	states that are looked at for each instant at which the power may
 *				fail; 64. Where there are no more, these are all of them; 1024 is
 *				the longest that is still reasonable.
 *	HVKIT_CRASH_ONLY=12.3	that state alone, of one test and seed: it is described, and its
 *				files are left in a directory
 *	HVKIT_KILL_RUNS=N	how often writers are killed, for each kind; else as often as it
 *goes in a few seconds
 *
 * Tests run in two processes per processor, since some wait for the medium. What a seed does is the
 *same every time, but for killed writers. A test that crashes or hangs fails; others go on.
 */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/vhd/run.h"
#include "tests/support/workdir.h"

#define MAX_WORKERS 64
#define MAX_TESTS 4096
#define DEFAULT_STATES 64
#define WORKERS_EACH 2

enum how { CUTS, FAULTS, KILLS };

struct test {
	char name[48];
	enum how how;
	const struct workload *workload;
	enum vhd_type type;
	bool direct;
	uint64_t seed;
};

static struct test tests[MAX_TESTS];
static unsigned test_count, kill_runs;
static struct crash_plan plan;
static const char *directory;

/* Shared by the workers. */
static struct board {
	unsigned next, passed, failed;
	unsigned running[MAX_WORKERS]; /* test + 1, 0: none */
	char where[MAX_WORKERS][CRASH_WHERE];
	unsigned long cuts[MAX_TESTS], judged[MAX_TESTS];
} * board;

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	char *end = NULL;
	uint64_t number;

	if (!text || !*text)
		return otherwise;
	number = strtoull(text, &end, 0);
	if (*end || !number) {
		fprintf(stderr, "vhdcrash: %s=%s is not a positive number\n", name, text);
		exit(2);
	}
	return number;
}

static bool run_test(unsigned number)
{
	const struct test *test = &tests[number];
	struct crash_plan own = plan;
	char replay[200];
	bool right;

	snprintf(replay, sizeof(replay),
		 "HVKIT_CRASH_SEED=%llu HVKIT_CRASH_STATES=%u vhdcrash %s, HVKIT_CRASH_ONLY=",
		 (unsigned long long)test->seed, plan.states, test->name);
	own.replay = replay;
	if (test->how == CUTS)
		right = run_workload(test->workload, test->seed, &own, directory);
	else if (test->how == FAULTS)
		right = run_faults(test->workload, test->seed, &own, directory);
	else
		right = kill_writers(test->type, test->direct, test->seed, kill_runs, directory,
				     &own.judged);
	board->cuts[number] = own.cuts;
	board->judged[number] = own.judged;
	return right;
}

static void work(unsigned worker)
{
	unsigned number;

	while ((number = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED)) < test_count) {
		bool right;

		board->running[worker] = number + 1;
		plan.told = board->where[worker];
		plan.told[0] = '\0';
		right = run_test(number);
		alarm(0);
		__atomic_fetch_add(right ? &board->passed : &board->failed, 1, __ATOMIC_RELAXED);
		if (!right)
			printf("FAIL %s, seed %llu\n", tests[number].name,
			       (unsigned long long)tests[number].seed);
		fflush(stdout);
		board->running[worker] = 0;
	}
}

static pid_t start_worker(unsigned worker)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("vhdcrash: fork");
		exit(1);
	}
	if (pid == 0) {
		work(worker);
		exit(0);
	}
	return pid;
}

/* What became of a worker that ended; true where another has to take its place. */
static bool worker_died(unsigned worker, int status)
{
	unsigned running = board->running[worker];

	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return false;
	printf("FAIL %s, seed %llu, state %s: %s %d\n",
	       running ? tests[running - 1].name : "vhdcrash",
	       (unsigned long long)(running ? tests[running - 1].seed : 0), board->where[worker],
	       WIFSIGNALED(status) ? "ended by signal" : "ended with status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	board->failed++;
	board->running[worker] = 0;
	return running && board->next < test_count;
}

static void run_workers(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = processors < 1 ? 1 :
			 processors > MAX_WORKERS / WORKERS_EACH ?
					  MAX_WORKERS :
					  WORKERS_EACH * (unsigned)processors;
	pid_t pids[MAX_WORKERS], pid;
	int status;

	for (unsigned i = 0; i < count; i++)
		pids[i] = start_worker(i);
	while ((pid = wait(&status)) > 0)
		for (unsigned i = 0; i < count; i++)
			if (pids[i] == pid && worker_died(i, status))
				pids[i] = start_worker(i);
}

/* Which tests. */

static bool wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++) {
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	}
	return !count;
}

static void add_test(struct test test, char **names, int count)
{
	uint64_t first = number_from("HVKIT_CRASH_SEED", 1);
	uint64_t seeds = number_from("HVKIT_CRASH_ROUNDS", 1);

	if (test.how == CUTS && test.workload->seeds && !getenv("HVKIT_CRASH_SEED"))
		seeds *= test.workload->seeds;

	for (uint64_t i = 0; i < seeds && wanted(test.name, names, count); i++) {
		if (test_count == MAX_TESTS) {
			fputs("vhdcrash: too many rounds\n", stderr);
			exit(2);
		}
		test.seed = first + i;
		tests[test_count++] = test;
	}
}

static void list_tests(char **names, int count)
{
	for (unsigned i = 0; i < 4; i++) {
		struct test test = { .how = KILLS,
				     .type = i & 1 ? VHD_DIFFERENCING : VHD_DYNAMIC,
				     .direct = i & 2 };

		snprintf(test.name, sizeof(test.name), "kill-%s-%s", i & 1 ? "child" : "dynamic",
			 i & 2 ? "direct" : "cached");
		add_test(test, names, count);
	}
	for (const struct workload *w = workloads; w->name; w++) {
		struct test test = { .how = CUTS, .workload = w };

		snprintf(test.name, sizeof(test.name), "%s", w->name);
		add_test(test, names, count);
		if (!w->faults)
			continue;
		test.how = FAULTS;
		snprintf(test.name, sizeof(test.name), "faults-%s", w->name);
		add_test(test, names, count);
	}
}

static void sum_up(void)
{
	for (unsigned i = 0; i < test_count; i++) {
		unsigned long cuts = 0, judged = 0;

		for (; i + 1 < test_count && !strcmp(tests[i].name, tests[i + 1].name); i++) {
			cuts += board->cuts[i];
			judged += board->judged[i];
		}
		cuts += board->cuts[i];
		judged += board->judged[i];
		if (tests[i].how == KILLS)
			printf("%-24s %8lu writers killed\n", tests[i].name, judged);
		else
			printf("%-24s %8lu states of %lu cuts\n", tests[i].name, judged, cuts);
	}
	printf("%u passed, %u failed, 0 skipped\n", board->passed, board->failed);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char place[PATH_MAX];
	bool keep;

	/* Every state takes megabytes for an instant: not from the kernel each time. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	list_tests(argv + 1, argc - 1);
	if (!test_count) {
		fputs("vhdcrash: there is no test of that name\n", stderr);
		return 2;
	}
	plan.states = (unsigned)number_from("HVKIT_CRASH_STATES", DEFAULT_STATES);
	plan.only = getenv("HVKIT_CRASH_ONLY");
	kill_runs = (unsigned)number_from("HVKIT_KILL_RUNS", 0);
	snprintf(place, sizeof(place), "%.3000s/vhdcrash.XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(place)) {
		perror(place);
		return 1;
	}
	directory = place;
	keep = plan.only && test_count == 1;
	plan.save = keep ? place : NULL;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED) {
		perror("vhdcrash: mmap");
		return 1;
	}
	printf("seeds from %llu, %u states for each cut\n", (unsigned long long)tests[0].seed,
	       plan.states);
	run_workers();
	if (keep)
		printf("its files are in %s\n", place);
	else
		remove_tree(place);
	sum_up();
	return board->failed || !board->passed;
}
