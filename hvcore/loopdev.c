/*
 * Loop devices: /sys/block/loopN/loop/backing_file names the file behind each.
 */
#include "hvcore/loopdev.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_backed_by(const char *attribute, dev_t dev, ino_t ino)
{
	char path[PATH_MAX + 1];
	FILE *in = fopen(attribute, "re");
	struct stat st;
	bool got;

	if (!in)
		return false;
	got = fgets(path, sizeof(path), in);
	fclose(in);
	if (!got)
		return false;
	path[strcspn(path, "\n")] = '\0';
	return stat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

bool hv_loopdev_uses(dev_t dev, ino_t ino)
{
	bool used = false;
	glob_t found;

	if (glob("/sys/block/loop*/loop/backing_file", GLOB_NOSORT, NULL, &found))
		return false;
	for (size_t i = 0; i < found.gl_pathc && !used; i++)
		used = is_backed_by(found.gl_pathv[i], dev, ino);
	globfree(&found);
	return used;
}
