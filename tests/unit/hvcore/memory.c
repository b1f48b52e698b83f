/*
 * Memory for I/O: aligned, writable to its end, and refused where rounding would overflow.
 */
#include "hvcore/memory.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define M (1u << 20)

static void assert_usable(size_t size, size_t alignment)
{
	char *memory = hv_io_memory(size);

	cr_assert(memory, "%zu bytes", size);
	cr_assert_eq((uintptr_t)memory % alignment, 0, "%zu bytes at %p", size, (void *)memory);
	memset(memory, 0x5a, size);
	free(memory);
}

Test(memory, suits_direct_io)
{
	assert_usable(512, 4096);
	assert_usable(4096, 4096);
	assert_usable(2 * M - 1, 4096);
}

Test(memory, large_memory_begins_with_a_huge_page)
{
	assert_usable(2 * M, 2 * M);
	assert_usable(2 * M + 1, 2 * M);
	assert_usable(33 * M, 2 * M);
}

Test(memory, sizes_that_cannot_be_rounded_are_refused)
{
	cr_assert_null(hv_io_memory(SIZE_MAX));
	cr_assert_null(hv_io_memory(SIZE_MAX - 2 * M + 2));
}
