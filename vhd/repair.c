/*
 * Mending what can be mended without guessing: footers from each other, checksums over fields that
 * pass every rule, the slack between the last block and the footer, and entries of the BAT as
 * check_salvage.c has found them.
 *
 * Order of writes, with a barrier after each: BAT, header checksum, trailing footer, (cut), footer
 * copy. So at no instant are both footers bad that were not both bad before; see FORMAT.md.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/check_internal.h"

#define FOOTER_SUM_AT offsetof(struct vhd_disk_footer, checksum)
#define HEADER_SUM_AT offsetof(struct vhd_disk_header, checksum)
static_assert(HEADER_SUM_AT < HV_SECTOR_SIZE, "the header's first sector holds its checksum");

/* Is the footer possible in every field, as far as one can tell without its checksum? */
static bool footer_is_plausible(const struct check *check)
{
	const struct vhd_footer *footer = check->footer;
	uint64_t by_geometry = vhd_geometry_bytes(&footer->geometry);

	if (vhd_check_found_any(check, FOOTER_VERSION, FOOTER_SIZE) || check->counts[UUID_NULL] ||
	    check->counts[SAVED_STATE] || check->counts[HEADER_OFFSET] || !by_geometry)
		return false;
	if (footer->type != VHD_FIXED)
		return check->bat_sound &&
		       !vhd_check_found_any(check, HEADER_COOKIE, HEADER_ENTRIES);
	return footer->current_bytes == check->footers.trailing_offset;
}

static bool equal_but_for_checksum(const struct vhd_disk_footer *a, const struct vhd_disk_footer *b)
{
	return !memcmp(a, b, FOOTER_SUM_AT) &&
	       !memcmp(a->uuid, b->uuid, sizeof(*a) - offsetof(struct vhd_disk_footer, uuid));
}

/* The footer that both shall be. */
static bool good_footer(const struct check *check, struct vhd_disk_footer *ret)
{
	const struct vhd_footers *footers = &check->footers;
	const unsigned sum_only = VHD_FOOTER_CHECKSUM_BAD;

	*ret = *check->footer_raw;
	if (footers->best)
		return true;
	if ((check->footer == &footers->trailing ? footers->trailing_faults :
						   footers->copy_faults) != sum_only ||
	    !footer_is_plausible(check))
		return false;
	/* Two footers that contradict each other, both with wrong checksums: who is to be believed?
	 */
	if (footers->trailing_faults == sum_only && footers->copy_faults == sum_only &&
	    check->footer->type != VHD_FIXED &&
	    !equal_but_for_checksum(&footers->trailing_raw, &footers->copy_raw))
		return false;
	ret->checksum = hv_be32_make(vhd_checksum(ret, sizeof(*ret), FOOTER_SUM_AT));
	return true;
}

static void change_to(struct check_plan *plan, int which, uint64_t offset, const void *new)
{
	plan->wanted[which] = true;
	plan->changes[which].offset = offset;
	memcpy(plan->changes[which].new, new, HV_SECTOR_SIZE);
}

/* Blocks and metadata are known, and nothing is wrong with where they lie. */
static bool ends_known(const struct check *check)
{
	return check->bat_sound && !check->counts[BLOCK_TRUNCATED];
}

static bool trailing_is_bad(const struct check *check)
{
	return vhd_check_found_any(check, FOOTER_MISSING, FOOTER_511) || check->counts[FOOTER_OPEN];
}

/* May the sector that the damaged trailing footer has be written? */
static bool slot_is_free(const struct check *check)
{
	const struct vhd_footers *footers = &check->footers;

	/* A cookie proves that it is a footer's. */
	if (!(footers->trailing_faults & VHD_FOOTER_COOKIE_BAD) ||
	    footers->trailing_faults & VHD_FOOTER_OPEN)
		return true;
	return ends_known(check) && check->summary.data_end <= footers->trailing_offset;
}

