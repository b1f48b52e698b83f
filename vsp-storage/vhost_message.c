/*
 * Messages on the socket. A descriptor arrives with some byte of its message, most often the first;
 * one recvmsg never mixes those of two messages, because it asks for no byte of the next.
 */
#include "vsp-storage/vhost_message.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void keep_fds(struct vsp_message *message, const struct cmsghdr *control, bool *too_many)
{
	size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
		if (message->fd_count < VSP_MESSAGE_FDS_MAX) {
			message->fds[message->fd_count++] = fd;
		} else {
			close(fd);
			*too_many = true;
		}
	}
}

static ssize_t receive_some(int socket, struct vsp_message *message, void *to, size_t size,
			    struct hv_err *err)
{
	union {
		char bytes[CMSG_SPACE(VSP_MESSAGE_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct iovec iov = { to, size };
	struct msghdr header = { .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	bool too_many;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -ECONNRESET;
	too_many = header.msg_flags & MSG_CTRUNC;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			keep_fds(message, c, &too_many);
	if (too_many)
		return hv_fail(err, -EBADMSG, "a message has more than %d descriptors",
			       VSP_MESSAGE_FDS_MAX);
	return n;
}

static int check_header(const struct vhost_header *header, struct hv_err *err)
{
	if ((header->flags & VHOST_VERSION_MASK) != VHOST_VERSION || header->flags & VHOST_REPLY)
		return hv_fail(err, -EBADMSG, "message %u has flags %#x", header->request,
			       header->flags);
	if (header->size > sizeof(union vhost_payload))
		return hv_fail(err, -EBADMSG, "message %u has a size of %u bytes", header->request,
			       header->size);
	return 0;
}

int vsp_message_receive(int socket, struct vsp_message *message, struct hv_err *err)
{
	const size_t head = sizeof(message->header);

	for (;;) {
		bool in_header = message->received < head;
		size_t end = in_header ? head : head + message->header.size;
		uint8_t *to = in_header ? (uint8_t *)&message->header + message->received :
					  message->payload.bytes + (message->received - head);
		ssize_t n = receive_some(socket, message, to, end - message->received, err);

		if (n == -EAGAIN)
			return 0;
		if (n == 0 && message->received)
			return hv_fail(err, -ECONNRESET,
				       "the front end left in the middle of a message");
		if (n <= 0)
			return n ? (int)n : -ECONNRESET;
		message->received += (size_t)n;
		if (in_header && message->received == head) {
			int rc = check_header(&message->header, err);

			if (rc)
				return rc;
		}
		if (message->received >= head && message->received == head + message->header.size)
			return 1;
	}
}

int vsp_message_take_fd(struct vsp_message *message, unsigned index)
{
	int fd = -1;

	if (index < message->fd_count) {
		fd = message->fds[index];
		message->fds[index] = -1;
	}
	return fd;
}

void vsp_message_done(struct vsp_message *message)
{
	for (unsigned i = 0; i < message->fd_count; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);
	*message = (struct vsp_message){ 0 };
}

int vsp_message_send(int socket, uint32_t request, uint32_t flags, const void *payload,
		     uint32_t size, int fd, struct hv_err *err)
{
	struct vhost_header head = { request, VHOST_VERSION | flags, size };
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)payload, size } };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr aligned;
	} control = { 0 };
	struct msghdr header = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };
	ssize_t n;

	if (fd >= 0) {
		control.aligned.cmsg_level = SOL_SOCKET;
		control.aligned.cmsg_type = SCM_RIGHTS;
		control.aligned.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.aligned), &fd, sizeof(fd));
		header.msg_control = &control;
		header.msg_controllen = sizeof(control);
	}
	n = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return hv_fail_errno(err, -errno, "cannot answer message %u", request);
	if ((size_t)n != sizeof(head) + size)
		return hv_fail(err, -EAGAIN, "the front end does not read our answers");
	return 0;
}
