/*
 * Sector bitmaps in memory: a cache with least-recently-used eviction. What is dirty or in use
 * stays; a bitmap that turns out to be all ones is remembered as one bit (vhd->full) and dropped.
 */
#include "hvcore/bitmap.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vhd/image.h"

static struct vhd_bitmap **bucket_of(struct vhd *vhd, uint32_t block)
{
	return &vhd->cache.buckets[(block * UINT32_C(2654435761)) >> 20 & (VHD_BITMAP_BUCKETS - 1)];
}

static struct vhd_bitmap *find(struct vhd *vhd, uint32_t block)
{
	struct vhd_bitmap *bitmap = *bucket_of(vhd, block);

	while (bitmap && bitmap->block != block)
		bitmap = bitmap->hash_next;
	return bitmap;
}

static void lru_remove(struct vhd_bitmap_cache *cache, struct vhd_bitmap *bitmap)
{
	if (bitmap->newer)
		bitmap->newer->older = bitmap->older;
	else
		cache->newest = bitmap->older;
	if (bitmap->older)
		bitmap->older->newer = bitmap->newer;
	else
		cache->oldest = bitmap->newer;
}

static void lru_add(struct vhd_bitmap_cache *cache, struct vhd_bitmap *bitmap)
{
	bitmap->newer = NULL;
	bitmap->older = cache->newest;
	if (cache->newest)
		cache->newest->newer = bitmap;
	else
		cache->oldest = bitmap;
	cache->newest = bitmap;
}

static bool in_use(const struct vhd_bitmap *bitmap)
{
	return bitmap->loading || bitmap->dirty || bitmap->pins;
}

void vhd_bitmap_drop(struct vhd *vhd, struct vhd_bitmap *bitmap)
{
	struct vhd_bitmap **link = bucket_of(vhd, bitmap->block);

	while (*link != bitmap)
		link = &(*link)->hash_next;
	*link = bitmap->hash_next;
	lru_remove(&vhd->cache, bitmap);
	vhd->cache.count--;
	free(bitmap->bits);
	free(bitmap);
}

bool vhd_bitmap_forget(struct vhd *vhd, uint32_t block)
{
	struct vhd_bitmap *bitmap = find(vhd, block), **link = &vhd->cache.dirty;

	if (!bitmap)
		return true;
	if (bitmap->loading || bitmap->pins)
		return false;
	if (bitmap->dirty) {
		while (*link != bitmap)
			link = &(*link)->dirty_next;
		*link = bitmap->dirty_next;
		vhd->cache.dirty_count--;
	}
	vhd_bitmap_drop(vhd, bitmap);
	return true;
}

static void evict(struct vhd *vhd)
{
	struct vhd_bitmap *bitmap = vhd->cache.oldest;

	while (bitmap && vhd->cache.count >= vhd->cache.limit) {
		struct vhd_bitmap *newer = bitmap->newer;

		if (!in_use(bitmap))
			vhd_bitmap_drop(vhd, bitmap);
		bitmap = newer;
	}
}

static struct vhd_bitmap *insert(struct vhd *vhd, uint32_t block)
{
	struct vhd_bitmap *bitmap = calloc(1, sizeof(*bitmap));
	struct vhd_bitmap **bucket = bucket_of(vhd, block);
	void *bits;

	if (!bitmap || posix_memalign(&bits, VHD_LAYOUT_ALIGN, vhd->layout.bitmap_bytes)) {
		free(bitmap);
		return NULL;
	}
	evict(vhd);
	memset(bits, 0, vhd->layout.bitmap_bytes);
	bitmap->bits = bits;
	bitmap->block = block;
	bitmap->vhd = vhd;
	bitmap->hash_next = *bucket;
	*bucket = bitmap;
	lru_add(&vhd->cache, bitmap);
	vhd->cache.count++;
	return bitmap;
}

/* Remembers a full bitmap as one bit. */
static bool note_full(struct vhd *vhd, uint32_t block, const uint8_t *bits)
{
	if (!hv_bits_all(bits, 0, vhd_block_sectors(vhd, block)))
		return false;
	hv_bit_set(vhd->full, block);
	return true;
}

