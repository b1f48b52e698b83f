/*
 * vspctl drain, events, reload, shutdown.
 */
#include <stddef.h>
#include <string.h>

#include "vsp-storage/ctl.h"

static int run_drain(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	return ctl_do(&options->common, ctl_request("drain", count ? operands[0] : NULL, NULL));
}

const struct hv_command ctl_drain = {
	.name = "drain",
	.synopsis = "[VM]",
	.help = "finish, flush and close the disks of a VM, or all, until the next reload",
	.options = ctl_plain_options,
	.max_operands = 1,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_drain,
};

static void print_event(struct hv_json *event)
{
	HV_AUTO(free) char *time = ctl_text(event, "time"), *what = ctl_text(event, "event");
	HV_AUTO(free) char *vm = ctl_text(event, "vm"), *disk = ctl_text(event, "disk");
	HV_AUTO(free) char *detail = ctl_text(event, "detail");

	printf("%s %-14s %s%s%s%s%s\n", time, what, vm, strcmp(disk, "-") ? "/" : "",
	       strcmp(disk, "-") ? disk : "", strcmp(detail, "-") ? ": " : "",
	       strcmp(detail, "-") ? detail : "");
}

static int run_events(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	(void)count;
	(void)operands;
	return ctl_listen(&options->common, ctl_request("events", NULL, NULL), print_event);
}

const struct hv_command ctl_events = {
	.name = "events",
	.synopsis = "",
	.help = "tell what happens from now on, a line each",
	.options = ctl_plain_options,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_events,
};

/* Faults are told, and are a failure. */
static int run_reload(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *request = ctl_request("reload", count ? operands[0] : NULL, NULL);
	struct hv_json *result, *faults;
	int status = ctl_ask(&options->common, request, &answer, &result);

	if (status)
		return status;
	faults = hv_json_get_array(result, "faults");
	if (options->common.json)
		status = hv_program_print_json("vspctl", result);
	for (size_t i = 0; i < hv_json_count(faults); i++) {
		const struct hv_json *fault = hv_json_object_at(faults, i);
		const char *disk = hv_json_get_string(fault, "disk");

		status = ctl_fail(-1, "VM \"%s\"%s%s%s: %s", hv_json_get_string(fault, "vm"),
				  disk ? ", disk \"" : "", disk ? disk : "", disk ? "\"" : "",
				  hv_json_get_string(fault, "fault"));
	}
	return status;
}

const struct hv_command ctl_reload = {
	.name = "reload",
	.synopsis = "[VM]",
	.help = "read the definitions (of one VM, or all) and the roles again",
	.options = ctl_plain_options,
	.max_operands = 1,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_reload,
};

static int run_shutdown(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	(void)count;
	(void)operands;
	return ctl_do(&options->common, ctl_request("shutdown", NULL, NULL));
}

const struct hv_command ctl_shutdown = {
	.name = "shutdown",
	.synopsis = "",
	.help = "finish, flush and close all disks, and end vspd",
	.options = ctl_plain_options,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_shutdown,
};
