/*
 * The request core over a disk in memory that answers when it is told to.
 */
#include "vsp-storage/device.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/iov.h"
#include "vsp-storage/pieces.h"

#define SIZE (1u << 20)
#define MAX_PENDING 64

struct slow_disk {
	struct hv_disk base;
	uint8_t bytes[SIZE];
	struct hv_io *pending[MAX_PENDING];
	unsigned count;     /* pending */
	unsigned submitted; /* ever */
	uint64_t longest;
	bool holds;     /* requests wait for release */
	int fails;      /* the next request's result */
	unsigned flags; /* of the last request */
	enum hv_io_op op;
};

static struct hv_loop *loop;
static struct slow_disk *slow;
static struct vsp_device *device;

static void carry_out(struct hv_io *io)
{
	int result = slow->fails;

	slow->fails = 0;
	if (result == 0 && io->op == HV_READ)
		hv_iov_scatter(io->iov, io->iov_count, 0, slow->bytes + io->offset, io->length);
	else if (result == 0 && io->op == HV_WRITE)
		hv_iov_gather(io->iov, io->iov_count, 0, slow->bytes + io->offset, io->length);
	else if (result == 0 && io->op != HV_FLUSH && io->offset + io->length <= SIZE)
		memset(slow->bytes + io->offset, 0, io->length);
	/* As layers below may. */
	io->offset = io->length = 77;
	hv_loop_finish(loop, io, result);
}

static void slow_submit(struct hv_disk *disk, struct hv_io *io)
{
	(void)disk;
	slow->submitted++;
	slow->flags = io->flags;
	slow->op = io->op;
	if (io->length > slow->longest)
		slow->longest = io->length;
	if (slow->holds) {
		cr_assert_lt(slow->count, MAX_PENDING);
		slow->pending[slow->count++] = io;
	} else {
		carry_out(io);
	}
}

static void slow_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops slow_ops = { .format = "slow",
					     .submit = slow_submit,
					     .close = slow_close };

static void turn(void)
{
	for (int i = 0; i < 20; i++)
		hv_loop_turn(loop, false);
}

/* The oldest request that waits is carried out. */
static void release(void)
{
	struct hv_io *io = slow->pending[0];

	cr_assert_gt(slow->count, 0);
	memmove(slow->pending, slow->pending + 1, --slow->count * sizeof(io));
	carry_out(io);
	turn();
}

static void make(const struct vsp_device_options *options)
{
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	slow = calloc(1, sizeof(*slow));
	slow->base = (struct hv_disk){
		.ops = &slow_ops, .loop = loop, .path = "slow", .size_bytes = SIZE, .writable = true
	};
	for (unsigned i = 0; i < SIZE; i++)
		slow->bytes[i] = (uint8_t)(i * 31 + i / 256);
	cr_assert_eq(vsp_device_new(&slow->base, options, &device, &err), 0);
}

static void setup(void)
{
	struct vsp_device_options options = { .discard = true, .serial = "S1" };

	make(&options);
}

static void teardown(void)
{
	cr_assert(vsp_device_is_idle(device));
	vsp_device_free(device);
	hv_loop_free(loop);
}

TestSuite(device, .init = setup, .fini = teardown);

struct call {
	struct vsp_request request;
	struct iovec iov[2];
	unsigned times;
	int result;
};

static bool inside_submit;
static unsigned completed;

static void call_done(struct vsp_request *request, int result)
{
	struct call *call = (struct call *)request;

	cr_assert_not(inside_submit, "completed inside submit");
	call->times++;
	call->result = result;
	completed++;
}

/* The memory in two pieces, so that vectors are looked at, too. */
static void submit(struct call *call, enum hv_io_op op, uint64_t offset, uint64_t length,
		   void *memory, unsigned flags)
{
	size_t half = memory ? length / 3 : 0;

	*call = (struct call){ .iov = { { memory, half },
					{ (char *)memory + half, length - half } } };
	call->request.io = (struct hv_io){ .op = op,
					   .flags = flags,
					   .offset = offset,
					   .length = length,
					   .iov = memory ? call->iov : NULL,
					   .iov_count = memory ? 2 : 0 };
	call->request.done = call_done;
	inside_submit = true;
	vsp_device_submit(device, &call->request);
	inside_submit = false;
}

static int run(enum hv_io_op op, uint64_t offset, uint64_t length, void *memory)
{
	struct call call;

	submit(&call, op, offset, length, memory, 0);
	cr_assert_eq(call.times, 0);
	turn();
	cr_assert_eq(call.times, 1);
	return call.result;
}

