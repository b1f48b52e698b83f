/*
 * Help, completion script and suggestions, all made from the tables.
 */
#include "hvcore/option_help.h"

#include <ctype.h>
#include <string.h>

#define MAX_NAME 64
#define MAX_EDITS 2
#define LEFT_SIZE 256

/* The widest left column; what is longer has its explanation on the next line. */
#define MAX_LEFT 28

static void print_row(const char *left, int width, const char *right)
{
	if ((int)strlen(left) > width)
		printf("%s\n%*s  %s", left, width, "", right);
	else
		printf("%-*s  %s", width, left, right);
}

static int wider(int width, const char *left)
{
	int length = (int)strlen(left);

	return length > width && length <= MAX_LEFT ? length : width;
}

const char *hv_option_second_word(const struct hv_command *command)
{
	const char *space = strchr(command->name, ' ');

	return space ? space + 1 : NULL;
}

bool hv_option_in_group(const struct hv_command *command, const char *group)
{
	size_t length = strcspn(command->name, " ");

	return strlen(group) == length && !memcmp(group, command->name, length);
}

void hv_option_print_program(const struct hv_program *program, const char *group)
{
	char left[LEFT_SIZE];
	int width = 0;

	for (const struct hv_command *const *c = program->commands; *c; c++)
		width = wider(width, (*c)->name);
	printf("usage: %s%s%s COMMAND [ARGUMENT...]\n\n%s\n\ncommands:\n", program->name,
	       group ? " " : "", group ? group : "", program->summary);
	for (const struct hv_command *const *c = program->commands; *c; c++) {
		if (group && !hv_option_in_group(*c, group))
			continue;
		snprintf(left, sizeof(left), "  %s", (*c)->name);
		print_row(left, width + 2, (*c)->help);
		putchar('\n');
	}
	if (group)
		return;
	printf("\noptions:\n"
	       "  --help        this help; '%s COMMAND --help' for one command\n"
	       "  --version     the version\n"
	       "  --completion  a completion script for bash\n",
	       program->name);
}

/* "  -s, --size SIZE" */
static void format_option(const struct hv_option *option, char left[LEFT_SIZE])
{
	const char *argument = option->argument ? option->argument : "VALUE";
	char letter[8] = "    ";

	if (option->letter)
		snprintf(letter, sizeof(letter), "-%c, ", option->letter);
	if (option->kind == HV_OPTION_FLAG)
		snprintf(left, LEFT_SIZE, "  %s--%s", letter, option->name);
	else if (option->kind == HV_OPTION_OPTIONAL)
		snprintf(left, LEFT_SIZE, "  %s--%s[=%s]", letter, option->name, argument);
	else
		snprintf(left, LEFT_SIZE, "  %s--%s %s", letter, option->name, argument);
}

static void print_options(const struct hv_option *options, bool whole_program)
{
	static const char help[] = "      --help";
	char left[LEFT_SIZE];
	int width = wider(0, help);

	for (const struct hv_option *o = options; o && o->name; o++) {
		format_option(o, left);
		width = wider(width, left);
	}
	for (const struct hv_option *o = options; o && o->name; o++) {
		format_option(o, left);
		print_row(left, width, o->help);
		if (o->choices)
			printf(" (%s)", o->choices);
		putchar('\n');
	}
	print_row(help, width, "this help\n");
	if (!whole_program)
		return;
	print_row("      --version", width, "the version\n");
	print_row("      --completion", width, "a completion script for bash\n");
}

void hv_option_print_command(const struct hv_program *program, const struct hv_command *command)
{
	const char *synopsis = command->synopsis ? command->synopsis : "";
	bool whole_program = command == program->command;

	printf("usage: %s%s%s%s%s\n\n%s\n\noptions:\n", program->name, whole_program ? "" : " ",
	       whole_program ? "" : command->name, *synopsis ? " " : "", synopsis, command->help);
	print_options(command->options, whole_program);
	if (command->details)
		printf("\n%s\n", command->details);
}

/* The program's name as part of a shell function's name. */
static void print_identifier(const char *name)
{
	for (; *name; name++)
		putchar(isalnum((unsigned char)*name) ? *name : '_');
}

/* Is the command the first one of the table that begins with its first word? */
static bool begins_group(const struct hv_program *program, const struct hv_command *command)
{
	const struct hv_command *const *c = program->commands;
	HV_AUTO(free) char *group = strndup(command->name, strcspn(command->name, " "));

	while (group && *c != command && !hv_option_in_group(*c, group))
		c++;
	return *c == command;
}

/* The words that commands begin with. */
static void print_command_names(const struct hv_program *program)
{
	for (const struct hv_command *const *c = program->commands; *c; c++)
		if (begins_group(program, *c))
			printf("%.*s ", (int)strcspn((*c)->name, " "), (*c)->name);
}

/* Where the second word of a command is being typed. */
static void print_group(const struct hv_program *program, const struct hv_command *first)
{
	int length = (int)strcspn(first->name, " ");

	printf("\tif [[ $COMP_CWORD == 2 && ${COMP_WORDS[1]} == %.*s ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W '",
	       length, first->name);
	for (const struct hv_command *const *c = program->commands; *c; c++)
		if (hv_option_second_word(*c) &&
		    !strncmp((*c)->name, first->name, (size_t)length + 1))
			printf("%s ", hv_option_second_word(*c));
	printf("--help' -- \"$cur\"))\n\t\treturn\n\tfi\n");
}

