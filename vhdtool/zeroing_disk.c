/*
 * Zeroing a dynamic or differencing disk through the disk itself, block by block.
 */
#include <errno.h>
#include <stdio.h>

#include "hvcore/checked.h"
#include "hvcore/progress.h"
#include "hvcore/scan.h"
#include "vhdtool/pump.h"
#include "vhdtool/zeroing.h"

struct blocks {
	struct hv_disk *disk;
	uint32_t block_bytes;
	uint64_t until; /* up to here is what has been chosen already */
};

/*
 * The next blocks that do not read as zero. A bitmap that is not in memory yet is not asked (hence
 * HV_EXTENT_COARSE), so that an allocated block counts with all its sectors; once begun, a block is
 * gone through to its end, though its bitmap is in memory by then.
 */
static int next_blocks(struct blocks *blocks, uint64_t *at, struct hv_err *err)
{
	struct hv_disk *disk = blocks->disk;

	while (*at < disk->size_bytes) {
		struct hv_extent extent;
		int rc = hv_disk_extent(disk, *at, disk->size_bytes - *at, HV_EXTENT_COARSE,
					&extent, err);

		if (rc)
			return rc;
		if (extent.state != HV_EXTENT_ZERO) {
			*at = hv_round_down(extent.offset, blocks->block_bytes);
			blocks->until = hv_min_u64(hv_round_up(extent.offset + extent.length,
							       blocks->block_bytes),
						   disk->size_bytes);
			return 1;
		}
		*at = extent.offset + extent.length;
	}
	return 0;
}

static int next_piece(void *arg, uint64_t *offset, uint64_t *length, struct hv_err *err)
{
	struct blocks *blocks = arg;
	int rc = *offset < blocks->until ? 1 : next_blocks(blocks, offset, err);

	if (rc > 0)
		*length = hv_min_u64(blocks->until - *offset, TOOL_PIECE_BYTES);
	return rc;
}

static void submit_to_disk(void *target, struct hv_io *io)
{
	hv_disk_submit(target, io);
}

static int read_back(struct hv_disk *disk, bool quiet, struct hv_err *err)
{
	struct hv_scan_options options = { .find_zeros = true };
	HV_AUTO(hv_scan_free) struct hv_scan *scan = NULL;
	struct hv_progress progress;
	struct hv_chunk chunk;
	int rc = hv_scan_new(disk, &options, &scan, err);

	if (rc)
		return rc;
	hv_progress_start(&progress, "reading back", disk->size_bytes, quiet);
	while ((rc = hv_scan_next(scan, &chunk, err)) > 0) {
		if (chunk.data) {
			rc = hv_fail(err, -EIO, "%s: not zero after zeroing, near byte %llu",
				     disk->path, (unsigned long long)chunk.offset);
			break;
		}
		hv_progress_update(&progress, chunk.offset);
		hv_scan_release(scan, &chunk);
	}
	hv_progress_end(&progress);
	return rc;
}

int tool_zero_disk(struct hv_disk *disk, uint32_t block_bytes,
		   const struct tool_zero_options *options, struct tool_zeroing *ret,
		   struct hv_err *err)
{
	bool write = options->mode == TOOL_ZERO_WRITE;
	struct blocks blocks = { .disk = disk, .block_bytes = block_bytes };
	struct tool_pump job = {
		.loop = disk->loop,
		.submit = submit_to_disk,
		.target = disk,
		.path = disk->path,
		.op = write ? HV_WRITE : HV_ZERO,
		.next = next_piece,
		.arg = &blocks,
		.end = disk->size_bytes,
		.label = "zeroing",
		.quiet = options->quiet,
	};
	double start = hv_now(), verify_start;
	int rc = tool_pump_run(&job, &ret->bytes, err);

	ret->method = write ? "written" : "zeroed block by block";
	ret->write_seconds = hv_now() - start;
	if (rc == 0)
		rc = hv_disk_flush(disk, err);
	verify_start = hv_now();
	if (rc == 0)
		rc = read_back(disk, options->quiet, err);
	ret->verify_seconds = hv_now() - verify_start;
	ret->seconds = hv_now() - start;
	snprintf(ret->verified, sizeof(ret->verified), "read back");
	snprintf(ret->grounds, sizeof(ret->grounds), "every byte was read back");
	return rc;
}
