/*
 * Inside fuse-mount/: the FUSE session, which with serve*.c and forward.c knows libfuse. It answers
 * the kernel from a tree that never changes and from volumes, by several threads at once.
 */
#ifndef FUSE_MOUNT_SESSION_H
#define FUSE_MOUNT_SESSION_H

#include <sys/stat.h>

#include "fuse-mount/browse.h"
#include "fuse-mount/tree.h"
#include "fuse-mount/volume.h"

struct fm_session;

struct fm_session_options {
	const char *directory; /* to mount upon */
	const char *source;    /* as shown by mount(8) */
	const char *more; /* further options for libfuse and the kernel, with commas; or NULL */
	bool allow_other, debug;
	bool write;        /* something can be written */
	bool kernel_cache; /* the kernel keeps a copy of volumes that are only read */
	uid_t uid;         /* whose the files are */
	gid_t gid;
	struct timespec time;     /* of last change, of all files */
	int passthrough_fd;       /* a file of the host that disk.raw is the same as; -1: none */
	struct fm_browse *browse; /* what answers for files/; NULL: it is empty. Lent */
};

/*
 * Mounts. Both are lent until fm_session_free. Nothing is answered before fm_session_start: whoever
 * looks into the directory waits.
 */
int fm_session_new(const struct fm_tree *tree, struct fm_volumes *volumes,
		   const struct fm_session_options *options, struct fm_session **ret,
		   struct hv_err *err);

/* Does the kernel read disk.raw by itself? */
bool fm_session_passes_through(const struct fm_session *session);

/* Starts the threads that answer. fd can be read from when they have ended. */
int fm_session_start(struct fm_session *session, int *fd, struct hv_err *err);

/*
 * Has the threads end, and waits for them. 0; -EIO when they had ended because the kernel could not
 * be talked to.
 */
int fm_session_stop(struct fm_session *session);
void fm_session_free(struct fm_session *session);
HV_DEFINE_CLEANUP(struct fm_session, fm_session_free)

#endif
