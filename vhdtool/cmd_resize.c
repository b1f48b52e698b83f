/*
 * vhdtool resize: another virtual size for a disk.
 *
 * A disk is made smaller only when what is cut off reads as zero, and no partition or filesystem
 * reaches into it; larger, without touching what is on it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/probe.h"
#include "hvcore/scan.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "snapshot/children.h"
#include "vhd/vhd.h"
#include "vhdtool/tool.h"

struct resize_options {
	const char *parent;
	bool force, dry_run, secure_zero, json, quiet;
};

struct resizing {
	const struct resize_options *options;
	const char *path;
	uint64_t old_bytes, new_bytes;
	bool gpt; /* a GPT, whose copy stays where the disk ended */
};

/* "50G" is a size, "+10G" and "-10G" are changes. */
static int parse_size(const char *text, uint64_t now, uint64_t *ret, struct hv_err *err)
{
	uint64_t bytes;
	int rc = hv_size_parse(text + (*text == '+' || *text == '-'), &bytes, err);

	if (rc)
		return rc;
	if (*text == '-' && bytes >= now)
		return hv_fail(err, -EINVAL, "'%s' leaves nothing of %" PRIu64 " bytes", text, now);
	if (*text == '+' && bytes > INT64_MAX - now)
		return hv_fail(err, -EOVERFLOW, "'%s' is too much", text);
	*ret = *text == '+' ? now + bytes : *text == '-' ? now - bytes : bytes;
	return 0;
}

static int open_disk(const struct resizing *resizing, unsigned flags, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options open = {
		.flags = flags,
		.format = "vhd",
		.parent_path = resizing->options->parent,
	};

	return snap_open(resizing->path, &open, loop, ret, err);
}

/* Does anything that libblkid finds reach beyond the new end? */
static int judge_contents(const struct resizing *resizing, const struct hv_probe *probe,
			  struct hv_err *err)
{
	for (unsigned i = 0; i < probe->partition_count; i++) {
		const struct hv_partition *partition = &probe->partitions[i];

		if (partition->offset + partition->length > resizing->new_bytes)
			return hv_fail(err, -EBUSY,
				       "%s: partition %u (%s) reaches up to byte %" PRIu64
				       ", beyond the new size; make it smaller first",
				       resizing->path, partition->number,
				       *partition->content.type ? partition->content.type :
								  "of no known kind",
				       partition->offset + partition->length);
	}
	if (*probe->whole.type && !resizing->options->force)
		return hv_fail(
			err, -EBUSY,
			"%s: the disk holds %s, which may reach beyond the new size; make it smaller first, then use --force",
			resizing->path, probe->whole.type);
	return 0;
}

static int judge_shrinking(const struct resizing *resizing, struct hv_disk *disk,
			   const struct hv_probe *probe, struct hv_err *err)
{
	int rc = judge_contents(resizing, probe, err);

	if (rc)
		return rc;
	rc = hv_disk_is_zero(disk, resizing->new_bytes, resizing->old_bytes - resizing->new_bytes,
			     err);
	if (rc == 0)
		return hv_fail(
			err, -EBUSY, "%s: there is data beyond the new size%s", resizing->path,
			resizing->gpt ? "; that may be the copy of the GPT at the disk's end" : "");
	return rc < 0 ? rc : 0;
}

/* Everything that can be known before the disk is touched. */
static int judge(struct resizing *resizing, const char *size, struct hv_loop *loop,
		 struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	int rc = open_disk(resizing, 0, loop, &disk, err);

	if (rc)
		return rc;
	resizing->old_bytes = disk->size_bytes;
	rc = parse_size(size, disk->size_bytes, &resizing->new_bytes, err);
	if (rc || resizing->new_bytes == resizing->old_bytes)
		return rc;
	if (!resizing->new_bytes || resizing->new_bytes % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL, "a size of %" PRIu64 " bytes is not a multiple of 512",
			       resizing->new_bytes);
	rc = resizing->options->force ? 0 : snap_refuse_children(disk, "its size", err);
	if (rc == 0)
		rc = hv_probe_disk(disk, &probe, err);
	if (rc)
		return rc;
	resizing->gpt = !strcmp(probe->table, "gpt");
	if (resizing->new_bytes < resizing->old_bytes)
		rc = judge_shrinking(resizing, disk, probe, err);
	return rc;
}

