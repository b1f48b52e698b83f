/*
 * vhdtool compact: a dynamic or differencing disk gives back the space that holds nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hvcore/fsmap.h"
#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "snapshot/children.h"
#include "vhd/compact.h"
#include "vhdtool/tool.h"

struct compact_options {
	const char *parent;
	bool punch, fs, force, dry_run, secure_zero, direct, json, quiet;
};

struct compaction {
	const struct compact_options *options;
	struct hv_fsmap *fsmap; /* NULL: filesystems are not asked */
	struct hv_progress progress;
	const char *phase;
	struct vhd_compact_result result;
	struct stat asked;                  /* the file, before its filesystems were asked */
	uint64_t space_before, space_after; /* that the file takes */
};

static int open_disk(const char *path, const struct compact_options *options, bool writable,
		     struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options open = {
		.flags =
			(writable ? SNAP_OPEN_WRITE : 0) | (options->direct ? SNAP_OPEN_DIRECT : 0),
		.format = "vhd",
		.parent_path = options->parent,
	};

	return snap_open(path, &open, loop, ret, err);
}

static void on_progress(const char *phase, uint64_t done, uint64_t total, void *arg)
{
	struct compaction *compaction = arg;

	if (phase != compaction->phase) {
		if (compaction->phase)
			hv_progress_end(&compaction->progress);
		compaction->phase = phase;
		hv_progress_start(&compaction->progress, phase, total,
				  compaction->options->quiet || compaction->options->json);
	}
	hv_progress_update(&compaction->progress, done);
}

static bool is_unused(uint64_t offset, uint64_t length, void *arg)
{
	struct compaction *compaction = arg;

	return hv_fsmap_unused(compaction->fsmap, offset, length);
}

