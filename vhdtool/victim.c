/*
 * Looking before destroying.
 */
#include "vhdtool/victim.h"

#include <errno.h>

#include "hvcore/probe.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"

static int refuse(const struct tool_victim *victim, struct hv_err *err)
{
	char size[HV_SIZE_TEXT_SIZE];

	hv_size_format(victim->size_bytes, size);
	return hv_fail(err, -EEXIST, "%s: would destroy %s on a %s disk of %s; --force does it",
		       victim->path,
		       victim->contents ? victim->contents : "whatever there is, of no known kind,",
		       victim->type, size);
}

int tool_victim_look(struct tool_victim *victim, struct hv_loop *loop, struct hv_err *err)
{
	const struct snap_open_options open = {
		.format = victim->format,
		.parent_path = victim->parent,
	};
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	int rc = snap_open(victim->path, &open, loop, &disk, err);

	if (rc)
		return rc;
	victim->type = hv_disk_format(disk);
	victim->size_bytes = disk->size_bytes;
	if (!vhd_is_vhd(disk) && !victim->format)
		return hv_fail(err, -EINVAL,
			       "%s: not a VHD; --from raw %s a raw image or a block device",
			       victim->path, victim->verb);
	rc = hv_probe_disk(disk, &probe, victim->force ? NULL : err);
	if (rc)
		return victim->force ? 0 : rc;
	victim->contents = hv_probe_describe(probe);
	return victim->force ? 0 : refuse(victim, err);
}
