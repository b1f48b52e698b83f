/*
 * Bitmaps against a loop over single bits. HVKIT_SEED in the environment repeats a run.
 */
#include "hvcore/bitmap.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BITS 1000
#define BYTES (BITS / 8)
#define ROUNDS 20000

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t choose_seed(void)
{
	const char *text = getenv("HVKIT_SEED");
	uint64_t seed;

	if (text)
		return strtoull(text, NULL, 0) | 1;
	cr_assert_eq(getrandom(&seed, sizeof(seed), 0), (ssize_t)sizeof(seed));
	return seed | 1;
}

static void start_random(void)
{
	state = choose_seed();
	fprintf(stderr, "HVKIT_SEED=%" PRIu64 "\n", state);
}

/* Runs of random lengths, so that long equal runs occur. */
static void fill_runs(uint8_t *map)
{
	size_t i = 0;

	memset(map, 0, BYTES);
	while (i < BITS) {
		size_t run = 1 + next_random() % (next_random() & 1 ? 10 : 300);
		bool value = next_random() & 1;

		for (; run && i < BITS; run--, i++)
			if (value)
				map[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
}

static bool slow_get(const uint8_t *map, size_t i)
{
	return map[i / 8] >> (7 - i % 8) & 1;
}

static size_t slow_count(const uint8_t *map, size_t start, size_t count)
{
	size_t total = 0;

	for (size_t i = start; i < start + count; i++)
		total += slow_get(map, i);
	return total;
}

static size_t slow_run(const uint8_t *map, size_t start, size_t count)
{
	size_t n = 1;

	while (n < count && slow_get(map, start + n) == slow_get(map, start))
		n++;
	return n;
}

struct range {
	size_t start, count;
};

static struct range pick_range(void)
{
	struct range range = { .start = next_random() % (BITS + 1) };

	range.count = next_random() % (BITS - range.start + 1);
	if (next_random() & 1 && range.count > 16)
		range.count %= 16;
	return range;
}

Test(bitmap, bits_are_numbered_from_the_most_significant)
{
	uint8_t map[2] = { 0, 0 };

	hv_bit_set(map, 0);
	hv_bit_set(map, 15);
	cr_assert_eq(map[0], 0x80);
	cr_assert_eq(map[1], 0x01);
	cr_assert(hv_bit_get(map, 15));
	hv_bit_clear(map, 15);
	cr_assert_eq(map[1], 0);
	cr_assert_not(hv_bit_get(map, 15));
}

Test(bitmap, set_sets_the_range_and_nothing_else)
{
	uint8_t map[BYTES], before[BYTES];

	start_random();
	for (int round = 0; round < ROUNDS / 10; round++) {
		struct range range = pick_range();

		fill_runs(map);
		memcpy(before, map, BYTES);
		hv_bits_set(map, range.start, range.count);
		for (size_t i = 0; i < BITS; i++)
			cr_assert_eq(slow_get(map, i),
				     slow_get(before, i) || i - range.start < range.count,
				     "bit %zu after setting %zu at %zu", i, range.count,
				     range.start);
	}
}

Test(bitmap, count_agrees_with_single_bits)
{
	uint8_t map[BYTES];

	start_random();
	for (int round = 0; round < ROUNDS; round++) {
		struct range range = pick_range();

		if (round % 50 == 0)
			fill_runs(map);
		cr_assert_eq(hv_bits_count(map, range.start, range.count),
			     slow_count(map, range.start, range.count), "%zu bits at %zu",
			     range.count, range.start);
	}
}

Test(bitmap, run_agrees_with_single_bits)
{
	uint8_t map[BYTES];

	start_random();
	for (int round = 0; round < ROUNDS; round++) {
		struct range range = pick_range();
		bool value;

		if (round % 50 == 0)
			fill_runs(map);
		if (!range.count)
			continue;
		cr_assert_eq(hv_bits_run(map, range.start, range.count, &value),
			     slow_run(map, range.start, range.count), "%zu bits at %zu",
			     range.count, range.start);
		cr_assert_eq(value, slow_get(map, range.start));
	}
}

Test(bitmap, all_and_none_agree_with_single_bits)
{
	uint8_t map[BYTES];

	start_random();
	for (int round = 0; round < ROUNDS; round++) {
		struct range range = pick_range();
		size_t set;

		if (round % 50 == 0)
			fill_runs(map);
		set = slow_count(map, range.start, range.count);
		cr_assert_eq(hv_bits_all(map, range.start, range.count), set == range.count);
		cr_assert_eq(hv_bits_none(map, range.start, range.count), set == 0);
	}
}

Test(bitmap, a_single_odd_bit_is_found_wherever_it_is)
{
	uint8_t ones[BYTES], zeros[BYTES];
	bool value;

	for (size_t i = 1; i < BITS; i++) {
		memset(ones, 0xff, BYTES);
		memset(zeros, 0, BYTES);
		hv_bit_clear(ones, i);
		hv_bit_set(zeros, i);
		cr_assert_eq(hv_bits_run(ones, 0, BITS, &value), i);
		cr_assert(value);
		cr_assert_eq(hv_bits_run(zeros, 0, BITS, &value), i);
		cr_assert_not(value);
		cr_assert_not(hv_bits_all(ones, 0, BITS));
		cr_assert_not(hv_bits_none(zeros, 0, BITS));
		cr_assert_eq(hv_bits_count(ones, 0, BITS), BITS - 1);
		cr_assert_eq(hv_bits_count(zeros, 0, BITS), 1);
	}
}

Test(bitmap, empty_ranges_are_both_all_and_none)
{
	uint8_t map[1] = { 0x55 };

	cr_assert(hv_bits_all(map, 3, 0));
	cr_assert(hv_bits_none(map, 3, 0));
	cr_assert_eq(hv_bits_count(map, 3, 0), 0);
	hv_bits_set(map, 3, 0);
	cr_assert_eq(map[0], 0x55);
}

/* A range may end where the memory ends: ASan watches the byte behind. */
Test(bitmap, no_byte_past_the_range_is_read)
{
	for (size_t bytes = 1; bytes <= 40; bytes++) {
		uint8_t *map = malloc(bytes);
		bool value;

		cr_assert(map);
		memset(map, 0xff, bytes);
		for (size_t start = 0; start < bytes * 8; start++) {
			cr_assert_eq(hv_bits_run(map, start, bytes * 8 - start, &value),
				     bytes * 8 - start);
			cr_assert_eq(hv_bits_count(map, start, bytes * 8 - start),
				     bytes * 8 - start);
			hv_bits_set(map, start, bytes * 8 - start);
		}
		free(map);
	}
}
