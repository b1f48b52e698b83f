/*
 * Limits, fairness and guarantees, by a clock that the test turns, over disks that share a device
 * of which it is known how much it can do. Operations are counted, nothing is waited for.
 */
#include "vsp-storage/qos.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/clock.h"

#define SIZE (64u << 20)
#define DISKS 8
#define DEPTH 256
#define STEP_NS UINT64_C(50000)
#define QUEUE (DISKS * DEPTH)

struct shared_disk {
	struct hv_disk base;
	bool holds;
	struct hv_io *kept;
};

/* Somebody who keeps up to DEPTH requests in flight. */
struct guest {
	struct vsp_device *device;
	struct vsp_qos_member member;
	struct vsp_request request[DEPTH];
	unsigned long done;
	uint64_t done_bytes, slowest_ns;
	bool stops;
};

static struct hv_loop *loop;
static struct vsp_qos *qos, *other_qos; /* of another loop, as far as they can tell */
static bool spread;                     /* every second guest belongs to the other */
static struct vsp_vm_meter vm;
static struct guest guests[DISKS];
static uint64_t now = 1000000000;

/* The device of the host: one request after the other, each taking that long; 0: no time. */
static uint64_t service_ns, service_ns_per_kib, free_ns;
static struct {
	struct hv_io *io;
	uint64_t at;
} queue[QUEUE];
static unsigned queue_count, deepest;

uint64_t hv_now_ns(void)
{
	return now;
}

static void shared_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct shared_disk *shared = (struct shared_disk *)disk;
	uint64_t length = io->op == HV_FLUSH ? 0 : io->length;

	if (shared->holds) {
		shared->kept = io;
		return;
	}
	if (!service_ns) {
		hv_loop_finish(loop, io, 0);
		return;
	}
	if (free_ns < now)
		free_ns = now;
	free_ns += service_ns + service_ns_per_kib * (length >> 10);
	queue[queue_count].io = io;
	queue[queue_count++].at = free_ns;
	if (queue_count > deepest)
		deepest = queue_count;
}

static void serve_device(void)
{
	unsigned n = 0;

	while (n < queue_count && queue[n].at <= now)
		hv_loop_finish(loop, queue[n++].io, 0);
	queue_count -= n;
	memmove(queue, queue + n, queue_count * sizeof(queue[0]));
}

static void shared_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops shared_ops = { .format = "shared",
					       .submit = shared_submit,
					       .close = shared_close };

static void join(struct guest *guest, const struct vsp_limits *limits, struct vsp_vm_meter *shared)
{
	struct vsp_device_options options = { .discard = true };
	struct shared_disk *disk = calloc(1, sizeof(*disk));
	HV_ERR(err);

	disk->base = (struct hv_disk){ .ops = &shared_ops,
				       .loop = loop,
				       .path = "shared",
				       .size_bytes = SIZE,
				       .writable = true };
	cr_assert_eq(vsp_device_new(&disk->base, &options, &guest->device, &err), 0);
	cr_assert_eq(vsp_qos_join(spread && (guest - guests) % 2 ? other_qos : qos, &guest->member,
				  guest->device, limits, shared, &err),
		     0);
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
	uint64_t took = now - request->start_ns;

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
	static char memory[1 << 20]; /* nobody looks into it */
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
	uint64_t end = now + ms * UINT64_C(1000000);

	while (now < end) {
		now += STEP_NS;
		serve_device();
		vsp_qos_turn(qos);
		vsp_qos_turn(other_qos);
		for (int i = 0; i < 2; i++)
			hv_loop_serve(loop, 0);
	}
}

static void forget(void)
{
	for (int i = 0; i < DISKS; i++)
		guests[i].done = guests[i].done_bytes = guests[i].slowest_ns = 0;
}

static void setup(void)
{
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	cr_assert_eq(hv_loop_listen(loop, &err), 0);
	cr_assert_eq(vsp_qos_new(loop, &qos, &err), 0);
	cr_assert_eq(vsp_qos_new(loop, &other_qos, &err), 0);
}

