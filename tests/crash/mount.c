/*
 * Each node has an empty file of its own, by its number, in a second directory; names are links of
 * it. So a state is shown by linking a few names, and inodes stay what they are.
 */
#include "tests/crash/mount.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/log.h"

struct crash_mount {
	struct crash_mount *next;
	struct crash_world *world; /* or NULL */
	char *top, *nodes, *files; /* directories */
};

static struct crash_mount *mounts;

static char *join(const char *directory, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", directory, name) < 0)
		abort();
	return path;
}

/* Without it nothing can be tested. */
static void must(bool success, const char *path)
{
	if (success)
		return;
	perror(path);
	exit(1);
}

char *crash_mount_path(const struct crash_mount *mount, const char *name)
{
	return join(mount->files, name);
}

/* The empty file of a node; malloc'ed. */
static char *node_path(const struct crash_mount *mount, unsigned node)
{
	char number[16];
	char *path;
	int fd;

	snprintf(number, sizeof(number), "%u", node);
	path = join(mount->nodes, number);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	must(fd >= 0, path);
	close(fd);
	return path;
}

void crash_mount_update(struct crash_mount *mount, const char *name, unsigned node)
{
	HV_AUTO(free) char *path = crash_mount_path(mount, name);
	HV_AUTO(free) char *target = NULL;

	assert(!strchr(name, '/'));
	must(unlink(path) == 0 || errno == ENOENT, path);
	if (node == CRASH_NO_NODE)
		return;
	target = node_path(mount, node);
	must(link(target, path) == 0, path);
}

void crash_mount_forget(struct crash_mount *mount)
{
	mount->world->mount = NULL;
	mount->world = NULL;
}

static void empty(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	must(dir != NULL, directory);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			must(unlinkat(dirfd(dir), entry->d_name, 0) == 0, entry->d_name);
	}
	closedir(dir);
}

void crash_mount_show(struct crash_mount *mount, struct crash_world *world)
{
	if (mount->world)
		crash_mount_forget(mount);
	empty(mount->files);
	mount->world = world;
	world->mount = mount;
	for (unsigned i = 0; i < world->now.name_count; i++)
		crash_mount_update(mount, world->now.names[i].name, world->now.names[i].node);
}

struct crash_mount *crash_mount_new(const char *where)
{
	struct crash_mount *mount = crash_alloc(sizeof(*mount));
	HV_AUTO(free) char *template = join(where, "mount.XXXXXX");

	must(mkdtemp(template) != NULL, template);
	mount->top = realpath(template, NULL);
	must(mount->top != NULL, template);
	mount->nodes = join(mount->top, "nodes");
	mount->files = join(mount->top, "files");
	must(mkdir(mount->nodes, 0700) == 0 && mkdir(mount->files, 0700) == 0, mount->top);
	mount->next = mounts;
	mounts = mount;
	return mount;
}

void crash_mount_free(struct crash_mount *mount)
{
	struct crash_mount **link = &mounts;

	if (!mount)
		return;
	while (*link != mount)
		link = &(*link)->next;
	*link = mount->next;
	if (mount->world)
		crash_mount_forget(mount);
	empty(mount->files);
	empty(mount->nodes);
	must(rmdir(mount->files) == 0 && rmdir(mount->nodes) == 0 && rmdir(mount->top) == 0,
	     mount->top);
	free(mount->files);
	free(mount->nodes);
	free(mount->top);
	free(mount);
}

/* In place of hvcore's. */

/* The mount that path lies in, and its name there; NULL: it is a path like any other. */
static struct crash_mount *find(const char *path, const char **name)
{
	for (struct crash_mount *mount = mounts; mount; mount = mount->next) {
		size_t length = strlen(mount->files);

		if (strncmp(path, mount->files, length) || path[length] != '/')
			continue;
		assert(mount->world);
		*name = path + length + 1;
		return mount;
	}
	return NULL;
}

/* A file of the world is what the real directory says, to whoever asks either. */
static void identify(const struct crash_mount *mount, struct hv_file *file, const char *path)
{
	HV_AUTO(free) char *real = node_path(mount, crash_file_node(file));
	struct stat st;

	must(stat(real, &st) == 0, real);
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	free(file->path);
	file->path = strdup(path);
}

int __real_hv_file_open(const char *path, unsigned flags, struct hv_loop *loop,
			struct hv_file **ret, struct hv_err *err);
int __wrap_hv_file_open(const char *path, unsigned flags, struct hv_loop *loop,
			struct hv_file **ret, struct hv_err *err);

int __wrap_hv_file_open(const char *path, unsigned flags, struct hv_loop *loop,
			struct hv_file **ret, struct hv_err *err)
{
	const char *name;
	struct crash_mount *mount = find(path, &name);
	int rc;

	if (!mount)
		return __real_hv_file_open(path, flags, loop, ret, err);
	rc = crash_open(mount->world, name, flags & HV_FILE_WRITE, ret, err);
	if (rc == 0)
		identify(mount, *ret, path);
	return rc;
}

int __real_hv_file_create(const char *path, unsigned flags, bool replace, struct hv_loop *loop,
			  struct hv_file **ret, struct hv_err *err);
int __wrap_hv_file_create(const char *path, unsigned flags, bool replace, struct hv_loop *loop,
			  struct hv_file **ret, struct hv_err *err);

int __wrap_hv_file_create(const char *path, unsigned flags, bool replace, struct hv_loop *loop,
			  struct hv_file **ret, struct hv_err *err)
{
	const char *name;
	struct crash_mount *mount = find(path, &name);
	int rc;

	if (!mount)
		return __real_hv_file_create(path, flags, replace, loop, ret, err);
	rc = crash_create(mount->world, name, replace, ret, err);
	if (rc == 0)
		identify(mount, *ret, path);
	return rc;
}

int __real_hv_file_unlink(const char *path, struct hv_err *err);
int __wrap_hv_file_unlink(const char *path, struct hv_err *err);

int __wrap_hv_file_unlink(const char *path, struct hv_err *err)
{
	const char *name;
	struct crash_mount *mount = find(path, &name);
	int rc;

	if (!mount)
		return __real_hv_file_unlink(path, err);
	rc = crash_unlink(mount->world, name, err);
	return rc ? rc : crash_sync_names(mount->world, "", err);
}
