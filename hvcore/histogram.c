/*
 * Buckets: value v below 2^7 is in bucket v. Otherwise, with e the number of v's highest bit, the
 * seven bits below that one choose among the 128 buckets of the power of two, each 2^(e - 7) wide.
 */
#include "hvcore/histogram.h"

#define SUB_COUNT (UINT64_C(1) << HV_HISTOGRAM_SUB_BITS)

static size_t bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < SUB_COUNT)
		return (size_t)value;
	shift = 63 - (unsigned)__builtin_clzll(value) - HV_HISTOGRAM_SUB_BITS;
	return (size_t)((shift << HV_HISTOGRAM_SUB_BITS) + (value >> shift));
}

static unsigned shift_of(size_t bucket)
{
	return bucket < SUB_COUNT ? 0 : (unsigned)(bucket >> HV_HISTOGRAM_SUB_BITS) - 1;
}

static uint64_t first_of(size_t bucket)
{
	unsigned shift = shift_of(bucket);

	return ((uint64_t)bucket - ((uint64_t)shift << HV_HISTOGRAM_SUB_BITS)) << shift;
}

static uint64_t last_of(size_t bucket)
{
	return first_of(bucket) + ((UINT64_C(1) << shift_of(bucket)) - 1);
}

void hv_histogram_add(struct hv_histogram *histogram, uint64_t value)
{
	if (value < histogram->min || !histogram->count)
		histogram->min = value;
	if (value > histogram->max)
		histogram->max = value;
	histogram->count++;
	histogram->sum += (double)value;
	histogram->buckets[bucket_of(value)]++;
}

void hv_histogram_merge(struct hv_histogram *into, const struct hv_histogram *from)
{
	if (!from->count)
		return;
	if (from->min < into->min || !into->count)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	into->count += from->count;
	into->sum += from->sum;
	for (size_t i = 0; i < HV_HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

double hv_histogram_mean(const struct hv_histogram *histogram)
{
	return histogram->count ? histogram->sum / (double)histogram->count : 0;
}

uint64_t hv_histogram_percentile(const struct hv_histogram *histogram, double percent)
{
	/* A hair less, so that 99.9 of 1000 are 999 although 99.9 is no binary number. */
	double wanted = percent * (double)histogram->count / 100 * (1 - 1e-12);
	struct hv_histogram_bucket bucket = { 0 };
	uint64_t seen = 0;
	size_t at = 0;

	while (hv_histogram_next(histogram, &at, &bucket)) {
		seen += bucket.count;
		if ((double)seen >= wanted)
			break;
	}
	return bucket.last < histogram->max ? bucket.last : histogram->max;
}

bool hv_histogram_next(const struct hv_histogram *histogram, size_t *at,
		       struct hv_histogram_bucket *ret)
{
	for (; *at < HV_HISTOGRAM_BUCKETS; ++*at) {
		if (!histogram->buckets[*at])
			continue;
		*ret = (struct hv_histogram_bucket){ .first = first_of(*at),
						     .last = last_of(*at),
						     .count = histogram->buckets[*at] };
		++*at;
		return true;
	}
	return false;
}
