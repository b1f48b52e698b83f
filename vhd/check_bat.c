/*
 * Checking the block allocation table (spec: "Block Allocation Table and Data Blocks"), how the
 * blocks lie, and what space between and behind them belongs to nothing. That is told only when
 * every entry of the table is right: else it may be a lost block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/check_internal.h"

static enum check_code code_of(enum vhd_bat_fault fault)
{
	switch (fault) {
	case VHD_BAT_METADATA:
		return BAT_METADATA;
	case VHD_BAT_OVERLAP:
		return BAT_OVERLAP;
	case VHD_BAT_DUPLICATE:
		return BAT_DUPLICATE;
	default:
		return BAT_OUTSIDE;
	}
}

static void count_untold(struct check *check, uint32_t block)
{
	if (!check->untold)
		check->untold = calloc(1, check->layout.block_count);
	if (check->untold)
		check->untold[block]++;
	else
		check->no_memory = true;
}

static void found_fault(enum vhd_bat_fault fault, uint32_t block, int64_t other,
			const struct vhd_region *region, void *arg)
{
	struct check *check = arg;
	enum check_code code = code_of(fault);
	char text[256] = "";

	if (fault == VHD_BAT_CUT) {
		check->cut = block;
		return;
	}
	hv_bit_set(check->bad, block);
	if (other >= 0)
		hv_bit_set(check->bad, (size_t)other);
	if (check->counts[code] >= VHD_CHECK_MAX_TOLD)
		count_untold(check, block);
	else
		vhd_bat_fault_text(fault, &check->layout, check->bat, block, other, region, text,
				   sizeof(text));
	vhd_check_report(check, code, (uint64_t)check->bat[block] << HV_SECTOR_SHIFT, block, "%s",
			 text);
}

static int read_and_judge(struct check *check, struct hv_err *err)
{
	const struct vhd_layout *layout = &check->layout;
	int rc = vhd_bat_read(check->file, layout, &check->bat, err);

	if (rc)
		return rc;
	check->bad = calloc(1, layout->block_count / 8 + 1);
	if (!check->bad || vhd_bat_judge(layout, check->bat, found_fault, check, &check->summary))
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	check->bat_sound = !vhd_check_found_any(check, BAT_OFFSET, BAT_DUPLICATE);
	check->result.allocated_blocks = check->summary.allocated;
	return 0;
}

/*
 * The last block may be stored as far as it is used. Nothing is lost when the sectors that are
 * missing lie beyond the end of the disk, or are not said to be there.
 */
static int judge_cut(struct check *check, struct hv_err *err)
{
	const struct vhd_layout *layout = &check->layout;
	uint32_t block = (uint32_t)check->cut;
	uint64_t place = (uint64_t)check->bat[block] << HV_SECTOR_SHIFT;
	uint64_t stored = (layout->file_end - place - layout->bitmap_bytes) / HV_SECTOR_SIZE;
	uint64_t used = hv_min_u64(layout->block_bytes,
				   layout->size_bytes - (uint64_t)block * layout->block_bytes) /
			HV_SECTOR_SIZE;
	HV_AUTO(free) uint8_t *bits = malloc(layout->bitmap_bytes);
	size_t lost = 0;
	int rc;

	if (!bits)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	rc = hv_file_pread(check->file, bits, layout->bitmap_bytes, place, err);
	if (rc)
		return rc;
	if (stored < used)
		lost = hv_bits_count(bits, stored, used - stored);
	if (lost)
		vhd_check_report(
			check, BLOCK_TRUNCATED, place, block,
			"block %u is cut off by the file's end at %llu: %zu sectors are lost",
			block, (unsigned long long)layout->file_end, lost);
	else
		vhd_check_report(
			check, BLOCK_SHORT, place, block,
			"block %u, the last in the file, is stored short; nothing is lost, but some readers refuse it",
			block);
	return 0;
}

static void judge_alignment(struct check *check)
{
	const struct vhd_layout *layout = &check->layout;
	uint64_t first = HV_NO_HOST_OFFSET;
	uint32_t count = 0;

	for (uint32_t block = 0; block < layout->block_count; block++) {
		uint64_t payload =
			((uint64_t)check->bat[block] << HV_SECTOR_SHIFT) + layout->bitmap_bytes;

		if (check->bat[block] == VHD_UNUSED || payload % VHD_LAYOUT_ALIGN == 0 ||
		    hv_bit_get(check->bad, block))
			continue;
		if (!count++)
			first = payload;
	}
	if (count)
		vhd_check_report(
			check, BLOCK_MISALIGNED, first, -1,
			"the data of %u of %u blocks does not begin on a 4 KiB boundary, which is slow on most disks",
			count, check->summary.allocated);
}

