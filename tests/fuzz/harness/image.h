/*
 * The input of the targets that look at images: a file of any size, told by the few bytes that are
 * not zero, so that inputs stay small. Numbers are little-endian; whatever is cut off is taken as
 * far as it goes, so that every input means something.
 *
 *	8 bytes		size of the file; the upper 22 bits are ignored
 *	pieces:
 *	  1		kind (lower 2 bits); 0x80: the place is counted from the file's end
 *	  6		place
 *	  2		n: bytes that follow
 *	  4		of FUZZ_REPEAT only: bytes that they are repeated over
 *	  n
 *
 * Later pieces lie over earlier ones. tests/fuzz/seeds.py writes this format too.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include "tests/fuzz/harness/sparse.h"

enum fuzz_kind {
	FUZZ_BYTES,  /* of the file */
	FUZZ_REPEAT, /* of the file, again and again */
	FUZZ_SCRIPT, /* what to do; see script.h */
	FUZZ_UNDO,   /* bytes that change the undo file (undo.c) */
};

struct fuzz_piece {
	enum fuzz_kind kind;
	bool from_end;
	uint64_t place;
	uint32_t length;  /* of bytes */
	uint32_t covered; /* of the file; FUZZ_REPEAT */
	uint8_t *bytes;
};

struct fuzz_image {
	uint64_t size_bytes;
	struct fuzz_piece *pieces;
	size_t count;
};

void fuzz_image_parse(const uint8_t *data, size_t size, struct fuzz_image *ret);
void fuzz_image_done(struct fuzz_image *image);

/* Writes at most max bytes, leaving out pieces that do not fit; returns their number. */
size_t fuzz_image_write(const struct fuzz_image *image, uint8_t *out, size_t max);

/* Where the piece lies in the file. */
uint64_t fuzz_piece_offset(const struct fuzz_image *image, const struct fuzz_piece *piece);

/* A piece that lies over all others; its bytes are zero. */
struct fuzz_piece *fuzz_image_add(struct fuzz_image *image, enum fuzz_kind kind, uint64_t place,
				  size_t length);

/* The file. */
struct sparse *fuzz_image_lay(const struct fuzz_image *image, bool writable);

static inline struct sparse *fuzz_image_file(const uint8_t *data, size_t size)
{
	struct fuzz_image image;
	struct sparse *sparse;

	fuzz_image_parse(data, size, &image);
	sparse = fuzz_image_lay(&image, false);
	fuzz_image_done(&image);
	return sparse;
}

static inline void hv_auto_fuzz_image_done(struct fuzz_image *image)
{
	fuzz_image_done(image);
}

#endif