static uint64_t space_of(struct hv_disk *disk)
{
	struct stat st;

	return hv_file_stat(vhd_get_file(disk), &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/*
 * Before the disk is opened for writing, so that a mistake does not touch it. The file's times are
 * looked at first: who does not keep to locks may write while we ask, too.
 */
static int ask_filesystems(const char *path, struct compaction *compaction, struct hv_loop *loop,
			   struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	int rc = open_disk(path, compaction->options, false, loop, &disk, err);

	if (rc == 0 && !compaction->options->force)
		rc = snap_refuse_children(disk, "what the filesystems here do not use", err);
	if (rc == 0)
		rc = hv_file_stat(vhd_get_file(disk), &compaction->asked);
	if (rc == 0)
		rc = hv_fsmap_new(disk, &compaction->fsmap, err);
	if (rc == 0 && !hv_fsmap_count(compaction->fsmap))
		rc = hv_fail(err, -EINVAL, "%s: no filesystem was found on the disk to ask", path);
	return rc;
}

/* Between closing the disk and opening it again somebody could have written. */
static int refuse_changed(struct hv_disk *disk, const struct compaction *compaction,
			  struct hv_err *err)
{
	const struct stat *then = &compaction->asked;
	struct stat now;
	int rc = hv_file_stat(vhd_get_file(disk), &now);

	if (rc == 0 && (now.st_ino != then->st_ino || now.st_size != then->st_size ||
			now.st_mtim.tv_sec != then->st_mtim.tv_sec ||
			now.st_mtim.tv_nsec != then->st_mtim.tv_nsec))
		rc = hv_fail(err, -EBUSY, "%s: was changed while its filesystems were asked",
			     disk->path);
	return rc;
}

static int compact(const char *path, struct compaction *compaction, struct hv_loop *loop,
		   struct hv_err *err)
{
	const struct compact_options *options = compaction->options;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct vhd_compact_options how = {
		.punch = options->punch,
		.overwrite = options->secure_zero,
		.dry_run = options->dry_run,
		.progress = on_progress,
		.arg = compaction,
	};
	int rc = options->fs ? ask_filesystems(path, compaction, loop, err) : 0;

	if (rc == 0)
		rc = open_disk(path, options, !options->dry_run, loop, &disk, err);
	if (rc == 0 && compaction->fsmap)
		rc = refuse_changed(disk, compaction, err);
	if (rc)
		return rc;
	if (compaction->fsmap)
		how.unused = is_unused;
	compaction->space_before = space_of(disk);
	rc = vhd_compact(disk, &how, &compaction->result, err);
	hv_progress_end(&compaction->progress);
	compaction->space_after = space_of(disk);
	return rc;
}

static void filesystems_json(struct hv_json *json, const struct hv_fsmap *map)
{
	struct hv_json *list = hv_json_set_array(json, "filesystems");

	for (unsigned i = 0; map && i < hv_fsmap_count(map); i++) {
		const struct hv_fs *fs = hv_fsmap_get(map, i);
		struct hv_json *one = hv_json_add_object(list);

		hv_json_set_string(one, "type", fs->type);
		hv_json_set_number(one, "offset", fs->offset);
		hv_json_set_number(one, "length", fs->length);
		hv_json_set_string(one, "objection", fs->objection);
		hv_json_set_number(one, "unused_bytes", fs->unused_bytes);
	}
}

static int report_json(const char *path, const struct compaction *compaction)
{
	const struct vhd_compact_result *result = &compaction->result;
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

	hv_json_set_string(json, "file", path);
	hv_json_set_bool(json, "dry_run", compaction->options->dry_run);
	hv_json_set_number(json, "blocks", result->blocks);
	hv_json_set_number(json, "freed_blocks", result->freed_blocks);
	hv_json_set_number(json, "moved_blocks", result->moved_blocks);
	hv_json_set_number(json, "punched_bytes", result->punched_bytes);
	hv_json_set_number(json, "file_bytes_before", result->file_bytes_before);
	hv_json_set_number(json, "file_bytes_after", result->file_bytes_after);
	hv_json_set_number(json, "allocated_bytes_before", compaction->space_before);
	hv_json_set_number(json, "allocated_bytes_after", compaction->space_after);
	if (compaction->options->fs)
		filesystems_json(json, compaction->fsmap);
	return tool_print_json(json);
}

static void print_filesystems(const struct hv_fsmap *map)
{
	char size[HV_SIZE_TEXT_SIZE];

	for (unsigned i = 0; map && i < hv_fsmap_count(map); i++) {
		const struct hv_fs *fs = hv_fsmap_get(map, i);

		hv_size_format(fs->unused_bytes, size);
		if (fs->objection)
			printf("%s at byte %" PRIu64 ": taken as used throughout: %s\n", fs->type,
			       fs->offset, fs->objection);
		else
			printf("%s at byte %" PRIu64 ": %s unused\n", fs->type, fs->offset, size);
	}
}

static int report(const char *path, const struct compaction *compaction)
{
	const struct vhd_compact_result *result = &compaction->result;
	bool dry = compaction->options->dry_run;
	char before[HV_SIZE_TEXT_SIZE], after[HV_SIZE_TEXT_SIZE], punched[HV_SIZE_TEXT_SIZE];

	if (compaction->options->json)
		return report_json(path, compaction);
	if (compaction->options->quiet)
		return TOOL_DONE;
	print_filesystems(compaction->fsmap);
	hv_size_format(result->file_bytes_before, before);
	hv_size_format(result->file_bytes_after, after);
	hv_size_format(result->punched_bytes, punched);
	printf("%s: %u of %u blocks %s nothing; the file %s from %s to %s\n", path,
	       result->freed_blocks, result->blocks, dry ? "hold" : "held",
	       dry ? "would go" : "went", before, after);
	if (compaction->options->punch)
		printf("holes %s inside blocks: %s\n", dry ? "to be punched" : "punched", punched);
	else if (!dry)
		printf("%u blocks were moved\n", result->moved_blocks);
	if (!dry) {
		hv_size_format(compaction->space_before, before);
		hv_size_format(compaction->space_after, after);
		printf("the file took %s of the host's disk and takes %s now\n", before, after);
	}
	return tool_flush_output();
}

static int run_compact(void *arg, int count, char **operands)
{
	struct compaction compaction = { .options = arg };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err), status;

	(void)count;
	if (rc == 0)
		rc = compact(operands[0], &compaction, loop, &err);
	status = rc ? tool_failed(&err, rc) : report(operands[0], &compaction);
	hv_fsmap_free(compaction.fsmap);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "punch",
	  .kind = HV_OPTION_FLAG,
	  .help = "move nothing; punch holes in place, also inside blocks",
	  .offset = offsetof(struct compact_options, punch) },
	{ .name = "fs",
	  .kind = HV_OPTION_FLAG,
	  .help = "also give up what the filesystems on the disk do not use",
	  .offset = offsetof(struct compact_options, fs) },
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "with --fs: even if the disk has children",
	  .offset = offsetof(struct compact_options, force) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_FLAG,
	  .help = "overwrite space with zeros before it is given back",
	  .offset = offsetof(struct compact_options, secure_zero) },
	{ .name = "dry-run",
	  .letter = 'n',
	  .kind = HV_OPTION_FLAG,
	  .help = "change nothing, tell what would be gained",
	  .offset = offsetof(struct compact_options, dry_run) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct compact_options, parent) },
	TOOL_DIRECT_OPTION(struct compact_options, direct),
	TOOL_JSON_OPTION(struct compact_options, json),
	TOOL_QUIET_OPTION(struct compact_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_compact = {
	.name = "compact",
	.synopsis = "[OPTION]... FILE",
	.help = "give back the space that holds nothing",
	.details =
		"Blocks of zeros leave the table (in a differencing disk only where the parent reads as zero\n"
		"too), the last blocks move into the places that became free, and the file is cut. The\n"
		"contents stay the same; with --fs, what filesystems do not use reads as zero or as the\n"
		"parent does. It may be interrupted at any time, and run again.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct compact_options),
	.run = run_compact,
};
