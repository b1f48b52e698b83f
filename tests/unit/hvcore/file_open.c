/*
 * Files: what appears under a name and when, what cannot be created or opened, and who keeps whom
 * out.
 */
#include "tests/unit/hvcore/file.h"

#include <dirent.h>
#include <fcntl.h>

TestSuite(file, .init = setup, .fini = teardown);

/* Creating. */

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

Test(file, mounted_device_is_not_opened_for_writing)
{
	need_filesystem();
	leave_filesystem();
	assert_not_opened(device, HV_FILE_WRITE, -EBUSY, "mounted");
	hv_file_close(open_file(device, 0));
}
