/*
 * Footers: decoding, encoding, finding both in a file, and the virtual size they mean.
 */
#include "vhd/footer.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/checked.h"

uint32_t vhd_checksum(const void *data, size_t length, size_t checksum_offset)
{
	const uint8_t *byte = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++) {
		if (i < checksum_offset || i >= checksum_offset + 4)
			sum += byte[i];
	}
	return ~sum;
}

/*
 * Old Xen tools set `hidden` without refreshing the checksum; the sum may match with that byte
 * taken as zero.
 */
static bool checksum_matches(const struct vhd_disk_footer *disk, uint32_t stored)
{
	uint32_t sum =
		vhd_checksum(disk, sizeof(*disk), offsetof(struct vhd_disk_footer, checksum));

	return stored == sum || stored == sum + disk->hidden;
}

static bool filled_with(const void *data, size_t length, uint8_t value)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < length; i++) {
		if (byte[i] != value)
			return false;
	}
	return true;
}

static unsigned footer_faults(const struct vhd_disk_footer *disk, const struct vhd_footer *footer)
{
	unsigned faults = 0;

	if (memcmp(disk->cookie, VHD_FOOTER_COOKIE, 8)) {
		faults |= VHD_FOOTER_COOKIE_BAD;
		/* An old footer of 511 bytes leaves the last byte out. */
		if (filled_with(disk, VHD_OLD_FOOTER_BYTES, VHD_OPEN_BYTE))
			faults |= VHD_FOOTER_OPEN;
		if (!memcmp(disk->cookie, VHD_POISON_COOKIE, 8))
			faults |= VHD_FOOTER_POISON;
		return faults;
	}
	if (!checksum_matches(disk, footer->checksum))
		faults |= VHD_FOOTER_CHECKSUM_BAD;
	if (footer->version >> 16 != VHD_VERSION >> 16)
		faults |= VHD_FOOTER_VERSION_BAD;
	if (footer->type < VHD_FIXED || footer->type > VHD_DIFFERENCING)
		faults |= VHD_FOOTER_TYPE_BAD;
	return faults;
}

unsigned vhd_footer_decode(const struct vhd_disk_footer *disk, struct vhd_footer *ret)
{
	*ret = (struct vhd_footer){
		.features = hv_be32_get(disk->features),
		.version = hv_be32_get(disk->version),
		.data_offset = hv_be64_get(disk->data_offset),
		.timestamp = hv_be32_get(disk->timestamp),
		.creator_version = hv_be32_get(disk->creator_version),
		.original_bytes = hv_be64_get(disk->original_size),
		.current_bytes = hv_be64_get(disk->current_size),
		.geometry = { hv_be16_get(disk->cylinders), disk->heads, disk->sectors_per_track },
		.type = hv_be32_get(disk->type),
		.checksum = hv_be32_get(disk->checksum),
		.saved_state = disk->saved_state,
		.hidden = disk->hidden,
	};
	memcpy(ret->creator, disk->creator, sizeof(ret->creator));
	memcpy(ret->creator_os, disk->creator_os, sizeof(ret->creator_os));
	memcpy(ret->uuid.b, disk->uuid, sizeof(ret->uuid.b));
	return footer_faults(disk, ret);
}

void vhd_footer_encode(const struct vhd_footer *footer, struct vhd_disk_footer *ret)
{
	*ret = (struct vhd_disk_footer){
		.features = hv_be32_make(footer->features),
		.version = hv_be32_make(footer->version),
		.data_offset = hv_be64_make(footer->data_offset),
		.timestamp = hv_be32_make(footer->timestamp),
		.creator_version = hv_be32_make(footer->creator_version),
		.original_size = hv_be64_make(footer->original_bytes),
		.current_size = hv_be64_make(footer->current_bytes),
		.cylinders = hv_be16_make(footer->geometry.cylinders),
		.heads = footer->geometry.heads,
		.sectors_per_track = footer->geometry.sectors_per_track,
		.type = hv_be32_make(footer->type),
		.saved_state = footer->saved_state,
		.hidden = footer->hidden,
	};
	memcpy(ret->cookie, VHD_FOOTER_COOKIE, 8);
	memcpy(ret->creator, footer->creator, sizeof(ret->creator));
	memcpy(ret->creator_os, footer->creator_os, sizeof(ret->creator_os));
	memcpy(ret->uuid, footer->uuid.b, sizeof(ret->uuid));
	ret->checksum = hv_be32_make(
		vhd_checksum(ret, sizeof(*ret), offsetof(struct vhd_disk_footer, checksum)));
}

void vhd_footer_set_size(struct vhd_disk_footer *footer, uint64_t size_bytes)
{
	struct vhd_geometry geometry = vhd_geometry_exact_or_max(size_bytes);

	footer->current_size = hv_be64_make(size_bytes);
	/* libvhdi takes the original size for the size. A child's tells how large its parent was. */
	if (hv_be32_get(footer->type) != VHD_DIFFERENCING)
		footer->original_size = hv_be64_make(size_bytes);
	footer->cylinders = hv_be16_make(geometry.cylinders);
	footer->heads = geometry.heads;
	footer->sectors_per_track = geometry.sectors_per_track;
	footer->checksum = hv_be32_make(
		vhd_checksum(footer, sizeof(*footer), offsetof(struct vhd_disk_footer, checksum)));
}

