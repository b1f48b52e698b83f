/*
 * See refvhd.h. Offsets in the file are those of the tables in the specification.
 */
#include "tests/model/refvhd.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED_ENTRY 0xffffffffu
#define MAX_LAYERS 256

enum { TYPE_FIXED = 2, TYPE_DYNAMIC = 3, TYPE_DIFFERENCING = 4 };

struct ref {
	char *path;
	const uint8_t *bytes;
	uint64_t length;
	uint8_t footer[512];
	uint64_t data_limit; /* where the trailing footer starts, or the end without one */
	bool trailing;
	uint32_t type;
	uint64_t size;

	const uint8_t *header, *bat;
	uint32_t entries, block_sectors;
	uint64_t bitmap_bytes;
	struct ref *parent;
	char why[REF_WHY];
};

static uint64_t big(const uint8_t *at, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static uint32_t sum_without(const uint8_t *at, size_t length, size_t checksum_at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		if (i < checksum_at || i >= checksum_at + 4)
			sum += at[i];
	return ~sum;
}

__attribute__((format(printf, 2, 3))) static int no(struct ref *ref, const char *fmt, ...)
{
	char text[REF_WHY - 160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(ref->why, sizeof(ref->why), "%.150s: %s", ref->path, text);
	return -1;
}

/* Bytes of the file, or NULL where they are not all there. */
static const uint8_t *inside(const struct ref *ref, uint64_t offset, uint64_t length)
{
	if (offset > ref->length || length > ref->length - offset)
		return NULL;
	return ref->bytes + offset;
}

static bool footer_good(const uint8_t f[512])
{
	uint32_t want = (uint32_t)big(f + 64, 4), sum = sum_without(f, 512, 64);
	uint64_t type = big(f + 60, 4);

	/* Old Xen set byte 85 (hidden) and left the checksum. */
	return !memcmp(f, "conectix", 8) && (sum == want || sum + f[85] == want) &&
	       big(f + 12, 2) == 1 && type >= TYPE_FIXED && type <= TYPE_DIFFERENCING;
}

static int read_footer(struct ref *ref)
{
	for (unsigned length = 512; length >= 511; length--) {
		if (ref->length < length)
			continue;
		memset(ref->footer, 0, 512);
		memcpy(ref->footer, ref->bytes + ref->length - length, length);
		if (footer_good(ref->footer)) {
			ref->data_limit = ref->length - length;
			ref->trailing = true;
			return 0;
		}
	}
	ref->data_limit = ref->length;
	if (ref->length < 512)
		return no(ref, "too short");
	memcpy(ref->footer, ref->bytes, 512);
	return footer_good(ref->footer) ? 0 : no(ref, "no valid footer");
}

static int read_size(struct ref *ref)
{
	const uint8_t *f = ref->footer;
	uint64_t c = big(f + 56, 2), h = f[58], s = f[59];
	bool by_geometry = !memcmp(f + 28, "vpc ", 4) || !memcmp(f + 28, "qemu", 4);

	ref->type = (uint32_t)big(f + 60, 4);
	ref->size = big(f + 48, 8);
	if (by_geometry && !(c == 65535 && h == 16 && s == 255))
		ref->size = c * h * s * 512;
	if (ref->type == TYPE_FIXED && ref->size > ref->data_limit)
		ref->size = ref->data_limit;
	if (ref->type == TYPE_FIXED) /* the sectors that are all there */
		ref->size -= ref->size % 512;
	if (!ref->size || ref->size % 512)
		return no(ref, "size of %llu bytes", (unsigned long long)ref->size);
	return 0;
}

static int read_header(struct ref *ref)
{
	const uint8_t *h = inside(ref, big(ref->footer + 16, 8), 1024);
	uint64_t blocks, block;

	if (!h || memcmp(h, "cxsparse", 8))
		return no(ref, "no header");
	if (big(h + 36, 4) != sum_without(h, 1024, 36))
		return no(ref, "bad header checksum");
	if (big(h + 24, 2) != 1)
		return no(ref, "header version");
	ref->header = h;
	ref->entries = (uint32_t)big(h + 28, 4);
	block = big(h + 32, 4);
	if (block < 512 || block & (block - 1))
		return no(ref, "blocks of %llu bytes", (unsigned long long)block);
	ref->block_sectors = (uint32_t)(block / 512);
	ref->bitmap_bytes = ((ref->block_sectors + 7) / 8 + 511) / 512 * 512;
	blocks = (ref->size + block - 1) / block;
	if (ref->entries < blocks)
		return no(ref, "too few BAT entries");
	ref->bat = inside(ref, big(h + 16, 8), blocks * 4);
	return ref->bat ? 0 : no(ref, "BAT outside the file");
}

static int map_file(struct ref *ref)
{
	int fd = open(ref->path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *map;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size) {
		if (fd >= 0)
			close(fd);
		return no(ref, "cannot open, or empty");
	}
	ref->length = (uint64_t)st.st_size;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return no(ref, "cannot map");
	ref->bytes = map;
	return 0;
}

/* UTF-16LE to UTF-8, backslashes to slashes. */
static void path_from_utf16(const uint8_t *at, size_t length, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i + 1 < length && n + 5 < size; i += 2) {
		uint32_t u = at[i] | (uint32_t)at[i + 1] << 8;

		if (u >= 0xd800 && u < 0xdc00 && i + 3 < length) {
			uint32_t low = at[i + 2] | (uint32_t)at[i + 3] << 8;

			u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
			i += 2;
		}
		if (u < 0x80) {
			out[n++] = u == '\\' ? '/' : (char)u;
			continue;
		}
		if (u >= 0x10000) {
			out[n++] = (char)(0xf0 | u >> 18);
			out[n++] = (char)(0x80 | (u >> 12 & 63));
		} else if (u >= 0x800) {
			out[n++] = (char)(0xe0 | u >> 12);
		}
		if (u >= 0x800)
			out[n++] = (char)(0x80 | (u >> 6 & 63));
		else
			out[n++] = (char)(0xc0 | u >> 6);
		out[n++] = (char)(0x80 | (u & 63));
	}
	out[n] = '\0';
}

static int relative_parent(struct ref *ref, char *out, size_t size)
{
	const char *slash = strrchr(ref->path, '/');
	char text[2048];

	for (int i = 0; i < 8; i++) {
		const uint8_t *l = ref->header + 576 + 24 * i;
		uint64_t length = big(l + 8, 4);
		const uint8_t *at = inside(ref, big(l + 16, 8), length);

		if (memcmp(l, "W2ru", 4) || !at)
			continue;
		path_from_utf16(at, length, text, sizeof(text));
		snprintf(out, size, "%.*s%s", slash ? (int)(slash + 1 - ref->path) : 0, ref->path,
			 text);
		return 0;
	}
	return no(ref, "no relative locator");
}

static struct ref *open_layer(const char *path, char *const ancestors[], int count, int depth,
			      char why[REF_WHY]);

static int open_parent(struct ref *ref, char *const ancestors[], int count, int depth)
{
	char path[4096];

	if (ref->type != TYPE_DIFFERENCING)
		return 0;
	if (depth + 1 >= MAX_LAYERS)
		return no(ref, "too deep");
	if (count)
		snprintf(path, sizeof(path), "%s", ancestors[0]);
	else if (relative_parent(ref, path, sizeof(path)) < 0)
		return -1;
	ref->parent = open_layer(path, count ? ancestors + 1 : NULL, count ? count - 1 : 0,
				 depth + 1, ref->why);
	if (!ref->parent)
		return -1;
	if (memcmp(ref->header + 40, ref->parent->footer + 68, 16) != 0)
		return no(ref, "not the parent: %.200s", path);
	return 0;
}

static struct ref *open_layer(const char *path, char *const ancestors[], int count, int depth,
			      char why[REF_WHY])
{
	struct ref *ref = calloc(1, sizeof(*ref));

	if (!ref || !(ref->path = strdup(path)))
		abort();
	if (map_file(ref) < 0 || read_footer(ref) < 0 || read_size(ref) < 0 ||
	    (ref->type != TYPE_FIXED && read_header(ref) < 0) ||
	    open_parent(ref, ancestors, count, depth) < 0) {
		memcpy(why, ref->why, REF_WHY);
		ref_close(ref);
		return NULL;
	}
	return ref;
}

struct ref *ref_open(const char *path, char *const ancestors[], int ancestor_count,
		     char why[REF_WHY])
{
	return open_layer(path, ancestors, ancestor_count, 0, why);
}

void ref_close(struct ref *ref)
{
	while (ref) {
		struct ref *parent = ref->parent;

		if (ref->bytes)
			munmap((void *)(uintptr_t)ref->bytes, ref->length);
		free(ref->path);
		free(ref);
		ref = parent;
	}
}

uint64_t ref_size_bytes(const struct ref *ref)
{
	return ref->size;
}

const char *ref_why(const struct ref *ref)
{
	return ref->why;
}

static bool bit(const uint8_t *bitmap, uint64_t i)
{
	return bitmap[i / 8] >> (7 - i % 8) & 1;
}

/* The place of a sector that this layer holds; 0: it does not; -1: damaged. */
static int64_t find_sector(struct ref *ref, uint64_t sector)
{
	uint64_t index = sector / ref->block_sectors, within = sector % ref->block_sectors;
	uint64_t entry = big(ref->bat + index * 4, 4), at = entry * 512;
	const uint8_t *bitmap;

	if (entry == UNUSED_ENTRY)
		return 0;
	bitmap = inside(ref, at, ref->bitmap_bytes);
	if (!bitmap || at + ref->bitmap_bytes > ref->data_limit)
		return no(ref, "block %llu outside the file", (unsigned long long)index);
	return bit(bitmap, within) ? (int64_t)(at + ref->bitmap_bytes + within * 512) : 0;
}

int ref_read_sector(struct ref *ref, uint64_t sector, uint8_t buf[REF_SECTOR])
{
	int64_t at = (int64_t)(sector * 512);

	memset(buf, 0, 512);
	if (sector >= ref->size / 512)
		return no(ref, "sector past the end");
	if (ref->type != TYPE_FIXED)
		at = find_sector(ref, sector);
	if (at < 0)
		return -1;
	if (ref->type == TYPE_FIXED || at > 0) {
		/* A short last block reads as zero past its end. */
		if ((uint64_t)at + 512 <= ref->data_limit)
			memcpy(buf, ref->bytes + at, 512);
		return 0;
	}
	if (!ref->parent || sector >= ref->parent->size / 512)
		return 0;
	if (ref_read_sector(ref->parent, sector, buf) == 0)
		return 0;
	memcpy(ref->why, ref->parent->why, REF_WHY);
	return -1;
}

/* ---- Audit ---- */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t metadata_end(const struct ref *ref)
{
	uint64_t end = big(ref->header + 16, 8) + ref->entries * 4ull;

	if (end < big(ref->footer + 16, 8) + 1024)
		end = big(ref->footer + 16, 8) + 1024;
	for (int i = 0; i < 8; i++) {
		const uint8_t *l = ref->header + 576 + 24 * i;

		if (big(l, 4) && big(l + 16, 8) + big(l + 4, 4) > end)
			end = big(l + 16, 8) + big(l + 4, 4);
	}
	return end;
}

static int audit_block(struct ref *ref, uint64_t index, uint64_t at)
{
	static const uint8_t zero[512];
	const uint8_t *data = ref->bytes + at + ref->bitmap_bytes;

	if (at + ref->bitmap_bytes + ref->block_sectors * 512ull > ref->data_limit)
		return no(ref, "block %llu is not all in the file", (unsigned long long)index);
	if ((at + ref->bitmap_bytes) % 4096)
		return no(ref, "block %llu is not aligned", (unsigned long long)index);
	if (ref->type != TYPE_DYNAMIC)
		return 0;
	for (uint64_t s = 0; s < ref->block_sectors; s++)
		if (!bit(ref->bytes + at, s) && memcmp(data + s * 512, zero, 512) != 0)
			return no(ref, "block %llu: absent sector %llu is not zero",
				  (unsigned long long)index, (unsigned long long)s);
	return 0;
}

static int audit_overlap(struct ref *ref, uint64_t *places, size_t count)
{
	uint64_t end = metadata_end(ref);

	qsort(places, count, sizeof(*places), compare_u64);
	for (size_t i = 0; i < count; i++) {
		if (places[i] < end)
			return no(ref, "block at %#llx lies over something",
				  (unsigned long long)places[i]);
		end = places[i] + ref->bitmap_bytes + ref->block_sectors * 512ull;
	}
	return 0;
}

static int audit_blocks(struct ref *ref)
{
	uint64_t block = ref->block_sectors * 512ull, blocks = (ref->size + block - 1) / block;
	uint64_t *places = calloc(blocks + 1, sizeof(*places));
	size_t count = 0;
	int rc = 0;

	if (!places)
		abort();
	for (uint64_t i = 0; i < blocks && !rc; i++) {
		uint64_t entry = big(ref->bat + i * 4, 4);

		if (entry == UNUSED_ENTRY)
			continue;
		places[count++] = entry * 512;
		rc = audit_block(ref, i, entry * 512);
	}
	if (!rc)
		rc = audit_overlap(ref, places, count);
	free(places);
	return rc;
}

int ref_audit(struct ref *ref)
{
	if (!ref->trailing)
		return no(ref, "no trailing footer");
	if (ref->length % 512)
		return no(ref, "length is not in whole sectors");
	if (ref->type == TYPE_FIXED)
		return ref->length == ref->size + 512 ? 0 : no(ref, "wrong length");
	if (memcmp(ref->bytes, ref->footer, 512) != 0)
		return no(ref, "the footers differ");
	return audit_blocks(ref);
}
