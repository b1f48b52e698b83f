/*
 * Killing a process that writes. Its page cache stays, so that this is about the engine's state in
 * memory being gone at any instant of real time, with real files, threads and asynchronous I/O.
 *
 * The writer tells on a pipe what it submits, before it does, and what has completed, after it has:
 * the order in the pipe is the clock of the history by which the disk is judged afterwards.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hvcore/loop.h"
#include "tests/crash/bytes.h"
#include "tests/crash/vhd/run.h"
#include "vhd/check.h"

#define SECTORS 32000u /* of blocks of 1024 */
#define BLOCK_SECTORS 1024u
#define IN_FLIGHT 8
#define MAX_SECTORS 24
#define MAX_MILLISECONDS 40
#define RUNS_OF_A_DISK 4 /* then a new one, in which there is more to allocate */
#define MIN_RUNS 3
#define MILLISECONDS 4000 /* where nobody says how many runs */

struct message {
	bool done; /* else submitted */
	enum history_kind kind;
	uint32_t number;
	uint32_t first, count;
	int result;
	bool fua;
};

struct killing {
	enum vhd_type type;
	bool direct;
	uint64_t seed, random, clock;
	const char *directory;
	struct history *history;
};

static bool wrong(const struct killing *k, const char *what, const char *why)
{
	fprintf(stderr, "kill, %s, %s, seed %llu: %s: %s\n",
		k->type == VHD_DYNAMIC ? "dynamic" : "child", k->direct ? "direct" : "cached",
		(unsigned long long)k->seed, what, why);
	return false;
}

static void must(const struct killing *k, int rc, const struct hv_err *err)
{
	if (!rc)
		return;
	wrong(k, "setting up", hv_err_text(err, rc));
	exit(1);
}

static char *path_of(const struct killing *k, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/kill-%d%d-%llu-%s", k->directory, k->type, k->direct,
		     (unsigned long long)k->seed, name) < 0)
		abort();
	return path;
}

static int open_one(const struct killing *k, const char *name, unsigned flags, struct hv_loop *loop,
		    struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(free) char *path = path_of(k, name);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	int rc = hv_file_open(path, flags | (k->direct ? HV_FILE_DIRECT : 0), loop, &file, err);

	if (rc == 0)
		rc = vhd_open(file, 0, ret, err);
	if (rc == 0)
		hv_steal(file);
	return rc;
}

static int open_disk(const struct killing *k, unsigned flags, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct hv_disk *parent;
	int rc = open_one(k, DISK, flags, loop, &disk, err);

	if (rc == 0 && k->type == VHD_DIFFERENCING) {
		rc = open_one(k, PARENT, 0, loop, &parent, err);
		if (rc == 0)
			vhd_set_backing(disk, parent);
	}
	if (rc == 0)
		*ret = hv_steal(disk);
	return rc;
}

/* The writer. */

struct writer {
	const struct killing *killing;
	struct hv_loop *loop;
	struct hv_disk *disk;
	uint64_t random;
	uint32_t next_number;
	int pipe;
	unsigned in_flight;
};

struct flight {
	struct hv_io io;
	struct iovec iov;
	struct writer *writer;
	struct message message;
	uint8_t *data;
};

static void tell(const struct writer *writer, const struct message *message)
{
	if (write(writer->pipe, message, sizeof(*message)) != (ssize_t)sizeof(*message))
		_exit(2);
}

static void landed(struct hv_io *io, int result)
{
	struct flight *flight = (struct flight *)io;

	flight->message.done = true;
	flight->message.result = result;
	tell(flight->writer, &flight->message);
	flight->writer->in_flight--;
	free(flight->data);
	free(flight);
}

