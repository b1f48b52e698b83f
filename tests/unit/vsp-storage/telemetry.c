/*
 * What devices count and remember, by a clock that the test turns.
 */
#include "vsp-storage/telemetry.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "hvcore/clock.h"
#include "vsp-storage/device.h"

#define MS UINT64_C(1000000)

static uint64_t now = 1000 * MS;
static struct vsp_telemetry telemetry;
static struct vsp_request requests[1000];

uint64_t hv_now_ns(void)
{
	return now;
}

static struct vsp_request *begin(unsigned i, enum hv_io_op op, uint64_t length)
{
	requests[i] = (struct vsp_request){ .op = op, .length = length, .start_ns = now };
	vsp_telemetry_begin(&telemetry, &requests[i]);
	return &requests[i];
}

static bool end(unsigned i, int result)
{
	return vsp_telemetry_end(&telemetry, &requests[i], result, now);
}

Test(telemetry, a_request_counts_in_the_class_of_its_length)
{
	static const struct {
		uint64_t length;
		unsigned class;
	} cases[] = {
		{ 0, 0 },          { 1, 0 },      { 4096, 0 },    { 4097, 1 },
		{ 16384, 1 },      { 16385, 2 },  { 65536, 2 },   { 65537, 3 },
		{ 262144, 3 },     { 262145, 4 }, { 1 << 20, 4 }, { (1 << 20) + 1, 5 },
		{ UINT64_MAX, 5 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vsp_op_stats *stats = &telemetry.stats[HV_READ][cases[i].class];
		uint64_t before = stats->latency_ns.count;

		cr_assert_leq(cases[i].length, vsp_size_limit(cases[i].class));
		cr_assert(!cases[i].class || cases[i].length > vsp_size_limit(cases[i].class - 1));
		begin(0, HV_READ, cases[i].length);
		end(0, 0);
		cr_assert_eq(stats->latency_ns.count, before + 1);
	}
	cr_assert_eq(vsp_telemetry_operations(&telemetry, HV_READ), 13);
	cr_assert_eq(vsp_telemetry_operations(&telemetry, HV_WRITE), 0);
}

Test(telemetry, bytes_are_of_what_succeeded)
{
	begin(0, HV_WRITE, 4096);
	begin(1, HV_WRITE, 1 << 20);
	now += 3 * MS;
	end(0, 0);
	end(1, -EIO);
	cr_assert_eq(vsp_telemetry_operations(&telemetry, HV_WRITE), 2);
	cr_assert_eq(vsp_telemetry_bytes(&telemetry, HV_WRITE), 4096);
	cr_assert_eq(vsp_telemetry_errors(&telemetry, HV_WRITE), 1);
	cr_assert_eq(telemetry.stats[HV_WRITE][0].latency_ns.max, 3 * MS);
}

Test(telemetry, depth_is_what_a_request_finds_with_itself)
{
	for (unsigned i = 0; i < 600; i++)
		begin(i, HV_READ, 512);
	cr_assert_eq(telemetry.depths[0], 1);
	cr_assert_eq(telemetry.depths[1], 1);
	cr_assert_eq(telemetry.depths[2], 2);
	cr_assert_eq(telemetry.depths[3], 4);
	cr_assert_eq(telemetry.depths[9], 256);
	cr_assert_eq(telemetry.depths[10], 600 - 512);
	cr_assert_eq(telemetry.depth_sum, 600 * 601 / 2);
	for (unsigned i = 0; i < 600; i++)
		end(i, 0);
	cr_assert_eq(telemetry.in_flight, 0);
}

Test(telemetry, busy_is_while_anything_is_in_flight)
{
	begin(0, HV_READ, 512);
	now += 2 * MS;
	begin(1, HV_READ, 512);
	now += 3 * MS;
	end(0, 0);
	cr_assert_eq(vsp_telemetry_busy_ns(&telemetry, now), 5 * MS);
	now += MS;
	cr_assert_eq(vsp_telemetry_busy_ns(&telemetry, now), 6 * MS);
	end(1, 0);
	now += 10 * MS;
	cr_assert_eq(vsp_telemetry_busy_ns(&telemetry, now), 6 * MS);
}

Test(telemetry, the_recorder_has_the_last_requests)
{
	for (unsigned i = 0; i < 1000; i++) {
		requests[i].offset = i;
		begin(i, HV_WRITE, 512)->offset = i;
		now += MS;
		end(i, i % 2 ? -EIO : 0);
	}
	cr_assert_eq(telemetry.last_count, 1000);
	for (unsigned i = 1000 - VSP_LAST_COUNT; i < 1000; i++) {
		const struct vsp_record *record = &telemetry.last[i % VSP_LAST_COUNT];

		cr_assert_eq(record->offset, i);
		cr_assert_eq(record->took_ns, MS);
		cr_assert_eq(record->result, i % 2 ? -EIO : 0);
		cr_assert_eq(record->op, HV_WRITE);
	}
}

Test(telemetry, those_in_flight_are_known_as_they_came)
{
	static const unsigned ends[] = { 1, 4, 0 }, left[] = { 2, 3 };
	const struct vsp_request *request;

	for (unsigned i = 0; i < 5; i++)
		begin(i, HV_READ, 512);
	for (unsigned i = 0; i < 3; i++)
		end(ends[i], 0);
	request = telemetry.oldest;
	for (unsigned i = 0; i < 2; i++, request = request->newer)
		cr_assert_eq(request, &requests[left[i]]);
	cr_assert_null(request);
	cr_assert_eq(telemetry.newest, &requests[3]);
	end(3, 0);
	end(2, 0);
	cr_assert_null(telemetry.oldest);
	cr_assert_null(telemetry.newest);
}

Test(telemetry, slow_is_from_the_threshold_on_and_without_what_limits_held)
{
	telemetry.slow_ns = 10 * MS;
	begin(0, HV_READ, 512);
	now += 10 * MS - 1;
	cr_assert_not(end(0, 0));
	begin(0, HV_READ, 512);
	now += 10 * MS;
	cr_assert(end(0, 0));
	begin(0, HV_READ, 512)->held_ns = 5 * MS;
	now += 14 * MS;
	cr_assert_not(end(0, 0));
	cr_assert_eq(telemetry.slow_count, 1);
	telemetry.slow_ns = 0;
	begin(0, HV_READ, 512);
	now += 100000 * MS;
	cr_assert_not(end(0, 0));
	cr_assert_eq(telemetry.slow_count, 1);
}
