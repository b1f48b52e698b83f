/*
 * vhdmount: shows what is in a disk, through FUSE.
 *
 * The main thread only waits, for a signal or for the end of the mount; FUSE is answered by threads
 * of its own, and what is written by that of an engine. Leaving goes from the top down: the readers
 * of files/ first, while they can still be answered, then our own mount, then the disk.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "fuse-mount/daemon.h"
#include "fuse-mount/files.h"
#include "fuse-mount/info.h"
#include "fuse-mount/kernel.h"
#include "fuse-mount/list.h"
#include "fuse-mount/options.h"
#include "fuse-mount/overlay.h"
#include "fuse-mount/session.h"
#include "fuse-mount/unmount.h"
#include "fuse-mount/window.h"
#include "hvcore/file.h"
#include "hvcore/log.h"
#include "hvcore/program.h"

#define PROGRAM "vhdmount"
#define KERNEL_SECONDS 5 /* for its filesystems to be let go after a signal */

/* All that a mount is made of, in the order in which it is made. */
struct mount {
	const struct fm_options *options;
	char *path, *parent, *overlay, *directory; /* absolute */
	struct hv_probe *probe;
	struct hv_json *info;
	char *info_text;
	struct fm_tree *tree;
	struct fm_volumes volumes;
	struct fm_files *files;
	struct fm_session *session;
	struct fm_kernel *kernel; /* with --kernel */
	struct timespec time;
};

static void free_mount(struct mount *mount)
{
	fm_kernel_free(mount->kernel);
	if (mount->session)
		fm_session_stop(mount->session);
	fm_files_free(mount->files); /* answers what it was asked by the session */
	fm_session_free(mount->session);
	fm_engine_free(mount->volumes.scratch);
	fm_engine_free(mount->volumes.engine);
	fm_map_free(mount->volumes.map);
	fm_tree_free(mount->tree);
	free(mount->info_text);
	hv_json_free(mount->info);
	hv_probe_free(mount->probe);
	free(mount->path);
	free(mount->parent);
	free(mount->overlay);
	free(mount->directory);
}

/* A daemon's working directory is not the user's. The file need not be there, its directory must. */
static int absolute(const char *path, char **ret, struct hv_err *err)
{
	const char *slash = strrchr(path, '/');
	HV_AUTO(free)
	char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	HV_AUTO(free) char *real = NULL;

	*ret = realpath(path, NULL);
	if (*ret)
		return 0;
	real = directory ? realpath(directory, NULL) : NULL;
	if (!real)
		return hv_fail_errno(err, -errno, "%s", path);
	if (asprintf(ret, "%s/%s", real, slash ? slash + 1 : path) < 0)
		return hv_fail(err, -ENOMEM, "not enough memory");
	return 0;
}

/* Opening the disk. */

static struct snap_open_options how_to_open(const struct mount *mount)
{
	return (struct snap_open_options){
		.flags = mount->options->force_share ? SNAP_OPEN_NO_LOCK : 0,
		.format = mount->options->format,
		.parent_path = mount->parent,
	};
}

/* Opens the disk and says what it is; its overlay, if there is one, goes upon it. */
static int open_described(struct mount *mount, const struct snap_open_options *how,
			  struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	int rc = snap_examine(mount->path, how, loop, &chain, err);

	if (rc == 0)
		rc = fm_info_of_chain(chain, &mount->info, err);
	if (rc == 0 && !mount->overlay)
		return snap_chain_stack(chain, ret, err);
	snap_chain_free(hv_steal(chain));
	return rc ? rc : fm_overlay_open(mount->overlay, mount->path, how, loop, ret, err);
}

/* A disk has a loop of its own, which it belongs to. */
static int open_disk(struct mount *mount, struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options how = how_to_open(mount);
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	int rc = hv_loop_new(&loop, err);

	if (mount->options->rw)
		how.flags |= SNAP_OPEN_WRITE;
	if (rc == 0)
		rc = open_described(mount, &how, loop, ret, err);
	if (rc == 0)
		loop = NULL; /* the disk's */
	return rc;
}

/* What is in it. */

/* A disk that cannot be read everywhere is shown as far as it can be read. */
static int probe(struct mount *mount, struct hv_disk *disk, struct hv_err *err)
{
	int rc = hv_probe_readable(disk, &mount->probe, err);

	if (rc == 0 && mount->probe->has_unreadable)
		hv_log(HV_LOG_WARN, "%s: not all of what was looked at can be read", disk->path);
	return rc;
}

static int look_into(struct mount *mount, struct hv_disk *disk, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *window = NULL;
	uint64_t offset = mount->options->window_offset, length = mount->options->window_bytes;
	struct stat st;
	int rc;

	if (offset > disk->size_bytes || length > disk->size_bytes - offset)
		return hv_fail(err, -EINVAL, "%s: has %llu bytes only, and no part %s", mount->path,
			       (unsigned long long)disk->size_bytes, mount->options->window);
	if (!length)
		length = disk->size_bytes - offset;
	mount->volumes.base = offset;
	if (stat(mount->path, &st) == 0)
		mount->time = st.st_mtim;
	rc = fm_window_new(disk, offset, length, &window, err);
	if (rc == 0)
		rc = probe(mount, window, err);
	if (rc == 0)
		rc = fm_info_text(mount->info, mount->probe, &mount->info_text, err);
	if (rc == 0)
		rc = fm_tree_new(mount->probe, length, mount->info_text, &mount->tree, err);
	return rc;
}

