/*
 * Checking both footers (spec: "Hard Disk Footer Format"). Readers differ in which of the two they
 * look at, so that any difference between them matters.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vhd/check_internal.h"

static bool has_cookie(unsigned faults)
{
	return !(faults & VHD_FOOTER_COOKIE_BAD);
}

static bool resembles_footer(const struct vhd_disk_footer *raw)
{
	uint32_t type = hv_be32_get(raw->type);
	struct vhd_disk_footer mended = *raw;
	uint32_t stored = hv_be32_get(raw->checksum);
	size_t at = offsetof(struct vhd_disk_footer, checksum);

	memcpy(mended.cookie, VHD_FOOTER_COOKIE, sizeof(mended.cookie));
	if (stored == vhd_checksum(&mended, sizeof(mended), at) ||
	    stored == vhd_checksum(raw, sizeof(*raw), at))
		return type >= VHD_FIXED && type <= VHD_DIFFERENCING;
	return hv_be32_get(raw->version) == VHD_VERSION && type >= VHD_FIXED &&
	       type <= VHD_DIFFERENCING;
}

/* Whom to believe: a valid footer; else the trailing one; else the copy, which no fixed disk has. */
static void choose(struct check *check)
{
	struct vhd_footers *footers = &check->footers;

	if (footers->best)
		check->footer = footers->best;
	else if (has_cookie(footers->trailing_faults))
		check->footer = &footers->trailing;
	else if (has_cookie(footers->copy_faults))
		check->footer = &footers->copy;
	if (check->footer)
		check->footer_raw = check->footer == &footers->copy ? &footers->copy_raw :
								      &footers->trailing_raw;
}

static const char *copy_state(const struct check *check)
{
	return check->footers.copy_faults ? "; the copy at the file's start is no help either" :
					    "; the copy at the file's start is good";
}

static void report_no_cookie(struct check *check)
{
	const struct vhd_footers *footers = &check->footers;

	if (footers->trailing_faults & VHD_FOOTER_OPEN)
		vhd_check_report(
			check, FOOTER_OPEN, footers->trailing_offset, -1,
			"Xen's tapdisk has the file open for writing, or had when it crashed: the trailing footer is filled with C7%s",
			copy_state(check));
	else if (resembles_footer(&footers->trailing_raw))
		vhd_check_report(check, FOOTER_COOKIE, footers->trailing_offset, -1,
				 "the cookie of the trailing footer is damaged%s",
				 copy_state(check));
	else
		vhd_check_report(check, FOOTER_MISSING, check->file->size_bytes, -1,
				 "there is no footer at the end of the file%s", copy_state(check));
}

static void report_trailing(struct check *check)
{
	const struct vhd_footers *footers = &check->footers;
	unsigned faults = footers->trailing_faults;
	uint64_t at = footers->trailing_offset;

	if (!has_cookie(faults)) {
		report_no_cookie(check);
		return;
	}
	if (faults & VHD_FOOTER_CHECKSUM_BAD)
		vhd_check_report(check, FOOTER_CHECKSUM, at, -1,
				 "the checksum of the trailing footer is wrong%s",
				 check->footer->type == VHD_FIXED ? "" : copy_state(check));
	if (faults & VHD_FOOTER_VERSION_BAD)
		vhd_check_report(check, FOOTER_VERSION, at, -1,
				 "the trailing footer is of version %u.%u, only 1.0 is known",
				 footers->trailing.version >> 16,
				 footers->trailing.version & 0xffff);
	if (faults & VHD_FOOTER_TYPE_BAD)
		vhd_check_report(check, FOOTER_TYPE, at, -1, "the trailing footer has disk type %u",
				 footers->trailing.type);
	if (footers->old_form)
		vhd_check_report(
			check, FOOTER_511, at, -1,
			"the trailing footer has 511 bytes, as before Virtual PC 2004; some readers refuse it");
}

