/*
 * What footer, header and parent locators of one layer say (Virtual Hard Disk Image Format
 * Specification 1.0).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hvcore/bytes.h"
#include "snapshot/describe_layer.h"

#define FEATURE_TEMPORARY 1u
#define FEATURE_RESERVED 2u   /* always set */
#define OLD_FOOTER_BYTES 511u /* before Virtual PC 2004 */

struct name {
	const char *code, *name;
};

static const struct name creators[] = {
	{ "vpc ", "Virtual PC" }, { "vs  ", "Virtual Server" },
	{ "win ", "Windows" },    { "d2v", "Disk2vhd" },
	{ "wa", "Azure" },        { "qemu", "QEMU" },
	{ "qem2", "QEMU" },       { "tap", "Xen blktap" },
	{ "CTXS", "XenServer" },  { "vbox", "VirtualBox" },
	{ "hvkt", "hvkit" },      { NULL, NULL },
};

static const struct name systems[] = {
	{ "Wi2k", "Windows" },
	{ "Mac ", "Macintosh" },
	{ NULL, NULL },
};

/* Codes shorter than four bytes are padded with NUL. */
static const char *name_of(const struct name *names, const uint8_t code[4])
{
	for (; names->code; names++) {
		char padded[5] = "";

		memcpy(padded, names->code, strlen(names->code));
		if (!memcmp(padded, code, 4))
			return names->name;
	}
	return "unknown";
}

/* Four characters, without what pads them; unprintable ones become '?'. */
static void format_code(const uint8_t code[4], char text[5])
{
	int length = 4;

	while (length && (code[length - 1] == 0 || code[length - 1] == ' '))
		length--;
	for (int i = 0; i < length; i++)
		text[i] = (char)(code[i] > 0x20 && code[i] < 0x7f ? code[i] : '?');
	text[length] = '\0';
}

#define TIME_SIZE 32

static void format_time(uint32_t timestamp, char text[TIME_SIZE])
{
	time_t when = (time_t)timestamp + VHD_EPOCH;
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

#define VERSION_SIZE 16

static void format_version(uint32_t version, char text[VERSION_SIZE])
{
	snprintf(text, VERSION_SIZE, "%u.%u", version >> 16, version & 0xffff);
}

static void describe_creator(const struct hv_description *out, const struct vhd_footer *footer)
{
	const char *name = name_of(creators, footer->creator);
	const char *system = name_of(systems, footer->creator_os);
	char code[5], version[VERSION_SIZE], os[5];

	format_code(footer->creator, code);
	format_version(footer->creator_version, version);
	format_code(footer->creator_os, os);
	hv_json_set_string(out->json, "creator", code);
	hv_json_set_string(out->json, "creator_name", name);
	hv_json_set_string(out->json, "creator_version", version);
	hv_json_set_string(out->json, "creator_os", os);
	hv_json_set_string(out->json, "creator_os_name", system);
	hv_describe_line(out, "creator", "'%s' (%s), version %s", code, name, version);
	hv_describe_line(out, "system", "'%s' (%s)", os, system);
}

static void describe_geometry(const struct hv_description *out, const struct vhd_geometry *geometry)
{
	struct hv_json *json = hv_json_set_object(out->json, "geometry");
	uint64_t bytes = vhd_geometry_bytes(geometry);
	char text[HV_DESCRIBE_BYTES_SIZE];

	hv_json_set_number(json, "cylinders", geometry->cylinders);
	hv_json_set_number(json, "heads", geometry->heads);
	hv_json_set_number(json, "sectors_per_track", geometry->sectors_per_track);
	hv_json_set_number(json, "bytes", bytes);
	hv_describe_format_bytes(bytes, text);
	hv_describe_line(out, "geometry", "%u/%u/%u, %s", geometry->cylinders, geometry->heads,
			 geometry->sectors_per_track, text);
}

static void describe_features(const struct hv_description *out, uint32_t features)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%08" PRIx32, features);
	hv_json_set_string(out->json, "features", text);
	hv_json_set_bool(out->json, "temporary", features & FEATURE_TEMPORARY);
	hv_describe_line(out, "features", "%s%s%s", text,
			 features & FEATURE_TEMPORARY ? ", a temporary disk" : "",
			 features & ~(FEATURE_TEMPORARY | FEATURE_RESERVED) ? ", unknown ones" :
									      "");
}

static void describe_copies(const struct hv_description *out, const struct snap_layer_info *layer)
{
	const struct vhd_info *vhd = layer->vhd;
	bool old_form = layer->file_bytes % HV_SECTOR_SIZE == OLD_FOOTER_BYTES;

	hv_json_set_bool(out->json, "trailing_valid", vhd->trailing_footer_valid);
	hv_json_set_bool(out->json, "old_form", old_form);
	if (vhd->type == VHD_FIXED)
		hv_json_set_null(out->json, "copy_valid");
	else
		hv_json_set_bool(out->json, "copy_valid", vhd->copy_valid);
	hv_describe_line(out, "at the end", "%s%s",
			 vhd->trailing_footer_valid ? "valid" : "damaged",
			 old_form ? ", in the old form of 511 bytes" : "");
	if (vhd->type != VHD_FIXED)
		hv_describe_line(out, "copy at start", "%s%s",
				 vhd->copy_valid ? "valid" : "damaged",
				 vhd->trailing_footer_valid ? "" : ", in force");
}

