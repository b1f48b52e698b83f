/*
 * A block allocation table with entries that cannot be right: what they should be, as far as that
 * can be proven, and what is lost. Works in steps, each from what the ones before have proven, until
 * none finds anything more. Changes nothing in the file; repair.c writes the table that comes out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/check_salvage.h"

static int no_memory(const struct salvage *s, struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "%s: not enough memory", s->check->file->path);
}

/* Which entries of the new table cannot be right. */

static void note_bad(enum vhd_bat_fault fault, uint32_t block, int64_t other,
		     const struct vhd_region *region, void *arg)
{
	uint8_t *bad = arg;

	(void)region;
	if (fault == VHD_BAT_CUT)
		return;
	hv_bit_set(bad, block);
	if (other >= 0)
		hv_bit_set(bad, (size_t)other);
}

/* Entries that were in the way of others are gone now: who is still lost? */
static int judge(struct salvage *s, uint8_t *ret)
{
	size_t bytes = s->check->layout.block_count / 8 + 1;
	struct vhd_bat_summary ignored;

	memset(ret, 0, bytes);
	return vhd_bat_judge(&s->check->layout, s->bat, note_bad, ret, &ignored);
}

static int judge_again(struct salvage *s, struct hv_err *err)
{
	if (judge(s, s->lost))
		return no_memory(s, err);
	for (size_t i = 0; i < s->check->layout.block_count / 8 + 1; i++)
		s->lost[i] |= s->losers[i];
	return 0;
}

/* Steps. */

static int step(struct salvage *s, struct hv_err *err)
{
	int rc = vhd_salvage_survey(s, err);

	if (rc == 0)
		rc = vhd_salvage_by_marks(s, err);
	if (rc == 0)
		rc = vhd_salvage_by_bits(s, err);
	if (rc == 0 && s->check->options->ascending)
		rc = vhd_salvage_by_order(s, false, err);
	return rc;
}

/* With nothing left in the file that they could mean, wrong entries mean nothing. */
static int clear_rest(struct salvage *s, struct hv_err *err)
{
	const uint8_t *batmap = s->check->batmap;
	int rc = vhd_salvage_is_exhausted(s, err);

	if (rc <= 0)
		return rc;
	for (uint32_t block = 0; block < s->check->layout.block_count; block++) {
		if (!hv_bit_get(s->lost, block) || hv_bit_get(s->losers, block) ||
		    vhd_salvage_is_possible(s, block) || (batmap && hv_bit_get(batmap, block)))
			continue;
		hv_bit_clear(s->lost, block);
		hv_bit_set(s->cleared, block);
		s->bat[block] = VHD_UNUSED;
	}
	return 0;
}

/* Until a step proves nothing more. */
static int search(struct salvage *s, struct hv_err *err)
{
	size_t blocks = s->check->layout.block_count;
	size_t left = hv_bits_count(s->lost, 0, blocks), before = left + 1;
	int rc = 0;

	while (left < before && (rc = step(s, err)) > 0) {
		rc = judge_again(s, err);
		if (rc)
			return rc;
		before = left;
		left = hv_bits_count(s->lost, 0, blocks);
	}
	if (rc == 0)
		rc = clear_rest(s, err);
	if (rc == 0 && !s->check->options->ascending)
		rc = vhd_salvage_by_order(s, true, err);
	if (rc < 0)
		return rc;
	s->more = (uint32_t)rc;
	return 0;
}

/* What is told. */

static void tell_finds(const struct salvage *s)
{
	for (uint32_t i = 0; i < s->find_count; i++) {
		const struct check_find *find = &s->finds[i];

		if (find->mark)
			vhd_check_report(s->check, BLOCK_FOUND, find->offset, find->block,
					 "block %u lies at byte %llu: %s says so", find->block,
					 (unsigned long long)find->offset, find->mark);
		else
			vhd_check_report(
				s->check, BLOCK_FOUND, find->offset, find->block,
				"block %u lies at byte %llu: in ascending order no other can",
				find->block, (unsigned long long)find->offset);
	}
}

/* A run of blocks whose entries become unused. */
static void tell_run(const struct salvage *s, uint32_t from, uint32_t to, bool loser)
{
	const struct vhd_layout *layout = &s->check->layout;
	uint64_t start = (uint64_t)from * layout->block_bytes;
	uint64_t end = hv_min_u64((uint64_t)to * layout->block_bytes, layout->size_bytes);
	const char *as = s->check->footer->type == VHD_DYNAMIC ? "zero" : "the parent";
	const char *tense = s->check->options->repair ? "reads" : "would read";
	enum check_code code = loser ? BLOCK_LOST : BLOCK_UNUSED;

	vhd_check_report(
		s->check, code, HV_NO_HOST_OFFSET, from,
		loser ? "bytes %llu to %llu of the disk are lost: the place that the table "
			"gave them is another block's; %s as %s" :
			"bytes %llu to %llu of the disk were never stored: the table gave "
			"them a place where nothing can be, and nothing in the file is left "
			"over; %s as %s",
		(unsigned long long)start, (unsigned long long)(end - 1), tense, as);
	vhd_check_report_range(s->check, start, end - start);
	if (loser)
		s->check->result.lost_bytes += end - start;
}

static void tell_runs(const struct salvage *s, const uint8_t *bits, const uint8_t *except,
		      bool loser)
{
	uint32_t count = s->check->layout.block_count;

	for (uint32_t from = 0, to; from < count; from = to + 1) {
		for (to = from; to < count && hv_bit_get(bits, to) && s->bat[to] == VHD_UNUSED &&
				!(except && hv_bit_get(except, to));)
			to++;
		if (to > from)
			tell_run(s, from, to, loser);
	}
}

