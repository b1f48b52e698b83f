/*
 * Space among the blocks: places that blocks have given up, and gaps found in the file.
 *
 * A place can be given out again when the file's table does not name it any more, nothing that was
 * sent to it is still on its way, and it reads as zero. So a place that is dropped waits for a
 * commit that begins afterwards, then the file is drained, then the place is discarded. A power cut
 * meanwhile leaves a leak at worst. Gaps found when the file was opened need the last step only,
 * and are looked for when the first new block is wanted.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

#define GAPS_AT_ONCE 64     /* cleared together */
#define MAX_GAPS (1u << 20) /* remembered: 2 TiB of blocks of the usual size */

static struct vhd *vhd_of_space(struct vhd_space *space)
{
	return (struct vhd *)((char *)space - offsetof(struct vhd, space));
}

/* Lists of places. */

static bool reserve(struct vhd_places *places, uint32_t more)
{
	uint64_t wanted = (uint64_t)places->count + more;
	uint64_t limit = hv_max_u64(places->limit ? places->limit : 64, wanted);
	uint32_t *sectors;

	if (wanted <= places->limit)
		return true;
	limit = limit > UINT32_MAX / 2 ? limit : limit * 2;
	sectors = realloc(places->sectors, limit * sizeof(*sectors));
	if (!sectors)
		return false;
	places->sectors = sectors;
	places->limit = (uint32_t)limit;
	return true;
}

static bool append(struct vhd_places *places, const uint32_t *sectors, uint32_t count)
{
	if (!reserve(places, count))
		return false;
	if (count)
		memcpy(places->sectors + places->count, sectors, count * sizeof(*sectors));
	places->count += count;
	return true;
}

static void clear(struct vhd_places *places)
{
	free(places->sectors);
	*places = (struct vhd_places){ 0 };
}

static void swap(uint32_t *a, uint32_t *b)
{
	uint32_t t = *a;

	*a = *b;
	*b = t;
}

/* The list of places that are ready is a heap: the lowest comes first. */

static void heap_push(struct vhd_places *heap, uint32_t sector)
{
	uint32_t i = heap->count;

	/* Without memory the place stays unused, until the file is opened again. */
	if (!append(heap, &sector, 1))
		return;
	while (i && heap->sectors[i] < heap->sectors[(i - 1) / 2]) {
		swap(&heap->sectors[i], &heap->sectors[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

static uint32_t heap_pop(struct vhd_places *heap)
{
	uint32_t *s = heap->sectors, lowest = s[0], i = 0;

	s[0] = s[--heap->count];
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child + 1 < heap->count && s[child + 1] < s[child])
			child++;
		if (child >= heap->count || s[i] <= s[child])
			return lowest;
		swap(&s[i], &s[child]);
		i = child;
	}
}

/* Clearing. */

static void clear_next(struct vhd_space *space);

static void work_begin(struct vhd_space *space);

static void work_end(struct vhd_space *space)
{
	struct vhd *vhd = vhd_of_space(space);

	clear(&space->clearing);
	space->busy = false;
	work_begin(space);
	vhd_alloc_retry(vhd);
}

static void cleared(struct hv_io *io, int result)
{
	struct vhd_space *space = (struct vhd_space *)((char *)io - offsetof(struct vhd_space, io));

	/* What cannot be cleared stays unused. */
	if (result == 0)
		heap_push(&space->ready, space->clearing.sectors[space->cleared]);
	space->cleared++;
	clear_next(space);
}

static void clear_next(struct vhd_space *space)
{
	struct vhd *vhd = vhd_of_space(space);

	if (space->cleared == space->clearing.count) {
		work_end(space);
		return;
	}
	space->io = (struct hv_io){
		.op = space->clear_op,
		.offset = (uint64_t)space->clearing.sectors[space->cleared] << HV_SECTOR_SHIFT,
		.length = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes,
		.done = cleared,
	};
	hv_file_submit(vhd->file, &space->io);
}

static void drained(struct hv_io *io, int result)
{
	(void)result;
	clear_next((struct vhd_space *)((char *)io - offsetof(struct vhd_space, io)));
}

/* Clears what commits have released. */
static void work_begin(struct vhd_space *space)
{
	if (space->busy || !space->released.count)
		return;
	if (space->whole) {
		for (uint32_t i = 0; i < space->released.count; i++)
			heap_push(&space->ready, space->released.sectors[i]);
		clear(&space->released);
		return;
	}
	space->busy = true;
	space->clearing = space->released;
	space->released = (struct vhd_places){ 0 };
	space->cleared = 0;
	space->clear_op = HV_DISCARD;
	space->io = (struct hv_io){ .done = drained };
	hv_file_drain(vhd_of_space(space)->file, &space->io);
}

/* Clears some gaps; their space is going to be used, so that it is not given back. */
static void clear_gaps(struct vhd_space *space)
{
	uint32_t count = space->gaps.count - space->gaps_used;

	count = count < GAPS_AT_ONCE ? count : GAPS_AT_ONCE;
	if (space->busy || !append(&space->clearing, space->gaps.sectors + space->gaps_used, count))
		return;
	space->busy = true;
	space->gaps_used += count;
	space->cleared = 0;
	space->clear_op = HV_ZERO;
	clear_next(space);
}

/* Gaps. */

static int compare_sectors(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The places of all blocks in the table, ascending. */
static bool list_blocks(const struct vhd *vhd, struct vhd_places *ret)
{
	bool ascending = true;

	if (!reserve(ret, vhd->info.allocated_blocks))
		return false;
	for (uint32_t block = 0; block < vhd->layout.block_count; block++) {
		if (vhd->bat[block] == VHD_UNUSED || ret->count == ret->limit)
			continue;
		if (ret->count && vhd->bat[block] < ret->sectors[ret->count - 1])
			ascending = false;
		ret->sectors[ret->count++] = vhd->bat[block];
	}
	if (!ascending)
		qsort(ret->sectors, ret->count, sizeof(*ret->sectors), compare_sectors);
	return true;
}

/* Where metadata that touches [start, end) ends; 0: none does. */
static uint64_t metadata_within(const struct vhd *vhd, uint64_t start, uint64_t end)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < vhd->layout.region_count; i++) {
		const struct vhd_region *region = &vhd->layout.regions[i];

		if (region->offset < end && start < region->offset + region->length)
			last = hv_max_u64(last, region->offset + region->length);
	}
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *locator = &vhd->info.locators[i];
		uint64_t space = hv_max_u64(locator->space_bytes, locator->length_bytes);

		if (locator->code && locator->offset < end && start < locator->offset + space)
			last = hv_max_u64(last, locator->offset + space);
	}
	return last;
}

