/*
 * vspd as a daemon: the registry, its control socket, and signals. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_DAEMON_H
#define VSP_STORAGE_DAEMON_H

#include "hvcore/err.h"

/* NULL: as places.h says. */
struct vsp_daemon_options {
	const char *config_dir, *runtime_dir, *audit_log, *pidfile;
	unsigned loops;        /* I/O loops; at least 1 */
	unsigned poll_percent; /* hv_loop_set_polling */
};

/*
 * Serves until SIGTERM, SIGINT or the command "shutdown"; SIGHUP is "reload". VMs and disks that
 * cannot be served are no failure.
 */
int vsp_daemon_run(const struct vsp_daemon_options *options, struct hv_err *err);

#endif
