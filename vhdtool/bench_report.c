/*
 * What a benchmark found, as text and as JSON.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/size.h"
#include "vhdtool/bench.h"
#include "vhdtool/tool.h"

#define MIB 1048576.0
#define BAR_COLUMNS 40
#define POWERS 65

static const double percents[] = { 50, 90, 99, 99.9 };
static const char *const percent_keys[] = { "p50", "p90", "p99", "p99_9" };
#define PERCENTS (sizeof(percents) / sizeof(*percents))

static double per_second(const struct bench_result *result, uint64_t count)
{
	return result->seconds > 0 ? (double)count / result->seconds : 0;
}

static double mib_per_second(const struct bench_report *report, uint64_t requests)
{
	return per_second(report->result, requests) * (double)report->plan->request_bytes / MIB;
}

static uint64_t requests_of(const struct bench_result *result)
{
	return result->read.latency.count + result->write.latency.count;
}

static double processor_us(const struct bench_result *result)
{
	uint64_t requests = requests_of(result);
	double seconds = result->user_seconds + result->system_seconds;

	return requests ? seconds * 1e6 / (double)requests : 0;
}

/* Text. */

static void print_plan(const struct bench_report *report)
{
	const struct bench_plan *plan = report->plan;
	char size[HV_SIZE_TEXT_SIZE], request[HV_SIZE_TEXT_SIZE], range[HV_SIZE_TEXT_SIZE];

	hv_size_format(report->disk->size_bytes, size);
	hv_size_format(plan->request_bytes, request);
	hv_size_format(plan->blocks * plan->request_bytes, range);
	printf("%s: %s, %s%s\n", report->disk->path, hv_disk_format(report->disk), size,
	       report->direct ? ", past the page cache" : "");
	printf("%s requests of %s within %s, %u at a time, %u %% reads, seed %" PRIu64 "\n",
	       plan->random ? "random" : "sequential", request, range, plan->depth,
	       plan->read_percent, plan->seed);
	if (!plan->random && plan->step != 1)
		printf("each %" PRIu64 " bytes behind the one before\n",
		       plan->step * plan->request_bytes);
	if (report->destroyed)
		printf("it held %s\n", report->destroyed);
}

static void print_side(const struct bench_report *report, const char *name,
		       const struct bench_side *side, bool transfers)
{
	const struct hv_histogram *latency = &side->latency;
	char rate[32] = "-";

	if (!latency->count && !side->errors)
		return;
	if (transfers)
		snprintf(rate, sizeof(rate), "%.1f", mib_per_second(report, latency->count));
	printf("%-6s %10" PRIu64 " %10.1f %9s %9.1f %9.1f", name, latency->count,
	       per_second(report->result, latency->count), rate, (double)latency->min / 1e3,
	       hv_histogram_mean(latency) / 1e3);
	for (size_t i = 0; i < PERCENTS; i++)
		printf(" %9.1f", (double)hv_histogram_percentile(latency, percents[i]) / 1e3);
	printf(" %9.1f %7" PRIu64 "\n", (double)latency->max / 1e3, side->errors);
}

/* Sums the buckets by powers of two: counts[k] are the values of k bits. */
static void by_powers(const struct hv_histogram *histogram, uint64_t counts[POWERS])
{
	struct hv_histogram_bucket bucket;
	size_t at = 0;

	memset(counts, 0, POWERS * sizeof(*counts));
	while (hv_histogram_next(histogram, &at, &bucket))
		counts[bucket.last ? 64 - __builtin_clzll(bucket.last) : 0] += bucket.count;
}

/* "131 us": the end of the values of so many bits. */
static void format_power(int bits, char *text, size_t size)
{
	static const char *const units[] = { "ns", "us", "ms", "s" };
	double value = bits < 64 ? (double)(UINT64_C(1) << bits) : 0x1p64;
	int unit = 0;

	for (; unit < 3 && value >= 1000; unit++)
		value /= 1000;
	snprintf(text, size, "%.3g %s", value, units[unit]);
}

static void print_histogram(const struct bench_result *result)
{
	uint64_t reads[POWERS], writes[POWERS], flushes[POWERS];
	uint64_t all = requests_of(result);
	int first = 0, last = POWERS - 1;

	by_powers(&result->read.latency, reads);
	by_powers(&result->write.latency, writes);
	by_powers(&result->flush.latency, flushes);
	while (first < last && !(reads[first] | writes[first] | flushes[first]))
		first++;
	while (last > first && !(reads[last] | writes[last] | flushes[last]))
		last--;
	printf("\n%12s %10s %10s %10s\n", "latency <", "reads", "writes", "flushes");
	for (int i = first; i <= last; i++) {
		double share = all ? (double)(reads[i] + writes[i]) / (double)all : 0;
		int columns = (int)(share * BAR_COLUMNS + 0.5);
		char edge[32];

		format_power(i, edge, sizeof(edge));
		printf("%12s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %5.1f %%", edge, reads[i],
		       writes[i], flushes[i], share * 100);
		printf("%s%.*s\n", columns ? " " : "", columns,
		       "########################################");
	}
}

