/*
 * vhdtool hash: SHA-256 of what the disk holds, whatever the format. Reads run ahead of the
 * computation; what is known to be zero is not read.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/digest.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"
#include "vhdtool/tool.h"

/* Chunks of 1 MiB: enough to go on reading while a stretch of zeros is computed. */
#define DEPTH 48

struct hash_options {
	struct tool_source source;
	bool json, quiet;
};

static int hash_disk(struct hv_disk *disk, bool quiet, char text[HV_SHA256_TEXT_SIZE],
		     struct hv_err *err)
{
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = NULL;
	HV_AUTO(hv_scan_free) struct hv_scan *scan = NULL;
	struct hv_progress progress;
	struct hv_chunk chunk;
	int rc = hv_sha256_new(&sha);

	if (rc)
		return hv_fail_errno(err, rc, "cannot compute SHA-256");
	rc = hv_scan_new(disk, &(struct hv_scan_options){ .depth = DEPTH }, &scan, err);
	if (rc)
		return rc;
	hv_progress_start(&progress, "hashing", disk->size_bytes, quiet);
	while ((rc = hv_scan_next(scan, &chunk, err)) > 0) {
		if (chunk.data)
			hv_sha256_update(sha, chunk.data, chunk.length);
		else
			hv_sha256_update_zeros(sha, chunk.length);
		hv_progress_update(&progress, chunk.offset + chunk.length);
		hv_scan_release(scan, &chunk);
	}
	hv_progress_end(&progress);
	if (rc == 0)
		hv_sha256_final(sha, text);
	return rc;
}

/* As sha256sum prints it, odd names included. */
static void print_line(const char *digest, const char *path)
{
	if (strpbrk(path, "\\\n\r"))
		putchar('\\');
	printf("%s  ", digest);
	for (; *path; path++) {
		if (*path == '\\')
			fputs("\\\\", stdout);
		else if (*path == '\n')
			fputs("\\n", stdout);
		else if (*path == '\r')
			fputs("\\r", stdout);
		else
			putchar(*path);
	}
	putchar('\n');
}

static int hash_file(const char *path, const struct hash_options *options, struct hv_loop *loop,
		     struct hv_json *list)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	char digest[HV_SHA256_TEXT_SIZE];
	HV_ERR(err);
	int rc = tool_open_source(path, &options->source, loop, &disk, &err);

	if (rc == 0)
		rc = hash_disk(disk, options->quiet || options->json, digest, &err);
	if (rc)
		return tool_failed(&err, rc);
	if (options->json) {
		struct hv_json *entry = hv_json_add_object(list);

		hv_json_set_string(entry, "file", path);
		hv_json_set_number(entry, "size_bytes", disk->size_bytes);
		hv_json_set_string(entry, "sha256", digest);
	} else {
		print_line(digest, path);
	}
	return TOOL_DONE;
}

static int run_hash(void *arg, int count, char **operands)
{
	const struct hash_options *options = arg;
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_json_free) struct hv_json *list = NULL;
	int status = TOOL_DONE;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	if (rc)
		return tool_failed(&err, rc);
	if (options->json)
		list = hv_json_array();
	for (int i = 0; i < count; i++) {
		if (hash_file(operands[i], options, loop, list) != TOOL_DONE)
			status = TOOL_FAILED;
	}
	rc = options->json ? tool_print_json(list) : tool_flush_output();
	return status == TOOL_DONE ? rc : status;
}

static const struct hv_option options_table[] = {
	TOOL_SOURCE_OPTIONS(struct hash_options, source),
	TOOL_DIRECT_OPTION(struct hash_options, source.direct),
	TOOL_JSON_OPTION(struct hash_options, json),
	TOOL_QUIET_OPTION(struct hash_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_hash = {
	.name = "hash",
	.synopsis = "[OPTION]... FILE...",
	.help = "print the SHA-256 of a disk's contents",
	.details =
		"The digest is that of the raw disk, whatever the format of the file, and is printed\n"
		"as sha256sum prints it.",
	.options = options_table,
	.min_operands = 1,
	.max_operands = -1,
	.options_size = sizeof(struct hash_options),
	.run = run_hash,
};
