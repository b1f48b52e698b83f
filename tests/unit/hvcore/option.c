/*
 * Command and option tables: what a user types and what he is told.
 */
#include "hvcore/option.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <string.h>

#define UNSET 99

struct make_options {
	bool force, json;
	const char *format, *backing, *name;
	uint64_t size, count;
	const char **with;
};

/* What the last run saw. */
static struct make_options seen;
static const char *seen_with[4]; /* the list itself goes when the command returns */
static int seen_operands = UNSET;
static char *seen_operand[8];

static int run_make(void *options, int operand_count, char **operands)
{
	seen = *(struct make_options *)options;
	for (int i = 0; seen.with && seen.with[i] && i < 4; i++)
		seen_with[i] = seen.with[i];
	seen_operands = operand_count;
	for (int i = 0; i <= operand_count && i < 8; i++)
		seen_operand[i] = operands[i];
	return 0;
}

static int run_fail(void *options, int operand_count, char **operands)
{
	(void)options;
	(void)operand_count;
	(void)operands;
	return 1;
}

static int run_talk(void *options, int operand_count, char **operands)
{
	(void)options;
	(void)operand_count;
	(void)operands;
	puts("output");
	return 0;
}

#define MEMBER(name) offsetof(struct make_options, name)

static const struct hv_option make_table[] = {
	{ "force", 'f', HV_OPTION_FLAG, NULL, NULL, "do it", MEMBER(force) },
	{ "json", 0, HV_OPTION_FLAG, NULL, NULL, "speak JSON", MEMBER(json) },
	{ "format", 't', HV_OPTION_STRING, "KIND", "raw|fixed|dynamic", "the kind",
	  MEMBER(format) },
	{ "backing", 'b', HV_OPTION_OPTIONAL, "MODE", "ro|rw", "the mode", MEMBER(backing) },
	{ "name", 'n', HV_OPTION_STRING, "TEXT", NULL, "the name", MEMBER(name) },
	{ "size", 's', HV_OPTION_SIZE, "SIZE", NULL, "the size", MEMBER(size) },
	{ "count", 'c', HV_OPTION_NUMBER, "N", NULL, "how many", MEMBER(count) },
	{ "with", 'w', HV_OPTION_STRINGS, "TEXT", NULL, "with that too", MEMBER(with) },
	{ 0 },
};

static const struct hv_command cmd_make = { .name = "make",
					    .synopsis = "[OPTION...] FILE [FILE]",
					    .help = "make things",
					    .details = "More about making.",
					    .options = make_table,
					    .min_operands = 1,
					    .max_operands = 2,
					    .options_size = sizeof(struct make_options),
					    .run = run_make };
static const struct make_options grow_defaults = { .name = "oak", .count = 3 };
static const struct hv_command cmd_grow = { .name = "grow",
					    .help = "grow things",
					    .options = make_table,
					    .options_size = sizeof(struct make_options),
					    .run = run_make,
					    .defaults = &grow_defaults };
static const struct hv_command cmd_fail = { .name = "fail",
					    .help = "fail at once",
					    .run = run_fail };
static const struct hv_command cmd_talk = {
	.name = "talk", .synopsis = "", .help = "say something", .run = run_talk
};
static const struct hv_command cmd_merge = { .name = "merge",
					     .synopsis = "A B...",
					     .help = "merge many",
					     .min_operands = 2,
					     .max_operands = -1,
					     .run = run_talk };
static const struct hv_command cmd_move = { .name = "move",
					    .synopsis = "A B",
					    .help = "move one",
					    .min_operands = 2,
					    .max_operands = 2,
					    .run = run_talk };

static const struct hv_command *const commands[] = { &cmd_make,  &cmd_grow, &cmd_fail, &cmd_talk,
						     &cmd_merge, &cmd_move, NULL };

static const struct hv_program toolbox = {
	.name = "my-tool", .summary = "makes things", .version = "1.2.3", .commands = commands
};

/* A program that does one thing. */
static const struct hv_command cmd_single = { .name = "my-tool",
					      .synopsis = "[OPTION...] FILE",
					      .help = "makes a thing",
					      .options = make_table,
					      .min_operands = 1,
					      .max_operands = 1,
					      .options_size = sizeof(struct make_options),
					      .run = run_make };