/* Is all that the file holds known, so that the rest is really nobody's? */
static bool slack_is_known(const struct check *check)
{
	return ends_known(check) && !check->file->block_device && !check->footer->saved_state &&
	       !check->counts[HEADER_COOKIE] && !check->counts[LOCATOR_RANGE] &&
	       check->counts[XEN_BATMAP] <= 1 && /* its note; more are errors */
	       (!check->counts[HEADER_CHECKSUM] || check->plan.wanted[CHANGE_HEADER]);
}

/*
 * No block in the table, and behind it data for at least one: the table may have been wiped, and
 * what looks like slack is all there is left.
 */
static bool table_may_be_lost(const struct check *check)
{
	struct hv_extent extent;

	if (check->summary.allocated || check->tail_bytes < check->layout.block_bytes)
		return false;
	return hv_file_extent(check->file, check->summary.data_end, check->tail_bytes, 0, &extent,
			      NULL) ||
	       extent.state != HV_EXTENT_ZERO || extent.length < check->tail_bytes;
}

/* Where the trailing footer shall be; false when it cannot be mended. */
static bool place_trailing(struct check *check, bool tail, uint64_t *ret)
{
	const struct vhd_footers *footers = &check->footers;
	bool strange = !(footers->trailing_faults & VHD_FOOTER_COOKIE_BAD) &&
		       (footers->trailing_faults & VHD_FOOTER_VERSION_BAD ||
			footers->trailing.type != check->footer->type);

	/* What is no damage, but another disk's footer, stays. */
	if (strange)
		return false;
	if (tail || check->counts[FOOTER_MISSING]) {
		uint64_t end = check->summary.data_end;

		if (!ends_known(check) || check->file->block_device)
			return false;
		if (check->counts[LEAK_TAIL] && !tail)
			end = hv_max_u64(end, check->file->size_bytes);
		*ret = vhd_footer_place(end);
		return true;
	}
	/* Behind a good footer, what a cut block has lost would read as zero. */
	*ret = footers->trailing_offset;
	return slot_is_free(check) && !check->counts[BLOCK_TRUNCATED];
}

static void plan_trailing(struct check *check, const struct vhd_disk_footer *good)
{
	struct check_plan *plan = &check->plan;
	bool tail = check->counts[LEAK_TAIL] && check->footer->type != VHD_FIXED &&
		    slack_is_known(check) && !table_may_be_lost(check);
	uint64_t place;

	if ((!tail && !trailing_is_bad(check)) || !place_trailing(check, tail, &place))
		return;
	change_to(plan, CHANGE_TRAILING, place, good);
	plan->new_size = place + VHD_FOOTER_BYTES;
	for (enum check_code code = FOOTER_MISSING; code <= FOOTER_511; code++)
		plan->mends[code] = true;
	plan->mends[FOOTER_OPEN] = true;
	plan->mends[LEAK_TAIL] = tail;
}

static void plan_copy(struct check *check, const struct vhd_disk_footer *good)
{
	struct check_plan *plan = &check->plan;
	const struct vhd_footers *footers = &check->footers;

	if (!check->header_found || check->counts[HEADER_COOKIE])
		return;
	/* Where there is no good trailing footer, the copy is the last hope. */
	if (footers->trailing_faults && !plan->wanted[CHANGE_TRAILING])
		return;
	if (check->counts[FOOTER_DIFFERS] && !vhd_footers_same_disk(footers))
		return;
	if (!check->counts[FOOTER_DIFFERS] && !check->counts[COPY_MISSING] &&
	    !check->counts[COPY_CHECKSUM])
		return;
	change_to(plan, CHANGE_COPY, 0, good);
	plan->mends[FOOTER_DIFFERS] = plan->mends[COPY_MISSING] = plan->mends[COPY_CHECKSUM] = true;
}

static bool is_zero(const void *data, size_t length)
{
	const uint8_t *byte = data;

	while (length && !*byte)
		byte++, length--;
	return !length;
}

