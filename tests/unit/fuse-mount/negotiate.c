/*
 * The kernel's first message passes through our hands: the test is the kernel on one side and
 * libfuse on the other.
 */
#include "fuse-mount/negotiate.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXT (1u << 30)
#define MMAP_LOW (1u << 4) /* bits 36 and 37 of the flags */
#define PASSTHROUGH_LOW (1u << 5)

struct request {
	struct fuse_in_header header;
	struct fuse_init_in in;
};

struct reply {
	struct fuse_out_header header;
	struct fuse_init_out out;
};

static int kernel, fd;
static size_t reply_bytes;

static void setup(void)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	kernel = pair[0];
	fd = pair[1];
	reply_bytes = sizeof(struct reply);
}

TestSuite(negotiate, .init = setup, .timeout = 20);

/* What this libfuse does: it reads the request as it came, and answers with what it knows. */
static void answer(void *context)
{
	struct request *seen = context;
	struct reply reply = { .header.len = (uint32_t)reply_bytes,
			       .header.unique = 1,
			       .out.major = 7,
			       .out.minor = 38,
			       .out.flags = FUSE_ASYNC_READ };

	cr_assert_eq(read(fd, seen, sizeof(*seen)), sizeof(*seen));
	cr_assert_eq(write(fd, &reply, reply_bytes), (ssize_t)reply_bytes);
}

static struct reply negotiate(uint32_t flags, uint32_t flags2, bool wanted, bool *ret)
{
	struct request request = { .header.len = sizeof(request),
				   .header.opcode = FUSE_INIT,
				   .header.unique = 1,
				   .in = { .major = 7, .minor = 44, .flags = flags } },
		       seen;
	struct fm_negotiation negotiation = { .passthrough = wanted };
	struct reply reply = { 0 };
	HV_ERR(err);

	request.in.flags2 = flags2;
	cr_assert_eq(write(kernel, &request, sizeof(request)), sizeof(request));
	cr_assert_eq(fm_negotiate(fd, answer, &seen, &negotiation, &err), 0, "%s", err.sentence);
	cr_assert_arr_eq(&seen, &request, sizeof(seen));
	cr_assert_eq(read(kernel, &reply, sizeof(reply)), (ssize_t)reply_bytes);
	cr_assert_eq(reply.out.flags & FUSE_ASYNC_READ, FUSE_ASYNC_READ);
	*ret = negotiation.passthrough;
	return reply;
}

Test(negotiate, what_is_offered_and_wanted_is_agreed)
{
	bool agreed;
	struct reply reply = negotiate(EXT, MMAP_LOW | PASSTHROUGH_LOW, true, &agreed);

	cr_assert(agreed);
	cr_assert_eq(reply.out.flags & EXT, EXT);
	cr_assert_eq(reply.out.flags2, MMAP_LOW | PASSTHROUGH_LOW);
}

Test(negotiate, passthrough_is_for_who_wants_it)
{
	bool agreed;
	struct reply reply = negotiate(EXT, MMAP_LOW | PASSTHROUGH_LOW, false, &agreed);

	cr_assert_not(agreed);
	cr_assert_eq(reply.out.flags2, MMAP_LOW);
}

Test(negotiate, what_is_not_offered_is_not_asked_for)
{
	bool agreed;

	cr_assert_eq(negotiate(EXT, MMAP_LOW, true, &agreed).out.flags2, MMAP_LOW);
	cr_assert_not(agreed);
	cr_assert_eq(negotiate(EXT, PASSTHROUGH_LOW, true, &agreed).out.flags2, PASSTHROUGH_LOW);
	cr_assert(agreed);
}

Test(negotiate, an_old_kernel_gets_the_reply_as_it_is)
{
	bool agreed;
	struct reply reply = negotiate(0, MMAP_LOW | PASSTHROUGH_LOW, true, &agreed);

	cr_assert_not(agreed);
	cr_assert_eq(reply.out.flags, FUSE_ASYNC_READ);
	cr_assert_eq(reply.out.flags2, 0);
}

Test(negotiate, a_short_reply_stays_short)
{
	bool agreed;

	reply_bytes = sizeof(struct fuse_out_header) + FUSE_COMPAT_22_INIT_OUT_SIZE;
	negotiate(EXT, PASSTHROUGH_LOW, true, &agreed);
	cr_assert_not(agreed);
}

Test(negotiate, afterwards_the_descriptor_is_the_kernel_again)
{
	bool agreed;
	char byte = 0;

	negotiate(EXT, MMAP_LOW, false, &agreed);
	cr_assert_eq(write(kernel, "x", 1), 1);
	cr_assert_eq(read(fd, &byte, 1), 1);
	cr_assert_eq(byte, 'x');
}

Test(negotiate, a_descriptor_that_cannot_be_read_is_an_error)
{
	struct fm_negotiation negotiation = { 0 };
	struct request seen;
	HV_ERR(err);

	cr_assert_eq(fm_negotiate(-1, answer, &seen, &negotiation, &err), -EBADF);
	cr_assert_neq(*err.sentence, '\0');
}

Test(negotiate, without_a_fuse_device_nothing_passes_through)
{
	int32_t id = 5;

	cr_assert_lt(fm_passthrough_open(fd, fd, &id), 0);
	cr_assert_eq(id, 5);
}

Test(negotiate, a_reply_to_an_open_names_the_file)
{
	struct fm_open_reply reply = fm_passthrough_reply(77, 3);
	struct fuse_open_out out;

	memcpy(&out, &reply, sizeof(out));
	cr_assert_eq(out.fh, 77);
	cr_assert_eq(out.open_flags, 1u << 7);
	cr_assert_eq(reply.backing_id, 3);
}
