/*
 * Telling formats apart.
 */
#include "snapshot/format.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "vhd/vhd.h"

static bool has_suffix(const char *path, const char *const *suffixes)
{
	const char *slash = strrchr(path, '/');
	const char *dot = strrchr(slash ? slash : path, '.');

	for (; dot && *suffixes; suffixes++) {
		if (!strcasecmp(dot, *suffixes))
			return true;
	}
	return false;
}

/* Formats of others that would make no sense as raw images. */
static int refuse_foreign(struct hv_file *file, struct hv_err *err)
{
	static const struct {
		const char *magic, *name;
	} formats[] = {
		{ "vhdxfile", "VHDX" },
		{ "QFI\xfb", "qcow2" },
		{ "KDMV", "VMDK" },
		{ "<<< ", "VirtualBox VDI" },
	};
	char start[8];
	int rc = hv_file_pread(file, start, sizeof(start), 0, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (!memcmp(start, formats[i].magic, strlen(formats[i].magic)))
			return hv_fail(
				err, -ENOTSUP,
				"%s: looks like a %s image, which is not supported; convert it with qemu-img, or say --from raw",
				file->path, formats[i].name);
	}
	return 0;
}

int snap_decide_format(struct hv_file *file, const char *format, bool by_uuid, bool *raw,
		       struct hv_err *err)
{
	static const char *const vhd_names[] = { ".vhd", ".avhd", ".vud", NULL };
	static const char *const raw_names[] = { ".raw", ".img", ".bin", ".dd", ".iso", NULL };
	enum vhd_looks looks;
	int rc;

	if (format) {
		*raw = !strcmp(format, "raw");
		return 0;
	}
	*raw = false;
	if (has_suffix(file->path, vhd_names))
		return 0;
	rc = vhd_look(file, &looks, err);
	if (rc)
		return rc;
	if (looks == VHD_LOOKS_VHD && by_uuid)
		return 0;
	if (looks == VHD_LOOKS_VHD && has_suffix(file->path, raw_names))
		return hv_fail(
			err, -EINVAL,
			"%s: named like a raw image, but holds a VHD footer, which a guest could have written; say --from raw or --from vhd",
			file->path);
	*raw = looks == VHD_LOOKS_NONE || has_suffix(file->path, raw_names);
	return *raw ? refuse_foreign(file, err) : 0;
}