static const struct hv_program single = { .name = "my-tool",
					  .version = "1.2.3",
					  .command = &cmd_single };

static const struct hv_program *program = &toolbox;

static char *read_all(FILE *from)
{
	static char text[1 << 16];
	size_t length = fread(text, 1, sizeof(text) - 1, from);

	text[length] = '\0';
	return text;
}

/* Runs the words (up to NULL) and returns the exit status. */
static int run(char *const *words)
{
	char *argv[16] = { (char[]){ "my-tool" } };
	int argc = 1;

	while (words[argc - 1]) {
		argv[argc] = words[argc - 1];
		argc++;
	}
	return hv_program_run(program, argc, argv);
}

#define RUN(...) run((char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

/* After a mistake: one sentence, then where help is, and nothing on standard output. */
static void assert_mistake(int status, const char *sentence, const char *try)
{
	char expected[512];

	fflush(stderr);
	cr_assert_eq(status, 2);
	snprintf(expected, sizeof(expected), "my-tool: %s; try '%s --help'\n", sentence, try);
	cr_assert_str_eq(read_all(cr_get_redirected_stderr()), expected);
	cr_assert_eq(seen_operands, UNSET, "the command ran");
}

static void redirect(void)
{
	cr_redirect_stdout();
	cr_redirect_stderr();
}

TestSuite(option, .init = redirect);

Test(option, options_land_in_the_struct)
{
	cr_assert_eq(RUN("make", "--force", "--format", "raw", "--name=x=y", "--size", "1.5K",
			 "--count=7", "file"),
		     0);
	cr_assert(seen.force);
	cr_assert_not(seen.json);
	cr_assert_str_eq(seen.format, "raw");
	cr_assert_str_eq(seen.name, "x=y");
	cr_assert_eq(seen.size, 1536);
	cr_assert_eq(seen.count, 7);
	cr_assert_null(seen.backing);
	cr_assert_eq(seen_operands, 1);
	cr_assert_str_eq(seen_operand[0], "file");
	cr_assert_null(seen_operand[1]);
}

Test(option, defaults_hold_until_an_option_is_given)
{
	cr_assert_eq(RUN("grow", "--size", "4K"), 0);
	cr_assert_str_eq(seen.name, "oak");
	cr_assert_eq(seen.count, 3);
	cr_assert_eq(seen.size, 4096);
	cr_assert_eq(RUN("grow", "--count", "0", "--name", ""), 0);
	cr_assert_str_eq(seen.name, "");
	cr_assert_eq(seen.count, 0);
}

Test(option, an_option_may_be_given_again_and_again)
{
	cr_assert_eq(RUN("make", "file"), 0);
	cr_assert_null(seen.with);
	cr_assert_eq(RUN("make", "--with", "a,b", "file", "-w", "c", "--with=", "-wd"), 0);
	cr_assert_str_eq(seen_with[0], "a,b");
	cr_assert_str_eq(seen_with[1], "c");
	cr_assert_str_eq(seen_with[2], "");
	cr_assert_str_eq(seen_with[3], "d");
	cr_assert_eq(seen_operands, 1);
}

Test(option, options_and_operands_mix)
{
	cr_assert_eq(RUN("make", "a", "--force", "b", "--json"), 0);
	cr_assert(seen.force && seen.json);
	cr_assert_eq(seen_operands, 2);
	cr_assert_str_eq(seen_operand[1], "b");
}

Test(option, two_dashes_end_the_options)
{
	cr_assert_eq(RUN("make", "--", "--force", "--"), 0);
	cr_assert_not(seen.force);
	cr_assert_str_eq(seen_operand[0], "--force");
	cr_assert_str_eq(seen_operand[1], "--");
}

Test(option, one_dash_is_an_operand)
{
	cr_assert_eq(RUN("make", "-"), 0);
	cr_assert_str_eq(seen_operand[0], "-");
}

Test(option, letters_work_alone_joined_and_with_values)
{
	cr_assert_eq(RUN("make", "-f", "-s4K", "-n", "x", "file"), 0);
	cr_assert(seen.force);
	cr_assert_eq(seen.size, 4096);
	cr_assert_str_eq(seen.name, "x");
	cr_assert_eq(RUN("make", "-fc", "3", "file"), 0);
	cr_assert(seen.force);
	cr_assert_eq(seen.count, 3);
}

