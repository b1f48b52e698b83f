/*
 * Private to tests/crash/vhd/: what a child records of its parent, and changing it.
 */
#ifndef TESTS_CRASH_VHD_PARENT_H
#define TESTS_CRASH_VHD_PARENT_H

#include "tests/crash/vhd/run.h"

/*
 * Another parent is recorded, twice, with writes before, between and afterwards; paths may be too
 * long for where they were. Whichever footer a reader believes, it leads to a parent that is
 * recorded as a whole: the one before or the next.
 */
int parent_change(struct run *run);
bool parent_judge(struct crash_world *state, uint64_t at, void *run);

#endif