static int open_volumes(struct mount *mount, struct hv_err *err)
{
	bool write = mount->options->rw || mount->overlay;
	struct hv_disk *disk = NULL;
	struct hv_loop *loop;
	int rc = open_disk(mount, &disk, err);

	if (rc)
		return rc;
	loop = disk->loop;
	pthread_mutex_init(&mount->volumes.lock, NULL);
	rc = look_into(mount, disk, err);
	if (rc == 0 && write)
		rc = fm_engine_new(disk, &mount->volumes.engine, err);
	else if (rc == 0)
		rc = fm_map_new(disk, &mount->volumes.map, err);
	if (rc) {
		hv_disk_close(disk);
		hv_loop_free(loop);
	}
	return rc;
}

/* The mount. */

static int refuse_directory(const char *path, struct hv_err *err)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!directory && errno == ENOTCONN)
		return hv_fail(err, -ENOTCONN,
			       "%s: is a mount whose daemon is gone; try '" PROGRAM " --unmount'",
			       path);
	if (!directory)
		return hv_fail_errno(err, -errno, "%s", path);
	while (count <= 2 && (entry = readdir(directory)))
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") ? 3 : 0;
	closedir(directory);
	return count ? hv_fail(err, -ENOTEMPTY, "%s: is not empty", path) : 0;
}

static bool has_fusermount(void)
{
	const char *path = getenv("PATH");
	HV_AUTO(free) char *paths = strdup(path ? path : "/usr/bin:/bin");
	char *rest = paths, *directory;

	while (rest && (directory = strsep(&rest, ":"))) {
		HV_AUTO(free) char *file = NULL;

		if (asprintf(&file, "%s/fusermount3", directory) > 0 && access(file, X_OK) == 0)
			return true;
	}
	return false;
}

static int refuse_system(struct hv_err *err)
{
	/* Ordinary users have it opened by fusermount3. */
	if (access("/dev/fuse", F_OK))
		return hv_fail_errno(err, -errno, "/dev/fuse");
	if (geteuid() && !has_fusermount())
		return hv_fail(err, -ENOENT, "fusermount3 is not installed (Debian package fuse3)");
	return 0;
}

/*
 * Is the disk, byte for byte and to its end, a file of the host? A fixed VHD is not: the kernel
 * does not know where its footer begins.
 */
static int passthrough_fd(const struct mount *mount)
{
	struct hv_disk *disk = mount->volumes.map ? fm_map_disk(mount->volumes.map) : NULL;
	const struct hv_file *file = disk ? hv_raw_get_file(disk) : NULL;

	if (!file || file->block_device || file->size_bytes != disk->size_bytes ||
	    mount->options->window)
		return -1;
	return file->fd;
}

static int start_session(struct mount *mount, int *ended, struct hv_err *err)
{
	const struct fm_options *options = mount->options;
	struct fm_session_options session = {
		.directory = mount->directory,
		.source = mount->path,
		.more = options->more,
		.allow_other = options->allow_other,
		.kernel_cache = options->kernel_cache,
		.debug = options->debug,
		.write = mount->volumes.engine,
		.uid = options->uid,
		.gid = options->gid,
		.time = mount->time,
		.passthrough_fd = passthrough_fd(mount),
	};
	int rc = fm_files_new(mount->tree, &mount->volumes, &mount->files, err);

	if (rc == 0) {
		session.browse = fm_files_browse(mount->files);
		rc = fm_session_new(mount->tree, &mount->volumes, &session, &mount->session, err);
	}
	return rc ? rc : fm_session_start(mount->session, ended, err);
}

/* Signals are read by the main thread; no other thread is interrupted by one. */
static int signals(struct hv_err *err)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? hv_fail_errno(err, -errno, "cannot wait for signals") : fd;
}

static int mount_by_kernel(struct mount *mount, struct hv_err *err)
{
	struct fm_kernel_options options = { .tree = mount->tree,
					     .browse = fm_files_browse(mount->files),
					     .directory = mount->directory,
					     .write = mount->volumes.engine };

	return mount->options->kernel ? fm_kernel_new(&options, &mount->kernel, err) : 0;
}

/* True: by a signal, which is taken. */
static bool wait_for_end(int signal_fd, int ended_fd)
{
	struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN },
				{ .fd = ended_fd, .events = POLLIN } };
	struct signalfd_siginfo info;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return fds[0].revents && read(signal_fd, &info, sizeof(info)) > 0;
}

/*
 * What the kernel reads goes first, for it writes back through us. Who has unmounted us lazily
 * keeps it as long as he likes, until a signal comes; a signal does not wait for anybody long.
 */