Test(option, the_last_value_wins)
{
	cr_assert_eq(RUN("make", "-ff", "--size", "1K", "--size", "2K", "file"), 0);
	cr_assert_eq(seen.size, 2048);
}

Test(option, a_value_may_look_like_an_option)
{
	cr_assert_eq(RUN("make", "--name", "--force", "file"), 0);
	cr_assert_str_eq(seen.name, "--force");
	cr_assert_not(seen.force);
}

Test(option, an_optional_value_comes_only_behind_an_equals_sign)
{
	cr_assert_eq(RUN("make", "--backing", "ro"), 0);
	cr_assert_str_eq(seen.backing, "");
	cr_assert_str_eq(seen_operand[0], "ro");
	cr_assert_eq(RUN("make", "--backing=ro", "file"), 0);
	cr_assert_str_eq(seen.backing, "ro");
	cr_assert_eq(RUN("make", "-brw", "file"), 0);
	cr_assert_str_eq(seen.backing, "rw");
	cr_assert_eq(RUN("make", "-b", "file"), 0);
	cr_assert_str_eq(seen.backing, "");
}

Test(option, the_commands_status_is_the_programs)
{
	cr_assert_eq(RUN("fail"), 1);
}

Test(option, unknown_option_is_named)
{
	assert_mistake(RUN("make", "--no-such", "file"), "'make' has no option '--no-such'",
		       "my-tool make");
}

Test(option, unknown_option_is_named_without_its_value)
{
	assert_mistake(RUN("make", "--no-such=7", "file"), "'make' has no option '--no-such'",
		       "my-tool make");
}

Test(option, unknown_option_suggests_the_nearest)
{
	assert_mistake(RUN("make", "--sise", "1K", "file"),
		       "'make' has no option '--sise', did you mean '--size'?", "my-tool make");
}

Test(option, unknown_letter_is_named)
{
	assert_mistake(RUN("make", "-fx", "file"), "'make' has no option '-x'", "my-tool make");
}

Test(option, names_are_not_abbreviated)
{
	assert_mistake(RUN("make", "--for", "file"),
		       "'make' has no option '--for', did you mean '--force'?", "my-tool make");
}

Test(option, missing_value_is_a_mistake)
{
	assert_mistake(RUN("make", "file", "--size"), "option '--size' needs a value",
		       "my-tool make");
}

Test(option, missing_value_of_a_letter_is_a_mistake)
{
	assert_mistake(RUN("make", "file", "-fs"), "option '--size' needs a value", "my-tool make");
}

Test(option, flag_takes_no_value)
{
	assert_mistake(RUN("make", "--force=yes", "file"), "option '--force' takes no value",
		       "my-tool make");
}

Test(option, value_outside_the_choices_is_refused)
{
	assert_mistake(RUN("make", "--format", "ra", "file"),
		       "option '--format' takes one of raw|fixed|dynamic, not 'ra'",
		       "my-tool make");
}

Test(option, two_choices_at_once_are_refused)
{
	assert_mistake(RUN("make", "--format=raw|fixed", "file"),
		       "option '--format' takes one of raw|fixed|dynamic, not 'raw|fixed'",
		       "my-tool make");
}

Test(option, empty_choice_is_refused)
{
	assert_mistake(RUN("make", "--format=", "file"),
		       "option '--format' takes one of raw|fixed|dynamic, not ''", "my-tool make");
}

Test(option, every_choice_is_accepted)
{
	cr_assert_eq(RUN("make", "--format=raw", "file"), 0);
	cr_assert_eq(RUN("make", "--format=fixed", "file"), 0);
	cr_assert_eq(RUN("make", "--format=dynamic", "file"), 0);
}

Test(option, bad_size_is_explained)
{
	assert_mistake(RUN("make", "--size", "50GB", "file"),
		       "option '--size': '50GB' might mean powers of 1000 or of 1024: write G or "
		       "GiB for 1024",
		       "my-tool make");
}

Test(option, bad_number_is_named)
{
	assert_mistake(RUN("make", "--count", "-1", "file"),
		       "'-1' for option '--count' is not a number", "my-tool make");
}

Test(option, overlarge_number_is_named)
{
	assert_mistake(RUN("make", "--count", "18446744073709551616", "file"),
		       "'18446744073709551616' for option '--count' is too large", "my-tool make");
}

