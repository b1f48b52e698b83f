/*
 * Fuzz target: footers, header and block allocation table of an image: where everything lies, by
 * whichever footer is believed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/image.h"
#include "tests/fuzz/harness/reading.h"
#include "tests/fuzz/harness/table.h"

#define FEW 300 /* blocks, which can all be compared with each other */

static void judge_regions(const struct hv_file *file, const struct vhd_layout *layout)
{
	fuzz_assert(layout->file_end <= file->size_bytes &&
			    layout->metadata_end <= file->size_bytes,
		    "the file ends at %llu", (unsigned long long)layout->file_end);
	fuzz_assert(layout->region_count <= VHD_MAX_REGIONS, "%u regions", layout->region_count);
	for (unsigned i = 0; i < layout->region_count; i++) {
		const struct vhd_region *region = &layout->regions[i];

		fuzz_assert(hv_range_inside(region->offset, region->length, file->size_bytes) &&
				    region->offset + region->length <= layout->metadata_end,
			    "the %s of %llu bytes at %llu", region->name,
			    (unsigned long long)region->length, (unsigned long long)region->offset);
	}
}

static void judge_blocks(const struct vhd_layout *layout)
{
	uint64_t bytes = (uint64_t)layout->block_count << layout->block_shift;

	fuzz_assert(layout->block_bytes == 1u << layout->block_shift &&
			    layout->block_count <= layout->max_entries &&
			    bytes >= layout->size_bytes &&
			    bytes - layout->size_bytes < layout->block_bytes,
		    "%u blocks of %u bytes make %llu", layout->block_count, layout->block_bytes,
		    (unsigned long long)layout->size_bytes);
	fuzz_assert(layout->bitmap_bytes % HV_SECTOR_SIZE == 0 &&
			    (uint64_t)layout->bitmap_bytes * 8 * HV_SECTOR_SIZE >=
				    layout->block_bytes,
		    "bitmaps of %u bytes", layout->bitmap_bytes);
}

static void judge_table(struct sparse *sparse, const struct vhd_layout *layout)
{
	HV_AUTO(free) uint32_t *bat = NULL;
	HV_ERR(err);
	int rc = vhd_bat_read(sparse_file(sparse), layout, &bat, &err);

	if (rc) {
		fuzz_judge_failure("vhd_bat_read", rc, &err);
		return;
	}
	for (uint32_t i = 0; i < layout->block_count; i += i / 256 + 1) {
		uint8_t raw[4];

		sparse_peek(sparse, layout->bat_offset + (uint64_t)i * 4, raw, 4);
		fuzz_assert(bat[i] == ((uint32_t)raw[0] << 24 | (uint32_t)raw[1] << 16 |
				       (uint32_t)raw[2] << 8 | raw[3]),
			    "entry %u is %08x", i, bat[i]);
	}
	if (layout->block_count <= FEW)
		table_judge(layout, bat);
}

/* By this footer, as far as it can be used. */
static void judge_by(struct sparse *sparse, struct vhd_footers *footers,
		     const struct vhd_footer *footer)
{
	struct vhd_layout layout = { 0 };
	struct vhd_header header = { 0 };
	HV_ERR(err);
	int rc;

	if (footer->type == VHD_FIXED)
		return;
	footers->best = footer;
	rc = vhd_layout_read(sparse_file(sparse), footers, &header, &layout, &err);
	if (rc) {
		fuzz_judge_failure("vhd_layout_read", rc, &err);
	} else {
		judge_regions(sparse_file(sparse), &layout);
		judge_blocks(&layout);
		judge_table(sparse, &layout);
	}
	free(header.parent_name);
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(sparse_free) struct sparse *sparse = fuzz_image_file(data, size);
	struct vhd_footers footers;
	HV_ERR(err);
	int rc = vhd_footers_read(sparse_file(sparse), &footers, &err);
	const struct vhd_footer *best = footers.best;

	fuzz_assert(rc == 0, "vhd_footers_read failed with %d", rc);
	if (reading_is_too_large(sparse))
		return;
	fuzz_assert(!best || best == &footers.copy || !footers.trailing_faults, "a bad footer");
	fuzz_assert(best != &footers.copy || !footers.copy_faults, "a bad copy");
	if (!footers.trailing_faults)
		judge_by(sparse, &footers, &footers.trailing);
	if (!footers.copy_faults)
		judge_by(sparse, &footers, &footers.copy);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
