/*
 * Private to tests/crash/vhd/: workloads beside reading and writing, and their judges.
 */
#ifndef TESTS_CRASH_VHD_CARE_H
#define TESTS_CRASH_VHD_CARE_H

#include "tests/crash/vhd/run.h"

/* A new disk without a name, which gets one when it is complete: there wholly or not at all. */
int care_create(struct run *run);
int care_convert(struct run *run); /* filled before, in any order */
bool care_judge_new(struct crash_world *state, uint64_t at, void *run);

#define CARE_DAMAGES 6

/*
 * One of several kinds of damage, as the seed says, and its repair; the undoing of a repair. At
 * every instant the contents can be read (where they could be before), another repair mends the
 * disk, and undo brings the damaged one back.
 */
int care_repair(struct run *run);
int care_undo(struct run *run);
bool care_judge_repair(struct crash_world *state, uint64_t at, void *run);

#endif
