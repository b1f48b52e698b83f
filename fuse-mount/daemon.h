/*
 * Inside fuse-mount/: becoming a daemon that is known to have begun its work: the command returns
 * when the mount is there, or with the status of its failure.
 */
#ifndef FUSE_MOUNT_DAEMON_H
#define FUSE_MOUNT_DAEMON_H

#include "hvcore/err.h"

/*
 * Goes on in a child process, before there is any thread. The parent waits for the child's word and
 * exits with it.
 */
int fm_daemon_begin(struct hv_err *err);

/* The work has begun: the parent exits with 0, and the child lets the terminal go. */
void fm_daemon_ready(void);

#endif
