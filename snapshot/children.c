/*
 * Children, found in directories.
 */
#include "snapshot/children.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "hvcore/file.h"
#include "snapshot/parent.h"

void snap_children_free(struct snap_children *children)
{
	while (children->count)
		free(children->list[--children->count].path);
	free(children->list);
	*children = (struct snap_children){ 0 };
}

static bool named_like_a_vhd(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (!strcasecmp(dot, ".vhd") || !strcasecmp(dot, ".avhd"));
}

static bool is_left_out(const struct snap_children_query *query, const struct stat *st)
{
	for (unsigned i = 0; i < query->except_count; i++) {
		if (query->except[i].dev == st->st_dev && query->except[i].ino == st->st_ino)
			return true;
	}
	return false;
}

static bool is_listed(const struct snap_children *children, const struct stat *st)
{
	for (unsigned i = 0; i < children->count; i++) {
		struct snap_file_id id;

		if (snap_file_id_of(children->list[i].path, &id) == 0 && id.dev == st->st_dev &&
		    id.ino == st->st_ino)
			return true;
	}
	return false;
}

/* Takes path over. */
static int add(struct snap_children *children, struct snap_child child)
{
	struct snap_child *list =
		realloc(children->list, (children->count + 1) * sizeof(*children->list));

	if (!list) {
		free(child.path);
		return -ENOMEM;
	}
	list[children->count++] = child;
	children->list = list;
	return 0;
}

/* Whose child is the file? 1 with *ret filled; 0: nobody's that was asked for; -errno. */
static int whose(const char *path, const struct snap_children_query *query, unsigned *ret)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct vhd_family family = { 0 };
	int rc = hv_file_open(path, HV_FILE_NO_LOCK, NULL, &file, NULL);

	if (rc == 0)
		rc = vhd_look_family(file, &family, NULL);
	if (rc <= 0 || family.type != VHD_DIFFERENCING)
		return rc < 0 ? rc : 0;
	for (unsigned i = 0; i < query->uuid_count; i++) {
		if (!hv_guid_is_null(&query->uuids[i]) &&
		    hv_guid_equal(&query->uuids[i], &family.parent_uuid)) {
			*ret = i;
			return 1;
		}
	}
	return 0;
}

static int look_at(const char *directory, const char *name, const struct snap_children_query *query,
		   struct snap_children *ret)
{
	struct snap_child child = { 0 };
	struct stat st;
	int rc;

	if (asprintf(&child.path, "%s/%s", directory, name) < 0)
		return -ENOMEM;
	if (stat(child.path, &st) || !S_ISREG(st.st_mode) || is_left_out(query, &st)) {
		free(child.path);
		return 0;
	}
	rc = whose(child.path, query, &child.parent);
	child.unknown = rc < 0 && rc != -ENOENT && named_like_a_vhd(name);
	if ((rc > 0 || child.unknown) && !is_listed(ret, &st))
		return add(ret, child);
	free(child.path);
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct snap_child *)a)->path, ((const struct snap_child *)b)->path);
}

int snap_find_children(const char *directory, const struct snap_children_query *query,
		       struct snap_children *ret, struct hv_err *err)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return hv_fail_errno(err, -errno, "%s: cannot look for other children there",
				     directory);
	while (rc == 0 && (errno = 0, entry = readdir(dir)))
		rc = look_at(directory, entry->d_name, query, ret);
	if (rc == 0)
		rc = -errno;
	closedir(dir);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot look for other children there",
				     directory);
	if (ret->count)
		qsort(ret->list, ret->count, sizeof(*ret->list), by_path);
	return 0;
}

int snap_find_children_beside(const char *path, const struct snap_children_query *query,
			      struct snap_children *ret, struct hv_err *err)
{
	HV_AUTO(free) char *real = realpath(path, NULL);
	HV_AUTO(free) char *beside = snap_directory_of(path);
	HV_AUTO(free) char *beside_real = NULL;
	int rc = beside ? snap_find_children(beside, query, ret, err) : 0;

	if (rc || !real || !strcmp(path, real))
		return rc;
	beside_real = snap_directory_of(real);
	return beside_real ? snap_find_children(beside_real, query, ret, err) : 0;
}

int snap_refuse_children(struct hv_disk *disk, const char *how, struct hv_err *err)
{
	const struct snap_children_query query = {
		.uuids = &vhd_get_info(disk)->footer.uuid,
		.uuid_count = 1,
	};
	struct snap_children children = { 0 };
	int rc = snap_find_children_beside(disk->path, &query, &children, err);

	if (rc == 0 && children.count)
		rc = hv_fail(
			err, -EBUSY,
			"%s: '%s' is a child of it, and depends on %s; --force does it all the same",
			disk->path, children.list[0].path, how);
	snap_children_free(&children);
	return rc;
}
