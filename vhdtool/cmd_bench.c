/*
 * vhdtool bench: how fast a disk is, and whether it gives back what was written to it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "hvcore/checked.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "vhdtool/bench.h"
#include "vhdtool/range.h"
#include "vhdtool/tool.h"
#include "vhdtool/victim.h"

#define DEFAULT_SECONDS 10
#define MAX_SECONDS 1000000000.0
#define MAX_DEPTH 1024
#define MAX_REQUEST_BYTES (64u << 20)
#define MAX_MEMORY_BYTES (UINT64_C(1) << 30)

struct bench_options {
	struct tool_source source;
	struct range_options range;
	const char *pattern, *seconds, *warm_up, *flush_every, *seed;
	uint64_t size, step, skip, depth, requests, bytes, mix;
	bool write, verify, force, json, quiet;
};

static const struct bench_options defaults = {
	.size = 4096,
	.step = BENCH_NO_LIMIT,
	.depth = 32,
	.requests = BENCH_NO_LIMIT,
	.bytes = BENCH_NO_LIMIT,
	.mix = BENCH_NO_LIMIT,
};

/* From the options to a plan. Nothing is opened. */

/* "1.5" and the suffix; nanoseconds. */
static int parse_seconds(const char *option, const char *text, const char *suffix, uint64_t *ret,
			 struct hv_err *err)
{
	char *end;
	double seconds = strtod(text, &end);

	/* No sign, no exponent, no "nan". */
	if (end == text || strspn(text, "0123456789.") != (size_t)(end - text) ||
	    strcmp(end, suffix) != 0)
		return hv_fail(err, -EINVAL, "'%s' for option '--%s' is not a number of seconds",
			       text, option);
	if (seconds > MAX_SECONDS || seconds * 1e9 < 1)
		return hv_fail(
			err, -EINVAL,
			"'%s' for option '--%s' is not between a nanosecond and %.0f seconds", text,
			option, MAX_SECONDS);
	*ret = (uint64_t)(seconds * 1e9);
	return 0;
}

static int parse_count(const char *option, const char *text, uint64_t *ret, struct hv_err *err)
{
	uint64_t number;

	errno = 0;
	number = strtoull(text, NULL, 10);
	if (!*text || text[strspn(text, "0123456789")] || errno || number > INT64_MAX)
		return hv_fail(err, -EINVAL,
			       "'%s' for option '--%s' is not a number between 0 and 2^63 - 1",
			       text, option);
	*ret = number;
	return 0;
}

static int plan_end(const struct bench_options *options, struct bench_plan *plan,
		    struct hv_err *err)
{
	bool limited = options->requests != BENCH_NO_LIMIT || options->bytes != BENCH_NO_LIMIT;
	int rc = 0;

	plan->requests = options->requests;
	if (options->bytes != BENCH_NO_LIMIT)
		plan->requests =
			hv_min_u64(plan->requests, hv_div_up(options->bytes, options->size));
	if (!plan->requests)
		return hv_fail(err, -EINVAL, "a run of no requests measures nothing");
	plan->run_ns = limited ? BENCH_NO_LIMIT : DEFAULT_SECONDS * UINT64_C(1000000000);
	if (options->seconds)
		rc = parse_seconds("seconds", options->seconds, "", &plan->run_ns, err);
	if (rc == 0 && options->warm_up)
		rc = parse_seconds("warm-up", options->warm_up, "", &plan->warm_up_ns, err);
	return rc;
}

/* "1s" or "1000". */
static int plan_flush(const char *text, struct bench_plan *plan, struct hv_err *err)
{
	size_t length = text ? strlen(text) : 0;

	if (!text)
		return 0;
	if (!bench_writes(plan))
		return hv_fail(err, -EINVAL, "--flush-every is of use with writes only");
	if (length && text[length - 1] == 's')
		return parse_seconds("flush-every", text, "s", &plan->flush_ns, err);
	if (parse_count("flush-every", text, &plan->flush_writes, NULL) || !plan->flush_writes)
		return hv_fail(
			err, -EINVAL,
			"'%s' for option '--flush-every' is neither a number of writes nor, as '1s', of seconds",
			text);
	return 0;
}

static int plan_pattern(const struct bench_options *options, struct bench_plan *plan,
			struct hv_err *err)
{
	bool strided = options->step != BENCH_NO_LIMIT;

	plan->random = options->pattern ? !strcmp(options->pattern, "random") : !strided;
	plan->step = 1;
	plan->skip = options->skip;
	if (!strided)
		return 0;
	if (plan->random)
		return hv_fail(err, -EINVAL, "--step is for --pattern sequential");
	if (!options->step || options->step % options->size)
		return hv_fail(err, -EINVAL,
			       "--step has to be a multiple of the request size, %" PRIu64 " bytes",
			       options->size);
	plan->step = options->step / options->size;
	return 0;
}

