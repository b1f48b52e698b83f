/*
 * What the option parser (option.c) prints from the tables. Private to those two files.
 */
#ifndef HVCORE_OPTION_HELP_H
#define HVCORE_OPTION_HELP_H

#include "hvcore/option.h"

/* What is behind the space in a command's name; NULL where there is none. */
const char *hv_option_second_word(const struct hv_command *command);

/* Is group the first word of its name? */
bool hv_option_in_group(const struct hv_command *command, const char *group);

/* Help of the whole program (of a group only, unless NULL), and of one command, on standard output.
 */
void hv_option_print_program(const struct hv_program *program, const char *group);
void hv_option_print_command(const struct hv_program *program, const struct hv_command *command);

/* The bash completion script, on standard output. */
void hv_option_print_completion(const struct hv_program *program);

/*
 * The nearest command (or option) name, at most two edits away, or NULL. With a group, word is
 * compared with the second words of its commands.
 */
const char *hv_option_nearest_command(const struct hv_program *program, const char *group,
				      const char *word);
const char *hv_option_nearest_option(const struct hv_command *command, const char *word);

#endif
