/*
 * Inside fuse-mount/: info.json: what `vhdtool info --chain --json` says.
 */
#ifndef FUSE_MOUNT_INFO_H
#define FUSE_MOUNT_INFO_H

#include "hvcore/probe.h"
#include "snapshot/chain.h"

/* probe tells what has been found inside. *ret is malloc'ed. */
int fm_info(const char *path, const struct snap_open_options *options, const struct hv_probe *probe,
	    char **ret, struct hv_err *err);

#endif
