/*
 * The error sentence: kept where the fault was first seen, never overwritten by callers further up.
 */
#include "hvcore/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The C library's words, without the locale and safe from any thread. */
static const char *words_of(int code)
{
	const char *words = strerrordesc_np(-code);

	return words ? words : "unknown error";
}

static bool may_record(const struct hv_err *err)
{
	return err && !err->code;
}

int(hv_fail)(struct hv_err *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!may_record(err))
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->sentence, sizeof(err->sentence), fmt, args);
	va_end(args);
	return code;
}

int(hv_fail_errno)(struct hv_err *err, int code, const char *fmt, ...)
{
	va_list args;
	size_t used;

	if (!may_record(err))
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->sentence, sizeof(err->sentence), fmt, args);
	va_end(args);
	used = strlen(err->sentence);
	snprintf(err->sentence + used, sizeof(err->sentence) - used, ": %s", words_of(code));
	return code;
}

const char *hv_err_text(const struct hv_err *err, int code)
{
	return err && err->code ? err->sentence : words_of(code);
}