static void teardown(void)
{
	for (int i = 0; i < DISKS; i++)
		guests[i].stops = true;
	for (int i = 0; i < DISKS; i++)
		vsp_qos_leave(&guests[i].member);
	run_for(10);
	while (queue_count)
		run_for(10);
	for (int i = 0; i < DISKS; i++) {
		cr_assert(!guests[i].device || vsp_device_is_idle(guests[i].device));
		vsp_device_free(guests[i].device);
	}
	vsp_qos_free(qos);
	vsp_qos_free(other_qos);
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

static void disks_of_a_vm_share_its_limit_whatever_their_depth(void)
{
	vsp_vm_meter_set(&vm, &(struct vsp_limits){ .iops = 2000, .iops_burst = 1 });
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

Test(qos, disks_of_a_vm_share_its_limit_whatever_their_depth)
{
	disks_of_a_vm_share_its_limit_whatever_their_depth();
}

Test(qos, disks_of_a_vm_on_two_loops_share_its_limit_whatever_their_depth)
{
	spread = true;
	disks_of_a_vm_share_its_limit_whatever_their_depth();
}

/* Those that came before there was anything to count are not among those that are counted. */
Test(qos, a_vm_is_given_a_limit_and_a_guarantee_while_it_works)
{
	const struct vsp_limits limits = { .iops = 1000, .iops_burst = 1, .iops_min = 500 };

	spread = true;
	service_ns = 100000;
	join(&guests[0], &(struct vsp_limits){ 0 }, &vm);
	join(&guests[1], &(struct vsp_limits){ 0 }, &vm);
	start(&guests[0], 16, 512);
	start(&guests[1], 16, 512);
	run_for(100);
	cr_assert_geq(guests[0].done + guests[1].done, 900);
	vsp_vm_meter_set(&vm, &limits);
	vsp_qos_changed(qos);
	vsp_qos_changed(other_qos);
	run_for(50);
	guests[0].done = guests[1].done = 0;
	run_for(1000);
	cr_assert_leq(guests[0].done + guests[1].done, 1040);
	cr_assert_geq(guests[0].done + guests[1].done, 900);
	cr_assert_leq(vm.meter.guarantee.present, 32);
	vsp_vm_meter_set(&vm, &(struct vsp_limits){ 0 });
	vsp_qos_changed(qos);
	vsp_qos_changed(other_qos);
	guests[0].done = guests[1].done = 0;
	run_for(100);
	cr_assert_geq(guests[0].done + guests[1].done, 900);
}

Test(qos, the_tighter_of_disk_and_vm_counts)
{
	vsp_vm_meter_set(&vm, &(struct vsp_limits){ .iops = 2000, .iops_burst = 1 });
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
	struct shared_disk *disk;

	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	disk = (struct shared_disk *)guests[0].device->disk;
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

Test(qos, a_burst_comes_back_with_rest)
{
	join(&guests[0], &(struct vsp_limits){ .iops = 100, .iops_burst = 40 }, NULL);
	start(&guests[0], 64, 512);
	run_for(1);
	cr_assert_eq(guests[0].done, 40);
	run_for(100);
	cr_assert_geq(guests[0].done, 49);
	cr_assert_leq(guests[0].done, 51);
	guests[0].stops = true;
	run_for(2000);
	guests[0].stops = false;
	forget();
	start(&guests[0], 64, 512);
	run_for(1);
	cr_assert_geq(guests[0].done, 39);
	cr_assert_leq(guests[0].done, 41);
}

/* Fairness. */

Test(qos, who_is_alone_may_have_any_number_of_requests_at_the_disk)
{
	service_ns = 1000000;
	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[0], DEPTH, 512);
	cr_assert_eq(deepest, DEPTH);
	cr_assert_eq(guests[0].member.delayed, 0);
}

static void disks_share_a_device_alike_whatever_their_depth(void)
{
	static const unsigned depths[] = { 256, 16, 64, 20 };

	service_ns = 500000;
	for (int i = 0; i < 4; i++) {
		join(&guests[i], &(struct vsp_limits){ 0 }, NULL);
		start(&guests[i], depths[i], 4096);
	}
	run_for(1000);
	forget();
	run_for(2000);
	for (int i = 0; i < 4; i++) {
		cr_assert_geq(guests[i].done, 900, "%d: %lu", i, guests[i].done);
		cr_assert_leq(guests[i].done, 1100, "%d: %lu", i, guests[i].done);
	}
}

Test(qos, disks_share_a_device_alike_whatever_their_depth)
{
	disks_share_a_device_alike_whatever_their_depth();
}

Test(qos, so_do_disks_of_two_loops)
{
	spread = true;
	disks_share_a_device_alike_whatever_their_depth();
}

Test(qos, large_requests_cost_more_turns)
{
	service_ns = 100000;
	service_ns_per_kib = service_ns / 32;
	for (int i = 0; i < 2; i++) {
		join(&guests[i], &(struct vsp_limits){ 0 }, NULL);
		start(&guests[i], 64, i ? 256 << 10 : 4096);
	}
	run_for(2000);
	forget();
	run_for(4000);
	/* Time of the device, of which the test knows the price. */
	cr_assert_geq(guests[0].done * 9 / 8, guests[1].done * 9 * 9 / 10, "%lu, %lu",
		      guests[0].done, guests[1].done);
	cr_assert_leq(guests[0].done * 9 / 8, guests[1].done * 9 * 11 / 10, "%lu, %lu",
		      guests[0].done, guests[1].done);
}

static void a_deep_queue_does_not_bury_a_quiet_disk(void)
{
	service_ns = 100000;
	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[0], DEPTH, 4096);
	start(&guests[1], 1, 4096);
	run_for(200);
	forget();
	run_for(1000);
	cr_assert_eq(guests[1].member.delayed, 0);
	cr_assert_leq(guests[1].slowest_ns,
		      (2 * VSP_QOS_WINDOW_EACH + 2) * service_ns + 2 * STEP_NS);
	cr_assert_geq(guests[0].done + guests[1].done, 9900);
}

Test(qos, a_deep_queue_does_not_bury_a_quiet_disk)
{
	a_deep_queue_does_not_bury_a_quiet_disk();
}

Test(qos, nor_one_of_another_loop)
{
	spread = true;
	a_deep_queue_does_not_bury_a_quiet_disk();
}

static void when_others_have_gone_nothing_waits(void)
{
	service_ns = 100000;
	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[0], DEPTH, 4096);
	start(&guests[1], 32, 4096);
	run_for(100);
	cr_assert_gt(guests[0].member.held_count, 0);
	guests[1].stops = true;
	run_for(50 + VSP_QOS_BUSY_NS / 1000000 + 50);
	cr_assert_eq(guests[0].member.held_count, 0);
	cr_assert_eq(guests[0].member.sent_count, DEPTH);
}

