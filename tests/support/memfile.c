/*
 * A file in memory. The engine also writes from pool threads, so that a lock guards it all.
 */
#include "tests/support/memfile.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"

struct memfile {
	struct hv_file base;
	pthread_mutex_t *lock; /* apart, so that looking at a file can take it too */
	uint8_t *bytes;
	uint64_t size, capacity;
	unsigned fail_in[MEM_OPS];
	int fail_code[MEM_OPS];
	bool kept;
};

static struct memfile *mem_of(struct hv_file *file)
{
	return (struct memfile *)file;
}

static void grow(struct memfile *mem, uint64_t size)
{
	if (size > mem->capacity) {
		uint64_t capacity = hv_max_u64(size, mem->capacity * 2);

		mem->bytes = realloc(mem->bytes, capacity);
		memset(mem->bytes + mem->capacity, 0, capacity - mem->capacity);
		mem->capacity = capacity;
	}
	if (size > mem->size)
		mem->size = size;
}

static int fails(struct memfile *mem, enum memfile_op op)
{
	return mem->fail_in[op] && --mem->fail_in[op] == 0 ? mem->fail_code[op] : 0;
}

static void truncate_to(struct memfile *mem, uint64_t size)
{
	grow(mem, size);
	memset(mem->bytes + size, 0, mem->size - size);
	mem->size = size;
}

/* data NULL: zeros; of a truncation: offset is the size. */
static int perform(struct memfile *mem, enum memfile_op op, const void *data, uint64_t offset,
		   uint64_t length)
{
	int rc;

	pthread_mutex_lock(mem->lock);
	rc = fails(mem, op);
	if (rc == 0 && op == MEM_TRUNCATE)
		truncate_to(mem, offset);
	if (rc == 0 && length) {
		grow(mem, offset + length);
		if (data)
			memcpy(mem->bytes + offset, data, length);
		else
			memset(mem->bytes + offset, 0, length);
	}
	pthread_mutex_unlock(mem->lock);
	return rc;
}

static int mem_pread(struct hv_file *file, void *buf, size_t length, uint64_t offset,
		     struct hv_err *err)
{
	struct memfile *mem = mem_of(file);
	uint64_t have;

	(void)err;
	pthread_mutex_lock(mem->lock);
	have = offset < mem->size ? hv_min_u64(length, mem->size - offset) : 0;
	memcpy(buf, mem->bytes + (have ? offset : 0), have);
	pthread_mutex_unlock(mem->lock);
	memset((char *)buf + have, 0, length - have);
	return 0;
}

static int mem_pwrite(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
		      struct hv_err *err)
{
	int rc = perform(mem_of(file), MEM_WRITE, buf, offset, length);

	return rc ? hv_fail_errno(err, rc, "cannot write") : 0;
}

static int mem_barrier(struct hv_file *file, struct hv_err *err)
{
	int rc = perform(mem_of(file), MEM_BARRIER, NULL, 0, 0);

	return rc ? hv_fail_errno(err, rc, "cannot flush") : 0;
}

static int mem_reserve(struct hv_file *file, uint64_t offset, uint64_t length)
{
	(void)file;
	(void)offset;
	(void)length;
	return -EOPNOTSUPP;
}

static int mem_zero(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	int rc = perform(mem_of(file), MEM_ZERO, NULL, offset, length);

	return rc ? hv_fail_errno(err, rc, "cannot zero") : 0;
}

static int mem_truncate(struct hv_file *file, uint64_t size_bytes, struct hv_err *err)
{
	int rc = perform(mem_of(file), MEM_TRUNCATE, NULL, size_bytes, 0);

	return rc ? hv_fail_errno(err, rc, "cannot truncate") : 0;
}

static int mem_next_data(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole)
{
	*data = hv_min_u64(offset, mem_of(file)->size);
	*hole = mem_of(file)->size;
	return 0;
}

static int transfer(struct hv_file *file, struct hv_io *io)
{
	uint64_t offset = io->offset;
	int rc = 0;

	for (int i = 0; i < io->iov_count && rc == 0; i++) {
		if (io->op == HV_READ)
			rc = mem_pread(file, io->iov[i].iov_base, io->iov[i].iov_len, offset, NULL);
		else
			rc = mem_pwrite(file, io->iov[i].iov_base, io->iov[i].iov_len, offset,
					NULL);
		offset += io->iov[i].iov_len;
	}
	return rc;
}

static void mem_submit(struct hv_file *file, struct hv_io *io)
{
	int rc;

	if (io->op == HV_FLUSH)
		rc = mem_barrier(file, NULL);
	else if (io->op == HV_ZERO || io->op == HV_DISCARD)
		rc = mem_zero(file, io->offset, io->length, NULL);
	else
		rc = transfer(file, io);
	if (rc == 0 && io->flags & HV_IO_FUA && io->op != HV_FLUSH)
		rc = mem_barrier(file, NULL);
	hv_loop_finish(file->loop, io, rc);
}

static void mem_close(struct hv_file *file)
{
	struct memfile *mem = mem_of(file);

	if (!mem->kept)
		memfile_free(mem);
}

void memfile_keep(struct memfile *mem)
{
	mem->kept = true;
}

void memfile_free(struct memfile *mem)
{
	pthread_mutex_destroy(mem->lock);
	free(mem->lock);
	free(mem->bytes);
	free(mem->base.path);
	free(mem);
}

static const struct hv_file_ops mem_ops = {
	.submit = mem_submit,
	.pread = mem_pread,
	.pwrite = mem_pwrite,
	.barrier = mem_barrier,
	.reserve = mem_reserve,
	.zero = mem_zero,
	.truncate = mem_truncate,
	.next_data = mem_next_data,
	.close = mem_close,
};

struct memfile *memfile_new(struct hv_loop *loop)
{
	static ino_t files;
	struct memfile *mem = calloc(1, sizeof(*mem));

	mem->lock = malloc(sizeof(*mem->lock));
	pthread_mutex_init(mem->lock, NULL);
	mem->base = (struct hv_file){ .ops = &mem_ops,
				      .loop = loop,
				      .path = strdup("memory.vhd"),
				      .writable = true,
				      .align_bytes = HV_SECTOR_SIZE,
				      .ino = ++files, /* each is a file of its own */
				      .fd = -1 };
	return mem;
}

struct hv_file *memfile_file(struct memfile *mem)
{
	return &mem->base;
}

static struct memfile *from_bytes(const struct memfile *like, const uint8_t *bytes, uint64_t size)
{
	struct memfile *copy = memfile_new(like->base.loop);

	grow(copy, size);
	if (size)
		memcpy(copy->bytes, bytes, size);
	copy->base.size_bytes = size;
	return copy;
}

struct memfile *memfile_copy(const struct memfile *mem)
{
	struct memfile *copy;

	pthread_mutex_lock(mem->lock);
	copy = from_bytes(mem, mem->bytes, mem->size);
	pthread_mutex_unlock(mem->lock);
	return copy;
}

void memfile_fail(struct memfile *mem, enum memfile_op op, unsigned nth, int code)
{
	mem->fail_in[op] = nth;
	mem->fail_code[op] = code;
}