static int plan_requests(const struct bench_options *options, struct bench_plan *plan,
			 struct hv_err *err)
{
	char size[HV_SIZE_TEXT_SIZE];

	if (!options->size || options->size % HV_SECTOR_SIZE || options->size > MAX_REQUEST_BYTES)
		return hv_fail(err, -EINVAL,
			       "--size has to be a multiple of 512 bytes, up to 64 MiB");
	if (!options->depth || options->depth > MAX_DEPTH)
		return hv_fail(err, -EINVAL, "--depth has to be between 1 and %d", MAX_DEPTH);
	if (options->depth * options->size > MAX_MEMORY_BYTES) {
		hv_size_format(options->size, size);
		return hv_fail(err, -EINVAL,
			       "%" PRIu64 " requests of %s are more than 1 GiB at a time",
			       options->depth, size);
	}
	plan->request_bytes = options->size;
	plan->depth = (unsigned)options->depth;
	return plan_pattern(options, plan, err);
}

static int plan_mix(const struct bench_options *options, struct bench_plan *plan,
		    struct hv_err *err)
{
	bool mixed = options->mix != BENCH_NO_LIMIT;

	if (mixed && options->write)
		return hv_fail(err, -EINVAL, "--write and --mix exclude each other");
	if (mixed && options->mix > 100)
		return hv_fail(err, -EINVAL, "--mix is a percentage, at most 100");
	plan->read_percent = options->write ? 0 : mixed ? (unsigned)options->mix : 100;
	if (bench_writes(plan) && options->source.force_share)
		return hv_fail(err, -EINVAL, "--force-share is for reading only");
	return 0;
}

static int plan_seed(const struct bench_options *options, struct bench_plan *plan,
		     struct hv_err *err)
{
	uint32_t seed; /* short enough to be typed again */

	plan->verify = options->verify;
	if (options->seed)
		return parse_count("seed", options->seed, &plan->seed, err);
	if (plan->verify && !bench_writes(plan))
		return hv_fail(
			err, -EINVAL,
			"--verify without writes needs the --seed of the run that has written");
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return hv_fail_errno(err, -errno, "cannot have a random seed");
	plan->seed = seed;
	return 0;
}

static int make_plan(const struct bench_options *options, struct bench_plan *plan,
		     struct range *range, struct hv_err *err)
{
	int rc = range_parse(&options->range, range, err);

	if (rc == 0)
		rc = plan_mix(options, plan, err);
	if (rc == 0)
		rc = plan_requests(options, plan, err);
	if (rc == 0)
		rc = plan_end(options, plan, err);
	if (rc == 0)
		rc = plan_flush(options->flush_every, plan, err);
	if (rc == 0)
		rc = plan_seed(options, plan, err);
	return rc;
}

/* From the plan to a result. */

static int fit(struct bench_plan *plan, struct range *range, const struct hv_disk *disk,
	       struct hv_err *err)
{
	int rc = range_fit(range, disk, err);

	if (rc)
		return rc;
	if (range->offset % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL,
			       "%s: offset %" PRIu64 " is not a multiple of the sector size, 512",
			       disk->path, range->offset);
	plan->offset = range->offset;
	plan->blocks = range->length / plan->request_bytes;
	if (!plan->blocks)
		return hv_fail(err, -EINVAL,
			       "%s: in %" PRIu64
			       " bytes there is no room for a request of %" PRIu64,
			       disk->path, range->length, plan->request_bytes);
	return 0;
}

static int open_disk(const char *path, const struct bench_options *options, bool writes,
		     struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	const struct tool_source *source = &options->source;
	const struct snap_open_options how = {
		.flags = SNAP_OPEN_WRITE | (source->direct ? SNAP_OPEN_DIRECT : 0),
		.format = source->format,
		.parent_path = source->parent,
	};

	return writes ? snap_open(path, &how, loop, ret, err) :
			tool_open_source(path, source, loop, ret, err);
}

static int report(const struct bench_options *options, const struct bench_report *report)
{
	int status = TOOL_DONE;

	if (options->json) {
		HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

		bench_json(report, json);
		status = tool_print_json(json);
	} else if (!options->quiet) {
		bench_print(report);
		status = tool_flush_output();
	}
	if (bench_errors(report->result))
		return tool_failed(&report->result->err, report->result->err.code);
	return status;
}

