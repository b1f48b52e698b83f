/*
 * What all disks share: the checks at the top of the data path, the blocking face, and the merging
 * of extents; on a disk in memory that notes what reaches it.
 */
#include "hvcore/disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTORS 64u
#define SIZE (SECTORS * HV_SECTOR_SIZE)

struct memory_disk {
	struct hv_disk disk;
	uint8_t bytes[SIZE];
	unsigned requests;
	int fail; /* the next request fails with this */
	bool say; /* and says so */
};

static struct memory_disk memory;

static void memory_submit(struct hv_disk *disk, struct hv_io *io)
{
	uint64_t at = io->offset;

	memory.requests++;
	if (memory.fail) {
		if (memory.say)
			hv_io_fail(disk, io, memory.fail, "%s: broken on purpose", disk->path);
		else
			hv_loop_finish(disk->loop, io, memory.fail);
		return;
	}
	for (int i = 0; i < io->iov_count; i++) {
		if (io->op == HV_READ)
			memcpy(io->iov[i].iov_base, memory.bytes + at, io->iov[i].iov_len);
		else
			memcpy(memory.bytes + at, io->iov[i].iov_base, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	if (io->op == HV_ZERO)
		memset(memory.bytes + io->offset, 0, io->length);
	hv_loop_finish(disk->loop, io, 0);
}

/* Four sectors each: data, data (contiguous), data (elsewhere), zero, zero, parent's data... */
static int memory_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			 struct hv_extent *ret, struct hv_err *err)
{
	static const struct hv_extent kinds[] = {
		{ .state = HV_EXTENT_DATA, .host_offset = 10000 },
		{ .state = HV_EXTENT_DATA, .host_offset = 12048 },
		{ .state = HV_EXTENT_DATA, .host_offset = 50000 },
		{ .state = HV_EXTENT_ZERO, .host_offset = HV_NO_HOST_OFFSET },
		{ .state = HV_EXTENT_ZERO, .host_offset = HV_NO_HOST_OFFSET },
		{ .state = HV_EXTENT_DATA, .host_offset = 60000, .depth = 1 },
		{ .state = HV_EXTENT_DATA, .host_offset = 62048, .depth = 2 },
		{ .state = HV_EXTENT_UNMAPPED, .host_offset = HV_NO_HOST_OFFSET },
	};
	uint64_t within = offset % 2048;

	(void)flags;
	if (offset / 2048 == 8)
		return hv_fail(err, -EIO, "%s: no idea", disk->path);
	*ret = kinds[offset / 2048 % 8];
	ret->offset = offset;
	ret->length = 2048 - within < length ? 2048 - within : length;
	if (ret->host_offset != HV_NO_HOST_OFFSET)
		ret->host_offset += within;
	return 0;
}

static const struct hv_disk_ops memory_ops = {
	.format = "memory",
	.submit = memory_submit,
	.extent = memory_extent,
};

static void setup(void)
{
	HV_ERR(err);

	memory.disk = (struct hv_disk){
		.ops = &memory_ops, .path = "memory.img", .size_bytes = SIZE, .writable = true
	};
	cr_assert_eq(hv_loop_new(&memory.disk.loop, &err), 0, "%s", err.sentence);
	for (size_t i = 0; i < SIZE; i++)
		memory.bytes[i] = (uint8_t)(i / HV_SECTOR_SIZE + 1);
}

static void teardown(void)
{
	hv_loop_free(memory.disk.loop);
}

TestSuite(disk, .init = setup, .fini = teardown);

struct request {
	struct hv_io io;
	unsigned times;
	int result;
};

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->times++;
	request->result = result;
}

static int submit(enum hv_io_op op, uint64_t offset, uint64_t length, struct hv_err *err)
{
	static uint8_t buffer[SIZE];
	struct iovec iov = { buffer, length < SIZE ? length : SIZE };
	struct request request = { .io = { .op = op,
					   .offset = offset,
					   .length = length,
					   .iov = op < HV_ZERO ? &iov : NULL,
					   .iov_count = op < HV_ZERO,
					   .err = err,
					   .done = request_done } };

	hv_disk_submit(&memory.disk, &request.io);
	cr_assert_eq(request.times, 0, "completed inside submit");
	while (!request.times)
		cr_assert_gt(hv_loop_turn(memory.disk.loop, true), 0);
	cr_assert_eq(request.times, 1);
	return request.result;
}