/* Cuts [start, end), which no block uses, into places. */
static void cut_gap(struct vhd *vhd, uint64_t start, uint64_t end)
{
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;

	while (start + block_bytes <= end && vhd->space.gaps.count < MAX_GAPS) {
		/* Aligned where there is room for that; else as its former owner lay. */
		uint64_t place = vhd_alloc_place(vhd, start), last;
		uint32_t sector;

		if (place + block_bytes > end)
			place = start;
		last = metadata_within(vhd, place, place + block_bytes);
		if (last) {
			start = hv_round_up(last, HV_SECTOR_SIZE);
			continue;
		}
		sector = (uint32_t)(place >> HV_SECTOR_SHIFT);
		append(&vhd->space.gaps, &sector, 1);
		start = place + block_bytes;
	}
}

static void find_gaps(struct vhd *vhd)
{
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;
	uint64_t end = VHD_FOOTER_BYTES + VHD_HEADER_BYTES;
	struct vhd_places blocks = { 0 };

	vhd->space.gaps_known = true;
	/* The usual case: no gap that a block would fit into. */
	if (vhd->alloc.next_end < end + (vhd->info.allocated_blocks + 1) * block_bytes ||
	    !list_blocks(vhd, &blocks))
		return;
	for (uint32_t i = 0; i < blocks.count; i++) {
		uint64_t place = (uint64_t)blocks.sectors[i] << HV_SECTOR_SHIFT;

		if (place > end)
			cut_gap(vhd, end, place);
		end = hv_max_u64(end, place + block_bytes);
	}
	clear(&blocks);
}

/* For the rest of the engine. */

enum vhd_space_answer vhd_space_take(struct vhd *vhd, uint32_t *ret)
{
	struct vhd_space *space = &vhd->space;

	if (!space->gaps_known)
		find_gaps(vhd);
	if (space->ready.count) {
		*ret = heap_pop(&space->ready);
		return VHD_SPACE_TAKEN;
	}
	if (!space->busy && space->gaps_used < space->gaps.count)
		clear_gaps(space);
	return space->busy ? VHD_SPACE_WAIT : VHD_SPACE_NONE;
}

bool vhd_space_drop(struct vhd *vhd, uint32_t block)
{
	struct vhd_space *space = &vhd->space;

	if (!space->gaps_known)
		find_gaps(vhd); /* before there are gaps of our own making */
	/* The block map of Xen's tools would go on calling it full. */
	if (vhd->layout.batmap_version || !reserve(&space->dropped, 1) ||
	    !vhd_bitmap_forget(vhd, block) || !vhd_commit_remember(vhd, block))
		return false;
	append(&space->dropped, &vhd->bat[block], 1);
	vhd->bat[block] = VHD_UNUSED;
	hv_bit_clear(vhd->full, block);
	vhd->info.allocated_blocks--;
	space->changed = true;
	return true;
}

