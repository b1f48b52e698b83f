/*
 * The face of struct hv_file: dispatch, the size, and what is the same for every implementation.
 */
#include "hvcore/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "hvcore/checked.h"

/* Pool threads write too: the size only grows here, atomically. */
static void grow_size(struct hv_file *file, uint64_t end)
{
	uint64_t size = __atomic_load_n(&file->size_bytes, __ATOMIC_RELAXED);

	while (size < end && !__atomic_compare_exchange_n(&file->size_bytes, &size, end, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void hv_file_move(struct hv_file *file, struct hv_loop *loop)
{
	file->loop = loop;
}

void hv_file_close(struct hv_file *file)
{
	if (file)
		file->ops->close(file);
}

void hv_file_submit(struct hv_file *file, struct hv_io *io)
{
	if (io->op == HV_WRITE)
		grow_size(file, io->offset + io->length);
	file->ops->submit(file, io);
}

void hv_file_drain(struct hv_file *file, struct hv_io *io)
{
	if (file->ops->drain)
		file->ops->drain(file, io);
	else
		hv_loop_finish(file->loop, io, 0);
}

int hv_file_pread(struct hv_file *file, void *buf, size_t length, uint64_t offset,
		  struct hv_err *err)
{
	return file->ops->pread(file, buf, length, offset, err);
}

int hv_file_pwrite(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
		   struct hv_err *err)
{
	int rc = file->ops->pwrite(file, buf, length, offset, err);

	if (rc == 0)
		grow_size(file, offset + length);
	return rc;
}

int hv_file_barrier(struct hv_file *file, struct hv_err *err)
{
	return file->ops->barrier(file, err);
}

int hv_file_reserve(struct hv_file *file, uint64_t offset, uint64_t length)
{
	return file->ops->reserve(file, offset, length);
}

int hv_file_zero(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	uint64_t size = __atomic_load_n(&file->size_bytes, __ATOMIC_RELAXED);

	/* Past the end there is nothing but zeros already. */
	if (offset >= size)
		return 0;
	return file->ops->zero(file, offset, hv_min_u64(length, size - offset), err);
}

struct waiting {
	struct hv_io io;
	bool finished;
	int result;
};

static void waiting_done(struct hv_io *io, int result)
{
	struct waiting *waiting = (struct waiting *)io;

	waiting->finished = true;
	waiting->result = result;
}

int hv_file_discard(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	struct waiting waiting = { .io = { .op = HV_DISCARD,
					   .offset = offset,
					   .length = length,
					   .err = err,
					   .done = waiting_done } };

	hv_file_submit(file, &waiting.io);
	while (!waiting.finished)
		hv_loop_turn(file->loop, true);
	return waiting.result;
}

int hv_file_truncate(struct hv_file *file, uint64_t size_bytes, struct hv_err *err)
{
	int rc = file->ops->truncate(file, size_bytes, err);

	if (rc == 0)
		__atomic_store_n(&file->size_bytes, size_bytes, __ATOMIC_RELAXED);
	return rc;
}

int hv_file_publish(struct hv_file *file, struct hv_err *err)
{
	return file->ops->publish(file, err);
}

int hv_file_next_data(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole)
{
	return file->ops->next_data(file, offset, data, hole);
}

int hv_file_stat(struct hv_file *file, struct stat *ret)
{
	return file->ops->stat ? file->ops->stat(file, ret) : -EOPNOTSUPP;
}

int hv_file_extent(struct hv_file *file, uint64_t offset, uint64_t length, unsigned flags,
		   struct hv_extent *ret, struct hv_err *err)
{
	uint64_t data = file->run_start, hole = file->run_end;
	bool none;
	int rc = 0;

	if (flags & HV_EXTENT_PLACES) {
		*ret = (struct hv_extent){ .offset = offset,
					   .length = length,
					   .state = HV_EXTENT_DATA,
					   .host_offset = offset };
		return 0;
	}
	if (offset < data || offset >= hole)
		rc = hv_file_next_data(file, offset, &data, &hole);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot look for holes", file->path);
	none = data == hole;
	/*
	 * To find the end of a long run may take the kernel milliseconds. Data that has become a
	 * hole since is data still; a hole is asked for anew each time.
	 */
	if (!file->writable) {
		file->run_start = data;
		file->run_end = hole;
	}
	/* Extents of a disk begin and end with sectors. */
	data = hv_round_down(data, HV_SECTOR_SIZE);
	hole = hv_round_up(hole, HV_SECTOR_SIZE);
	*ret = (struct hv_extent){ .offset = offset, .host_offset = HV_NO_HOST_OFFSET };
	if (none || data > offset) {
		ret->state = HV_EXTENT_ZERO;
		ret->length = none ? length : hv_min_u64(length, data - offset);
	} else {
		ret->state = HV_EXTENT_DATA;
		ret->length = hv_min_u64(length, hole - offset);
		ret->host_offset = offset;
	}
	return 0;
}
