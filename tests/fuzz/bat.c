/*
 * Fuzz target: judging a block allocation table. The input is a small layout, then the entries:
 *
 *	1	block size: 512 << (n % 4)
 *	1	where metadata ends, in sectors
 *	2	where blocks must end, in sectors
 *	1	number of regions (% 5), each two bytes: place and length in sectors
 *	2 each	entries, as signed numbers: a small file is where things meet
 */
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/table.h"

#define MAX_ENTRIES 200

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t next(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

static uint32_t next16(struct input *input)
{
	uint32_t low = next(input);

	return low | (uint32_t)next(input) << 8;
}

static void read_layout(struct input *input, struct vhd_layout *layout)
{
	layout->block_bytes = HV_SECTOR_SIZE << next(input) % 4;
	layout->block_shift = (uint32_t)__builtin_ctz(layout->block_bytes);
	layout->bitmap_bytes = HV_SECTOR_SIZE;
	layout->metadata_end = (uint64_t)next(input) * HV_SECTOR_SIZE;
	layout->file_end = (uint64_t)next16(input) * HV_SECTOR_SIZE;
	layout->region_count = next(input) % 5;
	for (unsigned i = 0; i < layout->region_count; i++) {
		layout->regions[i].offset = (uint64_t)next(input) * HV_SECTOR_SIZE;
		layout->regions[i].length = (next(input) + UINT64_C(1)) * HV_SECTOR_SIZE;
		layout->regions[i].name = "region";
	}
	layout->block_count = (uint32_t)hv_min_u64(input->left / 2, MAX_ENTRIES);
}

static void run(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	struct vhd_layout layout = { 0 };
	uint32_t *bat;

	read_layout(&input, &layout);
	bat = malloc((layout.block_count + 1) * sizeof(*bat));
	for (uint32_t i = 0; i < layout.block_count; i++)
		bat[i] = (uint32_t)(int16_t)next16(&input);
	table_judge(&layout, bat);
	free(bat);
}

const struct fuzz_target fuzz_target = { .run = run };
