#include "fuse-mount/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static int word_fd = -1; /* the child's end; closing it unsaid means failure */

/* The child's exit status, unless it goes on. */
static void wait_for(pid_t child, int fd)
{
	char word;
	int status = 0;
	ssize_t n;

	do
		n = read(fd, &word, sizeof(word));
	while (n < 0 && errno == EINTR);
	if (n > 0)
		_exit(EXIT_SUCCESS);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

int fm_daemon_begin(struct hv_err *err)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC))
		return hv_fail_errno(err, -errno, "cannot create a pipe");
	child = fork();
	if (child < 0) {
		int code = -errno;

		close(fds[0]);
		close(fds[1]);
		return hv_fail_errno(err, code, "cannot start a process");
	}
	if (child) {
		close(fds[1]);
		wait_for(child, fds[0]);
	}
	close(fds[0]);
	word_fd = fds[1];
	setsid();
	return 0;
}

void fm_daemon_ready(void)
{
	int null;
	ssize_t n;

	if (word_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	n = chdir("/");
	n += write(word_fd, "", 1);
	(void)n; /* whoever waited has gone */
	close(word_fd);
	word_fd = -1;
}
