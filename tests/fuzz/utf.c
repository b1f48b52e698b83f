/*
 * Fuzz target: UTF-16 and UTF-8. The input is decoded as UTF-16 of both orders, and taken for UTF-8.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"
#include "tests/fuzz/harness/fuzz.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* Decoding gives UTF-8 that is encoded to the same units, but for those that mean nothing. */
static void from_utf16(const uint8_t *data, size_t size, enum hv_utf16_order order)
{
	char *text = hv_utf16_decode(data, size, order), *again;
	uint8_t *units = malloc(size + 1);
	ptrdiff_t length;

	fuzz_assert(text && hv_utf8_valid(text), "decoded to no UTF-8");
	length = hv_utf16_encode(text, order, units, size);
	fuzz_assert(length >= 0 && length % 2 == 0 && (size_t)length <= size,
		    "%zu bytes of UTF-16 are encoded to %td", size, length);
	fuzz_assert(strstr(text, REPLACEMENT) || !memcmp(units, data, (size_t)length),
		    "UTF-16 does not come back as it was");
	again = hv_utf16_decode(units, (size_t)length, order);
	fuzz_assert(again && !strcmp(text, again), "text does not come back as it was");
	if (length)
		fuzz_assert(hv_utf16_encode(text, order, units, (size_t)length - 1) == -EOVERFLOW,
			    "encoded into too little room");
	free(again);
	free(units);
	free(text);
}

static void from_utf8(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	size_t length = strlen(text), at = 0, step;
	uint8_t *units = malloc(2 * length + 2);
	ptrdiff_t encoded = hv_utf16_encode(text, HV_UTF16_LE, units, 2 * length + 2);

	while ((step = hv_utf8_length(text + at)))
		at += step;
	fuzz_assert(at <= length && hv_utf8_valid(text) == (at == length),
		    "%zu of %zu bytes are UTF-8", at, length);
	fuzz_assert(at == length ? encoded >= 0 : encoded == -EINVAL, "encoding gave %td", encoded);
	if (encoded >= 0) {
		char *again = hv_utf16_decode(units, (size_t)encoded, HV_UTF16_LE);

		fuzz_assert(again && !strcmp(text, again), "UTF-8 does not come back as it was");
		free(again);
	}
	free(units);
	free(text);
}

static void run(const uint8_t *data, size_t size)
{
	from_utf16(data, size, HV_UTF16_BE);
	from_utf16(data, size, HV_UTF16_LE);
	from_utf8(data, size);
}

const struct fuzz_target fuzz_target = { .run = run };
