/*
 * A raw image: the file's bytes are the disk's.
 */
#include <errno.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "hvcore/file.h"

struct raw_disk {
	struct hv_disk base;
	struct hv_file *file;
};

static struct raw_disk *raw_of(struct hv_disk *disk)
{
	return (struct raw_disk *)disk;
}

static void raw_submit(struct hv_disk *disk, struct hv_io *io)
{
	hv_file_submit(raw_of(disk)->file, io);
}

static int raw_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		      struct hv_extent *ret, struct hv_err *err)
{
	return hv_file_extent(raw_of(disk)->file, offset, length, flags, ret, err);
}

static void raw_move(struct hv_disk *disk, struct hv_loop *loop)
{
	hv_file_move(raw_of(disk)->file, loop);
}

static void raw_close(struct hv_disk *disk)
{
	hv_file_close(raw_of(disk)->file);
	free(disk);
}

static const struct hv_disk_ops raw_ops = {
	.format = "raw",
	.submit = raw_submit,
	.extent = raw_extent,
	.move = raw_move,
	.close = raw_close,
};

int hv_raw_open(struct hv_file *file, uint64_t size_bytes, struct hv_disk **ret, struct hv_err *err)
{
	struct raw_disk *raw;

	if (size_bytes > INT64_MAX - HV_SECTOR_SIZE)
		return hv_fail(err, -EOVERFLOW, "%s: %llu bytes are too many for a disk",
			       file->path, (unsigned long long)size_bytes);
	raw = calloc(1, sizeof(*raw));
	if (!raw)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	raw->base = (struct hv_disk){ .ops = &raw_ops,
				      .loop = file->loop,
				      .path = file->path,
				      .size_bytes = hv_round_up(size_bytes, HV_SECTOR_SIZE),
				      .writable = file->writable };
	raw->file = file;
	*ret = &raw->base;
	return 0;
}

struct hv_file *hv_raw_get_file(struct hv_disk *disk)
{
	return disk->ops == &raw_ops ? raw_of(disk)->file : NULL;
}