Test(device, bounds_are_checked_and_told_by_operation)
{
	static uint8_t memory[8192];

	cr_assert_eq(run(HV_READ, SIZE - 512, 1024, memory), -EINVAL);
	cr_assert_eq(run(HV_WRITE, SIZE - 512, 1024, memory), -ENOSPC);
	cr_assert_eq(run(HV_ZERO, SIZE, 1, NULL), -ENOSPC);
	cr_assert_eq(run(HV_DISCARD, SIZE - 1, 2, NULL), -EINVAL);
	cr_assert_eq(run(HV_READ, UINT64_MAX - 100, 512, memory), -EINVAL);
	cr_assert_eq(run(HV_WRITE, 512, UINT64_MAX - 100, NULL), -ENOSPC);
	cr_assert_eq(slow->submitted, 0);
	cr_assert_eq(run(HV_READ, SIZE, 0, NULL), 0);
	cr_assert_eq(run(HV_READ, SIZE - 512, 512, memory), 0);
	cr_assert_eq(device->telemetry.in_flight, 0);
	cr_assert_eq(vsp_telemetry_operations(&device->telemetry, HV_READ), 4);
	cr_assert_eq(vsp_telemetry_errors(&device->telemetry, HV_READ), 2);
	cr_assert_eq(vsp_telemetry_bytes(&device->telemetry, HV_READ), 512);
	cr_assert_eq(vsp_telemetry_operations(&device->telemetry, HV_READ), 4);
}

Test(device, nothing_changes_a_read_only_device)
{
	static uint8_t memory[512];

	device->read_only = true;
	cr_assert_eq(run(HV_WRITE, 0, 512, memory), -EROFS);
	cr_assert_eq(run(HV_ZERO, 0, 512, NULL), -EROFS);
	cr_assert_eq(run(HV_DISCARD, 0, 512, NULL), -EROFS);
	cr_assert_eq(run(HV_WRITE, SIZE, 512, memory), -EROFS);
	cr_assert_eq(slow->submitted, 0);
	cr_assert_eq(run(HV_READ, 0, 512, memory), 0);
	cr_assert_eq(run(HV_FLUSH, 0, 0, NULL), 0);
}

/* Every start and end in and around two sectors, by every operation, against a plain array. */
Test(device, any_offset_and_length)
{
	static const unsigned offsets[] = { 0, 1, 100, 511, 512, 513, 1000, 1024 };
	static const unsigned lengths[] = { 1, 2, 11, 412, 511, 512, 513, 1024, 1100, 3000, 3072 };
	uint8_t *model = malloc(SIZE), memory[4096];
	unsigned seed = 1;

	memcpy(model, slow->bytes, SIZE);
	for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		for (unsigned j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
			unsigned at = offsets[i], length = lengths[j];

			cr_assert_eq(run(HV_READ, at, length, memory), 0);
			cr_assert_eq(memcmp(memory, model + at, length), 0, "%u+%u", at, length);
			for (unsigned k = 0; k < length; k++)
				memory[k] = (uint8_t)rand_r(&seed);
			memcpy(model + at, memory, length);
			cr_assert_eq(run(HV_WRITE, at, length, memory), 0);
			cr_assert_eq(memcmp(slow->bytes, model, SIZE), 0, "%u+%u", at, length);
			at += 8192;
			memset(model + at, 0, length);
			cr_assert_eq(run(j % 2 ? HV_ZERO : HV_DISCARD, at, length, NULL), 0);
			cr_assert_eq(memcmp(slow->bytes, model, SIZE), 0, "%u+%u", at, length);
		}
	}
	free(model);
}

Test(device, a_failure_within_an_unaligned_request_fails_it)
{
	uint8_t memory[1000] = { 0 };

	slow->fails = -EIO;
	cr_assert_eq(run(HV_WRITE, 100, 1000, memory), -EIO);
	slow->fails = -EIO;
	cr_assert_eq(run(HV_READ, 100, 1000, memory), -EIO);
	cr_assert_eq(run(HV_WRITE, 100, 1000, memory), 0);
	cr_assert_eq(vsp_telemetry_errors(&device->telemetry, HV_WRITE), 1);
}

Test(device, an_unaligned_change_is_alone_and_in_its_order)
{
	static uint8_t a[512], b[10], c[512], d[512];
	struct call before, odd, after, reading;

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	memset(c, 'c', sizeof(c));
	slow->holds = true;
	submit(&before, HV_WRITE, 0, 512, a, 0);
	submit(&odd, HV_WRITE, 100, 10, b, 0);
	submit(&after, HV_WRITE, 0, 512, c, 0);
	submit(&reading, HV_READ, 512, 512, d, 0);
	cr_assert_eq(slow->count, 2, "the first write and the read are with the disk");
	release();
	cr_assert_eq(before.times, 1);
	cr_assert_eq(slow->count, 2, "now the sector is read");
	release(); /* the read */
	cr_assert_eq(reading.times, 1);
	release();
	cr_assert_eq(after.times + odd.times, 0);
	release();
	cr_assert_eq(odd.times, 1);
	cr_assert_eq(slow->bytes[99], 'a');
	cr_assert_eq(slow->bytes[100], 'b');
	cr_assert_eq(slow->bytes[110], 'a');
	release();
	cr_assert_eq(after.times, 1);
	cr_assert_eq(slow->bytes[100], 'c');
	cr_assert_eq(slow->count, 0);
}

