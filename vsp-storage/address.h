/*
 * Where a transport listens: "unix:PATH" or "tcp:HOST:PORT".
 */
#ifndef VSP_STORAGE_ADDRESS_H
#define VSP_STORAGE_ADDRESS_H

#include <sys/types.h>

#include "hvcore/err.h"

struct vsp_listener {
	int fd;     /* non-blocking; -1: none */
	char *path; /* of a Unix socket that goes with it; NULL: none */
	dev_t dev;  /* of that socket's name */
	ino_t ino;
};

#define VSP_NO_LISTENER  \
	{                \
		.fd = -1 \
	}

/*
 * A Unix socket has mode 0600. Where there is one already and nobody listens to it, it is replaced;
 * -EADDRINUSE otherwise, -EEXIST for what is no socket, -EINVAL for no address.
 */
int vsp_listen(const char *address, struct vsp_listener *ret, struct hv_err *err);

/* The same for a path. */
int vsp_listen_unix(const char *path, struct vsp_listener *ret, struct hv_err *err);

/* The name goes too, unless somebody else has put another socket there. */
void vsp_listener_close(struct vsp_listener *listener);

#endif
