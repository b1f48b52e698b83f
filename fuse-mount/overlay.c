#include "fuse-mount/overlay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/file.h"

/* A child's file, without a name yet, upon below; takes below over. */
static int stack(const char *path, const struct vhd_create_options *create, struct hv_disk *below,
		 struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	int rc = hv_file_create(path, 0, false, below->loop, &file, err);

	if (rc == 0)
		rc = vhd_create(file, create, err);
	if (rc == 0)
		rc = vhd_open(file, 0, ret, err);
	if (rc)
		return rc;
	file = NULL; /* the disk's */
	vhd_set_backing(*ret, below);
	return 0;
}

int fm_overlay_temporary(struct hv_disk *below, struct hv_disk **ret, struct hv_err *err)
{
	const char *directory = getenv("TMPDIR");
	HV_AUTO(free) char *path = NULL;
	struct vhd_create_options create = {
		.type = VHD_DIFFERENCING,
		.size_bytes = below->size_bytes,
		.parent_name = "",
		.parent_relative = "",
		.parent_absolute = "",
		.parent_url = "",
	};
	int rc;

	if (below->size_bytes > VHD_MAX_SPARSE_BYTES)
		return hv_fail(err, -EOVERFLOW,
			       "%s: is too large for an overlay, whose limit is 2040 GiB",
			       below->path);
	/* Nobody will ever look for the parent. */
	rc = hv_guid_random(&create.parent_uuid);
	if (rc)
		return hv_fail_errno(err, rc, "cannot make a UUID");
	if (asprintf(&path, "%s/vhdmount-overlay",
		     directory && *directory ? directory : "/var/tmp") < 0)
		return hv_fail(err, -ENOMEM, "not enough memory");
	return stack(path, &create, below, ret, err);
}

static int make(const char *path, struct hv_disk *below, struct hv_disk **ret, struct hv_err *err)
{
	struct vhd_create_options create = { .type = VHD_DIFFERENCING };
	struct snap_child_paths paths = { 0 };
	int rc = snap_describe_child(path, below, &create, &paths, err);

	if (rc == 0)
		rc = stack(path, &create, below, ret, err);
	snap_child_paths_free(&paths);
	return rc;
}

static int open_new(const char *path, const char *below, const struct snap_open_options *options,
		    struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *parent = NULL, *overlay = NULL;
	int rc = snap_open(below, options, loop, &parent, err);

	if (rc == 0)
		rc = make(path, parent, &overlay, err);
	if (rc)
		return rc;
	parent = NULL; /* the overlay's */
	rc = hv_file_publish(vhd_get_file(overlay), err);
	if (rc == 0)
		*ret = hv_steal(overlay);
	return rc;
}

int fm_overlay_open(const char *path, const char *below, const struct snap_open_options *options,
		    struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options child = { .flags = options->flags | SNAP_OPEN_WRITE,
					   .format = "vhd",
					   .parent_path = below };
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	int rc;

	if (access(path, F_OK))
		return open_new(path, below, options, loop, ret, err);
	rc = snap_open(path, &child, loop, &disk, err);
	if (rc)
		return rc;
	if (strcmp(hv_disk_format(disk), "differencing"))
		return hv_fail(err, -ESTALE, "%s: is there already, and no overlay of %s", path,
			       below);
	*ret = hv_steal(disk);
	return 0;
}