Test(device, several_unaligned_changes_follow_each_other)
{
	struct call calls[8];
	uint8_t memory[8];

	slow->holds = true;
	for (unsigned i = 0; i < 8; i++) {
		memory[i] = (uint8_t)(200 + i);
		submit(&calls[i], HV_WRITE, 10 + i, 1, &memory[i], 0);
	}
	for (unsigned i = 0; i < 16; i++) {
		cr_assert_eq(slow->count, 1);
		release();
	}
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_eq(calls[i].times, 1);
		cr_assert_eq(slow->bytes[10 + i], 200 + i);
	}
}

Test(device, long_ranges_go_in_pieces)
{
	uint64_t length = 3 * VSP_PIECE_BYTES + 512;

	slow->base.size_bytes = 4 * VSP_PIECE_BYTES;
	vsp_device_resized(device);
	cr_assert_eq(run(HV_ZERO, 512, length, NULL), 0);
	cr_assert_eq(slow->submitted, 4);
	cr_assert_eq(slow->longest, VSP_PIECE_BYTES);
	cr_assert_eq(vsp_telemetry_bytes(&device->telemetry, HV_ZERO), length);
}

Test(device, durability_is_passed_on)
{
	uint8_t memory[512] = { 0 };
	struct call call;

	submit(&call, HV_WRITE, 0, 512, memory, HV_IO_FUA);
	turn();
	cr_assert_eq(slow->flags, HV_IO_FUA);
	submit(&call, HV_WRITE, 1, 2, memory, HV_IO_FUA);
	turn();
	cr_assert_eq(slow->flags, HV_IO_FUA);
}

Test(unsafe_device, neither_flushes_nor_discards, .fini = teardown)
{
	struct vsp_device_options options = { .cache = VSP_CACHE_UNSAFE };
	uint8_t memory[512] = { 0 };
	struct call call;

	make(&options);
	cr_assert_eq(run(HV_FLUSH, 0, 0, NULL), 0);
	cr_assert_eq(slow->submitted, 0);
	submit(&call, HV_WRITE, 0, 512, memory, HV_IO_FUA);
	turn();
	cr_assert_eq(slow->flags, 0);
	cr_assert_eq(run(HV_DISCARD, 0, 512, NULL), 0);
	cr_assert_eq(slow->op, HV_ZERO, "a device without discard makes zeros");
}

struct listener {
	struct vsp_client client;
	unsigned resized, detached;
	bool stays;
};

static void on_resized(struct vsp_client *client)
{
	((struct listener *)client)->resized++;
}

static void on_detach(struct vsp_client *client)
{
	struct listener *listener = (struct listener *)client;

	listener->detached++;
	if (!listener->stays)
		vsp_device_detach(device, client);
}

Test(device, clients_hear_of_a_new_size_and_of_the_end)
{
	struct listener listeners[3] = { { .stays = false },
					 { .stays = true },
					 { .stays = false } };
	uint8_t memory[512];

	for (unsigned i = 0; i < 3; i++) {
		listeners[i].client =
			(struct vsp_client){ .resized = on_resized, .detach = on_detach };
		vsp_device_attach(device, &listeners[i].client);
	}
	slow->base.size_bytes = SIZE / 2;
	cr_assert_eq(device->size_bytes, SIZE);
	vsp_device_resized(device);
	cr_assert_eq(run(HV_READ, SIZE / 2, 512, memory), -EINVAL);
	cr_assert_not(vsp_device_is_idle(device));
	vsp_device_dismiss(device);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(listeners[i].resized, 1);
		cr_assert_eq(listeners[i].detached, 1);
	}
	cr_assert_not(vsp_device_is_idle(device), "one has not finished");
	vsp_device_detach(device, &listeners[1].client);
}

Test(device, a_request_keeps_a_device_from_being_idle)
{
	uint8_t memory[512];
	struct call call;

	slow->holds = true;
	submit(&call, HV_READ, 0, 512, memory, 0);
	turn();
	cr_assert_not(vsp_device_is_idle(device));
	release();
	cr_assert(vsp_device_is_idle(device));
}
