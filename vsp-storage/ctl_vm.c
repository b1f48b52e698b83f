/*
 * vspctl vm ...
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vsp-storage/ctl.h"
#include "vsp-storage/ctl_describe.h"

struct add_options {
	struct ctl_common common;
	const char **disks, **options;
};

static int run_add(void *arg, int count, char **operands)
{
	const struct add_options *options = arg;
	struct hv_json *request = ctl_request("vm.add", operands[0], NULL), *list;

	(void)count;
	list = hv_json_set_array(request, "disks");
	for (const char **disk = options->disks; disk && *disk; disk++)
		ctl_add_disk(list, *disk);
	list = hv_json_set_array(request, "options");
	for (const char **option = options->options; option && *option; option++)
		hv_json_add_string(list, *option);
	return ctl_do(&options->common, request);
}

static const struct hv_option add_table[] = {
	{ .name = "disk",
	  .letter = 'd',
	  .kind = HV_OPTION_STRINGS,
	  .argument = "NAME=FILE[,OPTION...]",
	  .help = "a disk of the VM; may be given several times",
	  .offset = offsetof(struct add_options, disks) },
	{ .name = "set",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "KEY=VALUE",
	  .help = "a setting of the VM, such as iops=5000; likewise",
	  .offset = offsetof(struct add_options, options) },
	CTL_COMMON_OPTIONS(struct add_options),
	{ 0 },
};

const struct hv_command ctl_vm_add = {
	.name = "vm add",
	.synopsis = "NAME [--disk NAME=FILE[,OPTION...]]... [--set KEY=VALUE]...",
	.help = "define a VM and serve its disks",
	.details = "Options of a disk are those of vm.conf(5): readonly, cache=MODE, iops=N, ...",
	.options = add_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct add_options),
	.run = run_add,
};

/* Showing. */

static void print_disk(struct hv_json *disk)
{
	HV_AUTO(free) char *name = ctl_text(disk, "name"), *state = ctl_text(disk, "state");
	HV_AUTO(free) char *file = ctl_text(disk, "file"), *format = ctl_text(disk, "format");
	HV_AUTO(free) char *fault = ctl_text(disk, "fault");
	bool connected = false;
	uint64_t clients = 0;
	char size[24];

	hv_json_get_bool(disk, "vhost_connected", &connected);
	hv_json_get_number(disk, "nbd_connections", &clients);
	printf("  %-12s %-8s %10s  %-12s %-5s %3llu  %s\n", name, state,
	       ctl_size(disk, "size_bytes", size), format, connected ? "yes" : "no",
	       (unsigned long long)clients, file);
	if (strcmp(fault, "-") != 0)
		printf("  %-12s %s\n", "", fault);
}

static void print_limit(struct hv_json *vm, const char *key)
{
	struct hv_json *limits = hv_json_get_object(vm, "limits");
	uint64_t value;

	if (hv_json_get_number(limits, key, &value) && value)
		printf("%s %llu per second\n", key, (unsigned long long)value);
}

static void print_vm(struct hv_json *vm)
{
	HV_AUTO(free) char *name = ctl_text(vm, "name"), *fault = ctl_text(vm, "fault");
	struct hv_json *disks = hv_json_get_array(vm, "disks");

	printf("%s\n", name);
	if (strcmp(fault, "-") != 0)
		printf("not as its file says: %s\n", fault);
	print_limit(vm, "iops");
	print_limit(vm, "bandwidth");
	printf("  %-12s %-8s %10s  %-12s %-5s %3s  %s\n", "DISK", "STATE", "SIZE", "FORMAT",
	       "GUEST", "NBD", "FILE");
	for (size_t i = 0; i < hv_json_count(disks); i++)
		print_disk(hv_json_object_at(disks, i));
}

static int run_show(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *result;
	int status = ctl_ask(&options->common, ctl_request("vm.show", operands[0], NULL), &answer,
			     &result);

	(void)count;
	if (status == HV_PROGRAM_DONE && options->common.json)
		return hv_program_print_json("vspctl", result);
	if (status == HV_PROGRAM_DONE)
		print_vm(result);
	return status;
}

const struct hv_command ctl_vm_show = {
	.name = "vm show",
	.synopsis = "NAME",
	.help = "tell about a VM and its disks",
	.options = ctl_plain_options,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_show,
};

/* How many disks there are, and are served. */
static void print_line(struct hv_json *vm)
{
	HV_AUTO(free) char *name = ctl_text(vm, "name");
	struct hv_json *disks = hv_json_get_array(vm, "disks");
	bool fault = hv_json_get_string(vm, "fault");
	size_t served = 0;

	for (size_t i = 0; i < hv_json_count(disks); i++) {
		struct hv_json *disk = hv_json_object_at(disks, i);
		const char *state = hv_json_get_string(disk, "state");

		served += state && !strcmp(state, "served");
		fault |= hv_json_get_string(disk, "fault") != NULL;
	}
	printf("%-20s %5zu %6zu  %s\n", name, hv_json_count(disks), served, fault ? "fault" : "ok");
}

static int run_list(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	HV_AUTO(hv_json_free) struct hv_json *answer = NULL;
	struct hv_json *result, *vms;
	int status =
		ctl_ask(&options->common, ctl_request("vm.list", NULL, NULL), &answer, &result);

	(void)count;
	(void)operands;
	if (status)
		return status;
	if (options->common.json)
		return hv_program_print_json("vspctl", result);
	vms = hv_json_get_array(result, "vms");
	printf("%-20s %5s %6s  %s\n", "VM", "DISKS", "SERVED", "STATE");
	for (size_t i = 0; i < hv_json_count(vms); i++)
		print_line(hv_json_object_at(vms, i));
	return HV_PROGRAM_DONE;
}

const struct hv_command ctl_vm_list = {
	.name = "vm list",
	.synopsis = "",
	.help = "list the VMs",
	.options = ctl_plain_options,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_list,
};

static int run_remove(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	(void)count;
	return ctl_do(&options->common, ctl_request("vm.remove", operands[0], NULL));
}

const struct hv_command ctl_vm_remove = {
	.name = "vm remove",
	.synopsis = "NAME",
	.help = "remove a VM's definition and close its disks, whose files stay",
	.options = ctl_plain_options,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_remove,
};

static int run_set(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	struct hv_json *request = ctl_request("vm.set", operands[0], NULL);

	ctl_add_options(request, count - 1, operands + 1);
	return ctl_do(&options->common, request);
}

const struct hv_command ctl_vm_set = {
	.name = "vm set",
	.synopsis = "NAME KEY=VALUE...",
	.help = "change what all disks of a VM may use together",
	.options = ctl_plain_options,
	.min_operands = 2,
	.max_operands = -1,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_set,
};
