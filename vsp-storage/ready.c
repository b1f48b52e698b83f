/*
 * Readiness: what sd_listen_fds(3) and sd_notify(3) define, without the library.
 */
#include "vsp-storage/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_SOCKETS 64

static long number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtol(text, NULL, 10) : 0;
}

unsigned vsp_ready_sockets(void)
{
	long count = number("LISTEN_FDS");

	if (number("LISTEN_PID") != getpid() || count <= 0 || count > MAX_SOCKETS)
		return 0;
	for (int fd = VSP_READY_FIRST_SOCKET; fd < VSP_READY_FIRST_SOCKET + count; fd++) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	return (unsigned)count;
}

/* Nobody to be told, or who cannot be reached, is no failure. */
static void notify(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (length < 2 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

static int write_pid(const char *path, struct hv_err *err)
{
	char new_path[PATH_MAX];
	FILE *file;
	int bad;

	if ((size_t)snprintf(new_path, sizeof(new_path), "%s.new", path) >= sizeof(new_path))
		return hv_fail(err, -ENAMETOOLONG, "%s: the path is too long", path);
	file = fopen(new_path, "we");
	if (!file)
		return hv_fail_errno(err, -errno, "%s: cannot write the pid file", new_path);
	bad = fprintf(file, "%ld\n", (long)getpid()) < 0;
	bad |= fclose(file) != 0;
	if (bad || rename(new_path, path))
		return hv_fail_errno(err, -errno, "%s: cannot write the pid file", path);
	return 0;
}

int vsp_ready_tell(const char *pidfile, struct hv_err *err)
{
	int rc = pidfile ? write_pid(pidfile, err) : 0;

	if (rc == 0)
		notify();
	return rc;
}

void vsp_ready_untell(const char *pidfile)
{
	if (pidfile)
		unlink(pidfile);
}
