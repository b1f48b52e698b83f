/*
 * vspctl disk ...
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/size.h"
#include "vsp-storage/ctl.h"
#include "vsp-storage/ctl_describe.h"

char *ctl_doubled(const char *text)
{
	char *copy = malloc(2 * strlen(text) + 1), *end = copy;

	for (; copy && *text; text++) {
		*end++ = *text;
		if (*text == ',')
			*end++ = ',';
	}
	if (copy)
		*end = '\0';
	return copy;
}

static char *absolute_path(const char *description)
{
	HV_AUTO(free) char *directory = get_current_dir_name(), *escaped = NULL;
	const char *file = strchr(description, '=');
	char *text;

	if (!file || file[1] == '/' || !file[1] || !directory)
		return strdup(description);
	escaped = ctl_doubled(directory);
	if (!escaped || asprintf(&text, "%.*s%s/%s", (int)(file + 1 - description), description,
				 escaped, file + 1) < 0)
		return NULL;
	return text;
}

void ctl_add_disk(struct hv_json *array, const char *description)
{
	HV_AUTO(free) char *absolute = absolute_path(description);

	hv_json_add_string(array, absolute);
}

void ctl_add_options(struct hv_json *request, int count, char **options)
{
	struct hv_json *list = hv_json_set_array(request, "options");

	for (int i = 0; i < count; i++)
		hv_json_add_string(list, options[i]);
}

static int run_attach(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	HV_AUTO(free) char *description = absolute_path(operands[1]);

	(void)count;
	return ctl_do(&options->common, ctl_request("disk.attach", operands[0], description));
}

const struct hv_command ctl_disk_attach = {
	.name = "disk attach",
	.synopsis = "VM NAME=FILE[,OPTION...]",
	.help = "give a VM another disk",
	.details = "Options are those of vm.conf(5): readonly, cache=MODE, iops=N, ...",
	.options = ctl_plain_options,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_attach,
};

static int run_detach(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	(void)count;
	return ctl_do(&options->common, ctl_request("disk.detach", operands[0], operands[1]));
}

const struct hv_command ctl_disk_detach = {
	.name = "disk detach",
	.synopsis = "VM DISK",
	.help = "take a disk away from a VM; its file stays, flushed and closed",
	.options = ctl_plain_options,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_detach,
};

static int run_resize(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;
	struct hv_json *request;
	uint64_t bytes;
	HV_ERR(err);

	(void)count;
	if (hv_size_parse(operands[2], &bytes, &err))
		return hv_program_usage("vspctl", "disk resize", "%s", err.sentence);
	request = ctl_request("disk.resize", operands[0], operands[1]);
	hv_json_set_number(request, "size_bytes", bytes);
	return ctl_do(&options->common, request);
}

const struct hv_command ctl_disk_resize = {
	.name = "disk resize",
	.synopsis = "VM DISK SIZE",
	.help = "make a VHD larger while it is served",
	.options = ctl_plain_options,
	.min_operands = 3,
	.max_operands = 3,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_resize,
};

struct set_options {
	struct ctl_common common;
	bool reattach;
};

static int run_set(void *arg, int count, char **operands)
{
	const struct set_options *options = arg;
	struct hv_json *request = ctl_request("disk.set", operands[0], operands[1]);

	ctl_add_options(request, count - 2, operands + 2);
	hv_json_set_bool(request, "reattach", options->reattach);
	return ctl_do(&options->common, request);
}

static const struct hv_option set_table[] = {
	{ .name = "reattach",
	  .kind = HV_OPTION_FLAG,
	  .help = "also what needs the disk to be closed: its clients have to come again",
	  .offset = offsetof(struct set_options, reattach) },
	CTL_COMMON_OPTIONS(struct set_options),
	{ 0 },
};

const struct hv_command ctl_disk_set = {
	.name = "disk set",
	.synopsis = "VM DISK KEY=VALUE...",
	.help = "change a disk's options: limits and on-error at once, others with --reattach",
	.options = set_table,
	.min_operands = 3,
	.max_operands = -1,
	.options_size = sizeof(struct set_options),
	.run = run_set,
};

static int run_resume(void *arg, int count, char **operands)
{
	const struct ctl_plain_options *options = arg;

	(void)count;
	return ctl_do(&options->common, ctl_request("disk.resume", operands[0], operands[1]));
}

const struct hv_command ctl_disk_resume = {
	.name = "disk resume",
	.synopsis = "VM DISK",
	.help = "have a disk that has stopped on an error try again at once",
	.options = ctl_plain_options,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct ctl_plain_options),
	.run = run_resume,
};