Test(option, the_largest_number_fits)
{
	cr_assert_eq(RUN("make", "--count", "18446744073709551615", "file"), 0);
	cr_assert_eq(seen.count, UINT64_MAX);
}

Test(option, too_few_operands_name_the_command)
{
	assert_mistake(RUN("make"), "'make' needs at least 1 operand, but 0 were given",
		       "my-tool make");
}

Test(option, too_few_operands_of_an_exact_number)
{
	assert_mistake(RUN("move", "a"), "'move' needs 2 operands, but 1 was given",
		       "my-tool move");
}

Test(option, too_many_operands_name_the_first_extra)
{
	assert_mistake(RUN("make", "a", "b", "c"),
		       "'make' takes at most 2 operands: 'c' is one too many", "my-tool make");
}

Test(option, operand_for_a_command_without)
{
	assert_mistake(RUN("fail", "x"), "'fail' takes no operand, but 'x' was given",
		       "my-tool fail");
}

Test(option, any_number_of_operands_may_be_allowed)
{
	cr_assert_eq(RUN("merge", "a", "b", "c", "d", "e", "f"), 0);
}

Test(option, no_command_is_a_mistake)
{
	assert_mistake(RUN(), "no command was given", "my-tool");
}

Test(option, unknown_command_suggests_the_nearest)
{
	assert_mistake(RUN("mke"), "unknown command 'mke', did you mean 'make'?", "my-tool");
}

Test(option, command_two_edits_away_is_suggested)
{
	assert_mistake(RUN("amke"), "unknown command 'amke', did you mean 'make'?", "my-tool");
}

Test(option, far_command_is_not_suggested)
{
	assert_mistake(RUN("convert"), "unknown command 'convert'", "my-tool");
}

Test(option, unknown_option_before_the_command_is_named)
{
	assert_mistake(RUN("--no-such"), "unknown option '--no-such'", "my-tool");
}

Test(option, help_of_an_unknown_command_is_a_mistake)
{
	assert_mistake(RUN("help", "mak"), "unknown command 'mak', did you mean 'make'?",
		       "my-tool");
}

static void assert_stdout_has(const char *words)
{
	static char text[1 << 16];
	static bool read;

	fflush(stdout);
	if (!read)
		strcpy(text, read_all(cr_get_redirected_stdout()));
	read = true;
	cr_assert(strstr(text, words), "'%s' is not in:\n%s", words, text);
}

Test(option, program_help_lists_the_commands)
{
	cr_assert_eq(RUN("--help"), 0);
	assert_stdout_has("usage: my-tool COMMAND");
	assert_stdout_has("makes things");
	assert_stdout_has("  make   make things\n");
	assert_stdout_has("  merge  merge many\n");
	assert_stdout_has("--version");
}

Test(option, help_without_a_command_is_program_help)
{
	cr_assert_eq(RUN("help"), 0);
	assert_stdout_has("usage: my-tool COMMAND");
}

Test(option, command_help_shows_every_option)
{
	cr_assert_eq(RUN("make", "--help"), 0);
	assert_stdout_has("usage: my-tool make [OPTION...] FILE [FILE]\n");
	assert_stdout_has("  -f, --force           do it\n");
	assert_stdout_has("      --json            speak JSON\n");
	assert_stdout_has("  -t, --format KIND     the kind (raw|fixed|dynamic)\n");
	assert_stdout_has("  -b, --backing[=MODE]  the mode (ro|rw)\n");
	assert_stdout_has("      --help            this help\n");
	assert_stdout_has("\nMore about making.\n");
	cr_assert_eq(seen_operands, UNSET);
}

Test(option, help_command_is_command_help)
{
	cr_assert_eq(RUN("help", "make"), 0);
	assert_stdout_has("usage: my-tool make ");
}

Test(option, help_is_found_among_other_words)
{
	cr_assert_eq(RUN("make", "a", "--force", "-h", "b", "c", "d"), 0);
	assert_stdout_has("usage: my-tool make ");
}

Test(option, help_of_a_command_without_options)
{
	cr_assert_eq(RUN("fail", "--help"), 0);
	assert_stdout_has("usage: my-tool fail\n\nfail at once\n");
}

