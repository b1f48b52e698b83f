#include "fuse-mount/info.h"

#include <errno.h>

#include "snapshot/describe.h"

int fm_info(const char *path, const struct snap_open_options *options, const struct hv_probe *probe,
	    char **ret, struct hv_err *err)
{
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	struct hv_description out = { .json = json };
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	struct snap_open_options unlocked = *options;
	int rc = hv_loop_new(&loop, err);

	/* Whoever asks has the disk open, and locked. */
	unlocked.flags |= SNAP_OPEN_NO_LOCK;
	if (rc == 0)
		rc = snap_examine(path, &unlocked, loop, &chain, err);
	if (rc == 0)
		rc = snap_describe_chain(&out, chain, true, err);
	if (rc)
		return rc;
	hv_describe_contents(&out, probe, NULL);
	*ret = hv_json_dump(json);
	return *ret ? 0 : hv_fail(err, -ENOMEM, "%s: not enough memory", path);
}
