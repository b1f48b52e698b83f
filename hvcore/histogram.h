/*
 * A log-linear histogram of whole numbers, such as latencies in nanoseconds: every value up to
 * 2^64 - 1 has its bucket, adding is a few instructions and never fails, and the memory is fixed.
 *
 * Values below 128 have a bucket each; above, each power of two is cut into 128 buckets. What is
 * told from buckets is therefore never below the truth and above it by less than 1/128 (0.8 %).
 */
#ifndef HVCORE_HISTOGRAM_H
#define HVCORE_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HV_HISTOGRAM_SUB_BITS 7
#define HV_HISTOGRAM_BUCKETS ((65 - HV_HISTOGRAM_SUB_BITS) << HV_HISTOGRAM_SUB_BITS)

/* All zeros is an empty histogram. Read-only for everybody else. */
struct hv_histogram {
	uint64_t count, min, max; /* min and max are exact; 0 while empty */
	double sum;
	uint64_t buckets[HV_HISTOGRAM_BUCKETS];
};

void hv_histogram_add(struct hv_histogram *histogram, uint64_t value);

/* As if all that was added to `from` had been added to `into`, too. */
void hv_histogram_merge(struct hv_histogram *into, const struct hv_histogram *from);

/* The mean, exact but for the rounding of sums; 0 while empty. */
double hv_histogram_mean(const struct hv_histogram *histogram);

/*
 * The smallest value that at least `percent` (above 0, up to 100) of all values do not exceed, with
 * the error told above; never beyond max, so that 100 gives max. 0 while empty.
 */
uint64_t hv_histogram_percentile(const struct hv_histogram *histogram, double percent);

/* Values from first to last, both included. */
struct hv_histogram_bucket {
	uint64_t first, last, count;
};

/* Walks the buckets that are not empty, ascending; *at is 0 at first. False after the last. */
bool hv_histogram_next(const struct hv_histogram *histogram, size_t *at,
		       struct hv_histogram_bucket *ret);

#endif
