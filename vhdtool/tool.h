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
#include "hvcore/program.h"

enum {
	TOOL_DONE = HV_PROGRAM_DONE,
	TOOL_FAILED = HV_PROGRAM_FAILED,
	TOOL_USAGE = HV_PROGRAM_USAGE,
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
#define TOOL_SOURCE_OPTIONS(type, member)                                     \
	{ .name = "from",                                                     \
	  .kind = HV_OPTION_STRING,                                           \
	  .argument = "FMT",                                                  \
	  .choices = "raw|vhd",                                               \
	  .help = "format of the source (default: found by looking)",         \
	  .offset = offsetof(type, member.format) },                          \
		{ .name = "parent",                                           \
		  .kind = HV_OPTION_STRING,                                   \
		  .argument = "FILE",                                         \
		  .help = "where the parent of a differencing disk is",       \
		  .offset = offsetof(type, member.parent) },                  \
	{                                                                     \
		.name = "force-share", .letter = 'U', .kind = HV_OPTION_FLAG, \
		.help = "open even if another program writes to it",          \
		.offset = offsetof(type, member.force_share)                  \
	}

#define TOOL_DIRECT_OPTION(type, member)                                                     \
	{                                                                                    \
		.name = "direct", .kind = HV_OPTION_FLAG,                                    \
		.help = "bypass the page cache (O_DIRECT)", .offset = offsetof(type, member) \
	}

#define TOOL_QUIET_OPTION(type, member)                                              \
	{                                                                            \
		.name = "quiet", .letter = 'q', .kind = HV_OPTION_FLAG,              \
		.help = "print nothing but errors", .offset = offsetof(type, member) \
	}

#define TOOL_JSON_OPTION(type, member)                                                      \
	{                                                                                   \
		.name = "json", .kind = HV_OPTION_FLAG, .help = "print the result as JSON", \
		.offset = offsetof(type, member)                                            \
	}

/* Opens path with its whole chain, for reading. */
int tool_open_source(const char *path, const struct tool_source *source, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err);

/* hvcore/program.h, for this program. */
#define tool_failed(err, code) hv_program_failed("vhdtool", err, code)
#define tool_usage(command, ...) hv_program_usage("vhdtool", command, __VA_ARGS__)
#define tool_print_json(json) hv_program_print_json("vhdtool", json)
#define tool_flush_output() hv_program_flush("vhdtool")

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
