/*
 * Files and devices: what appears under a name and when, who keeps whom out, and bytes that arrive
 * where they belong whatever O_DIRECT wants. Every test works in a directory of its own; what needs
 * a loop device is skipped where none can be made.
 */
#include "hvcore/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/uio.h>

#include "hvcore/checked.h"

#define PAGE 4096u
#define MIB (1u << 20)

static char directory[] = "file-XXXXXX", above[PATH_MAX];
static char device[64]; /* a loop device, or "" */
static bool mounted;
static struct hv_loop *loop;

static void setup(void)
{
	HV_ERR(err);

	cr_assert_not_null(getcwd(above, sizeof(above)));
	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

static void teardown(void)
{
	hv_loop_free(loop);
	/* A test that failed may stand anywhere, and have left files open. */
	cr_assert_eq(chdir(above), 0);
	if (mounted && chdir(directory) == 0)
		umount2("mnt", MNT_DETACH);
	if (*device)
		shell("losetup -d %s", device);
	cr_assert_eq(chdir(above), 0);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(file, .init = setup, .fini = teardown);

static void must(int rc, const struct hv_err *err)
{
	cr_assert_eq(rc, 0, "%s", hv_err_text(err, rc));
}

static struct hv_file *open_file(const char *path, unsigned flags)
{
	struct hv_file *file = NULL;
	HV_ERR(err);

	must(hv_file_open(path, flags, loop, &file, &err), &err);
	return file;
}

static struct hv_file *create_file(const char *path, unsigned flags, bool replace)
{
	struct hv_file *file = NULL;
	HV_ERR(err);

	must(hv_file_create(path, flags, replace, loop, &file, &err), &err);
	return file;
}

static void publish(struct hv_file *file)
{
	HV_ERR(err);

	must(hv_file_publish(file, &err), &err);
}

static void put(struct hv_file *file, const void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	must(hv_file_pwrite(file, data, length, offset, &err), &err);
}

static void get(struct hv_file *file, void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	must(hv_file_pread(file, data, length, offset, &err), &err);
}

static void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

static size_t slurp(const char *path, void *bytes, size_t size)
{
	FILE *in = fopen(path, "rb");
	size_t n;

	cr_assert_not_null(in, "%s", path);
	n = fread(bytes, 1, size, in);
	fclose(in);
	return n;
}

static unsigned entries(void)
{
	DIR *dir = opendir(".");
	unsigned count = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state >> 11;
}

static void fill_random(uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)next_random();
}

/* A loop device of 4096-byte sectors over a new file. */
static void need_device(const char *path, uint64_t size)
{
	FILE *in;

	if (geteuid())
		cr_skip_test("needs root");
	spill(path, "", 0);
	cr_assert_eq(truncate(path, (off_t)size), 0);
	cr_assert_eq(shell("losetup -b 4096 --find --show '%s' >device.name 2>/dev/null", path) &
			     0xff,
		     0);
	in = fopen("device.name", "r");
	if (!in || fscanf(in, "%63s", device) != 1 || access(device, F_OK))
		*device = '\0';
	if (in)
		fclose(in);
	unlink("device.name");
	if (!*device)
		cr_skip_test("needs loop devices, which cannot be made here");
}

/* Creating. */

Test(file, new_file_has_no_name_until_published)
{
	struct hv_file *file = create_file("new", 0, false);
	uint8_t data[MIB] = { 1 }, back[MIB];

	put(file, data, sizeof(data), 5);
	cr_assert_eq(file->size_bytes, sizeof(data) + 5);
	cr_assert_neq(access("new", F_OK), 0);
	hv_file_close(file);
	cr_assert_eq(entries(), 0);

	file = create_file("new", 0, false);
	put(file, data, sizeof(data), 0);
	publish(file);
	cr_assert_eq(entries(), 1);
	cr_assert_eq(slurp("new", back, sizeof(back)), sizeof(data));
	cr_assert_eq(memcmp(data, back, sizeof(data)), 0);
	/* From then on it is an ordinary open file. */
	put(file, "x", 1, 0);
	hv_file_close(file);
	cr_assert_eq(slurp("new", back, 1), 1);
	cr_assert_eq(back[0], 'x');
}

Test(file, name_that_appears_meanwhile_is_not_replaced)
{
	struct hv_file *file = create_file("new", 0, false);
	char back[8];
	HV_ERR(err);

	put(file, "mine", 4, 0);
	spill("new", "theirs", 6);
	cr_assert_eq(hv_file_publish(file, &err), -EEXIST);
	cr_assert(strstr(err.sentence, "new: "), "%s", err.sentence);
	hv_file_close(file);
	cr_assert_eq(slurp("new", back, sizeof(back)), 6);
	cr_assert_eq(memcmp(back, "theirs", 6), 0);
	cr_assert_eq(entries(), 1);
}

static void assert_not_created(const char *path, bool replace, int code, const char *words)
{
	struct hv_file *file;
	HV_ERR(err);

	cr_expect_eq(hv_file_create(path, 0, replace, loop, &file, &err), code, "%s", err.sentence);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	cr_expect(strstr(err.sentence, path), "%s", err.sentence);
}

Test(file, what_cannot_be_created)
{
	spill("old", "old", 3);
	cr_assert_eq(mkdir("dir", 0777), 0);
	cr_assert_eq(mkfifo("fifo", 0666), 0);
	assert_not_created("old", false, -EEXIST, "--force");
	assert_not_created("dir", false, -EISDIR, "directory");
	assert_not_created("dir", true, -EISDIR, "directory");
	assert_not_created("fifo", true, -EINVAL, "not a regular file");
	assert_not_created("nowhere/new", false, -ENOENT, "nowhere/new");
	assert_not_created("old/new", false, -ENOTDIR, "old/new");
	cr_assert_eq(entries(), 3);
}

Test(file, replacing_keeps_the_old_file_until_the_end)
{
	struct hv_file *file;
	struct stat st;
	char back[8];

	spill("old", "old", 3);
	chmod("old", 0640);
	file = create_file("old", 0, true);
	put(file, "newer", 5, 0);
	cr_assert_eq(slurp("old", back, sizeof(back)), 3);
	assert_not_created("old", true, -EBUSY, "in use");
	hv_file_close(file);
	cr_assert_eq(slurp("old", back, sizeof(back)), 3);
	cr_assert_eq(entries(), 1);

	file = create_file("old", 0, true);
	put(file, "newer", 5, 0);
	publish(file);
	hv_file_close(file);
	cr_assert_eq(slurp("old", back, sizeof(back)), 5);
	cr_assert_eq(stat("old", &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0640);
	cr_assert_eq(entries(), 1);
}

Test(file, symbolic_link_is_followed_and_stays)
{
	struct hv_file *file;
	struct stat st;
	char back[8];

	mkdir("dir", 0777);
	spill("dir/real", "old", 3);
	cr_assert_eq(symlink("dir/real", "link"), 0);
	file = create_file("link", 0, true);
	put(file, "newer", 5, 0);
	publish(file);
	hv_file_close(file);
	cr_assert_eq(lstat("link", &st), 0);
	cr_assert(S_ISLNK(st.st_mode));
	cr_assert_eq(slurp("dir/real", back, sizeof(back)), 5);
}

Test(file, file_in_use_is_not_replaced)
{
	struct hv_file *file;
	char back[8];

	spill("old", "old", 3);
	file = open_file("old", 0);
	assert_not_created("old", true, -EBUSY, "in use");
	hv_file_close(file);
	file = open_file("old", HV_FILE_WRITE);
	assert_not_created("old", true, -EBUSY, "in use");
	hv_file_close(file);
	cr_assert_eq(slurp("old", back, sizeof(back)), 3);
	file = create_file("old", 0, true);
	publish(file);
	hv_file_close(file);
}

Test(file, file_behind_a_loop_device_is_not_replaced)
{
	need_device("image", MIB);
	assert_not_created("image", true, -EBUSY, "loop device");
	cr_assert_eq(shell("losetup -d %s", device), 0);
	*device = '\0';
	hv_file_close(create_file("image", 0, true));
}

/* Opening, and locks. */

static void assert_not_opened(const char *path, unsigned flags, int code, const char *words)
{
	struct hv_file *file;
	HV_ERR(err);

	cr_expect_eq(hv_file_open(path, flags, loop, &file, &err), code, "%s", err.sentence);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	cr_expect(strstr(err.sentence, path), "%s", err.sentence);
}

Test(file, what_cannot_be_opened)
{
	cr_assert_eq(mkdir("dir", 0777), 0);
	cr_assert_eq(mkfifo("fifo", 0666), 0);
	spill("file", "", 0);
	cr_assert_eq(symlink("self", "self"), 0);
	assert_not_opened("dir", 0, -EISDIR, "directory");
	assert_not_opened("dir", HV_FILE_WRITE, -EISDIR, "directory");
	assert_not_opened("fifo", 0, -EINVAL, "neither");
	assert_not_opened("fifo", HV_FILE_WRITE, -EINVAL, "neither");
	assert_not_opened("/dev/null", 0, -EINVAL, "neither");
	assert_not_opened("nothing", 0, -ENOENT, "nothing");
	assert_not_opened("file/below", 0, -ENOTDIR, "file/below");
	assert_not_opened("self", 0, -ELOOP, "self");
}

Test(file, one_writer_or_many_readers)
{
	struct hv_file *file, *other;

	spill("file", "x", 1);
	file = open_file("file", 0);
	other = open_file("file", 0);
	assert_not_opened("file", HV_FILE_WRITE, -EBUSY, "in use by another program");
	hv_file_close(other);
	hv_file_close(file);

	file = open_file("file", HV_FILE_WRITE);
	assert_not_opened("file", HV_FILE_WRITE, -EBUSY, "in use by another program");
	assert_not_opened("file", 0, -EBUSY, "open for writing in another program");
	other = open_file("file", HV_FILE_NO_LOCK);
	hv_file_close(other);
	hv_file_close(file);
	hv_file_close(open_file("file", HV_FILE_WRITE));
}

/* Who holds a byte: as QEMU asks. */
static bool held(const char *path, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	cr_assert_eq(fcntl(fd, F_OFD_GETLK, &lock), 0);
	close(fd);
	return lock.l_type != F_UNLCK;
}

/* Bytes 100.. say what a user does, 200.. what it denies others: read, write, -, resize. */
Test(file, locks_are_those_of_qemus_file_driver)
{
	static const off_t bytes[] = { 100, 101, 103, 200, 201, 203 };
	static const bool reader[] = { true, false, false, false, true, true };
	static const bool writer[] = { true, true, true, false, true, true };
	struct hv_file *file;

	spill("file", "x", 1);
	for (int writes = 0; writes < 2; writes++) {
		file = open_file("file", writes ? HV_FILE_WRITE : 0);
		for (unsigned i = 0; i < 6; i++)
			cr_expect_eq(held("file", bytes[i]), writes ? writer[i] : reader[i],
				     "byte %d of %s", (int)bytes[i], writes ? "writer" : "reader");
		hv_file_close(file);
	}
	for (unsigned i = 0; i < 6; i++)
		cr_expect_not(held("file", bytes[i]));
	/* A new file is locked from its first moment under a name. */
	file = create_file("new", 0, false);
	publish(file);
	cr_expect(held("new", 101));
	hv_file_close(file);
}

/* Bytes. */

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

static uint64_t real_size(struct hv_file *file)
{
	struct stat st;

	cr_assert_eq(hv_file_stat(file, &st), 0);
	return (uint64_t)st.st_size;
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

static void need_filesystem(void)
{
	need_device("image", 32 * MIB);
	if (shell("mkfs.ext4 -q -b 4096 %s >/dev/null 2>&1", device) || mkdir("mnt", 0777) ||
	    mount(device, "mnt", "ext4", 0, NULL))
		cr_skip_test("needs to mount ext4");
	mounted = true;
	cr_assert_eq(chdir("mnt"), 0);
}

static void leave_filesystem(void)
{
	cr_assert_eq(chdir(".."), 0);
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

Test(file, mounted_device_is_not_opened_for_writing)
{
	need_filesystem();
	leave_filesystem();
	assert_not_opened(device, HV_FILE_WRITE, -EBUSY, "mounted");
	hv_file_close(open_file(device, 0));
}

/* Space. */

static uint64_t allocated(struct hv_file *file)
{
	struct stat st;

	cr_assert_eq(hv_file_stat(file, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

Test(file, reserving_changes_neither_size_nor_contents)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_file_layout layout;
	uint8_t data[3 * PAGE], back[3 * PAGE];
	int rc;

	fill_random(data, sizeof(data));
	put(file, data, sizeof(data), 0);
	rc = hv_file_reserve(file, 0, 4 * MIB);
	if (rc == -EOPNOTSUPP)
		cr_skip_test("the filesystem cannot reserve");
	cr_assert_eq(rc, 0);
	cr_assert_geq(allocated(file), 4 * MIB);
	cr_assert_eq(file->size_bytes, sizeof(data));
	cr_assert_eq(real_size(file), sizeof(data));
	get(file, back, sizeof(back), 0);
	cr_assert_eq(memcmp(data, back, sizeof(data)), 0);
	cr_assert_eq(hv_file_truncate(file, 4 * MIB, NULL), 0);
	get(file, back, sizeof(back), MIB);
	for (size_t i = 0; i < sizeof(back); i++)
		cr_assert_eq(back[i], 0);
	if (hv_file_layout(file, 0, 4 * MIB, &layout) == 0) {
		cr_assert_eq(layout.allocated_bytes, 4 * MIB);
		if (!strcmp(hv_file_fs_name(file), "ext4") ||
		    !strcmp(hv_file_fs_name(file), "xfs")) {
			cr_assert_eq(layout.unwritten_bytes, 4 * MIB - sizeof(data));
			cr_assert_eq(layout.unknown_bytes, 0);
		}
		/* A part of it. */
		must(hv_file_layout(file, PAGE, 2 * PAGE, &layout), NULL);
		cr_assert_eq(layout.allocated_bytes, 2 * PAGE);
		cr_assert_eq(layout.unwritten_bytes, 0);
	}
	cr_assert_neq(hv_file_reserve(file, 0, UINT64_C(1) << 60), 0);
	hv_file_close(file);
}

Test(file, layout_counts_extents_and_holes)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_file_layout layout;
	uint8_t data[64 << 10];
	int rc;

	fill_random(data, sizeof(data));
	for (unsigned i = 0; i < 600; i++)
		put(file, data, PAGE, (uint64_t)i * 4 * PAGE);
	put(file, "x", 1, 40 * MIB - 1);
	rc = hv_file_layout(file, 0, 40 * MIB, &layout);
	if (rc == -EOPNOTSUPP)
		cr_skip_test("the filesystem has no FIEMAP");
	cr_assert_eq(rc, 0);
	cr_assert_geq(layout.allocated_bytes, 601 * PAGE);
	cr_assert_leq(layout.allocated_bytes, allocated(file));
	cr_assert_geq(layout.extents, 600, "more than one call's worth");
	cr_assert_eq(layout.unwritten_bytes, 0);
	hv_file_close(file);
}

Test(file, zeroing_keeps_the_neighbours)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = { { 0, 1 },          { 100, 3000 },      { 4095, 2 },       { 70000, 65535 },
		       { 200001, 65536 }, { 300000, 200000 }, { 524288, 262144 } };
	uint8_t *model = malloc(MIB), *back = malloc(MIB);
	HV_ERR(err);

	for (int direct = 0; direct < 2; direct++) {
		struct hv_file *file = create_file("file", direct ? HV_FILE_DIRECT : 0, false);

		fill_random(model, MIB);
		put(file, model, MIB, 0);
		for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			must(hv_file_zero(file, ranges[i].offset, ranges[i].length, &err), &err);
			memset(model + ranges[i].offset, 0, ranges[i].length);
			get(file, back, MIB, 0);
			cr_assert_eq(memcmp(model, back, MIB), 0, "range %u", i);
		}
		/* Beyond the end nothing happens. */
		must(hv_file_zero(file, MIB - 10, 2 * MIB, &err), &err);
		must(hv_file_zero(file, 3 * MIB, MIB, &err), &err);
		cr_assert_eq(file->size_bytes, MIB);
		memset(model + MIB - 10, 0, 10);
		get(file, back, MIB, 0);
		cr_assert_eq(memcmp(model, back, MIB), 0);
		hv_file_close(file);
	}
	free(model);
	free(back);
}

Test(file, data_and_holes)
{
	struct hv_file *file = create_file("file", 0, false);
	struct hv_extent extent;
	uint64_t data = 1, hole = 1;
	HV_ERR(err);

	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	cr_assert(data == 0 && hole == 0, "an empty file has none");
	must(hv_file_truncate(file, 8 * MIB, &err), &err);
	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	if (data == 0 && hole == 8 * MIB)
		cr_skip_test("the filesystem knows no holes");
	cr_assert(data == 8 * MIB && hole == 8 * MIB);
	put(file, "x", 1, 2 * MIB);
	put(file, "x", 1, 8 * MIB - 100);
	must(hv_file_next_data(file, 0, &data, &hole), NULL);
	cr_assert_gt(data, MIB);
	cr_assert_leq(data, 2 * MIB);
	cr_assert_gt(hole, 2 * MIB);
	cr_assert_lt(hole, 3 * MIB);
	must(hv_file_next_data(file, 2 * MIB, &data, &hole), NULL);
	cr_assert_eq(data, 2 * MIB);
	must(hv_file_next_data(file, 5 * MIB, &data, &hole), NULL);
	cr_assert_gt(data, 7 * MIB);
	cr_assert_eq(hole, 8 * MIB);
	must(hv_file_next_data(file, 8 * MIB, &data, &hole), NULL);
	cr_assert(data == 8 * MIB && hole == 8 * MIB);

	must(hv_file_extent(file, 0, 8 * MIB, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.host_offset, HV_NO_HOST_OFFSET);
	cr_assert_leq(extent.length, 2 * MIB);
	must(hv_file_extent(file, 2 * MIB, 8 * MIB, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_DATA);
	cr_assert_eq(extent.host_offset, 2 * MIB);
	must(hv_file_extent(file, 2 * MIB, 512, 0, &extent, &err), &err);
	cr_assert_eq(extent.length, 512);
	must(hv_file_extent(file, 5 * MIB, 512, 0, &extent, &err), &err);
	cr_assert(extent.state == HV_EXTENT_ZERO && extent.length == 512);
	hv_file_close(file);
}

Test(file, behind_a_file_that_ends_within_a_sector_is_a_hole)
{
	struct hv_file *file;
	struct hv_extent extent;
	HV_ERR(err);

	must(hv_file_create("f", HV_FILE_WRITE, false, loop, &file, &err), &err);
	must(hv_file_pwrite(file, "x", 1, PAGE, &err), &err);
	must(hv_file_extent(file, PAGE, PAGE, 0, &extent, &err), &err);
	cr_assert(extent.state == HV_EXTENT_DATA && extent.length == 512);
	for (uint64_t offset = PAGE + 512; offset < 2 * PAGE; offset += 512) {
		must(hv_file_extent(file, offset, PAGE, 0, &extent, &err), &err);
		cr_assert(extent.state == HV_EXTENT_ZERO && extent.length == PAGE);
	}
	hv_file_close(file);
}

Test(file, truncating)
{
	struct hv_file *file = create_file("file", 0, false);
	uint8_t back[16];
	HV_ERR(err);

	put(file, "0123456789", 10, 0);
	must(hv_file_truncate(file, 5, &err), &err);
	cr_assert_eq(file->size_bytes, 5);
	must(hv_file_truncate(file, 10, &err), &err);
	get(file, back, 10, 0);
	cr_assert_eq(memcmp(back, "01234\0\0\0\0\0", 10), 0);
	cr_assert_lt(hv_file_truncate(file, UINT64_C(1) << 63, &err), 0);
	cr_assert_eq(file->size_bytes, 10);
	hv_file_close(file);
}

Test(file, raw_disk_ends_with_a_whole_sector)
{
	struct hv_disk *disk;
	struct hv_file *file;
	uint8_t back[1024];
	HV_ERR(err);

	spill("raw", "0123456789", 10);
	file = open_file("raw", 0);
	must(hv_raw_open(file, file->size_bytes, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, 512);
	cr_assert_str_eq(hv_disk_format(disk), "raw");
	must(hv_disk_pread(disk, back, 512, 0, &err), &err);
	cr_assert_eq(memcmp(back, "0123456789\0\0", 12), 0);
	cr_assert_eq(hv_disk_pread(disk, back, 1024, 0, NULL), -EINVAL);
	hv_disk_close(disk);
	file = open_file("raw", 0);
	cr_assert_eq(hv_raw_open(file, UINT64_MAX, &disk, &err), -EOVERFLOW);
	hv_file_close(file);
}
