/*
 * How a program speaks.
 */
#include "hvcore/program.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

static void assert_harmless(const char *text, const char *expected)
{
	char *harmless = hv_harmless(text);

	cr_assert_str_eq(harmless, expected);
	free(harmless);
}

Test(program, text_of_strangers_does_not_drive_the_terminal)
{
	assert_harmless("", "");
	assert_harmless("plain \xc3\xa9 \xf0\x9f\x92\xbe", "plain \xc3\xa9 \xf0\x9f\x92\xbe");
	assert_harmless("a\x1b[2J\n\x7f", "a\\x1b[2J\\x0a\\x7f");
	assert_harmless("\xc2\x9b[m", "\\xc2\\x9b[m");
	assert_harmless("\xff\xe2\x82", "\\xff\\xe2\\x82");
}

Test(program, a_failure_is_one_harmless_sentence)
{
	HV_ERR(err);

	cr_redirect_stderr();
	hv_fail(&err, -EBADMSG, "a\x1bz: bad footer checksum");
	cr_assert_eq(hv_program_failed("prog", &err, -EBADMSG), HV_PROGRAM_FAILED);
	fflush(stderr);
	cr_assert_stderr_eq_str("prog: a\\x1bz: bad footer checksum\n");
}

Test(program, a_mistake_points_to_the_help)
{
	cr_redirect_stderr();
	cr_assert_eq(hv_program_usage("prog", "verb", "no %s", "file"), HV_PROGRAM_USAGE);
	cr_assert_eq(hv_program_usage("prog", NULL, "no file"), HV_PROGRAM_USAGE);
	fflush(stderr);
	cr_assert_stderr_eq_str("prog: no file; try 'prog verb --help'\n"
				"prog: no file; try 'prog --help'\n");
}

Test(program, the_first_interrupt_is_remembered)
{
	hv_program_catch_interrupts();
	cr_assert_not(hv_program_interrupted());
	raise(SIGTERM);
	cr_assert(hv_program_interrupted());
}
