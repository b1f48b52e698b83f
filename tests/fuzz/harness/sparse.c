/*
 * A sorted array of pages. The engine extends files from a pool thread, so that a lock guards it.
 */
#include "tests/fuzz/harness/sparse.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/fuzz.h"

#define PAGE_BYTES 4096u
#define MAX_PAGES (96u << 20 >> 12)
#define MAX_BYTES (UINT64_C(1) << 60) /* as filesystems have a limit */

struct page {
	uint64_t number;
	uint8_t bytes[PAGE_BYTES];
};

struct sparse {
	struct hv_file base;
	pthread_mutex_t lock;
	struct page **pages; /* ascending */
	size_t count, limit;
	uint64_t size;
	unsigned changes, users;
};

static struct sparse *sparse_of(struct hv_file *file)
{
	return (struct sparse *)file;
}

/* The index of the first page of that number or a higher one. */
static size_t find(const struct sparse *sparse, uint64_t number)
{
	size_t low = 0, high = sparse->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sparse->pages[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct page *get(const struct sparse *sparse, uint64_t number)
{
	size_t i = find(sparse, number);

	return i < sparse->count && sparse->pages[i]->number == number ? sparse->pages[i] : NULL;
}

static struct page *make(struct sparse *sparse, uint64_t number)
{
	size_t i = find(sparse, number);
	struct page *page;

	if (i < sparse->count && sparse->pages[i]->number == number)
		return sparse->pages[i];
	fuzz_assert(sparse->count < MAX_PAGES, "more than 96 MiB were written");
	if (sparse->count == sparse->limit) {
		sparse->limit = sparse->limit ? sparse->limit * 2 : 64;
		sparse->pages = realloc(sparse->pages, sparse->limit * sizeof(*sparse->pages));
	}
	page = calloc(1, sizeof(*page));
	page->number = number;
	memmove(sparse->pages + i + 1, sparse->pages + i,
		(sparse->count - i) * sizeof(*sparse->pages));
	sparse->pages[i] = page;
	sparse->count++;
	return page;
}

/* Pages first .. last - 1 are gone. */
static void drop(struct sparse *sparse, uint64_t first, uint64_t last)
{
	size_t from = find(sparse, first), to = find(sparse, hv_max_u64(first, last));

	for (size_t i = from; i < to; i++)
		free(sparse->pages[i]);
	if (from == to)
		return;
	memmove(sparse->pages + from, sparse->pages + to,
		(sparse->count - to) * sizeof(*sparse->pages));
	sparse->count -= to - from;
}

static void fill(struct sparse *sparse, uint64_t offset, const uint8_t *data, uint64_t length)
{
	while (length) {
		uint64_t within = offset % PAGE_BYTES;
		uint64_t n = hv_min_u64(PAGE_BYTES - within, length);

		memcpy(make(sparse, offset / PAGE_BYTES)->bytes + within, data, n);
		offset += n;
		data += n;
		length -= n;
	}
}

/* Whole pages are dropped; of others the part is zeroed. */
static void clear(struct sparse *sparse, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;
	uint64_t first = hv_div_up(offset, PAGE_BYTES), last = end / PAGE_BYTES;
	struct page *page = get(sparse, offset / PAGE_BYTES);

	if (page && offset % PAGE_BYTES)
		memset(page->bytes + offset % PAGE_BYTES, 0,
		       hv_min_u64(PAGE_BYTES - offset % PAGE_BYTES, length));
	page = get(sparse, last);
	if (page && end % PAGE_BYTES && last >= first)
		memset(page->bytes, 0, end % PAGE_BYTES);
	if (first < last)
		drop(sparse, first, last);
}

void sparse_peek(const struct sparse *sparse, uint64_t offset, void *buf, size_t length)
{
	uint8_t *out = buf;

	while (length) {
		uint64_t within = offset % PAGE_BYTES;
		size_t n = hv_min_u64(PAGE_BYTES - within, length);
		const struct page *page = get(sparse, offset / PAGE_BYTES);

		if (page)
			memcpy(out, page->bytes + within, n);
		else
			memset(out, 0, n);
		offset += n;
		out += n;
		length -= n;
	}
}

void sparse_poke(struct sparse *sparse, uint64_t offset, const void *buf, size_t length)
{
	if (offset < sparse->size)
		fill(sparse, offset, buf, hv_min_u64(length, sparse->size - offset));
}

static void begin_change(struct sparse *sparse)
{
	fuzz_assert(sparse->base.writable, "a file that is open for reading was changed");
	pthread_mutex_lock(&sparse->lock);
	sparse->changes++;
}

static int sparse_pread(struct hv_file *file, void *buf, size_t length, uint64_t offset,
			struct hv_err *err)
{
	struct sparse *sparse = sparse_of(file);

	(void)err;
	pthread_mutex_lock(&sparse->lock);
	sparse_peek(sparse, offset, buf, length);
	pthread_mutex_unlock(&sparse->lock);
	return 0;
}

static int sparse_pwrite(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
			 struct hv_err *err)
{
	struct sparse *sparse = sparse_of(file);

	(void)err;
	begin_change(sparse);
	fill(sparse, offset, buf, length);
	sparse->size = hv_max_u64(sparse->size, offset + length);
	pthread_mutex_unlock(&sparse->lock);
	return 0;
}

static int sparse_barrier(struct hv_file *file, struct hv_err *err)
{
	(void)file;
	(void)err;
	return 0;
}

static int sparse_reserve(struct hv_file *file, uint64_t offset, uint64_t length)
{
	(void)file;
	(void)offset;
	(void)length;
	return -EOPNOTSUPP;
}

static int sparse_zero(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	struct sparse *sparse = sparse_of(file);

	(void)err;
	begin_change(sparse);
	if (offset < sparse->size)
		clear(sparse, offset, hv_min_u64(length, sparse->size - offset));
	pthread_mutex_unlock(&sparse->lock);
	return 0;
}

static int sparse_truncate(struct hv_file *file, uint64_t size_bytes, struct hv_err *err)
{
	struct sparse *sparse = sparse_of(file);

	if (size_bytes > MAX_BYTES)
		return hv_fail_errno(err, -EFBIG, "%s: cannot resize", file->path);
	begin_change(sparse);
	if (size_bytes < sparse->size)
		clear(sparse, size_bytes, hv_round_up(sparse->size, PAGE_BYTES) - size_bytes);
	sparse->size = size_bytes;
	pthread_mutex_unlock(&sparse->lock);
	return 0;
}

static int sparse_next_data(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole)
{
	struct sparse *sparse = sparse_of(file);
	uint64_t number;
	size_t i;

	pthread_mutex_lock(&sparse->lock);
	*data = *hole = sparse->size;
	i = find(sparse, offset / PAGE_BYTES);
	if (offset < sparse->size && i < sparse->count &&
	    sparse->pages[i]->number * PAGE_BYTES < sparse->size) {
		number = sparse->pages[i]->number;
		*data = hv_max_u64(offset, number * PAGE_BYTES);
		while (i < sparse->count && sparse->pages[i]->number == number)
			i++, number++;
		*hole = hv_min_u64(number * PAGE_BYTES, sparse->size);
	}
	pthread_mutex_unlock(&sparse->lock);
	return 0;
}

static void sparse_submit(struct hv_file *file, struct hv_io *io)
{
	uint64_t offset = io->offset;

	if (io->op == HV_ZERO || io->op == HV_DISCARD)
		sparse_zero(file, io->offset, io->length, NULL);
	for (int i = 0; i < io->iov_count; i++) {
		const struct iovec *part = &io->iov[i];

		if (io->op == HV_READ)
			sparse_pread(file, part->iov_base, part->iov_len, offset, NULL);
		else
			sparse_pwrite(file, part->iov_base, part->iov_len, offset, NULL);
		offset += part->iov_len;
	}
	hv_loop_finish(file->loop, io, 0);
}

static void sparse_close(struct hv_file *file)
{
	struct sparse *sparse = sparse_of(file);

	if (--sparse->users)
		return;
	drop(sparse, 0, UINT64_MAX);
	pthread_mutex_destroy(&sparse->lock);
	free(sparse->pages);
	free(file->path);
	free(sparse);
}

static const struct hv_file_ops sparse_ops = {
	.submit = sparse_submit,
	.pread = sparse_pread,
	.pwrite = sparse_pwrite,
	.barrier = sparse_barrier,
	.reserve = sparse_reserve,
	.zero = sparse_zero,
	.truncate = sparse_truncate,
	.next_data = sparse_next_data,
	.close = sparse_close,
};

struct sparse *sparse_new(uint64_t size_bytes, bool writable)
{
	struct sparse *sparse = calloc(1, sizeof(*sparse));

	pthread_mutex_init(&sparse->lock, NULL);
	sparse->size = size_bytes;
	sparse->users = 1;
	sparse->base = (struct hv_file){ .ops = &sparse_ops,
					 .loop = fuzz_loop(),
					 .path = strdup("disk.vhd"),
					 .size_bytes = size_bytes,
					 .writable = writable,
					 .align_bytes = HV_SECTOR_SIZE,
					 .fd = -1 };
	return sparse;
}

struct sparse *sparse_copy(const struct sparse *sparse, bool writable)
{
	struct sparse *copy = sparse_new(sparse->size, writable);

	copy->pages = malloc((sparse->count + 1) * sizeof(*copy->pages));
	copy->limit = sparse->count + 1;
	for (; copy->count < sparse->count; copy->count++) {
		copy->pages[copy->count] = malloc(sizeof(struct page));
		*copy->pages[copy->count] = *sparse->pages[copy->count];
	}
	return copy;
}

struct hv_file *sparse_file(struct sparse *sparse)
{
	return &sparse->base;
}

/* The first byte of one file's pages that the other one has not. */
static uint64_t missing(const struct sparse *a, const struct sparse *b)
{
	static const struct page none;

	for (size_t i = 0; i < a->count; i++) {
		const struct page *page = a->pages[i], *other = get(b, page->number);
		const uint8_t *bytes = other ? other->bytes : none.bytes;

		for (size_t at = 0; memcmp(page->bytes, bytes, PAGE_BYTES) != 0; at++)
			if (page->bytes[at] != bytes[at])
				return page->number * PAGE_BYTES + at;
	}
	return UINT64_MAX;
}

uint64_t sparse_difference(const struct sparse *a, const struct sparse *b)
{
	if (a->size != b->size)
		return hv_min_u64(a->size, b->size);
	return hv_min_u64(missing(a, b), missing(b, a));
}

struct sparse *sparse_keep(struct sparse *sparse)
{
	sparse->users++;
	return sparse;
}

unsigned sparse_changes(const struct sparse *sparse)
{
	return sparse->changes;
}
