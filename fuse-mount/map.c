#include "fuse-mount/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/file.h"
#include "hvcore/log.h"
#include "snapshot/chain.h"

#define PIECES 64 /* looked up at once where they are only read */
#define HOLE_BYTES (64u << 10)

struct fm_map {
	struct hv_disk *disk;
	pthread_mutex_t lock; /* the disk and its loop */
};

int fm_map_new(struct hv_disk *disk, struct fm_map **ret, struct hv_err *err)
{
	struct fm_map *map = calloc(1, sizeof(*map));

	if (!map)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	map->disk = disk;
	pthread_mutex_init(&map->lock, NULL);
	/* Whoever reads through FUSE has read ahead already; twice is once too often. */
	for (unsigned depth = 0; snap_layer_at(disk, depth); depth++)
		posix_fadvise(snap_layer_file(snap_layer_at(disk, depth))->fd, 0, 0,
			      POSIX_FADV_RANDOM);
	*ret = map;
	return 0;
}

void fm_map_free(struct fm_map *map)
{
	struct hv_loop *loop;

	if (!map)
		return;
	loop = map->disk->loop;
	hv_disk_close(map->disk);
	hv_loop_free(loop);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

struct hv_disk *fm_map_disk(const struct fm_map *map)
{
	return map->disk;
}

static int extent_at(struct fm_map *map, uint64_t offset, uint64_t length, unsigned flags,
		     struct hv_extent *ret)
{
	HV_ERR(err);
	int rc = hv_disk_extent(map->disk, offset, length, flags, ret, &err);

	if (rc)
		hv_log(HV_LOG_WARN, "%s", hv_err_text(&err, rc));
	return rc ? -EIO : 0;
}

/* What lies behind the end of a file that has been cut short reads as zero. */
static int place(struct fm_map *map, const struct hv_extent *extent, struct fm_piece *ret)
{
	const struct hv_file *file;

	*ret = (struct fm_piece){ .fd = -1, .length = extent->length };
	if (extent->state != HV_EXTENT_DATA)
		return extent->state == HV_EXTENT_ZERO ? 0 : -EIO;
	if (extent->host_offset == HV_NO_HOST_OFFSET)
		return -EIO;
	file = snap_layer_file(snap_layer_at(map->disk, extent->depth));
	if (extent->host_offset >= file->size_bytes)
		return 0;
	ret->fd = file->fd;
	ret->offset = extent->host_offset;
	ret->length = hv_min_u64(extent->length, file->size_bytes - extent->host_offset);
	return 0;
}

static int look(struct fm_map *map, uint64_t offset, uint64_t length, unsigned flags,
		struct fm_piece *pieces, int max)
{
	uint64_t end = offset + length;
	int count = 0;

	while (offset < end && count < max) {
		struct hv_extent extent;
		/* Extents begin and end with sectors, requests anywhere. */
		uint64_t start = offset / HV_SECTOR_SIZE * HV_SECTOR_SIZE, skip = offset - start;
		int rc = extent_at(map, start, hv_round_up(end, HV_SECTOR_SIZE) - start, flags,
				   &extent);

		if (rc == 0)
			rc = place(map, &extent, &pieces[count]);
		if (rc)
			return rc;
		if (pieces[count].length <= skip) { /* the file ends within this sector */
			pieces[count].fd = -1;
			pieces[count].length = extent.length;
		}
		pieces[count].offset += skip;
		pieces[count].length = hv_min_u64(pieces[count].length - skip, end - offset);
		offset += pieces[count++].length;
	}
	return count;
}

static int locked_look(struct fm_map *map, uint64_t offset, uint64_t length, unsigned flags,
		       struct fm_piece *pieces, int max)
{
	int count;

	pthread_mutex_lock(&map->lock);
	count = look(map, offset, length, flags, pieces, max);
	pthread_mutex_unlock(&map->lock);
	return count;
}

int fm_map_look(struct fm_map *map, uint64_t offset, uint64_t length, struct fm_piece *pieces,
		int max)
{
	return locked_look(map, offset, length, 0, pieces, max);
}

static int read_piece(const struct fm_piece *piece, char *buf)
{
	uint64_t done = 0;

	if (piece->fd < 0) {
		memset(buf, 0, piece->length);
		return 0;
	}
	while (done < piece->length) {
		ssize_t n = pread(piece->fd, buf + done, piece->length - done,
				  (off_t)(piece->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (uint64_t)n;
	}
	return 0;
}

int fm_map_read(struct fm_map *map, void *buf, uint64_t offset, uint64_t length)
{
	/* To read a few zeros from a hole costs less than to look for holes. */
	unsigned flags = length < HOLE_BYTES ? HV_EXTENT_PLACES : 0;
	uint64_t end = offset + length;
	char *to = buf;

	while (offset < end) {
		struct fm_piece pieces[PIECES];
		int count = locked_look(map, offset, end - offset, flags, pieces, PIECES), rc = 0;

		if (count < 0)
			return count;
		if (count == 1 && pieces[0].fd < 0 && pieces[0].length == length)
			return 0;
		for (int i = 0; i < count && rc == 0; i++) {
			rc = read_piece(&pieces[i], to);
			to += pieces[i].length;
			offset += pieces[i].length;
		}
		if (rc)
			return rc;
	}
	return 1;
}

void fm_map_read_ahead(struct fm_map *map, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;

	while (offset < end) {
		struct fm_piece pieces[PIECES];
		int count = fm_map_look(map, offset, end - offset, pieces, PIECES);

		if (count < 0)
			return; /* the read itself will say why */
		for (int i = 0; i < count; i++) {
			if (pieces[i].fd >= 0)
				readahead(pieces[i].fd, (off_t)pieces[i].offset, pieces[i].length);
			offset += pieces[i].length;
		}
	}
}

int fm_map_seek(struct fm_map *map, uint64_t offset, uint64_t end, bool data, uint64_t *ret)
{
	while (offset < end) {
		struct fm_piece piece = { .fd = -1 };
		/* One extent at a time, so that readers get their turn. */
		int count = fm_map_look(map, offset, end - offset, &piece, 1);

		if (count < 0)
			return count;
		if ((piece.fd >= 0) == data)
			break;
		offset += piece.length;
	}
	*ret = hv_min_u64(offset, end);
	return 0;
}
