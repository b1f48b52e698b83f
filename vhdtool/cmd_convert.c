/*
 * vhdtool convert: one disk, or a whole chain, into a new file of another format.
 *
 * The source is read ahead in order by extents; chunks are written as they come, several in flight.
 * Zeros, known or found, are not written: a new file is zero where nothing was written. The new
 * file has no name until it is complete and durable.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "hvcore/checked.h"
#include "hvcore/file.h"
#include "hvcore/probe.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"
#include "hvcore/size.h"
#include "vhd/vhd.h"
#include "vhdtool/tool.h"

#define CHUNK_BYTES (2u << 20) /* a block of a VHD, usually */
#define DEPTH 12               /* chunks in memory */

struct convert_options {
	struct tool_source source;
	const char *to, *geometry;
	uint64_t block_bytes;
	bool no_sparse, force, azure, json, quiet;
};

enum target { TO_RAW, TO_FIXED, TO_DYNAMIC };

static const char *const target_names[] = { "raw", "fixed", "dynamic" };

struct destination {
	const char *path;
	enum target target;
	struct hv_file *file; /* until a disk has taken it over */
	struct hv_disk *disk;
	bool device; /* zeros have to be written */
	uint64_t size_bytes;
};

/* A chunk on its way to the destination. */
struct transfer {
	struct hv_io io;
	struct iovec iov;
	struct hv_chunk chunk;
	struct copy *copy;
	struct transfer *next;
};

struct copy {
	struct hv_scan *scan;
	struct hv_disk *to;
	bool write_zeros;
	struct transfer *unused;
	unsigned in_flight;
	int result;
	struct hv_err err;
	uint64_t data_bytes;
};

static void transfer_done(struct hv_io *io, int result)
{
	struct transfer *transfer = (struct transfer *)io;
	struct copy *copy = transfer->copy;

	if (result && !copy->result)
		copy->result = result;
	if (transfer->chunk.data)
		hv_scan_release(copy->scan, &transfer->chunk);
	transfer->next = copy->unused;
	copy->unused = transfer;
	copy->in_flight--;
}

static struct transfer *take_transfer(struct copy *copy)
{
	struct transfer *transfer = copy->unused;

	if (transfer)
		copy->unused = transfer->next;
	else
		transfer = malloc(sizeof(*transfer));
	return transfer;
}

static int send_chunk(struct copy *copy, const struct hv_chunk *chunk)
{
	struct transfer *transfer = take_transfer(copy);
	union {
		const void *in;
		void *out;
	} memory = { .in = chunk->data };

	if (!transfer)
		return hv_fail(&copy->err, -ENOMEM, "not enough memory");
	transfer->chunk = *chunk;
	transfer->copy = copy;
	transfer->iov = (struct iovec){ memory.out, chunk->length };
	transfer->io = (struct hv_io){ .op = chunk->data ? HV_WRITE : HV_ZERO,
				       .offset = chunk->offset,
				       .length = chunk->length,
				       .iov = chunk->data ? &transfer->iov : NULL,
				       .iov_count = chunk->data ? 1 : 0,
				       .err = &copy->err,
				       .done = transfer_done };
	copy->in_flight++;
	hv_disk_submit(copy->to, &transfer->io);
	return 0;
}

static int copy_chunks(struct copy *copy, struct hv_progress *progress)
{
	struct hv_chunk chunk;
	int rc;

	while (!copy->result && (rc = hv_scan_next(copy->scan, &chunk, &copy->err)) != 0) {
		if (rc < 0)
			return rc;
		if (chunk.data)
			copy->data_bytes += chunk.length;
		hv_progress_update(progress, chunk.offset);
		if (chunk.data || copy->write_zeros) {
			rc = send_chunk(copy, &chunk);
			if (rc)
				return rc;
		}
		if (!chunk.data)
			hv_scan_release(copy->scan, &chunk);
	}
	return copy->result;
}

