/*
 * Fuzz target: sector bitmaps. Reads an image where its script says, over the borders of what is
 * there and what is not, many times from one open disk.
 */
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/reading.h"
#include "tests/fuzz/harness/script.h"

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(fuzz_image_done) struct fuzz_image image = { 0 };
	HV_AUTO(sparse_free) struct sparse *sparse = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct script script;
	struct script_op op;
	struct reading reading = { 0 };
	int code;

	fuzz_image_parse(data, size, &image);
	sparse = fuzz_image_lay(&image, false);
	if (reading_is_too_large(sparse))
		return;
	script_init(&script, &image);
	reading.parent_bytes = script_parent_bytes(&script);
	disk = reading_open(sparse_copy(sparse, false), reading.parent_bytes, &code);
	if (disk) {
		reading.disk = disk;
		truth_init(&reading.truth, sparse, disk);
		while (script_next(&script, disk->size_bytes, reading.truth.block_bytes, &op))
			reading_compare(&reading, op.first, op.count);
	}
	script_done(&script);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
