/*
 * vhdtool info: everything that a disk's files say, without judging it (that is check's work). A
 * disk whose parent is missing is described as far as it goes; only a leaf that cannot be opened is
 * a failure. Nothing is read but metadata and, for libblkid, the ends of the disk and of its
 * partitions.
 */
#include <inttypes.h>
#include <stdio.h>

#include "hvcore/size.h"
#include "vhdtool/info.h"
#include "vhdtool/tool.h"

struct info_options {
	struct tool_source source;
	bool chain, json, quiet;
};

static const struct snap_layer *last_layer(const struct snap_chain *chain)
{
	return &chain->layers[chain->count - 1];
}

static void describe_row(const struct info_out *out, const struct info_layer *layer, unsigned depth)
{
	char size[HV_SIZE_TEXT_SIZE], uuid[HV_GUID_TEXT_SIZE] = "-", label[24];

	hv_size_format(layer->disk->size_bytes, size);
	if (layer->vhd)
		hv_guid_format(&layer->vhd->footer.uuid, uuid);
	snprintf(label, sizeof(label), "layer %u", depth);
	info_line(out, label, "%-12s  %-10s  %-36s  parent %-8s  %s", hv_disk_format(layer->disk),
		  size, uuid, snap_parent_state_name(layer->layer->parent), layer->disk->path);
}

/* All layers: a row of text each, and all that is known of them in JSON. */
static int describe_chain(const struct info_out *out, const struct snap_chain *chain,
			  struct hv_err *err)
{
	struct info_out rows = { .text = out->text, .indent = out->indent + 2 };
	struct hv_json *list = hv_json_set_array(out->json, "chain");

	if (out->text)
		printf("chain:\n");
	for (unsigned i = 0; i < chain->count; i++) {
		struct info_out item = { .json = hv_json_add_object(list) };
		struct info_layer layer;
		int rc = info_look(&chain->layers[i], &layer, err);

		if (rc)
			return rc;
		describe_row(&rows, &layer, i);
		info_describe_layer(&item, &layer);
	}
	return 0;
}

static void describe_completeness(const struct info_out *out, const struct snap_chain *chain)
{
	const struct snap_layer *last = last_layer(chain);

	hv_json_set_number(out->json, "layers", chain->count);
	hv_json_set_bool(out->json, "complete", !last->code);
	hv_json_set_string(out->json, "problem", last->sentence);
	if (last->code)
		info_line(out, "incomplete", "%s", last->sentence ? last->sentence : "");
	else if (chain->count > 1)
		info_line(out, "complete", "yes, %u layers", chain->count);
}

/* Makes one disk of a complete chain; the leaf then owns its parents. */
static struct hv_disk *stack(struct snap_chain *chain)
{
	if (last_layer(chain)->code)
		return NULL;
	for (unsigned i = chain->count - 1; i > 0; i--)
		vhd_set_backing(chain->layers[i - 1].disk, hv_steal(chain->layers[i].disk));
	return chain->layers[0].disk;
}

static int describe(const struct info_out *out, struct snap_chain *chain, bool with_chain,
		    struct hv_err *err)
{
	struct info_layer leaf;
	int rc = info_look(&chain->layers[0], &leaf, err);

	if (rc)
		return rc;
	info_describe_layer(out, &leaf);
	if (with_chain)
		rc = describe_chain(out, chain, err);
	if (rc)
		return rc;
	describe_completeness(out, chain);
	info_describe_contents(out, stack(chain), last_layer(chain)->sentence);
	return 0;
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
	struct info_out out = { .json = json, .text = !options->json && !options->quiet };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	(void)operand_count;
	if (rc == 0)
		rc = snap_examine(operands[0], &how, loop, &chain, &err);
	if (rc == 0)
		rc = describe(&out, chain, options->chain, &err);
	if (rc)
		return tool_failed(&err, rc);
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
