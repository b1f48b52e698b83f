/*
 * Histograms against the sorted list of what was added. HVKIT_SEED in the environment repeats a run.
 */
#include "hvcore/histogram.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define VALUES 20000
#define ERROR_PARTS 128 /* results are off by less than this part of the truth */

static struct hv_histogram histogram;
static uint64_t values[VALUES];
static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void start_random(void)
{
	const char *text = getenv("HVKIT_SEED");

	if (text)
		state = strtoull(text, NULL, 0);
	else
		cr_assert_eq(getrandom(&state, sizeof(state), 0), (ssize_t)sizeof(state));
	state |= 1;
	fprintf(stderr, "HVKIT_SEED=%" PRIu64 "\n", state);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void assert_close(uint64_t told, uint64_t truth, double percent)
{
	cr_assert_geq(told, truth, "p%g: %" PRIu64 " is below %" PRIu64, percent, told, truth);
	cr_assert_leq(told - truth, truth / ERROR_PARTS,
		      "p%g: %" PRIu64 " is too far above %" PRIu64, percent, told, truth);
}

Test(histogram, empty_tells_zeros)
{
	struct hv_histogram_bucket bucket;
	size_t at = 0;

	cr_assert_eq(hv_histogram_mean(&histogram), 0);
	cr_assert_eq(hv_histogram_percentile(&histogram, 99), 0);
	cr_assert(!hv_histogram_next(&histogram, &at, &bucket));
}

Test(histogram, one_value_is_everything)
{
	static const uint64_t all[] = { 0, 1, 127, 128, 129, 1000003, UINT64_MAX };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		histogram = (struct hv_histogram){ 0 };
		hv_histogram_add(&histogram, all[i]);
		cr_assert_eq(histogram.min, all[i]);
		cr_assert_eq(histogram.max, all[i]);
		cr_assert_eq(histogram.count, 1);
		cr_assert_eq(hv_histogram_percentile(&histogram, 0.1), all[i]);
		cr_assert_eq(hv_histogram_percentile(&histogram, 100), all[i]);
	}
}

Test(histogram, small_values_are_exact)
{
	for (uint64_t v = 0; v < 100; v++)
		hv_histogram_add(&histogram, v);
	for (unsigned percent = 1; percent <= 100; percent++)
		cr_assert_eq(hv_histogram_percentile(&histogram, percent), percent - 1);
	cr_assert_float_eq(hv_histogram_mean(&histogram), 49.5, 1e-9);
}

/* Values of all magnitudes. */
Test(histogram, percentiles_are_as_close_as_promised)
{
	/* Thousandths of a percent. */
	static const uint64_t parts[] = {
		1, 1000, 10000, 50000, 90000, 99000, 99900, 99990, 100000
	};

	start_random();
	for (size_t i = 0; i < VALUES; i++) {
		values[i] = next_random() >> (next_random() % 64);
		hv_histogram_add(&histogram, values[i]);
	}
	qsort(values, VALUES, sizeof(*values), ascending);
	cr_assert_eq(histogram.min, values[0]);
	cr_assert_eq(histogram.max, values[VALUES - 1]);
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		double percent = (double)parts[i] / 1000;
		uint64_t rank = (parts[i] * VALUES + 99999) / 100000;

		assert_close(hv_histogram_percentile(&histogram, percent), values[rank - 1],
			     percent);
	}
}

/* Each bucket begins where the one before ends, also where the width changes. */
Test(histogram, buckets_cover_everything_once)
{
	struct hv_histogram_bucket bucket;
	uint64_t expected = 0;
	size_t at = 0, count = 0;

	for (size_t i = 0; i < HV_HISTOGRAM_BUCKETS; i++)
		histogram.buckets[i] = i + 1;
	for (; hv_histogram_next(&histogram, &at, &bucket); count++) {
		cr_assert_eq(bucket.first, expected, "bucket %zu", count);
		cr_assert_geq(bucket.last, bucket.first);
		cr_assert_leq(bucket.last - bucket.first, bucket.first / ERROR_PARTS);
		cr_assert_eq(bucket.count, count + 1);
		expected = bucket.last + 1;
	}
	cr_assert_eq(count, HV_HISTOGRAM_BUCKETS);
	cr_assert_eq(expected, 0, "the last bucket ends at 2^64 - 1");
}

Test(histogram, values_are_found_in_their_bucket)
{
	start_random();
	for (int i = 0; i < 2000; i++) {
		uint64_t value = next_random() >> (next_random() % 64);
		struct hv_histogram_bucket bucket;
		size_t at = 0;

		histogram = (struct hv_histogram){ 0 };
		hv_histogram_add(&histogram, value);
		cr_assert(hv_histogram_next(&histogram, &at, &bucket));
		cr_assert(bucket.first <= value && value <= bucket.last, "%" PRIu64, value);
		cr_assert(!hv_histogram_next(&histogram, &at, &bucket));
	}
}

Test(histogram, merged_ones_are_as_one)
{
	static struct hv_histogram parts[3], all;

	start_random();
	hv_histogram_merge(&histogram, &parts[0]);
	cr_assert_eq(histogram.count, 0);
	for (int i = 0; i < 1000; i++) {
		uint64_t value = next_random() >> (next_random() % 60);

		hv_histogram_add(&parts[i % 2 + 1], value);
		hv_histogram_add(&all, value);
	}
	for (int i = 0; i < 3; i++)
		hv_histogram_merge(&histogram, &parts[i]);
	cr_assert_eq(histogram.count, 1000);
	cr_assert_eq(histogram.min, all.min);
	cr_assert_eq(histogram.max, all.max);
	for (int percent = 1; percent <= 100; percent++)
		cr_assert_eq(hv_histogram_percentile(&histogram, percent),
			     hv_histogram_percentile(&all, percent));
}
