/*
 * Diagnostics on standard error.
 */
#include "hvcore/log.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdlib.h>

static void redirect(void)
{
	unsetenv("HVKIT_LOG");
	cr_redirect_stderr();
}

static void assert_logged(const char *expected)
{
	fflush(stderr);
	cr_assert_stderr_eq_str(expected);
}

TestSuite(log, .init = redirect);

Test(log, silent_by_default)
{
	hv_log(HV_LOG_WARN, "hidden");
	assert_logged("");
}

Test(log, the_level_and_what_is_graver_are_printed)
{
	hv_log_set_level(HV_LOG_INFO);
	hv_log(HV_LOG_WARN, "one %d", 1);
	hv_log(HV_LOG_INFO, "two");
	hv_log(HV_LOG_DEBUG, "hidden");
	assert_logged("warn: one 1\ninfo: two\n");
}

Test(log, the_environment_raises_the_level)
{
	setenv("HVKIT_LOG", "debug", 1);
	hv_log(HV_LOG_DEBUG, "shown");
	assert_logged("debug: shown\n");
}

Test(log, the_program_does_not_lower_what_the_environment_asks_for)
{
	setenv("HVKIT_LOG", "debug", 1);
	hv_log_set_level(HV_LOG_WARN);
	hv_log(HV_LOG_DEBUG, "shown");
	assert_logged("debug: shown\n");
}

Test(log, one_call_is_one_line)
{
	hv_log_set_level(HV_LOG_WARN);
	hv_log(HV_LOG_WARN, "a\nb\x1b[2J");
	assert_logged("warn: a?b?[2J\n");
}

Test(log, errno_survives)
{
	hv_log_set_level(HV_LOG_WARN);
	errno = ENOSPC;
	hv_log(HV_LOG_WARN, "x");
	cr_assert_eq(errno, ENOSPC);
	assert_logged("warn: x\n");
}
