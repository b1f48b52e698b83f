/*
 * Between fork and exec only system calls are made: the parent has threads. The listener of the
 * filter is made by the child and handed to the parent over a socket.
 *
 * An open is made here and its descriptor put into the child, so that a name cannot change between
 * the decision and the act.
 */
#include "hvcore/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hvcore/sandbox_filter.h"

#define MEMORY_BYTES (UINT64_C(2) << 30) /* that a reader may map */
#define CONTROL_FD 3

/* ---- In the child ---- */

static void limit(__rlimit_resource_t what, rlim_t most)
{
	struct rlimit now = { .rlim_max = most };

	getrlimit(what, &now);
	if (now.rlim_max > most)
		now.rlim_max = most;
	now.rlim_cur = now.rlim_max;
	setrlimit(what, &now);
}

static int send_fd(int socket, int fd)
{
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control.room) };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

/* The system calls themselves: the C library's functions would look for threads that are not here. */
static int become(uid_t uid, gid_t gid)
{
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, gid, gid, gid) ||
	    syscall(SYS_setresuid, uid, uid, uid))
		return -errno;
	return 0;
}

static void reset_signals(void)
{
	struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &usual, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int descriptors(int control, int data, int output)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, 0) < 0 || dup2(data, 1) < 0 || dup2(output, 2) < 0)
		return -errno;
	/* They are all above 2, for the parent has its own 0, 1 and 2. */
	if (control != CONTROL_FD && dup2(control, CONTROL_FD) < 0)
		return -errno;
	if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC))
		return -errno;
	return syscall(SYS_close_range, CONTROL_FD + 1, ~0U, 0) ? -errno : 0;
}

static int confine(uid_t uid, gid_t gid, pid_t parent)
{
	int rc = 0;

	limit(RLIMIT_AS, MEMORY_BYTES);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_MEMLOCK, 0);
	limit(RLIMIT_NOFILE, 64);
	if (geteuid() == 0)
		rc = become(uid, gid);
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		rc = -errno;
	if (rc == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		rc = -errno;
	/* The parent may have died before. */
	return rc == 0 && getppid() != parent ? -ESRCH : rc;
}

/* The child's ends of pipes and sockets. */
struct ends {
	int control, data, output;
};

static void __attribute__((noreturn))
child(char *const argv[], uid_t uid, gid_t gid, const struct ends *ends, bool reads, pid_t parent)
{
	char *const environment[] = { (char[]){ "PATH=/usr/bin:/bin" },
				      (char[]){ "LC_ALL=C.UTF-8" }, (char[]){ "HOME=/nonexistent" },
				      NULL };
	int rc = descriptors(ends->control, ends->data, ends->output), listener;

	reset_signals();
	setsid();
	if (rc == 0 && chdir("/"))
		rc = -errno;
	if (rc == 0)
		rc = confine(uid, gid, parent);
	listener = rc == 0 ? hv_sandbox_filter(reads) : rc;
	if (listener >= 0 && send_fd(CONTROL_FD, listener) == 0)
		execve(argv[0], argv, environment);
	_exit(127);
}

/* ---- In the parent ---- */

static int receive_fd(int socket)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control.room) };
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static pid_t spawn(char *const argv[], uid_t uid, gid_t gid, const struct ends *ends, bool reads)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		child(argv, uid, gid, ends, reads, parent);
	return pid < 0 ? -errno : pid;
}

