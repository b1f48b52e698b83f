/*
 * `info`: text and JSON from the same description.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/size.h"
#include "vhdtool/info.h"
#include "vhdtool/tool.h"

#define LABEL_COLUMNS 16
#define INDENT_COLUMNS 2

void info_line(const struct info_out *out, const char *label, const char *fmt, ...)
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
	printf("%*s%s:%*s%s\n", (int)out->indent, "", label, width > 1 ? width : 1, "",
	       harmless ? harmless : "(not enough memory)");
}

void info_text(const struct info_out *out, const char *key, const char *label, const char *value)
{
	hv_json_set_string(out->json, key, value);
	if (value)
		info_line(out, label, "%s", value);
}

void info_number(const struct info_out *out, const char *key, const char *label, uint64_t value)
{
	hv_json_set_number(out->json, key, value);
	info_line(out, label, "%" PRIu64, value);
}

void info_format_bytes(uint64_t bytes, char text[INFO_BYTES_SIZE])
{
	char size[HV_SIZE_TEXT_SIZE];

	hv_size_format(bytes, size);
	if (bytes < 1024)
		snprintf(text, INFO_BYTES_SIZE, "%" PRIu64 " bytes", bytes);
	else
		snprintf(text, INFO_BYTES_SIZE, "%s (%" PRIu64 " bytes)", size, bytes);
}

void info_bytes(const struct info_out *out, const char *key, const char *label, uint64_t bytes)
{
	char text[INFO_BYTES_SIZE];

	info_format_bytes(bytes, text);
	hv_json_set_number(out->json, key, bytes);
	info_line(out, label, "%s", text);
}

void info_flag(const struct info_out *out, const char *key, const char *label, bool value)
{
	hv_json_set_bool(out->json, key, value);
	info_line(out, label, "%s", value ? "yes" : "no");
}

void info_hex(const struct info_out *out, const char *key, const char *label, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "0x%08" PRIx32, value);
	info_text(out, key, label, text);
}

void info_uuid(const struct info_out *out, const char *key, const char *label,
	       const struct hv_guid *uuid)
{
	char text[HV_GUID_TEXT_SIZE];

	hv_guid_format(uuid, text);
	hv_json_set_string(out->json, key, text);
	info_line(out, label, "%s%s", text, hv_guid_is_null(uuid) ? " (none)" : "");
}

struct info_out info_section(const struct info_out *out, const char *key, const char *title)
{
	if (out->text)
		printf("%*s%s:\n", (int)out->indent, "", title);
	return (struct info_out){ .json = hv_json_set_object(out->json, key),
				  .text = out->text,
				  .indent = out->indent + INDENT_COLUMNS };
}
