/*
 * Diagnostics on standard error. The level is the higher of what the program set and what the
 * environment asks for; one call makes one line, whatever bytes the message holds.
 */
#include "hvcore/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 4096
#define UNKNOWN_LEVEL (-1)

static const char *const level_names[] = {
	[HV_LOG_NONE] = "none",
	[HV_LOG_WARN] = "warn",
	[HV_LOG_INFO] = "info",
	[HV_LOG_DEBUG] = "debug",
};

static atomic_int program_level = HV_LOG_NONE;
static atomic_int environment_level = UNKNOWN_LEVEL;

void hv_log_set_level(enum hv_log_level level)
{
	atomic_store_explicit(&program_level, (int)level, memory_order_relaxed);
}

static int read_environment(void)
{
	const char *text = getenv("HVKIT_LOG");

	for (int level = HV_LOG_WARN; text && level <= HV_LOG_DEBUG; level++)
		if (!strcmp(text, level_names[level]))
			return level;
	return HV_LOG_NONE;
}

static int current_level(void)
{
	int program = atomic_load_explicit(&program_level, memory_order_relaxed);
	int environment = atomic_load_explicit(&environment_level, memory_order_relaxed);

	if (environment == UNKNOWN_LEVEL) {
		environment = read_environment();
		atomic_store_explicit(&environment_level, environment, memory_order_relaxed);
	}
	return program > environment ? program : environment;
}

/* A path in the message may hold newlines and terminal escapes. */
static void hide_controls(char *line)
{
	for (; *line; line++)
		if ((unsigned char)*line < ' ' || *line == 0x7f)
			*line = '?';
}

void hv_log(enum hv_log_level level, const char *fmt, ...)
{
	int saved_errno = errno;
	char line[LINE_SIZE];
	va_list args;

	if (level == HV_LOG_NONE || (int)level > current_level())
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	hide_controls(line);
	fprintf(stderr, "%s: %s\n", level_names[level], line);
	errno = saved_errno;
}
