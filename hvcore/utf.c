/*
 * UTF-8 and UTF-16 (Unicode 15, chapter 3.9, tables 3-6 and 3-7).
 */
#include "hvcore/utf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT 0xfffdu

static bool is_surrogate(uint32_t c)
{
	return c >= 0xd800 && c <= 0xdfff;
}

/* Length of the form that this first byte announces, 0 when it announces none. */
static size_t announced_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc0)
		return 0;
	if (first < 0xe0)
		return 2;
	if (first < 0xf0)
		return 3;
	return first < 0xf8 ? 4 : 0;
}

/*
 * Decodes one character; returns its length, 0 when it is not well-formed. Never reads past a NUL,
 * which is no continuation byte.
 */
static size_t decode(const char *text, uint32_t *c)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	static const uint8_t payload[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	size_t length = announced_length((uint8_t)text[0]);

	*c = (uint8_t)text[0] & payload[length];
	for (size_t i = 1; i < length; i++) {
		uint8_t byte = (uint8_t)text[i];

		if ((byte & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (byte & 0x3f);
	}
	if (*c < least[length] || *c > 0x10ffff || is_surrogate(*c))
		return 0;
	return length;
}

size_t hv_utf8_decode(const char *text, uint32_t *ret)
{
	uint32_t c;
	size_t length = *text ? decode(text, &c) : 0;

	if (length)
		*ret = c;
	return length;
}

size_t hv_utf8_length(const char *text)
{
	uint32_t c;

	return hv_utf8_decode(text, &c);
}

bool hv_utf8_valid(const char *text)
{
	while (*text) {
		size_t length = hv_utf8_length(text);

		if (!length)
			return false;
		text += length;
	}
	return true;
}

static void put_unit(uint8_t *out, uint32_t unit, enum hv_utf16_order order)
{
	out[order == HV_UTF16_LE ? 0 : 1] = (uint8_t)unit;
	out[order == HV_UTF16_LE ? 1 : 0] = (uint8_t)(unit >> 8);
}

/* Writes one character and returns its bytes: 2 or 4. */
static size_t put_utf16(uint8_t *out, uint32_t c, enum hv_utf16_order order)
{
	if (c < 0x10000) {
		put_unit(out, c, order);
		return 2;
	}
	c -= 0x10000;
	put_unit(out, 0xd800 | c >> 10, order);
	put_unit(out + 2, 0xdc00 | (c & 0x3ff), order);
	return 4;
}

ptrdiff_t hv_utf16_encode(const char *text, enum hv_utf16_order order, uint8_t *out, size_t size)
{
	size_t used = 0;

	if (!hv_utf8_valid(text))
		return -EINVAL;
	while (*text) {
		uint32_t c;

		text += decode(text, &c);
		if (size - used < (c < 0x10000 ? 2 : 4))
			return -EOVERFLOW;
		used += put_utf16(out + used, c, order);
	}
	return (ptrdiff_t)used;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

static uint32_t get_unit(const uint8_t *in, enum hv_utf16_order order)
{
	return order == HV_UTF16_LE ? in[0] | (uint32_t)in[1] << 8 : (uint32_t)in[0] << 8 | in[1];
}

/* Decodes one character of units (at least one) and returns how many it took. */
static size_t get_utf16(const uint8_t *in, size_t units, enum hv_utf16_order order, uint32_t *c)
{
	uint32_t high = get_unit(in, order), low;

	*c = is_surrogate(high) ? REPLACEMENT : high;
	if ((high & 0xfc00) != 0xd800 || units < 2)
		return 1;
	low = get_unit(in + 2, order);
	if ((low & 0xfc00) != 0xdc00)
		return 1;
	*c = 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff));
	return 2;
}

char *hv_utf16_decode(const uint8_t *in, size_t size, enum hv_utf16_order order)
{
	size_t units = size / 2;
	char *text = calloc(units + 1, 3); /* a unit makes at most three bytes */
	char *out = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < units;) {
		uint32_t c;

		i += get_utf16(in + 2 * i, units - i, order, &c);
		if (!c)
			break;
		out = put_utf8(out, c);
	}
	*out = '\0';
	return text;
}
