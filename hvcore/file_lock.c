/*
 * Locks compatible with QEMU's file driver (block/file-posix.c of QEMU 2.10 and later, as
 * documented in its manual under "image locking"): shared OFD locks on single bytes say what a
 * user does (from byte 100) and what it does not let others do (from byte 200), bit by bit.
 * Taking the locks first and looking for conflicts afterwards leaves no gap between two users.
 */
#include <errno.h>
#include <fcntl.h>

#include "hvcore/file_posix.h"

#define DOES_BASE 100
#define DENIES_BASE 200

enum {
	READ_CONSISTENT = 1 << 0,
	WRITE = 1 << 1,
	WRITE_UNCHANGED = 1 << 2,
	RESIZE = 1 << 3,
	BITS = 4,
};

static int take_byte(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

/* Does somebody else hold the byte? 1, 0 or -errno. */
static int held_by_other(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &lock))
		return -errno;
	return lock.l_type != F_UNLCK;
}

static int take(int fd, unsigned does, unsigned denies)
{
	for (int bit = 0; bit < BITS; bit++) {
		int rc = 0;

		if (does & 1u << bit)
			rc = take_byte(fd, DOES_BASE + bit);
		if (rc == 0 && denies & 1u << bit)
			rc = take_byte(fd, DENIES_BASE + bit);
		if (rc)
			return rc;
	}
	return 0;
}

static int conflict(int fd, unsigned does, unsigned denies)
{
	for (int bit = 0; bit < BITS; bit++) {
		if (does & 1u << bit && held_by_other(fd, DENIES_BASE + bit) > 0)
			return -EBUSY;
		if (denies & 1u << bit && held_by_other(fd, DOES_BASE + bit) > 0)
			return -EBUSY;
	}
	return 0;
}

int hv_file_lock(int fd, const char *path, bool writable, struct hv_err *err)
{
	unsigned denies = WRITE | RESIZE;
	unsigned does = writable ? READ_CONSISTENT | WRITE | RESIZE : READ_CONSISTENT;
	int rc = take(fd, does, denies);

	/* EAGAIN and EACCES: someone holds the bytes exclusively; else there are no OFD locks here.
	 */
	if (rc == 0)
		rc = conflict(fd, does, denies);
	else if (rc != -EAGAIN && rc != -EACCES)
		return 0;
	if (rc == 0)
		return 0;
	if (writable)
		return hv_fail(err, -EBUSY, "%s: in use by another program, not opened for writing",
			       path);
	return hv_fail(err, -EBUSY, "%s: open for writing in another program", path);
}
