#include "fuse-mount/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fuse-mount/session.h"
#include "fuse-mount/unmount.h"

#define NOBODY 65534

struct fm_files {
	const struct fm_tree *tree;
	struct fm_volumes *volumes;
	struct fm_browse *browse;
	struct fm_session *session; /* the volumes of the readers */
	char directory[64];
};

static int mount_volumes(struct fm_files *files, struct hv_err *err)
{
	bool root = geteuid() == 0;
	struct fm_session_options options = {
		.directory = files->directory,
		.source = "volumes",
		.passthrough_fd = -1,
		.write = true,
		.allow_other = root, /* to let nobody in */
		.uid = root ? NOBODY : geteuid(),
		.gid = root ? NOBODY : getegid(),
	};
	int ended, rc;

	strcpy(files->directory, root ? "/run/vhdmount.XXXXXX" : "/tmp/vhdmount.XXXXXX");
	if (!mkdtemp(files->directory))
		return hv_fail_errno(err, -errno, "%s", files->directory);
	rc = fm_session_new(files->tree, files->volumes, &options, &files->session, err);
	return rc ? rc : fm_session_start(files->session, &ended, err);
}

static int open_volumes(void *context, struct hv_err *err)
{
	struct fm_files *files = context;
	int rc = mount_volumes(files, err), fd = -1;
	char path[80];

	if (rc == 0) {
		snprintf(path, sizeof(path), "%s/.volumes", files->directory);
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			rc = hv_fail_errno(err, -errno, "%s", path);
		fm_unmount_one(files->directory, true, NULL);
	}
	rmdir(files->directory);
	return rc ? rc : fd;
}

static int add_filesystems(struct fm_files *files, struct hv_err *err)
{
	const struct fm_node *directory = fm_tree_find(fm_tree_get(files->tree, 1), "files");
	int rc = 0;

	for (unsigned i = 0; directory && i < directory->child_count && rc == 0; i++) {
		const struct fm_node *node = directory->children[i];

		if (node->kind == FM_FILES)
			rc = fm_browse_add(files->browse, node->ino, node->name,
					   node->content->type, err);
	}
	return rc;
}

int fm_files_new(const struct fm_tree *tree, struct fm_volumes *volumes, struct fm_files **ret,
		 struct hv_err *err)
{
	HV_AUTO(fm_files_free) struct fm_files *files = calloc(1, sizeof(*files));
	struct fm_browse_options options = {
		.open_volumes = open_volumes,
		.context = files,
		.write = volumes->engine,
		.uid = NOBODY,
		.gid = NOBODY,
	};
	int rc;

	if (!files)
		return hv_fail(err, -ENOMEM, "not enough memory");
	files->tree = tree;
	files->volumes = volumes;
	rc = fm_browse_new(&options, &files->browse, err);
	if (rc == 0)
		rc = add_filesystems(files, err);
	if (rc == 0)
		*ret = hv_steal(files);
	return rc;
}

struct fm_browse *fm_files_browse(struct fm_files *files)
{
	return files->browse;
}

void fm_files_free(struct fm_files *files)
{
	if (!files)
		return;
	fm_browse_free(files->browse);
	fm_session_free(files->session);
	free(files);
}
