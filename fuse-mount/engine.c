#include "fuse-mount/engine.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/container.h"
#include "hvcore/log.h"

struct fm_engine {
	struct hv_disk *disk;
	pthread_t thread;
	bool stop;             /* the thread's */
	pthread_mutex_t edges; /* one reads, changes and writes parts of sectors at a time */
};

/* A call: posted to the thread, which does what start says and then wakes the caller. */
struct call {
	struct hv_work work;
	struct hv_io io;
	struct fm_engine *engine;
	void (*start)(struct call *call);
	sem_t done;
	int result;
	struct hv_extent extent;
	struct hv_err *err;
};

static void end_call(struct call *call, int result)
{
	call->result = result;
	sem_post(&call->done);
}

static void start_call(struct hv_work *work, int result)
{
	struct call *call = (struct call *)work;

	(void)result;
	call->start(call);
}

static int run(struct call *call)
{
	HV_ERR(err);

	call->err = &err;
	call->io.err = &err;
	sem_init(&call->done, 0, 0);
	call->work.done = start_call;
	hv_loop_post(call->engine->disk->loop, &call->work);
	while (sem_wait(&call->done) && errno == EINTR)
		;
	sem_destroy(&call->done);
	if (call->result)
		hv_log(HV_LOG_WARN, "%s", hv_err_text(&err, call->result));
	return call->result;
}

static void *serve(void *arg)
{
	struct fm_engine *engine = arg;

	while (!engine->stop)
		hv_loop_serve(engine->disk->loop, -1);
	return NULL;
}

int fm_engine_new(struct hv_disk *disk, struct fm_engine **ret, struct hv_err *err)
{
	HV_AUTO(free) struct fm_engine *engine = calloc(1, sizeof(*engine));
	int rc = hv_loop_listen(disk->loop, err);

	if (rc)
		return rc;
	if (!engine)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	engine->disk = disk;
	pthread_mutex_init(&engine->edges, NULL);
	rc = pthread_create(&engine->thread, NULL, serve, engine);
	if (rc)
		return hv_fail_errno(err, -rc, "%s: cannot start a thread", disk->path);
	*ret = hv_steal(engine);
	return 0;
}

static void stop(struct call *call)
{
	call->engine->stop = true;
	end_call(call, 0);
}

void fm_engine_free(struct fm_engine *engine)
{
	struct call call = { .engine = engine, .start = stop };
	struct hv_loop *loop;

	if (!engine)
		return;
	run(&call);
	pthread_join(engine->thread, NULL);
	loop = engine->disk->loop;
	hv_disk_close(engine->disk);
	hv_loop_free(loop);
	pthread_mutex_destroy(&engine->edges);
	free(engine);
}

/* Whole sectors. */

static void io_done(struct hv_io *io, int result)
{
	struct call *call = hv_container_of(io, struct call, io);

	end_call(call, result);
}

static void start_io(struct call *call)
{
	hv_disk_submit(call->engine->disk, &call->io);
}

static int transfer(struct fm_engine *engine, enum hv_io_op op, void *buf, uint64_t offset,
		    uint64_t length)
{
	struct iovec iov = { buf, length };
	struct call call = {
		.engine = engine,
		.start = start_io,
		.io = { .op = op, .offset = offset, .length = length, .done = io_done },
	};

	if (!length && op != HV_FLUSH)
		return 0;
	if (op == HV_READ || op == HV_WRITE) {
		call.io.iov = &iov;
		call.io.iov_count = 1;
	}
	return run(&call);
}

/* Any bytes: [first, last) is what the range has of whole sectors; before and behind are edges. */

static int read_edge(struct fm_engine *engine, char *buf, uint64_t offset, uint64_t length)
{
	char sector[HV_SECTOR_SIZE];
	uint64_t skip = offset % HV_SECTOR_SIZE;
	int rc = transfer(engine, HV_READ, sector, offset - skip, sizeof(sector));

	if (rc == 0)
		memcpy(buf, sector + skip, length);
	return rc;
}

/* buf NULL: zeros */
static int write_edge(struct fm_engine *engine, const char *buf, uint64_t offset, uint64_t length)
{
	char sector[HV_SECTOR_SIZE];
	uint64_t skip = offset % HV_SECTOR_SIZE;
	int rc;

	pthread_mutex_lock(&engine->edges);
	rc = transfer(engine, HV_READ, sector, offset - skip, sizeof(sector));
	if (rc == 0 && buf)
		memcpy(sector + skip, buf, length);
	else if (rc == 0)
		memset(sector + skip, 0, length);
	if (rc == 0)
		rc = transfer(engine, HV_WRITE, sector, offset - skip, sizeof(sector));
	pthread_mutex_unlock(&engine->edges);
	return rc;
}

/* How much of a range that begins there is an edge. */
static uint64_t edge_length(uint64_t offset, uint64_t length)
{
	uint64_t skip = offset % HV_SECTOR_SIZE;

	if (skip)
		return hv_min_u64(length, HV_SECTOR_SIZE - skip);
	return length < HV_SECTOR_SIZE ? length : 0;
}

int fm_engine_read(struct fm_engine *engine, void *buf, uint64_t offset, uint64_t length)
{
	char *to = buf;

	while (length) {
		uint64_t part = edge_length(offset, length);
		int rc;

		if (part) {
			rc = read_edge(engine, to, offset, part);
		} else {
			part = length / HV_SECTOR_SIZE * HV_SECTOR_SIZE;
			rc = transfer(engine, HV_READ, to, offset, part);
		}
		if (rc)
			return rc;
		to += part;
		offset += part;
		length -= part;
	}
	return 0;
}

/* buf NULL: op needs none */
static int change(struct fm_engine *engine, enum hv_io_op op, const char *buf, uint64_t offset,
		  uint64_t length)
{
	while (length) {
		uint64_t part = edge_length(offset, length);
		int rc;

		if (part) {
			rc = write_edge(engine, buf, offset, part);
		} else {
			part = length / HV_SECTOR_SIZE * HV_SECTOR_SIZE;
			rc = transfer(engine, op, (void *)(uintptr_t)buf, offset, part);
		}
		if (rc)
			return rc;
		buf = buf ? buf + part : NULL;
		offset += part;
		length -= part;
	}
	return 0;
}

int fm_engine_write(struct fm_engine *engine, const void *buf, uint64_t offset, uint64_t length)
{
	return change(engine, HV_WRITE, buf, offset, length);
}

int fm_engine_zero(struct fm_engine *engine, uint64_t offset, uint64_t length, bool discard)
{
	return change(engine, discard ? HV_DISCARD : HV_ZERO, NULL, offset, length);
}

int fm_engine_flush(struct fm_engine *engine)
{
	return transfer(engine, HV_FLUSH, NULL, 0, 0);
}

static void start_extent(struct call *call)
{
	end_call(call, hv_disk_extent(call->engine->disk, call->io.offset, call->io.length, 0,
				      &call->extent, call->err));
}

int fm_engine_seek(struct fm_engine *engine, uint64_t offset, uint64_t end, bool data,
		   uint64_t *ret)
{
	while (offset < end) {
		uint64_t start = offset / HV_SECTOR_SIZE * HV_SECTOR_SIZE;
		struct call call = {
			.engine = engine,
			.start = start_extent,
			.io = { .offset = start,
				.length = hv_round_up(end, HV_SECTOR_SIZE) - start },
		};
		int rc = run(&call);

		if (rc)
			return rc;
		if ((call.extent.state == HV_EXTENT_DATA) == data)
			break;
		offset = start + call.extent.length;
	}
	*ret = hv_min_u64(offset, end);
	return 0;
}
