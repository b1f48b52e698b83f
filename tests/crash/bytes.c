/*
 * Pieces are counted without a lock: one thread at a time touches the files of a test (stage.h).
 */
#include "tests/crash/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"

#define PIECE_BYTES (16u << 10)

struct crash_piece {
	unsigned users;
	uint8_t bytes[PIECE_BYTES];
};

void *crash_alloc(size_t size)
{
	void *memory = calloc(1, size ? size : 1);

	if (!memory)
		abort();
	return memory;
}

void *crash_realloc(void *memory, size_t size)
{
	memory = realloc(memory, size ? size : 1);
	if (!memory)
		abort();
	return memory;
}

static void drop(struct crash_piece **place)
{
	if (*place && --(*place)->users == 0)
		free(*place);
	*place = NULL;
}

static void resize(struct crash_bytes *bytes, uint64_t size)
{
	size_t count = (size_t)hv_div_up(size, PIECE_BYTES);

	while (bytes->count > count)
		drop(&bytes->pieces[--bytes->count]);
	if (count > bytes->count) {
		bytes->pieces = crash_realloc(bytes->pieces, count * sizeof(struct crash_piece *));
		memset(bytes->pieces + bytes->count, 0,
		       (count - bytes->count) * sizeof(struct crash_piece *));
		bytes->count = count;
	}
	bytes->size = size;
}

/* The piece at index, nobody else's. */
static struct crash_piece *own(struct crash_bytes *bytes, size_t index)
{
	struct crash_piece *old = bytes->pieces[index], *piece;

	if (old && old->users == 1)
		return old;
	piece = crash_alloc(sizeof(*piece));
	piece->users = 1;
	if (old) {
		memcpy(piece->bytes, old->bytes, PIECE_BYTES);
		old->users--;
	}
	bytes->pieces[index] = piece;
	return piece;
}

void crash_bytes_read(const struct crash_bytes *bytes, void *buf, uint64_t length, uint64_t offset)
{
	uint64_t have = offset < bytes->size ? hv_min_u64(length, bytes->size - offset) : 0;
	uint8_t *to = buf;

	memset(to + have, 0, length - have);
	while (have) {
		uint64_t within = offset % PIECE_BYTES, n = hv_min_u64(have, PIECE_BYTES - within);
		const struct crash_piece *piece = bytes->pieces[offset / PIECE_BYTES];

		if (piece)
			memcpy(to, piece->bytes + within, n);
		else
			memset(to, 0, n);
		to += n;
		offset += n;
		have -= n;
	}
}

static void change(struct crash_bytes *bytes, const uint8_t *data, uint64_t length, uint64_t offset)
{
	while (length) {
		uint64_t within = offset % PIECE_BYTES,
			 n = hv_min_u64(length, PIECE_BYTES - within);
		size_t index = (size_t)(offset / PIECE_BYTES);

		if (data)
			memcpy(own(bytes, index)->bytes + within, data, n);
		else if (n == PIECE_BYTES)
			drop(&bytes->pieces[index]);
		else if (bytes->pieces[index])
			memset(own(bytes, index)->bytes + within, 0, n);
		if (data)
			data += n;
		offset += n;
		length -= n;
	}
}

void crash_bytes_write(struct crash_bytes *bytes, const void *data, uint64_t length,
		       uint64_t offset)
{
	if (length && offset + length > bytes->size)
		resize(bytes, offset + length);
	change(bytes, data, length, offset);
}

void crash_bytes_truncate(struct crash_bytes *bytes, uint64_t size)
{
	/* What is cut off reads as zero, should the file grow again. */
	if (size < bytes->size)
		change(bytes, NULL, bytes->size - size, size);
	resize(bytes, size);
}

struct crash_bytes crash_bytes_copy(const struct crash_bytes *bytes)
{
	struct crash_bytes copy = *bytes;

	copy.pieces = crash_alloc(bytes->count * sizeof(struct crash_piece *));
	for (size_t i = 0; i < bytes->count; i++) {
		copy.pieces[i] = bytes->pieces[i];
		if (copy.pieces[i])
			copy.pieces[i]->users++;
	}
	return copy;
}

void crash_bytes_done(struct crash_bytes *bytes)
{
	resize(bytes, 0);
	free(bytes->pieces);
	*bytes = (struct crash_bytes){ 0 };
}
