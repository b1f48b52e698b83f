/*
 * The error sentence.
 */
#include "hvcore/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(err, new_error_is_empty)
{
	HV_ERR(err);

	cr_assert_eq(err.code, 0);
	cr_assert_str_eq(err.sentence, "");
}

Test(err, fail_returns_the_code_and_records_the_sentence)
{
	HV_ERR(err);

	cr_assert_eq(hv_fail(&err, -EBADMSG, "%s: bad footer at %d", "a.vhd", 512), -EBADMSG);
	cr_assert_eq(err.code, -EBADMSG);
	cr_assert_str_eq(err.sentence, "a.vhd: bad footer at 512");
}

Test(err, first_sentence_is_kept)
{
	HV_ERR(err);

	hv_fail(&err, -EBADMSG, "the fault");
	cr_assert_eq(hv_fail(&err, -EIO, "its consequence"), -EIO);
	hv_fail_errno(&err, -EIO, "another consequence");
	cr_assert_eq(err.code, -EBADMSG);
	cr_assert_str_eq(err.sentence, "the fault");
}

Test(err, cleared_error_records_again)
{
	HV_ERR(err);

	hv_fail(&err, -EBADMSG, "the fault");
	hv_err_clear(&err);
	hv_fail(&err, -EIO, "another");
	cr_assert_str_eq(err.sentence, "another");
}

Test(err, nobody_needs_the_sentence)
{
	cr_assert_eq(hv_fail(NULL, -EIO, "%s", "lost"), -EIO);
	cr_assert_eq(hv_fail_errno(NULL, -EIO, "%s", "lost"), -EIO);
}

Test(err, fail_errno_appends_the_systems_words)
{
	HV_ERR(err);

	cr_assert_eq(hv_fail_errno(&err, -ENOENT, "cannot open '%s'", "x"), -ENOENT);
	cr_assert_str_eq(err.sentence, "cannot open 'x': No such file or directory");
}

Test(err, text_prefers_the_sentence_to_the_code)
{
	HV_ERR(err);

	hv_fail(&err, -EBADMSG, "the fault");
	cr_assert_str_eq(hv_err_text(&err, -ENOSPC), "the fault");
}

Test(err, text_without_a_sentence_is_the_systems_words)
{
	HV_ERR(err);

	cr_assert_str_eq(hv_err_text(&err, -ENOSPC), "No space left on device");
	cr_assert_str_eq(hv_err_text(NULL, -ENOSPC), "No space left on device");
	cr_assert_str_eq(hv_err_text(NULL, -99999), "unknown error");
}

Test(err, overlong_sentence_is_cut_and_terminated)
{
	static char path[3 * HV_ERR_MAX];
	HV_ERR(err);

	memset(path, 'x', sizeof(path) - 1);
	hv_fail_errno(&err, -EIO, "%s", path);
	cr_assert_eq(strlen(err.sentence), HV_ERR_MAX - 1);
}