static void print_choices(const char *choices)
{
	for (; *choices; choices++)
		putchar(*choices == '|' ? ' ' : *choices);
}

/* What may follow an option: its choices, or nothing, for which readline offers files. */
static void print_value_case(const struct hv_option *option)
{
	printf("\t\t--%s", option->name);
	if (option->letter)
		printf(" | -%c", option->letter);
	printf(")\n");
	/* An optional value comes only behind '='. */
	if (option->kind == HV_OPTION_OPTIONAL)
		printf("\t\t\tif [[ $assigned ]]; then\n");
	if (option->choices) {
		printf("\t\t\tCOMPREPLY=($(compgen -W '");
		print_choices(option->choices);
		printf("' -- \"$cur\"))\n");
	}
	printf("\t\t\treturn\n");
	if (option->kind == HV_OPTION_OPTIONAL)
		printf("\t\t\tfi\n");
	printf("\t\t\t;;\n");
}

static void print_command_case(const struct hv_command *command, const char *pattern,
			       const char *more_words)
{
	printf("\t%s)\n\t\tcase $prev in\n", pattern);
	for (const struct hv_option *o = command->options; o && o->name; o++)
		if (o->kind != HV_OPTION_FLAG)
			print_value_case(o);
	printf("\t\tesac\n\t\twords='");
	for (const struct hv_option *o = command->options; o && o->name; o++)
		printf("--%s ", o->name);
	printf("%s--help'\n\t\t;;\n", more_words);
}

/* The word behind the program's name. */
static void print_first_word(const struct hv_program *program)
{
	printf("\tif ((COMP_CWORD < 2)); then\n\t\tCOMPREPLY=($(compgen -W '");
	print_command_names(program);
	printf("help --help --version --completion' -- \"$cur\"))\n\t\treturn\n\tfi\n");
	for (const struct hv_command *const *c = program->commands; *c; c++)
		if (hv_option_second_word(*c) && begins_group(program, *c))
			print_group(program, *c);
}

static void print_head(const struct hv_program *program)
{
	printf("# bash completion for %s, made by '%s --completion'\n_", program->name,
	       program->name);
	print_identifier(program->name);
	printf("()\n{\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev= words= assigned= i\n\n"
	       "\tCOMPREPLY=()\n");
	if (!program->command)
		print_first_word(program);
	printf("\tfor ((i = %d; i < COMP_CWORD; i++)); do\n"
	       "\t\t[[ ${COMP_WORDS[i]} == -- ]] && return\n"
	       "\tdone\n"
	       "\t# readline makes --name=value three words\n"
	       "\tprev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tif [[ $cur == '=' ]]; then\n\t\tcur= assigned=1\n"
	       "\telif [[ $prev == '=' ]]; then\n"
	       "\t\tprev=${COMP_WORDS[COMP_CWORD - 2]} assigned=1\n\tfi\n"
	       "\tcase \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n",
	       program->command ? 1 : 2);
}

static void print_command_cases(const struct hv_program *program)
{
	char pattern[MAX_NAME];

	for (const struct hv_command *const *c = program->commands; *c; c++) {
		snprintf(pattern, sizeof(pattern), hv_option_second_word(*c) ? "'%s'" : "'%s '*",
			 (*c)->name);
		print_command_case(*c, pattern, "");
	}
	printf("\t'help '*)\n\t\tCOMPREPLY=($(compgen -W '");
	print_command_names(program);
	printf("' -- \"$cur\"))\n\t\treturn\n\t\t;;\n");
}

void hv_option_print_completion(const struct hv_program *program)
{
	print_head(program);
	if (program->command)
		print_command_case(program->command, "*", "--version --completion ");
	else
		print_command_cases(program);
	printf("\tesac\n"
	       "\tif [[ $cur == -* ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\tfi\n}\n"
	       "complete -o bashdefault -o default -F _");
	print_identifier(program->name);
	printf(" %s\n", program->name);
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* Levenshtein's distance, row by row; both words are shorter than MAX_NAME. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[MAX_NAME];
	size_t width = strlen(b);

	for (unsigned j = 0; j <= width; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= width; j++) {
			unsigned above = row[j], other = a[i - 1] != b[j - 1];

			row[j] = least(above + 1, row[j - 1] + 1, diagonal + other);
			diagonal = above;
		}
	}
	return row[width];
}

/* Prefers name to *best when it is nearer to word, and near enough to be meant. */
static void consider(const char *word, const char *name, const char **best, unsigned *best_distance)
{
	unsigned distance;

	if (strlen(word) >= MAX_NAME || strlen(name) >= MAX_NAME)
		return;
	distance = edit_distance(word, name);
	if (distance >= *best_distance || distance >= strlen(name))
		return;
	*best = name;
	*best_distance = distance;
}

const char *hv_option_nearest_command(const struct hv_program *program, const char *group,
				      const char *word)
{
	unsigned distance = MAX_EDITS + 1;
	const char *best = NULL;

	for (const struct hv_command *const *c = program->commands; *c; c++) {
		const char *second = hv_option_second_word(*c);

		if (!group)
			consider(word, (*c)->name, &best, &distance);
		else if (second && hv_option_in_group(*c, group))
			consider(word, second, &best, &distance);
	}
	return best;
}

const char *hv_option_nearest_option(const struct hv_command *command, const char *word)
{
	unsigned distance = MAX_EDITS + 1;
	const char *best = NULL;

	for (const struct hv_option *o = command->options; o && o->name; o++)
		consider(word, o->name, &best, &distance);
	return best;
}
