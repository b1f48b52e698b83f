/*
 * The block allocation table: reading it, and judging all of it at once.
 *
 * Overlap is found by sorting the allocated entries by place (a radix sort, skipped when they are
 * in order already): all blocks are equally long, so that looking at neighbours is enough.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

#define READ_BYTES (1u << 20)

typedef void found_fn(enum vhd_bat_fault fault, uint32_t block, int64_t other,
		      const struct vhd_region *region, void *arg);

int vhd_bat_read(struct hv_file *file, const struct vhd_layout *layout, uint32_t **ret,
		 struct hv_err *err)
{
	uint64_t bytes = (uint64_t)layout->block_count * sizeof(hv_be32);
	HV_AUTO(free) uint32_t *bat = NULL;
	HV_AUTO(free) hv_be32 *piece = NULL;

	if (bytes > VHD_MAX_BAT_BYTES)
		return hv_fail(
			err, -ENOTSUP,
			"%s: a block allocation table of %u entries is more than hvkit keeps in memory",
			file->path, layout->block_count);
	bat = malloc(bytes ? bytes : 1);
	piece = malloc(bytes ? hv_min_u64(bytes, READ_BYTES) : 1);
	if (!bat || !piece)
		return hv_fail(err, -ENOMEM, "%s: not enough memory for the block allocation table",
			       file->path);
	for (uint64_t done = 0; done < bytes; done += READ_BYTES) {
		size_t n = hv_min_u64(READ_BYTES, bytes - done);
		int rc = hv_file_pread(file, piece, n, layout->bat_offset + done, err);

		if (rc)
			return rc;
		for (size_t i = 0; i < n / sizeof(hv_be32); i++)
			bat[done / sizeof(hv_be32) + i] = hv_be32_get(piece[i]);
	}
	*ret = hv_steal(bat);
	return 0;
}

struct judge {
	const struct vhd_layout *layout;
	const uint32_t *bat;
	found_fn *found;
	void *arg;
	uint64_t stride;  /* bytes of a block with its bitmap */
	uint64_t *places; /* of blocks that lie in the file: sector << 32 | block */
	uint32_t place_count;
};

static uint64_t start_of(const struct judge *judge, uint32_t block)
{
	return (uint64_t)judge->bat[block] << HV_SECTOR_SHIFT;
}

static void collide(const struct judge *judge, uint32_t block, uint32_t other)
{
	enum vhd_bat_fault fault =
		judge->bat[block] == judge->bat[other] ? VHD_BAT_DUPLICATE : VHD_BAT_OVERLAP;

	judge->found(fault, block, other, NULL, judge->arg);
}

/* Does the block lie in the file, apart from metadata? Then it can collide only with blocks. */
static bool place_is_right(const struct judge *judge, uint32_t block)
{
	const struct vhd_layout *layout = judge->layout;
	uint64_t start = start_of(judge, block), end = start + judge->stride;

	for (unsigned i = 0; i < layout->region_count; i++) {
		const struct vhd_region *region = &layout->regions[i];

		if (start < region->offset + region->length && region->offset < end) {
			judge->found(VHD_BAT_METADATA, block, -1, region, judge->arg);
			return false;
		}
	}
	if (start + layout->bitmap_bytes > layout->file_end) {
		judge->found(VHD_BAT_OUTSIDE, block, -1, NULL, judge->arg);
		return false;
	}
	return true;
}

/* Collects the places; returns whether they ascend. */
static bool collect(struct judge *judge)
{
	bool ascending = true;

	for (uint32_t block = 0; block < judge->layout->block_count; block++) {
		uint64_t place = (uint64_t)judge->bat[block] << 32 | block;

		if (judge->bat[block] == VHD_UNUSED || !place_is_right(judge, block))
			continue;
		if (judge->place_count && place < judge->places[judge->place_count - 1])
			ascending = false;
		judge->places[judge->place_count++] = place;
	}
	return ascending;
}

/* Two passes over 16 bits of the sector number each. */
static int sort_places(struct judge *judge)
{
	HV_AUTO(free) uint64_t *other = malloc(judge->place_count * sizeof(*other));
	HV_AUTO(free) uint32_t *counts = malloc((65536 + 1) * sizeof(*counts));
	uint64_t *from = judge->places, *to = other;

	if (!other || !counts)
		return -ENOMEM;
	for (int shift = 32; shift < 64; shift += 16) {
		memset(counts, 0, (65536 + 1) * sizeof(*counts));
		for (uint32_t i = 0; i < judge->place_count; i++)
			counts[(from[i] >> shift & 0xffff) + 1]++;
		for (unsigned i = 0; i < 65536; i++)
			counts[i + 1] += counts[i];
		for (uint32_t i = 0; i < judge->place_count; i++)
			to[counts[from[i] >> shift & 0xffff]++] = from[i];
		from = to;
		to = judge->places;
	}
	return 0;
}

