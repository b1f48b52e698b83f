/*
 * Private to tests/crash/vhd/: chains of files that find each other by their paths, in a world that
 * is shown as a directory (tests/crash/mount.h). Nobody writes to the disk meanwhile: at every
 * instant "disk.vhd" reads as it did in the beginning, which the history tells.
 */
#ifndef TESTS_CRASH_VHD_CHAIN_H
#define TESTS_CRASH_VHD_CHAIN_H

#include "tests/crash/vhd/run.h"

#define CHAIN_KINDS 8

/* For shapes with SHAPE_CHAIN: one of several kinds, as the seed says. */
void chain_make(struct run *run);

/*
 * "disk.vhd" is merged into one of the layers below it: several levels, layers of
 * different sizes, with and without removing what was merged. What is left after a power cut goes
 * on to the end. Every layer checks clean, and none opens that is not right any more.
 */
int chain_merge(struct run *run);
bool chain_judge_merge(struct crash_world *state, uint64_t at, void *run);

/* "disk.vhd" gets another parent, and has the old one or the new one at every instant. */
int chain_rebase(struct run *run);
bool chain_judge_rebase(struct crash_world *state, uint64_t at, void *run);

#endif
