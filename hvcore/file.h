/*
 * Files and block devices. Every byte that hvkit writes goes through struct hv_file, so that a
 * test can put another implementation below (its ops) and record writes and barriers.
 *
 * Three verbs reach the medium: write, barrier (fdatasync), publish (rename and directory fsync).
 * Reads past the end of the file give zeros. Locks are the byte-range locks (OFD) of QEMU's file
 * driver, so that QEMU, qemu-img and hvkit keep each other out: readers share, a writer is alone.
 */
#ifndef HVCORE_FILE_H
#define HVCORE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "hvcore/disk.h"
#include "hvcore/err.h"

enum hv_file_flags {
	HV_FILE_WRITE = 1 << 0,   /* read and write, exclusive lock; else read-only, shared lock */
	HV_FILE_DIRECT = 1 << 1,  /* O_DIRECT with libaio; falls back silently where refused */
	HV_FILE_NO_LOCK = 1 << 2, /* take no lock: contents may change under the reader */
};

struct hv_file;

struct hv_file_ops {
	void (*submit)(struct hv_file *file, struct hv_io *io);
	/* NULL where requests take effect within submit. */
	void (*drain)(struct hv_file *file, struct hv_io *io);
	int (*pread)(struct hv_file *file, void *buf, size_t length, uint64_t offset,
		     struct hv_err *err);
	int (*pwrite)(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
		      struct hv_err *err);
	int (*barrier)(struct hv_file *file, struct hv_err *err);
	int (*reserve)(struct hv_file *file, uint64_t offset, uint64_t length);
	int (*zero)(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err);
	int (*truncate)(struct hv_file *file, uint64_t size_bytes, struct hv_err *err);
	int (*next_data)(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole);
	int (*publish)(struct hv_file *file, struct hv_err *err);
	int (*stat)(struct hv_file *file, struct stat *ret); /* NULL: -EOPNOTSUPP */
	void (*close)(struct hv_file *file);
};

/* The first member of every implementation's struct. Read-only for everybody else. */
struct hv_file {
	const struct hv_file_ops *ops;
	struct hv_loop *loop; /* NULL: only the blocking calls may be used */
	char *path;
	uint64_t size_bytes; /* of the file or device; kept up to date by write and truncate */
	bool writable;
	bool direct; /* O_DIRECT is in force */
	bool block_device;
	unsigned align_bytes; /* what O_DIRECT wants of offsets, lengths and memory */
	dev_t dev;
	ino_t ino;
	int fd; /* for ioctls that hv_file has no verb for; -1 where there is none */
	uint64_t run_start, run_end; /* hv_file_extent's: data, seen in a file that is only read */
};

/*
 * Opens a regular file or block device. -EBUSY with a sentence when somebody else has it open in
 * a way that excludes this one; -EISDIR, -EINVAL for what is neither file nor block device (a FIFO
 * is never waited for).
 */
int hv_file_open(const char *path, unsigned flags, struct hv_loop *loop, struct hv_file **ret,
		 struct hv_err *err);

/*
 * A new, empty file without a name in the directory of path, for writing; hv_file_publish gives it
 * the name. Closing it before leaves nothing behind. -EEXIST when path exists and replace is not
 * set; with replace, -EBUSY when the old file is in use (locked, or backing a loop device), and the
 * old file stays locked until publish.
 */
int hv_file_create(const char *path, unsigned flags, bool replace, struct hv_loop *loop,
		   struct hv_file **ret, struct hv_err *err);

/*
 * Barrier, then the name appears (atomically, also over an old file), then the directory is
 * synced. From then on the file is an ordinary open file.
 */
int hv_file_publish(struct hv_file *file, struct hv_err *err);

/* Removes a name, durably: the directory is synced. A link is removed itself. */
int hv_file_unlink(const char *path, struct hv_err *err);

/* See hv_disk_move. */
void hv_file_move(struct hv_file *file, struct hv_loop *loop);

void hv_file_close(struct hv_file *file);
HV_DEFINE_CLEANUP(struct hv_file, hv_file_close)

/* Asynchronous face: all hv_io_op, byte-granular offsets; done comes with a later turn. */
void hv_file_submit(struct hv_file *file, struct hv_io *io);

/*
 * Completes io, which needs nothing but its done, when every request that was submitted before has
 * been completed, whatever has been submitted since.
 */
void hv_file_drain(struct hv_file *file, struct hv_io *io);

/*
 * Blocking face; any offset, length and memory, any thread as long as nothing else touches the
 * same sectors. pwrite past the end extends the file.
 */
int hv_file_pread(struct hv_file *file, void *buf, size_t length, uint64_t offset,
		  struct hv_err *err);
int hv_file_pwrite(struct hv_file *file, const void *buf, size_t length, uint64_t offset,
		   struct hv_err *err);

/*
 * Everything written before is durable afterwards. After a barrier that failed (this, HV_FLUSH, or
 * that of HV_IO_FUA) every other one of this open file fails: the kernel may have dropped what it
 * could not write, and tells one of those that ask.
 */
int hv_file_barrier(struct hv_file *file, struct hv_err *err);

/*
 * Reserves space for [offset, offset + length) without changing what is read or the file's size:
 * -ENOSPC now rather than later. -EOPNOTSUPP where the filesystem cannot.
 */
int hv_file_reserve(struct hv_file *file, uint64_t offset, uint64_t length);

/* The range reads as zero; by the quickest way that the filesystem or device has. */
int hv_file_zero(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err);

/* Likewise, and its space is given back where that can be done. */
int hv_file_discard(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err);

int hv_file_truncate(struct hv_file *file, uint64_t size_bytes, struct hv_err *err);

/*
 * SEEK_DATA/SEEK_HOLE: the first data at or after offset is [*data, *hole). Where there is none,
 * both are the file's size. Without support (and on devices) everything is data.
 */
int hv_file_next_data(struct hv_file *file, uint64_t offset, uint64_t *data, uint64_t *hole);

/*
 * The same as an extent of a disk whose bytes are the file's: data, or zero where there is a hole;
 * with HV_EXTENT_PLACES in flags, data.
 */
int hv_file_extent(struct hv_file *file, uint64_t offset, uint64_t length, unsigned flags,
		   struct hv_extent *ret, struct hv_err *err);

/* What FIEMAP says of a file (synced first). */
struct hv_file_layout {
	uint64_t extents;         /* number of extents */
	uint64_t allocated_bytes; /* reserved on the medium */
	uint64_t unwritten_bytes; /* reserved, never written: reads as zero */
	uint64_t unknown_bytes;   /* delayed allocation, inline data, encoded */
};

/* -EOPNOTSUPP where there is no FIEMAP. [offset, offset + length) is looked at. */
int hv_file_layout(struct hv_file *file, uint64_t offset, uint64_t length,
		   struct hv_file_layout *ret);

/* "ext4", "xfs", "tmpfs", ... or "unknown": the type of the filesystem that holds file; lent. */
const char *hv_file_fs_name(struct hv_file *file);

/* fstat; for allocated blocks (st_blocks) and times. */
int hv_file_stat(struct hv_file *file, struct stat *ret);

/*
 * The first size_bytes of a file as a disk of format "raw". Takes the file over on success. A size
 * that is no multiple of the sector size is rounded up; what lies past the end reads as zero.
 */
int hv_raw_open(struct hv_file *file, uint64_t size_bytes, struct hv_disk **ret,
		struct hv_err *err);

/* The file of a disk that hv_raw_open made, lent; NULL for others. */
struct hv_file *hv_raw_get_file(struct hv_disk *disk);

#endif
