/*
 * Zeroing files and devices, and its proof; disks are done in zeroing_disk.c.
 */
#include "vhdtool/zeroing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hvcore/checked.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"
#include "hvcore/size.h"
#include "vhdtool/pump.h"

#define DEVICE_STEP (UINT64_C(1) << 30) /* of BLKZEROOUT, between two looks at the clock */
#define END_BYTES (1u << 20)
#define PAGE 4096u
#define SAMPLES 16

enum pick {
	EVERYTHING,
	ALLOCATED, /* pieces that have space on the medium, written or not */
	DATA,      /* what SEEK_DATA finds */
};

struct range {
	struct hv_file *file;
	uint64_t offset, end;
	enum pick pick;
	bool quiet;
};

/* Pieces. */

static bool is_hole(const struct range *range, uint64_t at, uint64_t stop)
{
	struct hv_file_layout layout;

	return hv_file_layout(range->file, at, stop - at, &layout) == 0 && !layout.allocated_bytes;
}

/* A run of data: 1, 0 when there is none. */
static int next_run(const struct range *range, uint64_t *at, uint64_t *stop, struct hv_err *err)
{
	uint64_t data, hole;
	int rc = hv_file_next_data(range->file, *at, &data, &hole);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot look for holes", range->file->path);
	if (data == hole || data >= range->end)
		return 0;
	*at = hv_max_u64(data, *at);
	*stop = hv_min_u64(hole, range->end);
	return 1;
}

static int next_piece(void *arg, uint64_t *offset, uint64_t *length, struct hv_err *err)
{
	const struct range *range = arg;
	uint64_t at = *offset, stop;

	while (at < range->end) {
		int rc = 1;

		stop = range->end;
		if (range->pick == DATA)
			rc = next_run(range, &at, &stop, err);
		if (rc <= 0)
			return rc;
		stop = hv_min_u64(stop, hv_round_down(at, TOOL_PIECE_BYTES) + TOOL_PIECE_BYTES);
		if (range->pick != ALLOCATED || !is_hole(range, at, stop)) {
			*offset = at;
			*length = stop - at;
			return 1;
		}
		at = stop;
	}
	return 0;
}

static void submit_to_file(void *target, struct hv_io *io)
{
	hv_file_submit(target, io);
}

static int pump(struct range *range, enum hv_io_op op, uint64_t *bytes, struct hv_err *err)
{
	struct tool_pump job = {
		.loop = range->file->loop,
		.submit = submit_to_file,
		.target = range->file,
		.path = range->file->path,
		.op = op,
		.next = next_piece,
		.arg = range,
		.start = range->offset,
		.end = range->end,
		.label = op == HV_READ ? "reading back" : "writing zeros",
		.quiet = range->quiet,
	};

	return tool_pump_run(&job, bytes, err);
}

/* Proof. */

static int expect_zeros(struct hv_file *file, uint64_t offset, uint64_t end, struct hv_err *err)
{
	_Alignas(PAGE) char piece[16 * PAGE];

	for (uint64_t at = offset; at < end; at += sizeof(piece)) {
		size_t size = hv_min_u64(sizeof(piece), end - at);
		int rc = hv_file_pread(file, piece, size, at, err);

		if (rc)
			return rc;
		if (!hv_is_zero(piece, size))
			return hv_fail(
				err, -EIO,
				"%s: the %s filesystem calls byte %llu unwritten, but something is there; --secure-zero=write overwrites it",
				file->path, hv_file_fs_name(file), (unsigned long long)at);
	}
	return 0;
}

static int sample(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	uint64_t pages = hv_div_up(length, PAGE);

	for (uint64_t i = 0; i < SAMPLES; i++) {
		uint64_t n = i == 1 ? pages - 1 : i * UINT64_C(0x9e3779b97f4a7c15) % pages;
		uint64_t at = offset + n * PAGE;
		int rc = expect_zeros(file, at, hv_min_u64(at + PAGE, offset + length), err);

		if (rc)
			return rc;
	}
	return 0;
}

static void tell_read_back(struct tool_zeroing *ret)
{
	snprintf(ret->verified, sizeof(ret->verified), "read back");
	snprintf(ret->grounds, sizeof(ret->grounds), "every byte was read back");
}

