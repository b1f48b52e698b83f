/*
 * Inside fuse-mount/: where the bytes of volumes come from and go to. What may only be read is a
 * map; what may be written is an engine; and what the readers of files/ see is an engine upon an
 * overlay of its own, so that they can replay a journal and the disk stays as it is. Any thread may
 * call.
 */
#ifndef FUSE_MOUNT_VOLUME_H
#define FUSE_MOUNT_VOLUME_H

#include <pthread.h>

#include "fuse-mount/engine.h"
#include "fuse-mount/map.h"
#include "fuse-mount/tree.h"

struct fm_volumes {
	uint64_t base;            /* where the first byte of the window lies in the disk */
	struct fm_map *map;       /* one of map */
	struct fm_engine *engine; /* and engine is there */
	pthread_mutex_t lock;     /* scratch */
	struct fm_engine
		*scratch; /* the overlay of the readers, made when the first of them comes */
};

/* What node is written by; NULL: it is read by volumes->map, or -errno in *code. */
struct fm_engine *fm_volume_engine(struct fm_volumes *volumes, const struct fm_node *node,
				   int *code);

/* Can node be opened for writing? */
bool fm_volume_writable(const struct fm_volumes *volumes, const struct fm_node *node);

/* What has been written to the disk is durable; what went into the readers' overlay never is. */
int fm_volumes_flush(struct fm_volumes *volumes);

#endif