static int copy_disk(struct hv_disk *from, const struct destination *to, bool quiet,
		     uint64_t *data_bytes, struct hv_err *err)
{
	struct copy copy = { .to = to->disk, .write_zeros = to->device };
	struct hv_scan_options scan = { .chunk_bytes = CHUNK_BYTES,
					.depth = DEPTH,
					.find_zeros = true };
	struct hv_progress progress;
	int rc;

	hv_err_clear(&copy.err);
	rc = hv_scan_new(from, &scan, &copy.scan, err);
	if (rc)
		return rc;
	hv_progress_start(&progress, "converting", from->size_bytes, quiet);
	rc = copy_chunks(&copy, &progress);
	while (copy.in_flight)
		hv_loop_turn(from->loop, true);
	hv_progress_end(&progress);
	if (rc == 0)
		rc = copy.result;
	hv_scan_free(copy.scan);
	while (copy.unused) {
		struct transfer *transfer = copy.unused;

		copy.unused = transfer->next;
		free(transfer);
	}
	*data_bytes = copy.data_bytes;
	return rc ? hv_fail(err, rc, "%s", hv_err_text(&copy.err, rc)) : 0;
}

/* The destination. */

static int look_at_device(const struct destination *to, bool force, struct hv_loop *loop,
			  struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	HV_AUTO(free) char *what = NULL;
	struct hv_file *file;
	int rc = hv_file_open(to->path, 0, loop, &file, err);

	if (rc)
		return rc;
	rc = hv_raw_open(file, file->size_bytes, &disk, err);
	if (rc) {
		hv_file_close(file);
		return rc;
	}
	rc = hv_probe_disk(disk, &probe, err);
	if (rc || force)
		return rc;
	what = hv_probe_describe(probe);
	return hv_fail(err, -EEXIST, "%s: %s%s would be overwritten; --force does it", to->path,
		       what ? "holds " : "the device", what ? what : "");
}

/* With --force-share no lock keeps us from the source itself and its parents. */
static int refuse_source(const struct destination *to, struct hv_disk *from, struct hv_err *err)
{
	struct stat target, layer;

	if (stat(to->path, &target))
		return 0;
	for (; from; from = vhd_is_vhd(from) ? vhd_get_backing(from) : NULL) {
		if (stat(from->path, &layer) == 0 && layer.st_dev == target.st_dev &&
		    layer.st_ino == target.st_ino)
			return hv_fail(err, -EBUSY,
				       "%s: in use as the source or a parent of it, not replaced",
				       to->path);
	}
	return 0;
}

static int open_destination(struct destination *to, const struct convert_options *options,
			    struct hv_loop *loop, struct hv_err *err)
{
	/* What is written goes to the medium before the name appears: the page cache would only be
	 * a detour. */
	unsigned flags = HV_FILE_DIRECT;
	struct stat st;
	int rc;

	to->device = stat(to->path, &st) == 0 && S_ISBLK(st.st_mode);
	if (!to->device)
		return hv_file_create(to->path, flags, options->force, loop, &to->file, err);
	if (to->target == TO_DYNAMIC)
		return hv_fail(err, -EINVAL, "%s: a block device can hold raw or fixed only",
			       to->path);
	rc = look_at_device(to, options->force, loop, err);
	return rc ? rc : hv_file_open(to->path, flags | HV_FILE_WRITE, loop, &to->file, err);
}

static int reserve_all(struct hv_file *file, uint64_t size_bytes, struct hv_err *err)
{
	int rc = hv_file_reserve(file, 0, size_bytes);

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot reserve %llu bytes", file->path,
				     (unsigned long long)size_bytes);
	return 0;
}

static int prepare_flat(struct destination *to, const struct vhd_create_options *create,
			bool no_sparse, struct hv_err *err)
{
	uint64_t footer = to->target == TO_FIXED ? VHD_FOOTER_BYTES : 0;
	uint64_t needed = to->size_bytes + footer;
	int rc = 0;

	if (to->device && to->file->size_bytes < needed)
		return hv_fail(err, -ENOSPC, "%s: has room for %llu bytes, %llu are needed",
			       to->path, (unsigned long long)to->file->size_bytes,
			       (unsigned long long)needed);
	if (!to->device && no_sparse)
		rc = reserve_all(to->file, needed, err);
	if (rc == 0 && !to->device)
		rc = hv_file_truncate(to->file, to->size_bytes, err);
	if (rc == 0 && footer)
		rc = vhd_create(to->file, create, err);
	if (rc == 0 && footer)
		rc = vhd_open(to->file, 0, &to->disk, err);
	else if (rc == 0)
		rc = hv_raw_open(to->file, to->size_bytes, &to->disk, err);
	if (to->disk)
		to->file = NULL;
	return rc;
}

