/*
 * What returns 0, or a code and why, has to return 0.
 */
#ifndef TESTS_UNIT_MUST_H
#define TESTS_UNIT_MUST_H

#include <criterion/criterion.h>

#include "hvcore/err.h"

static inline void must(int rc, const struct hv_err *err)
{
	cr_assert_eq(rc, 0, "%s", hv_err_text(err, rc));
}

#endif
