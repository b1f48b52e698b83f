/*
 * Files over a file descriptor: I/O.
 *
 * Reads and writes that satisfy O_DIRECT go to libaio; everything else goes to the pool, where
 * unaligned direct requests are bounced. A file opened without O_DIRECT uses the pool, but for
 * short reads of what is in the page cache.
 */
#include "hvcore/file_posix.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/iov.h"
#include "hvcore/log.h"

#define BOUNCE_BYTES (1u << 20)
#define WRITE_ZEROS_BELOW (64u << 10) /* quicker than changing the file's extents */
#define CACHED_READ_MAX (64u << 10)   /* longer ones would hold up the loop */
#define CACHE_MISSES_MAX 256
#define CACHE_HIT_PAYS 8   /* misses: a look in vain costs so much less than a thread */
#define CACHE_RETRY 32     /* after too many misses, one of so many reads has a look */
#define DISCARD_FROM 4096u /* less holds no block of any filesystem */

static struct posix_file *posix_of(struct hv_file *file)
{
	return (struct posix_file *)file;
}

/* Plain transfers; offset, length and memory suit the descriptor. */

/* Past the end of the file is zero. */
static int read_fully(int fd, void *buf, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, (char *)buf + done, length - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		/* With O_DIRECT one cannot go on from an odd end of file. */
		if (n == 0 || (n < 0 && errno == EINVAL && done % HV_SECTOR_SIZE))
			break;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	memset((char *)buf + done, 0, length - done);
	return 0;
}

