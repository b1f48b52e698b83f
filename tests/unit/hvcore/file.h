/*
 * What the tests of files share. Every test works in a directory of its own; what needs a loop
 * device is skipped where none can be made.
 */
#ifndef TESTS_UNIT_HVCORE_FILE_H
#define TESTS_UNIT_HVCORE_FILE_H

#include "hvcore/file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/workdir.h"
#include "tests/unit/must.h"

#define PAGE 4096u
#define MIB (1u << 20)

static char here[PATH_MAX];
static char device[64]; /* a loop device, or "" */
static bool mounted;
static struct hv_loop *loop;

static inline void setup(void)
{
	HV_ERR(err);

	workdir_enter();
	cr_assert_not_null(getcwd(here, sizeof(here)));
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static inline int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline int shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

static inline void teardown(void)
{
	hv_loop_free(loop);
	/* A test that failed may stand anywhere, and have left files open. */
	if (mounted && chdir(here) == 0)
		umount2("mnt", MNT_DETACH);
	if (*device)
		shell("losetup -d %s", device);
	workdir_leave();
}

static inline struct hv_file *open_file(const char *path, unsigned flags)
{
	struct hv_file *file = NULL;
	HV_ERR(err);

	must(hv_file_open(path, flags, loop, &file, &err), &err);
	return file;
}

static inline struct hv_file *create_file(const char *path, unsigned flags, bool replace)
{
	struct hv_file *file = NULL;
	HV_ERR(err);

	must(hv_file_create(path, flags, replace, loop, &file, &err), &err);
	return file;
}

static inline void publish(struct hv_file *file)
{
	HV_ERR(err);

	must(hv_file_publish(file, &err), &err);
}

static inline void put(struct hv_file *file, const void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	must(hv_file_pwrite(file, data, length, offset, &err), &err);
}

static inline void get(struct hv_file *file, void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	must(hv_file_pread(file, data, length, offset, &err), &err);
}

static inline void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

static inline size_t slurp(const char *path, void *bytes, size_t size)
{
	FILE *in = fopen(path, "rb");
	size_t n;

	cr_assert_not_null(in, "%s", path);
	n = fread(bytes, 1, size, in);
	fclose(in);
	return n;
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state >> 11;
}

static inline void fill_random(uint8_t *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)next_random();
}

static inline void assert_not_opened(const char *path, unsigned flags, int code, const char *words)
{
	struct hv_file *file;
	HV_ERR(err);

	cr_expect_eq(hv_file_open(path, flags, loop, &file, &err), code, "%s", err.sentence);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	cr_expect(strstr(err.sentence, path), "%s", err.sentence);
}

static inline uint64_t real_size(struct hv_file *file)
{
	struct stat st;

	cr_assert_eq(hv_file_stat(file, &st), 0);
	return (uint64_t)st.st_size;
}

static inline uint64_t allocated(struct hv_file *file)
{
	struct stat st;

	cr_assert_eq(hv_file_stat(file, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* A loop device of 4096-byte sectors over a new file. */
static inline void need_device(const char *path, uint64_t size)
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

static inline void need_filesystem(void)
{
	need_device("image", 32 * MIB);
	if (shell("mkfs.ext4 -q -b 4096 %s >/dev/null 2>&1", device) || mkdir("mnt", 0777) ||
	    mount(device, "mnt", "ext4", 0, NULL))
		cr_skip_test("needs to mount ext4");
	mounted = true;
	cr_assert_eq(chdir("mnt"), 0);
}

static inline void leave_filesystem(void)
{
	cr_assert_eq(chdir(".."), 0);
}

#endif
