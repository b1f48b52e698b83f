/*
 * Opening files, and making new ones that appear under their name only when they are complete.
 *
 * A new file has no name (O_TMPFILE) until it is published, so that nothing is left behind whatever
 * ends the program; where the filesystem cannot do that, it has a hidden name of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hvcore/file_posix.h"
#include "hvcore/guid.h"
#include "hvcore/log.h"
#include "hvcore/loopdev.h"

/* Wraps fd, which is closed on failure too. */
static int wrap(int fd, const char *path, unsigned flags, struct hv_loop *loop,
		struct posix_file **ret, struct hv_err *err)
{
	struct posix_file *file = calloc(1, sizeof(*file));
	struct stat st;
	uint64_t size;

	if (file)
		file->base.path = strdup(path);
	if (!file || !file->base.path || fstat(fd, &st)) {
		free(file);
		close(fd);
		return hv_fail(err, -ENOMEM, "%s: not enough memory", path);
	}
	file->base.ops = &hv_posix_file_ops;
	file->base.loop = loop;
	file->base.fd = fd;
	file->base.writable = flags & HV_FILE_WRITE;
	file->base.dev = st.st_dev;
	file->base.ino = st.st_ino;
	file->base.size_bytes = (uint64_t)st.st_size;
	file->base.align_bytes = HV_SECTOR_SIZE;
	file->old_fd = -1;
	pthread_mutex_init(&file->barrier_lock, NULL);
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &size) == 0) {
		file->base.block_device = true;
		file->base.size_bytes = size;
	}
	if (flags & HV_FILE_DIRECT) {
		unsigned align = hv_direct_alignment(fd);

		file->base.direct = align != 0;
		if (align)
			file->base.align_bytes = align;
	}
	*ret = file;
	return 0;
}

/* Says in one sentence what path is, when it is neither a file nor a block device. */
static int refuse_kind(mode_t mode, const char *path, struct hv_err *err)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	if (S_ISDIR(mode))
		return hv_fail(err, -EISDIR, "%s: is a directory", path);
	return hv_fail(err, -EINVAL, "%s: is neither a regular file nor a block device", path);
}

/*
 * O_NONBLOCK keeps a FIFO from holding us until the kind is known; O_EXCL makes the kernel refuse a
 * device that is mounted or otherwise claimed.
 */
static int open_fd(const char *path, bool writable, int *ret, struct hv_err *err)
{
	int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat st;
	int fd, rc;

	if (stat(path, &st))
		return hv_fail_errno(err, -errno, "%s", path);
	rc = refuse_kind(st.st_mode, path, err);
	if (rc)
		return rc;
	fd = open(path, S_ISBLK(st.st_mode) && writable ? flags | O_EXCL : flags);
	if (fd < 0 && errno == EBUSY)
		return hv_fail(err, -EBUSY, "%s: the device is mounted or in use", path);
	if (fd < 0)
		return hv_fail_errno(err, -errno, "%s: cannot open%s", path,
				     writable ? " for writing" : "");
	rc = fstat(fd, &st) ? -errno : refuse_kind(st.st_mode, path, err);
	if (rc) {
		close(fd);
		return rc;
	}
	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	*ret = fd;
	return 0;
}

int hv_file_open(const char *path, unsigned flags, struct hv_loop *loop, struct hv_file **ret,
		 struct hv_err *err)
{
	struct posix_file *file = NULL;
	int fd = -1, rc;

	rc = open_fd(path, flags & HV_FILE_WRITE, &fd, err);
	if (rc)
		return rc;
	if (!(flags & HV_FILE_NO_LOCK)) {
		rc = hv_file_lock(fd, path, flags & HV_FILE_WRITE, err);
		if (rc) {
			close(fd);
			return rc;
		}
	}
	rc = wrap(fd, path, flags, loop, &file, err);
	if (rc)
		return rc;
	/* A loop device takes no locks. */
	if (flags & HV_FILE_WRITE && !(flags & HV_FILE_NO_LOCK) && !file->base.block_device &&
	    hv_loopdev_uses(file->base.dev, file->base.ino)) {
		hv_file_close(&file->base);
		return hv_fail(err, -EBUSY, "%s: in use by a loop device, not opened for writing",
			       path);
	}
	*ret = &file->base;
	return 0;
}

/* Creating. */

/* path with its last component's symbolic links followed, so that a link is not replaced. */
static char *follow_links(const char *path)
{
	char *real = realpath(path, NULL);

	return real ? real : strdup(path);
}

static char *directory_of(const char *path)
{
	char *copy = strdup(path), *dir = NULL;

	if (copy)
		dir = strdup(dirname(copy));
	free(copy);
	return dir;
}

/* A name beside path that nobody uses: ".NAME.RANDOM". */
static char *hidden_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char id[HV_GUID_TEXT_SIZE], *hidden;
	struct hv_guid guid;

	if (hv_guid_random(&guid))
		return NULL;
	hv_guid_format(&guid, id);
	if (asprintf(&hidden, "%.*s.%.200s.%.8s", (int)(name - path), path, name, id) < 0)
		return NULL;
	return hidden;
}