static void send_one(struct writer *writer)
{
	static const enum hv_io_op ops[] = {
		[HISTORY_WRITE] = HV_WRITE, [HISTORY_ZERO] = HV_ZERO, [HISTORY_FLUSH] = HV_FLUSH
	};
	uint64_t dice = crash_random(&writer->random, 40);
	struct flight *flight = crash_alloc(sizeof(*flight));
	struct message *message = &flight->message;
	void *memory;

	flight->writer = writer;
	message->kind = dice == 0 ? HISTORY_FLUSH : dice < 6 ? HISTORY_ZERO : HISTORY_WRITE;
	message->number = writer->next_number++;
	if (message->kind != HISTORY_FLUSH) {
		message->count = 1 + (uint32_t)crash_random(&writer->random, MAX_SECTORS);
		message->first = (uint32_t)crash_random(&writer->random, SECTORS - message->count);
		message->fua = dice == 1 || dice == 10;
	}
	flight->io = (struct hv_io){ .op = ops[message->kind],
				     .flags = message->fua ? HV_IO_FUA : 0,
				     .offset = (uint64_t)message->first * HV_SECTOR_SIZE,
				     .length = (uint64_t)message->count * HV_SECTOR_SIZE,
				     .done = landed };
	if (message->kind == HISTORY_WRITE) {
		if (posix_memalign(&memory, 4096, flight->io.length))
			abort();
		flight->data = memory;
		history_fill(memory, message->number, message->first, message->count);
		flight->iov = (struct iovec){ memory, flight->io.length };
		flight->io.iov = &flight->iov;
		flight->io.iov_count = 1;
	}
	tell(writer, message);
	writer->in_flight++;
	hv_disk_submit(writer->disk, &flight->io);
}

/* Goes on until somebody kills it. */
static void write_for_ever(const struct killing *k, uint32_t next_number, int out)
{
	struct writer writer = { .killing = k, .pipe = out, .next_number = next_number };
	HV_ERR(err);

	writer.random = crash_random_state(k->random);
	must(k, hv_loop_new(&writer.loop, &err), &err);
	must(k, open_disk(k, HV_FILE_WRITE, writer.loop, &writer.disk, &err), &err);
	for (;;) {
		while (writer.in_flight < IN_FLIGHT)
			send_one(&writer);
		hv_loop_turn(writer.loop, true);
	}
}

static pid_t start_writer(const struct killing *k, int *ret)
{
	int ends[2];
	pid_t pid;

	if (pipe(ends) || (pid = fork()) < 0) {
		perror("kill: cannot start a writer");
		exit(1);
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		write_for_ever(k, history_next(k->history), ends[1]);
	}
	close(ends[1]);
	*ret = ends[0];
	return pid;
}

/* The one that kills and judges. */

static bool listen_once(struct killing *k, int in)
{
	struct message message;
	ssize_t n = read(in, &message, sizeof(message));

	if (n != (ssize_t)sizeof(message))
		return false;
	k->clock++;
	if (!message.done)
		history_submit(k->history, message.kind, message.first, message.count, k->clock);
	else
		history_complete(k->history, message.number, message.result, message.fua, k->clock);
	return true;
}

static uint64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Kills it at some instant after its first word, and hears what it had said before. */
static void kill_one(struct killing *k)
{
	struct pollfd end;
	uint64_t until;
	int status;
	pid_t pid = start_writer(k, &end.fd);

	end.events = POLLIN;
	listen_once(k, end.fd);
	until = milliseconds() + crash_random(&k->random, MAX_MILLISECONDS);
	while (milliseconds() < until) {
		if (poll(&end, 1, 1) > 0 && !listen_once(k, end.fd))
			break;
	}
	kill(pid, SIGKILL);
	while (listen_once(k, end.fd))
		;
	close(end.fd);
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		wrong(k, "the writer", "ended by itself");
		exit(1);
	}
}

static void say_error(const struct vhd_finding *finding, void *arg)
{
	if (finding->severity == VHD_ERROR)
		fprintf(stderr, "check: %s: %s\n", finding->code, finding->sentence);
	(void)arg;
}

