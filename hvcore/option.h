/*
 * Command and option tables: parsing, --help, completion and the man-page check all come from
 * them. A program is a const array of commands, or does one thing and is a single command; options
 * land in one struct per command.
 */
#ifndef HVCORE_OPTION_H
#define HVCORE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hvcore/err.h"

enum hv_option_kind {
	HV_OPTION_FLAG,     /* bool */
	HV_OPTION_STRING,   /* const char *, lent from argv */
	HV_OPTION_STRINGS,  /* const char **: as often as it is given; ends with NULL; lent */
	HV_OPTION_OPTIONAL, /* const char *: --name gives "", --name=VALUE gives VALUE */
	HV_OPTION_SIZE,     /* uint64_t bytes, by hv_size_parse */
	HV_OPTION_NUMBER,   /* uint64_t, decimal */
};

struct hv_option {
	const char *name; /* long name without "--" */
	char letter;      /* short form, or 0 */
	enum hv_option_kind kind;
	const char *argument; /* "SIZE" in the help; NULL for a flag */
	const char *choices;  /* "a|b|c": the only values accepted, or NULL */
	const char *help;     /* one line */
	size_t offset;        /* offsetof(struct, member) of the command's options */
};

/* A table ends with an entry whose name is NULL. */
struct hv_command {
	const char *name;     /* one word, or two: "disk attach" is of the group "disk" */
	const char *synopsis; /* what follows the name in the usage line */
	const char *help;     /* one line */
	const char *details;  /* further paragraphs for --help, no newline at the end; or NULL */
	const struct hv_option *options;
	int min_operands, max_operands; /* max -1: any number */
	size_t options_size;            /* sizeof the struct that the options land in */
	/*
	 * Returns the exit status. options points to a struct that the parser has filled; what no
	 * option was given for is as in defaults.
	 */
	int (*run)(void *options, int operand_count, char **operands);
	const void *defaults; /* of options_size; NULL: all zero */
};

struct hv_program {
	const char *name, *summary, *version;
	const struct hv_command *const *commands; /* ends with NULL; NULL: there is only */
	const struct hv_command *command;         /* this one, named as the program */
};

/*
 * Parses argv and runs the command. Exit status: the command's; 0 after --help and --version
 * (printed on standard output); 2 with one sentence and "try ... --help" on standard error after a
 * mistake. Options and operands may be mixed; "--" ends the options. A name may be abbreviated to
 * nothing shorter than itself. `PROGRAM --completion` prints a bash completion script made from
 * the tables. `PROGRAM GROUP --help` tells the commands of a group. A required value may follow as
 * "--name VALUE" or "--name=VALUE".
 */
int hv_program_run(const struct hv_program *program, int argc, char **argv);

#endif
