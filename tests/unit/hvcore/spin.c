/*
 * How long to look before sleeping.
 */
#include "hvcore/spin.h"

#include <criterion/criterion.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

static uint64_t now = 12345 * MS, looked, slept;

/* Work comes after so much idle time; waking up takes 5 us. */
static void idle(struct hv_spin *spin, uint64_t time)
{
	uint64_t window = hv_spin_begin(spin, now), spent = window < time ? window : time;

	now += spent;
	looked += spent;
	hv_spin_end(spin, now);
	if (window >= time)
		return;
	now += time - spent + 5 * US;
	slept++;
	hv_spin_woken(spin, now);
}

static void work(uint64_t time)
{
	now += time;
}

Test(spin, short_gaps_are_bridged_by_looking)
{
	struct hv_spin spin = { .percent = 100 };

	for (int i = 0; i < 1000; i++) {
		idle(&spin, 8 * US);
		work(10 * US);
	}
	cr_assert_leq(slept, 2, "slept %lu times", slept);
}

/* Looking for 25 us to save a sleep of 10 is for those who have asked for speed. */
Test(spin, a_small_share_is_spent_where_looking_is_cheaper_than_sleep)
{
	struct hv_spin modest = { .percent = 10 }, eager = { .percent = 100 };

	for (int i = 0; i < 1000; i++)
		idle(&modest, 25 * US);
	cr_assert_eq(looked, 0);
	for (int i = 0; i < 1000; i++)
		idle(&eager, 25 * US);
	cr_assert_gt(looked, 900 * 25 * US);
}

Test(spin, long_gaps_are_slept_through)
{
	struct hv_spin spin = { .percent = 100 };

	for (int i = 0; i < 10; i++)
		idle(&spin, 8 * US);
	looked = 0;
	for (int i = 0; i < 1000; i++)
		idle(&spin, 300 * US);
	cr_assert_leq(looked, 200 * US, "looked for %lu ns in vain", looked);
	cr_assert_eq(spin.window_ns, 0);
}

static void takes_its_share(unsigned percent)
{
	struct hv_spin spin = { .percent = percent };
	uint64_t begin = now, most;

	looked = 0;
	while (now < begin + 2000 * MS) {
		idle(&spin, 6 * US);
		work(2 * US);
	}
	most = (now - begin + 20 * MS) * percent / 100;
	cr_assert_leq(looked, most, "%u percent: looked for %lu ns", percent, looked);
	cr_assert_geq(looked, most / 2, "%u percent: looked for %lu ns", percent, looked);
}

Test(spin, looking_takes_no_more_than_its_share)
{
	takes_its_share(5);
	takes_its_share(20);
	takes_its_share(50);
}

Test(spin, no_share_is_no_look)
{
	struct hv_spin spin = { 0 };

	for (int i = 0; i < 100; i++)
		idle(&spin, 3 * US);
	cr_assert_eq(looked, 0);
}

/* A long time without work gives no right to a long time of looking. */
Test(spin, credit_is_bounded)
{
	struct hv_spin spin = { .percent = 10 };

	idle(&spin, 3 * US);
	now += 3600 * 1000 * MS;
	hv_spin_begin(&spin, now);
	cr_assert_leq(spin.credit_ns, 2 * MS);
}

Test(spin, who_is_pushed_off_the_processor_stops_looking)
{
	struct hv_spin spin = { .percent = 100 };
	uint64_t begin;

	for (int i = 0; i < 10; i++)
		idle(&spin, 8 * US);
	cr_assert_gt(hv_spin_begin(&spin, now), 0);
	begin = now += 3 * MS;
	hv_spin_end(&spin, now);
	looked = 0;
	while (now < begin + 150 * MS)
		idle(&spin, 8 * US);
	cr_assert_eq(looked, 0, "looked for %lu ns", looked);
	while (now < begin + 300 * MS)
		idle(&spin, 8 * US);
	cr_assert_gt(looked, 50 * MS, "looked for %lu ns", looked);
}
