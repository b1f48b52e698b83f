/*
 * The ordered, parallel reader, on a disk in memory whose reads complete in the wrong order.
 */
#include "hvcore/scan.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 8192u
#define MAX_HELD 64

/* One letter for each CHUNK: 'd' data, 'z' an extent of zeros, 'Z' zeros stored as data. */
struct letters_disk {
	struct hv_disk disk;
	const char *letters;
	struct hv_io *held[MAX_HELD]; /* reads that have not been answered */
	unsigned held_count, most_held;
	uint64_t bad_read, bad_extent; /* offsets that fail; UINT64_MAX: none */
	uint64_t bytes_read;
	struct hv_work tick;
	bool ticking;
};

static struct letters_disk letters;

static uint8_t byte_at(uint64_t offset)
{
	if (letters.letters[offset / CHUNK] != 'd')
		return 0;
	/* Never zero, different for neighbours. */
	return (uint8_t)((offset / 512 * 7 + offset) % 255 + 1);
}

static int tick_run(struct hv_work *work)
{
	(void)work;
	return 0;
}

/* Answers the newest read; the others wait. */
static void tick_done(struct hv_work *work, int result)
{
	struct hv_io *io = letters.held[--letters.held_count];
	bool bad = letters.bad_read - io->offset < io->length;

	(void)result;
	for (uint64_t i = 0; i < io->length && !bad; i++)
		((uint8_t *)io->iov->iov_base)[i] = byte_at(io->offset + i);
	letters.bytes_read += io->length;
	letters.ticking = letters.held_count != 0;
	if (letters.ticking)
		hv_loop_work(letters.disk.loop, work);
	if (bad)
		hv_io_fail(&letters.disk, io, -EIO, "%s: bad sector", letters.disk.path);
	else
		hv_loop_finish(letters.disk.loop, io, 0);
}

static void letters_submit(struct hv_disk *disk, struct hv_io *io)
{
	cr_assert_eq(io->op, HV_READ);
	cr_assert_eq(io->iov_count, 1);
	cr_assert_lt(letters.held_count, MAX_HELD);
	letters.held[letters.held_count++] = io;
	if (letters.held_count > letters.most_held)
		letters.most_held = letters.held_count;
	if (letters.ticking)
		return;
	letters.ticking = true;
	letters.tick.run = tick_run;
	letters.tick.done = tick_done;
	hv_loop_work(disk->loop, &letters.tick);
}

static int letters_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			  struct hv_extent *ret, struct hv_err *err)
{
	uint64_t end = (offset / CHUNK + 1) * CHUNK;

	cr_assert(flags & HV_EXTENT_COARSE, "a scan asks for no metadata reads");
	if (letters.bad_extent - offset < end - offset)
		return hv_fail(err, -EBADMSG, "%s: bad table", disk->path);
	*ret = (struct hv_extent){ .offset = offset,
				   .length = end - offset < length ? end - offset : length,
				   .state = letters.letters[offset / CHUNK] == 'z' ?
						    HV_EXTENT_ZERO :
						    HV_EXTENT_DATA };
	return 0;
}

static const struct hv_disk_ops letters_ops = {
	.format = "letters",
	.submit = letters_submit,
	.extent = letters_extent,
};

static void use(const char *text, uint64_t size)
{
	letters.letters = text;
	letters.disk.size_bytes = size ? size : strlen(text) * CHUNK;
	letters.bytes_read = letters.most_held = 0;
	letters.bad_read = letters.bad_extent = UINT64_MAX;
}

static void setup(void)
{
	HV_ERR(err);

	letters.disk = (struct hv_disk){ .ops = &letters_ops, .path = "letters.img" };
	cr_assert_eq(hv_loop_new(&letters.disk.loop, &err), 0, "%s", err.sentence);
}

static void teardown(void)
{
	hv_loop_free(letters.disk.loop);
}

TestSuite(scan, .init = setup, .fini = teardown);

static struct hv_scan *begin(struct hv_scan_options options)
{
	struct hv_scan *scan;
	HV_ERR(err);

