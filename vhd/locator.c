/*
 * Parent locators: where a differencing disk's parent was when the child was made.
 */
#include <errno.h>
#include <stddef.h>
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

/* Writing. */

static int encode_path(uint32_t code, const char *text, struct vhd_path *ret, struct hv_err *err)
{
	ptrdiff_t length = (ptrdiff_t)strlen(text);

	ret->text = calloc(1, VHD_LOCATOR_SPACE);
	if (!ret->text)
		return hv_fail(err, -ENOMEM, "not enough memory");
	if (code != VHD_LOCATOR_MACX)
		length = hv_utf16_encode(text, HV_UTF16_LE, ret->text, VHD_LOCATOR_SPACE);
	else if (length <= (ptrdiff_t)VHD_LOCATOR_SPACE)
		memcpy(ret->text, text, (size_t)length);
	if (length < 0 || length > (ptrdiff_t)VHD_LOCATOR_SPACE)
		return hv_fail(err, -EINVAL, "the parent's path cannot be recorded: '%s'", text);
	ret->code = code;
	ret->length_bytes = (uint32_t)length;
	return 0;
}

int vhd_paths_encode(const struct vhd_create_options *options, struct vhd_paths *ret,
		     struct hv_err *err)
{
	const struct {
		uint32_t code;
		const char *text;
	} forms[VHD_PATHS] = {
		{ VHD_LOCATOR_W2KU, options->parent_absolute },
		{ VHD_LOCATOR_W2RU, options->parent_relative },
		{ VHD_LOCATOR_MACX, options->parent_url },
	};

	*ret = (struct vhd_paths){ 0 };
	for (unsigned i = 0; i < VHD_PATHS; i++) {
		int rc;

		if (!forms[i].text)
			continue;
		rc = encode_path(forms[i].code, forms[i].text, &ret->paths[ret->count++], err);
		if (rc)
			return rc;
	}
	return 0;
}

void vhd_paths_free(struct vhd_paths *paths)
{
	while (paths->count)
		free(paths->paths[--paths->count].text);
}

void vhd_locator_encode(const struct vhd_path *path, uint64_t offset, uint32_t space_bytes,
			struct vhd_disk_locator *ret)
{
	*ret = (struct vhd_disk_locator){
		.code = hv_be32_make(path->code),
		.data_space = hv_be32_make(space_bytes),
		.data_length = hv_be32_make(path->length_bytes),
		.data_offset = hv_be64_make(offset),
	};
}