static int resize(struct resizing *resizing, const char *size, struct hv_loop *loop,
		  struct hv_err *err)
{
	const struct resize_options *options = resizing->options;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	int rc = judge(resizing, size, loop, err);

	if (rc || options->dry_run || resizing->new_bytes == resizing->old_bytes)
		return rc;
	rc = open_disk(resizing, SNAP_OPEN_WRITE, loop, &disk, err);
	if (rc)
		return rc;
	return vhd_resize(disk, resizing->new_bytes,
			  options->secure_zero ? VHD_RESIZE_OVERWRITE : 0, err);
}

static int report(const struct resizing *resizing)
{
	const struct resize_options *options = resizing->options;
	char before[HV_SIZE_TEXT_SIZE], after[HV_SIZE_TEXT_SIZE];

	if (options->json) {
		HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

		hv_json_set_string(json, "file", resizing->path);
		hv_json_set_bool(json, "dry_run", options->dry_run);
		hv_json_set_number(json, "size_bytes_before", resizing->old_bytes);
		hv_json_set_number(json, "size_bytes", resizing->new_bytes);
		return tool_print_json(json);
	}
	if (options->quiet)
		return TOOL_DONE;
	hv_size_format(resizing->old_bytes, before);
	hv_size_format(resizing->new_bytes, after);
	if (resizing->old_bytes == resizing->new_bytes)
		printf("%s: has %s already\n", resizing->path, after);
	else
		printf("%s: %s from %s to %s\n", resizing->path,
		       options->dry_run ? "can be resized" : "resized", before, after);
	if (resizing->gpt && resizing->new_bytes > resizing->old_bytes)
		printf("the copy of its GPT belongs at the new end: 'sgdisk -e' in the guest moves it\n");
	return tool_flush_output();
}

static int run_resize(void *arg, int count, char **operands)
{
	struct resizing resizing = { .options = arg, .path = operands[0] };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	uint64_t ignored;
	HV_ERR(err);
	int rc = parse_size(operands[1], INT64_MAX / 2, &ignored, &err);

	(void)count;
	if (rc)
		return tool_usage("resize", "%s", err.sentence);
	rc = hv_loop_new(&loop, &err);
	if (rc == 0)
		rc = resize(&resizing, operands[1], loop, &err);
	return rc ? tool_failed(&err, rc) : report(&resizing);
}

static const struct hv_option options_table[] = {
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "even if it has children, or a filesystem that may reach beyond the new size",
	  .offset = offsetof(struct resize_options, force) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_FLAG,
	  .help = "overwrite space with zeros before it is given back",
	  .offset = offsetof(struct resize_options, secure_zero) },
	{ .name = "dry-run",
	  .letter = 'n',
	  .kind = HV_OPTION_FLAG,
	  .help = "change nothing, tell whether it can be done",
	  .offset = offsetof(struct resize_options, dry_run) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct resize_options, parent) },
	TOOL_JSON_OPTION(struct resize_options, json),
	TOOL_QUIET_OPTION(struct resize_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_resize = {
	.name = "resize",
	.synopsis = "[OPTION]... FILE SIZE",
	.help = "give a disk another size",
	.details =
		"SIZE is the new size (50G), or a change (+10G, or -10G after --). New space reads as zero. A\n"
		"disk becomes smaller only when what is cut off reads as zero and no partition reaches into\n"
		"it. Partitions and filesystems keep their size: that is the guest's business.",
	.options = options_table,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct resize_options),
	.run = run_resize,
};
