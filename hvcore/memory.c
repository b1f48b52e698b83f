/*
 * Memory for I/O.
 */
#include "hvcore/memory.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SMALL_ALIGN 4096u
#define HUGE_PAGE (2u << 20)

void *hv_io_memory(size_t size)
{
	void *memory;

	if (size < HUGE_PAGE)
		return posix_memalign(&memory, SMALL_ALIGN, size) ? NULL : memory;
	/* A huge page at the end has to be whole, too. */
	if (__builtin_add_overflow(size, HUGE_PAGE - 1, &size))
		return NULL;
	size -= size % HUGE_PAGE;
	if (posix_memalign(&memory, HUGE_PAGE, size))
		return NULL;
	madvise(memory, size, MADV_HUGEPAGE); /* a wish */
	return memory;
}
