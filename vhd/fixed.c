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
	return hv_file_extent(fixed_of(disk)->file, offset, length, flags, ret, err);
}

static void fixed_move(struct hv_disk *disk, struct hv_loop *loop)
{
	hv_file_move(fixed_of(disk)->file, loop);
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
	.move = fixed_move,
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

/* The footer in its new place is durable before the one in the old place is cleared. */
static int grow(struct fixed *fixed, const struct vhd_disk_footer *footer, uint64_t size_bytes,
		struct hv_err *err)
{
	struct hv_file *file = fixed->file;
	uint64_t old_end = file->size_bytes, place = fixed->base.size_bytes;
	int rc = hv_file_reserve(file, place, size_bytes + VHD_FOOTER_BYTES - place);

	if (rc && rc != -EOPNOTSUPP && rc != -EINVAL && rc != -ENOSYS)
		return hv_fail_errno(err, rc, "%s: no room for %llu bytes", file->path,
				     (unsigned long long)size_bytes);
	rc = hv_file_pwrite(file, footer, VHD_FOOTER_BYTES, size_bytes, err);
	if (rc == 0)
		rc = hv_file_barrier(file, err);
	if (rc) {
		hv_file_truncate(file, old_end, NULL);
		return rc;
	}
	fixed->base.size_bytes = size_bytes;
	rc = hv_file_zero(file, place, hv_min_u64(old_end, size_bytes) - place, err);
	return rc ? rc : hv_file_barrier(file, err);
}

static int shrink(struct fixed *fixed, const struct vhd_disk_footer *footer, uint64_t size_bytes,
		  unsigned flags, struct hv_err *err)
{
	struct hv_file *file = fixed->file;
	int rc = hv_file_pwrite(file, footer, VHD_FOOTER_BYTES, size_bytes, err);

	if (rc == 0 && flags & VHD_RESIZE_OVERWRITE)
		rc = vhd_overwrite(file, size_bytes + VHD_FOOTER_BYTES,
				   file->size_bytes - VHD_FOOTER_BYTES, err);
	/* The file ends with a footer at every instant. */
	if (rc == 0)
		rc = hv_file_barrier(file, err);
	if (rc == 0)
		rc = hv_file_truncate(file, size_bytes + VHD_FOOTER_BYTES, err);
	if (rc)
		return rc;
	fixed->base.size_bytes = size_bytes;
	return hv_file_barrier(file, err);
}

int vhd_fixed_resize(struct hv_disk *disk, uint64_t size_bytes, unsigned flags, struct hv_err *err)
{
	struct fixed *fixed = fixed_of(disk);
	struct vhd_disk_footer footer;
	int rc;

	if (fixed->file->block_device)
		return hv_fail(err, -ENOTSUP,
			       "%s: a disk on a block device is as large as the device",
			       disk->path);
	rc = hv_file_pread(fixed->file, &footer, sizeof(footer),
			   fixed->file->size_bytes - VHD_FOOTER_BYTES, err);
	if (rc)
		return rc;
	vhd_footer_set_size(&footer, size_bytes);
	rc = size_bytes > disk->size_bytes ? grow(fixed, &footer, size_bytes, err) :
					     shrink(fixed, &footer, size_bytes, flags, err);
	if (disk->size_bytes == size_bytes) {
		vhd_footer_decode(&footer, &fixed->info.footer);
		fixed->info.data_end = size_bytes;
		fixed->info.size_from_geometry = false;
	}
	return rc;
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
