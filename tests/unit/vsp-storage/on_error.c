/*
 * A device over a disk in memory whose storage fails: what is kept, and when it goes on.
 */
#include "vsp-storage/on_error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hvcore/iov.h"
#include "vsp-storage/device.h"
#include "vsp-storage/qos.h"

#define SIZE (1u << 20)

struct failing_disk {
	struct hv_disk base;
	uint8_t bytes[SIZE];
	int fails;          /* the result of all changes; 0: they are carried out */
	unsigned submitted; /* ever */
};

static struct hv_loop *loop;
static struct failing_disk *failing;
static struct vsp_device *device;
static unsigned told_stopped, told_resumed;

static void failing_submit(struct hv_disk *disk, struct hv_io *io)
{
	int result = io->op == HV_READ ? 0 : failing->fails;

	(void)disk;
	failing->submitted++;
	if (result)
		hv_fail(io->err, result, "failing: no luck");
	else if (io->op == HV_READ)
		hv_iov_scatter(io->iov, io->iov_count, 0, failing->bytes + io->offset, io->length);
	else if (io->op == HV_WRITE)
		hv_iov_gather(io->iov, io->iov_count, 0, failing->bytes + io->offset, io->length);
	else if (io->op != HV_FLUSH)
		memset(failing->bytes + io->offset, 0, io->length);
	/* As layers below may. */
	io->offset = io->length = 77;
	hv_loop_finish(loop, io, result);
}

static void failing_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops failing_ops = { .format = "failing",
						.submit = failing_submit,
						.close = failing_close };

static void told(void *arg, struct vsp_device *of)
{
	cr_assert_eq(arg, &device);
	cr_assert_eq(of, device);
	if (of->on_error.code) {
		told_stopped++;
		cr_assert_str_eq(of->on_error.why, "failing: no luck");
	} else {
		told_resumed++;
	}
}

static void make(bool stops)
{
	struct vsp_device_options options = { .discard = true, .stops = stops };
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	failing = calloc(1, sizeof(*failing));
	failing->base = (struct hv_disk){ .ops = &failing_ops,
					  .loop = loop,
					  .path = "failing",
					  .size_bytes = SIZE,
					  .writable = true };
	cr_assert_eq(vsp_device_new(&failing->base, &options, &device, &err), 0);
	device->on_error.told = told;
	device->on_error.told_arg = &device;
	/* So that a loop without a policy can be served, too. */
	cr_assert_eq(hv_loop_listen(loop, &err), 0);
	told_stopped = told_resumed = 0;
}

static void setup(void)
{
	make(true);
}

static void teardown(void)
{
	cr_assert(vsp_device_is_idle(device));
	vsp_device_free(device);
	hv_loop_free(loop);
}

TestSuite(on_error, .init = setup, .fini = teardown);

struct call {
	struct vsp_request request; /* the first member */
	struct iovec iov;
	uint8_t data[8192];
	unsigned times;
	int result;
};

static void call_done(struct vsp_request *request, int result)
{
	struct call *call = (struct call *)request;

	call->times++;
	call->result = result;
}

static void submit(struct call *call, enum hv_io_op op, uint64_t offset, uint64_t length,
		   uint8_t fill)
{
	memset(call->data, fill, sizeof(call->data));
	call->iov = (struct iovec){ call->data, length };
	call->times = 0;
	call->request.io =
		(struct hv_io){ .op = op,
				.offset = offset,
				.length = length,
				.iov = op == HV_READ || op == HV_WRITE ? &call->iov : NULL,
				.iov_count = op == HV_READ || op == HV_WRITE };
	call->request.done = call_done;
	vsp_device_submit(device, &call->request);
}

