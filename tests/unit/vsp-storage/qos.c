/*
 * Limits of rate, over a disk that answers at once.
 */
#include "vsp-storage/qos.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

#define SIZE (64u << 20)
#define DISKS 3

struct instant_disk {
	struct hv_disk base;
	bool holds;
	struct hv_io *kept;
};

/* Somebody who keeps `depth` requests of `length` bytes in flight. */
struct guest {
	struct vsp_device *device;
	struct vsp_qos_member member;
	struct vsp_request request[32];
	unsigned long done;
	uint64_t done_bytes, slowest_ns;
	bool stops;
};

static struct hv_loop *loop;
static struct vsp_qos *qos;
static struct vsp_meter vm;
static struct guest guests[DISKS];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void instant_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct instant_disk *instant = (struct instant_disk *)disk;

	if (instant->holds)
		instant->kept = io;
	else
		hv_loop_finish(loop, io, 0);
}

static void instant_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops instant_ops = { .format = "instant",
						.submit = instant_submit,
						.close = instant_close };

static void join(struct guest *guest, const struct vsp_limits *limits, struct vsp_meter *shared)
{
	struct vsp_device_options options = { .discard = true };
	struct instant_disk *disk = calloc(1, sizeof(*disk));
	HV_ERR(err);

	disk->base = (struct hv_disk){ .ops = &instant_ops,
				       .loop = loop,
				       .path = "instant",
				       .size_bytes = SIZE,
				       .writable = true };
	cr_assert_eq(vsp_device_new(&disk->base, &options, &guest->device, &err), 0);
	vsp_qos_join(qos, &guest->member, guest->device, limits, shared);
}

static void send(struct vsp_request *request);

static struct guest *guest_of(const struct vsp_request *request)
{
	size_t index = (size_t)((const char *)request - (const char *)guests) / sizeof(guests[0]);

	return &guests[index];
}

static void finished(struct vsp_request *request, int result)
{
	struct guest *guest = guest_of(request);
	uint64_t took = now_ns() - request->start_ns;

	cr_assert_eq(result, 0);
	guest->done++;
	guest->done_bytes += request->length;
	if (took > guest->slowest_ns)
		guest->slowest_ns = took;
	if (!guest->stops)
		send(request);
}

static void send(struct vsp_request *request)
{
	static char memory[1 << 20];
	static struct iovec iov;
	uint64_t length = request->io.length;

	iov = (struct iovec){ memory, sizeof(memory) };
	request->io =
		(struct hv_io){ .op = HV_WRITE, .length = length, .iov = &iov, .iov_count = 1 };
	request->done = finished;
	vsp_device_submit(guest_of(request)->device, request);
}

static void start(struct guest *guest, unsigned depth, uint64_t length)
{
	for (unsigned i = 0; i < depth; i++) {
		guest->request[i].io.length = length;
		send(&guest->request[i]);
	}
}

static void run_for(unsigned ms)
{
	uint64_t end = now_ns() + ms * UINT64_C(1000000);

	while (now_ns() < end)
		hv_loop_serve(loop, 1);
}

static void setup(void)
{
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	cr_assert_eq(hv_loop_listen(loop, &err), 0);
	cr_assert_eq(vsp_qos_new(loop, &qos, &err), 0);
}

static void teardown(void)
{
	for (int i = 0; i < DISKS; i++)
		guests[i].stops = true;
	for (int i = 0; i < DISKS; i++)
		vsp_qos_leave(&guests[i].member);
	run_for(10);
	for (int i = 0; i < DISKS; i++) {
		cr_assert(!guests[i].device || vsp_device_is_idle(guests[i].device));
		vsp_device_free(guests[i].device);
	}
	vsp_qos_free(qos);
	hv_loop_free(loop);
}

TestSuite(qos, .init = setup, .fini = teardown);

Test(qos, operations_keep_to_their_rate)
{
	join(&guests[0], &(struct vsp_limits){ .iops = 1000, .iops_burst = 50 }, NULL);
	start(&guests[0], 16, 512);
	run_for(300);
	cr_assert_leq(guests[0].done, 50 + 301 + 20, "%lu", guests[0].done);
	cr_assert_geq(guests[0].done, 50 + 200, "%lu", guests[0].done);
	cr_assert_gt(guests[0].member.delayed, 100);
}

Test(qos, bytes_keep_to_their_rate)
{
	join(&guests[0], &(struct vsp_limits){ .bandwidth = 10 << 20, .bandwidth_burst = 1 << 20 },
	     NULL);
	start(&guests[0], 4, 64 << 10);
	run_for(300);
	cr_assert_leq(guests[0].done_bytes, (1 << 20) + (310 * (10u << 20)) / 1000 + (256 << 10));
	cr_assert_geq(guests[0].done_bytes, (1 << 20) + (200 * (10u << 20)) / 1000);
}

