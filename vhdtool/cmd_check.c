/*
 * vhdtool check: every rule of the format, the identity of all parents, and on demand the repair of
 * what can be mended without guessing. Exit status: 0 sound (or all mended), 3 errors were left,
 * 4 nothing but leaks.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "vhd/check.h"
#include "vhdtool/tool.h"

struct check_command {
	bool repair, ascending, no_data, json, quiet, force_share;
	const char *undo_file; /* where repair saves */
	const char *undo;      /* what is to be put back */
	const char *parent;
};

/* One run. */
struct run {
	const struct check_command *options;
	const char *path;
	struct hv_json *list; /* of findings; NULL: text */
	struct vhd_check_result result;
	bool repaired_any;
	bool progressing;
	struct hv_progress progress;
};

static const char *severity_name(enum vhd_severity severity)
{
	static const char *const names[] = {
		[VHD_NOTE] = "note",
		[VHD_LEAK] = "leak",
		[VHD_ERROR] = "error",
	};

	return names[severity];
}

static void add_json(struct hv_json *list, const struct vhd_finding *finding)
{
	struct hv_json *object = hv_json_add_object(list);

	hv_json_set_string(object, "code", finding->code);
	hv_json_set_string(object, "severity", severity_name(finding->severity));
	if (finding->offset == HV_NO_HOST_OFFSET)
		hv_json_set_null(object, "offset");
	else
		hv_json_set_number(object, "offset", finding->offset);
	if (finding->block < 0)
		hv_json_set_null(object, "block");
	else
		hv_json_set_number(object, "block", (uint64_t)finding->block);
	if (finding->disk_length) {
		hv_json_set_number(object, "disk_offset", finding->disk_offset);
		hv_json_set_number(object, "disk_length", finding->disk_length);
	}
	hv_json_set_bool(object, "repairable", finding->repairable);
	hv_json_set_bool(object, "repaired", finding->repaired);
	hv_json_set_string(object, "message", finding->sentence);
}

/* "error bat-overlap block 5 at 1234: sentence" */
static void print_finding(const struct vhd_finding *finding)
{
	printf("%s %s", finding->repaired ? "repaired" : severity_name(finding->severity),
	       finding->code);
	if (finding->block >= 0)
		printf(" block %lld", (long long)finding->block);
	if (finding->offset != HV_NO_HOST_OFFSET)
		printf(" at %llu", (unsigned long long)finding->offset);
	printf(": %s\n", finding->sentence);
}

static void found(const struct vhd_finding *finding, void *arg)
{
	struct run *run = arg;

	run->repaired_any |= finding->repaired;
	if (run->list)
		add_json(run->list, finding);
	else if (!run->options->quiet || (finding->severity == VHD_ERROR && !finding->repaired))
		print_finding(finding);
}

static void show_progress(uint64_t done_bytes, uint64_t total_bytes, void *arg)
{
	struct run *run = arg;

	if (!run->progressing)
		hv_progress_start(&run->progress, "checking", total_bytes,
				  run->options->quiet || run->options->json);
	run->progressing = true;
	hv_progress_update(&run->progress, done_bytes);
}

static int check_file(struct run *run, const char *undo_path, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_check_options options = {
		.repair = run->options->repair,
		.ascending = run->options->ascending,
		.data = !run->options->no_data,
		.undo_path = undo_path,
		.found = found,
		.progress = show_progress,
		.arg = run,
	};
	unsigned flags = (run->options->repair ? HV_FILE_WRITE : 0) |
			 (run->options->force_share ? HV_FILE_NO_LOCK : 0);
	int rc = hv_file_open(run->path, flags, NULL, &file, err);

	if (rc == 0)
		rc = vhd_check(file, &options, &run->result, err);
	hv_progress_end(&run->progress);
	return rc;
}

/* Parents. */

static void report_parent(struct run *run, const char *code, enum vhd_severity severity,
			  const char *sentence)
{
	struct vhd_finding finding = {
		.code = code, .severity = severity, .offset = HV_NO_HOST_OFFSET, .block = -1
	};

	if (severity == VHD_ERROR)
		run->result.errors++;
	else
		run->result.notes++;
	snprintf(finding.sentence, sizeof(finding.sentence), "%s", sentence);
	found(&finding, run);
}

static const char *code_of(enum snap_parent_state state)
{
	switch (state) {
	case SNAP_PARENT_MISSING:
		return "parent-missing";
	case SNAP_PARENT_WRONG:
		return "parent-wrong";
	case SNAP_PARENT_RESIZED:
		return "parent-resized";
	case SNAP_PARENT_LOOP:
		return "parent-loop";
	case SNAP_PARENT_TOO_DEEP:
		return "parent-depth";
	default:
		return "parent-failed";
	}
}