/* Words never stop the program; what it puts out waits for its reader. */
static int make_pipes(struct hv_sandbox *sandbox, struct ends *ends)
{
	int words[2], data[2];

	if (pipe2(words, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	sandbox->stderr_fd = words[0];
	ends->output = ends->data = words[1];
	if (!sandbox->output)
		return 0;
	if (pipe2(data, O_CLOEXEC))
		return -errno;
	sandbox->stdout_fd = data[0];
	ends->data = data[1];
	return fcntl(data[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

int hv_sandbox_start(struct hv_sandbox *sandbox, char *const argv[], uid_t uid, gid_t gid,
		     struct hv_err *err)
{
	struct ends ends = { -1, -1, -1 };
	int control[2], rc;

	sandbox->pid = -1;
	sandbox->notify_fd = sandbox->stderr_fd = sandbox->stdout_fd = -1;
	rc = make_pipes(sandbox, &ends);
	if (rc == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control))
		rc = -errno;
	if (rc == 0) {
		ends.control = control[1];
		sandbox->pid = spawn(argv, uid, gid, &ends, sandbox->fill);
		close(control[1]);
		sandbox->notify_fd = sandbox->pid < 0 ? sandbox->pid : receive_fd(control[0]);
		close(control[0]);
	}
	if (ends.data != ends.output)
		close(ends.data);
	if (ends.output >= 0)
		close(ends.output);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot be started", argv[0]);
	if (sandbox->notify_fd >= 0)
		return 0;
	return hv_fail(err, -ENOSYS, "%s: cannot be confined, so it is not started", argv[0]);
}

/* The string at address in the child; empty when it cannot be read. */
static void read_string(pid_t pid, uint64_t address, char *text, size_t size)
{
	size_t done = 0;

	text[0] = '\0';
	/* By pieces that end with a page: the next one may not be there. */
	while (done < size - 1) {
		size_t piece = 4096 - (size_t)((address + done) % 4096);
		struct iovec here = { .iov_base = text + done }, there;
		ssize_t got;

		here.iov_len = piece < size - 1 - done ? piece : size - 1 - done;
		there = (struct iovec){ .iov_base = (void *)(uintptr_t)(address + done), // NOLINT
					.iov_len = here.iov_len };
		got = process_vm_readv(pid, &here, 1, &there, 1, 0);
		if (got <= 0)
			break;
		if (memchr(text + done, '\0', (size_t)got))
			return;
		done += (size_t)got;
	}
	text[0] = '\0';
}

/* Files that a program needs to start, and that tell nothing: everybody may read them. */
static int open_common(const char *path)
{
	static const char *const prefixes[] = { "/usr/", "/lib/", "/lib64/", "/bin/", NULL };
	static const char *const files[] = { "/etc/ld.so.cache",   "/etc/localtime",
					     "/etc/nsswitch.conf", "/etc/passwd",
					     "/proc/filesystems",  NULL };
	bool known = false;
	struct stat st;
	int fd;

	for (int i = 0; prefixes[i]; i++)
		known |= strncmp(path, prefixes[i], strlen(prefixes[i])) == 0;
	for (int i = 0; files[i]; i++)
		known |= strcmp(path, files[i]) == 0;
	if (!known || strstr(path, "/../"))
		return -EACCES;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))) {
		close(fd);
		return -EACCES;
	}
	return fd < 0 ? -errno : fd;
}

static int open_for(struct hv_sandbox *sandbox, const char *path, uint64_t flags)
{
	bool read_only = (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC));
	char again[32];
	int fd;

	if (sandbox->closed)
		return -EACCES;
	if (strcmp(path, "/dev/fuse") == 0) {
		fd = sandbox->device_fd;
		sandbox->device_fd = -1;
		return fd < 0 ? -EBUSY : fd;
	}
	if (strcmp(path, "/dev/null") == 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	/* What is mounted on the host is nobody's business. */
	else if (strcmp(path, "/etc/mtab") == 0 || strcmp(path, "/proc/mounts") == 0)
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	else if (sandbox->mount_path && strcmp(path, sandbox->mount_path) == 0)
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	else if (strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
		fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	else if (strcmp(path, sandbox->volume_path) == 0) {
		snprintf(again, sizeof(again), "/proc/self/fd/%d", sandbox->volume_fd);
		fd = open(again, (int)(flags & O_ACCMODE) | O_CLOEXEC);
	} else
		return read_only ? open_common(path) : -EACCES;
	return fd < 0 ? -errno : fd;
}

static void answer_open(struct hv_sandbox *sandbox, const struct seccomp_notif *asked,
			struct seccomp_notif_resp *answer)
{
	const __u64 *args = asked->data.args;
	struct seccomp_notif_addfd add = { .id = asked->id, .flags = SECCOMP_ADDFD_FLAG_SEND };
	char path[PATH_MAX];
	int fd, at = asked->data.nr == __NR_openat;

	read_string((pid_t)asked->pid, args[at], path, sizeof(path));
	/* The process that was read is still the one that asked. */
	if (ioctl(sandbox->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &asked->id))
		return;
	fd = open_for(sandbox, path, args[at + 1]);
	answer->error = fd;
	if (fd < 0)
		return;
	add.srcfd = (uint32_t)fd;
	add.newfd_flags = (uint32_t)(args[at + 1] & O_CLOEXEC);
	if (ioctl(sandbox->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0)
		answer->id = 0;
	else
		answer->error = -EMFILE;
	close(fd);
}

void hv_sandbox_turn(struct hv_sandbox *sandbox)
{
	struct seccomp_notif asked = { 0 };
	struct seccomp_notif_resp answer;

	if (ioctl(sandbox->notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &asked))
		return;
	answer = (struct seccomp_notif_resp){ .id = asked.id, .error = -EACCES };
	if (asked.data.nr == __NR_pread64) {
		answer.error = sandbox->fill(sandbox, asked.data.args[3], asked.data.args[2]);
		answer.flags = answer.error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	} else if (asked.data.nr != __NR_execve) {
		answer_open(sandbox, &asked, &answer);
	} else if (!sandbox->started) {
		/* The one that we make ourselves. */
		sandbox->started = true;
		answer.error = 0;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	if (answer.id)
		ioctl(sandbox->notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int hv_sandbox_end(struct hv_sandbox *sandbox)
{
	int status = -1;

	if (sandbox->pid > 0) {
		kill(sandbox->pid, SIGKILL);
		while (waitpid(sandbox->pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	sandbox->pid = -1;
	close_fd(&sandbox->notify_fd);
	close_fd(&sandbox->stderr_fd);
	close_fd(&sandbox->stdout_fd);
	close_fd(&sandbox->device_fd);
	return status;
}

bool hv_sandbox_possible(void)
{
	struct seccomp_notif_sizes sizes;

	return syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0 &&
	       sizes.seccomp_notif <= sizeof(struct seccomp_notif) &&
	       sizes.seccomp_notif_resp <= sizeof(struct seccomp_notif_resp);
}