Test(qos, a_request_larger_than_the_burst_goes_and_is_paid_for_afterwards)
{
	join(&guests[0], &(struct vsp_limits){ .bandwidth = 4 << 20, .bandwidth_burst = 64 << 10 },
	     NULL);
	start(&guests[0], 1, 1 << 20);
	run_for(100);
	cr_assert_eq(guests[0].done, 1);
	run_for(400);
	cr_assert_geq(guests[0].done, 2);
	cr_assert_leq(guests[0].done, 3);
}

Test(qos, a_noisy_disk_does_not_slow_a_quiet_one)
{
	join(&guests[0], &(struct vsp_limits){ .iops = 500, .iops_burst = 10 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[0], 32, 4096);
	for (int i = 0; i < 50; i++) {
		guests[1].stops = true; /* one at a time */
		start(&guests[1], 1, 4096);
		run_for(4);
	}
	cr_assert_eq(guests[1].done, 50);
	cr_assert_eq(guests[1].member.delayed, 0);
	cr_assert_lt(guests[1].slowest_ns, 5000000, "%lu ns", (unsigned long)guests[1].slowest_ns);
	cr_assert_gt(guests[0].slowest_ns, 10000000);
	cr_assert_leq(guests[0].done, 10 + 150 + 32, "%lu", guests[0].done);
}

Test(qos, disks_of_a_vm_share_its_limit_whatever_their_depth)
{
	vsp_meter_set(&vm, &(struct vsp_limits){ .iops = 2000, .iops_burst = 1 });
	join(&guests[0], &(struct vsp_limits){ 0 }, &vm);
	join(&guests[1], &(struct vsp_limits){ 0 }, &vm);
	start(&guests[0], 32, 512);
	start(&guests[1], 2, 512);
	run_for(300);
	cr_assert_leq(guests[0].done + guests[1].done, 650);
	cr_assert_geq(guests[0].done + guests[1].done, 400);
	cr_assert_geq(guests[1].done * 10, guests[0].done * 9, "%lu, %lu", guests[1].done,
		      guests[0].done);
	cr_assert_geq(guests[0].done * 10, guests[1].done * 9);
}

Test(qos, the_tighter_of_disk_and_vm_counts)
{
	vsp_meter_set(&vm, &(struct vsp_limits){ .iops = 2000, .iops_burst = 1 });
	join(&guests[0], &(struct vsp_limits){ .iops = 200, .iops_burst = 1 }, &vm);
	join(&guests[1], &(struct vsp_limits){ 0 }, &vm);
	start(&guests[0], 8, 512);
	start(&guests[1], 8, 512);
	run_for(300);
	cr_assert_leq(guests[0].done, 75);
	cr_assert_geq(guests[0].done, 40);
	cr_assert_geq(guests[1].done, 350);
}

Test(qos, limits_change_while_requests_wait)
{
	join(&guests[0], &(struct vsp_limits){ .iops = 1 }, NULL);
	start(&guests[0], 8, 512);
	run_for(30);
	cr_assert_eq(guests[0].done, 1);
	vsp_meter_set(&guests[0].member.own, &(struct vsp_limits){ .iops = 1000 });
	vsp_qos_changed(qos);
	run_for(100);
	cr_assert_geq(guests[0].done, 60);
	vsp_meter_set(&guests[0].member.own, &(struct vsp_limits){ 0 });
	vsp_qos_changed(qos);
	guests[0].done = 0;
	run_for(50);
	cr_assert_gt(guests[0].done, 1000);
}

Test(qos, a_change_gives_no_burst_away)
{
	struct vsp_limits limits = { .iops = 10, .iops_burst = 10 };

	join(&guests[0], &limits, NULL);
	start(&guests[0], 16, 512);
	run_for(10);
	cr_assert_eq(guests[0].done, 10);
	limits.iops = 11;
	for (int i = 0; i < 5; i++) {
		vsp_meter_set(&guests[0].member.own, &limits);
		vsp_qos_changed(qos);
	}
	run_for(10);
	cr_assert_leq(guests[0].done, 12);
}

Test(qos, a_paused_disk_gets_quiet_and_goes_on)
{
	struct instant_disk *disk;

	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	disk = (struct instant_disk *)guests[0].device->disk;
	guests[0].stops = true;
	disk->holds = true;
	start(&guests[0], 1, 512);
	vsp_qos_pause(&guests[0].member);
	guests[0].request[1].io.length = 512;
	send(&guests[0].request[1]);
	run_for(5);
	cr_assert_not(vsp_qos_is_quiet(&guests[0].member));
	disk->holds = false;
	hv_loop_finish(loop, disk->kept, 0);
	run_for(5);
	cr_assert(vsp_qos_is_quiet(&guests[0].member));
	cr_assert_eq(guests[0].done, 1);
	vsp_qos_resume(&guests[0].member);
	run_for(5);
	cr_assert_eq(guests[0].done, 2);
}

Test(qos, who_leaves_waits_no_longer)
{
	join(&guests[0], &(struct vsp_limits){ .iops = 1 }, NULL);
	guests[0].stops = true;
	start(&guests[0], 8, 512);
	run_for(5);
	cr_assert_eq(guests[0].done, 1);
	vsp_qos_leave(&guests[0].member);
	run_for(5);
	cr_assert_eq(guests[0].done, 8);
}