/* Only a note: copying a file changes its time, and some programs record none. */
static void compare_times(struct run *run, const struct snap_layer *layer)
{
	const struct vhd_info *info = vhd_get_info(layer->disk);
	char *sentence;
	struct stat st;

	if (!info->parent_timestamp || !layer->parent_path || stat(layer->parent_path, &st) ||
	    (uint32_t)(st.st_mtime - VHD_EPOCH) == info->parent_timestamp)
		return;
	if (asprintf(
		    &sentence,
		    "%s: its parent '%s' was written to, or copied, since the child was made: its time is %lld, the child has %lld",
		    layer->disk->path, layer->parent_path, (long long)st.st_mtime,
		    (long long)info->parent_timestamp + VHD_EPOCH) < 0)
		return;
	report_parent(run, "parent-timestamp", VHD_NOTE, sentence);
	free(sentence);
}

/*
 * From the leaf up to the base. A leaf that cannot be opened has told why already: the check found
 * errors in it.
 */
static int check_chain(struct run *run, struct hv_loop *loop, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	struct snap_open_options options = {
		.flags = run->options->force_share ? SNAP_OPEN_NO_LOCK : 0,
		.format = "vhd",
		.parent_path = run->options->parent,
	};
	int rc = snap_examine(run->path, &options, loop, &chain, err);

	if (rc)
		return run->result.errors ? 0 : rc;
	for (unsigned i = 0; i < chain->count; i++) {
		const struct snap_layer *layer = &chain->layers[i];

		if (layer->parent == SNAP_PARENT_OK)
			compare_times(run, layer);
		else if (layer->parent != SNAP_PARENT_NONE)
			report_parent(run, code_of(layer->parent), VHD_ERROR,
				      layer->sentence ? layer->sentence :
							"the parent cannot be opened");
	}
	return 0;
}

/* The verdict. */

static void print_count(const char **separator, unsigned count, const char *noun)
{
	if (!count)
		return;
	printf("%s%u %s%s", *separator, count, noun, count == 1 ? "" : "s");
	*separator = ", ";
}

static void print_summary(const struct run *run, const char *undo_path)
{
	const struct vhd_check_result *result = &run->result;
	const char *separator = "";
	char size[HV_SIZE_TEXT_SIZE];

	if (result->untold)
		printf("%u more are not shown\n", result->untold);
	if (!result->errors && !result->leaks) {
		printf("no errors found");
		separator = ", ";
	}
	print_count(&separator, result->errors, "error");
	print_count(&separator, result->leaks, "leak");
	hv_size_format(result->leaked_bytes, size);
	if (result->leaks)
		printf(" (%s)", size);
	print_count(&separator, result->notes, "note");
	if (run->repaired_any)
		printf("%s%u repaired (vhdtool check --undo '%s' '%s' puts it back)", separator,
		       result->repaired, undo_path, run->path);
	else if (result->repairable)
		printf("; --repair can mend %u", result->repairable);
	putchar('\n');
}

static void print_json(struct hv_json *root, const struct run *run, const char *undo_path)
{
	const struct vhd_check_result *result = &run->result;

	hv_json_set_number(root, "errors", result->errors);
	hv_json_set_number(root, "leaks", result->leaks);
	hv_json_set_number(root, "leaked_bytes", result->leaked_bytes);
	hv_json_set_number(root, "notes", result->notes);
	hv_json_set_number(root, "repaired", result->repaired);
	hv_json_set_number(root, "repairable", result->repairable - result->repaired);
	hv_json_set_number(root, "not_shown", result->untold);
	hv_json_set_number(root, "lost_bytes", result->lost_bytes);
	hv_json_set_number(root, "unreadable_blocks", result->unreadable_blocks);
	hv_json_set_number(root, "allocated_blocks", result->allocated_blocks);
	hv_json_set_string(root, "undo_file", run->repaired_any ? undo_path : NULL);
}

static const char *type_name(uint32_t type)
{
	switch (type) {
	case VHD_FIXED:
		return "fixed";
	case VHD_DYNAMIC:
		return "dynamic";
	case VHD_DIFFERENCING:
		return "differencing";
	default:
		return NULL;
	}
}

static int status_of(const struct vhd_check_result *result)
{
	if (result->errors)
		return TOOL_CHECK_ERRORS;
	return result->leaks ? TOOL_CHECK_LEAKS : TOOL_DONE;
}

static int report(struct run *run, struct hv_json *root, const char *undo_path)
{
	int status;

	if (root) {
		hv_json_set_string(root, "type", type_name(run->result.type));
		print_json(root, run, undo_path);
		status = tool_print_json(root);
	} else {
		if (!run->options->quiet)
			print_summary(run, undo_path);
		status = tool_flush_output();
	}
	return status == TOOL_DONE ? status_of(&run->result) : status;
}