static int bench(const struct bench_options *options, struct bench_plan *plan, struct range *range,
		 struct tool_victim *victim, struct hv_err *err)
{
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(free) struct bench_result *result = malloc(sizeof(*result));
	int rc = result ? hv_loop_new(&loop, err) : -ENOMEM;

	if (rc == 0 && bench_writes(plan))
		rc = tool_victim_look(victim, loop, err);
	if (rc == 0)
		rc = open_disk(victim->path, options, bench_writes(plan), loop, &disk, err);
	if (rc == 0)
		rc = fit(plan, range, disk, err);
	if (rc == 0)
		rc = bench_run(disk, plan, result, err);
	if (rc)
		return tool_failed(err, rc);
	return report(options, &(struct bench_report){ .plan = plan,
						       .result = result,
						       .disk = disk,
						       .direct = options->source.direct,
						       .destroyed = victim->contents });
}

static int run_bench(void *arg, int count, char **operands)
{
	const struct bench_options *options = arg;
	struct tool_victim victim = {
		.path = operands[0],
		.format = options->source.format,
		.parent = options->source.parent,
		.verb = "writes to",
		.force = options->force,
	};
	struct bench_plan plan = { .quiet = options->quiet || options->json };
	struct range range;
	HV_ERR(err);
	int status;

	(void)count;
	if (make_plan(options, &plan, &range, &err))
		return tool_usage("bench", "%s", err.sentence);
	status = bench(options, &plan, &range, &victim, &err);
	free(victim.contents);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "pattern",
	  .kind = HV_OPTION_STRING,
	  .argument = "PATTERN",
	  .choices = "random|sequential",
	  .help = "where requests go (default: random)",
	  .offset = offsetof(struct bench_options, pattern) },
	{ .name = "step",
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "from one sequential request to the next (default: its size)",
	  .offset = offsetof(struct bench_options, step) },
	{ .name = "skip",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "leave out the first requests of the pattern",
	  .offset = offsetof(struct bench_options, skip) },
	{ .name = "size",
	  .letter = 's',
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "of a request (default: 4K)",
	  .offset = offsetof(struct bench_options, size) },
	{ .name = "depth",
	  .letter = 'd',
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "requests at a time (default: 32)",
	  .offset = offsetof(struct bench_options, depth) },
	{ .name = "mix",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "PERCENT",
	  .help = "so many reads, the rest writes (default: 100)",
	  .offset = offsetof(struct bench_options, mix) },
	{ .name = "write",
	  .letter = 'w',
	  .kind = HV_OPTION_FLAG,
	  .help = "writes only",
	  .offset = offsetof(struct bench_options, write) },
	{ .name = "seconds",
	  .letter = 't',
	  .kind = HV_OPTION_STRING,
	  .argument = "SECONDS",
	  .help = "how long (default: 10, unless a count is given)",
	  .offset = offsetof(struct bench_options, seconds) },
	{ .name = "requests",
	  .letter = 'n',
	  .kind = HV_OPTION_NUMBER,
	  .argument = "N",
	  .help = "stop after so many requests",
	  .offset = offsetof(struct bench_options, requests) },
	{ .name = "bytes",
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "stop when so much has been transferred",
	  .offset = offsetof(struct bench_options, bytes) },
	{ .name = "warm-up",
	  .kind = HV_OPTION_STRING,
	  .argument = "SECONDS",
	  .help = "begin with so many seconds that do not count",
	  .offset = offsetof(struct bench_options, warm_up) },
	{ .name = "flush-every",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .help = "flush after so many writes, or seconds: 1s",
	  .offset = offsetof(struct bench_options, flush_every) },
	{ .name = "verify",
	  .kind = HV_OPTION_FLAG,
	  .help = "read back what was written, and compare",
	  .offset = offsetof(struct bench_options, verify) },
	{ .name = "seed",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .help = "the same requests and data each time (default: by chance)",
	  .offset = offsetof(struct bench_options, seed) },
	RANGE_OPTIONS(struct bench_options, range),
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "write, which destroys what the disk holds",
	  .offset = offsetof(struct bench_options, force) },
	TOOL_SOURCE_OPTIONS(struct bench_options, source),
	TOOL_DIRECT_OPTION(struct bench_options, source.direct),
	TOOL_JSON_OPTION(struct bench_options, json),
	TOOL_QUIET_OPTION(struct bench_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_bench = {
	.name = "bench",
	.synopsis = "[OPTION]... FILE",
	.help = "measure how fast a disk is",
	.details =
		"Reads, unless --write or --mix says otherwise; writing needs --force. Tells requests and\n"
		"MiB per second, and how long requests took.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct bench_options),
	.run = run_bench,
	.defaults = &defaults,
};
