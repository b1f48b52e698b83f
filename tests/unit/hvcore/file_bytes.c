/*
 * Files: bytes arrive where they belong, whatever their offset, length and memory, and whatever
 * O_DIRECT wants.
 */
#include "tests/unit/hvcore/file.h"

#include <sys/uio.h>

#include "hvcore/checked.h"

TestSuite(file, .init = setup, .fini = teardown);

struct request {
	struct hv_io io;
	struct iovec iov[3];
	unsigned *left;
	int result;
};

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->result = result;
	--*request->left;
}

/* In up to three pieces of odd lengths. */
static void submit(struct hv_file *file, struct request *request, enum hv_io_op op, void *data,
		   uint64_t length, uint64_t offset, unsigned *left)
{
	uint64_t first = length / 3, second = length / 5;
	int count = length > 100 ? 3 : 1;

	if (count == 1)
		request->iov[0] = (struct iovec){ data, length };
	else
		memcpy(request->iov,
		       (struct iovec[]){
			       { data, first },
			       { (char *)data + first, second },
			       { (char *)data + first + second, length - first - second } },
		       sizeof(request->iov));
	request->io = (struct hv_io){ .op = op,
				      .offset = offset,
				      .length = length,
				      .iov = op == HV_ZERO || op == HV_FLUSH ? NULL : request->iov,
				      .iov_count = op == HV_ZERO || op == HV_FLUSH ? 0 : count,
				      .done = request_done };
	request->left = left;
	++*left;
	hv_file_submit(file, &request->io);
}

static int run(struct hv_file *file, enum hv_io_op op, void *data, uint64_t length, uint64_t offset)
{
	struct request request;
	unsigned left = 0;

	submit(file, &request, op, data, length, offset, &left);
	while (left)
		hv_loop_turn(loop, true);
	return request.result;
}

static void past_the_end(unsigned flags)
{
	static const uint64_t starts[] = { 0,     1,     511,   4096,  8192,  12287,
					   12288, 12344, 12345, 12346, 20480, 1 << 20 };
	static uint8_t content[12345], back[40000] __attribute__((aligned(4096)));
	struct hv_file *file;

	fill_random(content, sizeof(content));
	spill("file", content, sizeof(content));
	file = open_file("file", flags);
	for (unsigned i = 0; i < 12; i++) {
		for (int asynchronous = 0; asynchronous < 2; asynchronous++) {
			static const uint64_t lengths[] = { 1, 100, 512, 4096, 8192, 20480 };

			for (unsigned j = 0; j < 6; j++) {
				uint64_t length = lengths[j];

				memset(back, 0xee, sizeof(back));
				if (asynchronous)
					cr_assert_eq(run(file, HV_READ, back, length, starts[i]),
						     0);
				else
					get(file, back, length, starts[i]);
				for (uint64_t k = 0; k < length; k++) {
					uint64_t at = starts[i] + k;

					cr_assert_eq(back[k], at < 12345 ? content[at] : 0,
						     "byte %llu of a read at %llu",
						     (unsigned long long)k,
						     (unsigned long long)starts[i]);
				}
				cr_assert_eq(back[length], 0xee);
			}
		}
	}
	cr_assert_eq(file->size_bytes, 12345);
	hv_file_close(file);
}

Test(file, reads_past_the_end_are_zero)
{
	past_the_end(0);
}

Test(file, direct_reads_past_the_end_are_zero)
{
	past_the_end(HV_FILE_DIRECT);
}

Test(file, short_reads_of_what_is_cached_complete_at_once)
{
	struct hv_file *file = create_file("cached", HV_FILE_WRITE, false);
	static uint8_t data[MIB], back[MIB];
	struct request request;
	struct iovec iov = { back, PAGE };
	unsigned left = 0;

	fill_random(data, MIB);
	put(file, data, MIB, 0);
	if (preadv2(file->fd, &iov, 1, 0, RWF_NOWAIT) != (ssize_t)PAGE)
		cr_skip_test("the filesystem does not tell what is cached");
	submit(file, &request, HV_READ, back, PAGE, 100, &left);
	cr_assert_eq(left, 1, "completed inside submit");
	hv_loop_turn(loop, false);
	cr_assert(left == 0 && request.result == 0, "a thread has it");
	cr_assert_eq(memcmp(back, data + 100, PAGE), 0);
	cr_assert_eq(run(file, HV_READ, back, MIB, 0), 0);
	cr_assert_eq(memcmp(back, data, MIB), 0, "a long one");
	hv_file_close(file);
}

