/*
 * The daemon is asked for its number before, and waited for after the unmount: the kernel lets go
 * of a mount before the daemon has written back what it holds.
 */
#include "fuse-mount/unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fuse-mount/mounts.h"

#define WAIT_SECONDS 300

extern char **environ;

/* ---- One mount ---- */

/* Runs fusermount3, whose words are replaced by ours. */
static int fusermount(const char *target, bool lazy)
{
	char *argv[] = { "fusermount3",
			 "-u",
			 "-q",
			 lazy ? "-z" : "--",
			 lazy ? "--" : (char *)(uintptr_t)target,
			 lazy ? (char *)(uintptr_t)target : NULL,
			 NULL };
	posix_spawn_file_actions_t actions;
	int status, rc;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return -rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EBUSY;
}

int fm_unmount_one(const char *target, bool lazy, struct hv_err *err)
{
	int rc;

	if (geteuid() == 0)
		rc = umount2(target, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) ? -errno : 0;
	else
		rc = fusermount(target, lazy);
	if (rc == -ENOENT)
		return hv_fail(err, rc, "%s: fusermount3, of the package fuse3, is not installed",
			       target);
	if (rc == -EBUSY)
		return hv_fail(err, rc,
			       "%s: is in use: close what is open in it and leave its directories",
			       target);
	return rc ? hv_fail_errno(err, rc, "%s: cannot be unmounted", target) : 0;
}

/* ---- The daemon ---- */

/* A descriptor that can be read from when the daemon has gone; -1: it is not known. */
static int daemon_fd(const char *directory)
{
	char text[16];
	ssize_t length = getxattr(directory, FM_PID_ATTRIBUTE, text, sizeof(text) - 1);
	long pid;

	if (length <= 0)
		return -1;
	text[length] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

static int wait_for(int fd, const char *directory, struct hv_err *err)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int rc;

	do {
		rc = poll(&poll_fd, 1, WAIT_SECONDS * 1000);
	} while (rc < 0 && errno == EINTR);
	return rc > 0 ? 0 :
			hv_fail(err, -ETIMEDOUT, "%s: is unmounted, but vhdmount still writes",
				directory);
}

/* ---- All of it ---- */

/* Where directory is, without asking the directory itself: its daemon may be dead. */
static char *real_path(const char *directory)
{
	HV_AUTO(free) char *copy = strdup(directory);
	HV_AUTO(free) char *parent = NULL;
	char *slash, *last, *path = NULL;

	if (!copy)
		return NULL;
	for (size_t length = strlen(copy); length > 1 && copy[length - 1] == '/'; length--)
		copy[length - 1] = '\0';
	slash = strrchr(copy, '/');
	last = slash ? slash + 1 : copy;
	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return realpath(directory, NULL);
	if (slash == copy)
		parent = strdup("");
	else if (slash)
		*slash = '\0';
	if (!parent)
		parent = realpath(slash ? copy : ".", NULL);
	if (!parent || asprintf(&path, "%s/%s", strcmp(parent, "/") ? parent : "", last) < 0)
		return NULL;
	return path;
}

/* A symlink to the directory leads there, as for everybody else. */
static char *mount_path(const struct fm_mounts *mounts, const char *directory)
{
	char *path = real_path(directory);

	if (path && !fm_mounts_at(mounts, path)) {
		char *real = realpath(directory, NULL);

		if (real) {
			free(path);
			path = real;
		}
	}
	return path;
}

static int unmount_below(const struct fm_mounts *mounts, const char *directory, struct hv_err *err)
{
	int rc = 0;

	for (size_t i = mounts->count; i-- > 0 && rc == 0;)
		if (fm_mount_is_below(&mounts->mounts[i], directory))
			rc = fm_unmount_one(mounts->mounts[i].target, false, err);
	return rc;
}

static bool is_dead(const char *directory)
{
	struct stat st;

	return stat(directory, &st) && (errno == ENOTCONN || errno == ECONNABORTED);
}

int fm_unmount(const char *directory, struct hv_err *err)
{
	HV_AUTO(fm_mounts_free) struct fm_mounts *mounts = NULL;
	HV_AUTO(free) char *path = NULL;
	HV_AUTO(close) int daemon = -1;
	const struct fm_mount *mount;
	int rc = fm_mounts_read(&mounts, err);

	if (rc)
		return rc;
	path = mount_path(mounts, directory);
	if (!path)
		return hv_fail_errno(err, errno ? -errno : -ENOMEM, "%s", directory);
	mount = fm_mounts_at(mounts, path);
	if (!mount)
		return hv_fail(err, -EINVAL, "%s: nothing is mounted there", directory);
	if (strcmp(mount->type, FM_MOUNT_TYPE) != 0)
		return hv_fail(err, -EINVAL,
			       "%s: what is mounted there is of type %s, and not by vhdmount",
			       directory, mount->type);
	if (is_dead(path))
		return fm_unmount_one(path, true, err);
	daemon = daemon_fd(path);
	rc = unmount_below(mounts, path, err);
	if (rc == 0)
		rc = fm_unmount_one(path, false, err);
	return rc == 0 && daemon >= 0 ? wait_for(daemon, directory, err) : rc;
}
