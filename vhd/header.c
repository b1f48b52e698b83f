/*
 * The header of dynamic and differencing disks.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/utf.h"
#include "vhd/footer.h"

/*
 * UTF-16BE by the spec. Little-endian names exist; text in Latin script tells by where the zero
 * bytes are, and the big-endian reading wins when in doubt.
 */
static enum hv_utf16_order name_order(const uint8_t *name)
{
	unsigned zero_first = 0, zero_second = 0;

	for (size_t i = 0; i + 1 < VHD_PARENT_NAME_BYTES && (name[i] || name[i + 1]); i += 2) {
		zero_first += name[i] == 0;
		zero_second += name[i + 1] == 0;
	}
	return zero_second > zero_first ? HV_UTF16_LE : HV_UTF16_BE;
}

static unsigned header_faults(const struct vhd_disk_header *disk, const struct vhd_header *header)
{
	uint32_t sum =
		vhd_checksum(disk, sizeof(*disk), offsetof(struct vhd_disk_header, checksum));
	unsigned faults = 0;

	if (memcmp(disk->cookie, VHD_HEADER_COOKIE, 8))
		faults |= VHD_HEADER_COOKIE_BAD;
	if (hv_be32_get(disk->checksum) != sum)
		faults |= VHD_HEADER_CHECKSUM_BAD;
	if (header->version >> 16 != VHD_VERSION >> 16)
		faults |= VHD_HEADER_VERSION_BAD;
	if (header->block_bytes < HV_SECTOR_SIZE || !hv_is_power_of_two(header->block_bytes))
		faults |= VHD_HEADER_BLOCK_BAD;
	return faults;
}

unsigned vhd_header_decode(const struct vhd_disk_header *disk, struct vhd_header *ret)
{
	*ret = (struct vhd_header){
		.next = hv_be64_get(disk->next),
		.bat_offset = hv_be64_get(disk->bat_offset),
		.version = hv_be32_get(disk->version),
		.max_entries = hv_be32_get(disk->max_entries),
		.block_bytes = hv_be32_get(disk->block_size),
		.parent_timestamp = hv_be32_get(disk->parent_timestamp),
	};
	memcpy(ret->parent_uuid.b, disk->parent_uuid, sizeof(ret->parent_uuid.b));
	memcpy(ret->locators, disk->locators, sizeof(ret->locators));
	ret->parent_name = hv_utf16_decode(disk->parent_name, sizeof(disk->parent_name),
					   name_order(disk->parent_name));
	return header_faults(disk, ret);
}

const char *vhd_header_fault_name(unsigned faults)
{
	if (faults & VHD_HEADER_COOKIE_BAD)
		return "no cookie";
	if (faults & VHD_HEADER_CHECKSUM_BAD)
		return "wrong checksum";
	if (faults & VHD_HEADER_VERSION_BAD)
		return "unknown version";
	if (faults & VHD_HEADER_BLOCK_BAD)
		return "block size is no power of two of at least 512 bytes";
	return "valid";
}

int vhd_header_name_parent(const struct vhd_create_options *options, struct vhd_disk_header *ret,
			   struct hv_err *err)
{
	const char *name = options->parent_name ? options->parent_name : "";
	uint8_t text[VHD_PARENT_NAME_BYTES] = { 0 };

	/* Two bytes stay for the NUL. */
	if (hv_utf16_encode(name, HV_UTF16_BE, text, sizeof(text) - 2) < 0)
		return hv_fail(err, -EINVAL, "the parent's name cannot be recorded: '%s'", name);
	memcpy(ret->parent_name, text, sizeof(text));
	memcpy(ret->parent_uuid, options->parent_uuid.b, sizeof(ret->parent_uuid));
	ret->parent_timestamp = hv_be32_make(options->parent_timestamp);
	return 0;
}

void vhd_header_seal(struct vhd_disk_header *header)
{
	header->checksum = hv_be32_make(
		vhd_checksum(header, sizeof(*header), offsetof(struct vhd_disk_header, checksum)));
}
