/*
 * Paths recorded in a child: reading the forms that other programs write, and writing ours.
 */
#include "snapshot/parent.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/utf.h"
#include "snapshot/chain.h"

char *snap_directory_of(const char *path)
{
	char *copy = strdup(path), *real = NULL;

	if (copy)
		real = realpath(dirname(copy), NULL);
	free(copy);
	return real;
}

/* Takes path over. */
static int add(struct snap_candidates *list, char *path)
{
	if (!path)
		return -ENOMEM;
	for (unsigned i = 0; i < list->count; i++) {
		if (!strcmp(list->paths[i], path)) {
			free(path);
			return 0;
		}
	}
	if (list->count == SNAP_MAX_CANDIDATES)
		free(path);
	else
		list->paths[list->count++] = path;
	return 0;
}

static char *join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* Windows syntax into ours: separators; malloc'ed. */
static char *with_slashes(const char *text)
{
	char *path = strdup(text);

	for (char *p = path; p && *p; p++) {
		if (*p == '\\')
			*p = '/';
	}
	return path;
}

static bool has_drive(const char *path)
{
	return *path && path[1] == ':' && isalpha((unsigned char)*path);
}

/* 0 to 15, or -1. */
static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *digit = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return digit ? (int)(digit - digits) : -1;
}

/* The path in a file: URL, percent-decoded; malloc'ed; NULL when it is none. */
static char *url_path(const char *url)
{
	const char *in = url;
	char *path, *out;

	if (strncmp(in, "file://", 7))
		return NULL;
	in += 7;
	if (!strncmp(in, "localhost/", 10))
		in += 9;
	path = out = malloc(strlen(in) + 1);
	if (!path)
		return NULL;
	while (*in) {
		int high = *in == '%' ? hex_digit(in[1]) : -1;
		int low = high >= 0 ? hex_digit(in[2]) : -1;

		if (low >= 0 && (high || low)) {
			*out++ = (char)(high << 4 | low);
			in += 3;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
	return path;
}

/* What one locator says, in our syntax; malloc'ed; NULL: nothing. */
static char *locator_path(const struct vhd_locator *locator)
{
	if (!locator->text || !*locator->text)
		return NULL;
	if (locator->code == VHD_LOCATOR_MACX)
		return url_path(locator->text);
	return with_slashes(locator->text);
}

static int add_basename(struct snap_candidates *list, const char *dir, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!slash && has_drive(path))
		name = path + 2;
	return *name ? add(list, join(dir, name)) : 0;
}

static int add_relative(struct snap_candidates *list, const struct vhd_info *child, const char *dir)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *locator = &child->locators[i];
		HV_AUTO(free) char *path = NULL;
		const char *relative;
		int rc = 0;

		if (locator->code != VHD_LOCATOR_W2RU && locator->code != VHD_LOCATOR_WI2R)
			continue;
		path = locator_path(locator);
		if (!path || path[0] == '/' || has_drive(path))
			continue;
		relative = path;
		while (relative[0] == '.' && relative[1] == '/')
			relative += 2;
		if (*relative)
			rc = add(list, join(dir, relative));
		if (rc)
			return rc;
	}
	return 0;
}

static int add_basenames(struct snap_candidates *list, const struct vhd_info *child,
			 const char *dir)
{
	HV_AUTO(free) char *name = with_slashes(child->parent_name);
	int rc = name ? add_basename(list, dir, name) : -ENOMEM;

	for (int i = 0; i < VHD_LOCATORS && rc == 0; i++) {
		HV_AUTO(free) char *path = locator_path(&child->locators[i]);

		if (path)
			rc = add_basename(list, dir, path);
	}
	return rc;
}

/* Drive letters mean nothing here; other absolute paths are taken as they are. */
static int add_absolute(struct snap_candidates *list, const struct vhd_info *child, const char *dir)
{
	int rc = 0;

	for (int i = 0; i < VHD_LOCATORS && rc == 0; i++) {
		uint32_t code = child->locators[i].code;
		HV_AUTO(free) char *path = NULL;

		if (code != VHD_LOCATOR_W2KU && code != VHD_LOCATOR_WI2K &&
		    code != VHD_LOCATOR_MACX)
			continue;
		path = locator_path(&child->locators[i]);
		if (!path || has_drive(path))
			continue;
		/* Xen's tools write relative paths into all forms. */
		rc = add(list, path[0] == '/' ? hv_steal(path) : join(dir, path));
	}
	return rc;
}

int snap_candidates(const struct vhd_info *child, const char *child_path, const char *explicit_path,
		    struct snap_candidates *ret)
{
	HV_AUTO(free) char *dir = NULL;
	int rc;

