/*
 * The one noun of hvkit: a disk, an array of 512-byte sectors with asynchronous and blocking
 * access. Formats make disks, chains stack them, tools consume them without knowing what is behind.
 *
 * A disk belongs to the thread of its loop. Requests are not ordered among each other; what two
 * overlapping requests in flight leave behind is one or the other, sector by sector. HV_FLUSH makes
 * durable every write that completed before the flush was submitted, on this disk; a write with
 * HV_IO_FUA completes when its own data is durable. Before that a sector reads, after a power cut,
 * as its old or its new content.
 */
#ifndef HVCORE_DISK_H
#define HVCORE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"
#include "hvcore/loop.h"

#define HV_SECTOR_SIZE 512u
#define HV_SECTOR_SHIFT 9

enum hv_io_op {
	HV_READ,
	HV_WRITE,
	HV_ZERO,    /* the range reads as zero afterwards; no data is passed */
	HV_DISCARD, /* likewise, and what space it takes is given back where that can be done */
	HV_FLUSH,   /* offset and length are 0 */
};

enum hv_io_flags {
	HV_IO_FUA = 1 << 0,
};

/*
 * A request. The caller fills the first part and owns the struct, the vector and the memory until
 * done is called, once, from hv_loop_turn. A layer that only translates passes the same request
 * down: offset is not preserved. Nothing else is changed.
 */
struct hv_io {
	enum hv_io_op op;
	unsigned flags;
	uint64_t offset;         /* bytes, multiple of the sector size */
	uint64_t length;         /* bytes, likewise; the sum of the vector for reads and writes */
	const struct iovec *iov; /* NULL where no data is passed */
	int iov_count;
	struct hv_err *err; /* takes the sentence of a failure; may be NULL */
	void (*done)(struct hv_io *io, int result); /* result 0 or -errno: all of it or failure */

	/* The rest belongs to whichever layer holds the request. */
	struct hv_io *next;
	void (*lower_done)(struct hv_io *io, long transferred);
	void *owner;
	int result;
	unsigned epoch;
	uint64_t scratch[8];
};

/* "read", "write", ...: for sentences. */
const char *hv_io_verb(enum hv_io_op op);

/* Does the operation change what is read? */
static inline bool hv_io_changes_data(enum hv_io_op op)
{
	return op == HV_WRITE || op == HV_ZERO || op == HV_DISCARD;
}

enum hv_extent_state {
	HV_EXTENT_DATA,     /* some layer stores it */
	HV_EXTENT_ZERO,     /* reads as zero without I/O */
	HV_EXTENT_UNMAPPED, /* not here: the backing disk decides (never seen on a whole chain) */
};

#define HV_NO_HOST_OFFSET UINT64_MAX

struct hv_extent {
	uint64_t offset, length; /* bytes */
	enum hv_extent_state state;
	unsigned depth;       /* 0: the top layer holds it, 1: its parent, ... */
	uint64_t host_offset; /* where it lies in that layer's file, or HV_NO_HOST_OFFSET */
};

enum hv_extent_flags {
	/*
	 * Answer from memory only: what would take a metadata read to tell may be reported as
	 * data. Without it the call may block on metadata reads.
	 */
	HV_EXTENT_COARSE = 1 << 0,
	/*
	 * Where it lies is wanted, and not whether the host's file has a hole there, which is a
	 * system call or two: what a file has room for is data.
	 */
	HV_EXTENT_PLACES = 1 << 1,
};

struct hv_disk;

struct hv_disk_ops {
	const char *format; /* "raw", "fixed", "dynamic", "differencing" */
	void (*submit)(struct hv_disk *disk, struct hv_io *io);
	/* One extent at offset, not longer than length, not merged with its neighbours. */
	int (*extent)(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		      struct hv_extent *ret, struct hv_err *err);
	/* See hv_disk_move; the disk's own loop is changed afterwards. NULL: nothing else has one. */
	void (*move)(struct hv_disk *disk, struct hv_loop *loop);
	void (*close)(struct hv_disk *disk);
};

/* The first member of every implementation's struct. Read-only for everybody else. */
struct hv_disk {
	const struct hv_disk_ops *ops;
	struct hv_loop *loop;
	const char *path;    /* for sentences; the disk's own */
	uint64_t size_bytes; /* a multiple of the sector size */
	bool writable;
};

/*
 * Asynchronous face. Bounds, alignment and access are checked here, once: -EINVAL, -EROFS. The
 * request is completed later by hv_loop_turn, never from inside this call.
 */
void hv_disk_submit(struct hv_disk *disk, struct hv_io *io);

/* For implementations: fails io with one sentence. Returns nothing; done comes with a later turn. */
void hv_io_fail(struct hv_disk *disk, struct hv_io *io, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Fills [start, start + length) of the request's memory with zeros. */
void hv_io_fill_zero(const struct hv_io *io, uint64_t start, uint64_t length);

/*
 * Blocking face, on the disk's own loop: completions of other requests may run inside. Each
 * returns 0 or -errno with a sentence. Offsets and lengths are multiples of the sector size.
 */
int hv_disk_pread(struct hv_disk *disk, void *buf, uint64_t length, uint64_t offset,
		  struct hv_err *err);
int hv_disk_pwrite(struct hv_disk *disk, const void *buf, uint64_t length, uint64_t offset,
		   struct hv_err *err);
int hv_disk_zero(struct hv_disk *disk, uint64_t length, uint64_t offset, struct hv_err *err);
int hv_disk_discard(struct hv_disk *disk, uint64_t length, uint64_t offset, struct hv_err *err);
int hv_disk_flush(struct hv_disk *disk, struct hv_err *err);

/*
 * The extent at offset (which lies inside the disk), at most length bytes long. Without
 * HV_EXTENT_COARSE, neighbours of the same state, depth and (contiguous) place are merged.
 */
int hv_disk_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		   struct hv_extent *ret, struct hv_err *err);

/*
 * From now on the disk, with all layers below, belongs to another loop, and to the thread that
 * drives that. Called where it has belonged to so far, with nothing in flight; waits for what the
 * disk does by itself.
 */
void hv_disk_move(struct hv_disk *disk, struct hv_loop *loop);

/* Nothing may be in flight. What was not flushed may be lost; flush first and look at its result. */
void hv_disk_close(struct hv_disk *disk);
HV_DEFINE_CLEANUP(struct hv_disk, hv_disk_close)

/* "raw", "fixed", "dynamic", "differencing": lent. */
const char *hv_disk_format(const struct hv_disk *disk);

#endif
