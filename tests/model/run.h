/*
 * One random program while it runs. Internal to the model test.
 *
 * The functions that can find a fault return false, after bad() has recorded the first one.
 */
#ifndef TESTS_MODEL_RUN_H
#define TESTS_MODEL_RUN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "hvcore/disk.h"
#include "vhd/vhd.h"

#define SECTOR 512u
#define MAX_LAYERS 7
#define MAX_PIECES 8

struct layer {
	char path[PATH_MAX];
	uint8_t *model; /* what the disk holds, seen from this layer */
	uint64_t size;
};

struct program {
	uint64_t seed, random;
	bool verbose, failed;
	bool discarded; /* since when there may be gaps among the blocks */
	char why[1024];
	unsigned op; /* the number of the operation that runs */
	const char *directory;
	struct hv_loop *loop;
	struct hv_disk *disk; /* NULL while it is closed */
	bool direct;
	enum vhd_type type; /* of the lowest layer */
	uint64_t block;     /* block size of the top layer; of edges worth writing at, for fixed */
	struct layer layers[MAX_LAYERS];
	unsigned layer_count; /* the last one is the top */
};

/* A request in flight, with memory of its own. The hv_io comes first. */
struct request {
	struct hv_io io;
	struct program *program;
	struct iovec iov[MAX_PIECES];
	uint8_t *memory, *data; /* data lies somewhere in memory */
	uint64_t offset, length;
	bool done;
	int result;
	struct hv_err err;
};

/* random.c */
uint64_t any(struct program *p, uint64_t bound); /* 0 ... bound - 1 */
bool one_in(struct program *p, unsigned n);
void any_bytes(struct program *p, uint8_t *out, uint64_t length);      /* a multiple of 8 */
void any_range(struct program *p, uint64_t *offset, uint64_t *length); /* in the top layer */

/* program.c */
__attribute__((format(printf, 2, 3))) bool bad(struct program *p, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void say(struct program *p, const char *fmt, ...);

static inline struct layer *top(struct program *p)
{
	return &p->layers[p->layer_count - 1];
}

/* requests.c */
struct request *request_new(struct program *p, enum hv_io_op op, uint64_t offset, uint64_t length);
void request_submit(struct request *request); /* after its data has been filled in */
bool request_wait(struct request *requests[], unsigned count);
void request_apply(struct request *request); /* to the model */
void request_free(struct request *request);

bool op_write(struct program *p);
bool op_zero(struct program *p);
bool op_discard(struct program *p);
bool op_read(struct program *p);
bool op_flush(struct program *p);
bool op_batch(struct program *p);   /* distinct sectors at once, often of one new block */
bool op_overlap(struct program *p); /* overlapping writes at once */

/* layers.c */
bool create_base(struct program *p);
bool open_top(struct program *p, bool writable);
bool close_top(struct program *p); /* flushed before */
bool op_reopen(struct program *p);
bool op_snapshot(struct program *p);

/* verify.c */
bool same_as_model(struct program *p, const struct layer *layer, const uint8_t *data,
		   uint64_t offset, uint64_t length, const char *who);
bool verify_file(struct program *p, unsigned layer); /* closed: reference reader, audit, check */
bool verify_disk(struct program *p);                 /* open: the engine reads everything */
bool op_extents(struct program *p);

#endif