static void load_done(struct hv_io *load, int result)
{
	struct vhd_bitmap *bitmap =
		(struct vhd_bitmap *)((char *)load - offsetof(struct vhd_bitmap, load));
	struct vhd *vhd = bitmap->vhd;
	struct hv_io *io = bitmap->waiters, *ordered = NULL;
	uint32_t block = bitmap->block;

	bitmap->loading = false;
	bitmap->waiters = NULL;
	if (result || note_full(vhd, block, bitmap->bits))
		vhd_bitmap_drop(vhd, bitmap);
	while (io) { /* oldest first */
		struct hv_io *next = io->next;

		io->next = ordered;
		ordered = io;
		io = next;
	}
	while (ordered) {
		io = ordered;
		ordered = io->next;
		if (result)
			hv_io_fail(&vhd->base, io, result,
				   "%s: cannot read the sector bitmap of block %u: %s",
				   vhd->base.path, block, strerror(-result));
		else
			vhd_route(vhd, io);
	}
}

static void start_load(struct vhd *vhd, struct vhd_bitmap *bitmap)
{
	bitmap->loading = true;
	bitmap->load_iov = (struct iovec){ bitmap->bits, vhd->layout.bitmap_bytes };
	bitmap->load = (struct hv_io){ .op = HV_READ,
				       .offset = vhd_bitmap_offset(vhd, bitmap->block),
				       .length = vhd->layout.bitmap_bytes,
				       .iov = &bitmap->load_iov,
				       .iov_count = 1,
				       .done = load_done };
	hv_file_submit(vhd->file, &bitmap->load);
}

struct vhd_bitmap *vhd_bitmap_get(struct vhd *vhd, uint32_t block, struct hv_io *io)
{
	struct vhd_bitmap *bitmap = find(vhd, block);

	if (!bitmap) {
		bitmap = insert(vhd, block);
		if (!bitmap) {
			hv_io_fail(&vhd->base, io, -ENOMEM, "%s: not enough memory",
				   vhd->base.path);
			return NULL;
		}
		start_load(vhd, bitmap);
	}
	if (bitmap->loading) {
		io->next = bitmap->waiters;
		bitmap->waiters = io;
		return NULL;
	}
	if (bitmap != vhd->cache.newest) {
		lru_remove(&vhd->cache, bitmap);
		lru_add(&vhd->cache, bitmap);
	}
	return bitmap;
}

struct vhd_bitmap *vhd_bitmap_peek(struct vhd *vhd, uint32_t block)
{
	struct vhd_bitmap *bitmap = find(vhd, block);

	return bitmap && !bitmap->loading ? bitmap : NULL;
}

struct vhd_bitmap *vhd_bitmap_make(struct vhd *vhd, uint32_t block)
{
	return insert(vhd, block);
}

static int read_bits(struct vhd *vhd, uint32_t block, uint8_t *bits, struct hv_err *err)
{
	return hv_file_pread(vhd->file, bits, vhd->layout.bitmap_bytes,
			     vhd_bitmap_offset(vhd, block), err);
}

int vhd_bitmap_bits_now(struct vhd *vhd, uint32_t block, const uint8_t **ret, struct hv_err *err)
{
	struct vhd_bitmap *bitmap = find(vhd, block);
	int rc;

	if (bitmap && !bitmap->loading) {
		*ret = bitmap->bits;
		return 0;
	}
	if (!vhd->cache.spare)
		vhd->cache.spare = malloc(vhd->layout.bitmap_bytes);
	if (!vhd->cache.spare)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	rc = read_bits(vhd, block, vhd->cache.spare, err);
	if (rc)
		return rc;
	*ret = vhd->cache.spare;
	if (note_full(vhd, block, vhd->cache.spare) || bitmap)
		return 0;
	/* Keep it: whoever asks for one extent of a block asks for the next. */
	bitmap = insert(vhd, block);
	if (bitmap) {
		memcpy(bitmap->bits, vhd->cache.spare, vhd->layout.bitmap_bytes);
		*ret = bitmap->bits;
	}
	return 0;
}

void vhd_bitmap_dirty(struct vhd *vhd, struct vhd_bitmap *bitmap)
{
	if (bitmap->dirty)
		return;
	bitmap->dirty = true;
	bitmap->dirty_next = vhd->cache.dirty;
	vhd->cache.dirty = bitmap;
	vhd->cache.dirty_count++;
}

void vhd_bitmap_mark(struct vhd *vhd, struct vhd_bitmap *bitmap, uint32_t start, uint32_t count)
{
	hv_bits_set(bitmap->bits, start, count);
	vhd_bitmap_dirty(vhd, bitmap);
	note_full(vhd, bitmap->block, bitmap->bits);
}

void vhd_bitmaps_free(struct vhd *vhd)
{
	while (vhd->cache.oldest)
		vhd_bitmap_drop(vhd, vhd->cache.oldest);
	free(vhd->cache.spare);
	free(vhd->ones);
}
