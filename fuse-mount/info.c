#include "fuse-mount/info.h"

#include <errno.h>

#include "snapshot/describe.h"

int fm_info_of_chain(const struct snap_chain *chain, struct hv_json **ret, struct hv_err *err)
{
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	struct hv_description out = { .json = json };
	int rc = snap_describe_chain(&out, chain, true, err);

	if (rc == 0)
		*ret = hv_steal(json);
	return rc;
}

int fm_info_text(struct hv_json *info, const struct hv_probe *probe, char **ret, struct hv_err *err)
{
	struct hv_description out = { .json = info };

	hv_describe_contents(&out, probe, NULL);
	*ret = hv_json_dump(info);
	return *ret ? 0 : hv_fail(err, -ENOMEM, "not enough memory for info.json");
}
