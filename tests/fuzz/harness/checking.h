/*
 * vhd_check on hostile files, and what two checks have in common.
 */
#ifndef TESTS_FUZZ_CHECKING_H
#define TESTS_FUZZ_CHECKING_H

#include "tests/fuzz/harness/sparse.h"
#include "vhd/check.h"

struct checked {
	int rc; /* 0, or that it is no VHD */
	struct vhd_check_result result;
	const char *errors[64]; /* codes of errors, each once; what was repaired is left out */
	unsigned error_codes;
};

/* Checks the file, and repairs it when undo_path is given. */
void checking_run(struct sparse *sparse, const char *undo_path, struct checked *ret);

bool checking_has_error(const struct checked *checked, const char *code);

/* One of the errors that later has and earlier has not, or NULL. */
const char *checking_new_error(const struct checked *earlier, const struct checked *later);

/* Is there an error that makes it impossible to write to the disk? Its code, or NULL. */
const char *checking_forbids_writing(const struct checked *checked);

#endif
