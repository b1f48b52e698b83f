/*
 * A world of files in memory, for tests: files with names in directories, one log of everything
 * that is done to them, and failures on demand. explore.h rebuilds from the log what a power cut
 * could have left.
 *
 * What the medium promises is what POSIX does, and no more:
 *	- a barrier makes durable what of its file was complete when the barrier began; what was in
 *	  flight then is not covered, nor what any other file was given
 *	- a write with HV_IO_FUA makes itself durable
 *	- a name (publish, rename, unlink) is durable once its directory has been synced; publishing
 *	  does so
 *	- after a failed barrier, what it should have covered may be lost whatever comes later, and
 *	  no other barrier of that open file succeeds
 *	- a file grows with the data that makes it grow, as on ext4, XFS and Btrfs
 *	- a failed write has changed any sectors from its start on
 *
 * The files of a world are those of struct hv_file: what is under test does not notice.
 */
#ifndef TESTS_CRASH_WORLD_H
#define TESTS_CRASH_WORLD_H

#include "hvcore/file.h"
#include "tests/crash/stage.h"

struct crash_world;

/* Empty. It lives until it is freed and its last open file is closed. */
struct crash_world *crash_world_new(struct crash_stage *stage);
void crash_world_free(struct crash_world *world);

HV_DEFINE_CLEANUP(struct crash_world, crash_world_free)

/* The same files in a world of their own, with nothing in its log. */
struct crash_world *crash_world_copy(const struct crash_world *world);

/* As hv_file_create and hv_file_open; opening has no flags but HV_FILE_WRITE, and no locks. */
int crash_create(struct crash_world *world, const char *name, bool replace, struct hv_file **ret,
		 struct hv_err *err);
int crash_open(struct crash_world *world, const char *name, unsigned flags, struct hv_file **ret,
	       struct hv_err *err);
bool crash_exists(struct crash_world *world, const char *name);

/* Names. From must exist; a file called `to` is replaced. Durable after crash_sync_names. */
int crash_rename(struct crash_world *world, const char *from, const char *to, struct hv_err *err);
int crash_unlink(struct crash_world *world, const char *name, struct hv_err *err);
int crash_sync_names(struct crash_world *world, const char *directory, struct hv_err *err);

/*
 * From now on nothing of the past is in the log: all is durable as it is. Nothing may be in
 * flight.
 */
void crash_forget(struct crash_world *world);

/* How many operations have been logged. */
size_t crash_logged(const struct crash_world *world);

enum crash_op {
	CRASH_READ, /* this and reserving can fail, but are not logged: they change nothing */
	CRASH_RESERVE,
	CRASH_WRITE,
	CRASH_ZERO, /* or discarded */
	CRASH_TRUNCATE,
	CRASH_BARRIER,
	CRASH_NAME,
	CRASH_SYNC_NAMES,
	CRASH_OPS,
};

extern const char *const crash_op_names[CRASH_OPS];

/*
 * The nth operation of this kind from now (1: the next) fails with code, and with `lasting` all
 * that follow it. nth 0: none does.
 */
void crash_fail(struct crash_world *world, enum crash_op op, unsigned nth, int code, bool lasting);

/* How many of them have failed since then. */
unsigned crash_failed(const struct crash_world *world, enum crash_op op);

/* Writes the files that have names into a directory of the real world. */
int crash_save(struct crash_world *world, const char *directory, struct hv_err *err);

#endif