static bool check(const struct killing *k)
{
	const struct vhd_check_options options = { .data = true, .found = say_error };
	HV_AUTO(free) char *path = path_of(k, DISK);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_check_result result;
	HV_ERR(err);
	int rc = hv_file_open(path, 0, NULL, &file, &err);

	if (rc == 0)
		rc = vhd_check(file, &options, &result, &err);
	if (rc)
		return wrong(k, "check", hv_err_text(&err, rc));
	return !result.errors || wrong(k, "check", "finds errors");
}

static bool judge(struct killing *k)
{
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(free) uint8_t *contents = crash_alloc(SECTORS * HV_SECTOR_SIZE);
	struct history *after;
	uint64_t stamp;
	int64_t sector;
	char why[100];
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	if (!check(k))
		return false;
	if (rc == 0)
		rc = open_disk(k, 0, loop, &disk, &err);
	if (rc == 0)
		rc = hv_disk_pread(disk, contents, SECTORS * HV_SECTOR_SIZE, 0, &err);
	if (rc)
		return wrong(k, "reading", hv_err_text(&err, rc));
	sector = history_judge(k->history, contents, k->clock, &stamp);
	if (sector >= 0) {
		snprintf(why, sizeof(why), "sector %lld reads as %llx", (long long)sector,
			 (unsigned long long)stamp);
		return wrong(k, "the contents", why);
	}
	after = history_after(k->history, contents);
	history_free(k->history);
	k->history = after;
	return true;
}

static void make(struct killing *k, const char *name, enum vhd_type type)
{
	HV_AUTO(free) char *path = path_of(k, name);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_create_options options = { .type = type,
					      .size_bytes = SECTORS * HV_SECTOR_SIZE,
					      .block_bytes = type == VHD_FIXED ?
								     0 :
								     BLOCK_SECTORS * HV_SECTOR_SIZE,
					      .parent_uuid = { { 1 } },
					      .parent_name = PARENT };
	HV_ERR(err);

	must(k, hv_file_create(path, HV_FILE_WRITE, true, NULL, &file, &err), &err);
	for (uint64_t i = 0; i < SECTORS && !strcmp(name, PARENT); i += BLOCK_SECTORS / 2) {
		uint8_t data[BLOCK_SECTORS / 2 * HV_SECTOR_SIZE];
		uint64_t count = SECTORS - i < BLOCK_SECTORS / 2 ? SECTORS - i : BLOCK_SECTORS / 2;

		history_fill(data, 1, i, count);
		must(k,
		     hv_file_pwrite(file, data, count * HV_SECTOR_SIZE, i * HV_SECTOR_SIZE, &err),
		     &err);
	}
	must(k, vhd_create(file, &options, &err), &err);
	must(k, hv_file_publish(file, &err), &err);
}

static void make_disk(struct killing *k)
{
	history_free(k->history);
	k->history = history_new(SECTORS);
	make(k, DISK, k->type);
	for (uint64_t i = 0; i < SECTORS && k->type == VHD_DIFFERENCING; i++)
		history_begin(k->history, i, history_stamp(1, i));
}

bool kill_writers(enum vhd_type type, bool direct, uint64_t seed, unsigned runs,
		  const char *directory, unsigned long *ret)
{
	uint64_t until = milliseconds() + MILLISECONDS;
	struct killing k = { .type = type,
			     .direct = direct,
			     .seed = seed,
			     .random = crash_random_state(seed),
			     .directory = directory };
	bool right = true;

	if (type == VHD_DIFFERENCING)
		make(&k, PARENT, VHD_FIXED);
	for (*ret = 0; right && (runs ? *ret < runs : *ret < MIN_RUNS || milliseconds() < until);
	     ++*ret) {
		alarm(RUN_SECONDS);
		if (*ret % RUNS_OF_A_DISK == 0)
			make_disk(&k);
		kill_one(&k);
		right = judge(&k);
	}
	history_free(k.history);
	return right;
}
