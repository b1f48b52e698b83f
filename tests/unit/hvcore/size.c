/*
 * Sizes as people write them.
 */
#include "hvcore/size.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)
#define T (K * G)
#define UNTOUCHED UINT64_C(0x5555)

static void assert_parses(const char *text, uint64_t expected)
{
	uint64_t bytes = UNTOUCHED;
	HV_ERR(err);

	cr_assert_eq(hv_size_parse(text, &bytes, &err), 0, "'%s': %s", text, err.sentence);
	cr_assert_eq(bytes, expected, "'%s' gave %" PRIu64, text, bytes);
}

static void assert_refused(const char *text, int code, const char *words)
{
	uint64_t bytes = UNTOUCHED;
	HV_ERR(err);

	cr_assert_eq(hv_size_parse(text, &bytes, &err), code, "'%s' gave %" PRIu64 " (%s)", text,
		     bytes, err.sentence);
	cr_assert_eq(bytes, UNTOUCHED, "'%s' touched the result", text);
	cr_assert(strstr(err.sentence, words), "'%s': %s", text, err.sentence);
	cr_assert(strstr(err.sentence, text), "'%s' is not named: %s", text, err.sentence);
}

static void assert_formats(uint64_t bytes, const char *expected)
{
	char text[HV_SIZE_TEXT_SIZE];

	hv_size_format(bytes, text);
	cr_assert_str_eq(text, expected);
}

Test(size, plain_numbers_are_bytes)
{
	assert_parses("0", 0);
	assert_parses("4096", 4096);
	assert_parses("512B", 512);
	assert_parses("512b", 512);
	assert_parses("000512", 512);
}

Test(size, units_are_powers_of_1024)
{
	assert_parses("3K", 3 * K);
	assert_parses("512M", 512 * M);
	assert_parses("50G", 50 * G);
	assert_parses("2T", 2 * T);
}

Test(size, units_may_be_lower_case)
{
	assert_parses("50g", 50 * G);
	assert_parses("50gib", 50 * G);
	assert_parses("50Gib", 50 * G);
}

Test(size, units_may_end_in_ib)
{
	assert_parses("7KiB", 7 * K);
	assert_parses("7MiB", 7 * M);
	assert_parses("50GiB", 50 * G);
	assert_parses("1TiB", T);
}

Test(size, fractions_are_exact)
{
	assert_parses("1.5T", T + 512 * G);
	assert_parses("0.5G", 512 * M);
	assert_parses("0.125K", 128);
	assert_parses("2.5KiB", 2560);
	assert_parses("1.0", 1);
	assert_parses("1.500000000000000000000000000000000000000000000000000000000000G",
		      G + 512 * M);
}

Test(size, smallest_fraction_of_a_tebibyte_is_one_byte)
{
	assert_parses("0.0000000000009094947017729282379150390625T", 1);
}

Test(size, fractions_of_a_byte_are_refused)
{
	assert_refused("1.5", -EINVAL, "not a whole number of bytes");
	assert_refused("0.3K", -EINVAL, "not a whole number of bytes");
	assert_refused("1.1G", -EINVAL, "not a whole number of bytes");
	assert_refused("0.00000000000000000000000000000000000000000000001T", -EINVAL,
		       "not a whole number of bytes");
	assert_refused("0.5B", -EINVAL, "not a whole number of bytes");
}

Test(size, decimal_units_are_refused_with_advice)
{
	assert_refused("50GB", -EINVAL, "write G or GiB");
	assert_refused("50gb", -EINVAL, "write G or GiB");
	assert_refused("1kB", -EINVAL, "write K or KiB");
	assert_refused("1.5TB", -EINVAL, "write T or TiB");
}

Test(size, what_is_no_size_is_refused)
{
	static const char *const bad[] = {
		"",     "G",    "-1",  "-1G", "+1G", " 1G",   "1G ", "1 G", ".5G", "5.G", "1.2.3G",
		"1,5G", "0x10", "1e3", "1GG", "1Gi", "1GiBx", "1iB", "1BB", "12Q", "NaN",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_refused(bad[i], -EINVAL, "is not a size");
}

Test(size, the_largest_size_is_below_2_to_the_63)
{
	assert_parses("9223372036854775807", INT64_MAX);
	assert_refused("9223372036854775808", -EOVERFLOW, "larger");
	assert_parses("8388607T", 8388607 * T);
	assert_parses("8388607.5T", 8388607 * T + 512 * G);
	assert_refused("8388608T", -EOVERFLOW, "larger");
	assert_refused("18446744073709551617", -EOVERFLOW, "larger");
	assert_refused("99999999999999999999999999999999999999999999G", -EOVERFLOW, "larger");
}

Test(size, parse_needs_no_error_struct)
{
	uint64_t bytes;

	cr_assert_eq(hv_size_parse("x", &bytes, NULL), -EINVAL);
}

Test(size, format_uses_the_shortest_exact_form)
{
	assert_formats(0, "0 B");
	assert_formats(512, "512 B");
	assert_formats(1023, "1023 B");
	assert_formats(1024, "1 KiB");
	assert_formats(1536, "1.5 KiB");
	assert_formats(50 * G, "50 GiB");
	assert_formats(T + 512 * G, "1.5 TiB");
	assert_formats(2040 * G, "2040 GiB");
	assert_formats(64 * T, "64 TiB");
	assert_formats(2 * M + 512, "2048.5 KiB");
}

Test(size, format_rounds_where_the_exact_form_is_long)
{
	assert_formats(UINT64_C(136899993600), "127 GiB");
	assert_formats(12345678901, "11.5 GiB");
	assert_formats(UINT64_C(1234567890123), "1.12 TiB");
	assert_formats(UINT64_MAX, "16777216 TiB");
}

Test(size, format_never_shows_1024_of_a_unit)
{
	assert_formats(T - 1, "1.00 TiB");
	assert_formats(G - 1, "1.00 GiB");
	assert_formats(10 * G - 1, "10.0 GiB");
	assert_formats(100 * G - 1, "100 GiB");
}

Test(size, exact_forms_parse_back)
{
	char text[HV_SIZE_TEXT_SIZE], *space;
	uint64_t back;

	for (uint64_t bytes = 512; bytes < 4096 * G; bytes *= 2) {
		hv_size_format(bytes, text);
		space = strchr(text, ' ');
		memmove(space, space + 1, strlen(space));
		cr_assert_eq(hv_size_parse(text, &back, NULL), 0, "'%s'", text);
		cr_assert_eq(back, bytes, "'%s'", text);
	}
}
