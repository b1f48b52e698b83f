/*
 * Fuzz target: opening an image for reading, and reading all of it by its extents.
 */
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/reading.h"
#include "tests/fuzz/harness/script.h"

/* Looking for footers only says the same of files that can be opened. */
static void judge_looks(struct sparse *sparse, int code)
{
	enum vhd_looks looks = VHD_LOOKS_NONE;
	HV_ERR(err);
	int rc = vhd_look(sparse_file(sparse), &looks, &err);

	fuzz_assert(rc == 0, "vhd_look failed with %d", rc);
	fuzz_assert(code || looks == VHD_LOOKS_VHD, "opened, but looks like no VHD (%d)", looks);
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(fuzz_image_done) struct fuzz_image image = { 0 };
	HV_AUTO(sparse_free) struct sparse *sparse = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct script script;
	struct reading reading = { 0 };
	int code;

	fuzz_image_parse(data, size, &image);
	sparse = fuzz_image_lay(&image, false);
	if (reading_is_too_large(sparse))
		return;
	script_init(&script, &image);
	reading.parent_bytes = script_parent_bytes(&script);
	script_done(&script);
	disk = reading_open(sparse_copy(sparse, false), reading.parent_bytes, &code);
	judge_looks(sparse, code);
	if (!disk)
		return;
	reading.disk = disk;
	truth_init(&reading.truth, sparse, disk);
	reading_walk(&reading);
	vhd_azure_objection(vhd_get_info(disk), disk->size_bytes, vhd_get_file(disk)->size_bytes);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
