/*
 * Where in a file blocks can be that no entry of the table names: blocks lie at one distance from
 * each other, behind the metadata, so that the known ones tell where the others can be. Where none
 * is known, the layouts of known writers are tried, and one of them must fit the whole file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "vhd/check_salvage.h"

#define PIECE_BYTES (1u << 20)

static bool meets(uint64_t a, uint64_t b, uint64_t length)
{
	return a < b ? b - a < length : a - b < length;
}

static bool is_over_metadata(const struct salvage *s, uint64_t place)
{
	const struct vhd_layout *layout = &s->check->layout;

	for (unsigned i = 0; i < layout->region_count; i++) {
		const struct vhd_region *region = &layout->regions[i];

		if (place < region->offset + region->length &&
		    region->offset < place + vhd_salvage_length(s))
			return true;
	}
	return false;
}

bool vhd_salvage_is_possible(const struct salvage *s, uint32_t block)
{
	uint64_t place = vhd_salvage_place(s, block);

	/* As in bat.c: a block that is cut by the file's end may be in the way of another. */
	return s->bat[block] != VHD_UNUSED && !is_over_metadata(s, place) &&
	       place + s->check->layout.bitmap_bytes <= s->check->layout.file_end;
}

static int compare_sectors(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int collect_known(struct salvage *s)
{
	uint32_t count = s->check->layout.block_count;

	free(s->known);
	s->known_count = 0;
	s->known = malloc((count + 1) * sizeof(*s->known));
	if (!s->known)
		return -ENOMEM;
	for (uint32_t block = 0; block < count; block++) {
		if (vhd_salvage_is_known(s, block))
			s->known[s->known_count++] = s->bat[block];
	}
	qsort(s->known, s->known_count, sizeof(*s->known), compare_sectors);
	return 0;
}

/* The distance between places. */

/* Blocks as close as they can be, as Virtual PC and QEMU put them; and on 4 KiB, as Windows does. */
static void strides_of_writers(const struct salvage *s, uint64_t ret[2])
{
	const struct vhd_layout *layout = &s->check->layout;

	ret[0] = vhd_salvage_length(s);
	ret[1] = hv_round_up(layout->block_bytes, VHD_LAYOUT_ALIGN) +
		 hv_round_up(layout->bitmap_bytes, VHD_LAYOUT_ALIGN);
}

static bool known_fit(const struct salvage *s, uint64_t stride)
{
	for (uint32_t i = 1; i < s->known_count; i++) {
		uint64_t step = (uint64_t)(s->known[i] - s->known[i - 1]) << HV_SECTOR_SHIFT;

		if (step % stride)
			return false;
	}
	return true;
}

static uint64_t smallest_step(const struct salvage *s)
{
	uint64_t smallest = UINT64_MAX;

	for (uint32_t i = 1; i < s->known_count; i++)
		smallest = hv_min_u64(smallest, (uint64_t)(s->known[i] - s->known[i - 1])
							<< HV_SECTOR_SHIFT);
	return smallest;
}

/* One of the two distances that are usual, or that of two blocks which may be neighbours. */
static uint64_t stride_from_known(const struct salvage *s)
{
	uint64_t step = smallest_step(s), strides[2];

	strides_of_writers(s, strides);
	if (known_fit(s, strides[0]) != known_fit(s, strides[1]))
		return known_fit(s, strides[0]) ? strides[0] : strides[1];
	if (step < 2 * vhd_salvage_length(s) && known_fit(s, step))
		return step;
	return 0;
}

/* Does the file end as that writer ends it, with blocks from first on at that distance? */
static bool ends_right(const struct salvage *s, uint64_t first, uint64_t stride, bool packed)
{
	uint64_t count, last_end;

	if (first + vhd_salvage_length(s) > s->end)
		return false;
	count = (s->end - first - vhd_salvage_length(s)) / stride + 1;
	last_end = first + (count - 1) * stride + vhd_salvage_length(s);
	/* Virtual PC leaves a sector before the footer. */
	if (packed)
		return s->end - last_end <= HV_SECTOR_SIZE;
	return vhd_footer_place(last_end) == s->end;
}

/* Is what lies there, by its bits, a bitmap? -errno when it cannot be read. */
static int read_state(const struct salvage *s, uint8_t *bits, struct check_place *place,
		      struct hv_err *err)
{
	const struct vhd_layout *layout = &s->check->layout;
	size_t sectors = vhd_salvage_sectors(s), all = (size_t)layout->bitmap_bytes * 8;
	uint64_t data, hole;
	int rc;

	if (hv_file_next_data(s->check->file, place->offset, &data, &hole) == 0 &&
	    (data >= place->offset + layout->bitmap_bytes || data == hole))
		return 0;
	rc = hv_file_pread(s->check->file, bits, layout->bitmap_bytes, place->offset, err);
	if (rc)
		return rc;
	place->held = !hv_bits_none(bits, 0, sectors);
	place->junk = !hv_bits_none(bits, sectors, all - sectors) &&
		      !hv_bits_all(bits, sectors, all - sectors);
	return 0;
}

static int all_are_held(const struct salvage *s, uint64_t first, uint64_t stride, uint8_t *bits,
			struct hv_err *err)
{
	for (uint64_t at = first; at + vhd_salvage_length(s) <= s->end; at += stride) {
		struct check_place place = { .offset = at };
		int rc = read_state(s, bits, &place, err);

		if (rc)
			return rc;
		if (!place.held || place.junk)
			return 0;
	}
	return 1;
}

/* No two blocks are known. The layout of one writer, and of one only, must fit the whole file. */
static int stride_of_writer(struct salvage *s, uint8_t *bits, uint64_t *first, struct hv_err *err)
{
	const struct vhd_layout *layout = &s->check->layout;
	uint64_t strides[2], metadata_end = hv_round_up(layout->metadata_end, HV_SECTOR_SIZE);
	uint64_t firsts[2] = { metadata_end,
			       hv_round_up(metadata_end, VHD_LAYOUT_ALIGN) +
				       hv_round_up(layout->bitmap_bytes, VHD_LAYOUT_ALIGN) -
				       layout->bitmap_bytes };
	unsigned fitting = 0;

	s->stride = 0;
	strides_of_writers(s, strides);
	for (int i = 0; i < 2; i++) {
		uint64_t known =
			s->known_count ? (uint64_t)s->known[0] << HV_SECTOR_SHIFT : firsts[i];
		int rc;

		if (known < firsts[i] || (known - firsts[i]) % strides[i] ||
		    !ends_right(s, firsts[i], strides[i], i == 0))
			continue;
		rc = all_are_held(s, firsts[i], strides[i], bits, err);
		if (rc < 0)
			return rc;
		if (!rc)
			continue;
		fitting++;
		s->stride = strides[i];
		*first = firsts[i];
	}
	if (fitting != 1)
		s->stride = 0;
	return 0;
}

/* Places. */

static int add_place(struct salvage *s, const struct check_place *place, uint32_t *limit)
{
	if (s->place_count == *limit) {
		uint32_t more = *limit ? 2 * *limit : 64;
		void *places = realloc(s->places, more * sizeof(*s->places));

		if (!places)
			return -ENOMEM;
		s->places = places;
		*limit = more;
	}
	s->places[s->place_count++] = *place;
	return 0;
}

/* Unclaimed places at the common distance, from `at` on, that are not empty. */
static int add_unclaimed(struct salvage *s, uint64_t at, uint8_t *bits, uint32_t *limit,
			 struct hv_err *err)
{
	uint32_t next = 0;

	for (; at + vhd_salvage_length(s) <= s->end; at += s->stride) {
		struct check_place place = { .offset = at, .named = NO_BLOCK };
		int rc;

		while (next < s->known_count &&
		       ((uint64_t)s->known[next] << HV_SECTOR_SHIFT) + vhd_salvage_length(s) <= at)
			next++;
		if ((next < s->known_count && meets((uint64_t)s->known[next] << HV_SECTOR_SHIFT, at,
						    vhd_salvage_length(s))) ||
		    is_over_metadata(s, at))
			continue;
		rc = read_state(s, bits, &place, err);
		if (rc == 0 && (place.held || place.junk))
			rc = add_place(s, &place, limit);
		if (rc)
			return rc;
	}
	return 0;
}

/* What entries name that cannot all be right. */
static int add_disputed(struct salvage *s, uint8_t *bits, uint32_t *limit, struct hv_err *err)
{
	for (uint32_t block = 0; block < s->check->layout.block_count; block++) {
		struct check_place place = { .offset = vhd_salvage_place(s, block),
					     .disputed = true,
					     .named = NO_BLOCK };
		int rc;

		if (!hv_bit_get(s->lost, block) || !vhd_salvage_is_possible(s, block))
			continue;
		rc = read_state(s, bits, &place, err);
		if (rc == 0)
			rc = add_place(s, &place, limit);
		if (rc)
			return rc;
	}
	return 0;
}

int vhd_salvage_compare(const void *a, const void *b)
{
	const struct check_place *x = a, *y = b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Puts them in order, each once, and spreads disputes to what the disputed places reach into. */
static void settle_places(struct salvage *s)
{
	uint32_t count = 0;
	uint64_t claim = UINT64_MAX;

	if (!s->place_count)
		return;
	qsort(s->places, s->place_count, sizeof(*s->places), vhd_salvage_compare);
	for (uint32_t i = 0; i < s->place_count; i++) {
		if (count && s->places[count - 1].offset == s->places[i].offset)
			s->places[count - 1].disputed |= s->places[i].disputed;
		else
			s->places[count++] = s->places[i];
	}
	s->place_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct check_place *place = &s->places[i];

		if (place->disputed)
			claim = place->offset;
		else if (claim != UINT64_MAX && meets(claim, place->offset, vhd_salvage_length(s)))
			place->disputed = true, place->named = NO_BLOCK;
	}
	claim = UINT64_MAX;
	for (uint32_t i = count; i-- > 0;) {
		struct check_place *place = &s->places[i];

		if (claim != UINT64_MAX && meets(claim, place->offset, vhd_salvage_length(s)))
			place->disputed = true;
		if (place->disputed)
			claim = place->offset;
	}
}

/* A file with far more places than blocks is none that any writer made. */
static bool is_sane(const struct salvage *s)
{
	return s->stride && s->end / s->stride < 2 * (uint64_t)s->check->layout.block_count + 4096;
}

static int find_places(struct salvage *s, uint8_t *bits, struct hv_err *err)
{
	uint64_t first = 0;
	uint32_t limit = 0;
	int rc = 0;

	free(s->places);
	s->places = NULL;
	s->place_count = 0;
	/* What fits still is not looked for again. */
	if (s->known_count > 1 && !(s->stride && known_fit(s, s->stride)))
		s->stride = stride_from_known(s);
	else if (s->known_count < 2)
		rc = stride_of_writer(s, bits, &first, err);
	if (s->known_count > 1 && s->stride)
		first = ((uint64_t)s->known[0] << HV_SECTOR_SHIFT) % s->stride;
	if (rc == 0 && !is_sane(s))
		s->stride = 0;
	if (rc == 0 && s->stride)
		rc = add_unclaimed(s, first, bits, &limit, err);
	if (rc == 0)
		rc = add_disputed(s, bits, &limit, err);
	settle_places(s);
	return rc;
}

int vhd_salvage_survey(struct salvage *s, struct hv_err *err)
{
	HV_AUTO(free) uint8_t *bits = malloc(s->check->layout.bitmap_bytes);
	int rc = bits ? collect_known(s) : -ENOMEM;

	if (rc == 0)
		rc = find_places(s, bits, err);
	return rc ? hv_fail(err, rc, "%s: not enough memory", s->check->file->path) : 0;
}

/* Is anything left? */

struct span {
	uint64_t start, end;
};

static int compare_spans(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

/* All that is taken for certain, in order; malloc'ed. */
static struct span *collect_spans(const struct salvage *s, uint32_t *ret)
{
	const struct vhd_layout *layout = &s->check->layout;
	struct span *spans = malloc((layout->block_count + VHD_MAX_REGIONS) * sizeof(*spans));
	uint32_t count = 0;

	if (!spans)
		return NULL;
	for (unsigned i = 0; i < layout->region_count; i++)
		spans[count++] =
			(struct span){ layout->regions[i].offset,
				       layout->regions[i].offset + layout->regions[i].length };
	for (uint32_t block = 0; block < layout->block_count; block++) {
		uint64_t place = vhd_salvage_place(s, block);

		/* A wrong entry may reach over what others have lost. */
		if (vhd_salvage_is_known(s, block))
			spans[count++] = (struct span){ place, place + vhd_salvage_length(s) };
	}
	qsort(spans, count, sizeof(*spans), compare_spans);
	*ret = count;
	return spans;
}

static int is_zero_range(struct hv_file *file, uint64_t start, uint64_t end, uint8_t *piece,
			 struct hv_err *err)
{
	while (start < end) {
		uint64_t data, hole;
		size_t length;
		int rc;

		if (hv_file_next_data(file, start, &data, &hole))
			data = start, hole = end;
		if (data == hole || data >= end)
			return 1;
		start = hv_max_u64(start, data);
		length = hv_min_u64(PIECE_BYTES, hv_min_u64(hole, end) - start);
		rc = hv_file_pread(file, piece, length, start, err);
		if (rc)
			return rc;
		if (!hv_is_zero(piece, length))
			return 0;
		start += length;
	}
	return 1;
}

int vhd_salvage_is_exhausted(const struct salvage *s, struct hv_err *err)
{
	uint32_t count = 0;
	HV_AUTO(free) struct span *spans = collect_spans(s, &count);
	HV_AUTO(free) uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t done = 0;

	if (!spans || !piece)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", s->check->file->path);
	for (uint32_t i = 0; i <= count; i++) {
		uint64_t start = i < count ? spans[i].start : s->end;
		int rc;

		/* Where not even a bitmap and a sector fit, no block was. */
		if (start > done + s->check->layout.bitmap_bytes) {
			rc = is_zero_range(s->check->file, done, start, piece, err);
			if (rc <= 0)
				return rc;
		}
		if (i < count)
			done = hv_max_u64(done, spans[i].end);
	}
	return 1;
}
