/*
 * A chain, described layer by layer.
 */
#include "snapshot/describe.h"

#include <stdio.h>

#include "hvcore/size.h"
#include "snapshot/describe_layer.h"

static void describe_row(const struct hv_description *out, const struct snap_layer_info *layer,
			 unsigned depth)
{
	char size[HV_SIZE_TEXT_SIZE], uuid[HV_GUID_TEXT_SIZE] = "-", label[24];

	hv_size_format(layer->disk->size_bytes, size);
	if (layer->vhd)
		hv_guid_format(&layer->vhd->footer.uuid, uuid);
	snprintf(label, sizeof(label), "layer %u", depth);
	hv_describe_line(out, label, "%-12s  %-10s  %-36s  parent %-8s  %s",
			 hv_disk_format(layer->disk), size, uuid,
			 snap_parent_state_name(layer->layer->parent), layer->disk->path);
}

/* A row of text for each, and all that is known of them in JSON. */
static int describe_layers(const struct hv_description *out, const struct snap_chain *chain,
			   struct hv_err *err)
{
	struct hv_description rows = { .text = out->text, .indent = out->indent + 2 };
	struct hv_json *list = hv_json_set_array(out->json, "chain");

	if (out->text)
		fputs("chain:\n", out->text);
	for (unsigned i = 0; i < chain->count; i++) {
		struct hv_description item = { .json = hv_json_add_object(list) };
		struct snap_layer_info layer;
		int rc = snap_layer_look(&chain->layers[i], &layer, err);

		if (rc)
			return rc;
		describe_row(&rows, &layer, i);
		snap_describe_layer(&item, &layer);
	}
	return 0;
}

static void describe_completeness(const struct hv_description *out, const struct snap_chain *chain)
{
	const struct snap_layer *last = &chain->layers[chain->count - 1];

	hv_json_set_number(out->json, "layers", chain->count);
	hv_json_set_bool(out->json, "complete", !last->code);
	hv_json_set_string(out->json, "problem", last->sentence);
	if (last->code)
		hv_describe_line(out, "incomplete", "%s", last->sentence ? last->sentence : "");
	else if (chain->count > 1)
		hv_describe_line(out, "complete", "yes, %u layers", chain->count);
}

int snap_describe_chain(const struct hv_description *out, const struct snap_chain *chain,
			bool every_layer, struct hv_err *err)
{
	struct snap_layer_info leaf;
	int rc = snap_layer_look(&chain->layers[0], &leaf, err);

	if (rc)
		return rc;
	snap_describe_layer(out, &leaf);
	if (every_layer)
		rc = describe_layers(out, chain, err);
	if (rc == 0)
		describe_completeness(out, chain);
	return rc;
}
