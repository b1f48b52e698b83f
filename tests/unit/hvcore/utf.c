/*
 * UTF-8 and UTF-16.
 */
#include "hvcore/utf.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One character of each length: "a", U+00E9, U+20AC, U+1D11E. */
#define SAMPLE "a\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e"

static const uint8_t sample_be[] = { 0, 'a', 0, 0xe9, 0x20, 0xac, 0xd8, 0x34, 0xdd, 0x1e };
static const uint8_t sample_le[] = { 'a', 0, 0xe9, 0, 0xac, 0x20, 0x34, 0xd8, 0x1e, 0xdd };

static void assert_decodes(const uint8_t *in, size_t size, const char *expected)
{
	char *text = hv_utf16_decode(in, size, HV_UTF16_BE);

	cr_assert(text);
	cr_assert_str_eq(text, expected);
	free(text);
}

Test(utf, every_length_of_well_formed_utf8_is_valid)
{
	cr_assert(hv_utf8_valid(""));
	cr_assert(hv_utf8_valid(SAMPLE));
	cr_assert(hv_utf8_valid("\xed\x9f\xbf"));     /* U+D7FF */
	cr_assert(hv_utf8_valid("\xee\x80\x80"));     /* U+E000 */
	cr_assert(hv_utf8_valid("\xf4\x8f\xbf\xbf")); /* U+10FFFF */
}

Test(utf, malformed_utf8_is_invalid)
{
	static const char *const bad[] = {
		"\x80",             /* continuation alone */
		"\xbf",             /* the same */
		"\xc3",             /* cut off */
		"\xe2\x82",         /* cut off */
		"\xf0\x9d\x84",     /* cut off */
		"\xe2\x82x",        /* cut off in the middle */
		"\xc0\xaf",         /* overlong '/' */
		"\xc1\xbf",         /* overlong */
		"\xe0\x9f\xbf",     /* overlong */
		"\xf0\x8f\xbf\xbf", /* overlong */
		"\xed\xa0\x80",     /* U+D800 */
		"\xed\xbf\xbf",     /* U+DFFF */
		"\xf4\x90\x80\x80", /* U+110000 */
		"\xf8\x88\x80\x80\x80",
		"\xff",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_not(hv_utf8_valid(bad[i]), "number %zu", i);
		cr_assert_eq(hv_utf8_length(bad[i]), 0, "number %zu", i);
	}
}

Test(utf, length_is_that_of_the_first_character)
{
	const char *text = SAMPLE;

	for (size_t expected = 1; expected <= 4; expected++) {
		cr_assert_eq(hv_utf8_length(text), expected);
		text += expected;
	}
	cr_assert_eq(hv_utf8_length(text), 0);
}

Test(utf, encode_writes_either_byte_order)
{
	uint8_t out[sizeof(sample_be)];

	cr_assert_eq(hv_utf16_encode(SAMPLE, HV_UTF16_BE, out, sizeof(out)), 10);
	cr_assert_arr_eq(out, sample_be, sizeof(out));
	cr_assert_eq(hv_utf16_encode(SAMPLE, HV_UTF16_LE, out, sizeof(out)), 10);
	cr_assert_arr_eq(out, sample_le, sizeof(out));
}

Test(utf, encode_refuses_malformed_text)
{
	uint8_t out[16];

	cr_assert_eq(hv_utf16_encode("a\xff", HV_UTF16_BE, out, sizeof(out)), -EINVAL);
}

Test(utf, encode_never_writes_past_its_room)
{
	for (size_t size = 0; size < sizeof(sample_be); size++) {
		uint8_t *out = malloc(size + 1);

		cr_assert(out);
		out[size] = 0x77;
		cr_assert_eq(hv_utf16_encode(SAMPLE, HV_UTF16_BE, out, size), -EOVERFLOW);
		cr_assert_eq(out[size], 0x77);
		free(out);
	}
}

Test(utf, encode_of_nothing_needs_no_room)
{
	cr_assert_eq(hv_utf16_encode("", HV_UTF16_LE, NULL, 0), 0);
}

Test(utf, decode_reads_either_byte_order)
{
	char *text = hv_utf16_decode(sample_le, sizeof(sample_le), HV_UTF16_LE);

	cr_assert(text);
	cr_assert_str_eq(text, SAMPLE);
	free(text);
	assert_decodes(sample_be, sizeof(sample_be), SAMPLE);
}

Test(utf, decode_stops_at_the_first_nul_unit)
{
	static const uint8_t in[] = { 0, 'a', 0, 0, 0, 'b' };

	assert_decodes(in, sizeof(in), "a");
}

Test(utf, decode_ignores_an_odd_last_byte)
{
	static const uint8_t in[] = { 0, 'a', 0, 'b', 0 };

	assert_decodes(in, sizeof(in), "ab");
	assert_decodes(in, 1, "");
	assert_decodes(in, 0, "");
}

Test(utf, decode_replaces_unpaired_surrogates)
{
	static const uint8_t high_then_letter[] = { 0xd8, 0x34, 0, 'x' };
	static const uint8_t low_first[] = { 0xdd, 0x1e, 0xd8, 0x34 };
	static const uint8_t two_highs[] = { 0xd8, 0x34, 0xd8, 0x34, 0xdd, 0x1e };

	assert_decodes(high_then_letter, 4, "\xef\xbf\xbdx");
	assert_decodes(low_first, 4, "\xef\xbf\xbd\xef\xbf\xbd");
	assert_decodes(two_highs, 6, "\xef\xbf\xbd\xf0\x9d\x84\x9e");
	assert_decodes(high_then_letter, 2, "\xef\xbf\xbd");
}

Test(utf, every_character_survives_the_round_trip)
{
	for (uint32_t c = 1; c <= 0x10ffff; c++) {
		uint8_t in[4], out[4];
		size_t size = c < 0x10000 ? 2 : 4;
		uint32_t low = 0xdc00 | ((c - 0x10000) & 0x3ff),
			 high = 0xd800 | (c - 0x10000) >> 10;
		char *text;

		if (c >= 0xd800 && c <= 0xdfff)
			continue;
		memcpy(in, (uint8_t[]){ (uint8_t)(c >> 8), (uint8_t)c }, 2);
		if (size == 4)
			memcpy(in,
			       (uint8_t[]){ (uint8_t)(high >> 8), (uint8_t)high,
					    (uint8_t)(low >> 8), (uint8_t)low },
			       4);
		text = hv_utf16_decode(in, size, HV_UTF16_BE);
		if (!text || hv_utf16_encode(text, HV_UTF16_BE, out, 4) != (ptrdiff_t)size ||
		    memcmp(in, out, size))
			cr_assert_fail("U+%04X", (unsigned)c);
		free(text);
	}
}