Test(file, cached_reads_complete_at_once_again_after_many_that_were_not_cached)
{
	struct hv_file *file = create_file("cold", HV_FILE_WRITE, false);
	static uint8_t data[MIB], back[MIB];
	struct request request;
	struct iovec iov = { back, PAGE };
	unsigned left = 0, at_once = 0;

	fill_random(data, MIB);
	put(file, data, MIB, 0);
	if (preadv2(file->fd, &iov, 1, 0, RWF_NOWAIT) != (ssize_t)PAGE)
		cr_skip_test("the filesystem does not tell what is cached");
	/* What is not there is never cached. */
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(run(file, HV_READ, back, PAGE, 2 * MIB), 0);
	for (int i = 0; i < 100; i++) {
		submit(file, &request, HV_READ, back, PAGE, 0, &left);
		hv_loop_turn(loop, false);
		at_once += left == 0;
		while (left)
			hv_loop_turn(loop, true);
	}
	cr_assert_geq(at_once, 60, "only %u of 100 were", at_once);
	hv_file_close(file);
}

/* Random reads and writes of any offset, length and memory, against memory. */
static void any_bytes(unsigned flags, unsigned rounds)
{
	enum { ROOM = 256 << 10 };
	uint8_t *model = calloc(1, ROOM), *buffer = malloc(ROOM + 64), *whole = malloc(ROOM);
	struct hv_file *file = create_file("file", flags, false);
	uint64_t size = 0;
	HV_ERR(err);

	for (unsigned round = 0; round < rounds; round++) {
		uint64_t unit = (uint64_t)1 << next_random() % 13;
		uint64_t offset = next_random() % (ROOM / unit) * unit;
		uint64_t length = (next_random() % (64 << 10) / unit + 1) * unit;
		uint8_t *data = buffer + (next_random() % 2 ? next_random() % 64 : 0);
		unsigned kind = (unsigned)next_random() % 6;

		length = hv_min_u64(length, ROOM - offset);
		if (kind < 2) { /* reading, past the end too */
			if (kind)
				get(file, data, length, offset);
			else
				cr_assert_eq(run(file, HV_READ, data, length, offset), 0);
			cr_assert_eq(memcmp(data, model + offset, length), 0, "round %u", round);
			continue;
		}
		fill_random(data, length);
		if (kind == 2)
			put(file, data, length, offset);
		else if (kind == 3)
			cr_assert_eq(run(file, HV_WRITE, data, length, offset), 0);
		else if (kind == 4)
			must(hv_file_zero(file, offset, length, &err), &err);
		else if (offset + length <= size)
			cr_assert_eq(run(file, HV_ZERO, NULL, length, offset), 0);
		else
			continue;
		if (kind >= 4)
			memset(model + offset, 0, length);
		else
			memcpy(model + offset, data, length);
		if (kind < 4)
			size = hv_max_u64(size, offset + length);
		cr_assert_eq(file->size_bytes, size, "round %u", round);
		cr_assert_eq(real_size(file), size, "round %u", round);
	}
	publish(file);
	hv_file_close(file);
	cr_assert_eq(slurp("file", whole, ROOM), size);
	cr_assert_eq(memcmp(whole, model, size), 0);
	free(model);
	free(buffer);
	free(whole);
}

Test(file, any_offset_length_and_memory)
{
	any_bytes(0, 600);
}

Test(file, any_offset_length_and_memory_with_o_direct)
{
	any_bytes(HV_FILE_DIRECT, 400);
}

Test(file, writes_that_wish_to_be_durable_and_flushes)
{
	for (int direct = 0; direct < 2; direct++) {
		struct hv_file *file = create_file("file", direct ? HV_FILE_DIRECT : 0, true);
		static uint8_t data[8192] __attribute__((aligned(4096)));
		struct request request;
		unsigned left = 0;
		HV_ERR(err);

		for (int i = 0; i < 4; i++) {
			request = (struct request){ .iov = { { data, sizeof(data) } },
						    .left = &left };
			request.io = (struct hv_io){ .op = i == 3 ? HV_FLUSH :
							   i == 2 ? HV_ZERO :
								    HV_WRITE,
						     .flags = HV_IO_FUA,
						     .offset = i == 1 ? 77 : 0,
						     .length = i == 3 ? 0 : sizeof(data),
						     .iov = request.iov,
						     .iov_count = 1,
						     .done = request_done };
			left = 1;
			hv_file_submit(file, &request.io);
			while (left)
				hv_loop_turn(loop, true);
			cr_assert_eq(request.result, 0);
		}
		must(hv_file_barrier(file, &err), &err);
		hv_file_close(file);
	}
}

