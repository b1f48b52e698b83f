/*
 * See reading.h. Disks are large and time is short: of an extent the beginning and the end are
 * read, and of many extents the first and the last.
 */
#include "tests/fuzz/harness/reading.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "tests/fuzz/harness/fuzz.h"

#define EXTENTS 600     /* that one walk looks at */
#define HEAD_SECTORS 24 /* of an extent */
#define TAIL_SECTORS 6
#define MAX_ENTRIES (1u << 18)

bool reading_is_too_large(const struct sparse *sparse)
{
	uint8_t raw[8];
	uint64_t offset = 0, blocks;

	/* Wherever the header is, by either footer. */
	for (int i = 0; i < 2; i++) {
		uint64_t size = sparse_file((struct sparse *)(uintptr_t)sparse)->size_bytes;
		uint64_t footer = i ? 0 : size - HV_SECTOR_SIZE;

		sparse_peek(sparse, footer + 16, raw, 8);
		offset = 0;
		for (int b = 0; b < 8; b++)
			offset = offset << 8 | raw[b];
		sparse_peek(sparse, offset + 28, raw, 4);
		blocks = (uint64_t)raw[0] << 24 | raw[1] << 16 | raw[2] << 8 | raw[3];
		if (blocks > MAX_ENTRIES && offset < size)
			return true;
	}
	return false;
}

struct hv_disk *reading_open(struct sparse *sparse, uint64_t parent_bytes, int *code)
{
	struct hv_disk *disk = NULL;
	HV_ERR(err);
	int rc = vhd_open(sparse_file(sparse), 0, &disk, &err);

	*code = rc;
	if (rc) {
		fuzz_judge_failure("vhd_open", rc, &err);
		sparse_free(sparse);
		return NULL;
	}
	fuzz_assert(!err.code, "vhd_open succeeds and says '%s'", err.sentence);
	fuzz_assert(disk->size_bytes && disk->size_bytes % HV_SECTOR_SIZE == 0,
		    "a disk of %llu bytes", (unsigned long long)disk->size_bytes);
	if (parent_bytes && vhd_get_info(disk)->type == VHD_DIFFERENCING)
		vhd_set_backing(disk, fuzz_parent(parent_bytes));
	return disk;
}

/* What the sector holds now. */
static enum truth_kind expected(const struct reading *reading, uint64_t sector,
				uint8_t buf[HV_SECTOR_SIZE])
{
	uint8_t touched = 0;

	if (reading->touched)
		sparse_peek(reading->touched, sector, &touched, 1);
	if (touched == UNTOUCHED)
		return truth_sector(&reading->truth, sector, reading->parent_bytes, buf);
	sparse_peek(reading->written, sector * HV_SECTOR_SIZE, buf, HV_SECTOR_SIZE);
	return touched == TOUCHED ? TRUTH_DATA : TRUTH_ANY;
}

/* Must reading that sector fail? */
static bool is_unreadable(const struct reading *reading, enum truth_kind kind)
{
	return kind == TRUTH_LOST || (kind == TRUTH_PARENT && !reading->parent_bytes);
}

static void judge_data(const struct reading *reading, uint64_t first, uint64_t count,
		       const uint8_t *data)
{
	uint8_t buf[HV_SECTOR_SIZE];

	for (uint64_t i = 0; i < count; i++) {
		enum truth_kind kind = expected(reading, first + i, buf);

		fuzz_assert(!is_unreadable(reading, kind),
			    "sector %llu of %llu at %llu was read, but is not there (%d)",
			    (unsigned long long)i, (unsigned long long)count,
			    (unsigned long long)first, kind);
		fuzz_assert(kind == TRUTH_ANY ||
				    !memcmp(buf, data + i * HV_SECTOR_SIZE, HV_SECTOR_SIZE),
			    "sector %llu reads as %02x.., not %02x.. (%d)",
			    (unsigned long long)(first + i), data[i * HV_SECTOR_SIZE], buf[0],
			    kind);
	}
}

/* One of the sectors has to be unreadable: lost, the parent's, or in a block of a wrong entry. */
static void judge_refusal(const struct reading *reading, uint64_t first, uint64_t count, int rc)
{
	uint8_t buf[HV_SECTOR_SIZE];
	bool found = false;

	for (uint64_t i = 0; i < count && !found; i++) {
		enum truth_kind kind = expected(reading, first + i, buf);

		found = kind == TRUTH_ANY || is_unreadable(reading, kind);
	}
	if (rc == -ENOENT)
		fuzz_assert(found, "sectors at %llu are said to be the parent's",
			    (unsigned long long)first);
	else
		fuzz_assert(rc == -EBADMSG && (found || !reading->disk->writable),
			    "reading %llu sectors at %llu failed with %d",
			    (unsigned long long)count, (unsigned long long)first, rc);
}

void reading_compare(const struct reading *reading, uint64_t first, uint64_t count)
{
	uint64_t sectors = reading->disk->size_bytes / HV_SECTOR_SIZE;
	HV_AUTO(free) uint8_t *data = NULL;
	HV_ERR(err);
	int rc;

	if (first >= sectors)
		return;
	count = hv_min_u64(count, sectors - first);
	data = malloc(count * HV_SECTOR_SIZE);
	memset(data, 0xa5, count * HV_SECTOR_SIZE);
	rc = hv_disk_pread(reading->disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE,
			   &err);
	if (rc) {
		fuzz_judge_failure("hv_disk_pread", rc, &err);
		judge_refusal(reading, first, count, rc);
	} else {
		judge_data(reading, first, count, data);
	}
}