static void leave_kernel(struct mount *mount, int signal_fd, bool signalled)
{
	struct pollfd another = { .fd = signal_fd, .events = POLLIN };
	int left = signalled ? KERNEL_SECONDS * 10 : -1;

	if (signalled)
		fm_kernel_unmount(mount->kernel);
	while (fm_kernel_in_use(mount->kernel) && left-- != 0 && poll(&another, 1, 100) == 0)
		;
}

/* So that writing back our own files never waits for writing back through us. */
static void say_we_flush(void)
{
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

static void say_how(const struct mount *mount)
{
	if (mount->volumes.engine)
		hv_log(HV_LOG_INFO, "%s: written, through %s", mount->path,
		       mount->overlay ? mount->overlay : "the engine");
	else if (fm_session_passes_through(mount->session))
		hv_log(HV_LOG_INFO, "%s: read-only, disk.raw by the kernel itself (passthrough)",
		       mount->path);
	else
		hv_log(HV_LOG_INFO, "%s: read-only, from the page cache of its files", mount->path);
}

static int serve(struct mount *mount, struct hv_err *err)
{
	int signal_fd = signals(err), ended_fd = -1, rc;

	if (signal_fd < 0)
		return signal_fd;
	say_we_flush();
	rc = open_volumes(mount, err);
	if (rc == 0)
		rc = start_session(mount, &ended_fd, err);
	if (rc == 0)
		rc = mount_by_kernel(mount, err);
	if (rc == 0) {
		say_how(mount);
		fm_daemon_ready();
		leave_kernel(mount, signal_fd, wait_for_end(signal_fd, ended_fd));
		rc = fm_session_stop(mount->session);
		if (rc)
			hv_fail(err, rc, "%s: the kernel's FUSE broke off", mount->directory);
		fm_files_free(hv_steal(mount->files));
		if (fm_volumes_flush(&mount->volumes))
			rc = hv_fail(err, -EIO, "%s: what was written may not be durable",
				     mount->path);
	}
	close(signal_fd);
	return rc;
}

/* --list: the same disk, the same tree, and no mount. */
static int list(struct mount *mount, struct hv_err *err)
{
	int rc = open_volumes(mount, err);

	if (rc)
		return rc;
	rc = fm_list(mount->tree, mount->probe, mount->options->json, stdout);
	return rc ? hv_fail_errno(err, rc, "cannot print the list") : 0;
}

static int prepare(struct mount *mount, char **operands, struct hv_err *err)
{
	const struct fm_options *options = mount->options;
	int rc = absolute(operands[0], &mount->path, err);

	if (rc == 0 && options->parent)
		rc = absolute(options->parent, &mount->parent, err);
	if (rc == 0 && options->overlay)
		rc = absolute(options->overlay, &mount->overlay, err);
	if (rc == 0 && !options->list)
		rc = refuse_directory(operands[1], err);
	if (rc == 0 && !options->list)
		rc = absolute(operands[1], &mount->directory, err);
	if (rc == 0 && !options->list)
		rc = refuse_system(err);
	if (rc == 0 && !options->list && !options->foreground && !options->debug)
		rc = fm_daemon_begin(err);
	return rc;
}

static int run_mount(void *arg, int count, char **operands)
{
	struct fm_options *options = arg;
	struct mount mount = { .options = options };
	HV_ERR(err);
	int rc = fm_options_settle(options, &err),
	    wanted = options->list || options->unmount ? 1 : 2;

	if (rc)
		return hv_program_usage(PROGRAM, NULL, "%s", hv_err_text(&err, rc));
	if (count != wanted)
		return hv_program_usage(PROGRAM, NULL, "%s",
					options->unmount ? "--unmount needs a directory" :
					options->list    ? "--list needs a disk" :
							   "a disk and a directory are needed");
	hv_log_set_level(options->verbose || options->debug ? HV_LOG_INFO :
			 options->kernel                    ? HV_LOG_WARN :
							      HV_LOG_NONE);
	if (options->unmount)
		rc = fm_unmount(operands[0], &err);
	else
		rc = prepare(&mount, operands, &err);
	if (rc == 0 && !options->unmount)
		rc = options->list ? list(&mount, &err) : serve(&mount, &err);
	free_mount(&mount);
	free(options->more);
	return rc ? hv_program_failed(PROGRAM, &err, rc) : HV_PROGRAM_DONE;
}

static const struct hv_command command = {
	.name = PROGRAM,
	.synopsis = "[OPTION]... DISK DIR",
	.help = "show what is in a disk",
	.options = fm_option_table,
	.min_operands = 1,
	.max_operands = 2,
	.options_size = sizeof(struct fm_options),
	.run = run_mount,
};

static const struct hv_program program = {
	.name = PROGRAM,
	.summary = "shows what is in a disk",
	.version = HVKIT_VERSION,
	.command = &command,
};

int main(int argc, char **argv)
{
	return hv_program_run(&program, argc, argv);
}