static void tell_extents(const char *fs, uint64_t extents, struct tool_zeroing *ret)
{
	snprintf(ret->grounds, sizeof(ret->grounds), "%.31s %s", fs,
		 extents ? "unwritten extents" : "holes");
	if (extents > 1)
		snprintf(ret->verified, sizeof(ret->verified), "FIEMAP: all %llu extents unwritten",
			 (unsigned long long)extents);
	else
		snprintf(ret->verified, sizeof(ret->verified), "FIEMAP: %s",
			 extents ? "its one extent is unwritten" : "nothing but a hole");
}

/* The kernel's word alone. */
static bool kernel_says_zero(struct hv_file *file, uint64_t offset, uint64_t length,
			     struct tool_zeroing *ret)
{
	const char *fs = hv_file_fs_name(file);
	struct hv_file_layout layout;
	uint64_t data, hole;

	if (file->block_device)
		return false;
	if (hv_file_layout(file, offset, length, &layout) == 0) {
		tell_extents(fs, layout.extents, ret);
		return layout.allocated_bytes == layout.unwritten_bytes;
	}
	snprintf(ret->grounds, sizeof(ret->grounds), "%.31s has no data there", fs);
	snprintf(ret->verified, sizeof(ret->verified), "SEEK_DATA: no data");
	return hv_file_next_data(file, offset, &data, &hole) == 0 &&
	       (data == hole || data >= offset + length);
}

/*
 * The end shares a block with what is behind the range, and filesystems write small neighbours of
 * what is written: the last bytes are read when the kernel vouches for those before only.
 */
static int prove_but_end(struct hv_file *file, uint64_t offset, uint64_t length,
			 struct tool_zeroing *ret, struct hv_err *err)
{
	uint64_t end = offset + length;
	uint64_t body_end = hv_max_u64(hv_round_down(end - 1, END_BYTES), offset);
	size_t used;
	int rc;

	if (file->block_device)
		return 0;
	if (body_end == offset)
		tell_read_back(ret);
	else if (!kernel_says_zero(file, offset, body_end - offset, ret))
		return 0;
	rc = expect_zeros(file, body_end, end, err);
	if (rc)
		return rc;
	used = strlen(ret->verified);
	if (body_end != offset)
		snprintf(ret->verified + used, sizeof(ret->verified) - used,
			 "; the last %llu KiB read back",
			 (unsigned long long)hv_div_up(end - body_end, 1024));
	return 1;
}

int tool_prove_zero(struct hv_file *file, uint64_t offset, uint64_t length,
		    struct tool_zeroing *ret, struct hv_err *err)
{
	int rc = kernel_says_zero(file, offset, length, ret) ?
			 1 :
			 prove_but_end(file, offset, length, ret, err);

	if (rc <= 0)
		return rc;
	rc = sample(file, offset, length, err);
	return rc ? rc : 1;
}

static int read_back(struct range *range, struct tool_zeroing *ret, struct hv_err *err)
{
	/* Without O_DIRECT, what was written must leave the page cache to be read from the medium. */
	if (!range->file->direct && range->file->fd >= 0)
		posix_fadvise(range->file->fd, 0, 0, POSIX_FADV_DONTNEED);
	tell_read_back(ret);
	return pump(range, HV_READ, NULL, err);
}

/* Methods. -EOPNOTSUPP: another one is needed. */

static int zero_range(struct hv_file *file, uint64_t offset, uint64_t length, struct hv_err *err)
{
	while (fallocate(file->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)length)) {
		if (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS || errno == EBADF)
			return -EOPNOTSUPP;
		if (errno != EINTR)
			return hv_fail_errno(err, -errno, "%s: cannot zero %llu bytes at %llu",
					     file->path, (unsigned long long)length,
					     (unsigned long long)offset);
	}
	return 0;
}

/* What reads as zeros already is left as it is. */
static int zero_extents(struct range *range, struct tool_zeroing *ret, struct hv_err *err)
{
	uint64_t at = range->offset, length = range->end - at, stop = at;
	struct stat st;
	int rc;

	if (tool_prove_zero(range->file, at, length, ret, NULL) > 0) {
		ret->method = "unwritten extents";
		if (hv_file_stat(range->file, &st) == 0 && !st.st_blocks)
			ret->method = "holes";
		return 0;
	}
	ret->method = "zero range";
	while ((rc = next_run(range, &at, &stop, err)) > 0) {
		rc = zero_range(range->file, at, stop - at, err);
		if (rc)
			return rc;
		at = stop;
	}
	return rc;
}

