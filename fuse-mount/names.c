/*
 * File names made of what a disk says.
 */
#include "fuse-mount/names.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "hvcore/utf.h"

#define EXTENSION_SIZE sizeof(((struct hv_signature *)0)->type)
#define TEXT_SIZE sizeof(((struct hv_partition *)0)->name)
static_assert(TEXT_SIZE >= sizeof(((struct hv_signature *)0)->label), "a label is cut");
static_assert(sizeof("p4294967295-.") + TEXT_SIZE + EXTENSION_SIZE <= FM_NAME_SIZE,
	      "a partition's name is cut");

struct range {
	uint32_t first, last;
};

/* Controls of all kinds, what cannot be seen, what turns the direction, and what is no character. */
static const struct range unsafe[] = {
	{ 0, 0x1f },        { '/', '/' },       { 0x7f, 0x9f },       { 0xad, 0xad },
	{ 0x61c, 0x61c },   { 0x180e, 0x180e }, { 0x200b, 0x200b },   { 0x200e, 0x200f },
	{ 0x2028, 0x202e }, { 0x2060, 0x206f }, { 0xfdd0, 0xfdef },   { 0xfeff, 0xfeff },
	{ 0xfff0, 0xfffb }, { 0xfffe, 0xffff }, { 0xe0000, 0xe007f },
};

static const struct range blank[] = {
	{ ' ', ' ' },       { 0xa0, 0xa0 },     { 0x1680, 0x1680 }, { 0x2000, 0x200a },
	{ 0x202f, 0x202f }, { 0x205f, 0x205f }, { 0x3000, 0x3000 },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_in(const struct range *ranges, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count; i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

/* Makes a safe name of at most size - 1 bytes, which may be empty. */
static void make_safe(const char *text, char *ret, size_t size)
{
	size_t used = 0, kept = 0; /* kept: up to the last that is no blank */

	while (*text) {
		uint32_t c = 0; /* what is malformed counts as a control character */
		size_t length = hv_utf8_decode(text, &c), step = length ? length : 1;
		bool is_blank = is_in(blank, COUNT(blank), c);
		bool bad = is_in(unsafe, COUNT(unsafe), c) || (!used && c == '.');

		if (used + (bad ? 1 : step) >= size)
			break;
		if (used || !is_blank) {
			if (bad)
				ret[used++] = '_';
			else
				used = (size_t)((char *)mempcpy(ret + used, text, length) - ret);
			kept = is_blank ? kept : used;
		}
		text += step;
	}
	ret[kept] = '\0';
}

bool fm_safe_name(const char *text, char ret[FM_NAME_SIZE])
{
	make_safe(text, ret, FM_NAME_SIZE);
	return *ret;
}

static void make_extension(const struct hv_signature *content, char ret[EXTENSION_SIZE])
{
	static const struct {
		const char *type, *extension;
	} others[] = {
		{ "", "raw" },
		{ "LVM1_member", "lvm" },
		{ "LVM2_member", "lvm" },
		{ "crypto_LUKS", "luks" },
		{ "linux_raid_member", "raid" },
	};
	const char *type = content->type;

	for (size_t i = 0; i < COUNT(others); i++)
		if (!strcmp(content->type, others[i].type))
			type = others[i].extension;
	make_safe(content->ambivalent ? "ambivalent" : type, ret, EXTENSION_SIZE);
	for (; *ret; ret++)
		*ret = (char)tolower((unsigned char)*ret);
}

/* They repeat what the type says. */
static bool is_given_by_tools(const char *name)
{
	static const char *const names[] = {
		"primary",          "Basic data partition", "Microsoft basic data",
		"Linux filesystem", "Linux swap",           "EFI system partition",
	};

	for (size_t i = 0; i < COUNT(names); i++)
		if (!strcasecmp(name, names[i]))
			return true;
	return false;
}

void fm_partition_name(const struct hv_partition *partition, char ret[FM_NAME_SIZE])
{
	char extension[EXTENSION_SIZE], name[TEXT_SIZE], label[TEXT_SIZE];
	const char *shown = name;

	make_extension(&partition->content, extension);
	make_safe(partition->name, name, sizeof(name));
	make_safe(partition->content.label, label, sizeof(label));
	if (*label && (!*name || is_given_by_tools(name)))
		shown = label;
	snprintf(ret, FM_NAME_SIZE, "p%u%s%s.%s", partition->number, *shown ? "-" : "", shown,
		 extension);
}