void bench_print(const struct bench_report *report)
{
	const struct bench_result *result = report->result;
	uint64_t requests = requests_of(result);

	print_plan(report);
	printf("\n%-6s %10s %10s %9s %9s %9s %9s %9s %9s %9s %9s %7s\n", "", "requests", "per s",
	       "MiB/s", "min us", "mean", "p50", "p90", "p99", "p99.9", "max", "errors");
	print_side(report, "read", &result->read, true);
	print_side(report, "write", &result->write, true);
	print_side(report, "flush", &result->flush, false);
	print_histogram(result);
	printf("\n%" PRIu64
	       " requests in %.3f s: %.1f IOPS, %.1f MiB/s, %.2f us of processor each\n",
	       requests, result->seconds, per_second(result, requests),
	       mib_per_second(report, requests), processor_us(result));
	if (bench_writes(report->plan))
		printf("flushed at the end in %.3f s\n", result->last_flush_seconds);
	if (report->plan->verify)
		printf("verified %" PRIu64 " blocks, %" PRIu64 " of them wrong\n",
		       result->verified_blocks, result->mismatches);
}

/* JSON. */

static void json_latency(struct hv_json *object, const struct hv_histogram *histogram)
{
	struct hv_json *latency = hv_json_set_object(object, "latency_ns"), *list;
	struct hv_histogram_bucket bucket;
	size_t at = 0;

	hv_json_set_number(latency, "min", histogram->min);
	hv_json_set_real(latency, "mean", hv_histogram_mean(histogram));
	for (size_t i = 0; i < PERCENTS; i++)
		hv_json_set_number(latency, percent_keys[i],
				   hv_histogram_percentile(histogram, percents[i]));
	hv_json_set_number(latency, "max", histogram->max);
	list = hv_json_set_array(object, "histogram");
	while (hv_histogram_next(histogram, &at, &bucket)) {
		struct hv_json *entry = hv_json_add_object(list);

		hv_json_set_number(entry, "first_ns", bucket.first);
		hv_json_set_number(entry, "last_ns", bucket.last);
		hv_json_set_number(entry, "count", bucket.count);
	}
}

static void json_side(const struct bench_report *report, struct hv_json *object, const char *key,
		      const struct bench_side *side, bool transfers)
{
	uint64_t count = side->latency.count;
	struct hv_json *member;

	if (!count && !side->errors) {
		hv_json_set_null(object, key);
		return;
	}
	member = hv_json_set_object(object, key);
	hv_json_set_number(member, "requests", count);
	hv_json_set_number(member, "errors", side->errors);
	hv_json_set_real(member, "iops", per_second(report->result, count));
	if (transfers) {
		hv_json_set_number(member, "bytes", count * report->plan->request_bytes);
		hv_json_set_real(member, "mib_per_second", mib_per_second(report, count));
	}
	json_latency(member, &side->latency);
}

static void json_plan(const struct bench_report *report, struct hv_json *object)
{
	const struct bench_plan *plan = report->plan;

	hv_json_set_string(object, "file", report->disk->path);
	hv_json_set_string(object, "format", hv_disk_format(report->disk));
	hv_json_set_number(object, "size_bytes", report->disk->size_bytes);
	hv_json_set_string(object, "destroyed", report->destroyed);
	hv_json_set_bool(object, "direct", report->direct);
	hv_json_set_string(object, "pattern", plan->random ? "random" : "sequential");
	if (plan->random)
		hv_json_set_null(object, "step_bytes");
	else
		hv_json_set_number(object, "step_bytes", plan->step * plan->request_bytes);
	hv_json_set_number(object, "request_bytes", plan->request_bytes);
	hv_json_set_number(object, "depth", plan->depth);
	hv_json_set_number(object, "read_percent", plan->read_percent);
	hv_json_set_number(object, "offset", plan->offset);
	hv_json_set_number(object, "length", plan->blocks * plan->request_bytes);
	hv_json_set_number(object, "seed", plan->seed);
}

void bench_json(const struct bench_report *report, struct hv_json *object)
{
	const struct bench_result *result = report->result;
	uint64_t requests = requests_of(result);

	json_plan(report, object);
	hv_json_set_real(object, "seconds", result->seconds);
	hv_json_set_number(object, "requests", requests);
	hv_json_set_number(object, "bytes", requests * report->plan->request_bytes);
	hv_json_set_real(object, "iops", per_second(result, requests));
	hv_json_set_real(object, "mib_per_second", mib_per_second(report, requests));
	hv_json_set_real(object, "user_seconds", result->user_seconds);
	hv_json_set_real(object, "system_seconds", result->system_seconds);
	hv_json_set_number(object, "errors", bench_errors(result));
	hv_json_set_string(object, "error", result->err.code ? result->err.sentence : NULL);
	json_side(report, object, "read", &result->read, true);
	json_side(report, object, "write", &result->write, true);
	json_side(report, object, "flush", &result->flush, false);
	if (bench_writes(report->plan))
		hv_json_set_real(object, "last_flush_seconds", result->last_flush_seconds);
	else
		hv_json_set_null(object, "last_flush_seconds");
	if (report->plan->verify)
		hv_json_set_number(object, "verified_blocks", result->verified_blocks);
	else
		hv_json_set_null(object, "verified_blocks");
	hv_json_set_number(object, "mismatches", result->mismatches);
}
