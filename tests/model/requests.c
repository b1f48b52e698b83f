/*
 * Requests in flight, and the operations made of them.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/model/run.h"

#define MAX_BATCH 32

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	if (request->done)
		bad(request->program, "a request was completed twice");
	request->done = true;
	request->result = result;
}

/* Cuts the memory into pieces: whole sectors, or anywhere. */
static int cut(struct program *p, struct request *r)
{
	int pieces = 1 + (int)(one_in(p, 2) ? 0 : any(p, MAX_PIECES));
	uint64_t unit = one_in(p, 3) ? 1 : SECTOR, at = 0;

	for (int i = 0; i < pieces; i++) {
		uint64_t left = (r->length - at) / unit;
		uint64_t size = i == pieces - 1 || !left ? r->length - at : any(p, left + 1) * unit;

		r->iov[i] = (struct iovec){ r->data + at, size };
		at += size;
	}
	return pieces;
}

struct request *request_new(struct program *p, enum hv_io_op op, uint64_t offset, uint64_t length)
{
	struct request *r = malloc(sizeof(*r));
	void *memory = NULL;

	if (!r || (length && posix_memalign(&memory, 4096, length + 4096)))
		abort();
	memset(r, 0, offsetof(struct request, err));
	hv_err_clear(&r->err);
	r->program = p;
	r->memory = memory;
	r->data = memory;
	if (length && one_in(p, 4))
		r->data += one_in(p, 2) ? SECTOR : 1 + any(p, 100);
	r->offset = offset;
	r->length = length;
	r->io.op = op;
	r->io.offset = offset;
	r->io.length = length;
	r->io.err = &r->err;
	r->io.done = request_done;
	p->discarded |= op == HV_DISCARD;
	if (op == HV_READ || op == HV_WRITE) {
		r->io.iov_count = cut(p, r);
		r->io.iov = r->iov;
	}
	if (op == HV_WRITE && one_in(p, 10))
		memset(r->data, 0, length);
	else if (op == HV_WRITE)
		any_bytes(p, r->data, length);
	if (hv_io_changes_data(op) && one_in(p, 10))
		r->io.flags = HV_IO_FUA;
	return r;
}

void request_submit(struct request *r)
{
	say(r->program, "  %s%s sectors %llu + %llu", hv_io_verb(r->io.op),
	    r->io.flags ? " fua" : "", (unsigned long long)r->offset / SECTOR,
	    (unsigned long long)r->length / SECTOR);
	hv_disk_submit(r->program->disk, &r->io);
	if (r->done)
		bad(r->program, "completed inside hv_disk_submit");
}

bool request_wait(struct request *requests[], unsigned count)
{
	struct program *p = requests[0]->program;
	bool right = true;

	for (unsigned i = 0; i < count; i++) {
		struct request *r = requests[i];

		while (!r->done)
			hv_loop_turn(p->loop, true);
		if (r->result)
			right = bad(p, "request %u failed with %d: %s", i, r->result,
				    hv_err_text(&r->err, r->result));
	}
	return right && !p->failed;
}

void request_apply(struct request *r)
{
	uint8_t *at = top(r->program)->model + r->offset;

	if (r->io.op == HV_WRITE)
		memcpy(at, r->data, r->length);
	else if (r->io.op == HV_ZERO || r->io.op == HV_DISCARD)
		memset(at, 0, r->length);
}

void request_free(struct request *r)
{
	free(r->memory);
	free(r);
}

static bool finish(struct program *p, struct request *requests[], unsigned count)
{
	bool right = request_wait(requests, count);

	for (unsigned i = 0; i < count && right; i++) {
		struct request *r = requests[i];

		if (r->io.op == HV_READ)
			right = same_as_model(p, top(p), r->data, r->offset, r->length, "engine");
	}
	for (unsigned i = 0; i < count; i++) {
		request_apply(requests[i]);
		request_free(requests[i]);
	}
	return right;
}

static bool single(struct program *p, enum hv_io_op op)
{
	struct request *r;
	uint64_t offset, length;

	any_range(p, &offset, &length);
	r = request_new(p, op, offset, length);
	request_submit(r);
	return finish(p, &r, 1);
}

static bool blocking(struct program *p, struct request *r)
{
	struct hv_disk *disk = p->disk;
	struct hv_err *err = &r->err;
	int rc;

	say(p, "  blocking %d: sectors %llu + %llu", r->io.op,
	    (unsigned long long)r->offset / SECTOR, (unsigned long long)r->length / SECTOR);
	if (r->io.op == HV_WRITE)
		rc = hv_disk_pwrite(disk, r->data, r->length, r->offset, err);
	else if (r->io.op == HV_ZERO)
		rc = hv_disk_zero(disk, r->length, r->offset, err);
	else if (r->io.op == HV_DISCARD)
		rc = hv_disk_discard(disk, r->length, r->offset, err);
	else
		rc = hv_disk_pread(disk, r->data, r->length, r->offset, err);
	r->done = true;
	r->result = rc;
	return finish(p, &r, 1);
}

static bool either_face(struct program *p, enum hv_io_op op)
{
	uint64_t offset, length;

	if (!one_in(p, 3))
		return single(p, op);
	any_range(p, &offset, &length);
	return blocking(p, request_new(p, op, offset, length));
}

bool op_write(struct program *p)
{
	return either_face(p, HV_WRITE);
}

bool op_zero(struct program *p)
{
	return either_face(p, HV_ZERO);
}

