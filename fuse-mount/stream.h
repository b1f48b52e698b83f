/*
 * Inside fuse-mount/: an open file; while it is read in sequence, what follows is read ahead. Any
 * thread may call.
 */
#ifndef FUSE_MOUNT_STREAM_H
#define FUSE_MOUNT_STREAM_H

#include "fuse-mount/handle.h"
#include "fuse-mount/map.h"

struct fm_stream;

/* Goes with its handle. NULL: no memory. */
struct fm_stream *fm_stream_new(struct fm_handles *handles);

/* [offset, offset + length) of the disk is about to be read; the volume ends at limit. */
void fm_stream_read_ahead(struct fm_stream *stream, struct fm_map *map, uint64_t offset,
			  size_t length, uint64_t limit);

#endif
