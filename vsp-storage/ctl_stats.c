/*
 * vspctl stats: a table, JSON, or text for Prometheus.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vsp-storage/ctl.h"

#define SECONDS_MAX 86400

struct stats_options {
	struct ctl_common common;
	bool prometheus;
	const char *watch;
};

static const char *const ops[] = { "read", "write", "zero", "discard", "flush" };

static uint64_t number(const struct hv_json *object, const char *key)
{
	uint64_t value = 0;

	hv_json_get_number(object, key, &value);
	return value;
}

static void print_op(const char *vm, const char *disk, const char *name, struct hv_json *op)
{
	struct hv_json *latency = hv_json_get_object(op, "latency_ns");
	char size[24];

	printf("%-12s %-10s %-8s %12llu %10s %7llu %10.1f %10.1f %10.1f\n", vm, disk, name,
	       (unsigned long long)number(op, "operations"), ctl_size(op, "bytes", size),
	       (unsigned long long)number(op, "errors"), (double)number(latency, "mean") / 1e3,
	       (double)number(latency, "p99") / 1e3, (double)number(latency, "max") / 1e3);
}

static void print_disk(struct hv_json *disk)
{
	HV_AUTO(free) char *vm = ctl_text(disk, "vm"), *name = ctl_text(disk, "disk");

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct hv_json *op = hv_json_get_object(disk, ops[i]);

		if (number(op, "operations"))
			print_op(vm, name, ops[i], op);
	}
}

static int print_stats(const struct stats_options *options, struct hv_json *result)
{
	struct hv_json *disks = hv_json_get_array(result, "disks");
	const char *text = hv_json_get_string(result, "text");

	if (options->prometheus) {
		fputs(text ? text : "", stdout);
		return hv_program_flush("vspctl");
	}
	if (options->common.json)
		return hv_program_print_json("vspctl", result);
	printf("%-12s %-10s %-8s %12s %10s %7s %10s %10s %10s\n", "VM", "DISK", "", "OPERATIONS",
	       "BYTES", "ERRORS", "MEAN us", "P99 us", "MAX us");
	for (size_t i = 0; i < hv_json_count(disks); i++)
		print_disk(hv_json_object_at(disks, i));
	return hv_program_flush("vspctl");
}

static int show_once(const struct stats_options *options, const char *vm)
{
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *request = ctl_request(options->prometheus ? "metrics" : "stats", vm, NULL);
	struct hv_json *result;
	int status = ctl_ask(&options->common, request, &answer, &result);

	return status ? status : print_stats(options, result);
}

static int run_stats(void *arg, int count, char **operands)
{
	const struct stats_options *options = arg;
	const char *vm = count ? operands[0] : NULL;
	bool terminal = isatty(STDOUT_FILENO) && !options->common.json;
	unsigned long seconds = 1;
	int status;

	if (options->watch && *options->watch)
		seconds = strtoul(options->watch, NULL, 10);
	if (options->watch && (options->watch[strspn(options->watch, "0123456789")] || !seconds ||
			       seconds > SECONDS_MAX))
		return hv_program_usage("vspctl", "stats", "'%s' is no number of seconds",
					options->watch);
	do {
		if (options->watch && terminal)
			printf("\033[H\033[J");
		status = show_once(options, vm);
	} while (options->watch && status == HV_PROGRAM_DONE && sleep((unsigned)seconds) == 0);
	return status;
}

static const struct hv_option table[] = {
	{ .name = "watch",
	  .letter = 'w',
	  .kind = HV_OPTION_OPTIONAL,
	  .argument = "SECONDS",
	  .help = "again and again, every second or as often as that",
	  .offset = offsetof(struct stats_options, watch) },
	{ .name = "prometheus",
	  .kind = HV_OPTION_FLAG,
	  .help = "as text for Prometheus",
	  .offset = offsetof(struct stats_options, prometheus) },
	CTL_COMMON_OPTIONS(struct stats_options),
	{ 0 },
};

const struct hv_command ctl_stats = {
	.name = "stats",
	.synopsis = "[VM]",
	.help = "tell what disks have done, and how long it took",
	.options = table,
	.max_operands = 1,
	.options_size = sizeof(struct stats_options),
	.run = run_stats,
};
