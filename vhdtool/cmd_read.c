/*
 * vhdtool read: bytes of a disk to standard output or into a new file.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "hvcore/file.h"
#include "vhdtool/range.h"
#include "vhdtool/tool.h"

#define PIECE_BYTES (1u << 20)
#define BUFFER_ALIGN 4096

struct read_options {
	struct tool_source source;
	struct range_options range;
	const char *output;
	bool force;
};

/* Where the bytes go: a new file, or standard output. */
struct sink {
	struct hv_file *file;
	uint64_t written;
};

static int write_out(const uint8_t *data, size_t length, struct hv_err *err)
{
	while (length) {
		ssize_t n = write(STDOUT_FILENO, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hv_fail_errno(err, -errno, "cannot write to standard output");
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static int put(struct sink *sink, const uint8_t *data, size_t length, struct hv_err *err)
{
	int rc = sink->file ? hv_file_pwrite(sink->file, data, length, sink->written, err) :
			      write_out(data, length, err);

	sink->written += length;
	return rc;
}

/* Pieces end at multiples of their size, so that all but the edges are aligned. */
static int copy(struct hv_disk *disk, const struct range *range, struct sink *sink,
		struct hv_err *err)
{
	HV_AUTO(free) uint8_t *buffer = aligned_alloc(BUFFER_ALIGN, PIECE_BYTES);
	uint64_t at = range->offset, end = at + range->length;

	if (!buffer)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	while (at < end) {
		uint64_t next = hv_min_u64(end, hv_round_down(at, PIECE_BYTES) + PIECE_BYTES);
		uint64_t start = hv_round_down(at, HV_SECTOR_SIZE);
		uint64_t length = hv_round_up(next, HV_SECTOR_SIZE) - start;
		int rc = hv_disk_pread(disk, buffer, length, start, err);

		if (rc == 0)
			rc = put(sink, buffer + (at - start), next - at, err);
		if (rc)
			return rc;
		at = next;
	}
	return 0;
}

static int read_disk(const char *path, const struct read_options *options, struct range *range,
		     struct hv_err *err)
{
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct sink sink = { 0 };
	int rc = hv_loop_new(&loop, err);

	if (rc == 0)
		rc = tool_open_source(path, &options->source, loop, &disk, err);
	if (rc == 0)
		rc = range_fit(range, disk, err);
	if (rc == 0 && options->output)
		rc = hv_file_create(options->output, 0, options->force, loop, &file, err);
	if (rc)
		return rc;
	sink.file = file;
	rc = copy(disk, range, &sink, err);
	if (rc == 0 && file)
		rc = hv_file_publish(file, err);
	return rc;
}

static int run_read(void *arg, int operand_count, char **operands)
{
	const struct read_options *options = arg;
	struct range range;
	HV_ERR(err);
	int rc;

	(void)operand_count;
	if (range_parse(&options->range, &range, &err))
		return tool_usage("read", "%s", err.sentence);
	if (!options->output && isatty(STDOUT_FILENO))
		return tool_usage(
			"read",
			"a disk's bytes are not for a terminal: redirect them or use -o FILE");
	rc = read_disk(operands[0], options, &range, &err);
	return rc ? tool_failed(&err, rc) : TOOL_DONE;
}

static const struct hv_option read_table[] = {
	RANGE_OPTIONS(struct read_options, range),
	{ .name = "output",
	  .letter = 'o',
	  .kind = HV_OPTION_STRING,
	  .argument = "OUT",
	  .help = "make this file (default: standard output)",
	  .offset = offsetof(struct read_options, output) },
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "replace OUT if it exists",
	  .offset = offsetof(struct read_options, force) },
	TOOL_SOURCE_OPTIONS(struct read_options, source),
	{ .name = NULL },
};

const struct hv_command cmd_read = {
	.name = "read",
	.synopsis = "[OPTION]... FILE",
	.help = "copy bytes of a disk to standard output or into a file",
	.details = "Offset and length may be any number of bytes; both must lie inside the disk.",
	.options = read_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct read_options),
	.run = run_read,
};
