/*
 * The filesystems and partitions inside a disk, as libblkid sees them.
 */
#include "hvcore/describe.h"

#include <stdio.h>

#include "hvcore/size.h"

/* What is not there is null. */
static void set_found(struct hv_json *json, const char *key, const char *text)
{
	hv_json_set_string(json, key, *text ? text : NULL);
}

void hv_describe_signature(struct hv_json *json, const struct hv_signature *found)
{
	set_found(json, "signature", found->type);
	set_found(json, "usage", found->usage);
	set_found(json, "label", found->label);
	set_found(json, "uuid", found->uuid);
	hv_json_set_bool(json, "ambivalent", found->ambivalent);
}

void hv_describe_partition(struct hv_json *json, const struct hv_partition *partition)
{
	hv_json_set_number(json, "number", partition->number);
	hv_json_set_number(json, "offset", partition->offset);
	hv_json_set_number(json, "length", partition->length);
	set_found(json, "name", partition->name);
	set_found(json, "type", partition->type);
	set_found(json, "partition_uuid", partition->uuid);
	hv_describe_signature(json, &partition->content);
}

static void describe_row(const struct hv_description *out, const struct hv_partition *partition)
{
	const struct hv_signature *content = &partition->content;
	char label[32], size[HV_SIZE_TEXT_SIZE], place[HV_SIZE_TEXT_SIZE];

	snprintf(label, sizeof(label), "partition %u", partition->number);
	hv_size_format(partition->length, size);
	hv_size_format(partition->offset, place);
	hv_describe_line(out, label, "%s at %s: %s%s%s%s", size, place,
			 content->ambivalent ? "several signatures" :
			 *content->type      ? content->type :
					       "no signature",
			 *content->label ? " '" : "", content->label, *content->label ? "'" : "");
}

static void describe_found(const struct hv_description *out, const struct hv_probe *probe)
{
	HV_AUTO(free) char *phrase = hv_probe_describe(probe);
	struct hv_json *list;

	hv_describe_line(out, "found", "%s", phrase ? phrase : "nothing that libblkid knows");
	if (*probe->whole.uuid)
		hv_describe_line(out, "its uuid", "%s", probe->whole.uuid);
	hv_describe_signature(out->json, &probe->whole);
	set_found(out->json, "table", probe->table);
	set_found(out->json, "table_uuid", probe->table_uuid);
	list = hv_json_set_array(out->json, "partitions");
	for (unsigned i = 0; i < probe->partition_count; i++) {
		hv_describe_partition(hv_json_add_object(list), &probe->partitions[i]);
		describe_row(out, &probe->partitions[i]);
	}
}

void hv_describe_contents(const struct hv_description *out, const struct hv_probe *probe,
			  const char *reason)
{
	struct hv_description inside = hv_describe_section(out, "contents", "contents");
	const struct hv_description members = { .json = inside.json };
	const struct hv_probe nothing = { 0 };

	describe_found(probe ? &inside : &members, probe ? probe : &nothing);
	hv_describe_text(&inside, "error", "not known", probe ? NULL : reason);
}