static void report_copy(struct check *check)
{
	const struct vhd_footers *footers = &check->footers;
	unsigned faults = footers->copy_faults;
	unsigned unreadable = VHD_FOOTER_COOKIE_BAD | VHD_FOOTER_CHECKSUM_BAD;

	if (check->footer->type == VHD_FIXED || footers->trailing_offset == 0)
		return;
	if (!has_cookie(faults))
		vhd_check_report(check, COPY_MISSING, 0, -1,
				 "there is no copy of the footer at the start of the file");
	else if (faults & VHD_FOOTER_CHECKSUM_BAD)
		vhd_check_report(check, COPY_CHECKSUM, 0, -1,
				 "the checksum of the footer's copy is wrong");
	else if ((!(footers->trailing_faults & unreadable) ||
		  check->footer == &footers->trailing) &&
		 memcmp(&footers->trailing_raw, &footers->copy_raw, sizeof(footers->copy_raw)))
		vhd_check_report(
			check, FOOTER_DIFFERS, 0, -1,
			"the footer's copy differs from the trailing footer, which is the one in force; some readers look at the copy first");
}

/* What the believed footer says, apart from its size. */
static void judge_fields(struct check *check)
{
	const struct vhd_footer *footer = check->footer;
	const struct vhd_disk_footer *raw = check->footer_raw;
	bool is_copy = footer == &check->footers.copy;
	uint64_t at = is_copy ? 0 : check->footers.trailing_offset;
	static const uint8_t zeros[sizeof(raw->reserved)];

	if (is_copy && check->footers.copy_faults & VHD_FOOTER_VERSION_BAD)
		vhd_check_report(check, FOOTER_VERSION, at, -1,
				 "the footer's copy is of version %u.%u, only 1.0 is known",
				 footer->version >> 16, footer->version & 0xffff);
	if (is_copy && check->footers.copy_faults & VHD_FOOTER_TYPE_BAD)
		vhd_check_report(check, FOOTER_TYPE, at, -1,
				 "the footer's copy has disk type %u, which has no copy",
				 footer->type);
	if (footer->version >> 16 == VHD_VERSION >> 16 && footer->version != VHD_VERSION)
		vhd_check_report_as(check, VHD_NOTE, FOOTER_VERSION, at, -1,
				    "the footer is of version 1.%u; it is read as 1.0",
				    footer->version & 0xffff);
	if ((footer->features & ~VHD_FEATURE_TEMPORARY) != VHD_FEATURE_RESERVED)
		vhd_check_report(check, FOOTER_FEATURES, at, -1,
				 "the feature bits are %08x, which no specification knows",
				 footer->features);
	if (memcmp(raw->reserved, zeros, sizeof(zeros)) ||
	    (footer->hidden && !vhd_footer_is_xen(footer)))
		vhd_check_report(
			check, FOOTER_RESERVED, at, -1,
			"reserved bytes of the footer are not zero; strict readers refuse it");
	if (hv_guid_is_null(&footer->uuid))
		vhd_check_report(check, UUID_NULL, at, -1,
				 "the disk has no UUID, so that it can have no children");
	if (footer->saved_state)
		vhd_check_report(
			check, SAVED_STATE, at, -1,
			"the disk belongs to a virtual machine in saved state: do not change it");
}

/* The creators that QEMU before version 10 reads by the current size; all others by CHS. */
static bool read_by_size(const struct vhd_footer *footer)
{
	static const char creators[][5] = { "win ", "qem2", "d2v ", "CTXS", "tap\0" };

	for (size_t i = 0; i < sizeof(creators) / sizeof(creators[0]); i++) {
		if (!memcmp(footer->creator, creators[i], sizeof(footer->creator)))
			return true;
	}
	return false;
}

static void judge_geometry(struct check *check, uint64_t at)
{
	const struct vhd_footer *footer = check->footer;
	uint64_t by_geometry = vhd_geometry_bytes(&footer->geometry);
	static const struct vhd_geometry max = { 65535, 16, 255 };

	if (by_geometry == footer->current_bytes || by_geometry == vhd_geometry_bytes(&max) ||
	    read_by_size(footer))
		return;
	vhd_check_report(
		check, SIZE_GEOMETRY, at, -1,
		"the geometry %u/%u/%u makes %llu bytes, the current size is %llu: readers differ, this one takes %llu",
		footer->geometry.cylinders, footer->geometry.heads,
		footer->geometry.sectors_per_track, (unsigned long long)by_geometry,
		(unsigned long long)footer->current_bytes, (unsigned long long)check->size_bytes);
}

