/*
 * Inside vhdtool/: the load generator behind `vhdtool bench`.
 *
 * The requests of a run, their order and their data are a function of the plan and its seed alone;
 * only how many there are depends on the clock, where time and not a count ends the run.
 */
#ifndef VHDTOOL_BENCH_H
#define VHDTOOL_BENCH_H

#include "hvcore/disk.h"
#include "hvcore/histogram.h"
#include "hvcore/json.h"

#define BENCH_NO_LIMIT UINT64_MAX

struct bench_plan {
	uint64_t offset;        /* bytes: where the range begins */
	uint64_t blocks;        /* its length, in requests */
	uint64_t request_bytes; /* a multiple of the sector size */
	unsigned depth;         /* requests in flight */
	bool random;
	uint64_t step;         /* else: blocks from one request to the next; wraps at the end */
	uint64_t skip;         /* so many requests of the pattern are left out at first */
	unsigned read_percent; /* chance of a request to be a read */

	/* The run ends at whichever comes first, after a warm-up that is not counted. */
	uint64_t warm_up_ns, run_ns, requests; /* the last two: or BENCH_NO_LIMIT */

	/* A flush whenever so many writes have been completed, or so much time has passed; 0: not. */
	uint64_t flush_writes, flush_ns;

	/*
	 * Writes are stamped (hvcore/stamp.h), and no two requests for a block are in flight at a
	 * time. What was written is compared when it is read during the run, and all of it at the
	 * end. A run that only reads expects what another one with this seed has written.
	 */
	bool verify;
	uint64_t seed;

	bool quiet; /* no line of progress */
};

static inline bool bench_reads(const struct bench_plan *plan)
{
	return plan->read_percent > 0;
}

static inline bool bench_writes(const struct bench_plan *plan)
{
	return plan->read_percent < 100;
}

/* Requests of one kind. Failed ones are in errors only. */
struct bench_side {
	uint64_t errors;
	struct hv_histogram latency; /* nanoseconds */
};

struct bench_result {
	struct bench_side read, write, flush;
	double seconds; /* from the end of the warm-up to the last completion */
	double user_seconds, system_seconds; /* of the processor, meanwhile */
	double last_flush_seconds;           /* of the flush that ends a run with writes */
	uint64_t verified_blocks, mismatches;
	struct hv_err err; /* of the first request that failed, or the first mismatch */
};

/* Errors and mismatches after which there is no point in going on. */
#define BENCH_MAX_ERRORS 1000

/*
 * Runs the plan on a disk that is open for what it does. -ENOMEM with a sentence when it cannot
 * begin; failed requests are in *ret, which is zeroed first.
 */
int bench_run(struct hv_disk *disk, const struct bench_plan *plan, struct bench_result *ret,
	      struct hv_err *err);

static inline uint64_t bench_errors(const struct bench_result *result)
{
	return result->read.errors + result->write.errors + result->flush.errors +
	       result->mismatches;
}

/* What was done, and what came of it: a table and a histogram, or the members of a JSON object. */
struct bench_report {
	const struct bench_plan *plan;
	const struct bench_result *result;
	const struct hv_disk *disk;
	bool direct;
	const char *destroyed; /* what the disk held; NULL: nothing known */
};

void bench_print(const struct bench_report *report);
void bench_json(const struct bench_report *report, struct hv_json *object);

#endif
