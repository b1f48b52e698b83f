/*
 * Who gains by being interrupted less often is, and nobody else. Guests are simulated: each says
 * how long a request takes it, with and without holding.
 */
#include "vsp-storage/moderation.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

struct guest {
	struct vsp_moderation moderation;
	uint64_t held_ns; /* how long answers were held, of the time simulated */
	uint64_t done;
};

static uint64_t now = 77 * SECOND;
static unsigned seed = 1;

/* Between 3/4 and 5/4 of what it is: guests are no clocks. */
static uint64_t about(uint64_t ns)
{
	return ns * 3 / 4 + ns / 2 * (uint64_t)(rand_r(&seed) % 1024) / 1024;
}

/* A request takes the guest so long by itself, and so long where answers are held. */
static void run(struct guest *guest, uint64_t time, uint64_t without, uint64_t with)
{
	uint64_t end = now + time;

	while (now < end) {
		bool holds = guest->moderation.hold_ns;
		uint64_t took = about(holds ? with : without);

		now += took;
		guest->held_ns += holds ? took : 0;
		guest->done++;
		vsp_moderation_count(&guest->moderation, 1, now);
	}
}

/* One that waits for each answer is held up by all of the hold. */
static void run_one_by_one(struct guest *guest, uint64_t time, uint64_t service)
{
	uint64_t end = now + time;

	while (now < end) {
		uint64_t hold = guest->moderation.hold_ns;

		now += about(service) + hold;
		guest->held_ns += hold;
		guest->done++;
		vsp_moderation_count(&guest->moderation, 1, now);
	}
}

Test(moderation, a_guest_that_gains_is_interrupted_less_often)
{
	struct guest guest = { 0 };

	run(&guest, SECOND, 250 * US, 150 * US);
	cr_expect_gt(guest.moderation.hold_ns, 0);
	guest.held_ns = 0;
	run(&guest, 60 * SECOND, 250 * US, 150 * US);
	cr_expect_gt(guest.held_ns, 58 * SECOND, "%lu ms", guest.held_ns / MS);
}

Test(moderation, who_waits_for_each_answer_loses_next_to_nothing)
{
	static const uint64_t services[] = { 20 * US, 100 * US, 400 * US, 1500 * US };

	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		struct guest guest = { 0 };

		run_one_by_one(&guest, SECOND, services[i]);
		cr_expect_lt(guest.held_ns, SECOND / 20, "%zu: %lu us in the first second", i,
			     guest.held_ns / US);
		guest.held_ns = 0;
		run_one_by_one(&guest, 60 * SECOND, services[i]);
		cr_expect_lt(guest.held_ns, 60 * SECOND / 200, "%zu: %lu us in a minute", i,
			     guest.held_ns / US);
	}
}

/* A load that comes at its own pace gains nothing, and is left alone nearly always. */
Test(moderation, who_gains_nothing_is_interrupted_at_once)
{
	struct guest guest = { 0 };

	run(&guest, 120 * SECOND, 100 * US, 100 * US);
	cr_expect_lt(guest.held_ns, 12 * SECOND, "%lu ms", guest.held_ns / MS);
}

Test(moderation, a_guest_that_does_little_is_never_held_up)
{
	struct guest guest = { 0 };

	run(&guest, 60 * SECOND, 4 * MS, 1 * MS);
	cr_expect_eq(guest.held_ns, 0);
}

Test(moderation, what_the_guest_does_next_is_found_out)
{
	struct guest guest = { 0 };

	for (int i = 0; i < 20; i++) {
		run(&guest, SECOND, 200 * US, 100 * US);
		cr_assert_gt(guest.moderation.hold_ns, 0, "round %d", i);
		guest.held_ns = 0;
		run_one_by_one(&guest, 2 * SECOND, 90 * US);
		cr_assert_lt(guest.held_ns, 400 * MS, "round %d: %lu ms", i, guest.held_ns / MS);
	}
}

/* After a rest nothing is known: whoever comes first is not held up. */
Test(moderation, a_rest_ends_it)
{
	struct guest guest = { 0 };

	run(&guest, 5 * SECOND, 200 * US, 100 * US);
	cr_assert_gt(guest.moderation.hold_ns, 0);
	now += 10 * SECOND;
	vsp_moderation_count(&guest.moderation, 1, now);
	cr_expect_eq(guest.moderation.hold_ns, 0);
}

/* However fast or slow a guest is, an answer is late by a bounded time. */
Test(moderation, a_hold_is_bounded)
{
	static const uint64_t paces[] = { 100, 3 * US, 300 * US, 700 * US };

	for (size_t i = 0; i < sizeof(paces) / sizeof(paces[0]); i++) {
		struct guest guest = { 0 };

		run(&guest, SECOND, paces[i], paces[i] / 2);
		cr_assert_geq(guest.moderation.hold_ns, 20 * US, "pace %zu", i);
		cr_assert_leq(guest.moderation.hold_ns, 400 * US, "pace %zu", i);
	}
}

Test(moderation, a_clock_that_stands_still_does_no_harm)
{
	struct guest guest = { 0 };

	for (int i = 0; i < 1000; i++)
		vsp_moderation_count(&guest.moderation, 1000, now);
	cr_expect_eq(guest.moderation.hold_ns, 0);
}
