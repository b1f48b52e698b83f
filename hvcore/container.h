/*
 * The structure that a member is embedded in: callbacks get the member that they were given with.
 */
#ifndef HVCORE_CONTAINER_H
#define HVCORE_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

/*
 * member may be a path, as of offsetof; pointer points to it and is of its type. (Nothing is read
 * at address 8; of address 0 cppcheck would say that something was.)
 */
#define hv_container_of(pointer, type, member)                                 \
	({                                                                     \
		const __typeof__(((type *)8)->member) *_member = (pointer);    \
		(type *)((char *)(uintptr_t)_member - offsetof(type, member)); \
	})

#endif
