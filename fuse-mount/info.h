/*
 * Inside fuse-mount/: info.json: what `vhdtool info --chain --json` says.
 */
#ifndef FUSE_MOUNT_INFO_H
#define FUSE_MOUNT_INFO_H

#include "hvcore/json.h"
#include "hvcore/probe.h"
#include "snapshot/chain.h"

/* What the layers say, none of which has been stacked yet. The caller frees. */
int fm_info_of_chain(const struct snap_chain *chain, struct hv_json **ret, struct hv_err *err);

/* Adds what has been found inside; *ret is malloc'ed. */
int fm_info_text(struct hv_json *info, const struct hv_probe *probe, char **ret,
		 struct hv_err *err);

#endif