static int prepare_dynamic(struct destination *to, const struct vhd_create_options *create,
			   struct hv_err *err)
{
	int rc = vhd_create(to->file, create, err);

	if (rc == 0)
		rc = vhd_open(to->file, VHD_OPEN_UNORDERED, &to->disk, err);
	if (rc == 0)
		to->file = NULL;
	return rc;
}

static int make_complete(struct destination *to, struct hv_file *raw_file, struct hv_err *err)
{
	struct hv_file *file = to->target == TO_RAW ? raw_file : vhd_get_file(to->disk);
	int rc = hv_disk_flush(to->disk, err);

	if (rc || to->device)
		return rc;
	return hv_file_publish(file, err);
}

/* Can there be such a VHD? */
static int check_size(const struct hv_disk *from, const struct destination *to,
		      const struct vhd_create_options *create, struct hv_err *err)
{
	HV_ERR(cause);
	int rc;

	if (!to->size_bytes)
		return hv_fail(err, -EINVAL, "%s: is empty, but a VHD has at least one sector",
			       from->path);
	rc = vhd_create_check(create, &cause);
	return rc ? hv_fail(err, rc, "%s: %s", to->path, hv_err_text(&cause, rc)) : 0;
}

/* The whole work, once the source is open. */
static int convert(struct hv_disk *from, struct destination *to,
		   const struct convert_options *options, uint64_t *data_bytes, struct hv_err *err)
{
	struct vhd_create_options create = {
		.type = to->target == TO_FIXED ? VHD_FIXED : VHD_DYNAMIC,
		.size_bytes = to->size_bytes,
		.block_bytes = (uint32_t)options->block_bytes,
		.geometry = options->geometry && !strcmp(options->geometry, "spec") ?
				    VHD_GEOMETRY_SPEC :
				    VHD_GEOMETRY_EXACT_MAX,
	};
	struct hv_file *raw_file;
	int rc = to->target == TO_RAW ? 0 : check_size(from, to, &create, err);

	if (rc == 0)
		rc = refuse_source(to, from, err);
	if (rc == 0)
		rc = open_destination(to, options, from->loop, err);
	if (rc)
		return rc;
	raw_file = to->file;
	rc = to->target == TO_DYNAMIC ? prepare_dynamic(to, &create, err) :
					prepare_flat(to, &create, options->no_sparse, err);
	if (rc == 0)
		rc = copy_disk(from, to, options->quiet || options->json, data_bytes, err);
	if (rc == 0 && to->target == TO_DYNAMIC && options->no_sparse) {
		const struct vhd_info *info = vhd_get_info(to->disk);

		rc = reserve_all(vhd_get_file(to->disk), info->data_end, err);
	}
	if (rc == 0)
		rc = make_complete(to, raw_file, err);
	return rc;
}

/* The command line. */

static bool choose_target(const struct convert_options *options, const char *path, enum target *ret)
{
	static const char *const raw_names[] = { ".raw", ".img", ".bin", ".dd", NULL };
	const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');

	for (int i = 0; options->to && i < 3; i++) {
		if (!strcmp(options->to, target_names[i])) {
			*ret = (enum target)i;
			return true;
		}
	}
	if (options->azure) {
		*ret = TO_FIXED;
		return true;
	}
	for (int i = 0; dot && raw_names[i]; i++) {
		if (!strcasecmp(dot, raw_names[i])) {
			*ret = TO_RAW;
			return true;
		}
	}
	return false;
}

static uint64_t azure_size(uint64_t size_bytes)
{
	return hv_max_u64(hv_round_up(size_bytes, 1u << 20), 20u << 20);
}

