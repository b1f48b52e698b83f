/*
 * vhdtool write: bytes from standard input or a file into a disk, at any offset. Sectors that are
 * touched in part are read first. The disk keeps its size; in a differencing disk only the sectors
 * written leave the parent's hands.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "vhdtool/tool.h"

#define PIECE_BYTES (1u << 20)
#define BUFFER_ALIGN 4096

struct write_options {
	const char *format, *parent, *input;
	uint64_t offset;
	bool quiet;
};

struct source {
	const char *name; /* for sentences */
	int fd;
	bool owned;
	struct stat st;
};

static void close_source(struct source *source)
{
	if (source->owned)
		close(source->fd);
}

static int open_source(const char *path, struct source *ret, struct hv_err *err)
{
	*ret = (struct source){ .name = path ? path : "standard input", .fd = STDIN_FILENO };
	if (path) {
		ret->fd = open(path, O_RDONLY | O_CLOEXEC);
		ret->owned = ret->fd >= 0;
	}
	if (ret->fd < 0 || fstat(ret->fd, &ret->st))
		return hv_fail_errno(err, -errno, "%s: cannot open", ret->name);
	if (S_ISDIR(ret->st.st_mode))
		return hv_fail(err, -EISDIR, "%s: is a directory", ret->name);
	return 0;
}

/* What is known before anything is written. */
static int judge(const struct source *source, const struct hv_disk *disk, uint64_t offset,
		 struct hv_err *err)
{
	struct stat st;
	off_t at;

	if (offset > disk->size_bytes)
		return hv_fail(err, -EINVAL,
			       "%s: offset %" PRIu64 " is beyond the disk's end at %" PRIu64,
			       disk->path, offset, disk->size_bytes);
	if (!S_ISREG(source->st.st_mode))
		return 0;
	if (stat(disk->path, &st) == 0 && st.st_dev == source->st.st_dev &&
	    st.st_ino == source->st.st_ino)
		return hv_fail(err, -EINVAL, "%s: a disk cannot be written into itself",
			       disk->path);
	at = lseek(source->fd, 0, SEEK_CUR);
	if (at >= 0 && source->st.st_size > at &&
	    (uint64_t)(source->st.st_size - at) > disk->size_bytes - offset)
		return hv_fail(err, -EINVAL,
			       "%s: %s has %" PRIu64 " bytes, but from offset %" PRIu64
			       " the disk has only %" PRIu64 "; nothing was written",
			       disk->path, source->name, (uint64_t)(source->st.st_size - at),
			       offset, disk->size_bytes - offset);
	return 0;
}

/* Fills the buffer as far as the input goes. */
static int read_in(const struct source *source, uint8_t *data, size_t length, size_t *ret,
		   struct hv_err *err)
{
	size_t have = 0;

	while (have < length) {
		ssize_t n = read(source->fd, data + have, length - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hv_fail_errno(err, -errno, "%s: cannot read", source->name);
		if (n == 0)
			break;
		have += (size_t)n;
	}
	*ret = have;
	return 0;
}

/*
 * Writes the bytes [at, next), which lie in the buffer where they lie in their sectors; what else
 * the first and the last sector hold is read into the buffer first.
 */
static int write_piece(struct hv_disk *disk, uint8_t *buffer, uint64_t at, uint64_t next,
		       struct hv_err *err)
{
	uint64_t start = hv_round_down(at, HV_SECTOR_SIZE), end = hv_round_up(next, HV_SECTOR_SIZE);
	uint64_t last = end - HV_SECTOR_SIZE;
	uint8_t edge[HV_SECTOR_SIZE];
	int rc = 0;

