/*
 * Which block lies where: by marks in the contents, by an entry that is one bit off, or, for who
 * knows that it may be believed, by the order of the blocks. None is believed where it leaves a
 * choice; FORMAT.md argues each rule.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/check_marks.h"
#include "vhd/check_salvage.h"

#define ORDER_WITNESSES 16 /* known blocks that must lie in order before order is evidence */

/* Reading what is known. */

/* 1: read, 0: the bit says that it was never written, -1: not readable. */
static int read_in_place(const struct salvage *s, uint64_t place, uint32_t sector, uint8_t *ret)
{
	const struct vhd_layout *layout = &s->check->layout;
	uint8_t bits;

	if (sector >= vhd_salvage_sectors(s) ||
	    hv_file_pread(s->check->file, &bits, 1, place + sector / 8, NULL))
		return -1;
	if (!(bits & 0x80 >> sector % 8))
		return 0;
	return hv_file_pread(s->check->file, ret, HV_SECTOR_SIZE,
			     place + layout->bitmap_bytes + (uint64_t)sector * HV_SECTOR_SIZE,
			     NULL) ?
		       -1 :
		       1;
}

static bool read_block(const struct check_sectors *sectors, uint64_t first, unsigned count,
		       uint8_t *ret)
{
	for (unsigned i = 0; i < count; i++) {
		if (first + i >= vhd_salvage_sectors(sectors->arg) ||
		    read_in_place(sectors->arg, sectors->at, (uint32_t)(first + i),
				  ret + (size_t)i * HV_SECTOR_SIZE) != 1)
			return false;
	}
	return true;
}

static bool read_disk_sector(const struct salvage *s, uint64_t lba, uint8_t *ret)
{
	uint32_t per_block = vhd_salvage_sectors(s);
	uint64_t block = lba / per_block;
	int rc = 0;

	if (lba >= s->check->layout.size_bytes / HV_SECTOR_SIZE ||
	    hv_bit_get(s->lost, (uint32_t)block))
		return false;
	if (s->bat[block] != VHD_UNUSED)
		rc = read_in_place(s, vhd_salvage_place(s, (uint32_t)block),
				   (uint32_t)(lba % per_block), ret);
	if (rc == 0)
		memset(ret, 0, HV_SECTOR_SIZE);
	/* What a child does not hold is in a parent that is not at hand. */
	return rc == 1 || (rc == 0 && s->check->footer->type == VHD_DYNAMIC);
}

static bool read_disk(const struct check_sectors *sectors, uint64_t first, unsigned count,
		      uint8_t *ret)
{
	for (unsigned i = 0; i < count; i++) {
		if (!read_disk_sector(sectors->arg, first + i, ret + (size_t)i * HV_SECTOR_SIZE))
			return false;
	}
	return true;
}

/* What speaks against a block's being there. */

static bool is_vetoed(const struct salvage *s, const struct check_place *place, uint32_t block)
{
	const struct vhd_layout *layout = &s->check->layout;
	uint64_t left = layout->size_bytes - (uint64_t)block * layout->block_bytes;
	uint32_t used = (uint32_t)(hv_min_u64(left, layout->block_bytes) / HV_SECTOR_SIZE);
	uint32_t sectors = vhd_salvage_sectors(s);
	HV_AUTO(free) uint8_t *bits = malloc(layout->bitmap_bytes);

	if (place->junk || !bits ||
	    hv_file_pread(s->check->file, bits, layout->bitmap_bytes, place->offset, NULL))
		return true;
	/* Beyond the end of the disk nothing was written, unless a writer sets all bits at once. */
	if (used < sectors && !hv_bits_none(bits, used, sectors - used) &&
	    !hv_bits_all(bits, 0, sectors))
		return true;
	return s->check->batmap && hv_bit_get(s->check->batmap, block) &&
	       !hv_bits_all(bits, 0, used);
}

/* Deciding. */

static int add_find(struct salvage *s, uint32_t block, uint64_t offset, const char *mark)
{
	if (s->find_count == s->find_limit) {
		uint32_t limit = s->find_limit ? 2 * s->find_limit : 64;
		void *finds = realloc(s->finds, limit * sizeof(*s->finds));

		if (!finds)
			return -ENOMEM;
		s->finds = finds;
		s->find_limit = limit;
	}
	s->finds[s->find_count++] = (struct check_find){ block, offset, mark };
	return 0;
}