static int write_fully(int fd, const void *buf, size_t length, uint64_t offset)
{
	while (length) {
		ssize_t n = pwrite(fd, buf, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		buf = (const char *)buf + n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static bool suits_direct(const struct hv_file *file, const void *buf, uint64_t length,
			 uint64_t offset)
{
	uint64_t mask = file->align_bytes - 1;

	return !file->direct || !(((uintptr_t)buf | length | offset) & mask);
}

/* Unaligned requests on an O_DIRECT descriptor. */

static int bounce_read(struct hv_file *file, void *buf, size_t length, uint64_t offset)
{
	HV_AUTO(free) void *bounce = NULL;
	int rc = 0;

	if (posix_memalign(&bounce, 4096, BOUNCE_BYTES))
		return -ENOMEM;
	while (length && rc == 0) {
		uint64_t start = hv_round_down(offset, file->align_bytes);
		uint64_t skip = offset - start;
		size_t n = hv_min_u64(length, BOUNCE_BYTES - skip);

		rc = read_fully(file->fd, bounce, hv_round_up(skip + n, file->align_bytes), start);
		if (rc)
			break;
		memcpy(buf, (char *)bounce + skip, n);
		buf = (char *)buf + n;
		offset += n;
		length -= n;
	}
	return rc;
}

static int bounce_write_piece(struct hv_file *file, char *bounce, const void *buf, size_t length,
			      uint64_t offset)
{
	uint64_t start = hv_round_down(offset, file->align_bytes);
	uint64_t skip = offset - start;
	size_t whole = hv_round_up(skip + length, file->align_bytes);
	struct stat st;
	int rc;

	if (fstat(file->fd, &st))
		return -errno;
	if (skip || whole != skip + length) {
		rc = read_fully(file->fd, bounce, whole, start);
		if (rc)
			return rc;
	}
	memcpy(bounce + skip, buf, length);
	rc = write_fully(file->fd, bounce, whole, start);
	/* What was rounded up must not lengthen the file. */
	if (rc == 0 && whole != skip + length && S_ISREG(st.st_mode) &&
	    start + whole > (uint64_t)st.st_size &&
	    ftruncate(file->fd, (off_t)hv_max_u64((uint64_t)st.st_size, offset + length)))
		rc = -errno;
	return rc;
}

static int bounce_write(struct hv_file *file, const void *buf, size_t length, uint64_t offset)
{
	HV_AUTO(free) void *bounce = NULL;
	int rc = 0;

	if (posix_memalign(&bounce, 4096, BOUNCE_BYTES))
		return -ENOMEM;
	while (length && rc == 0) {
		size_t n = hv_min_u64(length, BOUNCE_BYTES - offset % file->align_bytes);

		rc = bounce_write_piece(file, bounce, buf, n, offset);
		buf = (const char *)buf + n;
		offset += n;
		length -= n;
	}
	return rc;
}

static int read_at(struct hv_file *file, void *buf, size_t length, uint64_t offset)
{
	if (suits_direct(file, buf, length, offset))
		return read_fully(file->fd, buf, length, offset);
	return bounce_read(file, buf, length, offset);
}

static int write_at(struct hv_file *file, const void *buf, size_t length, uint64_t offset)
{
	if (suits_direct(file, buf, length, offset))
		return write_fully(file->fd, buf, length, offset);
	return bounce_write(file, buf, length, offset);
}

static int posix_pread(struct hv_file *file, void *buf, size_t length, uint64_t offset,
		       struct hv_err *err)
{
	int rc = read_at(file, buf, length, offset);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot read %zu bytes at %llu", file->path,
				     length, (unsigned long long)offset);
	return 0;
}

static int posix_pwrite(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
			struct hv_err *err)
{
	int rc = write_at(file, buf, length, offset);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot write %zu bytes at %llu", file->path,
				     length, (unsigned long long)offset);
	return 0;
}

int hv_posix_barrier(struct posix_file *file, bool all)
{
	uint64_t number = __atomic_add_fetch(&file->barriers_asked, 1, __ATOMIC_SEQ_CST), asked;
	int rc;

	pthread_mutex_lock(&file->barrier_lock);
	if (!file->barrier_error && (all || file->barriers_served < number)) {
		asked = __atomic_load_n(&file->barriers_asked, __ATOMIC_SEQ_CST);
		if (all ? fsync(file->base.fd) : fdatasync(file->base.fd))
			file->barrier_error = -errno;
		else
			file->barriers_served = asked;
	}
	rc = file->barrier_error;
	pthread_mutex_unlock(&file->barrier_lock);
	return rc;
}

static int posix_barrier(struct hv_file *file, struct hv_err *err)
{
	int rc = hv_posix_barrier(posix_of(file), false);

	return rc ? hv_fail_errno(err, rc, "%s: cannot flush", file->path) : 0;
}

static int posix_reserve(struct hv_file *file, uint64_t offset, uint64_t length)
{
	if (file->block_device)
		return offset + length <= file->size_bytes ? 0 : -ENOSPC;
	while (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int write_zeros(struct hv_file *file, uint64_t offset, uint64_t length)
{
	static const char zeros[WRITE_ZEROS_BELOW] __attribute__((aligned(4096)));
	int rc = 0;

	while (length && rc == 0) {
		size_t n = hv_min_u64(length, sizeof(zeros));

		rc = write_at(file, zeros, n, offset);
		offset += n;
		length -= n;
	}
	return rc;
}

static int zero_at(struct hv_file *file, uint64_t offset, uint64_t length)
{
	static const int modes[] = { FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };

	if (length < WRITE_ZEROS_BELOW)
		return write_zeros(file, offset, length);
	for (int i = 0; i < 2; i++) {
		/* Discarded blocks of a device need not read as zero. */
		if (file->block_device && modes[i] & FALLOC_FL_PUNCH_HOLE)
			continue;
		if (fallocate(file->fd, modes[i], (off_t)offset, (off_t)length) == 0)
			return 0;
		if (errno == EINTR)
			i--;
		else if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
			return -errno;
	}
	return write_zeros(file, offset, length);
}

/* Where no space can be given back, the range is zeroed all the same. */
static int discard_at(struct hv_file *file, uint64_t offset, uint64_t length)
{
	while (!file->block_device && length >= DISCARD_FROM) {
		if (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			      (off_t)length) == 0)
			return 0;
		if (errno == EOPNOTSUPP || errno == ENOSYS)
			break;
		if (errno != EINTR)
			return -errno;
	}
	return zero_at(file, offset, length);
}

static int posix_zero(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	int rc = zero_at(file, offset, length);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot zero %llu bytes at %llu", file->path,
				     (unsigned long long)length, (unsigned long long)offset);
	return 0;
}

static int posix_truncate(struct hv_file *file, uint64_t size_bytes, struct hv_err *err)
{
	if (ftruncate(file->fd, (off_t)size_bytes))
		return hv_fail_errno(err, -errno, "%s: cannot set the size to %llu bytes",
				     file->path, (unsigned long long)size_bytes);
	return 0;
}

static int posix_next_data(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole)
{
	uint64_t size = __atomic_load_n(&file->size_bytes, __ATOMIC_RELAXED);
	off_t start, end;

	if (offset >= size) {
		*data = *hole = size;
		return 0;
	}
	start = file->block_device ? -1 : lseek(file->fd, (off_t)offset, SEEK_DATA);
	if (start < 0 && !file->block_device && errno == ENXIO) {
		*data = *hole = size;
		return 0;
	}
	end = start < 0 ? -1 : lseek(file->fd, start, SEEK_HOLE);
	if (end <= start) { /* no support */
		*data = offset;
		*hole = size;
		return 0;
	}
	*data = (uint64_t)start;
	*hole = (uint64_t)end;
	return 0;
}

/* The asynchronous face. */

static void start_io(struct posix_file *file, struct hv_io *io);

/* Sits in a request's scratch space while the pool has it. */
static_assert(sizeof(struct hv_work) <= sizeof(((struct hv_io *)0)->scratch),
	      "the scratch space of a request holds its work");

static struct hv_io *io_of_work(struct hv_work *work)
{
	return (struct hv_io *)((char *)work - offsetof(struct hv_io, scratch));
}

/* Lets waiting requests go, in order, as far as the rule of struct posix_file allows. */
static void let_go(struct posix_file *file);

/* Also after O_DIRECT was refused: what waits then has to be let go. */
static bool gated(const struct posix_file *file)
{
	return file->base.align_bytes > HV_SECTOR_SIZE;
}

/* Completes the drain under way if it is over, and begins the next. */
static void end_drains(struct posix_file *file)
{
	while (file->drain_head && !file->in_flight[!file->epoch]) {
		struct hv_io *io = file->drain_head;

		file->drain_head = io->next;
		hv_loop_finish(file->base.loop, io, 0);
		if (file->drain_head)
			file->epoch = !file->epoch;
	}
}

static void posix_drain(struct hv_file *base, struct hv_io *io)
{
	struct posix_file *file = posix_of(base);
	bool first = !file->drain_head;

	io->next = NULL;
	if (first)
		file->drain_head = io;
	else
		file->drain_tail->next = io;
	file->drain_tail = io;
	if (!first)
		return;
	file->epoch = !file->epoch;
	end_drains(file);
}

static void finish_io(struct posix_file *file, struct hv_io *io, int result)
{
	if (result && io->err && !io->err->code)
		hv_fail_errno(io->err, result, "%s: cannot %s %llu bytes at %llu", file->base.path,
			      hv_io_verb(io->op), (unsigned long long)io->length,
			      (unsigned long long)io->offset);
	if (--file->in_flight[io->epoch] == 0 && file->drain_head)
		end_drains(file);
	if (gated(file) && hv_io_changes_data(io->op)) {
		file->writes--;
		file->alone = false;
		let_go(file);
	}
	io->done(io, result);
}

static bool io_suits_direct(const struct hv_file *file, const struct hv_io *io)
{
	for (int i = 0; i < io->iov_count; i++) {
		if (!suits_direct(file, io->iov[i].iov_base, io->iov[i].iov_len, io->offset))
			return false;
	}
	return true;
}

/*
 * The whole vector in one call, so that of two overlapping requests each sector shows one. Returns
 * the bytes transferred; whatever they are short of is left to transfer_bounced.
 */
static ssize_t transfer_at_once(struct hv_file *file, const struct hv_io *io)
{
	int count = io->iov_count < IOV_MAX ? io->iov_count : IOV_MAX;
	ssize_t n;

	do
		n = io->op == HV_READ ? preadv(file->fd, io->iov, count, (off_t)io->offset) :
					pwritev(file->fd, io->iov, count, (off_t)io->offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* What is left of a request after its first `done` bytes, through memory that suits O_DIRECT. */
static int transfer_bounced(struct hv_file *file, const struct hv_io *io, uint64_t done)
{
	size_t size = hv_min_u64(io->length - done, BOUNCE_BYTES);
	HV_AUTO(free) void *bounce = NULL;
	int rc = 0;

	if (posix_memalign(&bounce, 4096, size))
		return -ENOMEM;
	while (done < io->length && rc == 0) {
		size_t n = hv_min_u64(io->length - done, size);

		if (io->op == HV_WRITE) {
			hv_iov_gather(io->iov, io->iov_count, done, bounce, n);
			rc = write_at(file, bounce, n, io->offset + done);
		} else {
			rc = read_at(file, bounce, n, io->offset + done);
			if (rc == 0)
				hv_iov_scatter(io->iov, io->iov_count, done, bounce, n);
		}
		done += n;
	}
	return rc;
}

static int transfer(struct hv_file *file, const struct hv_io *io)
{
	ssize_t done = io_suits_direct(file, io) ? transfer_at_once(file, io) : 0;

	if (done < 0)
		return (int)done;
	if ((uint64_t)done == io->length)
		return 0;
	return transfer_bounced(file, io, hv_round_down((uint64_t)done, file->align_bytes));
}

static int run_in_pool(struct hv_work *work)
{
	struct hv_io *io = io_of_work(work);
	struct hv_file *file = io->owner;
	int rc;

	if (io->op == HV_FLUSH)
		return hv_posix_barrier(posix_of(file), false);
	if (io->op == HV_DISCARD)
		rc = discard_at(file, io->offset, io->length);
	else if (io->op == HV_ZERO)
		rc = zero_at(file, io->offset, io->length);
	else
		rc = transfer(file, io);
	if (rc == 0 && hv_io_changes_data(io->op) && io->flags & HV_IO_FUA)
		rc = hv_posix_barrier(posix_of(file), false);
	return rc;
}

static void pool_done(struct hv_work *work, int result)
{
	struct hv_io *io = io_of_work(work);

	finish_io(io->owner, io, result);
}

static void use_pool(struct posix_file *file, struct hv_io *io)
{
	struct hv_work *work = (struct hv_work *)io->scratch;

	io->owner = file;
	work->run = run_in_pool;
	work->done = pool_done;
	hv_loop_work(file->base.loop, work);
}

/*
 * A short transfer is the end of the file, a full disk or a signal: the pool does all of it again
 * and finds out. EINVAL means that O_DIRECT wants more than it said.
 */
static void aio_done(struct hv_io *io, long transferred)
{
	struct posix_file *file = io->owner;

	if (transferred == (long)io->length) {
		finish_io(file, io, 0);
		return;
	}
	if (transferred == -EINVAL && file->base.direct) {
		int flags = fcntl(file->base.fd, F_GETFL);

		hv_log(HV_LOG_INFO, "%s: O_DIRECT is refused, going on without", file->base.path);
		if (flags >= 0)
			fcntl(file->base.fd, F_SETFL, flags & ~O_DIRECT);
		file->base.direct = false;
		use_pool(file, io);
	} else if (transferred < 0) {
		finish_io(file, io, (int)transferred);
	} else {
		use_pool(file, io);
	}
}

static void start_io(struct posix_file *file, struct hv_io *io)
{
	struct hv_file *base = &file->base;

	if (base->direct && (io->op == HV_READ || io->op == HV_WRITE) &&
	    hv_loop_has_aio(base->loop) && io_suits_direct(base, io)) {
		io->owner = file;
		hv_loop_aio(base->loop, base->fd, io, aio_done);
	} else {
		use_pool(file, io);
	}
}

static bool may_start(struct posix_file *file, const struct hv_io *io)
{
	bool alone = !(io->op == HV_WRITE && io_suits_direct(&file->base, io));

	if (file->alone || (alone && file->writes))
		return false;
	file->alone = alone;
	file->writes++;
	return true;
}

static void let_go(struct posix_file *file)
{
	while (file->wait_head && may_start(file, file->wait_head)) {
		struct hv_io *io = file->wait_head;

		file->wait_head = io->next;
		if (!file->wait_head)
			file->wait_tail = NULL;
		start_io(file, io);
	}
}

/* Where looking has been in vain mostly, it is done now and then only. */
static bool looks_into_cache(struct posix_file *file, const struct hv_io *io)
{
	if (io->op != HV_READ || file->base.direct || io->length > CACHED_READ_MAX ||
	    io->iov_count > IOV_MAX)
		return false;
	return file->cache_misses < CACHE_MISSES_MAX || ++file->cache_skipped % CACHE_RETRY == 0;
}

/* What lies in the page cache is copied at once: a thread for it costs several times that. */
static bool read_from_cache(struct posix_file *file, const struct hv_io *io)
{
	ssize_t n;

	if (!looks_into_cache(file, io))
		return false;
	n = preadv2(file->base.fd, io->iov, io->iov_count, (off_t)io->offset, RWF_NOWAIT);
	if (n == (ssize_t)io->length) {
		file->cache_misses -= (unsigned)hv_min_u64(file->cache_misses, CACHE_HIT_PAYS);
		return true;
	}
	if (file->cache_misses < CACHE_MISSES_MAX)
		file->cache_misses++;
	return false;
}

static void posix_submit(struct hv_file *base, struct hv_io *io)
{
	struct posix_file *file = posix_of(base);

	if (read_from_cache(file, io)) {
		hv_loop_finish(base->loop, io, 0);
		return;
	}
	io->epoch = file->epoch;
	file->in_flight[io->epoch]++;
	if (!gated(file) || !hv_io_changes_data(io->op)) {
		start_io(file, io);
		return;
	}
	if (!file->wait_head && may_start(file, io)) {
		start_io(file, io);
		return;
	}
	io->next = NULL;
	if (file->wait_tail)
		file->wait_tail->next = io;
	else
		file->wait_head = io;
	file->wait_tail = io;
}

static int posix_stat(struct hv_file *file, struct stat *ret)
{
	return fstat(file->fd, ret) ? -errno : 0;
}

static void posix_close(struct hv_file *base)
{
	struct posix_file *file = posix_of(base);

	if (file->temp_path)
		unlink(file->temp_path);
	if (file->old_fd >= 0)
		close(file->old_fd);
	if (base->fd >= 0)
		close(base->fd);
	pthread_mutex_destroy(&file->barrier_lock);
	free(file->temp_path);
	free(file->publish_path);
	free(base->path);
	free(file);
}

const struct hv_file_ops hv_posix_file_ops = {
	.submit = posix_submit,
	.drain = posix_drain,
	.pread = posix_pread,
	.pwrite = posix_pwrite,
	.barrier = posix_barrier,
	.reserve = posix_reserve,
	.zero = posix_zero,
	.truncate = posix_truncate,
	.next_data = posix_next_data,
	.publish = hv_posix_publish,
	.stat = posix_stat,
	.close = posix_close,
};
