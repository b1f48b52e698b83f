/*
 * NTFS is asked through its own tools, each a process that can do nothing else (sandbox.h):
 * ntfs-3g.probe tells whether the volume was left in order, ntfsinfo how large its clusters are,
 * and ntfscat prints $Bitmap, which is file number 6.
 *
 * They read from a sparse file without a place in the host's memory or time: what they are about to
 * read is copied into it from the disk just before.
 */
#include "hvcore/fsmap_ntfs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "hvcore/sandbox.h"

#define NOBODY 65534
#define PATIENCE_SECONDS 60
#define MAX_READ_BYTES (16u << 20) /* of a tool, at once */
#define MAX_BITMAP_BYTES (256u << 20)
#define MAX_WORDS_BYTES (64u << 10)

/* Exit statuses of ntfs-3g.probe(8). */
#define PROBE_HIBERNATED 14
#define PROBE_UNCLEAN 15

struct hv_fsmap_ntfs {
	uint64_t cluster_bytes, cluster_count, unused_count;
	uint8_t *bitmap; /* a bit for each cluster that is used, the lowest first */
};

/* ---- A tool and its window ---- */

struct window {
	struct hv_disk *disk;
	uint64_t offset, length;
	char path[64];
	int fd;
	uint8_t *buf; /* MAX_READ_BYTES */
};

static void close_window(struct window *window)
{
	if (window->fd >= 0) {
		close(window->fd);
		unlink(window->path);
	}
	free(window->buf);
}

static int open_window(struct window *window, struct hv_err *err)
{
	const char *directory = getenv("TMPDIR");

	window->fd = -1;
	window->buf = malloc(MAX_READ_BYTES);
	if (!directory || strlen(directory) > 32)
		directory = "/var/tmp";
	snprintf(window->path, sizeof(window->path), "%s/hvkit-ntfs.XXXXXX", directory);
	if (window->buf)
		window->fd = mkostemp(window->path, O_CLOEXEC);
	if (window->fd < 0 || ftruncate(window->fd, (off_t)window->length))
		return hv_fail_errno(err, -errno, "it cannot be shown to the tools of ntfs-3g");
	return 0;
}

struct run {
	struct hv_sandbox sandbox; /* first */
	struct window *window;
	uint8_t *out;
	size_t out_bytes, out_max; /* more than out_max is thrown away, but counted */
};

static int fill(struct hv_sandbox *sandbox, uint64_t offset, uint64_t length)
{
	struct window *window = ((struct run *)sandbox)->window;
	uint64_t start = offset / HV_SECTOR_SIZE * HV_SECTOR_SIZE, end;

	if (offset >= window->length)
		return 0; /* there is nothing there */
	length = hv_min_u64(length, window->length - offset);
	end = hv_min_u64(hv_round_up(offset + length, HV_SECTOR_SIZE), window->length);
	if (end - start > MAX_READ_BYTES ||
	    hv_disk_pread(window->disk, window->buf, end - start, window->offset + start, NULL))
		return -EIO;
	return pwrite(window->fd, window->buf, end - start, (off_t)start) ==
			       (ssize_t)(end - start) ?
		       0 :
		       -EIO;
}

