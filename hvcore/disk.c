/*
 * What all disks share: the checks at the top of the data path, the blocking face, and the merging
 * of extents.
 */
#include "hvcore/disk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/iov.h"

static bool aligned(uint64_t x)
{
	return (x & (HV_SECTOR_SIZE - 1)) == 0;
}

const char *hv_io_verb(enum hv_io_op op)
{
	static const char *const verbs[] = {
		[HV_READ] = "read",       [HV_WRITE] = "write", [HV_ZERO] = "zero",
		[HV_DISCARD] = "discard", [HV_FLUSH] = "flush",
	};

	return verbs[op];
}

void hv_disk_submit(struct hv_disk *disk, struct hv_io *io)
{
	if (!aligned(io->offset) || !aligned(io->length) ||
	    !hv_range_inside(io->offset, io->length, disk->size_bytes)) {
		hv_io_fail(disk, io, -EINVAL,
			   "%s: request of %llu bytes at %llu is unaligned or outside the disk",
			   disk->path, (unsigned long long)io->length,
			   (unsigned long long)io->offset);
		return;
	}
	if (!disk->writable && hv_io_changes_data(io->op)) {
		hv_io_fail(disk, io, -EROFS, "%s: the disk is open read-only", disk->path);
		return;
	}
	if ((io->length == 0 && io->op != HV_FLUSH) || (io->op == HV_FLUSH && !disk->writable)) {
		hv_loop_finish(disk->loop, io, 0);
		return;
	}
	disk->ops->submit(disk, io);
}

void hv_io_fail(struct hv_disk *disk, struct hv_io *io, int code, const char *fmt, ...)
{
	if (io->err && !io->err->code) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(io->err->sentence, sizeof(io->err->sentence), fmt, ap);
		va_end(ap);
		io->err->code = code;
	}
	hv_loop_finish(disk->loop, io, code);
}

void hv_io_fill_zero(const struct hv_io *io, uint64_t start, uint64_t length)
{
	for (int i = 0; i < io->iov_count && length; i++) {
		uint64_t have = io->iov[i].iov_len, n;

		if (start >= have) {
			start -= have;
			continue;
		}
		n = hv_min_u64(have - start, length);
		memset((char *)io->iov[i].iov_base + start, 0, n);
		length -= n;
		start = 0;
	}
}

struct blocking {
	struct hv_io io;
	bool finished;
	int result;
};

static void blocking_done(struct hv_io *io, int result)
{
	struct blocking *call = (struct blocking *)io;

	call->finished = true;
	call->result = result;
}

static int run_blocking(struct hv_disk *disk, enum hv_io_op op, struct iovec *iov, uint64_t offset,
			uint64_t length, struct hv_err *err)
{
	struct blocking call = {
		.io = { .op = op,
			.offset = offset,
			.length = length,
			.iov = iov,
			.iov_count = iov ? 1 : 0,
			.err = err,
			.done = blocking_done },
	};

	hv_disk_submit(disk, &call.io);
	while (!call.finished)
		hv_loop_turn(disk->loop, true);
	if (call.result)
		return hv_fail_errno(err, call.result, "%s: cannot %s %llu bytes at %llu",
				     disk->path, hv_io_verb(op), (unsigned long long)length,
				     (unsigned long long)offset);
	return 0;
}

int hv_disk_pread(struct hv_disk *disk, void *buf, uint64_t length, uint64_t offset,
		  struct hv_err *err)
{
	struct iovec iov = { .iov_base = buf, .iov_len = length };

	return run_blocking(disk, HV_READ, &iov, offset, length, err);
}

int hv_disk_pwrite(struct hv_disk *disk, const void *buf, uint64_t length, uint64_t offset,
		   struct hv_err *err)
{
	union {
		const void *in;
		void *out;
	} memory = { .in = buf }; /* writing only reads what the vector points to */
	struct iovec iov = { .iov_base = memory.out, .iov_len = length };

	return run_blocking(disk, HV_WRITE, &iov, offset, length, err);
}

int hv_disk_zero(struct hv_disk *disk, uint64_t length, uint64_t offset, struct hv_err *err)
{
	return run_blocking(disk, HV_ZERO, NULL, offset, length, err);
}

int hv_disk_discard(struct hv_disk *disk, uint64_t length, uint64_t offset, struct hv_err *err)
{
	return run_blocking(disk, HV_DISCARD, NULL, offset, length, err);
}

int hv_disk_flush(struct hv_disk *disk, struct hv_err *err)
{
	return run_blocking(disk, HV_FLUSH, NULL, 0, 0, err);
}

static bool continues(const struct hv_extent *a, const struct hv_extent *b)
{
	if (a->state != b->state || a->depth != b->depth)
		return false;
	if (a->host_offset == HV_NO_HOST_OFFSET || b->host_offset == HV_NO_HOST_OFFSET)
		return a->host_offset == b->host_offset;
	return a->host_offset + a->length == b->host_offset;
}

int hv_disk_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		   struct hv_extent *ret, struct hv_err *err)
{
	struct hv_extent all, next;
	uint64_t end;
	int rc;

	if (offset >= disk->size_bytes || !length)
		return hv_fail(err, -EINVAL, "%s: offset %llu is outside the disk", disk->path,
			       (unsigned long long)offset);
	end = offset + hv_min_u64(length, disk->size_bytes - offset);
	rc = disk->ops->extent(disk, offset, end - offset, flags, &all, err);
	if (rc)
		return rc;
	while (!(flags & HV_EXTENT_COARSE) && all.offset + all.length < end) {
		uint64_t at = all.offset + all.length;

		/* A fault further on is reported to whoever asks there. */
		if (disk->ops->extent(disk, at, end - at, flags, &next, NULL) ||
		    !continues(&all, &next))
			break;
		all.length += next.length;
	}
	*ret = all;
	return 0;
}

void hv_disk_move(struct hv_disk *disk, struct hv_loop *loop)
{
	if (disk->ops->move)
		disk->ops->move(disk, loop);
	disk->loop = loop;
}

void hv_disk_close(struct hv_disk *disk)
{
	if (disk)
		disk->ops->close(disk);
}

const char *hv_disk_format(const struct hv_disk *disk)
{
	return disk->ops->format;
}
