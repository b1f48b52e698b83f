/*
 * The ordered, parallel reader.
 *
 * A ring of slots, each a chunk in order: reads are started at the head as far as slots are free,
 * handed out at the tail as they complete, and freed when released. The tail only moves over
 * released slots, so that chunks may be released in any order.
 */
#include "hvcore/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/memory.h"

#define DEFAULT_CHUNK (1u << 20)
#define DEFAULT_DEPTH 8
#define DEFAULT_ZERO (64u << 10)
#define MEMORY_ALIGN 4096

enum slot_state { FREE, READING, READ, HELD };

struct slot {
	struct hv_io io;
	struct iovec iov;
	struct hv_scan *scan;
	enum slot_state state;
	int result;
	struct hv_err err;
	uint64_t offset, length;
	uint64_t given; /* of length, already handed out */
	unsigned held;  /* chunks that the caller has not released */
	bool zero;
};

struct hv_scan {
	struct hv_disk *disk;
	struct hv_scan_options options;
	uint64_t next; /* where the next slot begins */
	struct slot *slots;
	unsigned first, used; /* the ring: oldest slot in use, number in use */
	char *memory;         /* of all slots; NULL until first needed */
};

/*
 * Eight words at a time, so that a chunk of zeros costs little more than reading it from memory.
 * Data is told from its first bytes nearly always.
 */
bool hv_is_zero(const void *data, size_t length)
{
	const unsigned char *byte = data;
	size_t head = hv_min_u64(length, 64);

	for (size_t i = 0; i < head; i++) {
		if (byte[i])
			return false;
	}
	/* The head is zero: the rest is, if each byte equals the one 64 before. */
	return length <= 64 || !memcmp(byte, byte + 64, length - 64);
}

int hv_scan_new(struct hv_disk *disk, const struct hv_scan_options *options, struct hv_scan **ret,
		struct hv_err *err)
{
	struct hv_scan *scan = calloc(1, sizeof(*scan));

	if (scan) {
		scan->disk = disk;
		if (options)
			scan->options = *options;
		if (!scan->options.chunk_bytes)
			scan->options.chunk_bytes = DEFAULT_CHUNK;
		if (!scan->options.depth)
			scan->options.depth = DEFAULT_DEPTH;
		if (!scan->options.zero_bytes)
			scan->options.zero_bytes = DEFAULT_ZERO;
		scan->slots = calloc(scan->options.depth, sizeof(*scan->slots));
	}
	if (!scan || !scan->slots) {
		free(scan);
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	}
	*ret = scan;
	return 0;
}

static struct slot *slot_at(struct hv_scan *scan, unsigned i)
{
	return &scan->slots[(scan->first + i) % scan->options.depth];
}

static void read_done(struct hv_io *io, int result)
{
	struct slot *slot = (struct slot *)io;

	slot->state = READ;
	slot->result = result;
}

/* From one slot's memory to the next, each fit for O_DIRECT. */
static size_t stride(const struct hv_scan *scan)
{
	return hv_round_up(scan->options.chunk_bytes, MEMORY_ALIGN);
}

static char *memory_of(const struct hv_scan *scan, const struct slot *slot)
{
	return scan->memory + (size_t)(slot - scan->slots) * stride(scan);
}

static int start_read(struct hv_scan *scan, struct slot *slot)
{
	if (!scan->memory)
		scan->memory = hv_io_memory(scan->options.depth * stride(scan));
	if (!scan->memory)
		return -ENOMEM;
	slot->state = READING;
	slot->iov = (struct iovec){ memory_of(scan, slot), slot->length };
	slot->io = (struct hv_io){ .op = HV_READ,
				   .offset = slot->offset,
				   .length = slot->length,
				   .iov = &slot->iov,
				   .iov_count = 1,
				   .err = &slot->err,
				   .done = read_done };
	hv_disk_submit(scan->disk, &slot->io);
	return 0;
}

/* Chunks of data begin at multiples of their size, so that each lies in one block of a VHD. */
static uint64_t chunk_room(const struct hv_scan *scan, uint64_t offset)
{
	return scan->options.chunk_bytes - offset % scan->options.chunk_bytes;
}

/*
 * Extends a run of zeros over following extents, so that a caller sees few chunks. A fault further
 * on is met by the slot that begins there.
 */
static uint64_t zero_run(struct hv_scan *scan, uint64_t length)
{
	while (scan->next + length < scan->disk->size_bytes) {
		struct hv_extent extent;
		uint64_t at = scan->next + length;

		if (hv_disk_extent(scan->disk, at, scan->disk->size_bytes - at, HV_EXTENT_COARSE,
				   &extent, NULL) ||
		    extent.state != HV_EXTENT_ZERO)
			break;
		length += extent.length;
	}
	return length;
}

