/*
 * What is recorded of a parent follows from the first byte of its UUID, so that parts of two show.
 */
#include "tests/crash/vhd/parent.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vhd/reparent.h"

#define FIRST 1          /* the parent that shape.c records: by its name and one path */
#define LONG_LENGTH 3000 /* of a path that has no room in 4 KiB */

struct parent {
	char name[16], relative[LONG_LENGTH + 16], absolute[LONG_LENGTH + 16],
		url[LONG_LENGTH + 16];
};

static struct vhd_create_options options_of(const struct run *run, uint8_t number,
					    struct parent *text)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING,
					      .size_bytes =
						      run->shape.sectors * (uint64_t)HV_SECTOR_SIZE,
					      .parent_timestamp = number,
					      .parent_uuid = { { number } },
					      .parent_name = text->name,
					      .parent_relative = text->relative,
					      .parent_absolute = text->absolute,
					      .parent_url = text->url };
	int length = number % 3 == 0 ? LONG_LENGTH : 5;
	char directory[LONG_LENGTH + 1];

	memset(directory, 'a' + number % 26, sizeof(directory));
	snprintf(text->name, sizeof(text->name), "%u.vhd", number);
	snprintf(text->relative, sizeof(text->relative), ".\\%.*s\\%u.vhd", length, directory,
		 number);
	snprintf(text->absolute, sizeof(text->absolute), "\\%.*s\\%u.vhd", length, directory,
		 number);
	snprintf(text->url, sizeof(text->url), "file:///%.*s/%u.vhd", length, directory, number);
	return options;
}

static int change(struct run *run)
{
	struct parent text;
	struct vhd_create_options options =
		options_of(run, (uint8_t)(FIRST + 1 + run_random(run, 60)), &text);
	HV_ERR(err);
	int rc =
		vhd_reparent(run->disk, &options, run_random(run, 2) ? VHD_REPARENT_ZERO : 0, &err);

	if (rc && !run->faulty)
		run_wrong(run, "reparent: %s", hv_err_text(&err, rc));
	return rc;
}

int parent_change(struct run *run)
{
	int rc = run_batch(run);

	for (int i = 0; i < 2 && rc == 0; i++) {
		rc = change(run);
		if (rc == 0)
			rc = run_batch(run);
	}
	return rc ? rc : run_flush(run);
}

/* Judging. */

static bool locator_is(const struct vhd_info *info, uint32_t code, const char *text)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *locator = &info->locators[i];

		if (locator->code == code)
			return locator->text && !strcmp(locator->text, text) &&
			       locator->length_bytes <= locator->space_bytes;
	}
	return false;
}

static bool is_whole(const struct run *run, const struct vhd_info *info)
{
	uint8_t number = info->parent_uuid.b[0];
	struct parent text;

	options_of(run, number, &text);
	if (number == FIRST)
		return !strcmp(info->parent_name, PARENT) &&
		       locator_is(info, VHD_LOCATOR_W2RU, ".\\" PARENT);
	return info->parent_timestamp == number && !strcmp(info->parent_name, text.name) &&
	       locator_is(info, VHD_LOCATOR_W2RU, text.relative) &&
	       locator_is(info, VHD_LOCATOR_W2KU, text.absolute) &&
	       locator_is(info, VHD_LOCATOR_MACX, text.url);
}

/* What a reader finds who sees one footer only: the copy, or the one at the end. */
static bool footer_leads_to_a_parent(struct run *run, const struct crash_world *state, bool copy)
{
	static const uint8_t zeros[VHD_FOOTER_BYTES];
	HV_AUTO(crash_world_free) struct crash_world *world = crash_world_copy(state);
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct hv_file *file;
	HV_ERR(err);
	int rc;

	run_must(run, crash_open(world, DISK, HV_FILE_WRITE, &file, &err), &err);
	rc = hv_file_pwrite(file, zeros, sizeof(zeros),
			    copy ? file->size_bytes - VHD_FOOTER_BYTES : 0, &err);
	hv_file_close(file);
	if (rc == 0)
		rc = run_open_disk(run, world, false, 0, &disk, &err);
	if (rc)
		return run_wrong(run, "by the %s: %s", copy ? "copy" : "trailing footer",
				 hv_err_text(&err, rc));
	return is_whole(run, vhd_get_info(disk)) ||
	       run_wrong(run, "by the %s its parent is not recorded as a whole",
			 copy ? "copy" : "trailing footer");
}

/* What an interrupted change has left is in nobody's way. */
static bool takes_another(struct run *run, struct crash_world *state)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct parent text;
	struct vhd_create_options options = options_of(run, FIRST + 61, &text);
	HV_ERR(err);
	int rc = run_open_disk(run, state, true, 0, &disk, &err);

	if (rc == 0)
		rc = vhd_reparent(disk, &options, 0, &err);
	if (rc)
		return run_wrong(run, "another change: %s", hv_err_text(&err, rc));
	if (vhd_get_info(disk)->parent_uuid.b[0] != FIRST + 61 ||
	    !is_whole(run, vhd_get_info(disk)) ||
	    vhd_get_info(disk)->header_offset != VHD_FOOTER_BYTES)
		return run_wrong(run, "another change does not bring the header home");
	hv_disk_close(hv_steal(disk));
	return judge_check(run, state, true);
}

bool parent_judge(struct crash_world *state, uint64_t at, void *arg)
{
	struct run *run = arg;

	alarm(RUN_SECONDS);
	return footer_leads_to_a_parent(run, state, true) &&
	       footer_leads_to_a_parent(run, state, false) && judge_disk(state, at, run) &&
	       takes_another(run, state);
}
