/*
 * Private to tests/crash/vhd/: the parts of a run, for those that drive it in another way.
 */
#ifndef TESTS_CRASH_VHD_INTERNAL_H
#define TESTS_CRASH_VHD_INTERNAL_H

#include "tests/crash/vhd/run.h"

/* The world is made as the row wants it; nothing is in its log. */
void run_begin(struct run *run, const struct workload *workload, uint64_t seed,
	       const char *directory);
void run_end(struct run *run);

/* What a run has beside its world, for one with a history of its own. */
void run_room_new(struct run *run);
void run_room_free(struct run *run);

/* Opens the disk, if there is one, and runs the workload's function; the disk may stay open. */
int run_through(struct run *run);

#endif
