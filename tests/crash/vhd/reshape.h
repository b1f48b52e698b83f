/*
 * Private to tests/crash/vhd/: workloads that change where blocks lie, and how many there are.
 */
#ifndef TESTS_CRASH_VHD_RESHAPE_H
#define TESTS_CRASH_VHD_RESHAPE_H

#include "tests/crash/vhd/run.h"

int reshape_discard(struct run *run); /* whole blocks, whose space is used again */
int reshape_reuse(struct run *run);   /* at once, with writes to it still in flight */
int reshape_size(struct run *run);    /* smaller, and as large as before */
int reshape_table(struct run *run);   /* so much larger that the table moves */
int reshape_compact(struct run *run);

#endif
