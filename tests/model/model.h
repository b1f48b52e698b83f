/*
 * Random programs of disk operations, run against the engine and against a flat model in memory.
 */
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct hv_loop;

/*
 * Runs the program of that seed in directory, which exists and is empty. On failure a report goes
 * to standard output; with verbose, also every operation. Returns whether all was right.
 */
bool program_run(uint64_t seed, const char *directory, struct hv_loop *loop, bool verbose);

/* Compares the reference reader with the contents that a manifest tells of. Returns the status. */
int reference_check(const char *manifest);

#endif
