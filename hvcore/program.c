/*
 * How a program speaks to whoever runs it.
 */
#include "hvcore/program.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"

/* C0, DEL and, in UTF-8, C1. */
static bool is_control(const unsigned char *p, size_t length)
{
	return p[0] < 0x20 || p[0] == 0x7f || (length == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

char *hv_harmless(const char *text)
{
	char *harmless = malloc(strlen(text) * strlen("\\xNN") + 1), *end = harmless;

	while (harmless && *text) {
		const unsigned char *p = (const unsigned char *)text;
		size_t length = hv_utf8_length(text);

		if (length && !is_control(p, length)) {
			end = mempcpy(end, text, length);
		} else {
			length = length ? length : 1;
			for (size_t i = 0; i < length; i++)
				end += sprintf(end, "\\x%02x", p[i]);
		}
		text += length;
	}
	if (harmless)
		*end = '\0';
	return harmless;
}

int hv_program_failed(const char *program, const struct hv_err *err, int code)
{
	HV_AUTO(free) char *harmless = hv_harmless(hv_err_text(err, code));

	fprintf(stderr, "%s: %s\n", program, harmless ? harmless : strerror(-code));
	return HV_PROGRAM_FAILED;
}

int hv_program_usage(const char *program, const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; try '%s%s%s --help'\n", program, command ? " " : "",
		command ? command : "");
	return HV_PROGRAM_USAGE;
}

int hv_program_print_json(const char *program, const struct hv_json *json)
{
	int rc = hv_json_print(json, stdout);

	if (rc) {
		HV_ERR(err);

		hv_fail_errno(&err, rc, "cannot print the result");
		return hv_program_failed(program, &err, rc);
	}
	return hv_program_flush(program);
}

int hv_program_flush(const char *program)
{
	HV_ERR(err);

	if (fflush(stdout) == 0 && !ferror(stdout))
		return HV_PROGRAM_DONE;
	hv_fail_errno(&err, -EIO, "cannot write to standard output");
	return hv_program_failed(program, &err, -EIO);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

void hv_program_catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool hv_program_interrupted(void)
{
	return interrupted;
}
