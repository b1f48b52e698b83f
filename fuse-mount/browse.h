/*
 * Inside fuse-mount/: the filesystems inside the disk, each read by a process of its own that
 * starts when somebody looks.
 */
#ifndef FUSE_MOUNT_BROWSE_H
#define FUSE_MOUNT_BROWSE_H

#include "fuse-mount/process.h"

struct fm_browse;

struct fm_browse_options {
	/* Opens the directory where volumes are files, when the first reader starts. -errno, said. */
	int (*open_volumes)(void *context, struct hv_err *err);
	void *context;
	bool write;
	uid_t uid; /* who runs the readers, when we are root */
	gid_t gid;
};

int fm_browse_new(const struct fm_browse_options *options, struct fm_browse **ret,
		  struct hv_err *err);

/*
 * Before anything is called: id (16 bits, not 0) stands for the filesystem of that type in the
 * volume NAME. Names are lent. Where nothing reads it, calls fail.
 */
int fm_browse_add(struct fm_browse *browse, uint64_t id, const char *name, const char *type,
		  struct hv_err *err);

/* The directory of open_volumes, which is opened now if no reader has needed it yet. Lent. */
int fm_browse_volumes(struct fm_browse *browse, struct hv_err *err);

/* Does a process read it now? */
bool fm_browse_started(struct fm_browse *browse, uint32_t id);

/* Do its files have owners of their own? For who has just been answered. */
bool fm_browse_owners(struct fm_browse *browse, uint32_t id);

/*
 * Sends call to the reader of id, and starts one where none runs. A reader that has died is
 * followed by another, to which the nodes of the first mean nothing: each has a generation (1 to
 * 255). *generation is the one that call is meant for, or 0 for any; it is set to what call is sent
 * to, before call->done can be called. Any thread.
 *
 * Calls fail with -ESTALE (another generation), -EIO (no reader; a failure is remembered for some
 * seconds), or what the reader says.
 */
void fm_browse_call(struct fm_browse *browse, uint32_t id, struct fm_call *call,
		    uint8_t *generation);

/* Ends all readers, within seconds. What they were to write has been written. */
void fm_browse_free(struct fm_browse *browse);
HV_DEFINE_CLEANUP(struct fm_browse, fm_browse_free)

#endif
