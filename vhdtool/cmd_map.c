/*
 * vhdtool map: what is where. One line (or one JSON object, in the form of `qemu-img map
 * --output=json`) for each extent, printed as it is found: memory does not grow with their number.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/checked.h"
#include "snapshot/chain.h"
#include "vhd/vhd.h"
#include "vhdtool/range.h"
#include "vhdtool/tool.h"

struct map_options {
	struct tool_source source;
	struct range_options range;
	bool json, quiet;
};

/* The files of a chain, ready to be printed: the leaf's first. */
struct layer_names {
	unsigned count;
	char **names;
};

static void free_names(struct layer_names *names)
{
	for (unsigned i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
}

/* "file": "NAME", without the braces that the printer puts around it. */
static char *json_member(const char *path)
{
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	HV_AUTO(free) char *line = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&line, &size);
	char *end;
	int rc;

	hv_json_set_string(json, "file", path);
	if (!out)
		return NULL;
	rc = hv_json_print_line(json, out);
	if (fclose(out) || rc)
		return NULL;
	end = strrchr(line, '}');
	return strndup(line + 1, (size_t)(end - line - 1));
}

static int collect_names(struct hv_disk *disk, bool json, struct layer_names *ret)
{
	do {
		char **names = realloc(ret->names, (ret->count + 1) * sizeof(*names));

		if (!names)
			return -ENOMEM;
		ret->names = names;
		names[ret->count] = json ? json_member(disk->path) : hv_harmless(disk->path);
		if (!names[ret->count++])
			return -ENOMEM;
		disk = vhd_is_vhd(disk) ? vhd_get_backing(disk) : NULL;
	} while (disk);
	return 0;
}

static void print_text(const struct hv_extent *extent, const char *file)
{
	if (extent->state != HV_EXTENT_DATA)
		printf("%14" PRIu64 " %14" PRIu64 "  zero       -              -  -\n",
		       extent->offset, extent->length);
	else if (extent->host_offset == HV_NO_HOST_OFFSET)
		printf("%14" PRIu64 " %14" PRIu64 "  data   %5u              -  %s\n",
		       extent->offset, extent->length, extent->depth, file);
	else
		printf("%14" PRIu64 " %14" PRIu64 "  data   %5u %14" PRIu64 "  %s\n",
		       extent->offset, extent->length, extent->depth, extent->host_offset, file);
}

static void print_json(const struct hv_extent *extent, const char *file, bool first)
{
	bool data = extent->state == HV_EXTENT_DATA;

	printf("%s{\"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, "
	       "\"zero\": %s, \"data\": %s",
	       first ? "" : ",\n", extent->offset, extent->length, extent->depth,
	       data ? "true" : "false", data ? "false" : "true", data ? "true" : "false");
	if (data && extent->host_offset != HV_NO_HOST_OFFSET)
		printf(", \"offset\": %" PRIu64, extent->host_offset);
	if (data)
		printf(", %s", file);
	putchar('}');
}

/* Extents consist of sectors; the range may begin and end anywhere. */
static int extent_within(struct hv_disk *disk, uint64_t at, uint64_t end, struct hv_extent *ret,
			 struct hv_err *err)
{
	uint64_t start = hv_round_down(at, HV_SECTOR_SIZE);
	int rc = hv_disk_extent(disk, start, hv_round_up(end, HV_SECTOR_SIZE) - start, 0, ret, err);

	if (rc)
		return rc;
	ret->offset += at - start;
	ret->length -= at - start;
	if (ret->host_offset != HV_NO_HOST_OFFSET)
		ret->host_offset += at - start;
	ret->length = hv_min_u64(ret->length, end - at);
	return 0;
}

static int print_extents(struct hv_disk *disk, const struct range *range,
			 const struct layer_names *names, const struct map_options *options,
			 struct hv_err *err)
{
	uint64_t at = range->offset, end = at + range->length;

	while (at < end && !ferror(stdout)) {
		struct hv_extent extent;
		int rc = extent_within(disk, at, end, &extent, err);

		if (rc)
			return rc;
		if (options->json)
			print_json(&extent, names->names[extent.depth], at == range->offset);
		else if (!options->quiet)
			print_text(&extent, names->names[extent.depth]);
		at += extent.length;
	}
	return 0;
}

static int print_map(struct hv_disk *disk, const struct range *range,
		     const struct map_options *options, struct hv_err *err)
{
	__attribute__((cleanup(free_names))) struct layer_names names = { 0 };
	int rc = collect_names(disk, options->json, &names);

	if (rc)
		return hv_fail_errno(err, rc, "%s", disk->path);
	if (options->json)
		putchar('[');
	else if (!options->quiet)
		printf("%14s %14s  %-6s %5s %14s  %s\n", "offset", "length", "state", "depth",
		       "host offset", "file");
	rc = print_extents(disk, range, &names, options, err);
	if (rc == 0 && options->json)
		puts("]");
	return rc;
}

static int run_map(void *arg, int operand_count, char **operands)
{
	const struct map_options *options = arg;
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct range range;
	HV_ERR(err);
	int rc;

	(void)operand_count;
	if (range_parse(&options->range, &range, &err))
		return tool_usage("map", "%s", err.sentence);
	rc = hv_loop_new(&loop, &err);
	if (rc == 0)
		rc = tool_open_source(operands[0], &options->source, loop, &disk, &err);
	if (rc == 0)
		rc = range_fit(&range, disk, &err);
	if (rc == 0)
		rc = print_map(disk, &range, options, &err);
	if (rc)
		return tool_failed(&err, rc);
	return tool_flush_output();
}

static const struct hv_option map_table[] = {
	RANGE_OPTIONS(struct map_options, range),
	TOOL_JSON_OPTION(struct map_options, json),
	TOOL_QUIET_OPTION(struct map_options, quiet),
	TOOL_SOURCE_OPTIONS(struct map_options, source),
	{ .name = NULL },
};

const struct hv_command cmd_map = {
	.name = "map",
	.synopsis = "[OPTION]... FILE",
	.help = "list the extents of a disk: data or zero, and in which file",
	.details = "The depth is 0 for what FILE itself holds, 1 for its parent, and so on.",
	.options = map_table,
	.min_operands = 1,
	.max_operands = 1,
	.options_size = sizeof(struct map_options),
	.run = run_map,
};
