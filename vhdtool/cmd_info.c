/*
 * vhdtool info: everything that a disk's files say, without judging it (that is check's work). A
 * disk whose parent is missing is described as far as it goes; only a leaf that cannot be opened is
 * a failure. Nothing is read but metadata and, for libblkid, the ends of the disk and of its
 * partitions.
 */
#include <stdio.h>

#include "snapshot/describe.h"
#include "vhdtool/tool.h"

struct info_options {
	struct tool_source source;
	bool chain, json, quiet;
};

static void describe_contents(const struct hv_description *out, struct snap_chain *chain)
{
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_ERR(err);
	int rc = snap_chain_stack(chain, &disk, &err);

	if (rc == 0)
		rc = hv_probe_disk(disk, &probe, &err);
	hv_describe_contents(out, probe, hv_err_text(&err, rc));
}

static int run_info(void *arg, int operand_count, char **operands)
{
	const struct info_options *options = arg;
	const struct snap_open_options how = {
		.flags = options->source.force_share ? SNAP_OPEN_NO_LOCK : 0,
		.format = options->source.format,
		.parent_path = options->source.parent,
	};
	HV_AUTO(hv_json_free) struct hv_json *json = options->json ? hv_json_object() : NULL;
	struct hv_description out = { .json = json,
				      .text = options->json || options->quiet ? NULL : stdout };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	(void)operand_count;
	if (rc == 0)
		rc = snap_examine(operands[0], &how, loop, &chain, &err);
	if (rc == 0)
		rc = snap_describe_chain(&out, chain, options->chain, &err);
	if (rc)
		return tool_failed(&err, rc);
	describe_contents(&out, chain);
	return options->json ? tool_print_json(json) : tool_flush_output();
}

static const struct hv_option info_table[] = {
	{ .name = "chain",
	  .kind = HV_OPTION_FLAG,
	  .help = "describe every layer of the chain",
	  .offset = offsetof(struct info_options, chain) },
	TOOL_JSON_OPTION(struct info_options, json),
	TOOL_QUIET_OPTION(struct info_options, quiet),
	TOOL_SOURCE_OPTIONS(struct info_options, source),
	{ .name = NULL },
};

const struct hv_command cmd_info = {
	.name = "info",
	.synopsis = "[OPTION]... FILE",
	.help = "tell everything about a disk",
	.details =
		"A differencing disk whose parent cannot be had is described as far as it goes; the state of\n"
		"its parent says why.",
	.options = info_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct info_options),
	.run = run_info,
};