static void tell_place(const struct salvage *s, const struct check_place *place)
{
	unsigned long long at = place->offset;

	if (place->named == MANY_BLOCKS)
		vhd_check_report(
			s->check, BLOCK_AMBIGUOUS, at, -1,
			"what lies at byte %llu says of itself that it is more than one block", at);
	else if (place->named == NO_BLOCK)
		vhd_check_report(
			s->check, BLOCK_UNCLAIMED, at, -1,
			"a block that no entry of the table names seems to lie at byte %llu", at);
	else if (hv_bit_get(s->lost, place->named))
		vhd_check_report(
			s->check, BLOCK_AMBIGUOUS, at, place->named,
			"what lies at byte %llu may be block %u, as %s says, but does not have to",
			at, place->named, place->mark);
	else
		vhd_check_report(
			s->check, BLOCK_UNCLAIMED, at, -1,
			"what lies at byte %llu is or was block %u, as %s says; the table has that elsewhere or nowhere",
			at, place->named, place->mark);
}

static void tell_places(const struct salvage *s)
{
	for (uint32_t i = 0; i < s->place_count; i++) {
		const struct check_place *place = &s->places[i];

		if (place->disputed && place->named == NO_BLOCK)
			continue; /* the entries have been reported */
		tell_place(s, place);
		if (!place->disputed)
			s->check->result.leaked_bytes += vhd_salvage_length(s);
	}
}

static uint32_t count_left(const struct salvage *s)
{
	uint32_t count = 0;

	for (uint32_t block = 0; block < s->check->layout.block_count; block++)
		count += hv_bit_get(s->lost, block) && !hv_bit_get(s->losers, block);
	return count;
}

static void tell_summary(const struct salvage *s, uint32_t wrong)
{
	uint32_t free_places = 0, left = count_left(s);
	char places[128] = "no place that a block could have is left over", order[128] = "";

	for (uint32_t i = 0; i < s->place_count; i++)
		free_places += !s->places[i].disputed;
	if (!s->stride)
		snprintf(places, sizeof(places),
			 "blocks do not lie at one distance, so that none can be looked for");
	else if (free_places)
		snprintf(places, sizeof(places),
			 "%u places hold what no entry names, the first at byte %llu", free_places,
			 (unsigned long long)s->places[0].offset);
	if (s->more)
		snprintf(order, sizeof(order),
			 "; --ascending would decide %u, if the blocks were written in that order",
			 s->more);
	vhd_check_report(s->check, BAT_SCAN, s->check->layout.bat_offset, -1,
			 "of %u wrong entries the right ones are certain for %u; %s%s", wrong,
			 wrong - left, places, order);
	s->check->result.unreadable_blocks = left;
}

static void tell(const struct salvage *s, uint32_t wrong)
{
	tell_summary(s, wrong);
	tell_finds(s);
	tell_runs(s, s->losers, NULL, true);
	tell_runs(s, s->cleared, s->losers, false);
	tell_places(s);
}

/* The new table, if it is one. */
static int keep(struct salvage *s, struct hv_err *err)
{
	struct check *check = s->check;
	size_t bytes = check->layout.block_count * sizeof(*s->bat);

	if (!memcmp(s->bat, check->bat, bytes))
		return 0;
	/* What is still wrong, for those who ask which findings are mended. */
	if (judge(s, s->lost))
		return no_memory(s, err);
	check->plan.bat = hv_steal(s->bat);
	check->plan.bad = hv_steal(s->lost);
	return 0;
}

static int start(struct salvage *s, struct hv_err *err)
{
	const struct check *check = s->check;
	size_t blocks = check->layout.block_count, bytes = blocks / 8 + 1;

	s->bat = malloc(blocks * sizeof(*s->bat));
	s->lost = malloc(bytes);
	s->losers = calloc(1, bytes);
	s->cleared = calloc(1, bytes);
	if (!s->bat || !s->lost || !s->losers || !s->cleared)
		return no_memory(s, err);
	memcpy(s->bat, check->bat, blocks * sizeof(*s->bat));
	memcpy(s->lost, check->bad, bytes);
	return 0;
}

static void done(struct salvage *s)
{
	free(s->bat);
	free(s->lost);
	free(s->losers);
	free(s->cleared);
	free(s->known);
	free(s->places);
	free(s->finds);
}

/*
 * In a file that was cut, entries beyond its end may be right, and what is missing may be what is
 * looked for; a table that is cut may even lie over what is left of a footer. In one that belongs
 * to a machine in saved state, nothing is to change.
 */
static bool may_salvage(const struct check *check)
{
	return check->bat && !check->bat_sound && check->footers.best &&
	       (check->header_derived ||
		!vhd_check_found_any(check, HEADER_COOKIE, HEADER_ENTRIES)) &&
	       !check->counts[FOOTER_MISSING] && !check->counts[BAT_TRUNCATED] &&
	       !check->footer->saved_state && !check->counts[XEN_BITMAP_ORDER];
}

int vhd_check_salvage(struct check *check, struct hv_err *err)
{
	struct salvage s = { .check = check, .end = check->footers.trailing_offset };
	uint32_t wrong;
	int rc;

	if (!may_salvage(check))
		return 0;
	wrong = (uint32_t)hv_bits_count(check->bad, 0, check->layout.block_count);
	if (!wrong)
		return 0;
	rc = start(&s, err);
	if (rc == 0)
		rc = search(&s, err);
	if (rc == 0) {
		tell(&s, wrong);
		rc = keep(&s, err);
	}
	done(&s);
	return rc;
}
