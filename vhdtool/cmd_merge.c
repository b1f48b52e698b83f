/*
 * vhdtool merge: what a differencing disk and the layers below it hold goes into an ancestor.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/merge_run.h"
#include "vhdtool/tool.h"
#include "vhdtool/zeroing.h"

struct merge_options {
	const char *into;
	const char **siblings_in;
	bool remove, dry_run, force, secure_zero, direct, json, quiet;
};

struct merging {
	const struct merge_options *options;
	const char *child;
	struct hv_progress progress;
	bool started;
	struct snap_merge_report report;
	double seconds;
};

static bool on_progress(const struct snap_merge_progress *now, void *arg)
{
	struct merging *merging = arg;

	if (!merging->started)
		hv_progress_start(&merging->progress, "merging", now->total_bytes,
				  merging->options->quiet || merging->options->json);
	merging->started = true;
	hv_progress_update(&merging->progress, now->reached_bytes);
	return !hv_program_interrupted();
}

static int overwrite(struct hv_file *file, void *arg, struct hv_err *err)
{
	const struct merging *merging = arg;
	struct tool_zero_options options = {
		.mode = TOOL_ZERO_WRITE, .quiet = merging->options->quiet || merging->options->json
	};
	struct tool_zeroing zeroing;

	return tool_zero_file(file, 0, file->size_bytes, &options, &zeroing, err);
}

/* Telling. */

static void layers_json(struct hv_json *json, const struct snap_merge_report *report)
{
	struct hv_json *list = hv_json_set_array(json, "layers");

	for (unsigned i = 0; i < report->levels; i++) {
		const struct snap_merged_layer *layer = &report->layers[i];
		struct hv_json *one = hv_json_add_object(list);

		hv_json_set_string(one, "file", layer->path);
		hv_json_set_number(one, "copied_bytes", layer->copied_bytes);
		hv_json_set_number(one, "copied_blocks", layer->copied_blocks);
		hv_json_set_bool(one, "deleted", layer->removed);
	}
}

static void harmed_json(struct hv_json *json, const struct snap_merge_report *report)
{
	struct hv_json *list = hv_json_set_array(json, "harmed");

	for (unsigned i = 0; i < report->harmed.count; i++) {
		const struct snap_child *child = &report->harmed.list[i];
		struct hv_json *one = hv_json_add_object(list);
		bool target = child->parent == report->levels;

		hv_json_set_string(one, "file", child->path);
		if (child->unknown)
			hv_json_set_null(one, "child_of");
		else
			hv_json_set_string(one, "child_of",
					   target ? report->target :
						    report->layers[child->parent].path);
	}
}

static int report_json(const struct merging *merging)
{
	const struct snap_merge_report *report = &merging->report;
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "file", merging->child);
	hv_json_set_string(json, "into", report->target);
	hv_json_set_bool(json, "dry_run", merging->options->dry_run);
	hv_json_set_number(json, "size_bytes", report->size_bytes);
	hv_json_set_number(json, "target_size_bytes_before", report->target_size_bytes);
	hv_json_set_number(json, "resumed_bytes", report->resumed_bytes);
	hv_json_set_string(json, "restarted", report->restarted);
	hv_json_set_number(json, "merged_bytes", report->merged_bytes);
	hv_json_set_number(json, "copied_bytes", report->copied_bytes);
	hv_json_set_number(json, "zeroed_bytes", report->zeroed_bytes);
	layers_json(json, report);
	harmed_json(json, report);
	hv_json_set_real(json, "seconds", merging->seconds);
	return tool_print_json(json);
}

static void print_harmed(const struct merging *merging)
{
	const struct snap_merge_report *report = &merging->report;

	for (unsigned i = 0; i < report->harmed.count; i++) {
		const struct snap_child *child = &report->harmed.list[i];
		HV_AUTO(free) char *name = hv_harmless(child->path);

		printf("%s: %s\n", name,
		       child->unknown ? "cannot be looked into, and may depend on what changes" :
		       child->parent  ? "depends on what changes, and is not right afterwards" :
					"is a child of what is deleted");
	}
}

static void print_layers(const struct merging *merging)
{
	const struct snap_merge_report *report = &merging->report;
	bool dry = merging->options->dry_run;
	char copied[HV_SIZE_TEXT_SIZE];

	for (unsigned i = 0; i < report->levels; i++) {
		const struct snap_merged_layer *layer = &report->layers[i];
		HV_AUTO(free) char *name = hv_harmless(layer->path);
		const char *then = i ? "; do not use it by itself any more" : "";

		if (dry)
			then = merging->options->remove ? "; would be deleted" : "";
		else if (layer->removed)
			then = "; deleted";
		hv_size_format(layer->copied_bytes, copied);
		printf("  %s of %" PRIu64 " blocks from %s%s\n", copied, layer->copied_blocks, name,
		       then);
	}
}

