/*
 * struct hv_file over a world. Asynchronous requests take their turn on the stage; blocking ones
 * are done at once on the loop's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/iov.h"
#include "tests/crash/log.h"

#define BEGINNING 1577836800 /* of time: 2020-01-01T00:00Z */

struct crash_file {
	struct hv_file base;
	struct crash_world *world;
	unsigned node;
	char *name;               /* in the world, when it was opened */
	struct request *requests; /* in flight, the newest first */
	uint64_t submitted;
	int barrier_error; /* after a barrier failed all fail */
};

struct request {
	struct crash_task task;
	struct crash_file *file;
	struct request *older, **link;
	uint64_t number;
	struct crash_entry *entry; /* NULL: a read */
	struct hv_io *upper;
};

/* A blocking call; its entry's result is what it returns. */
struct call {
	struct crash_task task;
	struct crash_file *file;
	struct crash_entry *entry;
};

static struct crash_file *file_of(struct hv_file *file)
{
	return (struct crash_file *)file;
}

static struct crash_bytes *bytes_of(struct crash_file *file)
{
	return &file->world->now.nodes[file->node].bytes;
}

static int complete(struct crash_file *file, struct crash_entry *entry)
{
	bool barrier = entry->op == CRASH_BARRIER;
	int rc =
		crash_complete(file->world, entry, barrier || entry->fua ? file->barrier_error : 0);

	if (barrier)
		file->barrier_error = rc;
	return rc;
}

static void call_finish(struct crash_task *task)
{
	struct call *call = (struct call *)task;

	complete(call->file, call->entry);
}

static int await(struct crash_file *file, struct crash_entry *entry)
{
	struct call call = { .task.finish = call_finish, .file = file, .entry = entry };

	crash_stage_await(file->world->stage, &call.task);
	return entry->result;
}

static struct crash_entry *log_range(struct crash_file *file, enum crash_op op, uint64_t offset,
				     uint64_t length)
{
	struct crash_entry *entry = crash_log(file->world, op, file->node);

	entry->offset = offset;
	entry->length = length;
	return entry;
}

static int file_pread(struct hv_file *base, void *buf, size_t length, uint64_t offset,
		      struct hv_err *err)
{
	struct crash_file *file = file_of(base);
	int rc = crash_fault(file->world, CRASH_READ);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot read", base->path);
	crash_bytes_read(bytes_of(file), buf, length, offset);
	return 0;
}

static int file_pwrite(struct hv_file *base, const void *buf, size_t length, uint64_t offset,
		       struct hv_err *err)
{
	struct crash_entry *entry = log_range(file_of(base), CRASH_WRITE, offset, length);
	int rc;

	entry->data = crash_alloc(length);
	memcpy(entry->data, buf, length);
	rc = await(file_of(base), entry);
	return rc ? hv_fail_errno(err, rc, "%s: cannot write", base->path) : 0;
}

static int file_barrier(struct hv_file *base, struct hv_err *err)
{
	int rc = await(file_of(base), log_range(file_of(base), CRASH_BARRIER, 0, 0));

	return rc ? hv_fail_errno(err, rc, "%s: cannot flush", base->path) : 0;
}

static int file_reserve(struct hv_file *base, uint64_t offset, uint64_t length)
{
	(void)offset;
	(void)length;
	return crash_fault(file_of(base)->world, CRASH_RESERVE);
}

static int file_zero(struct hv_file *base, uint64_t offset, uint64_t length, struct hv_err *err)
{
	int rc = await(file_of(base), log_range(file_of(base), CRASH_ZERO, offset, length));

	return rc ? hv_fail_errno(err, rc, "%s: cannot zero", base->path) : 0;
}

static int file_truncate(struct hv_file *base, uint64_t size_bytes, struct hv_err *err)
{
	int rc = await(file_of(base), log_range(file_of(base), CRASH_TRUNCATE, size_bytes, 0));

	return rc ? hv_fail_errno(err, rc, "%s: cannot truncate", base->path) : 0;
}

static int file_next_data(struct hv_file *base, uint64_t offset, uint64_t *data, uint64_t *hole)
{
	*hole = bytes_of(file_of(base))->size;
	*data = hv_min_u64(offset, *hole);
	return 0;
}

static int file_publish(struct hv_file *base, struct hv_err *err)
{
	struct crash_file *file = file_of(base);
	const char *slash = strrchr(file->name, '/');
	struct crash_entry *entry;
	int rc = file_barrier(base, err);

	if (rc)
		return rc;
	entry = log_range(file, CRASH_NAME, 0, 0);
	entry->name = strdup(file->name);
	rc = await(file, entry);
	if (rc == 0) {
		entry = log_range(file, CRASH_SYNC_NAMES, 0, 0);
		entry->name = strndup(file->name, slash ? (size_t)(slash - file->name) : 0);
		rc = await(file, entry);
	}
	return rc ? hv_fail_errno(err, rc, "%s: cannot publish", base->path) : 0;
}

