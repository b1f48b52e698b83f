/*
 * Inside fuse-mount/: what is mounted where, as /proc/self/mountinfo tells it (proc(5)).
 */
#ifndef FUSE_MOUNT_MOUNTS_H
#define FUSE_MOUNT_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "hvcore/err.h"

struct fm_mount {
	char *target; /* absolute; as bytes, without escapes */
	char *type;   /* "ext4", "fuse.vhdmount" */
	char *source;
};

struct fm_mounts {
	struct fm_mount *mounts; /* in the order in which they were mounted */
	size_t count;
};

/* Takes text apart; lines that are none of mountinfo's are left out. -ENOMEM. */
int fm_mounts_parse(const char *text, struct fm_mounts **ret);

/* What this process sees. */
int fm_mounts_read(struct fm_mounts **ret, struct hv_err *err);
void fm_mounts_free(struct fm_mounts *mounts);
HV_DEFINE_CLEANUP(struct fm_mounts, fm_mounts_free)

/* The mount that is seen at target: of several, the last. NULL: none. */
const struct fm_mount *fm_mounts_at(const struct fm_mounts *mounts, const char *target);

/* Does mount lie below directory? */
bool fm_mount_is_below(const struct fm_mount *mount, const char *directory);

#endif