static int report_text(const struct merging *merging)
{
	const struct snap_merge_report *report = &merging->report;
	HV_AUTO(free) char *target = hv_harmless(report->target);
	char copied[HV_SIZE_TEXT_SIZE], zeroed[HV_SIZE_TEXT_SIZE], size[HV_SIZE_TEXT_SIZE];
	bool dry = merging->options->dry_run;

	hv_size_format(report->size_bytes, size);
	if (report->target_size_bytes < report->size_bytes)
		printf("%s %s up to %s\n", target, dry ? "would grow" : "grew", size);
	if (report->restarted)
		printf("an earlier merge was interrupted, and began again: %s\n",
		       report->restarted);
	if (report->resumed_bytes) {
		hv_size_format(report->resumed_bytes, copied);
		printf("an interrupted merge went on after %s\n", copied);
	}
	hv_size_format(report->copied_bytes, copied);
	hv_size_format(report->zeroed_bytes, zeroed);
	printf("%s: %s into %s: %s %s copied, %s zeroed", merging->child,
	       dry ? "can be merged" : "merged", target, copied, dry ? "to be" : "were", zeroed);
	if (dry)
		putchar('\n');
	else
		printf(", in %.2f s\n", merging->seconds);
	print_layers(merging);
	print_harmed(merging);
	return tool_flush_output();
}

static int report(const struct merging *merging)
{
	if (merging->options->json)
		return report_json(merging);
	return merging->options->quiet ? TOOL_DONE : report_text(merging);
}

static int run_merge(void *arg, int count, char **operands)
{
	const struct merge_options *options = arg;
	struct merging merging = { .options = options, .child = operands[0] };
	struct snap_merge_request request = {
		.child = operands[0],
		.into = options->into,
		.siblings_in = options->siblings_in,
		.force = options->force,
		.remove = options->remove,
		.direct = options->direct,
		.options = { .dry_run = options->dry_run, .overwrite = options->secure_zero },
		.progress = on_progress,
		.before_removal = options->secure_zero ? overwrite : NULL,
		.arg = &merging,
	};
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	double start = hv_now();
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err), status = TOOL_DONE;

	(void)count;
	hv_program_catch_interrupts();
	if (rc == 0)
		rc = snap_merge_run(&request, loop, &merging.report, &err);
	if (merging.started)
		hv_progress_end(&merging.progress);
	merging.seconds = hv_now() - start;
	/* A dry run tells everything, also why it could not be done. */
	if (rc == 0 || (options->dry_run && merging.report.harmed.count))
		status = report(&merging);
	if (rc)
		status = tool_failed(&err, rc);
	snap_merge_report_free(&merging.report);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "into",
	  .kind = HV_OPTION_STRING,
	  .argument = "ANCESTOR",
	  .help = "the layer that receives everything (default: the parent)",
	  .offset = offsetof(struct merge_options, into) },
	{ .name = "delete",
	  .kind = HV_OPTION_FLAG,
	  .help = "delete CHILD and the layers between when all is merged",
	  .offset = offsetof(struct merge_options, remove) },
	{ .name = "siblings-in",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "DIR",
	  .help = "look for other children there too; may be given again",
	  .offset = offsetof(struct merge_options, siblings_in) },
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "even if other disks depend on what changes",
	  .offset = offsetof(struct merge_options, force) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_FLAG,
	  .help = "overwrite space with zeros before it is given back",
	  .offset = offsetof(struct merge_options, secure_zero) },
	{ .name = "dry-run",
	  .letter = 'n',
	  .kind = HV_OPTION_FLAG,
	  .help = "change nothing, tell what would be copied",
	  .offset = offsetof(struct merge_options, dry_run) },
	TOOL_DIRECT_OPTION(struct merge_options, direct),
	TOOL_JSON_OPTION(struct merge_options, json),
	TOOL_QUIET_OPTION(struct merge_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_merge = {
	.name = "merge",
	.synopsis = "[OPTION]... CHILD",
	.help = "put what a differencing disk holds into an ancestor",
	.details =
		"Afterwards ANCESTOR reads as CHILD does. All levels between both are merged in one pass. An\n"
		"interrupted merge goes on where it was when the same command is given again; meanwhile\n"
		"CHILD reads as before.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct merge_options),
	.run = run_merge,
};