Test(option, version_is_name_and_number)
{
	cr_assert_eq(RUN("--version"), 0);
	fflush(stdout);
	cr_assert_stdout_eq_str("my-tool 1.2.3\n");
}

Test(option, lost_output_is_a_failure)
{
	cr_assert(freopen("/dev/full", "w", stdout));
	cr_assert_eq(RUN("talk"), 1);
	fflush(stderr);
	cr_assert_stderr_eq_str("my-tool: cannot write to standard output: "
				"No space left on device\n");
}

Test(single, takes_options_and_operands_at_once)
{
	program = &single;
	cr_assert_eq(RUN("--force", "thing", "-n", "x"), 0);
	cr_expect(seen.force);
	cr_expect_str_eq(seen.name, "x");
	cr_expect_str_eq(seen_operand[0], "thing");
	cr_assert_eq(RUN("help"), 0);
	cr_expect_str_eq(seen_operand[0], "help", "no word is a command");
}

Test(single, says_where_help_is, .init = cr_redirect_stderr)
{
	program = &single;
	cr_redirect_stdout();
	assert_mistake(RUN(), "'my-tool' needs 1 operand, but 0 were given", "my-tool");
}

Test(single, helps, .init = cr_redirect_stdout)
{
	program = &single;
	cr_assert_eq(RUN("--help"), 0);
	assert_stdout_has("usage: my-tool [OPTION...] FILE\n\nmakes a thing\n\noptions:\n");
	cr_assert_eq(RUN("-h"), 0);
	assert_stdout_has("--completion");
}

Test(single, tells_its_version, .init = cr_redirect_stdout)
{
	program = &single;
	cr_assert_eq(RUN("--version"), 0);
	fflush(stdout);
	cr_assert_stdout_eq_str("my-tool 1.2.3\n");
}

/* What bash offers for words, the last of which is being completed. */
static char *complete(const char *words)
{
	char command[1024];
	char *offered;
	FILE *bash, *script = fopen("complete.sh", "w");
	int saved = dup(STDOUT_FILENO);

	cr_assert(script);
	fflush(stdout);
	cr_assert(dup2(fileno(script), STDOUT_FILENO) >= 0);
	cr_assert_eq(RUN("--completion"), 0);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	fclose(script);
	snprintf(command, sizeof(command),
		 "bash -c '. ./complete.sh; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
		 " _my_tool; echo \"${COMPREPLY[*]}\"' 2>&1",
		 words);
	bash = popen(command, "r");
	cr_assert(bash);
	offered = read_all(bash);
	pclose(bash);
	unlink("complete.sh");
	return offered;
}

