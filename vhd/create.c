/*
 * The metadata of a new disk.
 *
 *	fixed		data | footer
 *	dynamic		footer copy | header | BAT | (blocks) | footer
 *	differencing	footer copy | header | locators from 4096 | BAT | (blocks) | footer
 *
 * Locators stand before the BAT because some programs take the BAT's end for the end of metadata;
 * each has room for the longest path, so that it can be rewritten in place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

#define CREATOR "hvkt"
#define CREATOR_VERSION 0x00010000u
#define CREATOR_OS "Wi2k"

static int check_sparse(const struct vhd_create_options *options, struct hv_err *err)
{
	uint32_t block = options->block_bytes;

	if (options->size_bytes > VHD_MAX_SPARSE_BYTES)
		return hv_fail(
			err, -EINVAL,
			"%llu bytes are too many for a dynamic or differencing disk, whose limit is 2040 GiB",
			(unsigned long long)options->size_bytes);
	if (block && (!hv_is_power_of_two(block) || block < VHD_MIN_BLOCK_BYTES ||
		      block > VHD_MAX_BLOCK_BYTES))
		return hv_fail(
			err, -EINVAL,
			"a block size of %u bytes is not possible; it is a power of two from 512K to 256M",
			block);
	if (options->type == VHD_DIFFERENCING && hv_guid_is_null(&options->parent_uuid))
		return hv_fail(err, -EINVAL, "a parent without a UUID can have no children");
	return 0;
}

int vhd_create_check(const struct vhd_create_options *options, struct hv_err *err)
{
	uint64_t size = options->size_bytes;

	if (!size || size % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL, "a size of %llu bytes is not a multiple of 512",
			       (unsigned long long)size);
	if (options->type != VHD_FIXED)
		return check_sparse(options, err);
	if (size > VHD_MAX_FIXED_BYTES)
		return hv_fail(err, -EINVAL,
			       "%llu bytes are too many for a fixed disk, whose limit is 64 TiB",
			       (unsigned long long)size);
	return 0;
}

static int make_footer(const struct vhd_create_options *options, struct vhd_disk_footer *ret,
		       struct hv_err *err)
{
	struct vhd_footer footer = {
		.features = VHD_FEATURE_RESERVED,
		.version = VHD_VERSION,
		.data_offset = options->type == VHD_FIXED ? VHD_NOWHERE : VHD_FOOTER_BYTES,
		.timestamp = (uint32_t)(time(NULL) - VHD_EPOCH),
		.creator_version = CREATOR_VERSION,
		.original_bytes = options->size_bytes,
		.current_bytes = options->size_bytes,
		.geometry = options->geometry == VHD_GEOMETRY_SPEC ?
				    vhd_geometry_of(options->size_bytes) :
				    vhd_geometry_exact_or_max(options->size_bytes),
		.type = options->type,
	};
	int rc = hv_guid_random(&footer.uuid);

	if (rc)
		return hv_fail_errno(err, rc, "cannot make a UUID");
	memcpy(footer.creator, CREATOR, 4);
	memcpy(footer.creator_os, CREATOR_OS, 4);
	vhd_footer_encode(&footer, ret);
	return 0;
}

static int write_locators(struct hv_file *file, const struct vhd_paths *paths,
			  struct vhd_disk_header *header, uint64_t *end, struct hv_err *err)
{
	uint64_t offset = VHD_LAYOUT_ALIGN;

	for (unsigned i = 0; i < paths->count; i++) {
		int rc = hv_file_pwrite(file, paths->paths[i].text, VHD_LOCATOR_SPACE, offset, err);

		if (rc)
			return rc;
		vhd_locator_encode(&paths->paths[i], offset, VHD_LOCATOR_SPACE,
				   &header->locators[i]);
		offset += VHD_LOCATOR_SPACE;
	}
	*end = offset;
	return 0;
}

static int name_parent(struct hv_file *file, const struct vhd_create_options *options,
		       struct vhd_disk_header *header, uint64_t *end, struct hv_err *err)
{
	struct vhd_paths paths = { 0 };
	int rc = vhd_header_name_parent(options, header, err);

	if (rc == 0)
		rc = vhd_paths_encode(options, &paths, err);
	if (rc == 0)
		rc = write_locators(file, &paths, header, end, err);
	vhd_paths_free(&paths);
	return rc;
}

static int write_empty_bat(struct hv_file *file, uint64_t offset, uint64_t bytes,
			   struct hv_err *err)
{
	size_t piece = hv_min_u64(bytes, 1u << 20);
	HV_AUTO(free) uint8_t *unused = malloc(piece);

	if (!unused)
		return hv_fail(err, -ENOMEM, "not enough memory");
	memset(unused, 0xff, piece);
	for (uint64_t done = 0; done < bytes; done += piece) {
		int rc = hv_file_pwrite(file, unused, hv_min_u64(piece, bytes - done),
					offset + done, err);

		if (rc)
			return rc;
	}
	return 0;
}

static int write_sparse(struct hv_file *file, const struct vhd_create_options *options,
			const struct vhd_disk_footer *footer, struct hv_err *err)
{
	uint32_t block = options->block_bytes ? options->block_bytes : VHD_DEFAULT_BLOCK_BYTES;
	uint32_t entries = (uint32_t)hv_div_up(options->size_bytes, block);
	uint64_t bat_bytes = hv_round_up((uint64_t)entries * 4, HV_SECTOR_SIZE);
	uint64_t bat_offset = VHD_FOOTER_BYTES + VHD_HEADER_BYTES;
	struct vhd_disk_header header = { .next = hv_be64_make(VHD_NOWHERE),
					  .version = hv_be32_make(VHD_VERSION),
					  .max_entries = hv_be32_make(entries),
					  .block_size = hv_be32_make(block) };
	int rc = 0;

	memcpy(header.cookie, VHD_HEADER_COOKIE, 8);
	if (options->type == VHD_DIFFERENCING)
		rc = name_parent(file, options, &header, &bat_offset, err);
	header.bat_offset = hv_be64_make(bat_offset);
	vhd_header_seal(&header);
	if (rc == 0)
		rc = write_empty_bat(file, bat_offset, bat_bytes, err);
	if (rc == 0)
		rc = hv_file_pwrite(file, &header, sizeof(header), VHD_FOOTER_BYTES, err);
	if (rc == 0)
		rc = hv_file_pwrite(file, footer, sizeof(*footer), 0, err);
	if (rc == 0)
		rc = hv_file_pwrite(file, footer, sizeof(*footer),
				    vhd_footer_place(bat_offset + bat_bytes), err);
	return rc;
}

int vhd_create(struct hv_file *file, const struct vhd_create_options *options, struct hv_err *err)
{
	struct vhd_disk_footer footer;
	uint64_t place = options->size_bytes;
	int rc = vhd_create_check(options, err);

	if (rc == 0)
		rc = make_footer(options, &footer, err);
	if (rc)
		return rc;
	if (options->type != VHD_FIXED) {
		if (file->block_device)
			return hv_fail(err, -EINVAL,
				       "%s: a block device can hold a fixed disk only", file->path);
		return write_sparse(file, options, &footer, err);
	}
	if (file->block_device) {
		if (place > file->size_bytes - VHD_FOOTER_BYTES)
			return hv_fail(err, -ENOSPC, "%s: the device has room for %llu bytes",
				       file->path,
				       (unsigned long long)(file->size_bytes - VHD_FOOTER_BYTES));
		place = file->size_bytes - VHD_FOOTER_BYTES;
	}
	return hv_file_pwrite(file, &footer, sizeof(footer), place, err);
}

const char *vhd_azure_objection(const struct vhd_info *info, uint64_t size_bytes,
				uint64_t file_bytes)
{
	if (info->type != VHD_FIXED)
		return "it is not a fixed disk";
	if (size_bytes % (1u << 20))
		return "its size is not a whole number of MiB";
	if (size_bytes < 20u << 20)
		return "it is smaller than 20 MiB";
	if (size_bytes > UINT64_C(32) << 40)
		return "it is larger than 32 TiB";
	if (file_bytes != size_bytes + VHD_FOOTER_BYTES)
		return "the file is not exactly the disk and its footer";
	return NULL;
}
