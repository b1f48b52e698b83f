/*
 * `info`: the filesystems and partitions inside a disk, as libblkid sees them.
 */
#include <stdio.h>

#include "hvcore/probe.h"
#include "hvcore/size.h"
#include "vhdtool/info.h"

/* Signatures that are not there are null. */
static void set_found(struct hv_json *json, const char *key, const char *text)
{
	hv_json_set_string(json, key, *text ? text : NULL);
}

static void describe_signature(struct hv_json *json, const struct hv_signature *found)
{
	set_found(json, "signature", found->type);
	set_found(json, "usage", found->usage);
	set_found(json, "label", found->label);
	set_found(json, "uuid", found->uuid);
	hv_json_set_bool(json, "ambivalent", found->ambivalent);
}

static void describe_partition(const struct info_out *out, struct hv_json *list,
			       const struct hv_partition *partition)
{
	const struct hv_signature *content = &partition->content;
	struct hv_json *json = hv_json_add_object(list);
	char label[32], size[HV_SIZE_TEXT_SIZE], place[HV_SIZE_TEXT_SIZE];

	hv_json_set_number(json, "number", partition->number);
	hv_json_set_number(json, "offset", partition->offset);
	hv_json_set_number(json, "length", partition->length);
	set_found(json, "name", partition->name);
	set_found(json, "type", partition->type);
	set_found(json, "partition_uuid", partition->uuid);
	describe_signature(json, content);

	snprintf(label, sizeof(label), "partition %u", partition->number);
	hv_size_format(partition->length, size);
	hv_size_format(partition->offset, place);
	info_line(out, label, "%s at %s: %s%s%s%s", size, place,
		  content->ambivalent ? "several signatures" :
		  *content->type      ? content->type :
					"no signature",
		  *content->label ? " '" : "", content->label, *content->label ? "'" : "");
}

static void describe_probe(const struct info_out *out, const struct hv_probe *probe)
{
	HV_AUTO(free) char *phrase = hv_probe_describe(probe);
	struct hv_json *list;

	info_line(out, "found", "%s", phrase ? phrase : "nothing that libblkid knows");
	if (*probe->whole.uuid)
		info_line(out, "its uuid", "%s", probe->whole.uuid);
	describe_signature(out->json, &probe->whole);
	set_found(out->json, "table", probe->table);
	set_found(out->json, "table_uuid", probe->table_uuid);
	list = hv_json_set_array(out->json, "partitions");
	for (unsigned i = 0; i < probe->partition_count; i++)
		describe_partition(out, list, &probe->partitions[i]);
}

void info_describe_contents(const struct info_out *out, struct hv_disk *disk, const char *reason)
{
	struct info_out inside = info_section(out, "contents", "contents");
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	const struct hv_probe nothing = { 0 };
	HV_ERR(err);
	int rc = disk ? hv_probe_disk(disk, &probe, &err) : 0;

	if (rc)
		reason = hv_err_text(&err, rc);
	if (probe) {
		describe_probe(&inside, probe);
		hv_json_set_null(inside.json, "error");
		return;
	}
	inside.text = false;
	describe_probe(&inside, &nothing);
	inside.text = out->text;
	info_text(&inside, "error", "not known", reason);
}
