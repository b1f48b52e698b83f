/*
 * Inside vhdtool/: zeros written, or read and expected, piece by piece with several requests in
 * flight. What the pieces are, and whether they belong to a file or a disk, is the caller's affair.
 */
#ifndef VHDTOOL_PUMP_H
#define VHDTOOL_PUMP_H

#include "hvcore/disk.h"

#define TOOL_PIECE_BYTES (4u << 20)

struct tool_pump {
	struct hv_loop *loop;
	void (*submit)(void *target, struct hv_io *io);
	void *target;
	const char *path; /* for sentences */
	/* HV_WRITE and HV_ZERO make the pieces zero; HV_READ fails where one is not. */
	enum hv_io_op op;
	/*
	 * The first piece at or after *offset: 1 with both filled, 0 when there is none, -errno
	 * with a sentence. Pieces are at most TOOL_PIECE_BYTES long.
	 */
	int (*next)(void *arg, uint64_t *offset, uint64_t *length, struct hv_err *err);
	void *arg;
	uint64_t start, end; /* where to begin, and what progress calls done */
	const char *label;   /* of the progress line */
	bool quiet;
};

/* Runs until nothing is in flight. *bytes is the sum of the pieces. */
int tool_pump_run(const struct tool_pump *pump, uint64_t *bytes, struct hv_err *err);

#endif
