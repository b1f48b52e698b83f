/*
 * Scope-bound resources.
 *
 *	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
 *	...
 *	*ret = hv_steal(file);
 *
 * HV_DEFINE_CLEANUP(type, fn) makes a pointer destructor usable with HV_AUTO; it stands in the
 * header beside the destructor. Destroying NULL is always safe.
 */
#ifndef HVCORE_CLEANUP_H
#define HVCORE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define HV_AUTO(fn) __attribute__((cleanup(hv_auto_##fn)))

#define HV_DEFINE_CLEANUP(type, fn)               \
	static inline void hv_auto_##fn(type **p) \
	{                                         \
		fn(*p);                           \
		*p = NULL;                        \
	}

/* Hands the pointer on and leaves NULL behind, so that the scope's end destroys nothing. */
#define hv_steal(p)                     \
	({                              \
		__typeof__(p) _v = (p); \
		(p) = NULL;             \
		_v;                     \
	})

/* The same for a descriptor. */
#define hv_steal_fd(fd)         \
	({                      \
		int _fd = (fd); \
		(fd) = -1;      \
		_fd;            \
	})

static inline void hv_auto_free(void *p)
{
	free(*(void **)p);
}

static inline void hv_auto_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#endif