/* Each in a directory of its own: tests run side by side. */
static void enter_scratch(void)
{
	char directory[] = "/tmp/hvkit-option-XXXXXX";

	cr_assert(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
}

static void leave_scratch(void)
{
	char *directory = get_current_dir_name();

	if (chdir("/") == 0)
		rmdir(directory);
	free(directory);
}

TestSuite(completion, .init = enter_scratch, .fini = leave_scratch);

Test(completion, offers_commands)
{
	cr_assert_str_eq(complete("my-tool m"), "make merge move\n");
}

Test(completion, offers_options_of_the_command)
{
	cr_assert_str_eq(complete("my-tool make --f"), "--force --format\n");
	cr_assert_str_eq(complete("my-tool talk --"), "--help\n");
}

Test(completion, offers_choices)
{
	cr_assert_str_eq(complete("my-tool make --format \"\""), "raw fixed dynamic\n");
	cr_assert_str_eq(complete("my-tool make -t r"), "raw\n");
}

Test(completion, offers_choices_behind_an_equals_sign)
{
	cr_assert_str_eq(complete("my-tool make --format ="), "raw fixed dynamic\n");
	cr_assert_str_eq(complete("my-tool make --format = d"), "dynamic\n");
	cr_assert_str_eq(complete("my-tool make --backing = r"), "ro rw\n");
}

Test(completion, leaves_the_word_after_an_optional_value_alone)
{
	cr_assert_str_eq(complete("my-tool make --backing r"), "\n");
	cr_assert_str_eq(complete("my-tool make --backing --j"), "--json\n");
}

Test(completion, leaves_operands_and_values_to_the_shell)
{
	cr_assert_str_eq(complete("my-tool make f"), "\n");
	cr_assert_str_eq(complete("my-tool make --name -f"), "\n");
	cr_assert_str_eq(complete("my-tool make -- --f"), "\n");
}

Test(completion, offers_commands_to_help)
{
	cr_assert_str_eq(complete("my-tool help ma"), "make\n");
}

Test(completion, falls_back_to_files)
{
	complete("my-tool m");
	cr_redirect_stdout();
	cr_assert_eq(RUN("--completion"), 0);
	assert_stdout_has("complete -o bashdefault -o default -F _my_tool my-tool\n");
}

Test(completion, offers_options_of_a_program_without_commands)
{
	program = &single;
	cr_assert_str_eq(complete("my-tool --f"), "--force --format\n");
	cr_assert_str_eq(complete("my-tool x --ve"), "--version\n");
	cr_assert_str_eq(complete("my-tool --format \"\""), "raw fixed dynamic\n");
	cr_assert_str_eq(complete("my-tool m"), "\n");
}

/* Commands of two words. */

static const struct hv_command cmd_tree_add = { .name = "tree add",
						.synopsis = "FILE",
						.help = "add a tree",
						.options = make_table,
						.max_operands = 2,
						.options_size = sizeof(struct make_options),
						.run = run_make };
static const struct hv_command cmd_tree_list = { .name = "tree list",
						 .help = "list trees",
						 .run = run_talk };
static const struct hv_command *const forest_commands[] = { &cmd_tree_add, &cmd_tree_list,
							    &cmd_talk, NULL };
static const struct hv_program forest = {
	.name = "my-tool", .summary = "grows trees", .version = "1", .commands = forest_commands
};

static void use_forest(void)
{
	redirect();
	program = &forest;
}

TestSuite(group, .init = use_forest);

Test(group, two_words_name_a_command)
{
	cr_assert_eq(RUN("tree", "add", "--force", "add"), 0);
	cr_assert(seen.force);
	cr_assert_eq(seen_operands, 1);
	cr_assert_str_eq(seen_operand[0], "add");
}

Test(group, one_word_still_does)
{
	cr_assert_eq(RUN("talk"), 0);
}

Test(group, a_group_alone_is_a_mistake)
{
	assert_mistake(RUN("tree"), "'tree' needs a command", "my-tool tree");
}

Test(group, a_wrong_second_word_is_a_mistake)
{
	assert_mistake(RUN("tree", "ad"), "unknown command 'tree ad', did you mean 'tree add'?",
		       "my-tool tree");
}

Test(group, a_mistake_names_both_words)
{
	assert_mistake(RUN("tree", "add", "--forc"),
		       "'tree add' has no option '--forc', did you mean '--force'?",
		       "my-tool tree add");
}

Test(group, help_is_for_a_group_or_a_command)
{
	static const char help[] = "usage: my-tool tree COMMAND [ARGUMENT...]\n\ngrows trees\n\n"
				   "commands:\n  tree add   add a tree\n  tree list  list trees\n";
	char expected[sizeof(help) * 2];

	cr_assert_eq(RUN("tree", "--help"), 0);
	cr_assert_eq(RUN("help", "tree"), 0);
	fflush(stdout);
	snprintf(expected, sizeof(expected), "%s%s", help, help);
	cr_assert_str_eq(read_all(cr_get_redirected_stdout()), expected);
}

Test(group, help_names_the_command_by_both_words)
{
	cr_assert_eq(RUN("help", "tree", "add"), 0);
	assert_stdout_has("usage: my-tool tree add FILE\n\nadd a tree\n");
}

Test(group, help_takes_one_command)
{
	assert_mistake(RUN("help", "tree", "add", "oak"),
		       "'help' takes one command: 'oak' is one too many", "my-tool");
}

Test(completion, offers_the_words_of_groups_one_after_the_other)
{
	program = &forest;
	cr_assert_str_eq(complete("my-tool t"), "tree talk\n");
	cr_assert_str_eq(complete("my-tool tree \"\""), "add list --help\n");
	cr_assert_str_eq(complete("my-tool tree l"), "list\n");
	cr_assert_str_eq(complete("my-tool tree add --fo"), "--force --format\n");
	cr_assert_str_eq(complete("my-tool tree list --"), "--help\n");
	cr_assert_str_eq(complete("my-tool talk --"), "--help\n");
}