const char *vhd_footer_fault_name(unsigned faults)
{
	if (faults & VHD_FOOTER_POISON)
		return "an interrupted resize by Xen's tools";
	if (faults & VHD_FOOTER_OPEN)
		return "left open by Xen's tools";
	if (faults & VHD_FOOTER_COOKIE_BAD)
		return "no cookie";
	if (faults & VHD_FOOTER_CHECKSUM_BAD)
		return "wrong checksum";
	if (faults & VHD_FOOTER_VERSION_BAD)
		return "unknown version";
	if (faults & VHD_FOOTER_TYPE_BAD)
		return "unknown disk type";
	return "valid";
}

static int read_trailing(struct hv_file *file, struct vhd_footers *ret, struct hv_err *err)
{
	uint64_t size = file->size_bytes;
	int rc;

	ret->trailing_offset = size - VHD_FOOTER_BYTES;
	rc = hv_file_pread(file, &ret->trailing_raw, VHD_FOOTER_BYTES, ret->trailing_offset, err);
	if (rc)
		return rc;
	ret->trailing_faults = vhd_footer_decode(&ret->trailing_raw, &ret->trailing);
	if (!(ret->trailing_faults & VHD_FOOTER_COOKIE_BAD) || size % HV_SECTOR_SIZE != 511)
		return 0;

	/* Before Virtual PC 2004 the last reserved byte was left out. */
	ret->old_form = true;
	ret->trailing_offset = size - VHD_OLD_FOOTER_BYTES;
	rc = hv_file_pread(file, &ret->trailing_raw, VHD_FOOTER_BYTES, ret->trailing_offset, err);
	if (rc)
		return rc;
	ret->trailing_faults = vhd_footer_decode(&ret->trailing_raw, &ret->trailing);
	return 0;
}

int vhd_footers_read(struct hv_file *file, struct vhd_footers *ret, struct hv_err *err)
{
	int rc = 0;

	*ret = (struct vhd_footers){ .trailing_faults = VHD_FOOTER_COOKIE_BAD,
				     .copy_faults = VHD_FOOTER_COOKIE_BAD };
	if (file->size_bytes < VHD_OLD_FOOTER_BYTES)
		return 0;
	if (file->size_bytes >= VHD_FOOTER_BYTES) {
		rc = read_trailing(file, ret, err);
	} else { /* 511 bytes: an old footer and nothing else */
		ret->old_form = true;
		rc = hv_file_pread(file, &ret->trailing_raw, VHD_FOOTER_BYTES, 0, err);
		ret->trailing_faults = vhd_footer_decode(&ret->trailing_raw, &ret->trailing);
	}
	if (rc)
		return rc;
	rc = hv_file_pread(file, &ret->copy_raw, VHD_FOOTER_BYTES, 0, err);
	if (rc)
		return rc;
	ret->copy_faults = vhd_footer_decode(&ret->copy_raw, &ret->copy);
	/* A fixed disk has no copy: what looks like one is the guest's. */
	if (!ret->copy_faults && ret->copy.type == VHD_FIXED)
		ret->copy_faults |= VHD_FOOTER_TYPE_BAD;
	if (!ret->trailing_faults)
		ret->best = &ret->trailing;
	else if (!ret->copy_faults)
		ret->best = &ret->copy;
	return 0;
}

bool vhd_footers_same_disk(const struct vhd_footers *footers)
{
	const struct vhd_footer *a = &footers->trailing, *b = &footers->copy;

	return !footers->trailing_faults && !footers->copy_faults && a->type == b->type &&
	       hv_guid_equal(&a->uuid, &b->uuid);
}

/*
 * Virtual PC and older QEMU mean the size by geometry; everybody else, and whoever has reached the
 * largest geometry, means the current size. A geometry beyond the current size (Microsoft's VhdTool
 * computed it wrongly) is never believed.
 */
uint64_t vhd_footer_size(const struct vhd_footer *footer, bool *from_geometry)
{
	const struct vhd_geometry *geometry = &footer->geometry;
	uint64_t by_geometry = vhd_geometry_bytes(geometry);
	bool is_max = geometry->cylinders == 65535 && geometry->heads == 16 &&
		      geometry->sectors_per_track == 255;
	bool wants = !memcmp(footer->creator, "vpc ", 4) || !memcmp(footer->creator, "qemu", 4);

	*from_geometry = wants && !is_max && by_geometry && by_geometry < footer->current_bytes;
	return *from_geometry ? by_geometry : footer->current_bytes;
}

bool vhd_footer_is_xen(const struct vhd_footer *footer)
{
	return !memcmp(footer->creator, "tap\0", 4) || !memcmp(footer->creator, "CTXS", 4);
}
