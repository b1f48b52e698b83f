/*
 * vhdtool compare: do two disks hold the same, whatever their formats? Both are read in parallel;
 * what is zero on both sides costs nothing. Where one disk is longer, the rest of it has to be zero.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"
#include "vhdtool/tool.h"

struct compare_options {
	const char *from_b;
	struct tool_source source;
	bool json, quiet, strict;
};

struct side {
	struct hv_disk *disk;
	struct hv_scan *scan;
	struct hv_chunk chunk;
	uint64_t used; /* bytes of chunk that were compared */
	bool ended;
};

struct difference {
	uint64_t first; /* offset of the first differing byte */
	uint64_t sectors;
};

/* Makes sure that the side has a chunk with something left. */
static int refill(struct side *side, struct hv_err *err)
{
	int rc;

	if (side->ended || side->used < side->chunk.length)
		return 0;
	if (side->chunk.length)
		hv_scan_release(side->scan, &side->chunk);
	side->chunk = (struct hv_chunk){ 0 };
	side->used = 0;
	rc = hv_scan_next(side->scan, &side->chunk, err);
	if (rc == 0) { /* past the end is zero */
		side->ended = true;
		side->chunk = (struct hv_chunk){ .length = UINT64_MAX };
	}
	return rc < 0 ? rc : 0;
}

static const char *data_of(const struct side *side)
{
	return side->chunk.data ? (const char *)side->chunk.data + side->used : NULL;
}

static bool same(const char *a, const char *b, uint64_t length)
{
	if (a && b)
		return !memcmp(a, b, length);
	if (a || b)
		return hv_is_zero(a ? a : b, length);
	return true;
}

static uint64_t first_byte(const char *a, const char *b, uint64_t length)
{
	uint64_t i = 0;

	while (i < length && (a ? a[i] : 0) == (b ? b[i] : 0))
		i++;
	return i;
}

static void count_differences(const char *a, const char *b, uint64_t offset, uint64_t length,
			      struct difference *difference)
{
	if (same(a, b, length))
		return;
	for (uint64_t at = 0; at < length; at += HV_SECTOR_SIZE) {
		uint64_t n = hv_min_u64(HV_SECTOR_SIZE, length - at);
		const char *x = a ? a + at : NULL, *y = b ? b + at : NULL;

		if (same(x, y, n))
			continue;
		if (!difference->sectors++)
			difference->first = offset + at + first_byte(x, y, n);
	}
}

static int compare_disks(struct side *a, struct side *b, bool quiet, struct difference *ret,
			 struct hv_err *err)
{
	uint64_t total = hv_max_u64(a->disk->size_bytes, b->disk->size_bytes), offset = 0;
	struct hv_progress progress;
	int rc = hv_scan_new(a->disk, NULL, &a->scan, err);

	if (rc == 0)
		rc = hv_scan_new(b->disk, NULL, &b->scan, err);
	hv_progress_start(&progress, "comparing", total, quiet);
	while (rc == 0 && offset < total) {
		uint64_t length;

		rc = refill(a, err);
		if (rc == 0)
			rc = refill(b, err);
		if (rc)
			break;
		length = hv_min_u64(a->chunk.length - a->used, b->chunk.length - b->used);
		length = hv_min_u64(length, total - offset);
		count_differences(data_of(a), data_of(b), offset, length, ret);
		a->used += length;
		b->used += length;
		offset += length;
		hv_progress_update(&progress, offset);
	}
	hv_progress_end(&progress);
	return rc;
}

static int report(const struct compare_options *options, char **paths, const struct side *a,
		  const struct side *b, const struct difference *difference)
{
	bool same_size = a->disk->size_bytes == b->disk->size_bytes;
	bool identical = !difference->sectors && (same_size || !options->strict);

	if (options->json) {
		HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();

		hv_json_set_bool(json, "identical", identical);
		hv_json_set_number(json, "size_bytes_a", a->disk->size_bytes);
		hv_json_set_number(json, "size_bytes_b", b->disk->size_bytes);
		hv_json_set_number(json, "differing_sectors", difference->sectors);
		if (difference->sectors)
			hv_json_set_number(json, "first_difference", difference->first);
		else
			hv_json_set_null(json, "first_difference");
		if (tool_print_json(json) != TOOL_DONE)
			return TOOL_FAILED;
	} else if (!options->quiet) {
		if (difference->sectors)
			printf("%s and %s differ: first at byte %" PRIu64 ", in %" PRIu64
			       " sectors\n",
			       paths[0], paths[1], difference->first, difference->sectors);
		else if (!same_size)
			printf("%s and %s hold the same, but are of different size: %" PRIu64
			       " and %" PRIu64 " bytes\n",
			       paths[0], paths[1], a->disk->size_bytes, b->disk->size_bytes);
		else
			printf("%s and %s are identical\n", paths[0], paths[1]);
		if (tool_flush_output() != TOOL_DONE)
			return TOOL_FAILED;
	}
	return identical ? TOOL_DONE : TOOL_FAILED;
}

static int run_compare(void *arg, int count, char **operands)
{
	const struct compare_options *options = arg;
	struct tool_source source_b = { .format = options->from_b,
					.force_share = options->source.force_share,
					.direct = options->source.direct };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	struct difference difference = { 0 };
	struct side a = { 0 }, b = { 0 };
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err), status = TOOL_FAILED;

	(void)count;
	if (rc == 0)
		rc = tool_open_source(operands[0], &options->source, loop, &a.disk, &err);
	if (rc == 0)
		rc = tool_open_source(operands[1], &source_b, loop, &b.disk, &err);
	if (rc == 0)
		rc = compare_disks(&a, &b, options->quiet || options->json, &difference, &err);
	status = rc ? tool_failed(&err, rc) : report(options, operands, &a, &b, &difference);
	hv_scan_free(a.scan);
	hv_scan_free(b.scan);
	hv_disk_close(a.disk);
	hv_disk_close(b.disk);
	return status;
}

static const struct hv_option options_table[] = {
	TOOL_SOURCE_OPTIONS(struct compare_options, source),
	{ .name = "from-b",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of the second disk",
	  .offset = offsetof(struct compare_options, from_b) },
	{ .name = "strict",
	  .letter = 's',
	  .kind = HV_OPTION_FLAG,
	  .help = "disks of different size differ, even if the rest is zero",
	  .offset = offsetof(struct compare_options, strict) },
	TOOL_DIRECT_OPTION(struct compare_options, source.direct),
	TOOL_JSON_OPTION(struct compare_options, json),
	TOOL_QUIET_OPTION(struct compare_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_compare = {
	.name = "compare",
	.synopsis = "[OPTION]... FILE FILE",
	.help = "compare the contents of two disks",
	.details =
		"Exit status 0 means that both hold the same, 1 that they differ (or cannot be read).",
	.options = options_table,
	.min_operands = 2,
	.max_operands = 2,
	.options_size = sizeof(struct compare_options),
	.run = run_compare,
};
