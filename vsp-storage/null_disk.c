/*
 * A disk without anything behind it.
 */
#include "vsp-storage/null_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/size.h"

#define PREFIX "null:"

struct null_disk {
	struct hv_disk base;
	char path[];
};

/* Zeros are really written: memory for replies may hold what others have read. */
static void null_submit(struct hv_disk *disk, struct hv_io *io)
{
	if (io->op == HV_READ)
		hv_io_fill_zero(io, 0, io->length);
	hv_loop_finish(disk->loop, io, 0);
}

static int null_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		       struct hv_extent *ret, struct hv_err *err)
{
	(void)disk;
	(void)flags;
	(void)err;
	*ret = (struct hv_extent){ .offset = offset,
				   .length = length,
				   .state = HV_EXTENT_ZERO,
				   .host_offset = HV_NO_HOST_OFFSET };
	return 0;
}

static void null_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops null_ops = {
	.format = "null",
	.submit = null_submit,
	.extent = null_extent,
	.close = null_close,
};

bool vsp_is_null_disk(const char *path)
{
	return !strncmp(path, PREFIX, strlen(PREFIX));
}

int vsp_null_disk_open(const char *path, struct hv_loop *loop, struct hv_disk **ret,
		       struct hv_err *err)
{
	struct null_disk *null;
	uint64_t size_bytes;
	int rc = hv_size_parse(path + strlen(PREFIX), &size_bytes, err);

	if (rc)
		return rc;
	if (!size_bytes || size_bytes % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL, "\"%s\": a disk has a multiple of %u bytes", path,
			       HV_SECTOR_SIZE);
	null = malloc(sizeof(*null) + strlen(path) + 1);
	if (!null)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", path);
	strcpy(null->path, path);
	null->base = (struct hv_disk){ .ops = &null_ops,
				       .loop = loop,
				       .path = null->path,
				       .size_bytes = size_bytes,
				       .writable = true };
	*ret = &null->base;
	return 0;
}
