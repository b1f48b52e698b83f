/*
 * Findings, and what has to be there once.
 */
#include "tests/fuzz/harness/fuzz.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fuzz_finding(const char *fmt, ...)
{
	va_list ap;

	fputs("finding: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

struct hv_loop *fuzz_loop(void)
{
	static struct hv_loop *loop;
	HV_ERR(err);

	if (!loop && hv_loop_new(&loop, &err)) {
		fprintf(stderr, "%s\n", err.sentence);
		exit(1);
	}
	return loop;
}

void fuzz_judge_failure(const char *what, int rc, const struct hv_err *err)
{
	static const int allowed[] = { EBADMSG, ENOTSUP, EINVAL, EBUSY, ENOENT, ESTALE, EFBIG };
	bool known = false;
	size_t length = strlen(err->sentence);

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		known |= rc == -allowed[i];
	fuzz_assert(known, "%s: failed with %d: %s", what, rc, hv_err_text(err, rc));
	fuzz_assert(err->code == rc, "%s: %d, but the sentence is that of %d: '%s'", what, rc,
		    err->code, err->sentence);
	fuzz_assert(length && !strchr(err->sentence, '\n') && err->sentence[length - 1] != '.',
		    "%s: not one sentence: '%s'", what, err->sentence);
}

const char *fuzz_temp_path(void)
{
	static char path[4096];
	const char *directory = getenv("TMPDIR");

	if (!*path)
		snprintf(path, sizeof(path), "%s/hvkit-fuzz-%d", directory ? directory : "/dev/shm",
			 (int)getpid());
	return path;
}