/* Blocks whose entries reach into a place that is another's. */
static void drop_rivals(struct salvage *s, uint32_t block)
{
	uint64_t place = vhd_salvage_place(s, block), length = vhd_salvage_length(s);

	for (uint32_t other = 0; other < s->check->layout.block_count; other++) {
		uint64_t at = vhd_salvage_place(s, other);

		if (!hv_bit_get(s->lost, other) || !vhd_salvage_is_possible(s, other) ||
		    at >= place + length || place >= at + length)
			continue;
		s->bat[other] = VHD_UNUSED;
		hv_bit_set(s->losers, other);
	}
}

/* The block is there. */
static int settle(struct salvage *s, uint32_t block, const struct check_place *place,
		  const char *mark)
{
	hv_bit_clear(s->lost, block);
	hv_bit_clear(s->losers, block);
	s->bat[block] = (uint32_t)(place->offset >> HV_SECTOR_SHIFT);
	if (place->disputed)
		drop_rivals(s, block);
	return add_find(s, block, place->offset, mark);
}

/* Marks. */

struct look {
	struct salvage *s;
	struct check_contents contents;
	uint32_t *sectors; /* inside a block, where marks can be */
	uint32_t sector_count;
	uint8_t *wanted; /* bit per block: named by just one unclaimed place */
	uint8_t *twice;  /* bit per block: named by more than one place */
};

static uint32_t block_at(const struct look *look, uint64_t place, uint32_t sector,
			 const char **mark)
{
	uint32_t per_block = vhd_salvage_sectors(look->s);
	struct check_sectors block = { .read = read_block, .arg = look->s, .at = place };
	uint64_t lba = vhd_check_mark_at(&look->contents, &block, per_block, sector, mark);

	return lba == CHECK_NO_LBA ? NO_BLOCK : (uint32_t)(lba / per_block);
}

static void look_at_place(struct look *look, struct check_place *place)
{
	for (uint32_t i = 0; i < look->sector_count && place->held && !place->junk; i++) {
		const char *mark;
		uint32_t block = block_at(look, place->offset, look->sectors[i], &mark);

		if (block == NO_BLOCK || block == place->named)
			continue;
		/* Two marks that contradict each other prove nothing. */
		if (place->named != NO_BLOCK) {
			place->named = MANY_BLOCKS;
			return;
		}
		place->named = block;
		place->mark = mark;
		place->mark_sector = look->sectors[i];
	}
}

static void count_names(struct look *look)
{
	for (uint32_t i = 0; i < look->s->place_count; i++) {
		uint32_t block = look->s->places[i].named;

		if (block >= MANY_BLOCKS)
			continue;
		if (hv_bit_get(look->wanted, block))
			hv_bit_set(look->twice, block);
		hv_bit_set(look->wanted, block);
	}
}

/* Is there, in a block whose place is known, a mark of one that is looked for? */
static void look_at_known(struct look *look, uint32_t sector)
{
	struct salvage *s = look->s;

	for (uint32_t block = 0; block < s->check->layout.block_count; block++) {
		const char *mark;
		uint32_t named;

		if (!vhd_salvage_is_known(s, block))
			continue;
		named = block_at(look, vhd_salvage_place(s, block), sector, &mark);
		if (named != NO_BLOCK && named != block && hv_bit_get(look->wanted, named))
			hv_bit_set(look->twice, named);
	}
}

static bool is_candidate(const struct look *look, const struct check_place *place)
{
	const struct salvage *s = look->s;
	uint32_t block = place->named;

	return block < MANY_BLOCKS && hv_bit_get(s->lost, block) && !is_vetoed(s, place, block);
}

/* A disk may hold an image of a disk, whose marks are like its own: then nothing is proven. */
static void find_twins(struct look *look)
{
	uint64_t done = 0;

	count_names(look);
	for (uint32_t i = 0; i < look->s->place_count; i++) {
		const struct check_place *place = &look->s->places[i];
		uint32_t k = 0;

		if (!is_candidate(look, place))
			continue;
		while (look->sectors[k] != place->mark_sector)
			k++;
		if (!(done >> k & 1))
			look_at_known(look, place->mark_sector);
		done |= UINT64_C(1) << k;
	}
}

static int decide(struct look *look)
{
	struct salvage *s = look->s;
	int count = 0;

	for (uint32_t i = 0; i < s->place_count; i++) {
		const struct check_place *place = &s->places[i];

		if (!is_candidate(look, place) || hv_bit_get(look->twice, place->named))
			continue;
		if (settle(s, place->named, place, place->mark))
			return -ENOMEM;
		count++;
	}
	return count;
}

