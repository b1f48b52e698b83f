/*
 * The structure that a member is embedded in: callbacks get the member that they were given with.
 */
#ifndef HVCORE_CONTAINER_H
#define HVCORE_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

/* member may be a path, as of offsetof; pointer points to it and is of its type. */
#define hv_container_of(pointer, type, member)                                 \
	({                                                                     \
		const __typeof__(((type *)0)->member) *_member = (pointer);    \
		(type *)((char *)(uintptr_t)_member - offsetof(type, member)); \
	})

#endif
