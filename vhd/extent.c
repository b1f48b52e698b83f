/*
 * What is where: the BAT, the bitmaps and, below, the backing disk.
 */
#include <errno.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

/* A range that this file does not hold. */
static int absent(struct vhd *vhd, uint64_t offset, uint64_t length, unsigned flags,
		  struct hv_extent *ret, struct hv_err *err)
{
	struct hv_disk *backing = vhd->backing;
	int rc;

	*ret = (struct hv_extent){ .offset = offset,
				   .length = length,
				   .state = HV_EXTENT_ZERO,
				   .host_offset = HV_NO_HOST_OFFSET };
	if (!vhd->differencing)
		return 0;
	if (!backing) {
		ret->state = HV_EXTENT_UNMAPPED;
		return 0;
	}
	if (offset >= backing->size_bytes)
		return 0;
	length = hv_min_u64(length, backing->size_bytes - offset);
	rc = backing->ops->extent(backing, offset, length, flags, ret, err);
	if (rc == 0 && ret->state != HV_EXTENT_ZERO)
		ret->depth++;
	return rc;
}

static uint64_t unallocated_run(const struct vhd *vhd, uint32_t block, uint64_t offset,
				uint64_t length)
{
	uint64_t end = offset + length;
	uint64_t at = (uint64_t)(block + 1) << vhd->layout.block_shift;

	while (at < end && vhd->bat[++block] == VHD_UNUSED)
		at += vhd->layout.block_bytes;
	return hv_min_u64(at, end) - offset;
}

/*
 * A range that this file holds; where the file itself has a hole, it is zero. What a cut file has
 * lost is no hole: whoever reads it is told.
 */
static int stored(struct vhd *vhd, uint64_t offset, uint64_t host_offset, uint64_t length,
		  unsigned flags, struct hv_extent *ret, struct hv_err *err)
{
	int rc;

	if (!vhd->info.trailing_footer_valid && !vhd->base.writable &&
	    host_offset + length > vhd->layout.file_end) {
		*ret = (struct hv_extent){ .offset = offset,
					   .length = length,
					   .state = HV_EXTENT_DATA,
					   .host_offset = host_offset };
		return 0;
	}
	rc = hv_file_extent(vhd->file, host_offset, length, flags, ret, err);
	ret->offset = offset;
	return rc;
}

/* A range of an allocated block whose bitmap is at hand. */
static int by_bits(struct vhd *vhd, const uint8_t *bits, uint32_t block, uint32_t within,
		   uint32_t length, unsigned flags, struct hv_extent *ret, struct hv_err *err)
{
	uint64_t offset = ((uint64_t)block << vhd->layout.block_shift) + within;
	bool present;

	length = (uint32_t)hv_bits_run(bits, within >> HV_SECTOR_SHIFT, length >> HV_SECTOR_SHIFT,
				       &present)
		 << HV_SECTOR_SHIFT;
	if (!present)
		return absent(vhd, offset, length, flags, ret, err);
	return stored(vhd, offset, vhd_data_offset(vhd, block) + within, length, flags, ret, err);
}

static int in_block(struct vhd *vhd, uint32_t block, uint32_t within, uint32_t length,
		    unsigned flags, struct hv_extent *ret, struct hv_err *err)
{
	uint64_t offset = ((uint64_t)block << vhd->layout.block_shift) + within;
	uint64_t host_offset = vhd_data_offset(vhd, block) + within;
	const struct vhd_bitmap *cached = vhd_bitmap_peek(vhd, block);
	const uint8_t *bits;
	int rc;

	if (hv_bit_get(vhd->full, block))
		return stored(vhd, offset, host_offset, length, flags, ret, err);
	if (cached)
		return by_bits(vhd, cached->bits, block, within, length, flags, ret, err);
	if (!(flags & HV_EXTENT_COARSE)) {
		rc = vhd_bitmap_bits_now(vhd, block, &bits, err);
		return rc ? rc : by_bits(vhd, bits, block, within, length, flags, ret, err);
	}
	/* Without the bitmap: absent sectors of a dynamic disk are zero as holes are. */
	if (!vhd->differencing)
		return stored(vhd, offset, host_offset, length, flags, ret, err);
	*ret = (struct hv_extent){ .offset = offset,
				   .length = length,
				   .state = HV_EXTENT_DATA,
				   .host_offset = host_offset };
	return 0;
}

int vhd_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
	       struct hv_extent *ret, struct hv_err *err)
{
	struct vhd *vhd = vhd_of(disk);
	uint32_t block = (uint32_t)(offset >> vhd->layout.block_shift);
	uint32_t within = (uint32_t)(offset & (vhd->layout.block_bytes - 1));

	if (vhd->bat[block] == VHD_UNUSED)
		return absent(vhd, offset, unallocated_run(vhd, block, offset, length), flags, ret,
			      err);
	if (vhd->bad && hv_bit_get(vhd->bad, block))
		return hv_fail(
			err, -EBADMSG,
			"%s: the table entry of block %u cannot be right; vhdtool check tells more",
			disk->path, block);
	length = hv_min_u64(length, vhd->layout.block_bytes - within);
	return in_block(vhd, block, within, (uint32_t)length, flags, ret, err);
}

int vhd_backing_is_zero(struct vhd *vhd, uint64_t offset, uint64_t length, struct hv_err *err)
{
	uint64_t end = offset + length;

	while (offset < end) {
		struct hv_extent extent;
		int rc = absent(vhd, offset, end - offset, 0, &extent, err);

		if (rc)
			return rc;
		if (extent.state != HV_EXTENT_ZERO)
			return 0;
		offset += extent.length;
	}
	return 1;
}