static int read_vector(struct request *request)
{
	const struct hv_io *io = request->upper;
	uint64_t offset = io->offset;
	int rc = crash_fault(request->file->world, CRASH_READ);

	for (int i = 0; i < io->iov_count && rc == 0; i++) {
		crash_bytes_read(bytes_of(request->file), io->iov[i].iov_base, io->iov[i].iov_len,
				 offset);
		offset += io->iov[i].iov_len;
	}
	return rc;
}

static void request_finish(struct crash_task *task)
{
	struct request *request = (struct request *)task;
	struct hv_io *upper = request->upper;
	int rc = request->entry ? complete(request->file, request->entry) : read_vector(request);

	*request->link = request->older;
	if (request->older)
		request->older->link = request->link;
	free(request);
	upper->done(upper, rc);
}

/* What is neither a read, a write nor a flush leaves zeros. */
static void file_submit(struct hv_file *base, struct hv_io *io)
{
	struct crash_file *file = file_of(base);
	struct request *request = crash_alloc(sizeof(*request));

	*request = (struct request){ .task.finish = request_finish,
				     .file = file,
				     .older = file->requests,
				     .link = &file->requests,
				     .number = file->submitted++,
				     .upper = io };
	if (request->older)
		request->older->link = &request->older;
	file->requests = request;
	if (io->op == HV_FLUSH)
		request->entry = log_range(file, CRASH_BARRIER, 0, 0);
	else if (io->op != HV_READ)
		request->entry = log_range(file, io->op == HV_WRITE ? CRASH_WRITE : CRASH_ZERO,
					   io->offset, io->length);
	if (io->op == HV_WRITE) {
		request->entry->data = crash_alloc(io->length);
		hv_iov_gather(io->iov, io->iov_count, 0, request->entry->data, io->length);
	}
	if (request->entry && io->op != HV_FLUSH)
		request->entry->fua = io->flags & HV_IO_FUA;
	crash_stage_later(file->world->stage, &request->task);
}

/* Takes one turn after the other until nothing older is in flight. */
static void drain_finish(struct crash_task *task)
{
	struct request *drain = (struct request *)task;
	const struct request *oldest = drain->file->requests;

	while (oldest && oldest->older)
		oldest = oldest->older;
	if (oldest && oldest->number < drain->number) {
		crash_stage_later(drain->file->world->stage, task);
		return;
	}
	drain->upper->done(drain->upper, 0);
	free(drain);
}

static void file_drain(struct hv_file *base, struct hv_io *io)
{
	struct crash_file *file = file_of(base);
	struct request *drain = crash_alloc(sizeof(*drain));

	*drain = (struct request){
		.task.finish = drain_finish, .file = file, .number = file->submitted, .upper = io
	};
	crash_stage_later(file->world->stage, &drain->task);
}

static int file_stat(struct hv_file *base, struct stat *ret)
{
	struct crash_file *file = file_of(base);
	struct timespec changed = { .tv_sec = BEGINNING };

	/* Every instant is another one. */
	changed.tv_sec += (time_t)file->world->now.nodes[file->node].changed;
	*ret = (struct stat){ .st_dev = base->dev,
			      .st_ino = base->ino,
			      .st_mode = S_IFREG | 0600,
			      .st_nlink = 1,
			      .st_size = (off_t)bytes_of(file)->size,
			      .st_blocks = (blkcnt_t)(bytes_of(file)->size / HV_SECTOR_SIZE),
			      .st_mtim = changed,
			      .st_ctim = changed };
	return 0;
}

static void file_close(struct hv_file *base)
{
	crash_world_drop(file_of(base)->world);
	free(file_of(base)->name);
	free(base->path);
	free(base);
}

static const struct hv_file_ops file_ops = {
	.submit = file_submit,
	.drain = file_drain,
	.pread = file_pread,
	.pwrite = file_pwrite,
	.barrier = file_barrier,
	.reserve = file_reserve,
	.zero = file_zero,
	.truncate = file_truncate,
	.next_data = file_next_data,
	.publish = file_publish,
	.stat = file_stat,
	.close = file_close,
};

struct hv_file *crash_file_new(struct crash_world *world, unsigned node, const char *name,
			       bool writable)
{
	struct crash_file *file = crash_alloc(sizeof(*file));

	file->base = (struct hv_file){ .ops = &file_ops,
				       .loop = crash_stage_loop(world->stage),
				       .path = strdup(name),
				       .size_bytes = world->now.nodes[node].bytes.size,
				       .writable = writable,
				       .align_bytes = HV_SECTOR_SIZE,
				       .fd = -1 };
	file->world = world;
	file->node = node;
	file->name = strdup(name);
	world->users++;
	return &file->base;
}

unsigned crash_file_node(const struct hv_file *file)
{
	return ((const struct crash_file *)file)->node;
}