/* False: there is no more. */
static bool take_output(struct run *run)
{
	uint8_t rest[4096];
	size_t room = run->out_bytes < run->out_max ? run->out_max - run->out_bytes : 0;
	ssize_t got = read(run->sandbox.stdout_fd, room ? run->out + run->out_bytes : rest,
			   room ? room : sizeof(rest));

	if (got > 0)
		run->out_bytes += (size_t)got;
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void watch(struct run *run)
{
	struct hv_sandbox *sandbox = &run->sandbox;
	struct pollfd fds[] = { { .fd = sandbox->notify_fd, .events = POLLIN },
				{ .fd = sandbox->stdout_fd, .events = POLLIN },
				{ .fd = sandbox->stderr_fd, .events = POLLIN } };
	char words[1024];

	while (fds[1].fd >= 0 && poll(fds, 3, PATIENCE_SECONDS * 1000) > 0) {
		if (fds[0].revents & POLLIN)
			hv_sandbox_turn(sandbox);
		else if (fds[0].revents)
			fds[0].fd = -1; /* it has ended; what it has said is still there */
		if (fds[1].revents && !take_output(run))
			fds[1].fd = -1;
		if (fds[2].revents && read(sandbox->stderr_fd, words, sizeof(words)) == 0)
			fds[2].fd = -1;
	}
}

/* The exit status of the tool, or -errno with a sentence. */
static int run_tool(struct window *window, struct run *run, const char *const argv[],
		    struct hv_err *err)
{
	char program[64];
	const char *own[6] = { program };
	int rc, status;

	snprintf(program, sizeof(program), "/usr/bin/%s", argv[0]);
	if (access(program, X_OK))
		snprintf(program, sizeof(program), "/bin/%s", argv[0]);
	if (access(program, X_OK))
		return hv_fail(err, -ENOENT, "%s is not installed (Debian package ntfs-3g)",
			       argv[0]);
	for (int i = 1; argv[i]; i++)
		own[i] = argv[i];
	run->window = window;
	run->sandbox = (struct hv_sandbox){ .volume_fd = window->fd,
					    .volume_path = window->path,
					    .device_fd = -1,
					    .fill = fill,
					    .output = true };
	rc = hv_sandbox_start(&run->sandbox, (char *const *)(uintptr_t)own, NOBODY, NOBODY, err);
	if (rc == 0)
		watch(run);
	status = hv_sandbox_end(&run->sandbox);
	if (rc)
		return rc;
	if (!WIFEXITED(status))
		return hv_fail(err, -EBADMSG, "%s does not come to an end with it", argv[0]);
	return WEXITSTATUS(status);
}

/* ---- What they say ---- */

static int probe(struct window *window, struct hv_err *err)
{
	const char *const argv[] = { "ntfs-3g.probe", "--readwrite", window->path, NULL };
	struct run run = { 0 };
	int rc = run_tool(window, &run, argv, err);

	if (rc == PROBE_HIBERNATED)
		return hv_fail(err, -EBUSY, "its system is hibernated");
	if (rc == PROBE_UNCLEAN)
		return hv_fail(err, -EBUSY, "it was not unmounted cleanly");
	return rc > 0 ? hv_fail(err, -EBADMSG, "ntfs-3g.probe would not mount it") : rc;
}

/* The number behind name in what ntfsinfo says. */
static bool find_number(const char *text, const char *name, int base, uint64_t *ret)
{
	const char *found = strstr(text, name);
	char *end;

	if (!found)
		return false;
	errno = 0;
	*ret = strtoull(found + strlen(name), &end, base);
	return !errno && end != found + strlen(name);
}

static int take_geometry(struct hv_fsmap_ntfs *fs, const char *text, uint64_t length,
			 struct hv_err *err)
{
	uint64_t flags, bytes;

	if (!find_number(text, "Volume Flags: ", 16, &flags) ||
	    !find_number(text, "Cluster Size: ", 10, &fs->cluster_bytes) ||
	    !find_number(text, "Volume Size in Clusters: ", 10, &fs->cluster_count))
		return hv_fail(err, -EBADMSG, "ntfsinfo does not tell its size");
	if (flags)
		return hv_fail(err, -EBUSY, "it is marked to be checked");
	if (fs->cluster_bytes < HV_SECTOR_SIZE || !fs->cluster_count ||
	    (fs->cluster_bytes & (fs->cluster_bytes - 1)) ||
	    !hv_mul_u64(fs->cluster_bytes, fs->cluster_count, &bytes) || bytes > length)
		return hv_fail(err, -EBADMSG, "it is larger than where it lies");
	if (fs->cluster_count / 8 >= MAX_BITMAP_BYTES)
		return hv_fail(err, -EFBIG, "it has too many clusters");
	return 0;
}

static int ask_geometry(struct window *window, struct hv_fsmap_ntfs *fs, struct hv_err *err)
{
	const char *const argv[] = { "ntfsinfo", "--mft", window->path, NULL };
	HV_AUTO(free) char *text = malloc(MAX_WORDS_BYTES + 1);
	struct run run = { .out = (uint8_t *)text, .out_max = MAX_WORDS_BYTES };
	int rc = text ? run_tool(window, &run, argv, err) :
			hv_fail(err, -ENOMEM, "not enough memory");

	if (rc)
		return rc < 0 ? rc : hv_fail(err, -EBUSY, "ntfsinfo finds it damaged or in use");
	text[hv_min_u64(run.out_bytes, MAX_WORDS_BYTES)] = '\0';
	return take_geometry(fs, text, window->length, err);
}

static int ask_bitmap(struct window *window, struct hv_fsmap_ntfs *fs, struct hv_err *err)
{
	const char *const argv[] = { "ntfscat", "--inode", "6", window->path, NULL };
	size_t bytes = fs->cluster_count / 8 + 1;
	struct run run = { .out_max = bytes };
	int rc;

	run.out = fs->bitmap = malloc(bytes);
	rc = run.out ? run_tool(window, &run, argv, err) :
		       hv_fail(err, -ENOMEM, "not enough memory");
	if (rc < 0)
		return rc;
	if (rc || run.out_bytes < (fs->cluster_count + 7) / 8)
		return hv_fail(err, -EBADMSG, "ntfscat cannot read its $Bitmap");
	return 0;
}

static bool is_used(const struct hv_fsmap_ntfs *fs, uint64_t cluster)
{
	return fs->bitmap[cluster / 8] >> (cluster % 8) & 1;
}

int hv_fsmap_ntfs_open(struct hv_disk *disk, uint64_t offset, uint64_t length,
		       struct hv_fsmap_ntfs **ret, struct hv_err *err)
{
	struct window window = { .disk = disk, .offset = offset, .length = length };
	struct hv_fsmap_ntfs *fs = calloc(1, sizeof(*fs));
	int rc = open_window(&window, err);

	if (rc == 0 && !fs)
		rc = hv_fail(err, -ENOMEM, "not enough memory");
	if (rc == 0)
		rc = probe(&window, err);
	if (rc == 0)
		rc = ask_geometry(&window, fs, err);
	if (rc == 0)
		rc = ask_bitmap(&window, fs, err);
	close_window(&window);
	if (rc) {
		hv_fsmap_ntfs_close(fs);
		return rc;
	}
	for (uint64_t i = 0; i < fs->cluster_count; i++)
		fs->unused_count += !is_used(fs, i);
	*ret = fs;
	return 0;
}

void hv_fsmap_ntfs_close(struct hv_fsmap_ntfs *fs)
{
	if (fs)
		free(fs->bitmap);
	free(fs);
}

uint64_t hv_fsmap_ntfs_unused_bytes(const struct hv_fsmap_ntfs *fs)
{
	return fs->unused_count * fs->cluster_bytes;
}

bool hv_fsmap_ntfs_unused(const struct hv_fsmap_ntfs *fs, uint64_t offset, uint64_t length)
{
	uint64_t last = length ? (offset + length - 1) / fs->cluster_bytes : fs->cluster_count;

	if (last >= fs->cluster_count)
		return false;
	for (uint64_t i = offset / fs->cluster_bytes; i <= last; i++)
		if (is_used(fs, i))
			return false;
	return true;
}
