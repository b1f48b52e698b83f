/*
 * Power cuts for work on a file in memory: what tests/crash finds that it may leave, as a file in
 * memory again.
 */
#ifndef TESTS_MEMCUT_H
#define TESTS_MEMCUT_H

#include "tests/support/memfile.h"

struct memcut;

/* Begins with what mem holds, which is left alone. */
struct memcut *memcut_new(const struct memfile *mem);
void memcut_free(struct memcut *cut);

/* The file to work on; whoever opens it closes it. Until then nothing is cut. */
struct hv_file *memcut_open(struct memcut *cut);

/*
 * Calls judge, which takes the file over, for up to so many states of each instant at which the
 * power may fail. The last instant is the end of the work.
 */
void memcut_explore(struct memcut *cut, uint64_t seed, unsigned states,
		    void (*judge)(struct memfile *left, void *arg), void *arg);

#endif
