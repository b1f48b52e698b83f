/*
 * vhdmodel: random programs against the engine, a flat model and the reference reader.
 *
 *	vhdmodel			HVKIT_MODEL_PROGRAMS=3000 programs, of the seeds 1, 2, ...
 *					(HVKIT_MODEL_FIRST=1 chooses the first)
 *	HVKIT_MODEL_SEED=S vhdmodel	one program, told operation by operation; its files stay
 *					where it fails
 *	vhdmodel --reference MANIFEST	the reference reader against images of known contents
 *
 * Programs run in a few processes per processor, since they wait for the medium most of the time.
 * One that crashes or hangs fails its seed only.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hvcore/loop.h"
#include "tests/model/model.h"
#include "tests/support/workdir.h"

#define MAX_WORKERS 64
#define WORKERS_EACH 8
#define PROGRAM_SECONDS 60

static const char usage[] = "usage: vhdmodel [--reference MANIFEST]\n";

/* Shared by the workers. */
struct board {
	uint64_t next, last;
	unsigned passed, failed;
	uint64_t running[MAX_WORKERS]; /* seed, 0: none */
};

static struct hv_loop *new_loop(void)
{
	struct hv_loop *loop = NULL;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	if (rc) {
		fprintf(stderr, "vhdmodel: %s\n", hv_err_text(&err, rc));
		exit(1);
	}
	return loop;
}

static void work(struct board *board, unsigned number, const char *directory)
{
	struct hv_loop *loop = new_loop();
	char path[PATH_MAX];
	uint64_t seed;

	snprintf(path, sizeof(path), "%.3000s/worker-%u", directory, number);
	while ((seed = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED)) <= board->last) {
		bool right;

		board->running[number] = seed;
		remove_tree(path);
		mkdir(path, 0755);
		alarm(PROGRAM_SECONDS);
		right = program_run(seed, path, loop, false);
		alarm(0);
		__atomic_fetch_add(right ? &board->passed : &board->failed, 1, __ATOMIC_RELAXED);
		board->running[number] = 0;
	}
	hv_loop_free(loop);
}

static pid_t start_worker(struct board *board, unsigned number, const char *directory)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("vhdmodel: fork");
		exit(1);
	}
	if (pid == 0) {
		work(board, number, directory);
		exit(0);
	}
	return pid;
}

/* What became of a worker that ended; true where another has to take its place. */
static bool worker_died(struct board *board, unsigned number, int status)
{
	uint64_t seed = board->running[number];

	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return false;
	printf("FAIL seed %llu: the program %s %d\n", (unsigned long long)seed,
	       WIFSIGNALED(status) ? "was ended by signal" : "ended with status",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	board->failed++;
	board->running[number] = 0;
	return seed && board->next <= board->last;
}

static void run_workers(struct board *board, const char *directory)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = processors < 1           ? 1 :
			 processors > MAX_WORKERS ? MAX_WORKERS :
						    (unsigned)processors;
	pid_t pids[MAX_WORKERS], pid;
	int status;

	if (count > MAX_WORKERS)
		count = MAX_WORKERS;
	for (unsigned i = 0; i < count; i++)
		pids[i] = start_worker(board, i, directory);
	while ((pid = wait(&status)) > 0)
		for (unsigned i = 0; i < count; i++)
			if (pids[i] == pid && worker_died(board, i, status))
				pids[i] = start_worker(board, i, directory);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	char *end = NULL;
	uint64_t number;

	if (!text || !*text)
		return otherwise;
	number = strtoull(text, &end, 0);
	if (*end || !number) {
		fprintf(stderr, "vhdmodel: %s=%s is not a positive number\n", name, text);
		exit(2);
	}
	return number;
}

static int replay(uint64_t seed, const char *directory)
{
	struct hv_loop *loop = new_loop();
	bool right = program_run(seed, directory, loop, true);

	hv_loop_free(loop);
	if (right)
		remove_tree(directory);
	else
		printf("its files are in %s\n", directory);
	printf("%u passed, %u failed, 0 skipped\n", right, !right);
	return !right;
}

static int run_all(const char *directory)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (board == MAP_FAILED) {
		perror("vhdmodel: mmap");
		return 1;
	}
	board->next = number_from("HVKIT_MODEL_FIRST", 1);
	board->last = board->next + number_from("HVKIT_MODEL_PROGRAMS", 3000) - 1;
	printf("seeds %llu to %llu; HVKIT_MODEL_SEED=S runs one of them\n",
	       (unsigned long long)board->next, (unsigned long long)board->last);
	run_workers(board, directory);
	remove_tree(directory);
	printf("%u passed, %u failed, 0 skipped\n", board->passed, board->failed);
	return board->failed || !board->passed;
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char directory[PATH_MAX];
	uint64_t seed;

	if (argc == 3 && !strcmp(argv[1], "--reference"))
		return reference_check(argv[2]);
	if (argc != 1) {
		fputs(usage, stderr);
		return 2;
	}
	seed = number_from("HVKIT_MODEL_SEED", 0);
	snprintf(directory, sizeof(directory), "%.3000s/vhdmodel.XXXXXX",
		 tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(directory)) {
		perror(directory);
		return 1;
	}
	return seed ? replay(seed, directory) : run_all(directory);
}
