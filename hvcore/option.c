/*
 * The parser of command and option tables. Mistakes become one sentence; parsing stops at the first.
 */
#include "hvcore/option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/option_help.h"
#include "hvcore/size.h"

#define EXIT_USAGE 2

enum outcome { PARSED, WANTS_HELP };

struct parse {
	const struct hv_command *command;
	char **args;  /* what is left to read; ends with NULL */
	char *values; /* the struct that the options land in */
	char **operands;
	int operand_count;
};

static int complain(const struct hv_program *program, const struct hv_command *command,
		    const struct hv_err *err)
{
	bool named = command && command != program->command;

	fflush(stdout);
	fprintf(stderr, "%s: %s; try '%s%s%s --help'\n", program->name, err->sentence,
		program->name, named ? " " : "", named ? command->name : "");
	return EXIT_USAGE;
}

static const struct hv_option *find_long(const struct hv_command *command, const char *name,
					 size_t length)
{
	for (const struct hv_option *o = command->options; o && o->name; o++)
		if (strlen(o->name) == length && !memcmp(o->name, name, length))
			return o;
	return NULL;
}

static const struct hv_option *find_letter(const struct hv_command *command, char letter)
{
	for (const struct hv_option *o = command->options; o && o->name; o++)
		if (o->letter == letter)
			return o;
	return NULL;
}

static bool needs_value(const struct hv_option *option)
{
	return option->kind != HV_OPTION_FLAG && option->kind != HV_OPTION_OPTIONAL;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t length = strlen(value);

	for (const char *c = choices; *c; c += *c == '|') {
		size_t choice_length = strcspn(c, "|");

		if (choice_length == length && !memcmp(c, value, length))
			return true;
		c += choice_length;
	}
	return false;
}

static int parse_number(const struct hv_option *option, const char *value, uint64_t *ret,
			struct hv_err *err)
{
	unsigned long long number;

	if (!*value || value[strspn(value, "0123456789")])
		return hv_fail(err, -EINVAL, "'%s' for option '--%s' is not a number", value,
			       option->name);
	errno = 0;
	number = strtoull(value, NULL, 10);
	if (errno)
		return hv_fail(err, -EOVERFLOW, "'%s' for option '--%s' is too large", value,
			       option->name);
	*ret = number;
	return 0;
}

static int parse_size(const struct hv_option *option, const char *value, uint64_t *ret,
		      struct hv_err *err)
{
	HV_ERR(cause);
	int r = hv_size_parse(value, ret, &cause);

	if (r < 0)
		return hv_fail(err, r, "option '--%s': %s", option->name, hv_err_text(&cause, r));
	return 0;
}

static int store_integer(struct parse *parse, const struct hv_option *option, const char *value,
			 struct hv_err *err)
{
	uint64_t number = 0;
	int r;

	if (option->kind == HV_OPTION_SIZE)
		r = parse_size(option, value, &number, err);
	else
		r = parse_number(option, value, &number, err);
	if (r < 0)
		return r;
	memcpy(parse->values + option->offset, &number, sizeof(number));
	return 0;
}

static int append_string(struct parse *parse, const struct hv_option *option, const char *value,
			 struct hv_err *err)
{
	const char **list, **longer;
	size_t count = 0;

	memcpy(&list, parse->values + option->offset, sizeof(list));
	while (list && list[count])
		count++;
	longer = realloc(list, (count + 2) * sizeof(*list));
	if (!longer)
		return hv_fail(err, -ENOMEM, "no memory left");
	longer[count] = value;
	longer[count + 1] = NULL;
	memcpy(parse->values + option->offset, &longer, sizeof(longer));
	return 0;
}

static void free_lists(const struct parse *parse)
{
	for (const struct hv_option *o = parse->command->options; o && o->name; o++) {
		const char **list;

		if (o->kind != HV_OPTION_STRINGS)
			continue;
		memcpy(&list, parse->values + o->offset, sizeof(list));
		free(list);
	}
}

/* value is NULL where none was given: a flag, or an optional value left out. */
static int store(struct parse *parse, const struct hv_option *option, const char *value,
		 struct hv_err *err)
{
	const bool yes = true;

	if (value && option->choices && !is_choice(option->choices, value))
		return hv_fail(err, -EINVAL, "option '--%s' takes one of %s, not '%s'",
			       option->name, option->choices, value);
	switch (option->kind) {
	case HV_OPTION_FLAG:
		memcpy(parse->values + option->offset, &yes, sizeof(yes));
		return 0;
	case HV_OPTION_STRING:
	case HV_OPTION_OPTIONAL:
		if (!value)
			value = "";
		memcpy(parse->values + option->offset, &value, sizeof(value));
		return 0;
	case HV_OPTION_STRINGS:
		return append_string(parse, option, value, err);
	case HV_OPTION_SIZE:
	case HV_OPTION_NUMBER:
		return store_integer(parse, option, value, err);
	}
	return hv_fail(err, -EINVAL, "option '--%s' is of no known kind", option->name);
}

