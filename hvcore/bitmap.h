/*
 * Bitmaps numbered from the most significant bit of each byte, as VHD sector bitmaps are:
 * bit i is 0x80 >> (i & 7) of byte i / 8. The caller guarantees that every index is in range.
 */
#ifndef HVCORE_BITMAP_H
#define HVCORE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool hv_bit_get(const uint8_t *map, size_t i)
{
	return map[i >> 3] & (0x80 >> (i & 7));
}

static inline void hv_bit_set(uint8_t *map, size_t i)
{
	map[i >> 3] |= (uint8_t)(0x80 >> (i & 7));
}

static inline void hv_bit_clear(uint8_t *map, size_t i)
{
	map[i >> 3] &= (uint8_t) ~(0x80 >> (i & 7));
}

/* Sets bits [start, start + count). */
void hv_bits_set(uint8_t *map, size_t start, size_t count);

/*
 * The length of the run of equal bits at start, at most count (which is not 0); *value tells
 * whether they are set.
 */
size_t hv_bits_run(const uint8_t *map, size_t start, size_t count, bool *value);

/* Are all (or none) of the bits [start, start + count) set? True for an empty range. */
bool hv_bits_all(const uint8_t *map, size_t start, size_t count);
bool hv_bits_none(const uint8_t *map, size_t start, size_t count);

/* The number of set bits among [start, start + count). */
size_t hv_bits_count(const uint8_t *map, size_t start, size_t count);

#endif