	cr_assert_eq(hv_scan_new(&letters.disk, &options, &scan, &err), 0, "%s", err.sentence);
	return scan;
}

static bool next(struct hv_scan *scan, struct hv_chunk *chunk)
{
	HV_ERR(err);
	int rc = hv_scan_next(scan, chunk, &err);

	cr_assert_geq(rc, 0, "%s", err.sentence);
	return rc;
}

static void assert_right(const struct hv_chunk *chunk)
{
	const uint8_t *data = chunk->data;

	for (uint64_t i = 0; i < chunk->length; i++)
		cr_assert_eq(data ? data[i] : 0, byte_at(chunk->offset + i), "byte %llu",
			     (unsigned long long)(chunk->offset + i));
}

/* The chunks of a whole scan, as "d8192 z16384 ...". */
static void assert_chunks(struct hv_scan_options options, const char *want)
{
	struct hv_scan *scan = begin(options);
	struct hv_chunk chunk;
	uint64_t at = 0;
	char have[1024] = "";

	while (next(scan, &chunk)) {
		size_t used = strlen(have);

		cr_assert_eq(chunk.offset, at, "chunks follow each other");
		cr_assert_gt(chunk.length, 0);
		assert_right(&chunk);
		at += chunk.length;
		snprintf(have + used, sizeof(have) - used, "%s%c%llu", used ? " " : "",
			 chunk.data ? 'd' : 'z', (unsigned long long)chunk.length / 512);
		hv_scan_release(scan, &chunk);
	}
	cr_assert_eq(at, letters.disk.size_bytes);
	cr_assert_not(next(scan, &chunk), "the end stays the end");
	cr_assert_str_eq(have, want);
	hv_scan_free(scan);
}

Test(scan, chunks_come_in_order_and_holes_are_not_read)
{
	use("zddzzdz", 0);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 4 },
		      "z16 d16 d16 z32 d16 z16");
	cr_assert_eq(letters.bytes_read, 3 * CHUNK);
	use("zzzz", 0);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = CHUNK }, "z64");
	cr_assert_eq(letters.bytes_read, 0);
	use("dddd", 0);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 1 },
		      "d16 d16 d16 d16");
	/* Without options. */
	{
		struct hv_scan *scan;
		struct hv_chunk chunk;

		cr_assert_eq(hv_scan_new(&letters.disk, NULL, &scan, NULL), 0);
		cr_assert(next(scan, &chunk));
		cr_assert_not_null(chunk.data);
		hv_scan_free(scan);
	}
}

Test(scan, chunks_end_at_multiples_of_their_size)
{
	/* The disk's extents are twice as long as the chunks, and the disk ends within one. */
	use("zddd", 3 * CHUNK + 1536);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = CHUNK / 2, .depth = 3 },
		      "z16 d8 d8 d8 d8 d3");
	/* Chunks longer than extents. */
	use("dzd", 0);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = 4 * CHUNK }, "d16 z16 d16");
}

Test(scan, zeros_in_data_are_found)
{
	use("dZdZZz", 0);
	assert_chunks((struct hv_scan_options){ .chunk_bytes = 2 * CHUNK, .depth = 2 },
		      "d16 d16 d16 d16 d16 z16");
	assert_chunks(
		(struct hv_scan_options){
			.chunk_bytes = CHUNK, .depth = 3, .find_zeros = true, .zero_bytes = 1024 },
		"d16 z16 d16 z16 z16 z16");
	/* Pieces of one chunk. */
	use("dd", CHUNK + 3072);
	letters.letters = "dZ";
	assert_chunks((struct hv_scan_options){ .chunk_bytes = 512, .find_zeros = true },
		      "d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 d1 z1 z1 z1 z1 z1 z1");
}

/* Data in which some pieces are zero, found at their granularity. */
static uint8_t patchy[16 * 1024];

static void patchy_submit(struct hv_disk *disk, struct hv_io *io)
{
	memcpy(io->iov->iov_base, patchy + io->offset, io->length);
	hv_loop_finish(disk->loop, io, 0);
}

