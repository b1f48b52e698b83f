#include "fuse-mount/window.h"

#include <errno.h>

struct window {
	struct hv_disk base;
	struct hv_disk *below;
	uint64_t offset;
};

static void window_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct window *window = (struct window *)disk;

	if (io->op != HV_FLUSH)
		io->offset += window->offset;
	hv_disk_submit(window->below, io);
}

static int window_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			 struct hv_extent *ret, struct hv_err *err)
{
	struct window *window = (struct window *)disk;
	int rc = window->below->ops->extent(window->below, offset + window->offset, length, flags,
					    ret, err);

	if (rc == 0)
		ret->offset -= window->offset;
	return rc;
}

static void window_close(struct hv_disk *disk)
{
	free(disk);
}

static const struct hv_disk_ops window_ops = {
	.format = "window",
	.submit = window_submit,
	.extent = window_extent,
	.close = window_close,
};

int fm_window_new(struct hv_disk *below, uint64_t offset, uint64_t length, struct hv_disk **ret,
		  struct hv_err *err)
{
	struct window *window = calloc(1, sizeof(*window));

	if (!window)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", below->path);
	window->base = (struct hv_disk){ .ops = &window_ops,
					 .loop = below->loop,
					 .path = below->path,
					 .size_bytes = length,
					 .writable = below->writable };
	window->below = below;
	window->offset = offset;
	*ret = &window->base;
	return 0;
}