static int prepare(struct look *look)
{
	struct salvage *s = look->s;
	struct check_sectors disk = { .read = read_disk, .arg = s };
	size_t bytes = s->check->layout.block_count / 8 + 1;
	int count;

	look->wanted = calloc(1, bytes);
	look->twice = calloc(1, bytes);
	if (!look->wanted || !look->twice ||
	    vhd_check_marks_learn(&disk, s->check->layout.size_bytes / HV_SECTOR_SIZE,
				  &look->contents))
		return -ENOMEM;
	count = vhd_check_marks_list(&look->contents, vhd_salvage_sectors(s), &look->sectors);
	if (count < 0)
		return count;
	look->sector_count = (uint32_t)count;
	return 0;
}

int vhd_salvage_by_marks(struct salvage *s, struct hv_err *err)
{
	struct look look = { .s = s };
	int rc = prepare(&look);

	for (uint32_t i = 0; i < s->place_count && rc == 0; i++)
		look_at_place(&look, &s->places[i]);
	if (rc == 0) {
		find_twins(&look);
		rc = decide(&look);
	}
	vhd_check_marks_forget(&look.contents);
	free(look.sectors);
	free(look.wanted);
	free(look.twice);
	return rc < 0 ? hv_fail(err, rc, "%s: not enough memory", s->check->file->path) : rc;
}

/* Bits. */

/* The place that a sector number means if one of its bits has flipped; NULL: none, or more. */
static const struct check_place *one_bit_off(const struct salvage *s, uint32_t entry)
{
	const struct check_place *found = NULL;

	for (int bit = 0; bit < 32 && s->place_count; bit++) {
		struct check_place key = { .offset = (uint64_t)(entry ^ 1u << bit)
						     << HV_SECTOR_SHIFT };
		const struct check_place *place =
			bsearch(&key, s->places, s->place_count, sizeof(key), vhd_salvage_compare);

		if (!place)
			continue;
		if (found)
			return NULL;
		found = place;
	}
	return found;
}

#define SECTOR_ENTRIES (HV_SECTOR_SIZE / sizeof(hv_be32))

/* Where many entries are wrong they are garbage, and among much garbage is anything. */
static bool is_alone(const struct salvage *s, uint32_t block)
{
	const struct check *check = s->check;
	uint32_t first = block - block % SECTOR_ENTRIES;
	uint32_t count = (uint32_t)hv_min_u64(SECTOR_ENTRIES, check->layout.block_count - first);

	return hv_bits_count(check->bad, first, count) == 1;
}

/*
 * Only entries that lead out of the file: then the bit is one that no place in it has, and all
 * others agree. Inside the file, or where entries collide, too much lies one bit away.
 */
static const struct check_place *flipped(const struct salvage *s, uint32_t block)
{
	const struct check_place *place;

	if (!hv_bit_get(s->lost, block) || s->bat[block] == VHD_UNUSED ||
	    vhd_salvage_place(s, block) < s->end || !is_alone(s, block))
		return NULL;
	place = one_bit_off(s, s->bat[block]);
	if (!place || place->disputed || (place->named != NO_BLOCK && place->named != block) ||
	    is_vetoed(s, place, block))
		return NULL;
	return place;
}

int vhd_salvage_by_bits(struct salvage *s, struct hv_err *err)
{
	uint32_t blocks = s->check->layout.block_count;
	HV_AUTO(free) uint8_t *claims = calloc(1, s->place_count + 1);
	int count = 0;

	if (!claims)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", s->check->file->path);
	for (uint32_t block = 0; block < blocks; block++) {
		const struct check_place *place = flipped(s, block);

		if (place && claims[place - s->places] < 2)
			claims[place - s->places]++;
	}
	for (uint32_t block = 0; block < blocks; block++) {
		const struct check_place *place = flipped(s, block);

		if (!place || claims[place - s->places] > 1)
			continue;
		if (settle(s, block, place, "its entry, but for one bit,"))
			return hv_fail(err, -ENOMEM, "%s: not enough memory", s->check->file->path);
		count++;
	}
	return count;
}

/* Order. */

/* The blocks between two whose places are known, and the places between those. */
struct interval {
	uint32_t from, to; /* blocks */
	uint32_t first, places;
	uint64_t start, end; /* of the file, between the blocks around it */
	uint32_t lost, unused;
	bool doubtful; /* something in it is not as it should be */
};