/* The next word as the option's value. */
static int store_next(struct parse *parse, const struct hv_option *option, struct hv_err *err)
{
	if (!*parse->args)
		return hv_fail(err, -EINVAL, "option '--%s' needs a value", option->name);
	return store(parse, option, *parse->args++, err);
}

static int unknown_option(const struct hv_command *command, const char *name, int length,
			  struct hv_err *err)
{
	HV_AUTO(free) char *word = strndup(name, (size_t)length);
	const char *nearest = word ? hv_option_nearest_option(command, word) : NULL;

	if (nearest)
		return hv_fail(err, -EINVAL, "'%s' has no option '--%.*s', did you mean '--%s'?",
			       command->name, length, name, nearest);
	return hv_fail(err, -EINVAL, "'%s' has no option '--%.*s'", command->name, length, name);
}

/* word is what follows "--". */
static int parse_long(struct parse *parse, const char *word, struct hv_err *err)
{
	size_t length = strcspn(word, "=");
	const char *value = word[length] ? word + length + 1 : NULL;
	const struct hv_option *option = find_long(parse->command, word, length);

	if (!option && !strcmp(word, "help"))
		return WANTS_HELP;
	if (!option)
		return unknown_option(parse->command, word, (int)length, err);
	if (value && option->kind == HV_OPTION_FLAG)
		return hv_fail(err, -EINVAL, "option '--%s' takes no value", option->name);
	if (!value && needs_value(option))
		return store_next(parse, option, err);
	return store(parse, option, value, err);
}

/* word is what follows "-": flags, the last of which may be an option with its value. */
static int parse_letters(struct parse *parse, const char *word, struct hv_err *err)
{
	for (; *word; word++) {
		const struct hv_option *option = find_letter(parse->command, *word);
		int r;

		if (!option && *word == 'h')
			return WANTS_HELP;
		if (!option)
			return hv_fail(err, -EINVAL, "'%s' has no option '-%c'",
				       parse->command->name, *word);
		if (option->kind != HV_OPTION_FLAG && word[1])
			return store(parse, option, word + 1, err);
		r = needs_value(option) ? store_next(parse, option, err) :
					  store(parse, option, NULL, err);
		if (r < 0)
			return r;
	}
	return PARSED;
}

static int check_operands(const struct hv_command *command, int count, char **operands,
			  struct hv_err *err)
{
	if (count < command->min_operands)
		return hv_fail(err, -EINVAL, "'%s' needs %s%d operand%s, but %d %s given",
			       command->name,
			       command->min_operands == command->max_operands ? "" : "at least ",
			       command->min_operands, command->min_operands == 1 ? "" : "s", count,
			       count == 1 ? "was" : "were");
	if (command->max_operands < 0 || count <= command->max_operands)
		return 0;
	if (!command->max_operands)
		return hv_fail(err, -EINVAL, "'%s' takes no operand, but '%s' was given",
			       command->name, operands[0]);
	return hv_fail(err, -EINVAL, "'%s' takes at most %d operand%s: '%s' is one too many",
		       command->name, command->max_operands, command->max_operands == 1 ? "" : "s",
		       operands[command->max_operands]);
}

/* PARSED, WANTS_HELP, or -errno with a sentence. */
static int parse_words(struct parse *parse, struct hv_err *err)
{
	bool options_end = false;

	while (*parse->args) {
		char *word = *parse->args++;
		int r = PARSED;

		if (options_end || word[0] != '-' || !word[1])
			parse->operands[parse->operand_count++] = word;
		else if (!strcmp(word, "--"))
			options_end = true;
		else if (word[1] == '-')
			r = parse_long(parse, word + 2, err);
		else
			r = parse_letters(parse, word + 1, err);
		if (r != PARSED)
			return r;
	}
	return check_operands(parse->command, parse->operand_count, parse->operands, err);
}

static int run_command(const struct hv_program *program, const struct hv_command *command,
		       int arg_count, char **args)
{
	HV_AUTO(free) char *values = calloc(1, command->options_size ? command->options_size : 1);
	HV_AUTO(free) char **operands = calloc((size_t)arg_count + 1, sizeof(*operands));
	struct parse parse = { .command = command, .args = args };
	HV_ERR(err);
	int r, status;

	if (!values || !operands) {
		fprintf(stderr, "%s: no memory left\n", program->name);
		return EXIT_FAILURE;
	}
	if (command->defaults)
		memcpy(values, command->defaults, command->options_size);
	parse.values = values;
	parse.operands = operands;
	r = parse_words(&parse, &err);
	if (r < 0)
		status = complain(program, command, &err);
	else if (r == WANTS_HELP)
		status = (hv_option_print_command(program, command), EXIT_SUCCESS);
	else
		status = command->run(values, parse.operand_count, operands);
	free_lists(&parse);
	return status;
}

