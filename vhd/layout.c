/*
 * Where everything lies in a dynamic or differencing file, judged before it is believed.
 */
#include <errno.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

static void add_region(struct vhd_layout *layout, const char *name, uint64_t offset,
		       uint64_t length)
{
	layout->regions[layout->region_count++] = (struct vhd_region){ offset, length, name };
	layout->metadata_end = hv_max_u64(layout->metadata_end, offset + length);
}

/* end: of where it can lie, before the trailing footer. */
static int read_header(struct hv_file *file, uint64_t offset, uint64_t end,
		       struct vhd_header *header, struct hv_err *err)
{
	struct vhd_disk_header disk;
	unsigned faults;
	int rc;

	if (offset % HV_SECTOR_SIZE || offset < VHD_FOOTER_BYTES ||
	    !hv_range_inside(offset, sizeof(disk), end))
		return hv_fail(
			err, -EBADMSG,
			"%s: the footer says that the header is at byte %llu, where none can be",
			file->path, (unsigned long long)offset);
	rc = hv_file_pread(file, &disk, sizeof(disk), offset, err);
	if (rc)
		return rc;
	faults = vhd_header_decode(&disk, header);
	if (!header->parent_name)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	if (faults)
		return hv_fail(err, -EBADMSG, "%s: bad header: %s", file->path,
			       vhd_header_fault_name(faults));
	return 0;
}

static int judge_size(struct hv_file *file, struct vhd_layout *layout, uint32_t max_entries,
		      struct hv_err *err)
{
	uint64_t size = layout->size_bytes;

	if (!size || size % HV_SECTOR_SIZE || size > VHD_MAX_SPARSE_BYTES)
		return hv_fail(
			err, -EBADMSG,
			"%s: a virtual size of %llu bytes is not possible (1 sector to 2040 GiB)",
			file->path, (unsigned long long)size);
	layout->block_shift = (uint32_t)__builtin_ctz(layout->block_bytes);
	layout->block_count = (uint32_t)hv_div_up(size, layout->block_bytes);
	layout->max_entries = max_entries;
	if (max_entries < layout->block_count)
		return hv_fail(err, -EBADMSG,
			       "%s: the header has %u table entries, the size of the disk needs %u",
			       file->path, max_entries, layout->block_count);
	layout->bitmap_bytes = (uint32_t)hv_round_up(
		hv_div_up(layout->block_bytes / HV_SECTOR_SIZE, 8), HV_SECTOR_SIZE);
	return 0;
}

static int judge_bat(struct hv_file *file, struct vhd_layout *layout, struct hv_err *err)
{
	uint64_t used = (uint64_t)layout->block_count * 4;
	uint64_t whole = hv_round_up((uint64_t)layout->max_entries * 4, HV_SECTOR_SIZE);

	if (layout->bat_offset % HV_SECTOR_SIZE || layout->bat_offset < VHD_FOOTER_BYTES ||
	    !hv_range_inside(layout->bat_offset, used, layout->file_end))
		return hv_fail(
			err, -EBADMSG,
			"%s: a block allocation table of %u entries at byte %llu does not lie inside the file",
			file->path, layout->block_count, (unsigned long long)layout->bat_offset);
	if (layout->bat_offset < layout->header_offset + VHD_HEADER_BYTES &&
	    layout->header_offset < layout->bat_offset + used)
		return hv_fail(err, -EBADMSG,
			       "%s: the block allocation table at byte %llu overlaps the header",
			       file->path, (unsigned long long)layout->bat_offset);
	/* Entries that the disk does not need may be missing at the end of the file. */
	if (!hv_range_inside(layout->bat_offset, whole, layout->file_end)) {
		layout->beyond = "block allocation table";
		whole = used;
	}
	add_region(layout, "block allocation table", layout->bat_offset, whole);
	return 0;
}

