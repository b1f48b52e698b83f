/*
 * Arithmetic on numbers that came from outside: every helper returns false when the true result
 * does not fit, and leaves *ret alone then.
 */
#ifndef HVCORE_CHECKED_H
#define HVCORE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool hv_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}

/* Does [offset, offset + length) lie inside [0, limit)? An empty range at the end does. */
static inline bool hv_range_inside(uint64_t offset, uint64_t length, uint64_t limit)
{
	return offset <= limit && length <= limit - offset;
}

static inline bool hv_is_power_of_two(uint64_t x)
{
	return x && !(x & (x - 1));
}

/* The caller has bounded x, so that rounding cannot overflow; unit is a power of two. */
static inline uint64_t hv_round_up(uint64_t x, uint64_t unit)
{
	return (x + unit - 1) & ~(unit - 1);
}

static inline uint64_t hv_round_down(uint64_t x, uint64_t unit)
{
	return x & ~(unit - 1);
}

static inline uint64_t hv_div_up(uint64_t x, uint64_t unit)
{
	return x / unit + (x % unit != 0);
}

static inline uint64_t hv_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t hv_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
