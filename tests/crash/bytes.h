/*
 * The bytes of a file in memory, in pieces that copies share until one of them is written: a state
 * that a power cut leaves costs what it differs in.
 */
#ifndef TESTS_CRASH_BYTES_H
#define TESTS_CRASH_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct crash_piece;

/* All zero: an empty file. */
struct crash_bytes {
	struct crash_piece **pieces; /* NULL: zeros */
	size_t count;
	uint64_t size;
};

/* Past the end is zero. */
void crash_bytes_read(const struct crash_bytes *bytes, void *buf, uint64_t length, uint64_t offset);

/* Grows where it has to. data NULL: zeros. */
void crash_bytes_write(struct crash_bytes *bytes, const void *data, uint64_t length,
		       uint64_t offset);

void crash_bytes_truncate(struct crash_bytes *bytes, uint64_t size);

struct crash_bytes crash_bytes_copy(const struct crash_bytes *bytes);
void crash_bytes_done(struct crash_bytes *bytes);

/* malloc and its kin for tests, which end where there is no memory. */
void *crash_alloc(size_t size); /* zeroed */
void *crash_realloc(void *memory, size_t size);

#endif
