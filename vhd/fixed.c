/*
 * Fixed disks: the data, then the footer.
 */
#include <errno.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

struct fixed {
	struct hv_disk base;
	struct hv_file *file;
	struct vhd_info info;
};

static struct fixed *fixed_of(struct hv_disk *disk)
{
	return (struct fixed *)disk;
}

static void fixed_submit(struct hv_disk *disk, struct hv_io *io)
{
	hv_file_submit(fixed_of(disk)->file, io);
}

static int fixed_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			struct hv_extent *ret, struct hv_err *err)
{
	(void)flags;
	return hv_file_extent(fixed_of(disk)->file, offset, length, ret, err);
}

static void fixed_close(struct hv_disk *disk)
{
	hv_file_close(fixed_of(disk)->file);
	free(disk);
}

static const struct hv_disk_ops fixed_ops = {
	.format = "fixed",
	.submit = fixed_submit,
	.extent = fixed_extent,
	.close = fixed_close,
};

int vhd_fixed_open(struct hv_file *file, const struct vhd_footers *footers, struct hv_disk **ret,
		   struct hv_err *err)
{
	bool from_geometry;
	uint64_t size = vhd_footer_size(footers->best, &from_geometry);
	struct fixed *fixed;

	/* Whatever the fields say, the disk ends before the footer. */
	size = hv_min_u64(size, footers->trailing_offset) & ~(uint64_t)(HV_SECTOR_SIZE - 1);
	if (!size)
		return hv_fail(err, -EBADMSG, "%s: the footer leaves no room for a disk",
			       file->path);
	fixed = calloc(1, sizeof(*fixed));
	if (!fixed)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	fixed->base = (struct hv_disk){ .ops = &fixed_ops,
					.loop = file->loop,
					.path = file->path,
					.size_bytes = size,
					.writable = file->writable };
	fixed->file = file;
	fixed->info = (struct vhd_info){ .type = VHD_FIXED,
					 .footer = *footers->best,
					 .trailing_footer_valid = true,
					 .size_from_geometry = from_geometry,
					 .data_end = size };
	*ret = &fixed->base;
	return 0;
}

bool vhd_is_fixed(const struct hv_disk *disk)
{
	return disk->ops == &fixed_ops;
}

struct vhd_info *vhd_fixed_info(struct hv_disk *disk)
{
	return &fixed_of(disk)->info;
}

struct hv_file *vhd_fixed_file(struct hv_disk *disk)
{
	return fixed_of(disk)->file;
}
