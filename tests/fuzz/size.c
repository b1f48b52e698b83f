/*
 * Fuzz target: sizes as people write them. The input is the text.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/size.h"
#include "tests/fuzz/harness/fuzz.h"

/* What is written for bytes is read again, as nearly as three digits tell it. */
static void go_round(uint64_t bytes)
{
	char text[HV_SIZE_TEXT_SIZE], plain[HV_SIZE_TEXT_SIZE];
	uint64_t again;
	HV_ERR(err);
	char *space;

	snprintf(plain, sizeof(plain), "%llu", (unsigned long long)bytes);
	fuzz_assert(hv_size_parse(plain, &again, &err) == 0 && again == bytes,
		    "'%s' is read as %llu: %s", plain, (unsigned long long)again, err.sentence);
	hv_size_format(bytes, text);
	space = strchr(text, ' ');
	fuzz_assert(space, "%llu bytes are written '%s'", (unsigned long long)bytes, text);
	memmove(space, space + 1, strlen(space));
	/* Rounded, it need not be a whole number of bytes, or may be just too large. */
	if (hv_size_parse(text, &again, NULL))
		return;
	fuzz_assert((again > bytes ? again - bytes : bytes - again) <= bytes / 180,
		    "%llu bytes are written '%s'", (unsigned long long)bytes, text);
}

static void run(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	uint64_t bytes = 1234567, other;
	HV_ERR(err);
	int rc = hv_size_parse(text, &bytes, &err);

	if (rc) {
		fuzz_assert((rc == -EINVAL || rc == -EOVERFLOW) && err.code == rc && *err.sentence,
			    "hv_size_parse failed with %d: '%s'", rc, err.sentence);
		fuzz_assert(bytes == 1234567, "a failure fills in a result");
	} else {
		fuzz_assert(bytes <= INT64_MAX && !err.code, "a size of %llu bytes",
			    (unsigned long long)bytes);
		go_round(bytes);
	}
	free(text);
	if (size >= sizeof(other)) {
		memcpy(&other, data, sizeof(other));
		go_round(other & INT64_MAX);
	}
}

const struct fuzz_target fuzz_target = { .run = run };
