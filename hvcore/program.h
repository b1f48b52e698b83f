/*
 * How a program speaks to whoever runs it: sentences on standard error, results on standard output,
 * exit statuses.
 */
#ifndef HVCORE_PROGRAM_H
#define HVCORE_PROGRAM_H

#include <stdbool.h>

#include "hvcore/err.h"
#include "hvcore/json.h"

/* Exit statuses. */
enum {
	HV_PROGRAM_DONE = 0,
	HV_PROGRAM_FAILED = 1,
	HV_PROGRAM_USAGE = 2,
};

/*
 * Text with control characters, and what is no UTF-8, written as \xNN: it may come out of files
 * that anybody may have written, and go to a terminal. malloc'ed; NULL without memory.
 */
char *hv_harmless(const char *text);

/* Prints "program: sentence", made harmless, on standard error; returns HV_PROGRAM_FAILED. */
int hv_program_failed(const char *program, const struct hv_err *err, int code);

/*
 * The same for a mistake in the command line, with "; try 'program command --help'"; returns
 * HV_PROGRAM_USAGE. command is NULL for a program without commands.
 */
int hv_program_usage(const char *program, const char *command, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prints json (and nothing else) on standard output; HV_PROGRAM_DONE, or _FAILED with a sentence. */
int hv_program_print_json(const char *program, const struct hv_json *json);

/* What was printed has reached its reader: HV_PROGRAM_DONE, or _FAILED with a sentence. */
int hv_program_flush(const char *program);

/*
 * From now on the first SIGINT or SIGTERM is only remembered, for work that can stop and go on
 * later; a second one ends the program.
 */
void hv_program_catch_interrupts(void);
bool hv_program_interrupted(void);

#endif