static int report(const struct convert_options *options, const char *source,
		  const struct destination *to, uint64_t data_bytes, double seconds)
{
	char size[HV_SIZE_TEXT_SIZE], data[HV_SIZE_TEXT_SIZE];

	if (options->json) {
		HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

		hv_json_set_string(json, "source", source);
		hv_json_set_string(json, "file", to->path);
		hv_json_set_string(json, "format", target_names[to->target]);
		hv_json_set_number(json, "size_bytes", to->size_bytes);
		hv_json_set_number(json, "data_bytes", data_bytes);
		hv_json_set_real(json, "seconds", seconds);
		return tool_print_json(json);
	}
	if (options->quiet)
		return TOOL_DONE;
	hv_size_format(to->size_bytes, size);
	hv_size_format(data_bytes, data);
	printf("%s: %s, %s, %s of data, in %.2f s\n", to->path, target_names[to->target], size,
	       data, seconds);
	return tool_flush_output();
}

static int run_convert(void *arg, int count, char **operands)
{
	const struct convert_options *options = arg;
	struct destination to = { .path = operands[1] };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *from = NULL;
	double started = hv_now();
	uint64_t data_bytes = 0;
	HV_ERR(err);
	int rc;

	(void)count;
	if (!choose_target(options, to.path, &to.target))
		return tool_usage(
			"convert",
			"%s: the name does not tell the format; say --to raw, --to fixed or --to dynamic",
			to.path);
	if (options->azure && to.target != TO_FIXED)
		return tool_usage("convert", "--azure makes a fixed disk, not %s",
				  target_names[to.target]);
	if (options->block_bytes && to.target != TO_DYNAMIC)
		return tool_usage("convert", "--block-size goes with --to dynamic only");
	if (options->block_bytes > UINT32_MAX)
		return tool_usage(
			"convert",
			"a block size of %llu bytes is not possible; it is a power of two from 512K to 256M",
			(unsigned long long)options->block_bytes);
	rc = hv_loop_new(&loop, &err);
	if (rc == 0)
		rc = tool_open_source(operands[0], &options->source, loop, &from, &err);
	if (rc)
		return tool_failed(&err, rc);
	to.size_bytes = options->azure ? azure_size(from->size_bytes) : from->size_bytes;
	if (to.size_bytes != from->size_bytes && !options->quiet && !options->json)
		printf("%s: rounded up from %llu to %llu bytes for Azure\n", to.path,
		       (unsigned long long)from->size_bytes, (unsigned long long)to.size_bytes);
	rc = convert(from, &to, options, &data_bytes, &err);
	hv_disk_close(to.disk);
	hv_file_close(to.file);
	if (rc)
		return tool_failed(&err, rc);
	return report(options, operands[0], &to, data_bytes, hv_now() - started);
}

static const struct hv_option options_table[] = {
	{ .name = "to",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|fixed|dynamic",
	  .help = "format of the new file (default: by its name, when that is clear)",
	  .offset = offsetof(struct convert_options, to) },
	TOOL_SOURCE_OPTIONS(struct convert_options, source),
	TOOL_DIRECT_OPTION(struct convert_options, source.direct),
	{ .name = "no-sparse",
	  .kind = HV_OPTION_FLAG,
	  .help = "reserve all space: Windows does not attach sparse files",
	  .offset = offsetof(struct convert_options, no_sparse) },
	{ .name = "block-size",
	  .kind = HV_OPTION_SIZE,
	  .argument = "SIZE",
	  .help = "block size of a dynamic disk (512K to 256M; default 2M)",
	  .offset = offsetof(struct convert_options, block_bytes) },
	{ .name = "geometry",
	  .kind = HV_OPTION_STRING,
	  .argument = "RULE",
	  .choices = "exact-max|spec",
	  .help = "CHS in the footer: every reader sees the exact size, or as Virtual PC wants it",
	  .offset = offsetof(struct convert_options, geometry) },
	{ .name = "azure",
	  .kind = HV_OPTION_FLAG,
	  .help = "a fixed disk of whole MiB, at least 20 MiB, as Azure accepts it",
	  .offset = offsetof(struct convert_options, azure) },
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "replace an existing file, overwrite a device",
	  .offset = offsetof(struct convert_options, force) },
	TOOL_JSON_OPTION(struct convert_options, json),
	TOOL_QUIET_OPTION(struct convert_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_convert = {
	.name = "convert",
	.synopsis = "[OPTION]... SRC DST",
	.help = "copy a disk, or a whole chain, into a new file of another format",
	.details = "DST appears under its name only when it is complete. SRC is never changed.",
	.options = options_table,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct convert_options),
	.run = run_convert,
};