/* Opens the file that will be replaced, and keeps others out of it. */
static int claim_old(const char *target, const char *path, bool replace, int *ret, struct stat *st,
		     struct hv_err *err)
{
	int fd = -1, rc;

	if (lstat(target, st))
		return errno == ENOENT ? 0 : hv_fail_errno(err, -errno, "%s", path);
	if (S_ISDIR(st->st_mode))
		return hv_fail(err, -EISDIR, "%s: is a directory", path);
	if (!S_ISREG(st->st_mode))
		return hv_fail(err, -EINVAL, "%s: is not a regular file and is not replaced", path);
	if (!replace)
		return hv_fail(err, -EEXIST, "%s: exists already; --force replaces it", path);
	rc = open_fd(target, true, &fd, err);
	if (rc)
		return rc;
	rc = hv_file_lock(fd, path, true, err);
	if (rc == 0 && hv_loopdev_uses(st->st_dev, st->st_ino))
		rc = hv_fail(err, -EBUSY, "%s: in use by a loop device, not replaced", path);
	if (rc) {
		close(fd);
		return rc;
	}
	*ret = fd;
	return 0;
}

static int open_nameless(const char *path, char **temp, struct hv_err *err)
{
	HV_AUTO(free) char *dir = directory_of(path);
	int fd;

	if (!dir)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", path);
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)
		return hv_fail_errno(err, -errno, "%s: cannot create", path);
	*temp = hidden_name(path);
	fd = *temp ? open(*temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666) : -1;
	if (fd < 0) {
		int code = *temp ? -errno : -ENOMEM;

		free(hv_steal(*temp));
		return hv_fail_errno(err, code, "%s: cannot create", path);
	}
	return fd;
}

int hv_file_create(const char *path, unsigned flags, bool replace, struct hv_loop *loop,
		   struct hv_file **ret, struct hv_err *err)
{
	struct posix_file *file = NULL;
	HV_AUTO(free) char *target = follow_links(path);
	HV_AUTO(close) int old_fd = -1;
	char *temp = NULL;
	struct stat old;
	int fd, rc;

	if (!target)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", path);
	rc = claim_old(target, path, replace, &old_fd, &old, err);
	if (rc)
		return rc;
	fd = open_nameless(target, &temp, err);
	if (fd < 0)
		return fd;
	/* Its mode first: who gives a file away may not be allowed to change it any more. */
	if (old_fd >= 0 && (fchmod(fd, old.st_mode & 07777) || fchown(fd, old.st_uid, old.st_gid)))
		hv_log(HV_LOG_INFO, "%s: owner and mode of the old file are not kept", path);
	rc = wrap(fd, path, flags | HV_FILE_WRITE, loop, &file, err);
	if (rc) {
		free(temp);
		return rc;
	}
	file->temp_path = temp;
	file->publish_path = hv_steal(target);
	file->old_fd = old_fd;
	old_fd = -1;
	file->replace = replace;
	hv_file_lock(fd, path, true, NULL);
	*ret = &file->base;
	return 0;
}

/* Gives an O_TMPFILE its first name. */
static int link_fd(int fd, const char *name)
{
	char self[64];

	if (linkat(fd, "", AT_FDCWD, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno == EEXIST)
		return -errno;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int give_name(struct posix_file *file)
{
	const char *path = file->publish_path;

	if (!file->temp_path && !file->replace)
		return link_fd(file->base.fd, path);
	if (!file->temp_path) {
		file->temp_path = hidden_name(path);
		int rc = file->temp_path ? link_fd(file->base.fd, file->temp_path) : -ENOMEM;

		if (rc) {
			free(hv_steal(file->temp_path));
			return rc;
		}
	}
	if (renameat2(AT_FDCWD, file->temp_path, AT_FDCWD, path,
		      file->replace ? 0 : RENAME_NOREPLACE)) {
		if (errno != EINVAL || link(file->temp_path, path))
			return -errno;
		unlink(file->temp_path);
	}
	free(hv_steal(file->temp_path));
	return 0;
}

static int sync_directory_of(const char *path)
{
	HV_AUTO(free) char *dir = directory_of(path);
	HV_AUTO(close) int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	/* Some filesystems refuse to sync a directory: they have nothing to sync. */
	if (fd < 0 || (fsync(fd) && errno != EINVAL))
		return -errno;
	return 0;
}

int hv_posix_publish(struct hv_file *base, struct hv_err *err)
{
	struct posix_file *file = (struct posix_file *)base;
	int rc;

	/* Contents and size are durable before the name is. */
	rc = hv_posix_barrier(file, true);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot flush", base->path);
	rc = give_name(file);
	if (rc == -EEXIST)
		return hv_fail(err, rc, "%s: has appeared meanwhile and is not replaced",
			       base->path);
	if (rc == 0)
		rc = sync_directory_of(file->publish_path);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot give the new file its name", base->path);
	if (file->old_fd >= 0)
		close(file->old_fd);
	file->old_fd = -1;
	free(hv_steal(file->publish_path));
	return 0;
}

int hv_file_unlink(const char *path, struct hv_err *err)
{
	int rc = unlink(path) ? -errno : sync_directory_of(path);

	return rc ? hv_fail_errno(err, rc, "%s: cannot remove", path) : 0;
}
