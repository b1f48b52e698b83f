/*
 * Sizes as people write them: digits, perhaps a fraction, perhaps a unit. All arithmetic is exact.
 */
#include "hvcore/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_SIZE_BYTES ((uint64_t)INT64_MAX)
#define MAX_SHIFT 40

/* The longest number that hv_size_format writes exactly, in characters. */
#define MAX_EXACT_LENGTH 6

static const struct unit {
	char letter; /* 0: bytes */
	const char *text;
	unsigned shift;
} units[] = {
	{ 'T', "TiB", 40 }, { 'G', "GiB", 30 }, { 'M', "MiB", 20 },
	{ 'K', "KiB", 10 }, { 0, "B", 0 },
};

#define UNIT_COUNT (sizeof(units) / sizeof(units[0]))

static int not_a_size(const char *text, struct hv_err *err)
{
	return hv_fail(err, -EINVAL, "'%s' is not a size such as 4096, 512M or 1.5T", text);
}

static int too_large(const char *text, struct hv_err *err)
{
	return hv_fail(err, -EOVERFLOW, "'%s' is larger than any disk can be", text);
}

static const struct unit *find_unit(char letter)
{
	for (size_t i = 0; i < UNIT_COUNT; i++)
		if (units[i].letter == toupper((unsigned char)letter))
			return &units[i];
	return NULL;
}

/* What follows the number: nothing, "B", "G" or "GiB". */
static int parse_unit(const char *text, const char *suffix, unsigned *shift, struct hv_err *err)
{
	const struct unit *unit = find_unit(*suffix);

	if (!strcasecmp(suffix, "b"))
		unit = find_unit(0);
	if (!unit ||
	    (*suffix && suffix[1] && strcasecmp(suffix + 1, "b") && strcasecmp(suffix + 1, "ib")))
		return not_a_size(text, err);
	if (*suffix && !strcasecmp(suffix + 1, "b"))
		return hv_fail(err, -EINVAL,
			       "'%s' might mean powers of 1000 or of 1024: write %c or %s for 1024",
			       text, unit->letter, unit->text);
	*shift = unit->shift;
	return 0;
}

static int parse_whole(const char *text, size_t length, unsigned shift, uint64_t *ret,
		       struct hv_err *err)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++) {
		uint64_t digit = (uint64_t)(text[i] - '0');

		if (value > (MAX_SIZE_BYTES - digit) / 10)
			return too_large(text, err);
		value = value * 10 + digit;
	}
	if (value > MAX_SIZE_BYTES >> shift)
		return too_large(text, err);
	*ret = value << shift;
	return 0;
}

/* Doubles a decimal fraction in place and returns what it carries over the point. */
static unsigned double_fraction(uint8_t *digits, size_t length)
{
	unsigned carry = 0;

	for (size_t i = length; i-- > 0;) {
		unsigned doubled = digits[i] * 2u + carry;

		digits[i] = (uint8_t)(doubled % 10);
		carry = doubled / 10;
	}
	return carry;
}

/*
 * The fraction times 2^shift. It is whole only when doubling it shift times leaves nothing behind
 * the point, for which a fraction of n digits (the last not 0) needs at least n doublings.
 */
static bool scale_fraction(const char *fraction, size_t length, unsigned shift, uint64_t *ret)
{
	uint8_t digits[MAX_SHIFT];
	uint64_t value = 0;

	while (length && fraction[length - 1] == '0')
		length--;
	if (length > shift)
		return false;
	for (size_t i = 0; i < length; i++)
		digits[i] = (uint8_t)(fraction[i] - '0');
	for (unsigned i = 0; i < shift; i++)
		value = value * 2 + double_fraction(digits, length);
	for (size_t i = 0; i < length; i++)
		if (digits[i])
			return false;
	*ret = value;
	return true;
}

static size_t digit_count(const char *text)
{
	return strspn(text, "0123456789");
}

int hv_size_parse(const char *text, uint64_t *ret, struct hv_err *err)
{
	size_t whole_length = digit_count(text), fraction_length = 0;
	const char *fraction = text + whole_length, *suffix = fraction;
	uint64_t whole = 0, part = 0;
	unsigned shift = 0;
	int r;

	if (!whole_length)
		return not_a_size(text, err);
	if (*fraction == '.') {
		fraction++;
		fraction_length = digit_count(fraction);
		suffix = fraction + fraction_length;
		if (!fraction_length)
			return not_a_size(text, err);
	}
	r = parse_unit(text, suffix, &shift, err);
	if (r < 0)
		return r;
	r = parse_whole(text, whole_length, shift, &whole, err);
	if (r < 0)
		return r;
	if (!scale_fraction(fraction, fraction_length, shift, &part))
		return hv_fail(err, -EINVAL, "'%s' is not a whole number of bytes", text);
	/* whole is a multiple of 2^shift below 2^63 and part is less than 2^shift. */
	*ret = whole + part;
	return 0;
}

/* Writes bytes in the unit when that is exact within MAX_EXACT_LENGTH characters. */
static bool format_exact(uint64_t bytes, const struct unit *unit, char number[MAX_EXACT_LENGTH + 1])
{
	uint64_t mask = (UINT64_C(1) << unit->shift) - 1, rest = bytes & mask;
	char digits[32];
	int used = snprintf(digits, sizeof(digits), "%llu",
			    (unsigned long long)(bytes >> unit->shift));

	if (rest)
		digits[used++] = '.';
	while (rest && used < MAX_EXACT_LENGTH) {
		rest *= 10;
		digits[used++] = (char)('0' + (rest >> unit->shift));
		rest &= mask;
	}
	if (rest || used > MAX_EXACT_LENGTH)
		return false;
	memcpy(number, digits, (size_t)used);
	number[used] = '\0';
	return true;
}

/* Three digits at least; one that would round to 1024 belongs to the next unit. */
static void format_rounded(uint64_t bytes, char text[HV_SIZE_TEXT_SIZE])
{
	const struct unit *unit = &units[UNIT_COUNT - 1];
	double value = (double)bytes;
	int places;

	for (; unit > units && value >= 1023.5; unit--)
		value /= 1024;
	places = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
	snprintf(text, HV_SIZE_TEXT_SIZE, "%.*f %s", places, value, unit->text);
}

void hv_size_format(uint64_t bytes, char text[HV_SIZE_TEXT_SIZE])
{
	char best[MAX_EXACT_LENGTH + 1] = "", number[MAX_EXACT_LENGTH + 1];
	const struct unit *best_unit = NULL;

	for (const struct unit *unit = units; unit < units + UNIT_COUNT; unit++) {
		if (unit->shift && bytes >> unit->shift == 0)
			continue;
		if (!format_exact(bytes, unit, number))
			continue;
		if (!best_unit || strlen(number) < strlen(best)) {
			best_unit = unit;
			memcpy(best, number, sizeof(best));
		}
	}
	if (best_unit)
		snprintf(text, HV_SIZE_TEXT_SIZE, "%s %s", best, best_unit->text);
	else
		format_rounded(bytes, text);
}
