/*
 * Disks of the command line, served on sockets of the command line: vspd without a control plane.
 * The calling thread waits for signals; the threads of loops.h serve. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_DIRECT_H
#define VSP_STORAGE_DIRECT_H

#include "vsp-storage/disk_spec.h"

/* Lists end with NULL, and are NULL when they are empty. */
struct vsp_direct_options {
	struct vsp_disk_spec *disks; /* their names are taken */
	size_t disk_count;           /* at least 1 */
	const char **nbd, **vhost_user;
	bool inetd;
	const char *tls_certs, *tls_psk; /* one of both, or none */
	const char *tls;                 /* "off", "on", "required"; NULL: as the others say */
	const char *pidfile;             /* NULL: none */
	unsigned loops, poll_percent;
};

/*
 * Serves until SIGTERM or SIGINT, or until the client of inetd has gone: then what is in flight
 * finishes, clients that do not take their replies within seconds are cut off, and all disks are
 * flushed.
 */
int vsp_direct_run(const struct vsp_direct_options *options, struct hv_err *err);

#endif
