/*
 * Text and JSON from the same description.
 */
#include "hvcore/describe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/program.h"
#include "hvcore/size.h"

#define LABEL_COLUMNS 16
#define INDENT_COLUMNS 2

void hv_describe_line(const struct hv_description *out, const char *label, const char *fmt, ...)
{
	HV_AUTO(free) char *value = NULL, *harmless = NULL;
	int width = LABEL_COLUMNS - (int)strlen(label) - 1;
	va_list ap;

	if (!out->text)
		return;
	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		value = NULL;
	va_end(ap);
	harmless = value ? hv_harmless(value) : NULL;
	fprintf(out->text, "%*s%s:%*s%s\n", (int)out->indent, "", label, width > 1 ? width : 1, "",
		harmless ? harmless : "(not enough memory)");
}

void hv_describe_text(const struct hv_description *out, const char *key, const char *label,
		      const char *value)
{
	hv_json_set_string(out->json, key, value);
	if (value)
		hv_describe_line(out, label, "%s", value);
}

void hv_describe_number(const struct hv_description *out, const char *key, const char *label,
			uint64_t value)
{
	hv_json_set_number(out->json, key, value);
	hv_describe_line(out, label, "%" PRIu64, value);
}

void hv_describe_format_bytes(uint64_t bytes, char text[HV_DESCRIBE_BYTES_SIZE])
{
	char size[HV_SIZE_TEXT_SIZE];

	hv_size_format(bytes, size);
	if (bytes < 1024)
		snprintf(text, HV_DESCRIBE_BYTES_SIZE, "%" PRIu64 " bytes", bytes);
	else
		snprintf(text, HV_DESCRIBE_BYTES_SIZE, "%s (%" PRIu64 " bytes)", size, bytes);
}

void hv_describe_bytes(const struct hv_description *out, const char *key, const char *label,
		       uint64_t bytes)
{
	char text[HV_DESCRIBE_BYTES_SIZE];

	hv_describe_format_bytes(bytes, text);
	hv_json_set_number(out->json, key, bytes);
	hv_describe_line(out, label, "%s", text);
}

void hv_describe_flag(const struct hv_description *out, const char *key, const char *label,
		      bool value)
{
	hv_json_set_bool(out->json, key, value);
	hv_describe_line(out, label, "%s", value ? "yes" : "no");
}

void hv_describe_hex(const struct hv_description *out, const char *key, const char *label,
		     uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%08" PRIx32, value);
	hv_describe_text(out, key, label, text);
}

void hv_describe_uuid(const struct hv_description *out, const char *key, const char *label,
		      const struct hv_guid *uuid)
{
	char text[HV_GUID_TEXT_SIZE];

	hv_guid_format(uuid, text);
	hv_json_set_string(out->json, key, text);
	hv_describe_line(out, label, "%s%s", text, hv_guid_is_null(uuid) ? " (none)" : "");
}

struct hv_description hv_describe_section(const struct hv_description *out, const char *key,
					  const char *title)
{
	if (out->text)
		fprintf(out->text, "%*s%s:\n", (int)out->indent, "", title);
	return (struct hv_description){ .json = hv_json_set_object(out->json, key),
					.text = out->text,
					.indent = out->indent + INDENT_COLUMNS };
}
