/*
 * Fuzz target: a front end that may say anything. The input is a list of messages: request, flags,
 * size, descriptors, and as much payload as there is; between them, bytes that the guest writes
 * into its memory and kicks. Nothing but its own session may come to harm.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/harness/fuzz.h"
#include "vsp-storage/vhost_session.h"

#define MEMORY 16384u
#define DISK_BYTES (1u << 20)
#define MESSAGES 64

enum { WRITE_MEMORY = 200, KICK, SHRINK };

static struct hv_disk disk;
static struct vsp_device *device;
static bool ended;
static int memory_fd, kick_fd, pipe_fds[2], null_inflight;

static void submit(struct hv_disk *target, struct hv_io *io)
{
	if (io->op == HV_READ)
		hv_io_fill_zero(io, 0, io->length);
	hv_loop_finish(target->loop, io, 0);
}

static void close_disk(struct hv_disk *target)
{
	(void)target;
}

static const struct hv_disk_ops ops = { .format = "null", .submit = submit, .close = close_disk };

static void begin(void)
{
	HV_ERR(err);

	disk = (struct hv_disk){ .ops = &ops,
				 .loop = fuzz_loop(),
				 .path = "null",
				 .size_bytes = DISK_BYTES,
				 .writable = true };
	fuzz_assert(vsp_device_new(&disk, &(struct vsp_device_options){ .discard = true }, &device,
				   &err) == 0,
		    "%s", err.sentence);
	memory_fd = memfd_create("fuzz", MFD_CLOEXEC);
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fuzz_assert(pipe(pipe_fds) == 0, "no pipe");
	null_inflight = vsp_inflight_create(4, 16, &err);
	fuzz_assert(null_inflight >= 0, "%s", err.sentence);
}

static void session_ended(struct vsp_session *session)
{
	vsp_session_free(session);
	ended = true;
}

static void serve(void)
{
	for (int i = 0; i < 8; i++)
		hv_loop_serve(fuzz_loop(), 0);
}

/* What is answered is read, and the descriptors that come with it are closed. */
static void read_answers(int socket)
{
	uint8_t bytes[512];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr aligned;
	} control;

	for (;;) {
		struct iovec iov = { bytes, sizeof(bytes) };
		struct msghdr header = { .msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control) };
		int fd;

		if (recvmsg(socket, &header, MSG_DONTWAIT) <= 0)
			return;
		if (CMSG_FIRSTHDR(&header)) {
			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(fd));
			close(fd);
		}
	}
}

/* descriptors: how many in the low bits, and of which kind. */
static void say(int socket, const uint8_t *message, const uint8_t *payload, size_t have)
{
	const int kinds[] = { memory_fd, kick_fd, pipe_fds[1], null_inflight };
	uint32_t head[3] = { message[0], message[1], message[2] };
	struct iovec iov[2] = { { head, sizeof(head) }, { (void *)(uintptr_t)payload, have } };
	unsigned count = message[3] & 15;
	union {
		char bytes[CMSG_SPACE(15 * sizeof(int))];
		struct cmsghdr aligned;
	} control = { 0 };
	struct msghdr header = { .msg_iov = iov, .msg_iovlen = 2 };

	if (count) {
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.aligned.cmsg_level = SOL_SOCKET;
		control.aligned.cmsg_type = SCM_RIGHTS;
		control.aligned.cmsg_len = CMSG_LEN(count * sizeof(int));
		for (unsigned i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.aligned) + i * sizeof(int),
			       &kinds[message[3] >> 4 & 3], sizeof(int));
	}
	(void)!sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Instead of a message: what the guest does. */
static void act(const uint8_t *message, const uint8_t *payload, size_t have)
{
	uint64_t one = 1;

	if (message[0] == WRITE_MEMORY)
		(void)!pwrite(memory_fd, payload, have, (message[1] | message[3] << 8) % MEMORY);
	else if (message[0] == KICK)
		(void)!write(kick_fd, &one, sizeof(one));
	else if (message[0] == SHRINK && message[1] == 0)
		(void)!ftruncate(memory_fd, message[3] * 64);
}

static void run(const uint8_t *data, size_t size)
{
	struct vsp_session *session;
	int pair[2];
	HV_ERR(err);

	if (!device)
		begin();
	ended = false;
	fuzz_assert(ftruncate(memory_fd, 0) == 0 && ftruncate(memory_fd, MEMORY) == 0, "no memory");
	fuzz_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0, "no socket");
	fuzz_assert(vsp_session_new(device, pair[1], "fuzz", &session, &err) == 0, "%s",
		    err.sentence);
	session->ended = session_ended;
	for (unsigned i = 0; i < MESSAGES && size >= 4 && !ended; i++) {
		size_t have = data[2] < size - 4 ? data[2] : size - 4;

		if (data[0] >= WRITE_MEMORY)
			act(data, data + 4, have);
		else
			say(pair[0], data, data + 4, have);
		data += 4 + have;
		size -= 4 + have;
		serve();
		read_answers(pair[0]);
	}
	close(pair[0]);
	for (unsigned i = 0; i < 1000 && !ended; i++)
		hv_loop_serve(fuzz_loop(), 0);
	fuzz_assert(ended, "the session does not end");
	fuzz_assert(vsp_device_is_idle(device), "requests stay in flight");
}

const struct fuzz_target fuzz_target = { .run = run };