static int zero_device(struct range *range, struct tool_zeroing *ret, struct hv_err *err)
{
	struct hv_file *file = range->file;
	uint64_t end = hv_round_down(range->end, file->align_bytes);
	struct hv_progress progress;
	int rc = 0;

	ret->method = "BLKZEROOUT";
	hv_progress_start(&progress, "zeroing", range->end - range->offset, range->quiet);
	for (uint64_t at = range->offset; at < end && rc == 0;) {
		uint64_t step[2] = { at, hv_min_u64(DEVICE_STEP, end - at) };

		if (ioctl(file->fd, BLKZEROOUT, step) == 0) {
			at += step[1];
			hv_progress_update(&progress, at - range->offset);
		} else if (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOTTY) {
			rc = -EOPNOTSUPP;
		} else if (errno != EINTR) {
			rc = hv_fail_errno(err, -errno, "%s: cannot zero the device", file->path);
		}
	}
	hv_progress_end(&progress);
	if (rc == 0 && end < range->end)
		rc = hv_file_zero(file, end, range->end - end, err);
	return rc;
}

static int make_zero(struct range *range, const struct tool_zero_options *options,
		     struct tool_zeroing *ret, struct hv_err *err)
{
	int rc = -EOPNOTSUPP;

	ret->bytes = range->end - range->offset;
	range->pick = DATA;
	if (options->mode == TOOL_ZERO_AUTO)
		rc = range->file->block_device ? zero_device(range, ret, err) :
						 zero_extents(range, ret, err);
	if (rc != -EOPNOTSUPP)
		return rc;
	if (options->mode == TOOL_ZERO_WRITE)
		range->pick = options->fill_holes ? EVERYTHING : ALLOCATED;
	ret->method = "written";
	return pump(range, HV_WRITE, &ret->bytes, err);
}

int tool_zero_file(struct hv_file *file, uint64_t offset, uint64_t length,
		   const struct tool_zero_options *options, struct tool_zeroing *ret,
		   struct hv_err *err)
{
	struct range range = {
		.file = file, .offset = offset, .end = offset + length, .quiet = options->quiet
	};
	double start = hv_now(), verify_start;
	int rc = make_zero(&range, options, ret, err);

	ret->write_seconds = hv_now() - start;
	if (rc == 0)
		rc = hv_file_barrier(file, err);
	if (rc)
		return rc;
	verify_start = hv_now();
	if (options->mode == TOOL_ZERO_AUTO)
		rc = tool_prove_zero(file, offset, length, ret, err);
	if (rc == 0)
		rc = read_back(&range, ret, err);
	ret->verify_seconds = hv_now() - verify_start;
	ret->seconds = hv_now() - start;
	return rc < 0 ? rc : 0;
}

/* Telling. */

enum tool_zero_mode tool_zero_mode_of(const char *value)
{
	return strcmp(value, "write") ? TOOL_ZERO_AUTO : TOOL_ZERO_WRITE;
}

void tool_zeroing_json(struct hv_json *object, const struct tool_zeroing *zeroing)
{
	struct hv_json *json;

	if (!zeroing) {
		hv_json_set_null(object, "zeroing");
		return;
	}
	json = hv_json_set_object(object, "zeroing");
	hv_json_set_string(json, "method", zeroing->method);
	hv_json_set_number(json, "bytes", zeroing->bytes);
	hv_json_set_string(json, "verified", zeroing->verified);
	hv_json_set_real(json, "seconds", zeroing->seconds);
	hv_json_set_real(json, "write_seconds", zeroing->write_seconds);
	hv_json_set_real(json, "verify_seconds", zeroing->verify_seconds);
}

void tool_zeroing_print(const struct tool_zeroing *zeroing)
{
	char bytes[HV_SIZE_TEXT_SIZE];

	if (!zeroing)
		return;
	hv_size_format(zeroing->bytes, bytes);
	printf("zeroed: %s, %s; verified: %s; in %.2f s\n", bytes, zeroing->method,
	       zeroing->verified, zeroing->seconds);
}
