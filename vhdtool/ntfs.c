/*
 * NTFS, asked what it uses. vhdmount shows the disk in a temporary directory; ntfs-3g.probe says
 * whether the filesystem was left in order, neither hibernated nor with a journal to be replayed;
 * then the file $Bitmap, which ntfs-3g serves like any other, has a bit for each cluster.
 */
#include "vhdtool/ntfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "hvcore/memory.h"

#define READY_SECONDS 60
#define PATH_ROOM (PATH_MAX + NAME_MAX)

/* A running vhdmount, and where it shows the disk: disk/, beside complaints and its overlay. */
struct view {
	char directory[PATH_MAX];
	char complaints[PATH_ROOM];
	pid_t pid; /* 0: does not run */
};

/* ---- Programs ---- */

/* argv[0] from the directory that we are in, else as a shell would find it. Never returns. */
static void become(char *const argv[])
{
	char path[PATH_ROOM];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *slash;

	if (length > 0) {
		path[length] = '\0';
		slash = strrchr(path, '/');
		snprintf(slash + 1, sizeof(path) - (size_t)(slash + 1 - path), "%s", argv[0]);
		execv(path, argv);
	}
	execvp(argv[0], argv);
	_exit(127);
}

/* Starts a program that ends with us, and complains into a file; its pid or -errno. */
static pid_t start(char *const argv[], const char *complaints)
{
	pid_t parent = getpid(), pid = fork();
	int null, said;

	if (pid)
		return pid < 0 ? -errno : pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	said = open(complaints, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (getppid() != parent || null < 0 || said < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    dup2(said, 2) < 0)
		_exit(127);
	become(argv);
	return 0;
}

/* The exit status, 127 for what did not end by itself. */
static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

/* ---- The view ---- */

static void view_close(struct view *view)
{
	char path[PATH_ROOM];

	if (view->pid > 0) {
		kill(view->pid, SIGTERM);
		await(view->pid);
	}
	if (!view->directory[0])
		return;
	snprintf(path, sizeof(path), "%s/overlay.vhd", view->directory);
	unlink(path);
	unlink(view->complaints);
	snprintf(path, sizeof(path), "%s/disk", view->directory);
	rmdir(path);
	rmdir(view->directory);
	*view = (struct view){ .pid = 0 };
}

/* vhdmount has ended at once: why, in its words. */
static int complain(const struct view *view, struct hv_err *err)
{
	HV_AUTO(close) int fd = open(view->complaints, O_RDONLY | O_CLOEXEC);
	char said[512];
	ssize_t length = fd < 0 ? 0 : read(fd, said, sizeof(said) - 1);

	said[length > 0 ? length : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	return hv_fail(err, -EIO, "%s", said[0] ? said : "vhdmount does not run");
}

/* Until vhdmount shows the disk. */
static int await_view(struct view *view, struct hv_err *err)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	char path[PATH_ROOM];
	struct stat st;

	snprintf(path, sizeof(path), "%s/disk/info.json", view->directory);
	for (unsigned turn = 0; turn < READY_SECONDS * 200; turn++) {
		if (stat(path, &st) == 0)
			return 0;
		if (waitpid(view->pid, NULL, WNOHANG) == view->pid) {
			view->pid = 0;
			return complain(view, err);
		}
		nanosleep(&pause, NULL);
	}
	return hv_fail(err, -ETIMEDOUT, "vhdmount does not show the disk");
}

static int view_open(struct view *view, const char *path, const char *parent, struct hv_err *err)
{
	const char *temporary = getenv("TMPDIR");
	char mount[PATH_ROOM], overlay[PATH_ROOM];
	char *argv[] = { "vhdmount", "-f", "--overlay", overlay, "--", (char *)(uintptr_t)path,
			 mount,      NULL, NULL,        NULL };

	if ((size_t)snprintf(view->directory, sizeof(view->directory), "%s/vhdtool-XXXXXX",
			     temporary ? temporary : "/tmp") >= sizeof(view->directory) ||
	    !mkdtemp(view->directory)) {
		view->directory[0] = '\0';
		return hv_fail(err, -EIO, "there is no temporary directory to show the disk in");
	}
	snprintf(overlay, sizeof(overlay), "%s/overlay.vhd", view->directory);
	snprintf(mount, sizeof(mount), "%s/disk", view->directory);
	if (parent)
		memcpy(&argv[4],
		       (char *[]){ "--parent", (char *)(uintptr_t)parent, "--",
				   (char *)(uintptr_t)path, mount },
		       5 * sizeof(argv[0]));
	if (mkdir(mount, 0700))
		return hv_fail_errno(err, -errno, "%s", mount);
	snprintf(view->complaints, sizeof(view->complaints), "%s/complaints", view->directory);
	view->pid = start(argv, view->complaints);
	return view->pid < 0 ? hv_fail_errno(err, view->pid, "vhdmount does not start") :
			       await_view(view, err);
}

/* ---- A filesystem ---- */

/* The partition as a file: pN.ntfs, pN-label.ntfs; disk.raw is the bare disk. */
static int find_volume(const struct view *view, unsigned partition, char path[PATH_ROOM],
		       struct hv_err *err)
{
	char prefix[16], root[PATH_ROOM];
	const struct dirent *entry;
	int rc = -ENOENT;
	DIR *directory;

	snprintf(root, sizeof(root), "%s/disk", view->directory);
	snprintf(path, PATH_ROOM, "%s/disk/disk.raw", view->directory);
	if (!partition)
		return 0;
	directory = opendir(root);
	if (!directory)
		return hv_fail_errno(err, -errno, "%s", root);
	snprintf(prefix, sizeof(prefix), "p%u", partition);
	while (rc && (entry = readdir(directory))) {
		size_t length = strlen(prefix);

		if (strncmp(entry->d_name, prefix, length) || !strchr("-.", entry->d_name[length]))
			continue;
		snprintf(path, PATH_ROOM, "%s/disk/%s", view->directory, entry->d_name);
		rc = 0;
	}
	closedir(directory);
	return rc ? hv_fail(err, rc, "vhdmount does not show it") : 0;
}

/* Was it left in order? */
static int probe(const char *volume, const char *complaints, struct hv_err *err)
{
	enum { OK = 0, HIBERNATED = 14, UNCLEAN = 15, NO_PROGRAM = 127 };
	char *argv[] = { "ntfs-3g.probe", "--readwrite", (char *)(uintptr_t)volume, NULL };
	pid_t pid = start(argv, complaints);
	int status = pid < 0 ? NO_PROGRAM : await(pid);

	switch (status) {
	case OK:
		return 0;
	case HIBERNATED:
		return hv_fail(err, -EBUSY,
			       "Windows is hibernated, or was shut down for a fast start");
	case UNCLEAN:
		return hv_fail(err, -EBUSY, "it was not unmounted cleanly");
	case NO_PROGRAM:
		return hv_fail(err, -ENOENT, "ntfs-3g.probe, of the package ntfs-3g, does not run");
	default:
		return hv_fail(err, -EBADMSG, "ntfs-3g does not take it (status %d)", status);
	}
}

static uint8_t reversed(uint8_t byte)
{
	byte = (uint8_t)((byte & 0xf0) >> 4 | (byte & 0x0f) << 4);
	byte = (uint8_t)((byte & 0xcc) >> 2 | (byte & 0x33) << 2);
	return (uint8_t)((byte & 0xaa) >> 1 | (byte & 0x55) << 1);
}

/* NTFS numbers bits from the least significant; we, as VHD does, from the other end. */
static int read_bits(const char *path, uint8_t *bits, size_t length, struct hv_err *err)
{
	HV_AUTO(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;

	while (fd >= 0 && done < length) {
		ssize_t n = read(fd, bits + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return hv_fail(err, -EBADMSG, "its $Bitmap is too short");
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (done < length)
		return hv_fail_errno(err, -errno, "its $Bitmap cannot be read");
	for (size_t i = 0; i < length; i++)
		bits[i] = reversed(bits[i]);
	return 0;
}

static int tell(const struct view *view, struct hv_fsmap *map, unsigned i, struct hv_err *err)
{
	const struct hv_fs *fs = hv_fsmap_get(map, i);
	char path[PATH_ROOM], name[16] = "disk";
	HV_AUTO(free) uint8_t *bits = NULL;
	struct statvfs st;
	int rc;

	if (fs->partition)
		snprintf(name, sizeof(name), "p%u", fs->partition);
	snprintf(path, sizeof(path), "%s/disk/files/%s", view->directory, name);
	if (statvfs(path, &st))
		return hv_fail_errno(err, -errno, "ntfs-3g does not show its files");
	if (!st.f_blocks || !st.f_frsize || st.f_blocks > fs->length / st.f_frsize)
		return hv_fail(err, -EBADMSG, "it is larger than where it lies");
	bits = malloc(hv_div_up(st.f_blocks, 8));
	if (!bits)
		return hv_fail(err, -ENOMEM, "there is not enough memory for its $Bitmap");
	strcat(path, "/$Bitmap");
	rc = read_bits(path, bits, hv_div_up(st.f_blocks, 8), err);
	if (rc == 0)
		rc = hv_fsmap_told(map, i, bits, st.f_blocks, (uint32_t)st.f_frsize, err);
	if (rc == 0)
		(void)hv_steal(bits);
	return rc;
}

static int ask(const struct view *view, struct hv_fsmap *map, unsigned i, struct hv_err *err)
{
	char volume[PATH_ROOM];
	int rc = find_volume(view, hv_fsmap_get(map, i)->partition, volume, err);

	if (rc == 0)
		rc = probe(volume, view->complaints, err);
	return rc ? rc : tell(view, map, i, err);
}

/* 0, or why not in *err. The first that asks opens the view; when that fails, it does for all. */
static int tell_one(struct view *view, const char *path, const char *parent, struct hv_fsmap *map,
		    unsigned i, struct hv_err *err)
{
	int rc = view->pid > 0 ? 0 : view_open(view, path, parent, err);

	return rc ? rc : ask(view, map, i, err);
}

int tool_ask_ntfs(const char *path, const char *parent, struct hv_fsmap *map, struct hv_err *err)
{
	struct view view = { .pid = 0 };
	int rc = 0;

	for (unsigned i = 0; i < hv_fsmap_count(map) && rc == 0; i++) {
		HV_ERR(objection);
		int told;

		if (strcmp(hv_fsmap_get(map, i)->type, "ntfs"))
			continue;
		told = tell_one(&view, path, parent, map, i, &objection);
		if (told)
			rc = hv_fsmap_object(map, i, hv_err_text(&objection, told));
		if (view.pid <= 0)
			view_close(&view);
	}
	view_close(&view);
	return rc ? hv_fail(err, rc, "%s: not enough memory", path) : 0;
}
