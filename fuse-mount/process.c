/*
 * The lock guards what callers and the thread share: the queue of calls to send, and whether there
 * is anybody to send them to. The calls that have been sent are the thread's alone.
 *
 * The protocol is spoken in its version 7.12: everything that we need is in it, and old libraries
 * do not know what came later.
 */
#include "fuse-mount/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "hvcore/log.h"
#include "hvcore/sandbox.h"

#define MINOR 12
#define OLDEST_MINOR 8    /* of a reader; its answers have the sizes that we know from there on */
#define ANSWER_SECONDS 60 /* that a reader may think */
#define START_SECONDS 30
#define LEAVE_SECONDS 10
#define SAID_BYTES 2048 /* of what a reader says, kept for its obituary */
#define MESSAGE_BYTES (sizeof(struct fuse_out_header) + FM_CALL_DATA + 4096)

enum state { STARTING, SERVING, LEAVING, ENDED };

struct fm_process {
	struct fm_process_options options;
	const struct fm_reader *reader;
	char *program, *name, *type;
	pthread_t thread;
	int wake_fd, socket, volume_fd;
	struct hv_sandbox sandbox;
	char directory[64], volume[80], mount[80]; /* names that exist while it starts */

	pthread_mutex_t lock;
	enum state state;
	bool leave, failed;
	struct fm_call *queue, **queue_end;

	struct fm_call *sent;
	uint64_t last_unique;
	struct timespec deadline; /* of the start, or of leaving */
	char said[SAID_BYTES + 1];
	size_t said_bytes;
	struct hv_err err;
	char *answer; /* MESSAGE_BYTES */
};

struct fm_call *fm_call_new(uint32_t opcode, uint64_t node, size_t length)
{
	struct fm_call *call = calloc(1, sizeof(*call) + length);

	if (!call)
		return NULL;
	call->length = sizeof(call->header) + length;
	call->header = (struct fuse_in_header){ .len = (uint32_t)call->length,
						.opcode = opcode,
						.nodeid = node };
	return call;
}

void *fm_call_arguments(struct fm_call *call)
{
	return call->message + sizeof(call->header);
}

static struct timespec seconds_from_now(int seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now.tv_sec += seconds;
	return now;
}