/* Does the header pass every rule but that of its checksum? */
static bool header_is_plausible(const struct check *check)
{
	const struct vhd_disk_header *raw = &check->header_raw;

	if (check->counts[HEADER_COOKIE] || check->counts[HEADER_NEXT] ||
	    vhd_check_found_any(check, HEADER_VERSION, HEADER_ENTRIES) || !ends_known(check) ||
	    vhd_check_found_any(check, LOCATOR_RANGE, PARENT_NAME_EMPTY) ||
	    !is_zero(&raw->reserved, sizeof(raw->reserved)) ||
	    !is_zero(raw->reserved2, sizeof(raw->reserved2)))
		return false;
	/* A dynamic disk has nothing to say of a parent. */
	return check->footer->type == VHD_DIFFERENCING ||
	       (is_zero(raw->parent_name, sizeof(raw->parent_name)) &&
		is_zero(raw->locators, sizeof(raw->locators)));
}

static void plan_header(struct check *check)
{
	struct vhd_disk_header good = check->header_raw;

	if (check->header_derived) {
		change_to(&check->plan, CHANGE_HEADER, check->footer->data_offset, &good);
		for (enum check_code code = HEADER_COOKIE; code <= HEADER_NEXT; code++)
			check->plan.mends[code] = true;
		return;
	}
	/* With no valid checksum anywhere it is not the checksums that are wrong. */
	if (!check->counts[HEADER_CHECKSUM] || !check->footers.best || !header_is_plausible(check))
		return;
	good.checksum = hv_be32_make(vhd_checksum(&good, sizeof(good), HEADER_SUM_AT));
	change_to(&check->plan, CHANGE_HEADER, check->footer->data_offset, &good);
	check->plan.mends[HEADER_CHECKSUM] = true;
}

void vhd_check_plan_repair(struct check *check)
{
	struct vhd_disk_footer good;

	check->plan.new_size = check->file->size_bytes;
	if (check->bat) {
		check->plan.witness_offset = check->layout.bat_offset;
		check->plan.witness_length = (uint64_t)check->layout.block_count * sizeof(hv_be32);
	}
	/* An unknown footer, an interrupted resize or another bit order: hands off. */
	if (!check->footer || check->counts[XEN_POISON] || check->counts[XEN_BITMAP_ORDER])
		return;
	plan_header(check);
	if (!good_footer(check, &good))
		return;
	plan_trailing(check, &good);
	if (check->footer->type != VHD_FIXED)
		plan_copy(check, &good);
}

