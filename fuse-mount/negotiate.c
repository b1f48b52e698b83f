#include "fuse-mount/negotiate.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bits of flags2, that is, 32 and more of the 64. */
#define INIT_DIRECT_IO_ALLOW_MMAP (1u << 4)
#define INIT_PASSTHROUGH (1u << 5)
#define OPEN_PASSTHROUGH (1u << 7)

struct init_request {
	struct fuse_in_header header;
	struct fuse_init_in in;
};

struct init_reply {
	struct fuse_out_header header;
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth, unused[6];
};

static_assert(sizeof(struct init_reply) == sizeof(struct fuse_out_header) + 64, "fuse_init_out");
static_assert(sizeof(struct fm_open_reply) == sizeof(struct fuse_open_out), "fuse_open_out");

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)

/* A reply that this file would spoil goes on as it is. */
static void amend(struct init_reply *reply, size_t length, uint32_t offered,
		  struct fm_negotiation *negotiation)
{
	bool extended = length == sizeof(*reply) && reply->header.error == 0;
	bool passthrough = negotiation->passthrough && extended && (offered & INIT_PASSTHROUGH);

	negotiation->passthrough = passthrough;
	if (!extended || !offered)
		return;
	reply->flags |= FUSE_INIT_EXT;
	reply->flags2 |= offered & INIT_DIRECT_IO_ALLOW_MMAP;
	if (passthrough) {
		reply->flags2 |= INIT_PASSTHROUGH;
		reply->max_stack_depth = 1;
	}
}

static ssize_t read_whole(int fd, void *buf, size_t size)
{
	ssize_t n;

	do
		n = read(fd, buf, size);
	while (n < 0 && (errno == EINTR || errno == ENOENT));
	return n < 0 ? -errno : n;
}

/* kernel is the descriptor that fd was; pair[0] is ours, pair[1] is behind fd. */
static int relay(int kernel, const int pair[2], void (*answer)(void *context), void *context,
		 struct fm_negotiation *negotiation)
{
	/* The kernel wants room for the largest request that it may ever make. */
	HV_AUTO(free) char *buf = malloc(FUSE_MIN_READ_BUFFER);
	struct init_request request = { 0 };
	struct init_reply reply;
	uint32_t offered;
	ssize_t n = buf ? read_whole(kernel, buf, FUSE_MIN_READ_BUFFER) : -ENOMEM;

	if (n < 0)
		return (int)n;
	memcpy(&request, buf, n < (ssize_t)sizeof(request) ? (size_t)n : sizeof(request));
	offered = n >= (ssize_t)sizeof(request) && request.in.flags & FUSE_INIT_EXT ?
			  request.in.flags2 :
			  0;
	if (send(pair[0], buf, (size_t)n, MSG_NOSIGNAL) != n)
		return -errno;
	answer(context);
	n = recv(pair[0], &reply, sizeof(reply), MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	amend(&reply, (size_t)n, offered, negotiation);
	return write(kernel, &reply, (size_t)n) == n ? 0 : -errno;
}

int fm_negotiate(int fd, void (*answer)(void *context), void *context,
		 struct fm_negotiation *negotiation, struct hv_err *err)
{
	HV_AUTO(close) int kernel = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int pair[2], rc = 0;

	if (kernel < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return hv_fail_errno(err, -errno, "cannot negotiate with the kernel");
	if (dup3(pair[1], fd, O_CLOEXEC) < 0)
		rc = -errno;
	if (rc == 0)
		rc = relay(kernel, pair, answer, context, negotiation);
	if (dup3(kernel, fd, O_CLOEXEC) < 0 && rc == 0)
		rc = -errno;
	close(pair[0]);
	close(pair[1]);
	return rc ? hv_fail_errno(err, rc, "cannot negotiate with the kernel") : 0;
}

int fm_passthrough_open(int fuse_fd, int backing_fd, int32_t *ret)
{
	struct backing_map map = { .fd = backing_fd };
	int id = ioctl(fuse_fd, BACKING_OPEN, &map);

	if (id <= 0)
		return id ? -errno : -EINVAL;
	*ret = id;
	return 0;
}

struct fm_open_reply fm_passthrough_reply(uint64_t fh, int32_t backing_id)
{
	return (struct fm_open_reply){ .fh = fh,
				       .flags = OPEN_PASSTHROUGH,
				       .backing_id = backing_id };
}