	ret->count = 0;
	if (explicit_path)
		return add(ret, strdup(explicit_path));
	dir = snap_directory_of(child_path);
	if (!dir)
		return -errno;
	rc = add_relative(ret, child, dir);
	if (rc == 0)
		rc = add_basenames(ret, child, dir);
	if (rc == 0)
		rc = add_absolute(ret, child, dir);
	if (rc)
		snap_candidates_free(ret);
	return rc;
}

void snap_candidates_free(struct snap_candidates *candidates)
{
	while (candidates->count)
		free(candidates->paths[--candidates->count]);
}

/* Making the forms that go into a new child. */

static char *with_backslashes(char *path)
{
	for (char *p = path; p && *p; p++) {
		if (*p == '/')
			*p = '\\';
	}
	return path;
}

/* ".\..\dir\name": from the directory `from` to the file `to`, both absolute and free of links. */
static char *relative_windows_path(const char *from, const char *to)
{
	size_t common = 0, ups = 0;
	char *path, *out;

	/* The common part ends with a separator, or with all of `from`. */
	for (size_t i = 0;; i++) {
		bool from_ends = from[i] == '\0' || from[i] == '/';

		if (from_ends && (to[i] == '/'))
			common = i;
		if (from[i] == '\0' || from[i] != to[i])
			break;
	}
	if (!strcmp(from, "/"))
		common = 0, from = "";
	for (const char *p = from + common; *p; p++)
		ups += *p == '/';
	path = out = malloc(2 + ups * 3 + strlen(to + common) + 1);
	if (!path)
		return NULL;
	out = stpcpy(out, "./");
	while (ups--)
		out = stpcpy(out, "../");
	strcpy(out, to + common + 1);
	return with_backslashes(path);
}

static char *make_url(const char *path)
{
	char *url = malloc(7 + 3 * strlen(path) + 1), *out;

	if (!url)
		return NULL;
	out = stpcpy(url, "file://");
	for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
		if (isalnum(*p) || strchr("/-._~", *p))
			*out++ = (char)*p;
		else
			out += sprintf(out, "%%%02X", *p);
	}
	*out = '\0';
	return url;
}

void snap_child_paths_free(struct snap_child_paths *paths)
{
	free(paths->name);
	free(paths->relative);
	free(paths->absolute);
	free(paths->url);
	*paths = (struct snap_child_paths){ 0 };
}

static int make_paths(const char *child_path, const char *parent_path, struct snap_child_paths *ret,
		      struct hv_err *err)
{
	HV_AUTO(free) char *dir = snap_directory_of(child_path);
	HV_AUTO(free) char *real = realpath(parent_path, NULL);

	if (!dir)
		return hv_fail_errno(err, -errno, "%s", child_path);
	if (!real)
		return hv_fail_errno(err, -errno, "%s", parent_path);
	if (!hv_utf8_valid(real) || !hv_utf8_valid(dir))
		return hv_fail(err, -EINVAL,
			       "%s: the path is not valid UTF-8, so that a child cannot record it",
			       parent_path);
	if (strchr(real, '\\') || strchr(dir, '\\'))
		return hv_fail(err, -EINVAL,
			       "%s: the path has a backslash, which a child cannot record",
			       parent_path);
	ret->name = strdup(strrchr(real, '/') + 1);
	ret->relative = relative_windows_path(dir, real);
	ret->url = make_url(real);
	ret->absolute = with_backslashes(hv_steal(real));
	if (!ret->name || !ret->relative || !ret->url || !ret->absolute) {
		snap_child_paths_free(ret);
		return hv_fail(err, -ENOMEM, "not enough memory");
	}
	return 0;
}

int snap_describe_child(const char *child_path, struct hv_disk *parent,
			struct vhd_create_options *options, struct snap_child_paths *storage,
			struct hv_err *err)
{
	struct stat st;
	int rc;

	*storage = (struct snap_child_paths){ 0 };
	if (!vhd_is_vhd(parent))
		return hv_fail(err, -EINVAL,
			       "%s: only a VHD can be a parent; convert the raw image first",
			       parent->path);
	if (hv_guid_is_null(&vhd_get_info(parent)->footer.uuid))
		return hv_fail(err, -EINVAL, "%s: has no UUID, so that it can have no children",
			       parent->path);
	rc = hv_file_stat(vhd_get_file(parent), &st);
	if (rc)
		return hv_fail_errno(err, rc, "%s", parent->path);
	rc = make_paths(child_path, parent->path, storage, err);
	if (rc)
		return rc;
	options->type = VHD_DIFFERENCING;
	options->size_bytes = parent->size_bytes;
	options->parent_uuid = vhd_get_info(parent)->footer.uuid;
	options->parent_timestamp = (uint32_t)(st.st_mtime - VHD_EPOCH);
	options->parent_name = storage->name;
	options->parent_relative = storage->relative;
	options->parent_absolute = storage->absolute;
	options->parent_url = storage->url;
	return 0;
}
