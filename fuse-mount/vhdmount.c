/*
 * vhdmount: looks inside a VHD through FUSE.
 */
#include "hvcore/option.h"
#include "hvcore/program.h"

static int run(void *options, int operand_count, char **operands)
{
	(void)options;
	(void)operand_count;
	(void)operands;
	return HV_PROGRAM_FAILED;
}

static const struct hv_command command = { .name = "vhdmount", .run = run };

static const struct hv_program program = {
	.name = "vhdmount",
	.summary = "looks inside a VHD through FUSE",
	.version = HVKIT_VERSION,
	.command = &command,
};

int main(int argc, char **argv)
{
	return hv_program_run(&program, argc, argv);
}