static void judge_zero(const struct reading *reading, const struct hv_extent *extent)
{
	uint8_t buf[HV_SECTOR_SIZE];
	uint64_t first = extent->offset / HV_SECTOR_SIZE;
	uint64_t count = extent->length / HV_SECTOR_SIZE;

	for (uint64_t i = 0; i < count; i += i < HEAD_SECTORS ? 1 : count / HEAD_SECTORS + 1) {
		enum truth_kind kind = expected(reading, first + i, buf);

		fuzz_assert(kind == TRUTH_ANY || hv_is_zero(buf, sizeof(buf)),
			    "sector %llu is not zero, as its extent says",
			    (unsigned long long)(first + i));
	}
}

static void judge_unmapped(const struct reading *reading, const struct hv_extent *extent)
{
	uint8_t buf[HV_SECTOR_SIZE];
	uint64_t first = extent->offset / HV_SECTOR_SIZE;
	uint64_t count = extent->length / HV_SECTOR_SIZE;

	fuzz_assert(!reading->parent_bytes, "an unmapped extent, though there is a parent");
	for (uint64_t i = 0; i < count; i += i < HEAD_SECTORS ? 1 : count / HEAD_SECTORS + 1) {
		enum truth_kind kind = expected(reading, first + i, buf);

		fuzz_assert(kind == TRUTH_ANY || kind == TRUTH_PARENT,
			    "sector %llu is not the parent's, as its extent says",
			    (unsigned long long)(first + i));
	}
}

static void judge_extent(const struct reading *reading, uint64_t offset, uint64_t length,
			 const struct hv_extent *extent)
{
	fuzz_assert(extent->offset == offset && extent->length && extent->length <= length &&
			    extent->length % HV_SECTOR_SIZE == 0,
		    "an extent of %llu at %llu, when asked for %llu at %llu",
		    (unsigned long long)extent->length, (unsigned long long)extent->offset,
		    (unsigned long long)length, (unsigned long long)offset);
	if (extent->state == HV_EXTENT_ZERO)
		judge_zero(reading, extent);
	else if (extent->state == HV_EXTENT_UNMAPPED)
		judge_unmapped(reading, extent);
	else
		fuzz_assert(extent->state == HV_EXTENT_DATA, "an extent of state %d",
			    extent->state);
	fuzz_assert(extent->depth <= 1, "an extent of depth %u", extent->depth);
}

/* The bytes that an extent of data says are its own, in the file, are what is read. */
static void judge_place(const struct reading *reading, const struct hv_extent *extent)
{
	uint8_t buf[HV_SECTOR_SIZE], there[HV_SECTOR_SIZE];
	uint64_t first = extent->offset / HV_SECTOR_SIZE;

	if (extent->state != HV_EXTENT_DATA || extent->host_offset == HV_NO_HOST_OFFSET ||
	    extent->depth || reading->touched)
		return;
	for (uint64_t i = 0; i < extent->length / HV_SECTOR_SIZE && i < HEAD_SECTORS; i++) {
		enum truth_kind kind = expected(reading, first + i, buf);

		sparse_peek(reading->truth.sparse, extent->host_offset + i * HV_SECTOR_SIZE, there,
			    sizeof(there));
		fuzz_assert(kind == TRUTH_ANY || kind == TRUTH_LOST || kind == TRUTH_ZERO ||
				    !memcmp(buf, there, sizeof(buf)),
			    "sector %llu is not at byte %llu", (unsigned long long)(first + i),
			    (unsigned long long)(extent->host_offset + i * HV_SECTOR_SIZE));
	}
}

static void coarse(const struct reading *reading, uint64_t offset, uint64_t length)
{
	struct hv_extent extent;
	HV_ERR(err);
	int rc = hv_disk_extent(reading->disk, offset, length, HV_EXTENT_COARSE, &extent, &err);

	if (rc)
		fuzz_judge_failure("hv_disk_extent", rc, &err);
	else
		judge_extent(reading, offset, length, &extent);
}

/* Returns how far it goes. */
static uint64_t step(const struct reading *reading, uint64_t offset, uint64_t length)
{
	uint64_t block = hv_max_u64(reading->truth.block_bytes, HV_SECTOR_SIZE);
	uint64_t first = offset / HV_SECTOR_SIZE, count;
	struct hv_extent extent;
	HV_ERR(err);
	int rc;

	coarse(reading, offset, length);
	rc = hv_disk_extent(reading->disk, offset, length, 0, &extent, &err);
	if (rc) {
		fuzz_judge_failure("hv_disk_extent", rc, &err);
		fuzz_assert(rc == -EBADMSG && !reading->disk->writable,
			    "hv_disk_extent failed with %d: %s", rc, err.sentence);
		reading_compare(reading, first, 1);
		return hv_min_u64(block - offset % block, length);
	}
	judge_extent(reading, offset, length, &extent);
	judge_place(reading, &extent);
	count = extent.length / HV_SECTOR_SIZE;
	reading_compare(reading, first, hv_min_u64(count, HEAD_SECTORS));
	if (count > HEAD_SECTORS)
		reading_compare(reading, first + count - TAIL_SECTORS, 2 * TAIL_SECTORS);
	return extent.length;
}

void reading_walk(const struct reading *reading)
{
	uint64_t size = reading->disk->size_bytes, offset = 0;
	uint64_t tail = hv_max_u64(4 * reading->truth.block_bytes, 64 * HV_SECTOR_SIZE);

	for (unsigned i = 0; offset < size && i < EXTENTS; i++)
		offset += step(reading, offset, size - offset);
	/* The last blocks, wherever the walk has come to; asked for a little at a time. */
	offset = size > tail ? hv_max_u64(offset, size - tail) : offset;
	for (unsigned i = 0; offset < size && i < EXTENTS; i++)
		offset += step(reading, offset, hv_min_u64(size - offset, 100 * HV_SECTOR_SIZE));
}