/* Starts the next slot. */
static void advance(struct hv_scan *scan)
{
	struct slot *slot = slot_at(scan, scan->used);
	struct hv_disk *disk = scan->disk;
	struct hv_extent extent;
	int rc;

	hv_err_clear(&slot->err);
	slot->scan = scan;
	slot->offset = scan->next;
	slot->given = 0;
	slot->held = 0;
	slot->result = 0;
	rc = hv_disk_extent(disk, scan->next, disk->size_bytes - scan->next, HV_EXTENT_COARSE,
			    &extent, &slot->err);
	slot->zero = rc == 0 && extent.state == HV_EXTENT_ZERO;
	slot->length = rc ? 0 : extent.length;
	if (rc == 0 && slot->zero) {
		slot->length = zero_run(scan, slot->length);
		slot->state = READ;
	} else if (rc == 0) {
		slot->length = hv_min_u64(slot->length, chunk_room(scan, scan->next));
		rc = start_read(scan, slot);
	}
	if (rc) { /* reported when it is this slot's turn */
		slot->state = READ;
		slot->result = rc;
		scan->next = disk->size_bytes;
	} else {
		scan->next += slot->length;
	}
	scan->used++;
}

static void fill(struct hv_scan *scan)
{
	while (scan->used < scan->options.depth && scan->next < scan->disk->size_bytes)
		advance(scan);
}

static void drop_released(struct hv_scan *scan)
{
	while (scan->used) {
		struct slot *slot = slot_at(scan, 0);

		if (slot->state != HELD || slot->held || slot->given < slot->length)
			return;
		slot->state = FREE;
		scan->first = (scan->first + 1) % scan->options.depth;
		scan->used--;
	}
}

/* The oldest slot that has something left to hand out, or NULL. */
static struct slot *oldest_to_give(struct hv_scan *scan)
{
	for (unsigned i = 0; i < scan->used; i++) {
		struct slot *slot = slot_at(scan, i);

		if (slot->state != HELD || slot->given < slot->length)
			return slot;
	}
	return NULL;
}

/* Cuts the next piece of a slot that was read: all of it, or a run of zeros or of data. */
static void cut(struct hv_scan *scan, struct slot *slot, struct hv_chunk *ret)
{
	const char *data = slot->zero ? NULL : memory_of(scan, slot) + slot->given;
	uint64_t left = slot->length - slot->given, length = left;
	bool zero = slot->zero;

	if (!zero && scan->options.find_zeros) {
		uint64_t unit = hv_min_u64(left, scan->options.zero_bytes);

		zero = hv_is_zero(data, unit);
		length = unit;
		while (length < left) {
			unit = hv_min_u64(left - length, scan->options.zero_bytes);
			if (hv_is_zero(data + length, unit) != zero)
				break;
			length += unit;
		}
	}
	*ret = (struct hv_chunk){ .offset = slot->offset + slot->given,
				  .length = length,
				  .data = zero ? NULL : data };
	slot->given += length;
	slot->state = HELD;
	slot->held++;
}

int hv_scan_next(struct hv_scan *scan, struct hv_chunk *ret, struct hv_err *err)
{
	struct slot *slot;

	for (;;) {
		drop_released(scan);
		fill(scan);
		/* What was queued goes to the kernel now, before the caller computes for long. */
		hv_loop_turn(scan->disk->loop, false);
		slot = oldest_to_give(scan);
		if (!slot && scan->next >= scan->disk->size_bytes)
			return 0;
		if (slot && slot->state != READING)
			break;
		/* Also when every slot is held: the caller's writes are under way. */
		hv_loop_turn(scan->disk->loop, true);
	}
	if (slot->result)
		return hv_fail(err, slot->result, "%s", hv_err_text(&slot->err, slot->result));
	cut(scan, slot, ret);
	return 1;
}

void hv_scan_release(struct hv_scan *scan, const struct hv_chunk *chunk)
{
	for (unsigned i = 0; i < scan->used; i++) {
		struct slot *slot = slot_at(scan, i);

		if (chunk->offset >= slot->offset && chunk->offset < slot->offset + slot->length) {
			slot->held--;
			return;
		}
	}
}

static bool reading(const struct hv_scan *scan)
{
	for (unsigned i = 0; i < scan->options.depth; i++) {
		if (scan->slots[i].state == READING)
			return true;
	}
	return false;
}

void hv_scan_free(struct hv_scan *scan)
{
	if (!scan)
		return;
	while (reading(scan))
		hv_loop_turn(scan->disk->loop, true);
	free(scan->memory);
	free(scan->slots);
	free(scan);
}

#define LOOK_BYTES (1u << 20)

int hv_disk_is_zero(struct hv_disk *disk, uint64_t offset, uint64_t length, struct hv_err *err)
{
	HV_AUTO(free) void *buffer = NULL;

	if (posix_memalign(&buffer, 4096, LOOK_BYTES)) {
		buffer = NULL;
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	}
	while (length) {
		struct hv_extent extent;
		int rc = hv_disk_extent(disk, offset, length, 0, &extent, err);
		uint64_t n = rc ? 0 : extent.length;

		if (rc == 0 && extent.state != HV_EXTENT_ZERO) {
			n = hv_min_u64(n, LOOK_BYTES);
			rc = hv_disk_pread(disk, buffer, n, offset, err);
			if (rc == 0 && !hv_is_zero(buffer, n))
				return 0;
		}
		if (rc)
			return rc;
		offset += n;
		length -= n;
	}
	return 1;
}
