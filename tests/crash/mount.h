/*
 * A world as a directory, for what opens its files by paths. The directory is a real one, in which
 * every name of the world is an empty file: so who looks at names, types and identities of files by
 * whatever call sees those of the world. Who opens, creates or removes one (hv_file_open and so on)
 * gets that of the world. One file is the same (device, inode) in a world and in all of its states.
 *
 * Programs that use this are linked with -Wl,--wrap= for hv_file_open, hv_file_create and
 * hv_file_unlink. Paths are compared as they are written: no links, no "..".
 */
#ifndef TESTS_CRASH_MOUNT_H
#define TESTS_CRASH_MOUNT_H

#include "tests/crash/world.h"

struct crash_mount;

/* Makes a directory in `where` that shows nothing yet. */
struct crash_mount *crash_mount_new(const char *where);

/* Removes the directory. */
void crash_mount_free(struct crash_mount *mount);

/*
 * From now on it is the world (in place of another one, and until it is freed) that is seen; no
 * name of it has a slash.
 */
void crash_mount_show(struct crash_mount *mount, struct crash_world *world);

/* "/var/tmp/crash.x7/disk.vhd" for "disk.vhd"; malloc'ed. */
char *crash_mount_path(const struct crash_mount *mount, const char *name);

#endif
