/*
 * Parent locators: where a differencing disk's parent was when the child was made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/utf.h"
#include "vhd/image.h"

#define MAX_TEXT_BYTES (64u << 10) /* what Windows reserves; longer than any path */

/* VirtualBox mistypes two codes. */
static uint32_t code_meant(uint32_t code)
{
	if (code == 0x4d163220)
		return VHD_LOCATOR_MAC;
	if (code == 0x4d163258)
		return VHD_LOCATOR_MACX;
	return code;
}

/*
 * The spec counts the reserved space in sectors; nearly everybody writes bytes. Numbers that cannot
 * be bytes are sectors.
 */
static uint32_t space_meant(uint32_t space)
{
	return space < HV_SECTOR_SIZE ? space * HV_SECTOR_SIZE : space;
}

static char *text_of(uint32_t code, const uint8_t *data, size_t length)
{
	char *text;

	if (code == VHD_LOCATOR_W2RU || code == VHD_LOCATOR_W2KU)
		return hv_utf16_decode(data, length, HV_UTF16_LE);
	text = strndup((const char *)data, length);
	if (text && !hv_utf8_valid(text))
		free(hv_steal(text));
	return text;
}

int vhd_locator_read(struct hv_file *file, const struct vhd_disk_locator *disk,
		     struct vhd_locator *ret, struct hv_err *err)
{
	struct vhd_locator locator = {
		.code = code_meant(hv_be32_get(disk->code)),
		.space_bytes = space_meant(hv_be32_get(disk->data_space)),
		.length_bytes = hv_be32_get(disk->data_length),
		.offset = hv_be64_get(disk->data_offset),
	};
	HV_AUTO(free) uint8_t *data = NULL;
	int rc;

	*ret = locator;
	if (!locator.code || locator.code == VHD_LOCATOR_MAC || !locator.length_bytes ||
	    locator.length_bytes > MAX_TEXT_BYTES ||
	    !hv_range_inside(locator.offset, locator.length_bytes, file->size_bytes))
		return 0;
	data = malloc(locator.length_bytes);
	if (!data)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	rc = hv_file_pread(file, data, locator.length_bytes, locator.offset, err);
	if (rc)
		return rc;
	ret->text = text_of(locator.code, data, locator.length_bytes);
	return 0;
}
