/*
 * Checking the header (spec: "Dynamic Disk Header Format") and where the BAT lies. A header whose
 * cookie or checksum alone is wrong is reported and then believed, if what it says is possible.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/check_internal.h"

#define CHECKSUM_AT offsetof(struct vhd_disk_header, checksum)

/* The file as it would be with its header mended, so that the engine reads on. */
struct view {
	struct hv_file base;
	struct hv_file *below;
	uint64_t offset;
	struct vhd_disk_header header;
};

static int view_pread(struct hv_file *base, void *buf, size_t length, uint64_t offset,
		      struct hv_err *err)
{
	struct view *view = (struct view *)base;

	if (offset == view->offset && length == sizeof(view->header)) {
		memcpy(buf, &view->header, length);
		return 0;
	}
	return hv_file_pread(view->below, buf, length, offset, err);
}

static const struct hv_file_ops view_ops = { .pread = view_pread };

int vhd_check_read_layout(const struct check *check, const struct vhd_disk_header *raw,
			  struct vhd_layout *ret, struct hv_err *err)
{
	struct vhd_footer footer = *check->footer;
	struct vhd_footers footers = check->footers;
	struct vhd_header header = { 0 };
	struct view view = {
		.base = { .ops = &view_ops,
			  .path = check->file->path,
			  .size_bytes = check->file->size_bytes },
		.below = check->file,
		.offset = footer.data_offset,
		.header = *raw,
	};
	int rc;

	memcpy(view.header.cookie, VHD_HEADER_COOKIE, sizeof(view.header.cookie));
	view.header.checksum =
		hv_be32_make(vhd_checksum(&view.header, sizeof(view.header), CHECKSUM_AT));
	/* Version 0.1 of Xen's tools is refused for its bitmaps only. */
	if (check->counts[XEN_BITMAP_ORDER])
		footer.creator_version = 0x00010000;
	footers.best = &footer;
	rc = vhd_layout_read(&view.base, &footers, &header, ret, err);
	free(header.parent_name);
	return rc;
}

static bool find_header(struct check *check)
{
	uint64_t offset = check->footer->data_offset, size = check->file->size_bytes;

	if (offset % HV_SECTOR_SIZE == 0 && offset >= VHD_FOOTER_BYTES &&
	    hv_range_inside(offset, VHD_HEADER_BYTES, check->file_end))
		return true;
	vhd_check_report(
		check, HEADER_OFFSET,
		check->footer == &check->footers.copy ? 0 : check->footers.trailing_offset, -1,
		"the footer says that the header is at byte %llu, where none can be in a file of %llu bytes",
		(unsigned long long)offset, (unsigned long long)size);
	return false;
}

/* Can the fields be those of a header, whatever cookie and checksum say? */
static bool is_possible(const struct vhd_header *header)
{
	return header->version == VHD_VERSION && header->block_bytes >= HV_SECTOR_SIZE &&
	       hv_is_power_of_two(header->block_bytes) && header->max_entries;
}

static void report_faults(struct check *check, unsigned faults)
{
	const struct vhd_header *header = &check->header;
	uint64_t at = check->footer->data_offset;

	if (faults & VHD_HEADER_COOKIE_BAD)
		vhd_check_report(check, HEADER_COOKIE, at, -1, "the header has a wrong cookie%s",
				 is_possible(header) ? "" : ", and its fields are no help");
	if (faults & VHD_HEADER_CHECKSUM_BAD)
		vhd_check_report(check, HEADER_CHECKSUM, at, -1,
				 "the checksum of the header is wrong");
	if (faults & VHD_HEADER_COOKIE_BAD && !is_possible(header))
		return;
	if (faults & VHD_HEADER_VERSION_BAD)
		vhd_check_report(check, HEADER_VERSION, at, -1,
				 "the header is of version %u.%u, only 1.0 is known",
				 header->version >> 16, header->version & 0xffff);
	else if (header->version != VHD_VERSION)
		vhd_check_report_as(check, VHD_NOTE, HEADER_VERSION, at, -1,
				    "the header is of version 1.%u; it is read as 1.0",
				    header->version & 0xffff);
	if (faults & VHD_HEADER_BLOCK_BAD)
		vhd_check_report(check, HEADER_BLOCK_SIZE, at, -1,
				 "a block size of %u bytes is no power of two of at least 512",
				 header->block_bytes);
	else if (header->block_bytes > VHD_MAX_BLOCK_BYTES)
		vhd_check_report_as(check, VHD_NOTE, HEADER_BLOCK_SIZE, at, -1,
				    "blocks of %u bytes are larger than any program makes them",
				    header->block_bytes);
	if (header->next != VHD_NOWHERE)
		vhd_check_report(
			check, HEADER_NEXT, at, -1,
			"the header says that another structure follows at byte %llu; none is known",
			(unsigned long long)header->next);
}

