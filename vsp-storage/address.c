/*
 * Listening sockets.
 */
#include "vsp-storage/address.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 128

static int unix_address(const char *path, struct sockaddr_un *ret, struct hv_err *err)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!*path)
		return hv_fail(err, -EINVAL, "the path of a Unix socket is missing");
	if (strlen(path) >= sizeof(ret->sun_path))
		return hv_fail(err, -ENAMETOOLONG, "%s: a Unix socket's path has at most %zu bytes",
			       path, sizeof(ret->sun_path) - 1);
	memcpy(ret->sun_path, path, strlen(path));
	return 0;
}

/* A name that is left over goes; 0 also when there is none. */
static int make_room(const struct sockaddr_un *address, struct hv_err *err)
{
	HV_AUTO(close) int fd = -1;
	struct stat st;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : hv_fail_errno(err, -errno, "%s", address->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return hv_fail(err, -EEXIST, "%s is there already and is no socket",
			       address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot make a socket");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return hv_fail(err, -EADDRINUSE, "%s: another program listens there already",
			       address->sun_path);
	if (unlink(address->sun_path))
		return hv_fail_errno(err, -errno, "%s: cannot remove a left-over socket",
				     address->sun_path);
	return 0;
}

/* The mode is that of the socket when it gets its name: nobody can come in between. */
static int bind_unix(int fd, const struct sockaddr_un *address, struct vsp_listener *ret,
		     struct hv_err *err)
{
	struct stat st;

	if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    listen(fd, BACKLOG) || lstat(address->sun_path, &st))
		return hv_fail_errno(err, -errno, "%s: cannot listen", address->sun_path);
	ret->path = strdup(address->sun_path);
	if (!ret->path)
		return hv_fail(err, -ENOMEM, "not enough memory");
	ret->dev = st.st_dev;
	ret->ino = st.st_ino;
	return 0;
}

int vsp_listen_unix(const char *path, struct vsp_listener *ret, struct hv_err *err)
{
	struct sockaddr_un address;
	HV_AUTO(close) int fd = -1;
	int rc = unix_address(path, &address, err);

	if (rc == 0)
		rc = make_room(&address, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot make a socket");
	rc = bind_unix(fd, &address, ret, err);
	if (rc)
		return rc;
	ret->fd = hv_steal_fd(fd);
	return 0;
}

static int listen_inet(const struct addrinfo *info)
{
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, code;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	code = -errno;
	close(fd);
	return code;
}

/* HOST:PORT; a host with colons stands in brackets, no host means all addresses. */
static int listen_tcp(const char *text, struct vsp_listener *ret, struct hv_err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
	HV_AUTO(free) char *copy = strdup(text);
	char *host = copy, *port = copy ? strrchr(copy, ':') : NULL;
	int rc;

	if (!copy)
		return hv_fail(err, -ENOMEM, "not enough memory");
	if (!port || !port[1])
		return hv_fail(err, -EINVAL, "\"tcp:%s\": a port is missing: tcp:HOST:PORT", text);
	*port++ = '\0';
	if (host[0] == '[' && strlen(host) > 1 && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		host++;
	}
	rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (rc)
		return hv_fail(err, -EINVAL, "\"tcp:%s\": %s", text, gai_strerror(rc));
	for (const struct addrinfo *info = list; info; info = info->ai_next) {
		rc = listen_inet(info);
		if (rc >= 0)
			break;
	}
	freeaddrinfo(list);
	if (rc < 0)
		return hv_fail_errno(err, rc, "\"tcp:%s\": cannot listen", text);
	ret->fd = rc;
	return 0;
}

int vsp_listen(const char *address, struct vsp_listener *ret, struct hv_err *err)
{
	if (!strncmp(address, "unix:", 5))
		return vsp_listen_unix(address + 5, ret, err);
	if (!strncmp(address, "tcp:", 4))
		return listen_tcp(address + 4, ret, err);
	return hv_fail(err, -EINVAL, "\"%s\" is no address: give unix:PATH or tcp:HOST:PORT",
		       address);
}

void vsp_listener_close(struct vsp_listener *listener)
{
	struct stat st;

	if (listener->path && lstat(listener->path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlink(listener->path);
	free(listener->path);
	listener->path = NULL;
	if (listener->fd >= 0)
		close(listener->fd);
	listener->fd = -1;
}
