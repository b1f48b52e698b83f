/*
 * Fuzz target: parent locators, the parent's name, and the paths made of them. The input is an
 * image whose header is at byte 512; nothing else of it is looked at.
 */
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"
#include "snapshot/parent.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/image.h"
#include "vhd/image.h"

static void judge_locator(struct hv_file *file, const struct vhd_locator *locator)
{
	if (!locator->text)
		return;
	fuzz_assert(hv_utf8_valid(locator->text), "text that is no UTF-8");
	fuzz_assert(locator->code && locator->code != VHD_LOCATOR_MAC, "text of a slot without");
	fuzz_assert(locator->length_bytes <= file->size_bytes &&
			    locator->offset <= file->size_bytes - locator->length_bytes,
		    "text from beyond the file");
	fuzz_assert(strlen(locator->text) <= 3 * (size_t)locator->length_bytes,
		    "text longer than its bytes");
}

static void judge_paths(const struct snap_candidates *list, const char *directory)
{
	fuzz_assert(list->count <= SNAP_MAX_CANDIDATES, "%u candidates", list->count);
	for (unsigned i = 0; i < list->count; i++) {
		fuzz_assert(list->paths[i][0] == '/' || !strncmp(list->paths[i], directory, 4),
			    "a relative path: '%s'", list->paths[i]);
		for (unsigned j = 0; j < i; j++)
			fuzz_assert(strcmp(list->paths[i], list->paths[j]) != 0,
				    "'%s' is tried twice", list->paths[i]);
	}
}

static void judge_candidates(const struct vhd_info *info)
{
	struct snap_candidates list = { 0 };
	int rc = snap_candidates(info, "/dev/child.vhd", NULL, &list);

	fuzz_assert(rc == 0, "snap_candidates failed with %d", rc);
	judge_paths(&list, "/dev/");
	snap_candidates_free(&list);
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(sparse_free) struct sparse *sparse = fuzz_image_file(data, size);
	struct hv_file *file = sparse_file(sparse);
	struct vhd_disk_header disk;
	struct vhd_header header;
	struct vhd_info info = { .type = VHD_DIFFERENCING };
	unsigned faults;

	sparse_peek(sparse, VHD_FOOTER_BYTES, &disk, sizeof(disk));
	faults = vhd_header_decode(&disk, &header);
	fuzz_assert(*vhd_header_fault_name(faults), "a fault without a name");
	info.parent_name = header.parent_name;
	fuzz_assert(info.parent_name && hv_utf8_valid(info.parent_name), "a name that is no UTF-8");
	for (int i = 0; i < VHD_LOCATORS; i++) {
		HV_ERR(err);
		int rc = vhd_locator_read(file, &header.locators[i], &info.locators[i], &err);

		fuzz_assert(rc == 0, "vhd_locator_read failed with %d: %s", rc, err.sentence);
		judge_locator(file, &info.locators[i]);
	}
	judge_candidates(&info);
	for (int i = 0; i < VHD_LOCATORS; i++)
		free(info.locators[i].text);
	free(info.parent_name);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