static void turn(void)
{
	for (int i = 0; i < 20; i++)
		hv_loop_serve(loop, 0);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Serves until the call has ended; how many milliseconds that took. */
static uint64_t await(const struct call *call)
{
	uint64_t start = now_ms();

	while (!call->times && now_ms() < start + 20000)
		hv_loop_serve(loop, 10);
	cr_assert_eq(call->times, 1);
	return now_ms() - start;
}

static void stop(struct call *call, int code)
{
	failing->fails = code;
	submit(call, HV_WRITE, 4096, 4096, 1);
	turn();
	cr_assert_eq(device->on_error.code, code);
	cr_assert_eq(call->times, 0);
	cr_assert_eq(told_stopped, 1);
}

Test(on_error, what_failed_and_what_follows_wait_until_there_is_space)
{
	struct call first, second, read;

	stop(&first, -ENOSPC);
	submit(&second, HV_WRITE, 8192, 512, 2);
	submit(&read, HV_READ, 4096, 4096, 0);
	turn();
	cr_assert_eq(failing->submitted, 1, "asked although it has stopped");
	cr_assert_eq(device->on_error.kept_count, 3);
	failing->fails = 0;
	cr_assert_geq(await(&first), VSP_RETRY_MIN_MS / 2);
	turn();
	cr_assert(first.result == 0 && second.result == 0 && read.result == 0);
	cr_assert(second.times == 1 && read.times == 1);
	cr_assert_eq(read.data[4095], 1);
	cr_assert_eq(failing->bytes[8192 + 511], 2);
	cr_assert_eq(failing->bytes[4095], 0);
	cr_assert_eq(told_resumed, 1);
	cr_assert_eq(device->on_error.code, 0);
}

Test(on_error, tries_again_and_again_and_less_often)
{
	struct call call;
	uint64_t start = now_ms();

	stop(&call, -EIO);
	while (failing->submitted < 3 && now_ms() < start + 20000)
		hv_loop_serve(loop, 10);
	cr_assert_geq(now_ms() - start, 3 * VSP_RETRY_MIN_MS - 100, "after 1 and 2 seconds");
	cr_assert_eq(failing->submitted, 3);
	cr_assert(told_stopped == 1 && told_resumed == 0, "stopped once");
	failing->fails = 0;
	cr_assert_eq(vsp_on_error_resume(device, NULL), 0);
	cr_assert_leq(await(&call), VSP_RETRY_MIN_MS / 2, "at once");
	cr_assert_eq(call.result, 0);
	cr_assert_eq(told_resumed, 1);
}

Test(on_error, only_what_runs_can_stop_and_only_what_has_stopped_resume)
{
	HV_ERR(err);

	cr_assert_eq(vsp_on_error_resume(device, &err), -EINVAL);
	cr_assert(strstr(err.sentence, "has not stopped"));
}

Test(on_error, what_is_no_fault_of_the_storage_is_reported)
{
	struct call past, flush, odd;

	submit(&past, HV_WRITE, SIZE, 512, 1);
	await(&past);
	cr_assert_eq(past.result, -ENOSPC, "past the end");
	failing->fails = -EIO;
	submit(&flush, HV_FLUSH, 0, 0, 0);
	await(&flush);
	cr_assert_eq(flush.result, -EIO, "none can succeed any more");
	failing->fails = -ENOTSUP;
	submit(&odd, HV_ZERO, 0, 512, 0);
	await(&odd);
	cr_assert_eq(odd.result, -ENOTSUP);
	cr_assert_eq(told_stopped, 0);
}

Test(on_error, an_unaligned_change_and_those_behind_it_wait_too)
{
	struct call unaligned, behind;

	failing->fails = -ENOSPC;
	submit(&unaligned, HV_WRITE, 100, 1000, 3);
	submit(&behind, HV_WRITE, 0, 512, 4);
	turn();
	cr_assert(!unaligned.times && !behind.times && device->on_error.code == -ENOSPC);
	failing->fails = 0;
	cr_assert_eq(vsp_on_error_resume(device, NULL), 0);
	await(&unaligned);
	await(&behind);
	cr_assert(unaligned.result == 0 && behind.result == 0);
	cr_assert_eq(failing->bytes[1099], 3);
	cr_assert_eq(failing->bytes[1100], 0);
}

Test(on_error, another_policy_lets_go)
{
	struct call call, later;

	stop(&call, -ENOSPC);
	submit(&later, HV_READ, 0, 512, 1);
	cr_assert_eq(vsp_on_error_set(device, false, NULL), 0);
	await(&call);
	cr_assert_eq(call.result, -ENOSPC);
	await(&later);
	cr_assert_eq(later.result, 0);
	cr_assert_eq(device->on_error.code, 0);
}

Test(on_error, a_try_under_way_may_find_another_policy)
{
	struct call call;

	stop(&call, -ENOSPC);
	cr_assert_eq(vsp_on_error_resume(device, NULL), 0);
	cr_assert_eq(vsp_on_error_set(device, false, NULL), 0);
	await(&call);
	cr_assert_eq(call.result, -ENOSPC);
	cr_assert_eq(device->on_error.kept_count, 0);
}

static bool is_given(const struct vsp_request *request, const void *arg)
{
	return request == arg;
}

Test(on_error, who_does_not_wait_has_his_requests_back)
{
	struct call first, mine;

	stop(&first, -ENOSPC);
	submit(&mine, HV_WRITE, 0, 512, 5);
	vsp_on_error_give_back(device, is_given, &mine);
	cr_assert(mine.times == 1 && mine.result == -ECANCELED);
	cr_assert_eq(first.times, 0);
	vsp_on_error_give_back(device, is_given, &first);
	cr_assert(first.times == 1 && first.result == -ECANCELED);
	cr_assert(vsp_device_is_idle(device));
	/* Nothing is left to try: the next request will tell. */
	failing->fails = 0;
	submit(&mine, HV_WRITE, 0, 512, 6);
	await(&mine);
	cr_assert_eq(mine.result, 0);
}

static unsigned heard;

static void hears(struct vsp_client *client)
{
	(void)client;
	heard++;
}

Test(on_error, clients_hear_of_each_request_that_is_kept)
{
	struct vsp_client client = { .kept = hears }, deaf = { 0 };
	struct call call;

	heard = 0;
	vsp_device_attach(device, &client);
	vsp_device_attach(device, &deaf);
	stop(&call, -ENOSPC);
	cr_assert_eq(heard, 1);
	cr_assert_eq(vsp_on_error_resume(device, NULL), 0);
	turn();
	cr_assert_eq(heard, 2);
	vsp_on_error_give_back(device, is_given, &call);
	vsp_device_detach(device, &client);
	vsp_device_detach(device, &deaf);
}

Test(on_error, what_is_kept_is_not_with_the_disk)
{
	static const struct vsp_limits none;
	struct vsp_qos_member member;
	struct vsp_qos *qos;
	struct call call, later;

	cr_assert_eq(vsp_qos_new(loop, &qos, NULL), 0);
	cr_assert_eq(vsp_qos_join(qos, &member, device, &none, NULL, NULL), 0);
	stop(&call, -ENOSPC);
	submit(&later, HV_READ, 0, 512, 0);
	cr_assert_eq(member.sent_count, 0, "room is taken from others");
	vsp_qos_pause(&member);
	cr_assert(vsp_qos_is_quiet(&member));
	vsp_qos_resume(&member);
	failing->fails = 0;
	cr_assert_eq(vsp_on_error_resume(device, NULL), 0);
	await(&call);
	await(&later);
	cr_assert_eq(member.sent_count, 0);
	vsp_qos_leave(&member);
	vsp_qos_free(qos);
}

static void setup_reporting(void)
{
	make(false);
}

Test(reporting, errors_are_reported_unless_asked_for, .init = setup_reporting, .fini = teardown)
{
	struct call call;

	failing->fails = -ENOSPC;
	submit(&call, HV_WRITE, 0, 512, 1);
	await(&call);
	cr_assert_eq(call.result, -ENOSPC);
	cr_assert_eq(device->on_error.code, 0);
	cr_assert_eq(vsp_on_error_set(device, true, NULL), 0);
	stop(&call, -ENOSPC);
	failing->fails = 0;
	await(&call);
	cr_assert_eq(call.result, 0);
}