/* For a fixed disk the file is what counts. */
static void judge_fixed_size(struct check *check, uint64_t at)
{
	uint64_t size = check->footer->current_bytes, room = check->footers.trailing_offset;

	if (size > room) {
		vhd_check_report(check, FOOTER_SIZE, at, -1,
				 "the footer says %llu bytes, the file has %llu before it",
				 (unsigned long long)size, (unsigned long long)room);
		check->size_bytes = room;
	} else if (room - size > CHECK_PADDING_BYTES && !check->file->block_device) {
		check->result.leaked_bytes += room - size;
		vhd_check_report(
			check, LEAK_TAIL, size, -1,
			"%llu bytes between the end of the disk and the footer belong to nothing",
			(unsigned long long)(room - size));
	}
	if (check->footer->data_offset != VHD_NOWHERE && check->footer->data_offset != UINT32_MAX)
		vhd_check_report_as(
			check, VHD_NOTE, HEADER_OFFSET, at, -1,
			"a fixed disk has no header, but the footer says that one is at byte %llu",
			(unsigned long long)check->footer->data_offset);
}

static void judge_size(struct check *check)
{
	const struct vhd_footer *footer = check->footer;
	uint64_t at = footer == &check->footers.copy ? 0 : check->footers.trailing_offset;
	bool from_geometry;

	check->size_bytes = vhd_footer_size(footer, &from_geometry);
	if (!footer->current_bytes || footer->current_bytes % HV_SECTOR_SIZE)
		vhd_check_report(
			check, FOOTER_SIZE, at, -1,
			"the size of the disk is %llu bytes, which is no number of sectors",
			(unsigned long long)footer->current_bytes);
	else if (footer->type != VHD_FIXED && footer->current_bytes > VHD_MAX_SPARSE_BYTES)
		vhd_check_report(
			check, FOOTER_SIZE, at, -1,
			"the size of the disk is %llu bytes, more than the 2040 GiB that the format can hold",
			(unsigned long long)footer->current_bytes);
	else if (footer->type == VHD_FIXED)
		judge_fixed_size(check, at);
	judge_geometry(check, at);
}

/* A file too short for any footer: is there at least a cookie? */
static int check_fragment(struct check *check, struct hv_err *err)
{
	uint8_t start[8];
	int rc = hv_file_pread(check->file, start, sizeof(start), 0, err);

	if (rc)
		return rc;
	if (memcmp(start, VHD_FOOTER_COOKIE, sizeof(start)))
		return hv_fail(err, -EINVAL, "%s: not a VHD: too short for a footer",
			       check->file->path);
	vhd_check_report(check, FOOTER_MISSING, check->file->size_bytes, -1,
			 "the file was cut inside a footer: it has %llu bytes, a footer has 512",
			 (unsigned long long)check->file->size_bytes);
	return 0;
}

static bool report_poison(struct check *check)
{
	unsigned faults = check->footers.trailing_faults;
	bool trailing = faults & VHD_FOOTER_POISON;

	if (!((faults | check->footers.copy_faults) & VHD_FOOTER_POISON))
		return false;
	vhd_check_report(
		check, XEN_POISON, trailing ? check->footers.trailing_offset : 0, -1,
		"a resize by Xen's tools was interrupted; finish or undo it there with its journal");
	return true;
}

int vhd_check_footers(struct check *check, struct hv_err *err)
{
	const struct vhd_footers *footers = &check->footers;
	int rc;

	if (check->file->size_bytes < VHD_OLD_FOOTER_BYTES)
		return check_fragment(check, err);
	rc = vhd_footers_read(check->file, &check->footers, err);
	if (rc || report_poison(check))
		return rc;
	choose(check);
	if (!check->footer)
		return hv_fail(err, -EINVAL, "%s: not a VHD: no footer at its end nor at its start",
			       check->file->path);
	check->result.type = check->footer->type;
	/* As in layout.c: without a trailing footer the whole file can hold blocks. */
	check->file_end =
		has_cookie(footers->trailing_faults) || footers->trailing_faults & VHD_FOOTER_OPEN ?
			footers->trailing_offset :
			check->file->size_bytes;
	report_trailing(check);
	report_copy(check);
	judge_fields(check);
	judge_size(check);
	return 0;
}
