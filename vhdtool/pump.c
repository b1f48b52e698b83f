/*
 * Many pieces, several in flight. Writes share one buffer of zeros; each read has its own memory,
 * so that one is looked through while the others are under way.
 */
#include "vhdtool/pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/memory.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"

#define DEPTH 8

struct slot {
	struct hv_io io;
	struct iovec iov;
	struct run *run;
	struct slot *next;
	uint64_t offset; /* the request's own may change on its way */
};

struct run {
	const struct tool_pump *pump;
	struct slot slots[DEPTH];
	struct slot *idle;
	char *memory;
	unsigned in_flight;
	uint64_t bytes;
	int result;
	struct hv_err *err;
};

static void expect_zero(struct run *run, const struct slot *slot)
{
	const char *data = slot->iov.iov_base;
	uint64_t at = slot->offset;

	if (run->result || hv_is_zero(data, slot->io.length))
		return;
	for (; !*data; data++)
		at++;
	run->result = hv_fail(run->err, -EIO, "%s: byte %llu is not zero, though it should be",
			      run->pump->path, (unsigned long long)at);
}

static void piece_done(struct hv_io *io, int result)
{
	struct slot *slot = (struct slot *)io;
	struct run *run = slot->run;

	if (result && !run->result)
		run->result = result;
	else if (io->op == HV_READ && !result)
		expect_zero(run, slot);
	slot->next = run->idle;
	run->idle = slot;
	run->in_flight--;
}

static void send_piece(struct run *run, uint64_t offset, uint64_t length)
{
	const struct tool_pump *pump = run->pump;
	struct slot *slot = run->idle;

	run->idle = slot->next;
	slot->offset = offset;
	slot->iov.iov_len = length;
	slot->io = (struct hv_io){ .op = pump->op,
				   .offset = offset,
				   .length = length,
				   .iov = pump->op == HV_ZERO ? NULL : &slot->iov,
				   .iov_count = pump->op == HV_ZERO ? 0 : 1,
				   .err = run->err,
				   .done = piece_done };
	run->in_flight++;
	run->bytes += length;
	pump->submit(pump->target, &slot->io);
}

static int prepare(struct run *run)
{
	enum hv_io_op op = run->pump->op;
	size_t size = op == HV_READ ? (size_t)DEPTH * TOOL_PIECE_BYTES : TOOL_PIECE_BYTES;

	if (op != HV_ZERO) {
		run->memory = hv_io_memory(size);
		if (!run->memory)
			return hv_fail(run->err, -ENOMEM, "%s: not enough memory", run->pump->path);
		if (op == HV_WRITE)
			memset(run->memory, 0, size);
	}
	for (size_t i = 0; i < DEPTH; i++) {
		struct slot *slot = &run->slots[i];

		slot->run = run;
		slot->iov.iov_base = run->memory;
		if (op == HV_READ)
			slot->iov.iov_base = run->memory + i * TOOL_PIECE_BYTES;
		slot->next = run->idle;
		run->idle = slot;
	}
	return 0;
}

/* Sends pieces until there are no more, or until something fails. */
static int send_all(struct run *run, struct hv_progress *progress)
{
	const struct tool_pump *pump = run->pump;
	uint64_t at = pump->start, length;
	int rc;

	while (!run->result && (rc = pump->next(pump->arg, &at, &length, run->err)) != 0) {
		if (rc < 0)
			return rc;
		while (!run->idle)
			hv_loop_turn(pump->loop, true);
		send_piece(run, at, length);
		at += length;
		hv_progress_update(progress, at - pump->start);
	}
	return 0;
}

int tool_pump_run(const struct tool_pump *pump, uint64_t *bytes, struct hv_err *err)
{
	struct run run = { .pump = pump, .err = err };
	struct hv_progress progress;
	int rc = prepare(&run);

	if (rc)
		return rc;
	hv_progress_start(&progress, pump->label, pump->end - pump->start, pump->quiet);
	rc = send_all(&run, &progress);
	while (run.in_flight)
		hv_loop_turn(pump->loop, true);
	hv_progress_end(&progress);
	free(run.memory);
	if (rc == 0)
		rc = run.result;
	if (rc == 0 && bytes)
		*bytes = run.bytes;
	return rc;
}
