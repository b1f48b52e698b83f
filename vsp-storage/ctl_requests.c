/*
 * vspctl requests: the flight recorder of a disk.
 */
#include "vsp-storage/ctl.h"

static double ms(const struct hv_json *record, const char *key)
{
	uint64_t ns = 0;

	hv_json_get_number(record, key, &ns);
	return (double)ns / 1e6;
}

static void print_record(const char *what, struct hv_json *record)
{
	HV_AUTO(free) char *operation = ctl_text(record, "operation");
	HV_AUTO(free) char *error = ctl_text(record, "error");
	uint64_t offset = 0, length = 0, depth = 0;
	bool fua = false;

	hv_json_get_number(record, "offset", &offset);
	hv_json_get_number(record, "length", &length);
	hv_json_get_number(record, "depth", &depth);
	hv_json_get_bool(record, "fua", &fua);
	printf("%-9s %12.3f %-7s %-3s %14llu %9llu %11.3f %11.3f %5llu  %s\n", what,
	       ms(record, "began_ns_ago"), operation, fua ? "fua" : "", (unsigned long long)offset,
	       (unsigned long long)length, ms(record, "took_ns"), ms(record, "held_ns"),
	       (unsigned long long)depth, error);
}

static void print_list(const char *what, struct hv_json *list)
{
	for (size_t i = 0; i < hv_json_count(list); i++)
		print_record(what, hv_json_object_at(list, i));
}

static int run_requests(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *request = ctl_request("disk.requests", operands[0], operands[1]), *result;
	int status = ctl_ask(&options->common, request, &answer, &result);

	(void)count;
	if (status)
		return status;
	if (options->common.json)
		return hv_program_print_json("vspctl", result);
	printf("%-9s %12s %-7s %-3s %14s %9s %11s %11s %5s  %s\n", "", "BEGAN ms ago", "WHAT", "",
	       "OFFSET", "BYTES", "TOOK ms", "HELD ms", "DEPTH", "ERROR");
	print_list("slow", hv_json_get_array(result, "slow"));
	print_list("done", hv_json_get_array(result, "last"));
	print_list("in flight", hv_json_get_array(result, "in_flight"));
	return hv_program_flush("vspctl");
}

const struct hv_command ctl_requests = {
	.name = "requests",
	.synopsis = "VM DISK",
	.help = "tell which requests are in flight, were slow, and were the last",
	.options = ctl_plain_options,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_requests,
};
