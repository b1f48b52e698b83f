#include "fuse-mount/volume.h"

#include "fuse-mount/below.h"
#include "fuse-mount/overlay.h"
#include "hvcore/log.h"

/* The map, below an overlay that vanishes. */
static int open_scratch(struct fm_map *map, struct fm_engine **ret, struct hv_err *err)
{
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct hv_disk *overlay = NULL;
	int rc = hv_loop_new(&loop, err);

	if (rc == 0)
		rc = fm_below_new(map, loop, &disk, err);
	if (rc == 0)
		rc = fm_overlay_temporary(disk, &overlay, err);
	if (rc)
		return rc;
	disk = overlay; /* has taken it over */
	rc = fm_engine_new(disk, ret, err);
	if (rc == 0) {
		disk = NULL;
		loop = NULL;
	}
	return rc;
}

static struct fm_engine *scratch_of(struct fm_volumes *volumes, int *code)
{
	HV_ERR(err);
	int rc = 0;

	pthread_mutex_lock(&volumes->lock);
	if (!volumes->scratch)
		rc = open_scratch(volumes->map, &volumes->scratch, &err);
	pthread_mutex_unlock(&volumes->lock);
	if (rc)
		hv_log(HV_LOG_WARN, "%s", hv_err_text(&err, rc));
	*code = rc;
	return volumes->scratch;
}

struct fm_engine *fm_volume_engine(struct fm_volumes *volumes, const struct fm_node *node,
				   int *code)
{
	*code = 0;
	if (volumes->engine || !fm_node_is_hidden(node))
		return volumes->engine;
	return scratch_of(volumes, code);
}

bool fm_volume_writable(const struct fm_volumes *volumes, const struct fm_node *node)
{
	return volumes->engine || fm_node_is_hidden(node);
}

int fm_volumes_flush(struct fm_volumes *volumes)
{
	return volumes->engine ? fm_engine_flush(volumes->engine) : 0;
}
