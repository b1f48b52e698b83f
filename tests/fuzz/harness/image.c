/*
 * See image.h.
 */
#include "tests/fuzz/harness/image.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"

#define SIZE_MASK ((UINT64_C(1) << 42) - 1)
#define FROM_END 0x80
#define PIECE_BYTES 9          /* before the bytes of a piece */
#define MAX_COVERED (1u << 20) /* by one input's repetitions */

struct reader {
	const uint8_t *at;
	size_t left;
};

static uint64_t take(struct reader *reader, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes && reader->left; i++) {
		value |= (uint64_t)*reader->at++ << 8 * i;
		reader->left--;
	}
	return value;
}

static struct fuzz_piece *new_piece(struct fuzz_image *image, size_t length)
{
	struct fuzz_piece *piece;

	image->pieces = realloc(image->pieces, (image->count + 1) * sizeof(*image->pieces));
	piece = &image->pieces[image->count++];
	*piece = (struct fuzz_piece){ .length = (uint32_t)length, .bytes = calloc(1, length + 1) };
	return piece;
}

void fuzz_image_parse(const uint8_t *data, size_t size, struct fuzz_image *ret)
{
	struct reader reader = { data, size };

	*ret = (struct fuzz_image){ .size_bytes = take(&reader, 8) & SIZE_MASK };
	while (reader.left > PIECE_BYTES) {
		uint8_t kind = (uint8_t)take(&reader, 1);
		uint64_t place = take(&reader, 6);
		size_t length = take(&reader, 2);
		uint32_t covered = (kind & 3) == FUZZ_REPEAT ? (uint32_t)take(&reader, 4) : 0;
		struct fuzz_piece *piece;

		length = hv_min_u64(length, reader.left);
		piece = new_piece(ret, length);
		piece->kind = kind & 3;
		piece->from_end = kind & FROM_END;
		piece->place = place;
		piece->covered = covered;
		memcpy(piece->bytes, reader.at, length);
		reader.at += length;
		reader.left -= length;
	}
}

void fuzz_image_done(struct fuzz_image *image)
{
	while (image->count)
		free(image->pieces[--image->count].bytes);
	free(image->pieces);
	image->pieces = NULL;
}

static uint8_t *put(uint8_t *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		*out++ = (uint8_t)(value >> 8 * i);
	return out;
}

size_t fuzz_image_write(const struct fuzz_image *image, uint8_t *out, size_t max)
{
	uint8_t *start = out;

	if (max < 8)
		return 0;
	out = put(out, image->size_bytes, 8);
	for (size_t i = 0; i < image->count; i++) {
		const struct fuzz_piece *piece = &image->pieces[i];
		size_t head = PIECE_BYTES + (piece->kind == FUZZ_REPEAT ? 4 : 0);

		if (head + piece->length > max - (size_t)(out - start))
			continue;
		out = put(out, piece->kind | (piece->from_end ? FROM_END : 0u), 1);
		out = put(out, piece->place, 6);
		out = put(out, piece->length, 2);
		if (piece->kind == FUZZ_REPEAT)
			out = put(out, piece->covered, 4);
		memcpy(out, piece->bytes, piece->length);
		out += piece->length;
	}
	return (size_t)(out - start);
}

uint64_t fuzz_piece_offset(const struct fuzz_image *image, const struct fuzz_piece *piece)
{
	return piece->from_end ? image->size_bytes - piece->place : piece->place;
}

struct fuzz_piece *fuzz_image_add(struct fuzz_image *image, enum fuzz_kind kind, uint64_t place,
				  size_t length)
{
	struct fuzz_piece *piece = new_piece(image, length);

	piece->kind = kind;
	piece->place = place;
	return piece;
}

static void lay_repeated(struct sparse *sparse, const struct fuzz_piece *piece, uint64_t offset,
			 uint64_t length)
{
	uint8_t sector[HV_SECTOR_SIZE];
	bool uneven = piece->length && sizeof(sector) % piece->length;

	if (!piece->length || offset >= sparse_file(sparse)->size_bytes)
		return;
	for (uint64_t done = 0; done < length; done += sizeof(sector)) {
		/* Mostly all sectors are alike. */
		for (size_t i = 0; i < sizeof(sector) && (!done || uneven); i++)
			sector[i] = piece->bytes[(done + i) % piece->length];
		sparse_poke(sparse, offset + done, sector,
			    hv_min_u64(sizeof(sector), length - done));
	}
}

struct sparse *fuzz_image_lay(const struct fuzz_image *image, bool writable)
{
	struct sparse *sparse = sparse_new(image->size_bytes, writable);
	uint64_t room = MAX_COVERED;

	for (size_t i = 0; i < image->count; i++) {
		const struct fuzz_piece *piece = &image->pieces[i];
		uint64_t offset = fuzz_piece_offset(image, piece);

		if (piece->kind == FUZZ_BYTES) {
			sparse_poke(sparse, offset, piece->bytes, piece->length);
		} else if (piece->kind == FUZZ_REPEAT) {
			uint64_t length = hv_min_u64(piece->covered, room);

			room -= length;
			lay_repeated(sparse, piece, offset, length);
		}
	}
	return sparse;
}
