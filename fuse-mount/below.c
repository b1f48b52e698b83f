#include "fuse-mount/below.h"

#include <errno.h>
#include <string.h>

#include "fuse-mount/stream.h"

struct below {
	struct hv_disk base;
	struct fm_map *map;
	struct fm_handles handles;
	struct fm_stream *stream; /* the map's files are not read ahead by the kernel */
};

static int read_all(struct fm_map *map, const struct hv_io *io)
{
	uint64_t offset = io->offset;

	for (int i = 0; i < io->iov_count; i++) {
		const struct iovec *iov = &io->iov[i];
		int rc = iov->iov_len ? fm_map_read(map, iov->iov_base, offset, iov->iov_len) : 1;

		if (rc < 0)
			return rc;
		if (rc == 0)
			memset(iov->iov_base, 0, iov->iov_len);
		offset += iov->iov_len;
	}
	return 0;
}

static void below_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct below *below = (struct below *)disk;
	int rc = 0;

	if (io->op == HV_READ) {
		fm_stream_read_ahead(below->stream, below->map, io->offset, io->length,
				     disk->size_bytes);
		rc = read_all(below->map, io);
	}
	if (rc)
		hv_io_fail(disk, io, rc, "%s: cannot be read at byte %llu", disk->path,
			   (unsigned long long)io->offset);
	else
		hv_loop_finish(disk->loop, io, 0);
}

/* Where it lies is not told: the files are the map's. */
static int below_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			struct hv_extent *ret, struct hv_err *err)
{
	struct below *below = (struct below *)disk;
	struct fm_piece piece;
	int count = fm_map_look(below->map, offset, length, &piece, 1);

	(void)flags;
	if (count < 0)
		return hv_fail_errno(err, count, "%s", disk->path);
	/* A file that has been cut short may end within a sector. */
	if (piece.length % HV_SECTOR_SIZE)
		piece.length += HV_SECTOR_SIZE - piece.length % HV_SECTOR_SIZE;
	*ret = (struct hv_extent){
		.offset = offset,
		.length = piece.length,
		.state = piece.fd < 0 ? HV_EXTENT_ZERO : HV_EXTENT_DATA,
		.host_offset = HV_NO_HOST_OFFSET,
	};
	return 0;
}

static void below_close(struct hv_disk *disk)
{
	struct below *below = (struct below *)disk;

	fm_handles_done(&below->handles);
	free(below);
}

static const struct hv_disk_ops below_ops = {
	.format = "map",
	.submit = below_submit,
	.extent = below_extent,
	.close = below_close,
};

int fm_below_new(struct fm_map *map, struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	const struct hv_disk *disk = fm_map_disk(map);
	struct below *below = calloc(1, sizeof(*below));

	if (!below)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	below->base = (struct hv_disk){
		.ops = &below_ops, .loop = loop, .path = disk->path, .size_bytes = disk->size_bytes
	};
	below->map = map;
	fm_handles_init(&below->handles);
	below->stream = fm_stream_new(&below->handles);
	if (!below->stream) {
		below_close(&below->base);
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	}
	*ret = &below->base;
	return 0;
}
