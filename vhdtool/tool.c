/*
 * What the commands of vhdtool share.
 */
#include "vhdtool/tool.h"

#include "snapshot/chain.h"

int tool_open_source(const char *path, const struct tool_source *source, struct hv_loop *loop,
		     struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options options = {
		.flags = (source->direct ? SNAP_OPEN_DIRECT : 0) |
			 (source->force_share ? SNAP_OPEN_NO_LOCK : 0),
		.format = source->format,
		.parent_path = source->parent,
	};

	return snap_open(path, &options, loop, ret, err);
}
