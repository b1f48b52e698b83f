/*
 * Judging a block allocation table as vhd_bat_judge does, by comparing everything with everything.
 */
#ifndef TESTS_FUZZ_TABLE_H
#define TESTS_FUZZ_TABLE_H

#include "vhd/image.h"

/* Calls vhd_bat_judge and compares. bat holds layout->block_count entries. */
void table_judge(const struct vhd_layout *layout, const uint32_t *bat);

#endif
