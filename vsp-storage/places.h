/*
 * Where things are when nobody says otherwise: for root below /etc, /run and /var/log, for others
 * below the directories of the XDG base directory specification. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_PLACES_H
#define VSP_STORAGE_PLACES_H

#include "hvcore/err.h"

/* Each is malloc'ed. -ENOENT where the environment does not tell, with what to do. */
int vsp_config_dir(char **ret, struct hv_err *err); /* /etc/hvkit: vms/NAME.conf, roles.conf */
/* /run/hvkit: vspd.sock, vsp/VM/DISK.vhost, vsp/VM/DISK.nbd */
int vsp_runtime_dir(char **ret, struct hv_err *err);
int vsp_audit_path(char **ret, struct hv_err *err); /* /var/log/hvkit/audit.log */

/* Of a running vspd: the user's own, else the system's. */
int vsp_control_path(char **ret, struct hv_err *err);

/* "DIRECTORY/NAME"; -ENOMEM. */
int vsp_path_join(const char *directory, const char *name, char **ret, struct hv_err *err);

/* Makes a directory, or those above a file, where they are missing. */
int vsp_make_directory(const char *path, struct hv_err *err);
int vsp_make_parents(const char *path, struct hv_err *err);

#define VSP_TIME_SIZE 32

/* "2026-11-21T15:20:28.123Z", now. */
void vsp_time_text(char text[VSP_TIME_SIZE]);

#endif