void snap_describe_footer(const struct hv_description *all, const struct snap_layer_info *layer)
{
	const struct vhd_footer *footer = &layer->vhd->footer;
	struct hv_description out = hv_describe_section(all, "footer", "footer");
	char version[VERSION_SIZE], created[TIME_SIZE];

	format_version(footer->version, version);
	format_time(footer->timestamp, created);
	describe_copies(&out, layer);
	hv_describe_text(&out, "version", "version", version);
	hv_describe_number(&out, "type", "type", footer->type);
	describe_creator(&out, footer);
	hv_describe_text(&out, "created", "created", created);
	hv_json_set_number(out.json, "timestamp", footer->timestamp);
	hv_describe_bytes(&out, "original_bytes", "original size", footer->original_bytes);
	hv_describe_bytes(&out, "current_bytes", "current size", footer->current_bytes);
	describe_geometry(&out, &footer->geometry);
	describe_features(&out, footer->features);
	if (footer->data_offset == UINT64_MAX)
		hv_json_set_null(out.json, "data_offset");
	else
		hv_describe_number(&out, "data_offset", "header at byte", footer->data_offset);
	hv_describe_uuid(&out, "uuid", "uuid", &footer->uuid);
	hv_describe_hex(&out, "checksum", "checksum", footer->checksum);
	hv_describe_flag(&out, "saved_state", "saved state", footer->saved_state);
	hv_describe_flag(&out, "hidden", "hidden (Xen)", footer->hidden);
}

static void describe_xen(const struct hv_description *out, const struct vhd_info *vhd)
{
	char version[VERSION_SIZE];

	format_version(vhd->xen_batmap_version, version);
	hv_describe_text(out, "xen_batmap_version", "Xen batmap",
			 vhd->xen_batmap_version ? version : NULL);
	hv_json_set_bool(out->json, "encrypted", vhd->encrypted);
	if (vhd->encrypted)
		hv_describe_line(out, "encrypted",
				 "yes, by Xen's tools: what is read is ciphertext");
}

void snap_describe_header(const struct hv_description *all, const struct snap_layer_info *layer)
{
	const struct vhd_info *vhd = layer->vhd;
	struct hv_description out = hv_describe_section(all, "header", "header");
	char version[VERSION_SIZE];

	format_version(layer->header_version, version);
	hv_describe_number(&out, "offset", "at byte", vhd->header_offset);
	hv_describe_text(&out, "version", "version", version);
	hv_describe_hex(&out, "checksum", "checksum", layer->header_checksum);
	hv_describe_number(&out, "bat_offset", "BAT at byte", vhd->bat_offset);
	hv_json_set_number(out.json, "max_entries", vhd->max_entries);
	hv_describe_line(&out, "BAT entries", "%u, of which %u are needed", vhd->max_entries,
			 vhd->block_count);
	hv_describe_bytes(&out, "bitmap_bytes", "bitmap size", vhd->bitmap_bytes);
	hv_describe_number(&out, "data_end", "data end", vhd->data_end);
	describe_xen(&out, vhd);
}

static void describe_locator(const struct hv_description *out, struct hv_json *list, int slot,
			     const struct vhd_locator *locator)
{
	struct hv_json *json = hv_json_add_object(list);
	hv_be32 raw = hv_be32_make(locator->code);
	char code[5], label[24];

	format_code(raw.b, code);
	hv_json_set_number(json, "slot", (uint64_t)slot);
	hv_json_set_string(json, "code", code);
	hv_json_set_string(json, "text", locator->text);
	hv_json_set_number(json, "space_bytes", locator->space_bytes);
	hv_json_set_number(json, "length_bytes", locator->length_bytes);
	hv_json_set_number(json, "offset", locator->offset);
	snprintf(label, sizeof(label), "locator %d", slot);
	hv_describe_line(out, label, "%s, %u of %u bytes at %" PRIu64 ": %s%s%s", code,
			 locator->length_bytes, locator->space_bytes, locator->offset,
			 locator->text ? "'" : "",
			 locator->text ? locator->text : "no readable path",
			 locator->text ? "'" : "");
}

void snap_describe_parent(const struct hv_description *all, const struct snap_layer_info *layer)
{
	const struct vhd_info *vhd = layer->vhd;
	struct hv_description out = hv_describe_section(all, "parent", "parent");
	struct hv_json *list;
	char changed[TIME_SIZE];

	format_time(vhd->parent_timestamp, changed);
	hv_describe_text(&out, "state", "state", snap_parent_state_name(layer->layer->parent));
	hv_describe_text(&out, "path", "file", layer->layer->parent_path);
	hv_describe_text(&out, "problem", "problem", layer->layer->sentence);
	hv_describe_uuid(&out, "uuid", "uuid", &vhd->parent_uuid);
	hv_describe_text(&out, "name", "name", vhd->parent_name);
	hv_describe_text(&out, "changed", "changed", changed);
	hv_json_set_number(out.json, "timestamp", vhd->parent_timestamp);
	list = hv_json_set_array(out.json, "locators");
	for (int i = 0; i < VHD_LOCATORS; i++) {
		if (vhd->locators[i].code)
			describe_locator(&out, list, i, &vhd->locators[i]);
	}
}
