/*
 * A program that reads a hostile filesystem, in a process that can do nothing else.
 *
 * A FUSE server believes that it opens a file, opens /dev/fuse and mounts. Every open is decided
 * here, in the parent (seccomp user notification): the volume is the only file that it gets for
 * more than what a program needs to start, /dev/fuse is a socket whose other end we hold, mount(2)
 * and daemonising are said to have worked. So it needs neither privileges nor fusermount3, and
 * whatever a crafted filesystem makes of it, it can open no file of the user, change none, start no
 * program and speak to nobody.
 */
#ifndef HVCORE_SANDBOX_H
#define HVCORE_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hvcore/err.h"

struct hv_sandbox {
	pid_t pid;
	int notify_fd;           /* readable: hv_sandbox_turn; POLLHUP: the process is gone */
	int stderr_fd;           /* what the program says, non-blocking */
	int device_fd;           /* the program's end of the socket, until it has asked for it */
	int volume_fd;           /* lent */
	const char *volume_path; /* the name under which the program opens the volume; lent */
	const char *mount_path;  /* the empty directory that it "mounts" upon; lent; NULL: none */
	/*
	 * NULL, or it is called before the program reads [offset, offset + length) of a file, to
	 * see to it that the volume has its bytes there. -errno fails that read.
	 */
	int (*fill)(struct hv_sandbox *sandbox, uint64_t offset, uint64_t length);
	bool output;          /* standard output is not for words, but read from */
	int stdout_fd;        /* this, non-blocking */
	bool started, closed; /* exec has been made; nothing is opened any more */
};

/*
 * Starts argv[0] (an absolute path). device_fd is taken over, also on failure. As root, the program
 * runs as uid and gid, without capabilities. It dies with the calling thread.
 */
int hv_sandbox_start(struct hv_sandbox *sandbox, char *const argv[], uid_t uid, gid_t gid,
		     struct hv_err *err);

/* Decides one open, or read. */
void hv_sandbox_turn(struct hv_sandbox *sandbox);

/* Kills what still runs and waits for it. The status as waitpid tells it; -1: it was not started. */
int hv_sandbox_end(struct hv_sandbox *sandbox);

/* Can this kernel do it? */
bool hv_sandbox_possible(void);

#endif
