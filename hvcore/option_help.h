/*
 * What the option parser (option.c) prints from the tables. Private to those two files.
 */
#ifndef HVCORE_OPTION_HELP_H
#define HVCORE_OPTION_HELP_H

#include "hvcore/option.h"

/* Help of the whole program, and of one command, on standard output. */
void hv_option_print_program(const struct hv_program *program);
void hv_option_print_command(const struct hv_program *program, const struct hv_command *command);

/* The bash completion script, on standard output. */
void hv_option_print_completion(const struct hv_program *program);

/* The nearest command (or option) name, at most two edits away, or NULL. */
const char *hv_option_nearest_command(const struct hv_program *program, const char *word);
const char *hv_option_nearest_option(const struct hv_command *command, const char *word);

#endif