/* Space that nothing uses. */

struct span {
	uint64_t start, end;
	bool block;
};

static void add_span(struct span *spans, unsigned *count, uint64_t start, uint64_t length)
{
	unsigned i = (*count)++;

	for (; i && spans[i - 1].start > start; i--)
		spans[i] = spans[i - 1];
	spans[i] = (struct span){ .start = start, .end = start + length };
}

/* Metadata, with the space reserved for locators; ascending. */
static unsigned collect_metadata(const struct check *check, struct span *spans)
{
	unsigned count = 0;

	for (unsigned i = 0; i < check->layout.region_count; i++)
		add_span(spans, &count, check->layout.regions[i].offset,
			 check->layout.regions[i].length);
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_disk_locator *disk = &check->header.locators[i];
		uint64_t offset = hv_be64_get(disk->data_offset);
		uint64_t space = hv_be32_get(disk->data_space);

		if (space < HV_SECTOR_SIZE)
			space *= HV_SECTOR_SIZE;
		if (check->footer->type == VHD_DIFFERENCING && hv_be32_get(disk->code) &&
		    hv_range_inside(offset, space, check->layout.file_end))
			add_span(spans, &count, offset, space);
	}
	return count;
}

static int compare_places(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The places of all blocks, ascending; malloc'ed. */
static uint32_t *collect_blocks(const struct check *check)
{
	uint32_t *places = calloc(check->summary.allocated + 1, sizeof(*places));
	uint32_t count = 0;
	bool ascending = true;

	for (uint32_t block = 0; places && block < check->layout.block_count; block++) {
		if (check->bat[block] == VHD_UNUSED)
			continue;
		if (count && check->bat[block] < places[count - 1])
			ascending = false;
		places[count++] = check->bat[block];
	}
	if (places && !ascending)
		qsort(places, count, sizeof(*places), compare_places);
	return places;
}

static void judge_gap(struct check *check, const struct span *before, const struct span *after)
{
	uint64_t gap;

	/* Between two pieces of metadata is room that a writer has kept for more. */
	if (after->start < before->end || (!before->block && !after->block))
		return;
	gap = after->start - before->end;
	if (gap <= CHECK_PADDING_BYTES)
		return;
	check->result.leaked_bytes += gap;
	vhd_check_report(
		check, LEAK_GAP, before->end, -1,
		"%llu bytes before byte %llu belong to nothing; blocks would have to be moved to give them back",
		(unsigned long long)gap, (unsigned long long)after->start);
}

static int judge_gaps(struct check *check, struct hv_err *err)
{
	uint64_t stride = (uint64_t)check->layout.bitmap_bytes + check->layout.block_bytes;
	struct span metadata[VHD_MAX_REGIONS + VHD_LOCATORS], last = { 0 };
	unsigned metadata_count = collect_metadata(check, metadata), m = 0;
	HV_AUTO(free) uint32_t *places = collect_blocks(check);
	uint32_t p = 0;

	if (!places)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	while (m < metadata_count || p < check->summary.allocated) {
		uint64_t place = p < check->summary.allocated ?
					 (uint64_t)places[p] << HV_SECTOR_SHIFT :
					 UINT64_MAX;
		struct span next = { place, place + stride, true };

		if (m < metadata_count && metadata[m].start < place)
			next = metadata[m++];
		else
			p++;
		judge_gap(check, &last, &next);
		if (next.end > last.end)
			last = next;
	}
	return 0;
}

/* Behind the last block: padding, then the footer. */
static void judge_tail(struct check *check)
{
	uint64_t end = check->summary.data_end, file_end = check->file_end;

	/* What was a footer is not slack. */
	if (check->counts[FOOTER_COOKIE])
		file_end = check->footers.trailing_offset;
	if (check->file->block_device || file_end <= end || file_end - end <= CHECK_PADDING_BYTES)
		return;
	check->tail_bytes = file_end - vhd_footer_place(end);
	check->result.leaked_bytes += check->tail_bytes;
	vhd_check_report(check, LEAK_TAIL, end, -1,
			 "%llu bytes behind the last block belong to nothing",
			 (unsigned long long)check->tail_bytes);
}

int vhd_check_bat(struct check *check, struct hv_err *err)
{
	int rc;

	if (!check->layout_known)
		return 0;
	rc = read_and_judge(check, err);
	if (rc == 0 && check->cut >= 0)
		rc = judge_cut(check, err);
	if (rc)
		return rc;
	judge_alignment(check);
	if (!check->bat_sound || check->counts[BLOCK_TRUNCATED])
		return 0;
	judge_tail(check);
	return judge_gaps(check, err);
}
