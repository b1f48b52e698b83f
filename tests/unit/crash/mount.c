/*
 * Worlds as directories by their contract: what is seen by any call is what the world has, and what
 * is done to it by paths is what a power cut can take back.
 */
#include "tests/crash/mount.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/explore.h"
#include "tests/unit/must.h"

static struct hv_loop *loop;
static struct crash_stage *stage;
static struct crash_world *world;
static struct crash_mount *mount;

static void setup(void)
{
	HV_ERR(err);

	must(hv_loop_new(&loop, &err), &err);
	stage = crash_stage_new(loop, 1);
	world = crash_world_new(stage);
	mount = crash_mount_new("/tmp");
	crash_mount_show(mount, world);
}

static void teardown(void)
{
	crash_world_free(world);
	crash_mount_free(mount);
	crash_stage_free(stage);
	hv_loop_free(loop);
}

TestSuite(mount, .init = setup, .fini = teardown);

/* A new file with that name, filled with the character. */
static void put(const char *name, int with)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, name);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	char data[HV_SECTOR_SIZE];
	HV_ERR(err);

	memset(data, with, sizeof(data));
	must(hv_file_create(path, 0, true, loop, &file, &err), &err);
	must(hv_file_pwrite(file, data, sizeof(data), 0, &err), &err);
	must(hv_file_publish(file, &err), &err);
}

/* The character that fills the file; 0: there is none of that name, whoever is asked. */
static int get(const char *name)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, name);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	char data[HV_SECTOR_SIZE];
	int rc = hv_file_open(path, 0, loop, &file, NULL);

	cr_assert_eq(access(path, F_OK), rc ? -1 : 0);
	if (rc == -ENOENT)
		return 0;
	must(rc, NULL);
	must(hv_file_pread(file, data, sizeof(data), 0, NULL), NULL);
	return data[0];
}

static ino_t inode(const char *name)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, name);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct stat by_path, by_file;
	HV_ERR(err);

	must(hv_file_open(path, 0, loop, &file, &err), &err);
	must(hv_file_stat(file, &by_file), NULL);
	cr_assert_eq(stat(path, &by_path), 0);
	cr_assert(by_path.st_ino == by_file.st_ino && by_path.st_dev == by_file.st_dev);
	cr_assert(by_path.st_ino == file->ino && by_path.st_dev == file->dev);
	cr_assert_str_eq(file->path, path);
	return by_path.st_ino;
}

static unsigned count_names(void)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, "");
	DIR *dir = opendir(path);
	unsigned count = 0;

	cr_assert_not_null(dir);
	for (struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

Test(mount, shows_the_names_of_the_world)
{
	HV_ERR(err);

	cr_assert_eq(get("a"), 0);
	put("a", 'A');
	put("b", 'B');
	cr_assert(get("a") == 'A' && get("b") == 'B' && count_names() == 2);
	cr_assert_neq(inode("a"), inode("b"));
	must(crash_rename(world, "a", "b", &err), &err);
	cr_assert(get("a") == 0 && get("b") == 'A' && count_names() == 1);
	must(crash_unlink(world, "b", &err), &err);
	cr_assert_eq(count_names(), 0);
}

Test(mount, another_world_takes_its_place)
{
	struct crash_world *copy;
	ino_t before;

	put("a", 'A');
	before = inode("a");
	copy = crash_world_copy(world);
	put("a", 'X');
	put("b", 'B');
	crash_mount_show(mount, copy);
	cr_assert(get("a") == 'A' && get("b") == 0 && count_names() == 1);
	cr_assert_eq(inode("a"), before);
	put("c", 'C');
	crash_mount_show(mount, world);
	cr_assert(get("a") == 'X' && get("b") == 'B' && get("c") == 0);
	crash_world_free(copy);
	cr_assert_eq(count_names(), 2);
}

Test(mount, files_change_in_time_when_they_are_changed)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, "a");
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct stat before, after;
	HV_ERR(err);

	put("a", 'A');
	put("b", 'B');
	must(hv_file_open(path, HV_FILE_WRITE, loop, &file, &err), &err);
	must(hv_file_stat(file, &before), NULL);
	put("c", 'C');
	must(hv_file_stat(file, &after), NULL);
	cr_assert_eq(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	must(hv_file_pwrite(file, "x", 1, 600, &err), &err);
	must(hv_file_stat(file, &after), NULL);
	cr_assert_gt(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	cr_assert(before.st_size == 512 && after.st_size == 601);
}

/* Which states were seen: bits by the contents of a, from none on. */
static bool note(struct crash_world *state, uint64_t at, void *arg)
{
	unsigned *seen = arg;

	(void)at;
	crash_mount_show(mount, state);
	*seen |= 1u << (get("a") ? get("a") - '@' : 0);
	return true;
}

static unsigned explore(void)
{
	struct crash_plan plan = { .seed = 1, .states = 64 };
	unsigned seen = 0;

	cr_assert(crash_explore(world, &plan, note, &seen));
	crash_forget(world);
	crash_mount_show(mount, world);
	return seen;
}

Test(mount, power_cuts_take_back_what_paths_were_used_for)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, "a");
	HV_ERR(err);

	put("a", 'A');
	cr_assert_eq(explore(), 1u << 0 | 1u << 1);
	put("a", 'B');
	cr_assert_eq(explore(), 1u << 1 | 1u << 2);
	must(hv_file_unlink(path, &err), &err);
	cr_assert_eq(explore(), 1u << 2 | 1u << 0);
	put("a", 'C');
	crash_forget(world);
	must(hv_file_unlink(path, &err), &err);
	crash_forget(world);
	cr_assert_eq(explore(), 1u << 0);
}

Test(mount, other_paths_are_real_ones)
{
	char path[] = "/tmp/mount-XXXXXX";
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	HV_ERR(err);

	close(mkstemp(path));
	must(hv_file_open(path, HV_FILE_WRITE, loop, &file, &err), &err);
	cr_assert_geq(file->fd, 0);
	must(hv_file_unlink(path, &err), &err);
	cr_assert_neq(access(path, F_OK), 0);
	cr_assert_eq(crash_logged(world), 0);
}

Test(mount, failing_names_are_told)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, "a");
	HV_ERR(err);

	put("a", 'A');
	crash_fail(world, CRASH_NAME, 1, -EIO, false);
	cr_assert_eq(hv_file_unlink(path, &err), -EIO);
	cr_assert_eq(get("a"), 'A');
	crash_fail(world, CRASH_SYNC_NAMES, 1, -EIO, false);
	hv_err_clear(&err);
	cr_assert_eq(hv_file_unlink(path, &err), -EIO);
	cr_assert_eq(get("a"), 0);
	cr_assert_eq(hv_file_unlink(path, NULL), -ENOENT);
}
