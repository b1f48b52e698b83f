/*
 * Slabs and the buffers that are cut from them. The free buffers of a slab are bits.
 */
#include "vsp-storage/buffers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "hvcore/memory.h"

#define SLAB_SHIFT 21
#define SLAB_BYTES ((size_t)1 << SLAB_SHIFT)
#define SMALLEST_SHIFT 12
#define CLASSES (SLAB_SHIFT - SMALLEST_SHIFT + 1)
#define SPARE_SLABS 8
#define WORDS (SLAB_BYTES >> SMALLEST_SHIFT >> 6)

struct vsp_slab {
	struct vsp_slab *next,
		**link; /* in a list of slabs with free buffers, or in none (link NULL) */
	void *memory;
	unsigned shift;         /* of a buffer's size; 0: larger than a slab, never recycled */
	unsigned count, used;   /* buffers */
	uint64_t unused[WORDS]; /* a bit for each */
};

struct vsp_buffers {
	struct vsp_slab *classes[CLASSES]; /* slabs with free buffers, and some in use */
	struct vsp_slab *spare;            /* slabs with none in use */
	unsigned spare_count;
};

static void list_add(struct vsp_slab **list, struct vsp_slab *slab)
{
	slab->next = *list;
	slab->link = list;
	if (slab->next)
		slab->next->link = &slab->next;
	*list = slab;
}

static void list_remove(struct vsp_slab *slab)
{
	*slab->link = slab->next;
	if (slab->next)
		slab->next->link = slab->link;
	slab->link = NULL;
}

static struct vsp_slab *slab_new(size_t size)
{
	struct vsp_slab *slab = calloc(1, sizeof(*slab));

	if (!slab)
		return NULL;
	slab->memory = hv_io_memory(size);
	if (!slab->memory) {
		free(slab);
		return NULL;
	}
	return slab;
}

static void slab_free(struct vsp_slab *slab)
{
	free(slab->memory);
	free(slab);
}

struct vsp_buffers *vsp_buffers_new(void)
{
	return calloc(1, sizeof(struct vsp_buffers));
}

void vsp_buffers_free(struct vsp_buffers *buffers)
{
	struct vsp_slab *slab;

	while (buffers && (slab = buffers->spare)) {
		list_remove(slab);
		slab_free(slab);
	}
	free(buffers);
}

static unsigned shift_for(size_t size)
{
	unsigned shift = SMALLEST_SHIFT;

	while ((size_t)1 << shift < size)
		shift++;
	return shift;
}

static void cut(struct vsp_slab *slab, unsigned shift)
{
	slab->shift = shift;
	slab->count = 1u << (SLAB_SHIFT - shift);
	slab->used = 0;
	memset(slab->unused, 0, sizeof(slab->unused));
	if (slab->count < 64)
		slab->unused[0] = (UINT64_C(1) << slab->count) - 1;
	else
		memset(slab->unused, 0xff, slab->count / 8);
}

/* A slab with a free buffer of that size, in its list. */
static struct vsp_slab *slab_for(struct vsp_buffers *buffers, unsigned shift)
{
	struct vsp_slab **list = &buffers->classes[shift - SMALLEST_SHIFT];
	struct vsp_slab *slab = *list;

	if (slab)
		return slab;
	slab = buffers->spare;
	if (slab) {
		list_remove(slab);
		buffers->spare_count--;
	} else {
		slab = slab_new(SLAB_BYTES);
	}
	if (slab) {
		cut(slab, shift);
		list_add(list, slab);
	}
	return slab;
}

static int get_large(size_t size, struct vsp_buffer *ret)
{
	struct vsp_slab *slab = slab_new(size);

	if (!slab)
		return -ENOMEM;
	*ret = (struct vsp_buffer){ slab->memory, slab };
	return 0;
}

int vsp_buffers_get(struct vsp_buffers *buffers, size_t size, struct vsp_buffer *ret)
{
	unsigned shift, word = 0, bit;
	struct vsp_slab *slab;

	if (size > SLAB_BYTES)
		return get_large(size, ret);
	shift = shift_for(size);
	slab = slab_for(buffers, shift);
	if (!slab)
		return -ENOMEM;
	while (!slab->unused[word])
		word++;
	bit = (unsigned)__builtin_ctzll(slab->unused[word]);
	slab->unused[word] &= slab->unused[word] - 1;
	if (++slab->used == slab->count)
		list_remove(slab);
	ret->memory = (char *)slab->memory + ((size_t)(word * 64 + bit) << shift);
	ret->slab = slab;
	return 0;
}

static void retire(struct vsp_buffers *buffers, struct vsp_slab *slab)
{
	if (slab->link)
		list_remove(slab);
	if (buffers->spare_count == SPARE_SLABS) {
		slab_free(slab);
		return;
	}
	list_add(&buffers->spare, slab);
	buffers->spare_count++;
}

void vsp_buffers_put(struct vsp_buffers *buffers, struct vsp_buffer *buffer)
{
	struct vsp_slab *slab = buffer->slab;
	size_t index;

	if (!slab)
		return;
	if (!slab->shift) {
		slab_free(slab);
	} else {
		index = (size_t)((char *)buffer->memory - (char *)slab->memory) >> slab->shift;
		slab->unused[index / 64] |= UINT64_C(1) << (index % 64);
		if (--slab->used == 0)
			retire(buffers, slab);
		else if (!slab->link)
			list_add(&buffers->classes[slab->shift - SMALLEST_SHIFT], slab);
	}
	*buffer = (struct vsp_buffer){ 0 };
}
