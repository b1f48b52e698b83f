#include "fuse-mount/volume.h"

#include "hvcore/log.h"

static struct fm_engine *scratch_of(struct fm_volumes *volumes, int *code)
{
	struct hv_disk *disk = NULL;
	HV_ERR(err);
	int rc = 0;

	pthread_mutex_lock(&volumes->lock);
	if (!volumes->scratch) {
		rc = volumes->open_scratch(volumes, &disk, &err);
		if (rc == 0)
			rc = fm_engine_new(disk, &volumes->scratch, &err);
	}
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
