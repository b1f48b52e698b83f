/*
 * Fuzz target: opening an image for writing, and doing what its script says. Whatever could be
 * opened for writing holds afterwards what was written and what it held before, and nothing of it
 * is worse than it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/harness/checking.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/reading.h"
#include "tests/fuzz/harness/script.h"
#include "vhd/compact.h"

struct session {
	struct sparse *file;
	struct hv_disk *disk;
	struct reading reading;
	struct sparse *written, *touched;
	uint8_t stamp; /* of the last write */
	bool gaps;     /* blocks have gone, so that there may be some */
};

struct request {
	struct hv_io io;
	struct iovec iov;
	bool finished;
	int result;
};

static void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->finished = true;
	request->result = result;
}

static int submit(struct hv_disk *disk, const struct script_op *op, void *data, struct hv_err *err)
{
	struct request request = {
		.io = { .op = op->verb == SCRIPT_ZERO    ? HV_ZERO :
			      op->verb == SCRIPT_DISCARD ? HV_DISCARD :
							   HV_WRITE,
			.flags = op->verb == SCRIPT_WRITE_FUA ? HV_IO_FUA : 0,
			.offset = op->first * HV_SECTOR_SIZE,
			.length = op->count * HV_SECTOR_SIZE,
			.err = err,
			.done = request_done },
		.iov = { data, op->count * HV_SECTOR_SIZE },
	};

	if (request.io.op == HV_WRITE) {
		request.io.iov = &request.iov;
		request.io.iov_count = 1;
	}
	hv_disk_submit(disk, &request.io);
	while (!request.finished)
		hv_loop_turn(disk->loop, true);
	return request.result;
}

/* A failure may have changed each sector, or not. */
static void note(struct session *session, const struct script_op *op, const void *data, int rc)
{
	uint8_t touch = rc ? UNCERTAIN : TOUCHED;

	for (uint64_t i = 0; i < op->count; i++)
		sparse_poke(session->touched, op->first + i, &touch, 1);
	sparse_poke(session->written, op->first * HV_SECTOR_SIZE, data, op->count * HV_SECTOR_SIZE);
}

static void change(struct session *session, const struct script_op *op)
{
	uint8_t *data = calloc(op->count, HV_SECTOR_SIZE);
	HV_ERR(err);
	int rc;

	session->stamp++;
	for (uint64_t i = 0; i < op->count && op->verb <= SCRIPT_WRITE_FUA; i++)
		memset(data + i * HV_SECTOR_SIZE, (int)(session->stamp + i) % 255 + 1,
		       HV_SECTOR_SIZE);
	rc = submit(session->disk, op, data, &err);
	if (rc) {
		fuzz_judge_failure("a write", rc, &err);
		fuzz_assert(rc == -EFBIG, "a write failed with %d: %s", rc, err.sentence);
	}
	note(session, op, data, rc);
	free(data);
}

static void flush(struct session *session)
{
	HV_ERR(err);
	int rc = hv_disk_flush(session->disk, &err);

	fuzz_assert(rc == 0, "a flush failed with %d: %s", rc, err.sentence);
}

/* What cannot be compacted is refused; nothing may be read otherwise afterwards. */
static void compact(struct session *session)
{
	const struct vhd_compact_options options = { 0 };
	struct vhd_compact_result result;
	HV_ERR(err);
	int rc = vhd_compact(session->disk, &options, &result, &err);

	fuzz_assert(rc == 0 || rc == -ENOTSUP || rc == -EINVAL, "compacting failed with %d: %s", rc,
		    err.sentence);
}

static bool open_disk(struct session *session, bool writable)
{
	int code;

	sparse_file(session->file)->writable = writable;
	session->disk =
		reading_open(sparse_keep(session->file), session->reading.parent_bytes, &code);
	session->reading.disk = session->disk;
	return session->disk;
}

static void reopen(struct session *session, bool writable)
{
	uint64_t size = session->disk->size_bytes;

	flush(session);
	hv_disk_close(session->disk);
	fuzz_assert(open_disk(session, writable), "cannot be opened again");
	fuzz_assert(session->disk->size_bytes == size, "has another size when opened again");
}

static void play(struct session *session, struct script *script)
{
	uint64_t size = session->disk->size_bytes;
	uint64_t block = session->reading.truth.block_bytes;
	struct script_op op;

	while (script_next(script, size, block ? block : 65536, &op)) {
		session->gaps |= op.verb >= SCRIPT_DISCARD;
		if (script_changes(op.verb))
			change(session, &op);
		else if (op.verb == SCRIPT_READ)
			reading_compare(&session->reading, op.first, op.count);
		else if (op.verb == SCRIPT_FLUSH)
			flush(session);
		else if (op.verb == SCRIPT_COMPACT)
			compact(session);
		else
			reopen(session, true);
	}
}

/* The same operations again, to look at what they have left. */
static void look_again(struct session *session, struct script script)
{
	uint64_t block = session->reading.truth.block_bytes;
	struct script_op op;

	while (script_next(&script, session->disk->size_bytes, block ? block : 65536, &op)) {
		uint64_t before = op.first > 2 ? 2 : op.first;

		if (script_changes(op.verb))
			reading_compare(&session->reading, op.first - before,
					op.count + before + 2);
	}
}

static void judge_file(struct session *session, const struct checked *before)
{
	struct checked after;

	checking_run(session->file, NULL, &after);
	fuzz_assert(after.rc == 0, "cannot be checked any more: %d", after.rc);
	fuzz_assert(!checking_new_error(before, &after), "check finds %s after writing",
		    checking_new_error(before, &after));
	fuzz_assert(after.result.leaked_bytes <= before->result.leaked_bytes ||
			    before->result.errors || session->gaps,
		    "%llu bytes leak after writing, %llu did before",
		    (unsigned long long)after.result.leaked_bytes,
		    (unsigned long long)before->result.leaked_bytes);
}

static bool begin(struct session *session, const struct sparse *original)
{
	struct hv_disk *disk;
	int code;

	disk = reading_open(sparse_copy(original, false), 0, &code);
	if (disk)
		truth_init(&session->reading.truth, original, disk);
	hv_disk_close(disk);
	session->file = sparse_copy(original, true);
	if (!open_disk(session, true))
		return false;
	fuzz_assert(disk, "opens for writing, but not for reading");
	session->written = sparse_new(session->disk->size_bytes, true);
	session->touched = sparse_new(session->disk->size_bytes / HV_SECTOR_SIZE, true);
	session->reading.written = session->written;
	session->reading.touched = session->touched;
	return true;
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(fuzz_image_done) struct fuzz_image image = { 0 };
	HV_AUTO(sparse_free) struct sparse *original = NULL;
	struct session session = { 0 };
	struct checked before;
	struct script script;

	fuzz_image_parse(data, size, &image);
	original = fuzz_image_lay(&image, false);
	if (reading_is_too_large(original))
		return;
	script_init(&script, &image);
	session.reading.parent_bytes = script_parent_bytes(&script);
	checking_run(original, NULL, &before);
	if (begin(&session, original)) {
		struct script again = script;

		play(&session, &script);
		reopen(&session, false);
		look_again(&session, again);
		reading_walk(&session.reading);
		hv_disk_close(session.disk);
		judge_file(&session, &before);
	}
	sparse_free(session.file);
	sparse_free(session.written);
	sparse_free(session.touched);
	script_done(&script);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