static bool has_mark(const struct salvage *s)
{
	for (uint32_t i = 0; i < s->find_count; i++) {
		if (s->finds[i].mark)
			return true;
	}
	return false;
}

/* Do all blocks that are known lie in the order of their numbers, and are they enough? */
static bool is_ascending(const struct salvage *s)
{
	uint32_t last = 0, count = 0;

	for (uint32_t block = 0; block < s->check->layout.block_count; block++) {
		if (!vhd_salvage_is_known(s, block))
			continue;
		if (count++ && s->bat[block] <= last)
			return false;
		last = s->bat[block];
	}
	return count >= ORDER_WITNESSES || has_mark(s);
}

static void count_places(const struct salvage *s, struct interval *interval)
{
	uint32_t i = interval->first;

	for (; i < s->place_count && s->places[i].offset < interval->end; i++)
		interval->doubtful |= s->places[i].junk || s->places[i].disputed;
	interval->places = i - interval->first;
}

static void count_blocks(const struct salvage *s, struct interval *interval)
{
	for (uint32_t block = interval->from; block < interval->to; block++) {
		bool lost = hv_bit_get(s->lost, block);

		interval->lost += lost;
		interval->unused += !lost;
		interval->doubtful |= lost && vhd_salvage_is_possible(s, block);
	}
}

/* Is there one way only to put the lost blocks where there are places? */
static bool is_decided(const struct salvage *s, const struct interval *interval)
{
	if (!interval->lost || interval->doubtful)
		return false;
	/* Between two that follow each other nothing was. */
	if (!interval->places)
		return interval->start + vhd_salvage_length(s) > interval->end;
	if (interval->unused || interval->lost != interval->places)
		return false;
	for (uint32_t i = 0; i < interval->places; i++) {
		if (is_vetoed(s, &s->places[interval->first + i], interval->from + i))
			return false;
	}
	return true;
}

/* Counts only, unless it shall be done. */
static int decide_interval(struct salvage *s, const struct interval *interval, bool only_count)
{
	int count = (int)interval->places;

	for (uint32_t i = 0; i < interval->places && !only_count; i++) {
		if (settle(s, interval->from + i, &s->places[interval->first + i], NULL))
			return -ENOMEM;
	}
	for (uint32_t block = interval->from; !interval->places && block < interval->to; block++) {
		if (!hv_bit_get(s->lost, block) || hv_bit_get(s->losers, block))
			continue;
		count++;
		if (only_count)
			continue;
		hv_bit_clear(s->lost, block);
		hv_bit_set(s->cleared, block);
		s->bat[block] = VHD_UNUSED;
	}
	return count;
}

/* The interval after this one, which begins as one that ends before the first block. */
static bool next_interval(const struct salvage *s, struct interval *interval)
{
	uint32_t blocks = s->check->layout.block_count, block;
	struct interval next = { .from = interval->to + 1,
				 .first = interval->first + interval->places,
				 .start = interval->end + vhd_salvage_length(s),
				 .end = s->end };

	if (interval->to == NO_BLOCK)
		next.start = s->check->layout.metadata_end;
	else if (interval->to == blocks)
		return false;
	for (block = next.from; block < blocks && !vhd_salvage_is_known(s, block);)
		block++;
	next.to = block;
	if (block < blocks)
		next.end = vhd_salvage_place(s, block);
	count_blocks(s, &next);
	count_places(s, &next);
	*interval = next;
	return true;
}

/* More places than wrong entries: then some that look right are not, or blocks were given up. */
static bool is_contradicted(const struct salvage *s)
{
	struct interval interval = { .to = NO_BLOCK };

	while (next_interval(s, &interval)) {
		if (interval.places > interval.lost)
			return true;
	}
	return false;
}

int vhd_salvage_by_order(struct salvage *s, bool only_count, struct hv_err *err)
{
	struct interval interval = { .to = NO_BLOCK };
	int count = 0;

	if (!s->stride || !is_ascending(s) || is_contradicted(s))
		return 0;
	while (next_interval(s, &interval)) {
		int rc = 0;

		if (is_decided(s, &interval))
			rc = decide_interval(s, &interval, only_count);
		if (rc < 0)
			return hv_fail(err, rc, "%s: not enough memory", s->check->file->path);
		count += rc;
	}
	return count;
}