/* How many of the words name the command: 1 or 2, or 0 when they name another. */
static int words_of(const struct hv_command *command, int count, char **words)
{
	const char *second = hv_option_second_word(command);

	if (!count || !hv_option_in_group(command, words[0]))
		return 0;
	if (!second)
		return 1;
	return count > 1 && !strcmp(second, words[1]) ? 2 : 0;
}

/* NULL, or the command that the first *used words name. */
static const struct hv_command *find_command(const struct hv_program *program, int count,
					     char **words, int *used)
{
	for (const struct hv_command *const *c = program->commands; *c; c++) {
		*used = words_of(*c, count, words);
		if (*used)
			return *c;
	}
	return NULL;
}

static bool is_group(const struct hv_program *program, const char *word)
{
	for (const struct hv_command *const *c = program->commands; *c; c++)
		if (hv_option_in_group(*c, word))
			return true;
	return false;
}

static int unknown_in_group(const struct hv_program *program, const char *group, const char *word)
{
	const char *nearest = word ? hv_option_nearest_command(program, group, word) : NULL;
	HV_ERR(err);

	if (!word)
		hv_fail(&err, -EINVAL, "'%s' needs a command", group);
	else if (nearest)
		hv_fail(&err, -EINVAL, "unknown command '%s %s', did you mean '%s %s'?", group,
			word, group, nearest);
	else
		hv_fail(&err, -EINVAL, "unknown command '%s %s'", group, word);
	return complain(program, &(struct hv_command){ .name = group }, &err);
}

/* words end with NULL. */
static int unknown_command(const struct hv_program *program, char **words)
{
	const char *word = words[0], *nearest = hv_option_nearest_command(program, NULL, word);
	HV_ERR(err);

	if (is_group(program, word))
		return unknown_in_group(program, word, words[1]);

	if (word[0] == '-')
		hv_fail(&err, -EINVAL, "unknown option '%s'", word);
	else if (nearest)
		hv_fail(&err, -EINVAL, "unknown command '%s', did you mean '%s'?", word, nearest);
	else
		hv_fail(&err, -EINVAL, "unknown command '%s'", word);
	return complain(program, NULL, &err);
}

/* "help", "help COMMAND", "help GROUP" */
static int run_help(const struct hv_program *program, int arg_count, char **args)
{
	const struct hv_command *command = NULL;
	HV_ERR(err);
	int used = 0;

	if (!arg_count || !strcmp(args[0], "--help")) {
		hv_option_print_program(program, NULL);
		return EXIT_SUCCESS;
	}
	command = find_command(program, arg_count, args, &used);
	if (!command && arg_count == 1 && is_group(program, args[0])) {
		hv_option_print_program(program, args[0]);
		return EXIT_SUCCESS;
	}
	if (!command)
		return unknown_command(program, args);
	if (arg_count > used) {
		hv_fail(&err, -EINVAL, "'help' takes one command: '%s' is one too many",
			args[used]);
		return complain(program, NULL, &err);
	}
	hv_option_print_command(program, command);
	return EXIT_SUCCESS;
}

/* What every program answers. */
static bool run_common(const struct hv_program *program, const char *word)
{
	if (!strcmp(word, "--version"))
		printf("%s %s\n", program->name, program->version);
	else if (!strcmp(word, "--completion"))
		hv_option_print_completion(program);
	else
		return false;
	return true;
}

static bool wants_help(const char *word)
{
	return word && (!strcmp(word, "--help") || !strcmp(word, "-h"));
}

static int dispatch(const struct hv_program *program, int argc, char **argv)
{
	const struct hv_command *command;
	HV_ERR(err);
	int used;

	if (argc > 1 && run_common(program, argv[1]))
		return EXIT_SUCCESS;
	if (program->command)
		return run_command(program, program->command, argc - 1, argv + 1);

	if (argc < 2) {
		hv_fail(&err, -EINVAL, "no command was given");
		return complain(program, NULL, &err);
	}
	command = find_command(program, argc - 1, argv + 1, &used);
	if (command)
		return run_command(program, command, argc - 1 - used, argv + 1 + used);
	if (!strcmp(argv[1], "help"))
		return run_help(program, argc - 2, argv + 2);
	if (wants_help(argv[1]))
		return run_help(program, 0, NULL);
	if (wants_help(argv[2]))
		return run_help(program, 1, argv + 1);
	return unknown_command(program, argv + 1);
}

int hv_program_run(const struct hv_program *program, int argc, char **argv)
{
	int status = dispatch(program, argc, argv);
	int lost = fflush(stdout) ? -errno : ferror(stdout) ? -EIO : 0;

	/* Output that was lost (to a full disk, say) makes a failure of a success. */
	if (!lost || status != EXIT_SUCCESS)
		return status;
	fprintf(stderr, "%s: cannot write to standard output: %s\n", program->name,
		hv_err_text(NULL, lost));
	return EXIT_FAILURE;
}
