/*
 * A line of mountinfo:
 *
 *	36 35 98:0 /root /target rw,noatime master:1 - type source super-options
 *
 * with any number of optional fields before the "-". Space, tab, newline and backslash in a field
 *stand there in octal.
 */
#include "fuse-mount/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fields before the optional ones, and which of them is the target. */
#define FIXED_FIELDS 6
#define TARGET_FIELD 4

static bool is_octal(const char *digits)
{
	return digits[0] >= '0' && digits[0] <= '3' && digits[1] >= '0' && digits[1] <= '7' &&
	       digits[2] >= '0' && digits[2] <= '7';
}

static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (*from == '\\' && is_octal(from + 1)) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* False: no line of mountinfo. The fields stay in line. */
static bool take_apart(char *line, struct fm_mount *ret)
{
	char *rest = line, *field, *target = NULL, *type, *source;

	for (int i = 0; (field = strsep(&rest, " ")); i++) {
		if (i == TARGET_FIELD)
			target = field;
		if (i >= FIXED_FIELDS && strcmp(field, "-") == 0)
			break;
	}
	type = field ? strsep(&rest, " ") : NULL;
	source = type ? strsep(&rest, " ") : NULL;
	if (!source || *target != '/')
		return false;
	unescape(target);
	unescape(type);
	unescape(source);
	*ret = (struct fm_mount){ .target = target, .type = type, .source = source };
	return true;
}

static int add(struct fm_mounts *mounts, const struct fm_mount *mount)
{
	struct fm_mount *more = reallocarray(mounts->mounts, mounts->count + 1, sizeof(*more));
	struct fm_mount *copy;

	if (!more)
		return -ENOMEM;
	mounts->mounts = more;
	copy = &more[mounts->count++];
	*copy = (struct fm_mount){ .target = strdup(mount->target),
				   .type = strdup(mount->type),
				   .source = strdup(mount->source) };
	return copy->target && copy->type && copy->source ? 0 : -ENOMEM;
}

int fm_mounts_parse(const char *text, struct fm_mounts **ret)
{
	HV_AUTO(fm_mounts_free) struct fm_mounts *mounts = calloc(1, sizeof(*mounts));
	HV_AUTO(free) char *copy = strdup(text);
	char *rest = copy, *line;
	struct fm_mount mount;

	if (!mounts || !copy)
		return -ENOMEM;
	while ((line = strsep(&rest, "\n")))
		if (take_apart(line, &mount) && add(mounts, &mount))
			return -ENOMEM;
	*ret = hv_steal(mounts);
	return 0;
}

static char *read_all(const char *path)
{
	FILE *in = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	/* There is no such byte in it. */
	if (in && getdelim(&text, &size, '\0', in) < 0) {
		free(text);
		text = NULL;
	}
	if (in)
		fclose(in);
	return text;
}

int fm_mounts_read(struct fm_mounts **ret, struct hv_err *err)
{
	static const char path[] = "/proc/self/mountinfo";
	HV_AUTO(free) char *text = read_all(path);

	if (!text)
		return hv_fail_errno(err, errno ? -errno : -EIO, "%s", path);
	return fm_mounts_parse(text, ret) ? hv_fail(err, -ENOMEM, "%s: not enough memory", path) :
					    0;
}

void fm_mounts_free(struct fm_mounts *mounts)
{
	if (!mounts)
		return;
	for (size_t i = 0; i < mounts->count; i++) {
		free(mounts->mounts[i].target);
		free(mounts->mounts[i].type);
		free(mounts->mounts[i].source);
	}
	free(mounts->mounts);
	free(mounts);
}

const struct fm_mount *fm_mounts_at(const struct fm_mounts *mounts, const char *target)
{
	for (size_t i = mounts->count; i-- > 0;)
		if (strcmp(mounts->mounts[i].target, target) == 0)
			return &mounts->mounts[i];
	return NULL;
}

bool fm_mount_is_below(const struct fm_mount *mount, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(mount->target, directory, length) == 0 && mount->target[length] == '/';
}
