#include "fuse-mount/stream.h"

#include <pthread.h>
#include <stdlib.h>

#include "hvcore/checked.h"

#define AHEAD_MIN (1u << 20)
#define AHEAD_MAX (8u << 20)

struct fm_stream {
	struct fm_handle handle;
	pthread_mutex_t lock;
	uint64_t next;   /* where the last read ended */
	uint64_t window; /* bytes to be ahead; 0: not in sequence */
	uint64_t ahead;  /* up to where that has been begun */
};

static void free_stream(struct fm_handle *handle)
{
	struct fm_stream *stream = (struct fm_stream *)handle;

	pthread_mutex_destroy(&stream->lock);
	free(stream);
}

struct fm_stream *fm_stream_new(struct fm_handles *handles)
{
	struct fm_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->handle.free = free_stream;
	pthread_mutex_init(&stream->lock, NULL);
	fm_handle_add(handles, &stream->handle);
	return stream;
}

/* Several requests of one sequence may be under way, and come out of order. */
static bool in_sequence(const struct fm_stream *stream, uint64_t offset)
{
	uint64_t slack = stream->window;

	return offset + slack >= stream->next && offset <= stream->next + slack;
}

void fm_stream_read_ahead(struct fm_stream *stream, struct fm_map *map, uint64_t offset,
			  size_t length, uint64_t limit)
{
	uint64_t from = 0, to = 0, end = offset + length;

	pthread_mutex_lock(&stream->lock);
	if (in_sequence(stream, offset))
		stream->window = hv_min_u64(hv_max_u64(2 * stream->window, AHEAD_MIN), AHEAD_MAX);
	else
		stream->window = 0;
	stream->next = end;
	if (stream->ahead < end || !stream->window)
		stream->ahead = end;
	if (stream->window && stream->ahead - end <= stream->window / 2) {
		from = stream->ahead;
		to = stream->ahead = hv_min_u64(end + stream->window, limit);
	}
	pthread_mutex_unlock(&stream->lock);
	if (to > from)
		fm_map_read_ahead(map, from, to - from);
}