static int check(const char *path, const struct check_command *options, const char *undo_path)
{
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_json_free) struct hv_json *root = NULL;
	struct run run = { .options = options, .path = path };
	HV_ERR(err);
	int rc;

	if (options->json) {
		root = hv_json_object();
		hv_json_set_string(root, "file", path);
		run.list = hv_json_set_array(root, "findings");
	}
	rc = check_file(&run, undo_path, &err);
	if (rc == 0 && run.result.type == VHD_DIFFERENCING) {
		rc = hv_loop_new(&loop, &err);
		if (rc == 0)
			rc = check_chain(&run, loop, &err);
	}
	if (rc) {
		tool_flush_output();
		return tool_failed(&err, rc);
	}
	return report(&run, root, undo_path);
}

static int undo(const char *path, const struct check_command *options)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	HV_ERR(err);
	int rc = hv_file_open(path, HV_FILE_WRITE, NULL, &file, &err);

	if (rc == 0)
		rc = vhd_undo(file, options->undo, &err);
	if (rc)
		return tool_failed(&err, rc);
	if (options->json) {
		HV_AUTO(hv_json_free) struct hv_json *root = hv_json_object();

		hv_json_set_string(root, "file", path);
		hv_json_set_string(root, "undone", options->undo);
		return tool_print_json(root);
	}
	if (!options->quiet)
		printf("%s is as it was before the repair; '%s' is not needed any more\n", path,
		       options->undo);
	return tool_flush_output();
}

static int run_check(void *arg, int count, char **operands)
{
	const struct check_command *options = arg;
	HV_AUTO(free) char *undo_path = NULL;

	(void)count;
	if (options->undo && (options->repair || options->undo_file))
		return tool_usage("check", "--undo goes with neither --repair nor --undo-file");
	if (options->undo_file && !options->repair)
		return tool_usage("check", "--undo-file goes with --repair only");
	if (options->repair && options->force_share)
		return tool_usage("check",
				  "--repair wants the file for itself, without --force-share");
	if (options->undo)
		return undo(operands[0], options);
	if (options->undo_file)
		undo_path = strdup(options->undo_file);
	else if (asprintf(&undo_path, "%s.undo", operands[0]) < 0)
		undo_path = NULL;
	if (!undo_path) {
		HV_ERR(err);

		hv_fail(&err, -ENOMEM, "%s: not enough memory", operands[0]);
		return tool_failed(&err, -ENOMEM);
	}
	return check(operands[0], options, undo_path);
}

static const struct hv_option options_table[] = {
	{ .name = "repair",
	  .kind = HV_OPTION_FLAG,
	  .help = "mend what can be mended for certain, after saving what is changed",
	  .offset = offsetof(struct check_command, repair) },
	{ .name = "ascending",
	  .kind = HV_OPTION_FLAG,
	  .help = "blocks are known to be written in ascending order, as by a conversion",
	  .offset = offsetof(struct check_command, ascending) },
	{ .name = "undo-file",
	  .kind = HV_OPTION_STRING,
	  .argument = "UNDOFILE",
	  .help = "where --repair saves what it changes (default: FILE.undo)",
	  .offset = offsetof(struct check_command, undo_file) },
	{ .name = "undo",
	  .kind = HV_OPTION_STRING,
	  .argument = "UNDOFILE",
	  .help = "put back what --repair changed",
	  .offset = offsetof(struct check_command, undo) },
	{ .name = "no-data",
	  .kind = HV_OPTION_FLAG,
	  .help = "do not compare sector bitmaps with data",
	  .offset = offsetof(struct check_command, no_data) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct check_command, parent) },
	{ .name = "force-share",
	  .letter = 'U',
	  .kind = HV_OPTION_FLAG,
	  .help = "check even if another program writes to the file",
	  .offset = offsetof(struct check_command, force_share) },
	TOOL_JSON_OPTION(struct check_command, json),
	TOOL_QUIET_OPTION(struct check_command, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_check = {
	.name = "check",
	.synopsis = "[OPTION]... FILE",
	.help = "look for damage by every rule of the format, and repair it",
	.details =
		"Each finding has a severity, a stable code and a place. Notes are harmless, leaks are\n"
		"space that nothing uses, errors are damage or make readers disagree. --repair never\n"
		"guesses about data.\n"
		"\n"
		"Exit status: 0 sound, or all was repaired; 1 could not be checked; 2 usage; 3 errors\n"
		"were found and left; 4 nothing but leaks.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct check_command),
	.run = run_check,
};
