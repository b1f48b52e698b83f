/*
 * Inside fuse-mount/: what the kernel holds open. It says of each when it lets go, but not at the
 * very end: after the unmount nobody is told any more. Any thread may call.
 */
#ifndef FUSE_MOUNT_HANDLE_H
#define FUSE_MOUNT_HANDLE_H

#include <pthread.h>

/* The first member of what an open file is. */
struct fm_handle {
	struct fm_handle *next, **link;
	void (*free)(struct fm_handle *handle);
};

struct fm_handles {
	pthread_mutex_t lock;
	struct fm_handle *first;
};

void fm_handles_init(struct fm_handles *handles);
/* Frees all that are left. */
void fm_handles_done(struct fm_handles *handles);

void fm_handle_add(struct fm_handles *handles, struct fm_handle *handle);
/* Takes it out and frees it; NULL is none. */
void fm_handle_free(struct fm_handles *handles, struct fm_handle *handle);

#endif