/* One extent of zeros, a kilobyte, and one of data. */
static int patchy_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			 struct hv_extent *ret, struct hv_err *err)
{
	(void)disk;
	(void)flags;
	(void)err;
	*ret = (struct hv_extent){ .offset = offset, .length = length };
	if (offset < 1024) {
		ret->state = HV_EXTENT_ZERO;
		ret->length = 1024 - offset < length ? 1024 - offset : length;
	}
	return 0;
}

static const struct hv_disk_ops patchy_ops = { .submit = patchy_submit, .extent = patchy_extent };

Test(scan, chunks_lie_between_multiples_of_their_size)
{
	static const uint64_t starts[] = { 0, 1024, 4096, 8192, 12288, 16384 };
	struct hv_scan_options options = { .chunk_bytes = 4096 };
	struct hv_scan *scan;
	struct hv_chunk chunk;

	letters.disk.ops = &patchy_ops;
	letters.disk.size_bytes = sizeof(patchy);
	scan = begin(options);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert(next(scan, &chunk));
		cr_assert_eq(chunk.offset, starts[i]);
		cr_assert_eq(chunk.length, starts[i + 1] - starts[i]);
		hv_scan_release(scan, &chunk);
	}
	cr_assert_not(next(scan, &chunk));
	hv_scan_free(scan);
}

Test(scan, zeros_are_found_at_their_granularity)
{
	struct hv_scan_options options = { .chunk_bytes = sizeof(patchy),
					   .find_zeros = true,
					   .zero_bytes = 1024 };
	static const struct {
		uint64_t offset, length;
		bool data;
	} want[] = { { 0, 1024, false },
		     { 1024, 2048, true },
		     { 3072, 4096, false },
		     { 7168, 1024, true },
		     { 8192, 8192, false } };
	struct hv_chunk chunks[5];
	struct hv_scan *scan;

	letters.disk.ops = &patchy_ops;
	letters.disk.size_bytes = sizeof(patchy);
	patchy[1024 + 5] = 1; /* makes its kilobyte data */
	patchy[3072 - 1] = 1;
	patchy[7168 + 512] = 1;
	scan = begin(options);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert(next(scan, &chunks[i]));
		cr_assert_eq(chunks[i].offset, want[i].offset);
		cr_assert_eq(chunks[i].length, want[i].length);
		cr_assert_eq(chunks[i].data != NULL, want[i].data);
		if (want[i].data)
			cr_assert_eq(
				memcmp(chunks[i].data, patchy + want[i].offset, want[i].length), 0);
	}
	cr_assert_not(next(scan, &chunks[0]));
	hv_scan_free(scan);
}

/* Lets everything that was started arrive. */
static void settle(void)
{
	while (hv_loop_turn(letters.disk.loop, true))
		;
}

/* As many chunks are held as there are buffers; they are given back in all orders. */
Test(scan, chunks_are_released_in_any_order)
{
	static const unsigned orders[][4] = {
		{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 3, 0, 2 }, { 2, 0, 3, 1 }, { 1, 2, 3, 0 },
	};

	for (unsigned order = 0; order < 5; order++) {
		struct hv_scan *scan;
		struct hv_chunk held[4];
		uint64_t at = 0;

		use("ddddzdddddddzzdddd", 0);
		scan = begin((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 4 });
		while (at < letters.disk.size_bytes) {
			unsigned count = 0;

			while (count < 4 && at < letters.disk.size_bytes) {
				cr_assert(next(scan, &held[count]));
				cr_assert_eq(held[count].offset, at);
				at += held[count++].length;
			}
			/* What is held has not been written over. */
			settle();
			for (unsigned i = 0; i < count; i++)
				assert_right(&held[i]);
			for (unsigned i = 0; i < 4; i++) {
				if (orders[order][i] < count)
					hv_scan_release(scan, &held[orders[order][i]]);
			}
		}
		cr_assert_leq(letters.most_held, 4, "more reads in flight than buffers");
		cr_assert_geq(letters.most_held, 2, "nothing was read ahead");
		hv_scan_free(scan);
	}
}