bool vhd_space_move(struct vhd *vhd, uint32_t block, uint32_t to)
{
	struct vhd_space *space = &vhd->space;

	if (!reserve(&space->dropped, 1) || !vhd_commit_remember(vhd, block))
		return false;
	append(&space->dropped, &vhd->bat[block], 1);
	vhd->bat[block] = to;
	space->changed = true;
	return true;
}

void vhd_space_take_whole(struct vhd *vhd)
{
	struct vhd_space *space = &vhd->space;

	if (!space->gaps_known)
		find_gaps(vhd);
	while (space->gaps_used < space->gaps.count)
		heap_push(&space->ready, space->gaps.sectors[space->gaps_used++]);
	space->whole = true;
}

uint32_t *vhd_space_list(const struct vhd *vhd)
{
	const struct vhd_places *ready = &vhd->space.ready;
	uint32_t *sectors = malloc((ready->count + 1) * sizeof(*sectors));

	if (sectors && ready->count) {
		memcpy(sectors, ready->sectors, ready->count * sizeof(*sectors));
		qsort(sectors, ready->count, sizeof(*sectors), compare_sectors);
	}
	return sectors;
}

void vhd_space_clear_ready(struct vhd *vhd)
{
	struct vhd_space *space = &vhd->space;

	space->whole = false;
	clear(&space->released); /* is empty, but may have memory */
	space->released = space->ready;
	space->ready = (struct vhd_places){ 0 };
	work_begin(space);
	while (space->busy)
		hv_loop_turn(vhd->base.loop, true);
}

void vhd_space_commit_begins(struct vhd *vhd)
{
	vhd->space.committing = vhd->space.dropped;
	vhd->space.dropped = (struct vhd_places){ 0 };
}

void vhd_space_commit_ends(struct vhd *vhd, int result)
{
	struct vhd_space *space = &vhd->space;
	struct vhd_places *next = result ? &space->dropped : &space->released;

	if (!next->sectors) {
		*next = space->committing;
	} else {
		/* Without memory the places stay unused, until the file is opened again. */
		append(next, space->committing.sectors, space->committing.count);
		free(space->committing.sectors);
	}
	space->committing = (struct vhd_places){ 0 };
	if (!vhd->poisoned)
		work_begin(space);
}

static bool any_within(const struct vhd *vhd, const struct vhd_places *places, uint64_t start,
		       uint64_t end)
{
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;

	for (uint32_t i = 0; i < places->count; i++) {
		uint64_t place = (uint64_t)places->sectors[i] << HV_SECTOR_SHIFT;

		if (place < end && start < place + block_bytes)
			return true;
	}
	return false;
}

bool vhd_space_claims(const struct vhd *vhd, uint64_t start, uint64_t end)
{
	const struct vhd_space *space = &vhd->space;
	const struct vhd_places *lists[] = { &space->dropped,  &space->committing, &space->released,
					     &space->clearing, &space->ready,      &space->gaps };
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;

	for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (any_within(vhd, lists[i], start, end))
			return true;
	}
	for (uint32_t block = 0; block < vhd->layout.block_count; block++) {
		if (vhd->bat[block] != VHD_UNUSED && vhd_bitmap_offset(vhd, block) < end &&
		    start < vhd_bitmap_offset(vhd, block) + block_bytes)
			return true;
	}
	return false;
}

void vhd_space_lower(struct vhd *vhd)
{
	struct vhd_space *space = &vhd->space;
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;
	struct vhd_places kept = { 0 };
	uint64_t end = vhd->layout.metadata_end;

	if (!space->changed)
		return;
	for (uint32_t block = 0; block < vhd->layout.block_count; block++) {
		if (vhd->bat[block] != VHD_UNUSED)
			end = hv_max_u64(end, vhd_bitmap_offset(vhd, block) + block_bytes);
	}
	vhd->alloc.next_end = end;
	vhd->alloc.extended = true; /* the footer is not where it belongs */
	space->changed = false;
	for (uint32_t i = 0; i < space->ready.count; i++) {
		if ((uint64_t)space->ready.sectors[i] << HV_SECTOR_SHIFT < end)
			heap_push(&kept, space->ready.sectors[i]);
	}
	clear(&space->ready);
	space->ready = kept;
}

void vhd_space_free(struct vhd *vhd)
{
	clear(&vhd->space.dropped);
	clear(&vhd->space.committing);
	clear(&vhd->space.released);
	clear(&vhd->space.clearing);
	clear(&vhd->space.ready);
	clear(&vhd->space.gaps);
}
