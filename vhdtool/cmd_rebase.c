/*
 * vhdtool rebase: another parent for a differencing disk, without a change of what it reads.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/rebase.h"
#include "vhdtool/tool.h"

struct rebase_options {
	const char *parent, *old_parent;
	bool verify, unsafe, dry_run, secure_zero, direct, json, quiet;
};

struct rebasing {
	const struct rebase_options *options;
	const char *child;
	struct hv_progress progress;
	bool started;
	struct snap_rebase_report report;
	double seconds;
};

static bool on_progress(uint64_t done, uint64_t total, void *arg)
{
	struct rebasing *rebasing = arg;

	if (!rebasing->started)
		hv_progress_start(&rebasing->progress, "comparing", total,
				  rebasing->options->quiet || rebasing->options->json);
	rebasing->started = true;
	hv_progress_update(&rebasing->progress, done);
	return !hv_program_interrupted();
}

static int report_json(const struct rebasing *rebasing)
{
	const struct snap_rebase_report *report = &rebasing->report;
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	char old_uuid[HV_GUID_TEXT_SIZE], uuid[HV_GUID_TEXT_SIZE];

	hv_guid_format(&report->old_uuid, old_uuid);
	hv_guid_format(&report->uuid, uuid);
	hv_json_set_string(json, "file", rebasing->child);
	hv_json_set_bool(json, "dry_run", rebasing->options->dry_run);
	hv_json_set_bool(json, "verified", !rebasing->options->unsafe);
	hv_json_set_string(json, "old_parent", report->old_parent);
	hv_json_set_string(json, "old_parent_uuid", old_uuid);
	hv_json_set_string(json, "parent", report->parent);
	hv_json_set_string(json, "parent_uuid", uuid);
	hv_json_set_number(json, "size_bytes", report->size_bytes);
	hv_json_set_number(json, "compared_bytes", report->compared_bytes);
	hv_json_set_number(json, "copied_bytes", report->copied_bytes);
	hv_json_set_number(json, "zeroed_bytes", report->zeroed_bytes);
	hv_json_set_real(json, "seconds", rebasing->seconds);
	return tool_print_json(json);
}

static void print_comparison(const struct rebasing *rebasing)
{
	const struct snap_rebase_report *report = &rebasing->report;
	char compared[HV_SIZE_TEXT_SIZE], copied[HV_SIZE_TEXT_SIZE];

	if (rebasing->options->unsafe) {
		printf("nothing was compared: where %s holds nothing, it reads as the new parent does\n",
		       rebasing->child);
		return;
	}
	hv_size_format(report->compared_bytes, compared);
	hv_size_format(report->copied_bytes, copied);
	printf("%s compared, %s %s copied into %s, in %.2f s\n", compared, copied,
	       rebasing->options->dry_run ? "would be" : "were", rebasing->child,
	       rebasing->seconds);
}

static int report(const struct rebasing *rebasing)
{
	const struct snap_rebase_report *report = &rebasing->report;
	HV_AUTO(free) char *parent = hv_harmless(report->parent);
	char uuid[HV_GUID_TEXT_SIZE];

	if (rebasing->options->json)
		return report_json(rebasing);
	if (rebasing->options->quiet)
		return TOOL_DONE;
	hv_guid_format(&report->uuid, uuid);
	printf("%s: %s a child of %s, UUID %s%s\n", rebasing->child,
	       rebasing->options->dry_run ? "can become" : "now", parent, uuid,
	       hv_guid_equal(&report->uuid, &report->old_uuid) ? ", as before" : "");
	print_comparison(rebasing);
	return tool_flush_output();
}

static int run_rebase(void *arg, int count, char **operands)
{
	const struct rebase_options *options = arg;
	struct rebasing rebasing = { .options = options, .child = operands[0] };
	struct snap_rebase_request request = {
		.child = operands[0],
		.parent = options->parent,
		.old_parent = options->old_parent,
		.unsafe = options->unsafe,
		.dry_run = options->dry_run,
		.overwrite = options->secure_zero,
		.direct = options->direct,
		.progress = on_progress,
		.arg = &rebasing,
	};
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	double start = hv_now();
	HV_ERR(err);
	int rc, status;

	(void)count;
	if (!options->parent)
		return tool_usage("rebase", "--parent is needed");
	if (options->verify && options->unsafe)
		return tool_usage("rebase", "--verify and --unsafe exclude each other");
	hv_program_catch_interrupts();
	rc = hv_loop_new(&loop, &err);
	if (rc == 0)
		rc = snap_rebase(&request, loop, &rebasing.report, &err);
	if (rebasing.started)
		hv_progress_end(&rebasing.progress);
	rebasing.seconds = hv_now() - start;
	status = rc ? tool_failed(&err, rc) : report(&rebasing);
	snap_rebase_report_free(&rebasing.report);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "NEW",
	  .help = "the new parent",
	  .offset = offsetof(struct rebase_options, parent) },
	{ .name = "old-parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the old parent is (default: found by what CHILD records)",
	  .offset = offsetof(struct rebase_options, old_parent) },
	{ .name = "verify",
	  .kind = HV_OPTION_FLAG,
	  .help = "compare both parents, copy into CHILD what differs (the default)",
	  .offset = offsetof(struct rebase_options, verify) },
	{ .name = "unsafe",
	  .kind = HV_OPTION_FLAG,
	  .help = "change the record only, whatever the new parent holds",
	  .offset = offsetof(struct rebase_options, unsafe) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_FLAG,
	  .help = "overwrite space with zeros before it is given back",
	  .offset = offsetof(struct rebase_options, secure_zero) },
	{ .name = "dry-run",
	  .letter = 'n',
	  .kind = HV_OPTION_FLAG,
	  .help = "change nothing, tell what would be copied",
	  .offset = offsetof(struct rebase_options, dry_run) },
	TOOL_DIRECT_OPTION(struct rebase_options, direct),
	TOOL_JSON_OPTION(struct rebase_options, json),
	TOOL_QUIET_OPTION(struct rebase_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_rebase = {
	.name = "rebase",
	.synopsis = "--parent NEW [OPTION]... CHILD",
	.help = "give a differencing disk another parent",
	.details =
		"What CHILD reads stays the same: where it holds nothing and the two parents differ, it is\n"
		"given what it read so far. --unsafe leaves that out, for a parent that was moved or renamed;\n"
		"then the old one need not be there.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct rebase_options),
	.run = run_rebase,
};