	if (start < at) {
		rc = hv_disk_pread(disk, edge, sizeof(edge), start, err);
		memcpy(buffer, edge, at - start);
	}
	if (rc == 0 && next < end) {
		rc = hv_disk_pread(disk, edge, sizeof(edge), last, err);
		memcpy(buffer + (next - start), edge + (next - last), end - next);
	}
	return rc ? rc : hv_disk_pwrite(disk, buffer, end - start, start, err);
}

static int refuse_more(const struct source *source, const struct hv_disk *disk, struct hv_err *err)
{
	uint8_t byte;
	size_t got = 0;
	int rc = read_in(source, &byte, 1, &got, err);

	if (rc || !got)
		return rc;
	return hv_fail(
		err, -ENOSPC,
		"%s: %s has more bytes than fit; the disk was written up to its end at %" PRIu64,
		disk->path, source->name, disk->size_bytes);
}

/* *ret is the end of what was written, also on failure. */
static int copy(struct hv_disk *disk, const struct source *source, uint64_t offset, uint64_t *ret,
		struct hv_err *err)
{
	HV_AUTO(free) uint8_t *buffer = aligned_alloc(BUFFER_ALIGN, PIECE_BYTES);
	uint64_t at = offset;

	*ret = offset;
	if (!buffer)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	while (at < disk->size_bytes) {
		uint64_t start = hv_round_down(at, HV_SECTOR_SIZE);
		uint64_t next =
			hv_min_u64(disk->size_bytes, hv_round_down(at, PIECE_BYTES) + PIECE_BYTES);
		size_t got = 0;
		int rc = read_in(source, buffer + (at - start), next - at, &got, err);

		if (rc == 0 && got)
			rc = write_piece(disk, buffer, at, at + got, err);
		if (rc)
			return rc;
		at += got;
		*ret = at;
		if (at < next)
			return 0;
	}
	return refuse_more(source, disk, err);
}

static int write_disk(const char *path, const struct write_options *options, uint64_t *ret,
		      struct hv_err *err)
{
	const struct snap_open_options how = {
		.flags = SNAP_OPEN_WRITE,
		.format = options->format,
		.parent_path = options->parent,
	};
	__attribute__((cleanup(close_source))) struct source source = { .fd = -1 };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	uint64_t end;
	int rc = open_source(options->input, &source, err), flushed;

	if (rc == 0)
		rc = hv_loop_new(&loop, err);
	if (rc == 0)
		rc = snap_open(path, &how, loop, &disk, err);
	if (rc == 0)
		rc = judge(&source, disk, options->offset, err);
	if (rc)
		return rc;
	rc = copy(disk, &source, options->offset, &end, err);
	/* What was written is durable, also when the rest could not be had. */
	flushed = hv_disk_flush(disk, err);
	*ret = end - options->offset;
	return rc ? rc : flushed;
}

static int run_write(void *arg, int operand_count, char **operands)
{
	const struct write_options *options = arg;
	uint64_t written = 0;
	HV_ERR(err);
	int rc = write_disk(operands[0], options, &written, &err);

	(void)operand_count;
	if (rc)
		return tool_failed(&err, rc);
	if (!options->quiet)
		printf("%s: wrote %" PRIu64 " bytes at %" PRIu64 "\n", operands[0], written,
		       options->offset);
	return tool_flush_output();
}

static const struct hv_option write_table[] = {
	{ .name = "offset",
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "where to begin (default: the start of the disk)",
	  .offset = offsetof(struct write_options, offset) },
	{ .name = "from-file",
	  .kind = HV_OPTION_STRING,
	  .argument = "IN",
	  .help = "what to write (default: standard input)",
	  .offset = offsetof(struct write_options, input) },
	{ .name = "from",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of the disk (default: found by looking)",
	  .offset = offsetof(struct write_options, format) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct write_options, parent) },
	TOOL_QUIET_OPTION(struct write_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_write = {
	.name = "write",
	.synopsis = "[OPTION]... FILE",
	.help = "copy bytes from standard input or a file into a disk",
	.details =
		"The disk keeps its size: an input file that does not fit is refused before anything is\n"
		"written. Do not write to a disk that has children: they would see the change.",
	.options = write_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct write_options),
	.run = run_write,
};