static bool is_past(const struct timespec *deadline)
{
	struct timespec now = seconds_from_now(0);

	return now.tv_sec > deadline->tv_sec ||
	       (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

static void fail_call(struct fm_call *call, int code)
{
	if (call->done)
		call->done(call, code, NULL, 0);
	else
		free(call);
}

static void fail_calls(struct fm_call *calls, int code)
{
	while (calls) {
		struct fm_call *call = calls;

		calls = call->next;
		fail_call(call, code);
	}
}

/* ---- Callers ---- */

static void enqueue(struct fm_process *process, struct fm_call *call)
{
	call->next = NULL;
	*process->queue_end = call;
	process->queue_end = &call->next;
}

static void wake(struct fm_process *process)
{
	eventfd_write(process->wake_fd, 1);
}

void fm_process_send(struct fm_process *process, struct fm_call *call)
{
	bool taken;

	pthread_mutex_lock(&process->lock);
	taken = process->state == STARTING || process->state == SERVING;
	if (taken)
		enqueue(process, call);
	pthread_mutex_unlock(&process->lock);
	if (taken)
		wake(process);
	else
		fail_call(call, -EIO);
}

bool fm_process_ended(struct fm_process *process, bool *failed)
{
	bool ended;

	pthread_mutex_lock(&process->lock);
	ended = process->state == ENDED;
	*failed = process->failed;
	pthread_mutex_unlock(&process->lock);
	return ended;
}

bool fm_process_owners(struct fm_process *process)
{
	/* Does not change once there are answers. */
	return process->reader->owners;
}

/* ---- The thread: sending ---- */

static void set_state(struct fm_process *process, enum state state)
{
	pthread_mutex_lock(&process->lock);
	process->state = state;
	pthread_mutex_unlock(&process->lock);
}

/* 0; -EAGAIN when the reader has enough for now. */
static int send_call(struct fm_process *process, struct fm_call *call)
{
	call->header.unique = call->done ? ++process->last_unique : 0;
	call->deadline =
		seconds_from_now(process->state == STARTING ? START_SECONDS : ANSWER_SECONDS);
	if (send(process->socket, call->message, call->length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	if (!call->done) {
		free(call);
		return 0;
	}
	call->next = process->sent;
	process->sent = call;
	return 0;
}

static struct fm_call *take_first(struct fm_process *process)
{
	struct fm_call *call = process->queue;

	if (call && !(process->queue = call->next))
		process->queue_end = &process->queue;
	return call;
}

/* False when something is left that the socket does not take now. */
static bool send_queue(struct fm_process *process)
{
	bool room = true;

	pthread_mutex_lock(&process->lock);
	while (room && process->queue && process->state != STARTING) {
		struct fm_call *call = take_first(process);
		int rc = send_call(process, call);

		if (rc == 0)
			continue;
		room = false;
		/* Back to the head; the end of a reader that is gone is seen elsewhere. */
		call->next = process->queue;
		if (!process->queue)
			process->queue_end = &call->next;
		process->queue = call;
	}
	pthread_mutex_unlock(&process->lock);
	return room;
}

static void remove_names(struct fm_process *process)
{
	if (!process->directory[0])
		return;
	unlink(process->volume);
	rmdir(process->mount);
	rmdir(process->directory);
	process->directory[0] = '\0';
}

/* ---- The thread: the beginning and the end of the protocol ---- */

static void init_done(struct fm_call *call, int code, const void *body, size_t length)
{
	struct fm_process *process = call->context;
	struct fuse_init_out out = { 0 };

	free(call);
	if (code == 0)
		memcpy(&out, body, length < sizeof(out) ? length : sizeof(out));
	if (code == 0 && (out.major != FUSE_KERNEL_VERSION || out.minor < OLDEST_MINOR))
		code = -EPROTO;
	if (code) {
		hv_fail(&process->err, code, "%s: %s speaks another version of FUSE", process->name,
			process->program);
		return;
	}
	hv_log(HV_LOG_INFO, "%s: read by %s, FUSE %u.%u", process->name, process->program,
	       out.major, out.minor);
	process->sandbox.closed = true;
	remove_names(process);
	set_state(process, SERVING);
}

static void destroy_done(struct fm_call *call, int code, const void *body, size_t length)
{
	struct fm_process *process = call->context;

	(void)code;
	(void)body;
	(void)length;
	free(call);
	shutdown(process->socket, SHUT_RDWR);
}

static int send_init(struct fm_process *process)
{
	struct fm_call *call = fm_call_new(FUSE_INIT, 0, 16);

	if (!call)
		return -ENOMEM;
	memcpy(fm_call_arguments(call),
	       &(struct fuse_init_in){ .major = FUSE_KERNEL_VERSION,
				       .minor = MINOR,
				       .max_readahead = FM_CALL_DATA,
				       .flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES },
	       16);
	call->done = init_done;
	call->context = process;
	return send_call(process, call);
}

static void begin_leaving(struct fm_process *process)
{
	struct fm_call *call = fm_call_new(FUSE_DESTROY, 0, 0);
	bool serving = process->state == SERVING;

	process->deadline = seconds_from_now(LEAVE_SECONDS);
	if (!serving || !call) {
		free(call);
		process->deadline = seconds_from_now(0);
	} else {
		call->done = destroy_done;
		call->context = process;
		pthread_mutex_lock(&process->lock);
		enqueue(process, call);
		pthread_mutex_unlock(&process->lock);
	}
	set_state(process, LEAVING);
}

/* ---- The thread: receiving ---- */

static struct fm_call *take_sent(struct fm_process *process, uint64_t unique)
{
	for (struct fm_call **p = &process->sent; *p; p = &(*p)->next) {
		struct fm_call *call = *p;

		if (call->header.unique == unique) {
			*p = call->next;
			return call;
		}
	}
	return NULL;
}

/* False when the reader has gone. */
static bool receive(struct fm_process *process)
{
	const struct fuse_out_header *header = (const void *)process->answer;
	ssize_t got = recv(process->socket, process->answer, MESSAGE_BYTES, MSG_DONTWAIT);
	struct fm_call *call;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if ((size_t)got < sizeof(*header))
		return false;
	call = take_sent(process, header->unique);
	if (!call)
		return true; /* a notification */
	if (header->error > 0 || header->error <= -512)
		call->done(call, -EIO, NULL, 0);
	else if (header->error)
		call->done(call, header->error, NULL, 0);
	else
		call->done(call, 0, process->answer + sizeof(*header),
			   (size_t)got - sizeof(*header));
	return true;
}

/* Keeps the beginning of what the reader says: the cause comes before its consequences. */
static void hear(struct fm_process *process)
{
	char rest[512];
	size_t room = SAID_BYTES - process->said_bytes;
	ssize_t got =
		read(process->sandbox.stderr_fd, room ? process->said + process->said_bytes : rest,
		     room ? room : sizeof(rest));

	if (room && got > 0)
		process->said_bytes += (size_t)got;
}

static bool is_late(const struct fm_process *process)
{
	for (const struct fm_call *call = process->sent; call; call = call->next)
		if (is_past(&call->deadline))
			return true;
	return process->state == LEAVING && is_past(&process->deadline);
}

static void watch(struct fm_process *process)
{
	bool alive = true, room = true, leave;

	while (alive && !process->err.code && !is_late(process)) {
		struct pollfd fds[] = {
			{ .fd = process->wake_fd, .events = POLLIN },
			{ .fd = process->socket, .events = room ? POLLIN : POLLIN | POLLOUT },
			{ .fd = process->sandbox.notify_fd, .events = POLLIN },
			{ .fd = process->sandbox.stderr_fd, .events = POLLIN },
		};
		eventfd_t ignored;

		poll(fds, 4, process->sent || process->state == LEAVING ? 1000 : -1);
		if (fds[0].revents & POLLIN)
			eventfd_read(process->wake_fd, &ignored);
		if (fds[2].revents & POLLIN)
			hv_sandbox_turn(&process->sandbox);
		if (fds[3].revents & POLLIN) {
			hear(process);
		} else if (fds[3].revents) {
			close(process->sandbox.stderr_fd);
			process->sandbox.stderr_fd = -1;
		}
		if (fds[1].revents & (POLLIN | POLLHUP))
			alive = receive(process);
		if (fds[2].revents & (POLLHUP | POLLERR))
			alive = false;
		pthread_mutex_lock(&process->lock);
		leave = process->leave;
		pthread_mutex_unlock(&process->lock);
		if (leave && process->state != LEAVING)
			begin_leaving(process);
		room = send_queue(process);
	}
}

/* ---- The thread: the reader ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The name under which it opens the volume, and a directory to "mount" upon; both only look real. */
static int make_names(struct fm_process *process)
{
	const char *base = access("/run/user", W_OK) == 0 ? "/run" : "/tmp";
	int fd;

	snprintf(process->directory, sizeof(process->directory), "%s/vhdmount.XXXXXX", base);
	if (!mkdtemp(process->directory)) {
		process->directory[0] = '\0';
		return -errno;
	}
	if (chmod(process->directory, 0755))
		return -errno;
	snprintf(process->volume, sizeof(process->volume), "%s/volume", process->directory);
	snprintf(process->mount, sizeof(process->mount), "%s/mount", process->directory);
	if (mkdir(process->mount, 0755))
		return -errno;
	if (geteuid() == 0 && chown(process->mount, process->options.uid, process->options.gid))
		return -errno;
	fd = open(process->volume, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int start(struct fm_process *process)
{
	const struct fm_process_options *options = &process->options;
	const char *const *arguments = options->write && process->reader->write_arguments[0] ?
					       process->reader->write_arguments :
					       process->reader->arguments;
	const char *argv[FM_READER_ARGUMENTS + 2] = { process->program };
	int pair[2], rc = make_names(process);

	for (int i = 0; i < FM_READER_ARGUMENTS && arguments[i]; i++)
		argv[i + 1] = strcmp(arguments[i], "%v") == 0 ? process->volume :
			      strcmp(arguments[i], "%m") == 0 ? process->mount :
								arguments[i];
	process->volume_fd = openat(options->directory_fd, process->name, O_RDWR | O_CLOEXEC);
	if (rc == 0 && process->volume_fd < 0)
		rc = -errno;
	if (rc == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		rc = -errno;
	if (rc)
		return hv_fail_errno(&process->err, rc, "%s: cannot start %s", process->name,
				     process->program);
	process->socket = pair[0];
	process->sandbox = (struct hv_sandbox){ .volume_fd = process->volume_fd,
						.volume_path = process->volume,
						.mount_path = process->mount,
						.device_fd = pair[1] };
	rc = hv_sandbox_start(&process->sandbox, (char *const *)(uintptr_t)argv, options->uid,
			      options->gid, &process->err);
	return rc ? rc : send_init(process);
}

/* The first line that says something, from behind the name that we made up. */
static const char *first_words(struct fm_process *process)
{
	char *line = process->said, *named;

	process->said[process->said_bytes] = '\0';
	line += strspn(line, " \t\n");
	line[strcspn(line, "\n")] = '\0';
	named = strstr(line, process->volume);
	if (named && strlen(named) > strlen(process->volume))
		line = named + strlen(process->volume);
	line += strspn(line, "'\"):; \t");
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return *line ? line : "ended without a word";
}

/* Says why it did not come up. */
static void explain(struct fm_process *process, bool late)
{
	size_t before;

	do {
		before = process->said_bytes;
		if (process->sandbox.stderr_fd >= 0)
			hear(process);
	} while (process->said_bytes > before);
	if (late)
		hv_fail(&process->err, -ETIMEDOUT, "%s: %s did not come up in %d seconds",
			process->name, process->program, START_SECONDS);
	else
		hv_fail(&process->err, -EIO, "%s: %s: %s", process->name, process->program,
			first_words(process));
	hv_log(HV_LOG_WARN, "%s", process->err.sentence);
}

/* True: it may be tried with the next reader. */
static bool try_reader(struct fm_process *process)
{
	bool again = false;

	hv_err_clear(&process->err);
	process->said_bytes = 0;
	if (start(process) == 0)
		watch(process);
	if (process->state == STARTING && !process->leave) {
		explain(process, is_late(process));
		again = true;
	}
	hv_sandbox_end(&process->sandbox);
	remove_names(process);
	close_fd(&process->socket);
	close_fd(&process->volume_fd);
	return again;
}

static bool next_reader(struct fm_process *process)
{
	const struct fm_reader *reader = process->reader;
	char *program = NULL;

	while (!program && (reader = fm_reader_next(process->type, reader)))
		program = fm_reader_program(reader);
	free(process->program);
	process->program = program;
	process->reader = reader;
	return program;
}

static void *run(void *arg)
{
	struct fm_process *process = arg;
	struct fm_call *queued;

	while (next_reader(process) && try_reader(process)) {
		free(process->sent); /* the greeting */
		process->sent = NULL;
	}
	pthread_mutex_lock(&process->lock);
	process->failed = process->state == STARTING;
	process->state = ENDED;
	queued = process->queue;
	process->queue = NULL;
	process->queue_end = &process->queue;
	pthread_mutex_unlock(&process->lock);
	fail_calls(process->sent, -EIO);
	fail_calls(queued, -EIO);
	return NULL;
}

/* ---- Beginning and end ---- */

static void destroy(struct fm_process *process)
{
	close_fd(&process->wake_fd);
	pthread_mutex_destroy(&process->lock);
	free(process->answer);
	free(process->program);
	free(process->name);
	free(process->type);
	free(process);
}

int fm_process_new(const struct fm_process_options *options, struct fm_process **ret,
		   struct hv_err *err)
{
	struct fm_process *process = calloc(1, sizeof(*process));

	if (!process)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", options->name);
	process->options = *options;
	process->queue_end = &process->queue;
	process->socket = process->volume_fd = -1;
	process->sandbox = (struct hv_sandbox){
		.pid = -1, .notify_fd = -1, .stderr_fd = -1, .stdout_fd = -1, .device_fd = -1
	};
	pthread_mutex_init(&process->lock, NULL);
	process->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	process->type = strdup(options->type);
	process->name = strdup(options->name);
	process->answer = malloc(MESSAGE_BYTES);
	if (process->wake_fd < 0 || !process->type || !process->name || !process->answer ||
	    pthread_create(&process->thread, NULL, run, process)) {
		destroy(process);
		return hv_fail(err, -ENOMEM, "%s: not enough memory", options->name);
	}
	*ret = process;
	return 0;
}

void fm_process_free(struct fm_process *process)
{
	if (!process)
		return;
	pthread_mutex_lock(&process->lock);
	process->leave = true;
	pthread_mutex_unlock(&process->lock);
	wake(process);
	pthread_join(process->thread, NULL);
	destroy(process);
}
