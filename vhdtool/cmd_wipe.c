/*
 * vhdtool wipe: an existing disk's contents become zeros; the disk stays what it is.
 *
 * Of a fixed or raw disk the file's range is zeroed, of a dynamic one every allocated block. A
 * differencing disk comes to hide its parent: it holds zeros wherever the parent has data, and the
 * parent itself is not touched.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "vhd/vhd.h"
#include "vhdtool/tool.h"
#include "vhdtool/victim.h"
#include "vhdtool/zeroing.h"

struct wipe_options {
	const char *secure_zero, *format, *parent;
	bool force, json, quiet;
};

struct wiping {
	const struct wipe_options *options;
	const char *path;
	struct hv_loop *loop;
	struct tool_victim victim;
	struct tool_zeroing zeroing;
	double started;
};

static int wipe_raw(struct wiping *wiping, const struct tool_zero_options *zero, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	int rc = hv_file_open(wiping->path, HV_FILE_WRITE | HV_FILE_DIRECT, wiping->loop, &file,
			      err);

	if (rc)
		return rc;
	return tool_zero_file(file, 0, file->size_bytes, zero, &wiping->zeroing, err);
}

static int wipe_vhd(struct wiping *wiping, const struct tool_zero_options *zero, struct hv_err *err)
{
	const struct snap_open_options open = {
		.flags = SNAP_OPEN_WRITE | SNAP_OPEN_DIRECT,
		.format = "vhd",
		.parent_path = wiping->options->parent,
	};
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	const struct vhd_info *info;
	int rc = snap_open(wiping->path, &open, wiping->loop, &disk, err);

	if (rc)
		return rc;
	info = vhd_get_info(disk);
	if (info->type == VHD_FIXED)
		return tool_zero_file(vhd_get_file(disk), 0, disk->size_bytes, zero,
				      &wiping->zeroing, err);
	return tool_zero_disk(disk, info->block_bytes, zero, &wiping->zeroing, err);
}

static int wipe(struct wiping *wiping, struct hv_err *err)
{
	const struct wipe_options *options = wiping->options;
	struct tool_zero_options zero = {
		.mode = options->secure_zero ? tool_zero_mode_of(options->secure_zero) :
					       TOOL_ZERO_AUTO,
		.quiet = options->quiet || options->json,
	};
	/* The disk is open only while it is looked at, so that what is read is not in the way. */
	int rc = tool_victim_look(&wiping->victim, wiping->loop, err);

	if (rc)
		return rc;
	if (!strcmp(wiping->victim.type, "raw"))
		return wipe_raw(wiping, &zero, err);
	return wipe_vhd(wiping, &zero, err);
}

static int report(const struct wiping *wiping)
{
	const struct tool_victim *victim = &wiping->victim;
	char size[HV_SIZE_TEXT_SIZE];

	if (wiping->options->json) {
		HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

		hv_json_set_string(json, "file", wiping->path);
		hv_json_set_string(json, "type", victim->type);
		hv_json_set_number(json, "size_bytes", victim->size_bytes);
		hv_json_set_string(json, "destroyed", victim->contents);
		tool_zeroing_json(json, &wiping->zeroing);
		hv_json_set_string(json, "reads_as_zeros", wiping->zeroing.grounds);
		hv_json_set_real(json, "seconds", hv_now() - wiping->started);
		return tool_print_json(json);
	}
	if (wiping->options->quiet)
		return TOOL_DONE;
	hv_size_format(victim->size_bytes, size);
	printf("%s: %s, %s: wiped%s%s\n", wiping->path, victim->type, size,
	       victim->contents ? ", it held " : "", victim->contents ? victim->contents : "");
	tool_zeroing_print(&wiping->zeroing);
	printf("reads as zeros: %s\n", wiping->zeroing.grounds);
	if (!strcmp(victim->type, "differencing"))
		printf("the parent is not changed: this disk now hides it\n");
	return tool_flush_output();
}

static int run_wipe(void *arg, int count, char **operands)
{
	const struct wipe_options *options = arg;
	struct wiping wiping = {
		.options = options,
		.path = operands[0],
		.victim = { .path = operands[0],
			    .format = options->format,
			    .parent = options->parent,
			    .verb = "wipes",
			    .force = options->force },
		.started = hv_now(),
	};
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err), status;

	(void)count;
	wiping.loop = loop;
	if (rc == 0)
		rc = wipe(&wiping, &err);
	status = rc ? tool_failed(&err, rc) : report(&wiping);
	free(wiping.victim.contents);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "do it; without, only what would be destroyed is named",
	  .offset = offsetof(struct wipe_options, force) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_OPTIONAL,
	  .argument = "MODE",
	  .choices = TOOL_ZERO_CHOICES,
	  .help = "the fastest way that leaves zeros, or writing (default: auto)",
	  .offset = offsetof(struct wipe_options, secure_zero) },
	{ .name = "from",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of FILE; raw also for a block device without a footer",
	  .offset = offsetof(struct wipe_options, format) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct wipe_options, parent) },
	TOOL_JSON_OPTION(struct wipe_options, json),
	TOOL_QUIET_OPTION(struct wipe_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_wipe = {
	.name = "wipe",
	.synopsis = "--force [OPTION]... FILE",
	.help = "zero the contents of a disk",
	.details =
		"The disk stays what it is: footer, header and table are kept, blocks stay allocated.\n"
		"A differencing disk is made to read as zeros everywhere; its parent is not touched.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct wipe_options),
	.run = run_wipe,
};