/* What lies where the changes will be. */
static int read_old(struct check *check, struct hv_err *err)
{
	for (int i = 0; i < CHECK_CHANGES; i++) {
		struct check_change *change = &check->plan.changes[i];
		uint64_t size = check->file->size_bytes;
		int rc;

		if (!check->plan.wanted[i] || change->offset >= size)
			continue;
		change->old_length = (uint32_t)hv_min_u64(size - change->offset, HV_SECTOR_SIZE);
		rc = hv_file_pread(check->file, change->old, HV_SECTOR_SIZE, change->offset, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* The BAT. */

#define SECTOR_ENTRIES (HV_SECTOR_SIZE / sizeof(hv_be32))

/* The entries that a sector of the BAT has of the disk's. */
static uint32_t entries_in(const struct check *check, uint32_t sector)
{
	uint64_t first = (uint64_t)sector * SECTOR_ENTRIES;

	return (uint32_t)hv_min_u64(check->layout.block_count - first, SECTOR_ENTRIES);
}

static bool sector_changes(const struct check *check, uint32_t sector)
{
	size_t first = (size_t)sector * SECTOR_ENTRIES;

	return memcmp(check->bat + first, check->plan.bat + first,
		      entries_in(check, sector) * sizeof(*check->bat));
}

/* What is there, and the same with the new entries; what follows the disk's last entry stays. */
static int fill_run(const struct check *check, struct check_bat_run *run, struct hv_err *err)
{
	size_t bytes = (size_t)run->count * HV_SECTOR_SIZE;
	int rc;

	run->offset = check->layout.bat_offset + (uint64_t)run->first * HV_SECTOR_SIZE;
	rc = hv_file_pread(check->file, run->old, bytes, run->offset, err);
	if (rc)
		return rc;
	memcpy(run->new, run->old, bytes);
	for (uint32_t sector = 0; sector < run->count; sector++) {
		size_t first = (size_t)(run->first + sector) * SECTOR_ENTRIES;
		uint32_t count = entries_in(check, run->first + sector);

		for (uint32_t i = 0; i < count; i++) {
			hv_be32 entry = hv_be32_make(check->plan.bat[first + i]);
			size_t at = (size_t)sector * HV_SECTOR_SIZE + i * sizeof(entry);

			memcpy(run->new + at, &entry, sizeof(entry));
		}
	}
	return 1;
}

int vhd_check_next_run(const struct check *check, struct check_bat_run *run, struct hv_err *err)
{
	uint32_t sectors = (uint32_t)hv_div_up(check->layout.block_count, SECTOR_ENTRIES);
	uint32_t at = run->first + run->count;

	if (!check->plan.bat)
		return 0;
	while (at < sectors && !sector_changes(check, at))
		at++;
	run->first = at;
	while (at < sectors && at - run->first < CHECK_RUN_BYTES / HV_SECTOR_SIZE &&
	       sector_changes(check, at))
		at++;
	run->count = at - run->first;
	return run->count ? fill_run(check, run, err) : 0;
}

/*
 * Each sector by itself goes from wrong entries to right ones, so that they need no order among
 * themselves.
 */
static int apply_bat(struct check *check, struct hv_err *err)
{
	HV_AUTO(free) uint8_t *buffers = malloc(2 * (size_t)CHECK_RUN_BYTES);
	struct check_bat_run run = { .old = buffers };
	int rc;

	if (!check->plan.bat)
		return 0;
	if (!buffers)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	run.new = buffers + CHECK_RUN_BYTES;
	while ((rc = vhd_check_next_run(check, &run, err)) > 0) {
		rc = hv_file_pwrite(check->file, run.new, (size_t)run.count * HV_SECTOR_SIZE,
				    run.offset, err);
		if (rc)
			return rc;
	}
	/* The table is right before a checksum or a footer vouches for it. */
	return rc ? rc : hv_file_barrier(check->file, err);
}

static int apply(struct check *check, struct hv_err *err)
{
	const struct check_plan *plan = &check->plan;
	struct hv_file *file = check->file;

	for (int i = 0; i < CHECK_CHANGES; i++) {
		const struct check_change *change = &plan->changes[i];
		int rc = 0;

		if (!plan->wanted[i])
			continue;
		/* An old footer only lacks its last byte: nothing else is touched. */
		if (!memcmp(change->old, change->new, change->old_length))
			rc = hv_file_pwrite(file, change->new + change->old_length,
					    HV_SECTOR_SIZE - change->old_length,
					    change->offset + change->old_length, err);
		else
			rc = hv_file_pwrite(file, change->new, HV_SECTOR_SIZE, change->offset, err);
		/* What is written is durable before the next is touched, or the old footer cut off.
		 */
		if (rc == 0)
			rc = hv_file_barrier(file, err);
		if (rc == 0 && i == CHANGE_TRAILING && plan->new_size < file->size_bytes) {
			rc = hv_file_truncate(file, plan->new_size, err);
			if (rc == 0)
				rc = hv_file_barrier(file, err);
		}
		if (rc)
			return rc;
	}
	return 0;
}

int vhd_check_repair(struct check *check, struct hv_err *err)
{
	const struct check_plan *plan = &check->plan;
	int rc;

	if (!plan->wanted[CHANGE_HEADER] && !plan->wanted[CHANGE_TRAILING] &&
	    !plan->wanted[CHANGE_COPY] && !plan->bat)
		return 0;
	rc = read_old(check, err);
	if (rc == 0)
		rc = vhd_undo_save(check, err);
	if (rc == 0)
		rc = apply_bat(check, err);
	return rc ? rc : apply(check, err);
}
