/*
 * Being started by others: sockets that are handed over (systemd's socket activation, LISTEN_FDS),
 * and telling that clients can connect (a pid file, NOTIFY_SOCKET). Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_READY_H
#define VSP_STORAGE_READY_H

#include "hvcore/err.h"

#define VSP_READY_FIRST_SOCKET 3

/* How many listening sockets, from VSP_READY_FIRST_SOCKET on, we have been given. Made
 * non-blocking. */
unsigned vsp_ready_sockets(void);

/* pidfile may be NULL. It appears with its contents, at once. */
int vsp_ready_tell(const char *pidfile, struct hv_err *err);

/* Removes the pid file. */
void vsp_ready_untell(const char *pidfile);

#endif