Test(disk, requests_outside_or_unaligned_do_not_reach_it)
{
	static const struct {
		uint64_t offset, length;
	} wrong[] = {
		{ 1, 512 },
		{ 0, 511 },
		{ 511, 1 },
		{ 256, 256 },
		{ SIZE, 512 },
		{ SIZE - 512, 1024 },
		{ 0, SIZE + 512 },
		{ SIZE + 512, 0 },
		{ UINT64_MAX - 511, 512 },
		{ 512, UINT64_MAX - 511 },
		{ UINT64_C(1) << 63, UINT64_C(1) << 63 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		for (int op = HV_READ; op <= HV_ZERO; op++) {
			HV_ERR(err);

			cr_expect_eq(submit((enum hv_io_op)op, wrong[i].offset, wrong[i].length,
					    &err),
				     -EINVAL, "%zu", i);
			cr_expect(strstr(err.sentence, "memory.img"), "%s", err.sentence);
			cr_expect_eq(err.code, -EINVAL);
		}
	}
	cr_assert_eq(memory.requests, 0);
}

Test(disk, requests_inside_reach_it)
{
	cr_assert_eq(submit(HV_READ, 0, SIZE, NULL), 0);
	cr_assert_eq(submit(HV_WRITE, SIZE - 512, 512, NULL), 0);
	cr_assert_eq(submit(HV_ZERO, 512, SIZE - 512, NULL), 0);
	cr_assert_eq(submit(HV_FLUSH, 0, 0, NULL), 0);
	cr_assert_eq(memory.requests, 4);
	/* Nothing to do is done without asking. */
	cr_assert_eq(submit(HV_READ, SIZE, 0, NULL), 0);
	cr_assert_eq(submit(HV_WRITE, 0, 0, NULL), 0);
	cr_assert_eq(submit(HV_ZERO, 512, 0, NULL), 0);
	cr_assert_eq(memory.requests, 4);
}

Test(disk, read_only_disk_takes_no_writes)
{
	HV_ERR(err);

	memory.disk.writable = false;
	cr_assert_eq(submit(HV_WRITE, 0, 512, &err), -EROFS);
	cr_assert(strstr(err.sentence, "read-only"), "%s", err.sentence);
	cr_assert_eq(submit(HV_ZERO, 0, 512, NULL), -EROFS);
	cr_assert_eq(submit(HV_FLUSH, 0, 0, NULL), 0, "there is nothing to flush");
	cr_assert_eq(memory.requests, 0);
	cr_assert_eq(submit(HV_READ, 0, 512, NULL), 0);
	cr_assert_eq(memory.requests, 1);
	cr_assert_eq(hv_disk_pwrite(&memory.disk, "", 512, 0, NULL), -EROFS);
	cr_assert_eq(hv_disk_zero(&memory.disk, 512, 0, NULL), -EROFS);
}

Test(disk, blocking_face)
{
	uint8_t data[1024], back[2048];

	memset(data, 0xab, sizeof(data));
	cr_assert_eq(hv_disk_pwrite(&memory.disk, data, 1024, 512, NULL), 0);
	cr_assert_eq(hv_disk_pread(&memory.disk, back, 2048, 0, NULL), 0);
	cr_assert(back[511] == 1 && back[512] == 0xab && back[1535] == 0xab && back[1536] == 4);
	cr_assert_eq(hv_disk_zero(&memory.disk, 512, 1024, NULL), 0);
	cr_assert_eq(hv_disk_pread(&memory.disk, back, 512, 1024, NULL), 0);
	cr_assert(back[0] == 0 && back[511] == 0);
	cr_assert_eq(hv_disk_flush(&memory.disk, NULL), 0);
	cr_assert_str_eq(hv_disk_format(&memory.disk), "memory");
	hv_disk_close(NULL);
}

Test(disk, failures_bring_one_sentence)
{
	uint8_t data[512] = { 0 };
	HV_ERR(err);

	memory.fail = -ENOSPC;
	cr_assert_eq(hv_disk_pwrite(&memory.disk, data, 512, 1024, &err), -ENOSPC);
	cr_assert_str_eq(err.sentence,
			 "memory.img: cannot write 512 bytes at 1024: No space left on device");
	hv_err_clear(&err);
	memory.say = true;
	cr_assert_eq(hv_disk_pread(&memory.disk, data, 512, 0, &err), -ENOSPC);
	cr_assert_str_eq(err.sentence, "memory.img: broken on purpose");
	/* The first sentence stays. */
	memory.say = false;
	cr_assert_eq(hv_disk_flush(&memory.disk, &err), -ENOSPC);
	cr_assert_str_eq(err.sentence, "memory.img: broken on purpose");
	cr_assert_eq(hv_disk_flush(&memory.disk, NULL), -ENOSPC);
}

Test(disk, filling_zeros_over_a_vector)
{
	uint8_t bytes[30];
	struct iovec iov[] = {
		{ bytes, 10 }, { bytes + 10, 0 }, { bytes + 10, 5 }, { bytes + 15, 15 }
	};
	struct hv_io io = { .iov = iov, .iov_count = 4 };

	for (uint64_t start = 0; start <= 30; start++) {
		for (uint64_t length = 0; start + length <= 30; length++) {
			memset(bytes, 1, sizeof(bytes));
			hv_io_fill_zero(&io, start, length);
			for (uint64_t i = 0; i < 30; i++)
				cr_assert_eq(bytes[i], i < start || i >= start + length);
		}
	}
}

static void assert_extent(uint64_t sector, uint64_t limit, unsigned flags, uint64_t want,
			  enum hv_extent_state state)
{
	struct hv_extent extent;
	HV_ERR(err);

	cr_assert_eq(hv_disk_extent(&memory.disk, sector * 512, limit * 512, flags, &extent, &err),
		     0, "%s", err.sentence);
	cr_assert(extent.offset == sector * 512 && extent.length == want * 512 &&
			  extent.state == state,
		  "at %llu: %llu sectors", (unsigned long long)sector,
		  (unsigned long long)extent.length / 512);
}

Test(disk, like_neighbours_are_merged)
{
	assert_extent(0, 64, 0, 8, HV_EXTENT_DATA);
	assert_extent(1, 64, 0, 7, HV_EXTENT_DATA);
	assert_extent(1, 5, 0, 5, HV_EXTENT_DATA);
	assert_extent(8, 64, 0, 4, HV_EXTENT_DATA);
	assert_extent(12, 64, 0, 8, HV_EXTENT_ZERO);
	assert_extent(20, 64, 0, 4, HV_EXTENT_DATA);
	assert_extent(24, 64, 0, 4, HV_EXTENT_DATA);
	/* A fault further on is for whoever asks there. */
	assert_extent(28, 64, 0, 4, HV_EXTENT_UNMAPPED);
	/* As the disk says it. */
	assert_extent(0, 64, HV_EXTENT_COARSE, 4, HV_EXTENT_DATA);
	assert_extent(13, 64, HV_EXTENT_COARSE, 3, HV_EXTENT_ZERO);
	/* Not beyond the end. */
	assert_extent(63, 1000, 0, 1, HV_EXTENT_UNMAPPED);
	assert_extent(63, UINT64_MAX / 512, 0, 1, HV_EXTENT_UNMAPPED);
}

Test(disk, extents_outside_or_unknown)
{
	struct hv_extent extent;
	HV_ERR(err);

	cr_assert_eq(hv_disk_extent(&memory.disk, SIZE, 512, 0, &extent, &err), -EINVAL);
	cr_assert(strstr(err.sentence, "outside"), "%s", err.sentence);
	cr_assert_eq(hv_disk_extent(&memory.disk, 0, 0, 0, &extent, NULL), -EINVAL);
	hv_err_clear(&err);
	cr_assert_eq(hv_disk_extent(&memory.disk, 32 * 512, 512, 0, &extent, &err), -EIO);
	cr_assert_str_eq(err.sentence, "memory.img: no idea");
}