/* Is the BAT where one can be? */
static bool judge_bat_place(struct check *check)
{
	uint64_t bat = check->header.bat_offset, header = check->footer->data_offset;
	uint64_t blocks = hv_div_up(check->size_bytes, check->header.block_bytes);
	uint64_t needed = blocks * sizeof(hv_be32);
	uint64_t whole =
		hv_round_up((uint64_t)check->header.max_entries * sizeof(hv_be32), HV_SECTOR_SIZE);

	if (bat % HV_SECTOR_SIZE || bat < VHD_FOOTER_BYTES) {
		vhd_check_report(
			check, BAT_OFFSET, bat, -1,
			"the block allocation table is said to be at byte %llu, where none can be",
			(unsigned long long)bat);
		return false;
	}
	if (!hv_range_inside(bat, needed, check->file_end)) {
		vhd_check_report(
			check, bat >= check->file_end ? BAT_OFFSET : BAT_TRUNCATED, bat, -1,
			"the block allocation table of %llu entries at byte %llu does not lie inside the file, which ends at %llu",
			(unsigned long long)blocks, (unsigned long long)bat,
			(unsigned long long)check->file_end);
		return false;
	}
	if (bat < header + VHD_HEADER_BYTES && header < bat + needed) {
		vhd_check_report(
			check, BAT_OFFSET, bat, -1,
			"the block allocation table at byte %llu overlaps the header at %llu",
			(unsigned long long)bat, (unsigned long long)header);
		return false;
	}
	if (!hv_range_inside(bat, whole, check->file_end))
		vhd_check_report(
			check, BAT_TRUNCATED, bat, -1,
			"of %u entries of the block allocation table the last are beyond the file's end at %llu; the disk needs the first %llu only",
			check->header.max_entries, (unsigned long long)check->file_end,
			(unsigned long long)blocks);
	return true;
}

static bool judge_entries(struct check *check)
{
	uint64_t blocks;

	/* Without a possible size nothing can be counted. */
	if (!check->size_bytes || check->counts[FOOTER_SIZE])
		return false;
	blocks = hv_div_up(check->size_bytes, check->header.block_bytes);
	if (check->header.max_entries >= blocks)
		return true;
	vhd_check_report(check, HEADER_ENTRIES, check->footer->data_offset, -1,
			 "the header has %u table entries, the size of the disk needs %llu",
			 check->header.max_entries, (unsigned long long)blocks);
	return false;
}

static void judge_parent(struct check *check)
{
	const struct vhd_header *header = &check->header;
	uint64_t at = check->footer->data_offset;

	if (hv_guid_is_null(&header->parent_uuid) && vhd_footer_is_xen(check->footer))
		vhd_check_report_as(
			check, VHD_NOTE, PARENT_UUID_NULL, at, -1,
			"the parent has no UUID: by the rule of Xen's tools it is a raw image");
	else if (hv_guid_is_null(&header->parent_uuid))
		vhd_check_report(
			check, PARENT_UUID_NULL, at, -1,
			"the header has no UUID of the parent, so that the right one cannot be told");
	if (!*header->parent_name)
		vhd_check_report(check, PARENT_NAME_EMPTY, at, -1,
				 "the header has no name of the parent");
}

int vhd_check_header(struct check *check, struct hv_err *err)
{
	unsigned faults;
	int rc;

	if (!memcmp(check->footer->creator, "tap\0", 4) && check->footer->creator_version == 1)
		vhd_check_report(
			check, XEN_BITMAP_ORDER, 0, -1,
			"made by version 0.1 of Xen's tools, whose bitmaps have another bit order");
	if (!find_header(check))
		return 0;
	rc = hv_file_pread(check->file, &check->header_raw, sizeof(check->header_raw),
			   check->footer->data_offset, err);
	if (rc)
		return rc;
	faults = vhd_header_decode(&check->header_raw, &check->header);
	if (!check->header.parent_name)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	report_faults(check, faults);
	if (faults & VHD_HEADER_CHECKSUM_BAD &&
	    vhd_check_derive_header(check, &check->header_raw)) {
		check->header_derived = true;
		free(check->header.parent_name);
		faults = vhd_header_decode(&check->header_raw, &check->header);
		if (!check->header.parent_name)
			return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
		vhd_check_report(
			check, HEADER_DERIVED, check->footer->data_offset, -1,
			"one field of the header is damaged, and its checksum proves what it was: the block allocation table is at byte %llu, and has %u entries for blocks of %u bytes",
			(unsigned long long)check->header.bat_offset, check->header.max_entries,
			check->header.block_bytes);
	}
	if (faults & (VHD_HEADER_VERSION_BAD | VHD_HEADER_BLOCK_BAD) ||
	    (faults && !is_possible(&check->header)))
		return 0;
	check->header_found = true;
	if (check->footer->type == VHD_DIFFERENCING)
		judge_parent(check);
	if (!judge_entries(check) || !judge_bat_place(check))
		return 0;
	rc = vhd_check_read_layout(check, &check->header_raw, &check->layout, err);
	check->layout_known = rc == 0;
	return rc;
}