/* Devices and filesystems whose smallest unit is 4096 bytes. */

/*
 * Writes of all kinds to parts of pages, and to whole pages, all in flight at once; no two touch
 * the same byte, so that all must be found afterwards.
 */
static void crowded(struct hv_file *file)
{
	enum { PAGES = 64, ROUNDS = 6, MOST = PAGES * 8 };
	uint8_t *model = NULL, *buffer = NULL, *back = NULL;
	struct request *requests = calloc(MOST, sizeof(*requests));
	HV_ERR(err);

	cr_assert_eq(posix_memalign((void **)&model, PAGE, PAGES * PAGE), 0);
	cr_assert_eq(posix_memalign((void **)&buffer, PAGE, PAGES * PAGE), 0);
	cr_assert_eq(posix_memalign((void **)&back, PAGE, PAGES * PAGE), 0);
	fill_random(model, PAGES * PAGE);
	put(file, model, PAGES * PAGE, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned count = 0, left = 0;
		uint64_t at = 0;

		fill_random(buffer, PAGES * PAGE);
		while (at < PAGES * PAGE) {
			uint64_t room = PAGE - at % PAGE, length = 512;
			bool zero = next_random() % 5 == 0;

			if (room == PAGE && next_random() % 3 == 0)
				length = PAGE;
			else if (next_random() % 8 == 0)
				length = 1536; /* into the next page, perhaps */
			length = hv_min_u64(length, PAGES * PAGE - at);
			if (next_random() % 10) {
				struct request *request = &requests[count++];

				submit(file, request, zero ? HV_ZERO : HV_WRITE, buffer + at,
				       length, at, &left);
				if (zero)
					memset(model + at, 0, length);
				else
					memcpy(model + at, buffer + at, length);
			}
			at += length;
		}
		while (left)
			hv_loop_turn(loop, true);
		for (unsigned i = 0; i < count; i++)
			cr_assert_eq(requests[i].result, 0);
		get(file, back, PAGES * PAGE, 0);
		for (uint64_t i = 0; i < PAGES * PAGE; i++)
			cr_assert_eq(back[i], model[i], "round %u, byte %llu of page %llu", round,
				     (unsigned long long)(i % PAGE),
				     (unsigned long long)(i / PAGE));
	}
	must(hv_file_barrier(file, &err), &err);
	free(requests);
	free(model);
	free(buffer);
	free(back);
}

Test(file, neighbours_of_unaligned_writes_on_4096_byte_sectors)
{
	struct hv_file *file;
	uint64_t data, hole;
	HV_ERR(err);

	need_device("image", 4 * MIB);
	file = open_file(device, HV_FILE_WRITE | HV_FILE_DIRECT);
	cr_assert(file->block_device);
	cr_assert_eq(file->size_bytes, 4 * MIB);
	cr_assert(file->direct);
	cr_assert_eq(file->align_bytes, PAGE);
	crowded(file);
	/* A device has no end to push out, and no holes that we know of. */
	cr_assert_eq(hv_file_reserve(file, 0, 4 * MIB), 0);
	cr_assert_eq(hv_file_reserve(file, 1, 4 * MIB), -ENOSPC);
	cr_assert_neq(hv_file_pwrite(file, "x", 1, 4 * MIB, &err), 0);
	must(hv_file_next_data(file, 4096, &data, &hole), NULL);
	cr_assert_eq(data, 4096);
	cr_assert_eq(hole, 4 * MIB);
	assert_not_opened(device, HV_FILE_WRITE, -EBUSY, "use");
	hv_file_close(file);
}

Test(file, filesystem_on_4096_byte_sectors)
{
	struct hv_file *file;

	need_filesystem();
	file = create_file("crowded", HV_FILE_DIRECT, false);
	cr_assert_eq(file->align_bytes, PAGE);
	crowded(file);
	hv_file_close(file);
	past_the_end(HV_FILE_DIRECT);
	unlink("file");
	any_bytes(HV_FILE_DIRECT, 150);
	leave_filesystem();
}
