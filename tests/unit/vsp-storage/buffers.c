/*
 * Memory for payload: aligned, disjoint, used again, and given back.
 */
#include "vsp-storage/buffers.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static struct vsp_buffers *buffers;

static void setup(void)
{
	buffers = vsp_buffers_new();
	cr_assert_not_null(buffers);
}

static void teardown(void)
{
	vsp_buffers_free(buffers);
}

TestSuite(buffers, .init = setup, .fini = teardown);

Test(buffers, they_are_aligned_and_large_enough)
{
	static const size_t sizes[] = { 1,       4096,    4097,    65536,   100000,
					1 << 20, 2 << 20, 3000000, 32 << 20 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vsp_buffer buffer = { 0 };

		cr_assert_eq(vsp_buffers_get(buffers, sizes[i], &buffer), 0);
		cr_assert_eq((uintptr_t)buffer.memory % 4096, 0);
		memset(buffer.memory, 1, sizes[i]);
		vsp_buffers_put(buffers, &buffer);
		cr_assert_null(buffer.memory);
		vsp_buffers_put(buffers, &buffer);
	}
}

/* Random sizes come and go; each is filled with its number, and holds it until it goes. */
Test(buffers, they_do_not_overlap)
{
	enum { COUNT = 400 };
	static struct vsp_buffer live[COUNT];
	static size_t sizes[COUNT];
	unsigned seed = 7;

	printf("seed %u\n", seed);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = (unsigned)rand_r(&seed) % COUNT;

		if (live[i].memory) {
			unsigned char *bytes = live[i].memory;

			cr_assert_eq(bytes[0], i % 251);
			cr_assert_eq(bytes[sizes[i] - 1], i % 251);
			vsp_buffers_put(buffers, &live[i]);
			continue;
		}
		sizes[i] = (size_t)4096 << rand_r(&seed) % 6;
		sizes[i] -= (size_t)rand_r(&seed) % 4096;
		cr_assert_eq(vsp_buffers_get(buffers, sizes[i], &live[i]), 0);
		((unsigned char *)live[i].memory)[0] = (unsigned char)(i % 251);
		((unsigned char *)live[i].memory)[sizes[i] - 1] = (unsigned char)(i % 251);
	}
	for (unsigned i = 0; i < COUNT; i++)
		vsp_buffers_put(buffers, &live[i]);
}

Test(buffers, what_was_put_back_comes_again)
{
	struct vsp_buffer first, second;

	cr_assert_eq(vsp_buffers_get(buffers, 4096, &first), 0);
	second = first;
	vsp_buffers_put(buffers, &first);
	cr_assert_eq(vsp_buffers_get(buffers, 65536, &first), 0);
	cr_assert_eq(first.slab, second.slab, "an empty slab serves any size");
	vsp_buffers_put(buffers, &first);
}
