/*
 * What every fuzz target shares.
 *
 * A target is one file in tests/fuzz/ that defines fuzz_target. Linked with libfuzzer.c and
 * mutate.c (by clang, -fsanitize=fuzzer) it is fuzzed; linked with replay.c it is a plain program
 * that runs the files, and all files of the directories, that are its arguments.
 *
 * A finding ends the program: a sanitizer's report, abort() by fuzz_finding, or the time limit.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcore/err.h"
#include "hvcore/loop.h"

struct fuzz_target {
	void (*run)(const uint8_t *data, size_t size);
	/* Sets checksums right, for the mutator: without them nothing gets far. NULL: none. */
	void (*mend)(uint8_t *data, size_t size);
	bool image; /* the input is that of image.h, and mutated as such; mend is NULL */
};

extern const struct fuzz_target fuzz_target;

/* Says what is wrong, and aborts. */
void fuzz_finding(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#define fuzz_assert(condition, ...)                \
	do {                                       \
		if (!(condition))                  \
			fuzz_finding(__VA_ARGS__); \
	} while (0)

/* One loop for the whole run: its threads stay. */
struct hv_loop *fuzz_loop(void);

/* A failure has a reason that hostile bytes may have, and one sentence. */
void fuzz_judge_failure(const char *what, int rc, const struct hv_err *err);

/* A name in a fast directory that nobody else uses, for an undo file; lent. */
const char *fuzz_temp_path(void);

#endif
