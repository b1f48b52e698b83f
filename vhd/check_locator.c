/*
 * Checking parent locators: where they lie, and whether their text is a path.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/check_internal.h"

#define REPLACEMENT "\xef\xbf\xbd" /* what decoding puts in place of an unpaired surrogate */
#define MAX_TEXT_BYTES (64u << 10)

static const struct {
	uint32_t code;
	char name[5];
	bool path;
} kinds[] = {
	{ VHD_LOCATOR_W2RU, "W2ru", true }, { VHD_LOCATOR_W2KU, "W2ku", true },
	{ VHD_LOCATOR_MACX, "MacX", true }, { VHD_LOCATOR_MAC, "Mac ", false },
	{ VHD_LOCATOR_WI2R, "Wi2r", true }, { VHD_LOCATOR_WI2K, "Wi2k", true },
};

/* One slot. */
struct slot {
	int number;
	uint64_t place; /* of the slot, in the file */
	const struct vhd_disk_locator *disk;
	struct vhd_locator locator;
	const char *name; /* NULL: nobody knows the code */
	bool path;
};

static void identify(struct slot *slot)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].code == slot->locator.code) {
			slot->name = kinds[i].name;
			slot->path = kinds[i].path;
		}
	}
}

static void judge_code(struct check *check, const struct slot *slot)
{
	uint32_t written = hv_be32_get(slot->disk->code);

	if (!slot->name)
		vhd_check_report(check, LOCATOR_CODE, slot->place, -1,
				 "parent locator %d has code %08x, which nobody knows",
				 slot->number, written);
	else if (written != slot->locator.code)
		vhd_check_report(
			check, LOCATOR_CODE, slot->place, -1,
			"parent locator %d has code %08x, VirtualBox's misspelling of '%s'",
			slot->number, written, slot->name);
}

static bool meets(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
	return a < b + b_length && b < a + a_length;
}

/* The part of the metadata that the text lies over, or NULL. */
static const char *collision(const struct check *check, const struct slot *slot)
{
	const struct vhd_locator *locator = &slot->locator;
	uint64_t bat_bytes = (uint64_t)check->header.max_entries * sizeof(hv_be32);

	if (meets(locator->offset, locator->length_bytes, 0, VHD_FOOTER_BYTES))
		return "the footer's copy";
	if (meets(locator->offset, locator->length_bytes, check->footer->data_offset,
		  VHD_HEADER_BYTES))
		return "the header";
	if (check->layout_known &&
	    meets(locator->offset, locator->length_bytes, check->header.bat_offset, bat_bytes))
		return "the block allocation table";
	for (int i = 0; i < slot->number; i++) {
		const struct vhd_disk_locator *other = &check->header.locators[i];
		uint64_t offset = hv_be64_get(other->data_offset);
		uint64_t length = hv_be32_get(other->data_length);

		if (hv_be32_get(other->code) && hv_range_inside(offset, length, check->file_end) &&
		    meets(locator->offset, locator->length_bytes, offset, length))
			return "another locator";
	}
	return NULL;
}

static bool judge_range(struct check *check, const struct slot *slot)
{
	const struct vhd_locator *locator = &slot->locator;
	unsigned long long offset = locator->offset;
	const char *other;

	if (!hv_range_inside(locator->offset, locator->length_bytes, check->file_end)) {
		vhd_check_report(
			check, LOCATOR_RANGE, slot->place, -1,
			"parent locator %d of %u bytes at byte %llu does not lie inside the file",
			slot->number, locator->length_bytes, offset);
		return false;
	}
	if (locator->length_bytes > locator->space_bytes)
		vhd_check_report(check, LOCATOR_RANGE, slot->place, -1,
				 "parent locator %d has %u bytes of text in a space of %u",
				 slot->number, locator->length_bytes, locator->space_bytes);
	else if (!hv_range_inside(locator->offset, locator->space_bytes, check->file_end))
		vhd_check_report(
			check, LOCATOR_RANGE, slot->place, -1,
			"the space of %u bytes for parent locator %d at byte %llu does not lie inside the file",
			locator->space_bytes, slot->number, offset);
	other = collision(check, slot);
	if (other)
		vhd_check_report(check, LOCATOR_RANGE, slot->place, -1,
				 "parent locator %d at byte %llu lies over %s", slot->number,
				 offset, other);
	return !other;
}

static bool is_utf16(uint32_t code)
{
	return code == VHD_LOCATOR_W2RU || code == VHD_LOCATOR_W2KU;
}

static void judge_text(struct check *check, const struct slot *slot)
{
	const struct vhd_locator *locator = &slot->locator;
	const char *fault = NULL;

	if (locator->length_bytes > MAX_TEXT_BYTES)
		fault = "is longer than any path";
	else if (is_utf16(locator->code) && locator->length_bytes % 2)
		fault = "is UTF-16 of odd length";
	else if (locator->length_bytes && !locator->text)
		fault = "is no UTF-8";
	else if (locator->text && strstr(locator->text, REPLACEMENT))
		fault = "has characters that do not exist";
	if (fault)
		vhd_check_report(check, LOCATOR_TEXT, locator->offset, -1,
				 "the text of parent locator %d (%s) %s", slot->number, slot->name,
				 fault);
	else if (!locator->text || !*locator->text)
		vhd_check_report_as(check, VHD_NOTE, LOCATOR_TEXT, locator->offset, -1,
				    "parent locator %d (%s) is empty", slot->number, slot->name);
	else if (locator->code == VHD_LOCATOR_W2RU && strncmp(locator->text, ".\\", 2))
		vhd_check_report_as(
			check, VHD_NOTE, LOCATOR_TEXT, locator->offset, -1,
			"parent locator %d (W2ru) does not begin with '.\\', which Windows wants",
			slot->number);
}

static int check_slot(struct check *check, int number, struct hv_err *err)
{
	struct slot slot = {
		.number = number,
		.place = check->footer->data_offset + offsetof(struct vhd_disk_header, locators) +
			 (uint64_t)number * sizeof(struct vhd_disk_locator),
		.disk = &check->header.locators[number],
	};
	int rc = vhd_locator_read(check->file, slot.disk, &slot.locator, err);

	if (rc || !slot.locator.code)
		return rc;
	identify(&slot);
	judge_code(check, &slot);
	if (judge_range(check, &slot) && slot.path)
		judge_text(check, &slot);
	free(slot.locator.text);
	return 0;
}

int vhd_check_locators(struct check *check, struct hv_err *err)
{
	int rc = 0;

	if (!check->header_found || check->footer->type != VHD_DIFFERENCING)
		return 0;
	for (int i = 0; i < VHD_LOCATORS && rc == 0; i++)
		rc = check_slot(check, i, err);
	return rc;
}