/* Locators that cannot be right are left out: they reserve nothing. check reports them. */
static void add_locators(struct vhd_layout *layout, const struct vhd_header *header)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_disk_locator *disk = &header->locators[i];
		uint64_t offset = hv_be64_get(disk->data_offset);
		uint64_t length = hv_be32_get(disk->data_length);
		uint64_t space = hv_be32_get(disk->data_space);

		if (!hv_be32_get(disk->code))
			continue;
		if (space < HV_SECTOR_SIZE)
			space *= HV_SECTOR_SIZE;
		if (!hv_range_inside(offset, length, layout->file_end)) {
			layout->beyond = "parent locator";
			continue;
		}
		if (length)
			add_region(layout, "parent locator", offset, length);
		/* Some writers reserve less than they say, so that blocks may begin earlier. */
		if (hv_range_inside(offset, space, layout->file_end))
			layout->metadata_end = hv_max_u64(layout->metadata_end, offset + space);
	}
}

/* Xen's batmap follows the BAT; its header names its place. */
static int find_batmap(struct hv_file *file, const struct vhd_footer *footer,
		       struct vhd_layout *layout, struct hv_err *err)
{
	uint64_t at =
		layout->bat_offset + hv_round_up((uint64_t)layout->max_entries * 4, HV_SECTOR_SIZE);
	struct vhd_disk_batmap batmap;
	uint64_t offset, length;
	int rc;

	if (memcmp(footer->creator, "tap\0", 4) || footer->creator_version < 0x00010001 ||
	    !hv_range_inside(at, sizeof(batmap), layout->file_end))
		return 0;
	rc = hv_file_pread(file, &batmap, sizeof(batmap), at, err);
	if (rc || memcmp(batmap.cookie, VHD_BATMAP_COOKIE, 8))
		return rc;
	layout->batmap_version = hv_be32_get(batmap.version);
	layout->batmap_encrypted = batmap.keyhash_cookie == 1;
	add_region(layout, "batmap header", at, sizeof(batmap));
	offset = hv_be64_get(batmap.offset);
	length = (uint64_t)hv_be32_get(batmap.sectors) * HV_SECTOR_SIZE;
	if (!hv_range_inside(offset, length, layout->file_end))
		layout->beyond = "batmap";
	else if (length)
		add_region(layout, "batmap", offset, length);
	return 0;
}

int vhd_layout_read(struct hv_file *file, const struct vhd_footers *footers,
		    struct vhd_header *header, struct vhd_layout *ret, struct hv_err *err)
{
	const struct vhd_footer *footer = footers->best;
	struct vhd_layout layout = { .header_offset = footer->data_offset };
	bool from_geometry;
	int rc;

	/* Old Xen tools numbered bitmap bits from the other end. */
	if (!memcmp(footer->creator, "tap\0", 4) && footer->creator_version == 1)
		return hv_fail(
			err, -ENOTSUP,
			"%s: made by version 0.1 of Xen's tools, whose bitmaps have another bit order",
			file->path);
	/* Without a trailing footer the whole file can hold blocks. */
	layout.file_end = footers->trailing_faults & VHD_FOOTER_COOKIE_BAD &&
					  !(footers->trailing_faults &
					    (VHD_FOOTER_OPEN | VHD_FOOTER_POISON)) ?
				  file->size_bytes :
				  footers->trailing_offset;
	rc = read_header(file, layout.header_offset, layout.file_end, header, err);
	if (rc)
		return rc;
	layout.size_bytes = vhd_footer_size(footer, &from_geometry);
	layout.block_bytes = header->block_bytes;
	layout.bat_offset = header->bat_offset;
	add_region(&layout, "footer copy", 0, VHD_FOOTER_BYTES);
	add_region(&layout, "header", layout.header_offset, VHD_HEADER_BYTES);
	rc = judge_size(file, &layout, header->max_entries, err);
	if (rc == 0)
		rc = judge_bat(file, &layout, err);
	if (rc == 0 && footer->type == VHD_DIFFERENCING)
		add_locators(&layout, header);
	if (rc == 0)
		rc = find_batmap(file, footer, &layout, err);
	if (rc == 0)
		*ret = layout;
	return rc;
}
