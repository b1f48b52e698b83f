/*
 * vhdtool: makes, inspects, checks, converts, merges and measures VHD files.
 */
#include "vhdtool/tool.h"

/* In the order of --help. */
static const struct hv_command *const commands[] = {
	&cmd_create, &cmd_info,   &cmd_check, &cmd_convert, &cmd_map,    &cmd_compare,
	&cmd_hash,   &cmd_wipe,   &cmd_read,  &cmd_write,   &cmd_resize, &cmd_compact,
	&cmd_merge,  &cmd_rebase, &cmd_bench, NULL,
};

static const struct hv_program program = {
	.name = "vhdtool",
	.summary = "makes, inspects, checks, converts, merges and measures VHD files",
	.version = HVKIT_VERSION,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return hv_program_run(&program, argc, argv);
}