static void compare_neighbours(const struct judge *judge)
{
	for (uint32_t i = 1; i < judge->place_count; i++) {
		uint32_t a = (uint32_t)judge->places[i - 1], b = (uint32_t)judge->places[i];

		if (start_of(judge, b) - start_of(judge, a) < judge->stride)
			collide(judge, b, a);
	}
}

/* Only the block that lies last may be cut by the end of the file: one writer stores it short. */
static void judge_ends(const struct judge *judge)
{
	for (uint32_t i = 0; i < judge->place_count; i++) {
		uint32_t block = (uint32_t)judge->places[i];
		bool last = i + 1 == judge->place_count;

		if (start_of(judge, block) + judge->stride > judge->layout->file_end)
			judge->found(last ? VHD_BAT_CUT : VHD_BAT_OUTSIDE, block, -1, NULL,
				     judge->arg);
	}
}

static void summarize(const struct judge *judge, struct vhd_bat_summary *sum)
{
	uint64_t expected = 0;

	for (uint32_t block = 0; block < judge->layout->block_count; block++) {
		uint64_t start = start_of(judge, block);

		if (judge->bat[block] == VHD_UNUSED)
			continue;
		sum->allocated++;
		/* Blocks follow each other with less than two alignment units between. */
		if (start < expected || start >= expected + UINT64_C(2) * VHD_LAYOUT_ALIGN ||
		    !expected)
			sum->fragments++;
		expected = start + judge->stride;
		if ((start + judge->layout->bitmap_bytes) % VHD_LAYOUT_ALIGN)
			sum->aligned = false;
		if (start + judge->layout->bitmap_bytes <= judge->layout->file_end)
			sum->data_end = hv_max_u64(sum->data_end, expected);
	}
}

int vhd_bat_judge(const struct vhd_layout *layout, const uint32_t *bat, found_fn *found, void *arg,
		  struct vhd_bat_summary *ret)
{
	struct judge judge = {
		.layout = layout,
		.bat = bat,
		.found = found,
		.arg = arg,
		.stride = (uint64_t)layout->bitmap_bytes + layout->block_bytes,
	};
	struct vhd_bat_summary sum = { .data_end = layout->metadata_end, .aligned = true };
	HV_AUTO(free) uint64_t *places = NULL;
	uint32_t allocated = 0;

	for (uint32_t block = 0; block < layout->block_count; block++)
		allocated += bat[block] != VHD_UNUSED;
	places = malloc((allocated + 1) * sizeof(*places));
	if (!places)
		return -ENOMEM;
	judge.places = places;
	if (!collect(&judge) && sort_places(&judge))
		return -ENOMEM;
	compare_neighbours(&judge);
	judge_ends(&judge);
	summarize(&judge, &sum);
	*ret = sum;
	return 0;
}

void vhd_bat_fault_text(enum vhd_bat_fault fault, const struct vhd_layout *layout,
			const uint32_t *bat, uint32_t block, int64_t other,
			const struct vhd_region *region, char *text, size_t size)
{
	unsigned long long offset = (unsigned long long)bat[block] << HV_SECTOR_SHIFT;

	switch (fault) {
	case VHD_BAT_OUTSIDE:
		snprintf(text, size,
			 "block %u is said to lie at byte %llu, beyond the file's end at %llu",
			 block, offset, (unsigned long long)layout->file_end);
		break;
	case VHD_BAT_CUT:
		snprintf(text, size, "block %u at byte %llu is cut off by the file's end at %llu",
			 block, offset, (unsigned long long)layout->file_end);
		break;
	case VHD_BAT_METADATA:
		snprintf(text, size, "block %u is said to lie at byte %llu, inside the %s", block,
			 offset, region->name);
		break;
	case VHD_BAT_OVERLAP:
		snprintf(text, size, "block %u at byte %llu overlaps block %lld", block, offset,
			 (long long)other);
		break;
	case VHD_BAT_DUPLICATE:
		snprintf(text, size, "blocks %lld and %u are both said to lie at byte %llu",
			 (long long)other, block, offset);
		break;
	}
}
