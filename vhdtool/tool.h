/*
 * What the commands of vhdtool share. One cmd_<verb>.c per command, each giving one struct
 * hv_command to main.c.
 */
#ifndef VHDTOOL_TOOL_H
#define VHDTOOL_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#include "hvcore/disk.h"
#include "hvcore/err.h"
#include "hvcore/json.h"
#include "hvcore/option.h"

enum {
	TOOL_DONE = 0,
	TOOL_FAILED = 1,
	TOOL_USAGE = 2,
	TOOL_CHECK_ERRORS = 3, /* check: errors were found and left */
	TOOL_CHECK_LEAKS = 4,  /* check: leaks only */
};

/* How to open a disk that is only read. */
struct tool_source {
	const char *format; /* "raw", "vhd", or NULL: look */
	const char *parent; /* the leaf's parent, or NULL: look */
	bool force_share;   /* also when somebody has it open for writing */
	bool direct;
};

/* The entries of an option table for a struct tool_source that is a member of type. */
#define TOOL_SOURCE_OPTIONS(type, member)                                                          \
	{ .name = "from", .kind = HV_OPTION_STRING, .argument = "FMT", .choices = "raw|vhd",       \
	  .help = "format of the source (default: found by looking)",                              \
	  .offset = offsetof(type, member.format) },                                               \
	{ .name = "parent", .kind = HV_OPTION_STRING, .argument = "FILE",                          \
	  .help = "where the parent of a differencing disk is",                                    \
	  .offset = offsetof(type, member.parent) },                                               \
	{ .name = "force-share", .letter = 'U', .kind = HV_OPTION_FLAG,                            \
	  .help = "open even if another program writes to it",                                     \
	  .offset = offsetof(type, member.force_share) }

#define TOOL_DIRECT_OPTION(type, member)                                                           \
	{ .name = "direct", .kind = HV_OPTION_FLAG, .help = "bypass the page cache (O_DIRECT)",    \
	  .offset = offsetof(type, member) }

#define TOOL_QUIET_OPTION(type, member)                                                            \
	{ .name = "quiet", .letter = 'q', .kind = HV_OPTION_FLAG,                                  \
	  .help = "print nothing but errors", .offset = offsetof(type, member) }

#define TOOL_JSON_OPTION(type, member)                                                             \
	{ .name = "json", .kind = HV_OPTION_FLAG, .help = "print the result as JSON",              \
	  .offset = offsetof(type, member) }

/* Opens path with its whole chain, for reading. */
int tool_open_source(const char *path, const struct tool_source *source, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err);

/*
 * Text with control characters, and what is no UTF-8, written as \xNN: it may come out of files that
 * anybody may have written, and go to a terminal. malloc'ed; NULL without memory.
 */
char *tool_harmless(const char *text);

/* Prints "vhdtool: sentence" on standard error; returns TOOL_FAILED. */
int tool_failed(const struct hv_err *err, int code);

/* The same for a mistake in the command line, with "try ..."; returns TOOL_USAGE. */
int tool_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints json (and nothing else) on standard output; returns TOOL_DONE or TOOL_FAILED. */
int tool_print_json(const struct hv_json *json);

/*
 * From now on the first SIGINT or SIGTERM is only remembered, for work that can stop and go on later;
 * a second one ends the program.
 */
void tool_catch_interrupts(void);
bool tool_interrupted(void);

/* What was printed has reached its reader: TOOL_DONE, or TOOL_FAILED with a sentence. */
int tool_flush_output(void);

extern const struct hv_command cmd_create;
extern const struct hv_command cmd_info;
extern const struct hv_command cmd_check;
extern const struct hv_command cmd_convert;
extern const struct hv_command cmd_map;
extern const struct hv_command cmd_compare;
extern const struct hv_command cmd_hash;
extern const struct hv_command cmd_wipe;
extern const struct hv_command cmd_read;
extern const struct hv_command cmd_write;
extern const struct hv_command cmd_resize;
extern const struct hv_command cmd_compact;
extern const struct hv_command cmd_merge;
extern const struct hv_command cmd_rebase;
extern const struct hv_command cmd_bench;

#endif
