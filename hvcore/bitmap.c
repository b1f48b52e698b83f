/*
 * Bitmaps, most significant bit first. Long runs go by 64 bits: bit order does not matter to "all
 * equal" and to counting, so that the words need no swapping. No byte outside the range is touched.
 */
#include "hvcore/bitmap.h"

#include <string.h>

#define WORD_BITS 64

static uint64_t load_word(const uint8_t *map, size_t bit)
{
	uint64_t word;

	memcpy(&word, map + bit / 8, sizeof(word));
	return word;
}

/* The bits of byte i / 8 from bit i on. */
static uint8_t mask_from(size_t i)
{
	return (uint8_t)(0xff >> (i & 7));
}

/* The bits of the byte before bit i; i is not the start of a byte. */
static uint8_t mask_before(size_t i)
{
	return (uint8_t)~mask_from(i);
}

void hv_bits_set(uint8_t *map, size_t start, size_t count)
{
	size_t end = start + count;

	if (!count)
		return;
	if (start / 8 == end / 8) {
		map[start / 8] |= mask_from(start) & mask_before(end);
		return;
	}
	map[start / 8] |= mask_from(start);
	memset(map + start / 8 + 1, 0xff, end / 8 - start / 8 - 1);
	if (end & 7)
		map[end / 8] |= mask_before(end);
}

/* The place of the first set bit of a byte that is not 0. */
static size_t first_set(uint8_t byte)
{
	return (size_t)__builtin_clz(byte) - 24;
}

/* The first bit in [start, end) that is not value, or end. */
static size_t find_other(const uint8_t *map, size_t start, size_t end, bool value)
{
	const uint8_t flip = value ? 0xff : 0;
	const uint64_t same = value ? UINT64_MAX : 0;
	size_t i = start & ~(size_t)7;
	uint8_t byte;

	if (start >= end)
		return end;
	byte = (map[i / 8] ^ flip) & mask_from(start);
	while (!byte) {
		i += 8;
		while (i < end && end - i >= WORD_BITS && load_word(map, i) == same)
			i += WORD_BITS;
		if (i >= end)
			return end;
		byte = map[i / 8] ^ flip;
	}
	i += first_set(byte);
	return i < end ? i : end;
}

size_t hv_bits_run(const uint8_t *map, size_t start, size_t count, bool *value)
{
	*value = hv_bit_get(map, start);
	return find_other(map, start, start + count, *value) - start;
}

bool hv_bits_all(const uint8_t *map, size_t start, size_t count)
{
	return find_other(map, start, start + count, true) == start + count;
}

bool hv_bits_none(const uint8_t *map, size_t start, size_t count)
{
	return find_other(map, start, start + count, false) == start + count;
}

static size_t count_byte(uint8_t byte)
{
	return (size_t)__builtin_popcount(byte);
}

size_t hv_bits_count(const uint8_t *map, size_t start, size_t count)
{
	size_t i, end = start + count, total = 0;

	if (!count)
		return 0;
	if (start / 8 == end / 8)
		return count_byte(map[start / 8] & mask_from(start) & mask_before(end));
	total = count_byte(map[start / 8] & mask_from(start));
	i = (start & ~(size_t)7) + 8;
	for (; end - i >= WORD_BITS; i += WORD_BITS)
		total += (size_t)__builtin_popcountll(load_word(map, i));
	for (; end - i >= 8; i += 8)
		total += count_byte(map[i / 8]);
	if (end & 7)
		total += count_byte(map[end / 8] & mask_before(end));
	return total;
}