/* Whole blocks as a rule, which then go out of the table and are used again. */
bool op_discard(struct program *p)
{
	uint64_t blocks = top(p)->size / p->block, offset, length;
	struct request *r;

	if (!blocks || one_in(p, 4))
		return either_face(p, HV_DISCARD);
	offset = any(p, blocks) * p->block;
	length = (1 + any(p, 3)) * p->block;
	length = length < top(p)->size - offset ? length : top(p)->size - offset;
	r = request_new(p, HV_DISCARD, offset, length);
	request_submit(r);
	return finish(p, &r, 1);
}

bool op_read(struct program *p)
{
	return either_face(p, HV_READ);
}

bool op_flush(struct program *p)
{
	HV_ERR(err);
	int rc = hv_disk_flush(p->disk, &err);

	return !rc || bad(p, "flush failed with %d: %s", rc, hv_err_text(&err, rc));
}

static enum hv_io_op any_op(struct program *p)
{
	uint64_t dice = any(p, 20);

	return dice < 12 ? HV_WRITE : dice < 14 ? HV_ZERO : dice < 16 ? HV_DISCARD : HV_READ;
}

static void shuffle(struct program *p, struct request *requests[], unsigned count)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned j = (unsigned)any(p, i);
		struct request *swap = requests[i - 1];

		requests[i - 1] = requests[j];
		requests[j] = swap;
	}
}

bool op_batch(struct program *p)
{
	struct request *requests[MAX_BATCH + 1];
	unsigned count = 0, limit = 2 + (unsigned)any(p, MAX_BATCH - 2);

	uint64_t at, length, longest = one_in(p, 8) ? p->block / SECTOR : 1 + any(p, 16);

	any_range(p, &at, &length);
	while (count < limit && at < top(p)->size) {
		length = (1 + any(p, longest)) * SECTOR;
		if (length > top(p)->size - at)
			length = top(p)->size - at;
		requests[count++] = request_new(p, any_op(p), at, length);
		at += length + (one_in(p, 2) ? 0 : any(p, 8) * SECTOR);
	}
	shuffle(p, requests, count);
	if (one_in(p, 3)) {
		requests[count++] = request_new(p, HV_FLUSH, 0, 0);
		shuffle(p, requests, count);
	}
	for (unsigned i = 0; i < count; i++) {
		request_submit(requests[i]);
		if (one_in(p, 8))
			hv_loop_turn(p->loop, false);
	}
	return finish(p, requests, count);
}

/* Is the sector what one of the requests that cover it wrote, or else what it was before? */
static bool explained(struct program *p, struct request *requests[], unsigned count,
		      uint64_t offset, const uint8_t *data)
{
	static const uint8_t zero[SECTOR];
	bool covered = false;

	for (unsigned i = 0; i < count; i++) {
		const struct request *r = requests[i];

		if (offset < r->offset || offset >= r->offset + r->length)
			continue;
		covered = true;
		if (!memcmp(data, r->io.op == HV_WRITE ? r->data + (offset - r->offset) : zero,
			    SECTOR))
			return true;
	}
	return !covered && !memcmp(data, top(p)->model + offset, SECTOR);
}

/* Takes what the disk holds after overlapping writes into the model, if it is explained by them. */
static bool settle(struct program *p, struct request *requests[], unsigned count, uint64_t from,
		   uint64_t to)
{
	struct request *r = request_new(p, HV_READ, from, to - from);
	bool right;

	request_submit(r);
	right = request_wait(&r, 1);
	for (uint64_t at = from; at < to && right; at += SECTOR)
		if (!explained(p, requests, count, at, r->data + (at - from)))
			right = bad(p, "sector %llu holds nothing that was written to it%s",
				    (unsigned long long)at / SECTOR,
				    memcmp(r->data + (at - from), top(p)->model + at, SECTOR) ?
					    "" :
					    ", but what it held before");
	if (right)
		memcpy(top(p)->model + from, r->data, to - from);
	request_free(r);
	return right;
}

bool op_overlap(struct program *p)
{
	struct request *requests[5];
	unsigned count = 2 + (unsigned)any(p, 3);
	uint64_t start, length, from = UINT64_MAX, to = 0, sectors = top(p)->size / SECTOR;
	bool right;

	any_range(p, &start, &length);
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = start / SECTOR + any(p, 12), n = 1 + any(p, 12);

		at = at < sectors ? at : sectors - 1;
		n = n < sectors - at ? n : sectors - at;
		requests[i] =
			request_new(p, one_in(p, 4) ? HV_ZERO : HV_WRITE, at * SECTOR, n * SECTOR);
		from = from < at * SECTOR ? from : at * SECTOR;
		to = to > (at + n) * SECTOR ? to : (at + n) * SECTOR;
	}
	if (one_in(p, 3)) { /* and the block under them goes away */
		uint64_t block = start / p->block * p->block;
		uint64_t end = block + p->block < top(p)->size ? block + p->block : top(p)->size;

		requests[count++] = request_new(p, HV_DISCARD, block, end - block);
		from = from < block ? from : block;
		to = to > end ? to : end;
		shuffle(p, requests, count);
	}
	for (unsigned i = 0; i < count; i++) {
		request_submit(requests[i]);
		if (one_in(p, 8))
			hv_loop_turn(p->loop, false);
	}
	right = request_wait(requests, count) && settle(p, requests, count, from, to);
	for (unsigned i = 0; i < count; i++)
		request_free(requests[i]);
	return right;
}
