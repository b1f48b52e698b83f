/*
 * What the commands of vhdtool share.
 */
#include "vhdtool/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"
#include "snapshot/chain.h"

int tool_open_source(const char *path, const struct tool_source *source, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options options = {
		.flags = (source->direct ? SNAP_OPEN_DIRECT : 0) |
			 (source->force_share ? SNAP_OPEN_NO_LOCK : 0),
		.format = source->format,
		.parent_path = source->parent,
	};

	return snap_open(path, &options, loop, ret, err);
}

/* C0, DEL and, in UTF-8, C1. */
static bool is_control(const unsigned char *p, size_t length)
{
	return p[0] < 0x20 || p[0] == 0x7f || (length == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

char *tool_harmless(const char *text)
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

int tool_failed(const struct hv_err *err, int code)
{
	HV_AUTO(free) char *harmless = tool_harmless(hv_err_text(err, code));

	fprintf(stderr, "vhdtool: %s\n", harmless ? harmless : strerror(-code));
	return TOOL_FAILED;
}

int tool_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	fputs("vhdtool: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; try 'vhdtool %s --help'\n", command);
	return TOOL_USAGE;
}

int tool_print_json(const struct hv_json *json)
{
	int rc = hv_json_print(json, stdout);

	if (rc) {
		HV_ERR(err);

		hv_fail_errno(&err, rc, "cannot print the result");
		return tool_failed(&err, rc);
	}
	return tool_flush_output();
}

int tool_flush_output(void)
{
	HV_ERR(err);

	if (fflush(stdout) == 0 && !ferror(stdout))
		return TOOL_DONE;
	hv_fail_errno(&err, -EIO, "cannot write to standard output");
	return tool_failed(&err, -EIO);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

void tool_catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool tool_interrupted(void)
{
	return interrupted;
}
