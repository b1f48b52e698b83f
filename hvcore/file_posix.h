/*
 * Inside hvcore: the file implementation over a file descriptor, shared by file_posix.c (I/O),
 * file_open.c (opening, creating, publishing) and file_lock.c.
 */
#ifndef HVCORE_FILE_POSIX_H
#define HVCORE_FILE_POSIX_H

#include <pthread.h>

#include "hvcore/file.h"

struct posix_file {
	struct hv_file base;

	/*
	 * Where O_DIRECT wants more than a sector, an unaligned write reads, changes and writes
	 * what surrounds it, and no other write may be in flight then: `alone` runs while
	 * `writes` is 0, everybody else waits in the queue.
	 */
	unsigned writes;
	bool alone;
	struct hv_io *wait_head, *wait_tail;

	/*
	 * Requests in flight, counted by the epoch in which they came. A drain begins a new epoch
	 * and waits for the one before to empty; one at a time, so that two epochs are enough.
	 */
	unsigned epoch, in_flight[2];
	struct hv_io *drain_head, *drain_tail; /* the first is under way */

	/* Is it worth while to look whether the page cache has what is read? */
	unsigned cache_misses, cache_skipped;

	/*
	 * Barriers. The kernel tells of what it could not write once, to whichever barrier asks
	 * first: so they take turns, and after one that failed all fail. One that begins serves
	 * everybody who asked before, by number.
	 */
	pthread_mutex_t barrier_lock;
	uint64_t barriers_asked, barriers_served;
	int barrier_error;

	/* A file that has no name yet. */
	char *publish_path; /* NULL once published */
	char *temp_path;    /* NULL when made with O_TMPFILE */
	int old_fd;         /* the locked file that publishing replaces, or -1 */
	bool replace;
};

extern const struct hv_file_ops hv_posix_file_ops;

/* The operation of hv_file_publish; in file_open.c. */
int hv_posix_publish(struct hv_file *base, struct hv_err *err);

/* fdatasync, or fsync for `all`, as hv_file_barrier promises it; any thread. 0 or -errno. */
int hv_posix_barrier(struct posix_file *file, bool all);

/* What O_DIRECT wants of fd: a power of two of at least 512, or 0 where it is refused. */
unsigned hv_direct_alignment(int fd);

/* Takes the locks of QEMU's file driver. 0, -EBUSY with a sentence; without support, 0. */
int hv_file_lock(int fd, const char *path, bool writable, struct hv_err *err);

#endif