Test(scan, held_chunks_keep_their_data_while_others_come)
{
	struct hv_scan *scan;
	struct hv_chunk first, chunk;

	use("dddddddddddd", 0);
	scan = begin((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 6 });
	cr_assert(next(scan, &first));
	for (unsigned i = 1; i < 6; i++) {
		cr_assert(next(scan, &chunk));
		hv_scan_release(scan, &chunk);
		settle();
		assert_right(&first);
	}
	hv_scan_release(scan, &first);
	for (unsigned i = 6; i < 12; i++) {
		cr_assert(next(scan, &chunk));
		cr_assert_eq(chunk.offset, i * CHUNK);
		assert_right(&chunk);
		hv_scan_release(scan, &chunk);
	}
	cr_assert_not(next(scan, &chunk));
	hv_scan_free(scan);
}

static void assert_fails_at(uint64_t offset, int code, const char *words)
{
	struct hv_scan *scan = begin((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 4 });
	struct hv_chunk chunk;
	uint64_t at = 0;
	HV_ERR(err);
	int rc;

	while ((rc = hv_scan_next(scan, &chunk, &err)) > 0) {
		assert_right(&chunk);
		at += chunk.length;
		hv_scan_release(scan, &chunk);
	}
	cr_assert_eq(rc, code);
	cr_assert_eq(at, offset, "failed after %llu bytes", (unsigned long long)at);
	cr_assert(strstr(err.sentence, words), "%s", err.sentence);
	hv_err_clear(&err);
	cr_assert_eq(hv_scan_next(scan, &chunk, &err), code, "a fault does not go away");
	hv_scan_free(scan);
}

Test(scan, fault_is_reported_at_its_turn)
{
	use("ddddzdddd", 0);
	letters.bad_read = 6 * CHUNK + 512;
	assert_fails_at(6 * CHUNK, -EIO, "letters.img: bad sector");
	letters.bad_read = 0;
	assert_fails_at(0, -EIO, "letters.img: bad sector");
	letters.bad_read = UINT64_MAX;
	letters.bad_extent = 3 * CHUNK;
	assert_fails_at(3 * CHUNK, -EBADMSG, "letters.img: bad table");
}

Test(scan, zeros_before_a_fault_are_handed_out)
{
	use("dzzdd", 0);
	letters.bad_extent = 3 * CHUNK;
	assert_fails_at(3 * CHUNK, -EBADMSG, "letters.img: bad table");
}

Test(scan, freeing_waits_for_reads_in_flight)
{
	struct hv_scan *scan;
	struct hv_chunk chunk;

	use("dddddddd", 0);
	scan = begin((struct hv_scan_options){ .chunk_bytes = CHUNK, .depth = 8 });
	cr_assert(next(scan, &chunk));
	hv_scan_free(scan);
	cr_assert_eq(letters.held_count, 0);
	cr_assert_eq(hv_loop_turn(letters.disk.loop, true), 0, "nothing is in flight");
	hv_scan_free(NULL);
}

Test(scan, empty_disk_has_no_chunks)
{
	struct hv_scan *scan;
	struct hv_chunk chunk;

	use("", 0);
	scan = begin((struct hv_scan_options){ 0 });
	cr_assert_not(next(scan, &chunk));
	hv_scan_free(scan);
}

Test(scan, zero_test_sees_every_byte)
{
	uint8_t bytes[300] = { 0 };

	for (size_t start = 0; start < 70; start++) {
		for (size_t length = 0; start + length <= 300; length += 1 + length / 20) {
			cr_assert(hv_is_zero(bytes + start, length));
			if (!length)
				continue;
			for (size_t at = 0; at < length; at += 1 + at / 10) {
				bytes[start + at] = 0x80;
				cr_assert_not(hv_is_zero(bytes + start, length));
				bytes[start + at] = 0;
			}
			bytes[start + length - 1] = 1;
			cr_assert_not(hv_is_zero(bytes + start, length));
			bytes[start + length - 1] = 0;
		}
	}
}