Test(qos, when_others_have_gone_nothing_waits)
{
	when_others_have_gone_nothing_waits();
}

Test(qos, nor_when_those_of_another_loop_have_gone)
{
	spread = true;
	when_others_have_gone_nothing_waits();
}

/* Nobody tells its loop that somebody else would like to know. */
Test(qos, a_disk_of_another_loop_that_rests_is_in_nobodys_way)
{
	spread = true;
	service_ns = 100000;
	join(&guests[0], &(struct vsp_limits){ 0 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	guests[1].stops = true;
	start(&guests[1], 1, 4096);
	run_for(10);
	start(&guests[0], DEPTH, 4096);
	cr_assert_gt(guests[0].member.held_count, 0);
	run_for(2 * VSP_QOS_BUSY_NS / 1000000 + 100);
	cr_assert_eq(guests[0].member.held_count, 0);
	cr_assert_eq(guests[0].member.sent_count, DEPTH);
}

/* Guarantees. */

/* Runs two disks, of which the first has the limits, on a device of 1000 operations a second. */
static void contend(const struct vsp_limits *limits, unsigned depth, unsigned others_depth)
{
	service_ns = 1000000;
	join(&guests[0], limits, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[1], others_depth, 4096);
	start(&guests[0], depth, 4096);
	run_for(5000);
	forget();
	run_for(5000);
}

static void a_guaranteed_minimum_is_honoured_under_contention(void)
{
	contend(&(struct vsp_limits){ .iops_min = 800 }, 64, DEPTH);
	cr_assert_geq(guests[0].done, 3900, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 400, "%lu", guests[1].done);
	cr_assert_geq(guests[0].done + guests[1].done, 4950);
}

Test(qos, a_guaranteed_minimum_is_honoured_under_contention)
{
	a_guaranteed_minimum_is_honoured_under_contention();
}

Test(qos, so_it_is_when_the_others_belong_to_another_loop)
{
	spread = true;
	a_guaranteed_minimum_is_honoured_under_contention();
}

static void a_guarantee_is_honoured_for_a_shallow_queue(void)
{
	contend(&(struct vsp_limits){ .iops_min = 300 }, 2, DEPTH);
	cr_assert_geq(guests[0].done, 1450, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 1500, "%lu", guests[1].done);
	cr_assert_geq(guests[0].done + guests[1].done, 4900);
}

Test(qos, a_guarantee_is_honoured_for_a_shallow_queue)
{
	a_guarantee_is_honoured_for_a_shallow_queue();
}

Test(qos, so_it_is_beside_another_loop)
{
	spread = true;
	a_guarantee_is_honoured_for_a_shallow_queue();
}

Test(qos, a_guarantee_of_bytes_is_honoured)
{
	contend(&(struct vsp_limits){ .bandwidth_min = 700 * 4096 }, 64, DEPTH);
	cr_assert_geq(guests[0].done, 3400, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 500, "%lu", guests[1].done);
}

Test(qos, a_guarantee_is_of_the_time_with_something_to_do)
{
	service_ns = 1000000;
	join(&guests[0], &(struct vsp_limits){ .iops_min = 250 }, NULL);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[1], DEPTH, 4096);
	guests[0].stops = true; /* one request every 40 ms */
	for (int i = 0; i < 250; i++) {
		if (i == 125)
			forget();
		start(&guests[0], 1, 4096);
		run_for(40);
	}
	cr_assert_geq(guests[0].done, 124, "%lu", guests[0].done);
	cr_assert_leq(guests[0].done, 126, "%lu", guests[0].done);
	cr_assert_leq(guests[0].slowest_ns, 10 * service_ns, "%lu us",
		      (unsigned long)guests[0].slowest_ns / 1000);
	cr_assert_geq(guests[0].done + guests[1].done, 4950);
}

static void disks_of_a_vm_share_its_guarantee(void)
{
	service_ns = 1000000;
	vsp_vm_meter_set(&vm, &(struct vsp_limits){ .iops_min = 800 });
	join(&guests[0], &(struct vsp_limits){ 0 }, &vm);
	join(&guests[1], &(struct vsp_limits){ 0 }, &vm);
	join(&guests[2], &(struct vsp_limits){ 0 }, NULL);
	for (int i = 0; i < 3; i++)
		start(&guests[i], 64, 4096);
	run_for(5000);
	forget();
	run_for(5000);
	cr_assert_geq(guests[0].done + guests[1].done, 3900, "%lu + %lu", guests[0].done,
		      guests[1].done);
}

Test(qos, disks_of_a_vm_share_its_guarantee)
{
	disks_of_a_vm_share_its_guarantee();
	cr_assert_geq(guests[0].done * 10, guests[1].done * 9);
	cr_assert_geq(guests[1].done * 10, guests[0].done * 9);
}

/* One of them has its loop for itself, the other does not. */
Test(qos, disks_of_a_vm_on_two_loops_share_its_guarantee)
{
	spread = true;
	disks_of_a_vm_share_its_guarantee();
	cr_assert_geq(guests[0].done, 1000, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 1000, "%lu", guests[1].done);
}

Test(qos, a_guarantee_changes_while_requests_wait)
{
	contend(&(struct vsp_limits){ 0 }, 64, 64);
	cr_assert_leq(guests[0].done, 2600);
	vsp_meter_set(&guests[0].member.own, &(struct vsp_limits){ .iops_min = 800 });
	run_for(3000);
	forget();
	run_for(5000);
	cr_assert_geq(guests[0].done, 3900, "%lu", guests[0].done);
	vsp_meter_set(&guests[0].member.own, &(struct vsp_limits){ 0 });
	vsp_qos_changed(qos);
	run_for(3000);
	forget();
	run_for(5000);
	cr_assert_leq(guests[0].done, 2750, "%lu", guests[0].done);
	cr_assert_geq(guests[0].done, 2250, "%lu", guests[0].done);
}

Test(qos, guarantees_that_nobody_can_honour_starve_nobody)
{
	service_ns = 1000000;
	for (int i = 0; i < 3; i++) {
		join(&guests[i], &(struct vsp_limits){ .iops_min = i < 2 ? 900 : 0 }, NULL);
		start(&guests[i], 64, 4096);
	}
	run_for(5000);
	forget();
	run_for(5000);
	for (int i = 0; i < 2; i++)
		cr_assert_geq(guests[i].done, 1800, "%d: %lu", i, guests[i].done);
	cr_assert_gt(guests[2].done, 10);
	cr_assert_geq(guests[0].done + guests[1].done + guests[2].done, 4900);
}

static void of_two_guarantees_the_larger_gets_longer_turns(void)
{
	service_ns = 1000000;
	join(&guests[0], &(struct vsp_limits){ .iops_min = 750 }, NULL);
	join(&guests[1], &(struct vsp_limits){ .iops_min = 100 }, NULL);
	for (int i = 0; i < 2; i++)
		start(&guests[i], 64, 4096);
	run_for(5000);
	forget();
	run_for(5000);
	cr_assert_geq(guests[0].done, 3600, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 500, "%lu", guests[1].done);
}

Test(qos, of_two_guarantees_the_larger_gets_longer_turns)
{
	of_two_guarantees_the_larger_gets_longer_turns();
}

Test(qos, of_two_guarantees_of_two_loops_both_are_honoured)
{
	spread = true;
	of_two_guarantees_the_larger_gets_longer_turns();
}

Test(qos, who_waits_for_a_limit_is_not_short)
{
	vsp_vm_meter_set(&vm, &(struct vsp_limits){ .iops = 100 });
	service_ns = 1000000;
	join(&guests[0], &(struct vsp_limits){ .iops_min = 400 }, &vm);
	join(&guests[1], &(struct vsp_limits){ 0 }, NULL);
	start(&guests[0], 64, 4096);
	start(&guests[1], DEPTH, 4096);
	run_for(3000);
	cr_assert_geq(guests[1].member.sent_count, VSP_QOS_WINDOW_EACH);
	cr_assert_eq(guests[0].member.quantum, 1);
}

Test(qos, who_waits_for_its_own_limit_is_not_short)
{
	contend(&(struct vsp_limits){ .iops = 100, .iops_min = 400 }, 64, DEPTH);
	cr_assert_leq(guests[0].done, 510, "%lu", guests[0].done);
	cr_assert_geq(guests[1].done, 4400, "%lu", guests[1].done);
}

static void who_leaves_while_others_contend_leaves_nothing_behind(void)
{
	contend(&(struct vsp_limits){ .iops_min = 800 }, 64, DEPTH);
	guests[0].stops = true;
	vsp_qos_leave(&guests[0].member);
	run_for(2000);
	cr_assert_eq(guests[1].member.held_count, 0);
	cr_assert_eq(guests[1].member.sent_count, DEPTH);
}

Test(qos, who_leaves_while_others_contend_leaves_nothing_behind)
{
	who_leaves_while_others_contend_leaves_nothing_behind();
}

Test(qos, nor_does_who_leaves_another_loop)
{
	spread = true;
	who_leaves_while_others_contend_leaves_nothing_behind();
}
