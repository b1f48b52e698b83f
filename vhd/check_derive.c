/*
 * A header of which one field was damaged. Its checksum, which is still that of the whole header,
 * proves what the field was: the values that are possible are few, and just one of them makes the
 * checksum right again. A header that could be believed but for its checksum is not looked at here:
 * there it may be the checksum itself that is wrong.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/check_internal.h"

#define CHECKSUM_AT offsetof(struct vhd_disk_header, checksum)
#define MAX_BAT_OFFSET (64u << 20) /* all writers put the table near the beginning */

struct derive {
	struct check *check;
	const struct vhd_disk_header *raw;
	struct vhd_disk_header found;
	unsigned matches;
};

static void note_fault(enum vhd_bat_fault fault, uint32_t block, int64_t other,
		       const struct vhd_region *region, void *arg)
{
	(void)fault;
	(void)block;
	(void)other;
	(void)region;
	*(bool *)arg = false;
}

/* Is there a table with blocks, and nothing wrong with it, where the header says? */
static bool has_table(const struct check *check, const struct vhd_disk_header *raw)
{
	HV_AUTO(free) uint32_t *bat = NULL;
	struct vhd_bat_summary summary;
	struct vhd_layout layout;
	bool sound = true;

	return vhd_check_read_layout(check, raw, &layout, NULL) == 0 &&
	       vhd_bat_read(check->file, &layout, &bat, NULL) == 0 &&
	       vhd_bat_judge(&layout, bat, note_fault, &sound, &summary) == 0 && sound &&
	       summary.allocated;
}

static void try_any(struct derive *derive, const struct vhd_disk_header *candidate)
{
	if (!memcmp(candidate, derive->raw, sizeof(*candidate)) ||
	    vhd_checksum(candidate, sizeof(*candidate), CHECKSUM_AT) !=
		    hv_be32_get(candidate->checksum))
		return;
	derive->found = *candidate;
	derive->matches++;
}

/* Numbers of which many are possible want the table as a second witness. */
static void try(struct derive *derive, const struct vhd_disk_header *candidate)
{
	struct derive one = { .check = derive->check, .raw = derive->raw };

	try_any(&one, candidate);
	if (!one.matches || !has_table(derive->check, candidate))
		return;
	derive->found = *candidate;
	derive->matches++;
}

/* As many entries as the disk needs; one writer made one more. */
static bool entries_fit(const struct check *check, uint64_t entries, uint64_t block_bytes)
{
	uint64_t needed = hv_div_up(check->size_bytes, block_bytes);

	return entries == needed || entries == needed + 1;
}

static void try_numbers(struct derive *derive)
{
	const struct check *check = derive->check;
	uint32_t entries = hv_be32_get(derive->raw->max_entries);
	uint64_t needed = hv_div_up(check->size_bytes, check->header.block_bytes);
	struct vhd_disk_header candidate = *derive->raw;

	for (uint64_t bytes = HV_SECTOR_SIZE; bytes <= VHD_MAX_BLOCK_BYTES; bytes *= 2) {
		candidate.block_size = hv_be32_make((uint32_t)bytes);
		if (entries_fit(check, entries, bytes))
			try(derive, &candidate);
	}
	candidate = *derive->raw;
	for (uint64_t count = needed; count <= needed + 1; count++) {
		candidate.max_entries = hv_be32_make((uint32_t)count);
		try(derive, &candidate);
	}
}

static uint32_t byte_sum(uint64_t value)
{
	uint32_t sum = 0;

	for (; value; value >>= 8)
		sum += (uint8_t)value;
	return sum;
}

/*
 * The table lies right behind the header, or where locators or a larger table made room for it.
 * What the checksum leaves for the bytes of the offset rules out most, without a sum for each.
 */
static void try_offsets(struct derive *derive)
{
	const struct check *check = derive->check;
	uint64_t end = hv_min_u64(check->file_end, MAX_BAT_OFFSET);
	struct vhd_disk_header candidate = *derive->raw;
	uint32_t left;

	candidate.bat_offset = hv_be64_make(0);
	left = vhd_checksum(&candidate, sizeof(candidate), CHECKSUM_AT) -
	       hv_be32_get(candidate.checksum);
	candidate.bat_offset = hv_be64_make(check->footer->data_offset + VHD_HEADER_BYTES);
	try(derive, &candidate);
	for (uint64_t offset = VHD_LAYOUT_ALIGN; offset < end; offset += VHD_LAYOUT_ALIGN) {
		if (byte_sum(offset) != left)
			continue;
		candidate.bat_offset = hv_be64_make(offset);
		try(derive, &candidate);
	}
}

static void try_constants(struct derive *derive)
{
	struct vhd_disk_header candidate = *derive->raw;

	memcpy(candidate.cookie, VHD_HEADER_COOKIE, sizeof(candidate.cookie));
	try_any(derive, &candidate);
	candidate = *derive->raw;
	candidate.next = hv_be64_make(VHD_NOWHERE);
	try_any(derive, &candidate);
	candidate = *derive->raw;
	candidate.version = hv_be32_make(VHD_VERSION);
	try_any(derive, &candidate);
}

/* One field was damaged: with it mended nothing is wrong any more. */
static bool is_sound(const struct check *check, const struct vhd_disk_header *raw)
{
	struct vhd_header header;
	unsigned faults = vhd_header_decode(raw, &header);
	bool decoded = header.parent_name;

	free(header.parent_name);
	return decoded && !faults &&
	       header.max_entries >= hv_div_up(check->size_bytes, header.block_bytes);
}

bool vhd_check_derive_header(struct check *check, struct vhd_disk_header *ret)
{
	struct derive derive = { .check = check, .raw = &check->header_raw };

	if (!check->footers.best || !check->size_bytes)
		return false;
	try_constants(&derive);
	if (!derive.matches && !has_table(check, derive.raw)) {
		if (check->header.block_bytes)
			try_numbers(&derive);
		try_offsets(&derive);
	}
	if (derive.matches != 1 || !is_sound(check, &derive.found))
		return false;
	*ret = derive.found;
	return true;
}
