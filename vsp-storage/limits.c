/*
 * Limits by their names.
 */
#include "vsp-storage/limits.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "hvcore/size.h"

/* More would be none: and keeps what is computed with it exact. */
#define MAX_RATE (UINT64_C(1) << 50)

static const struct {
	const char *name;
	size_t offset;
	bool size;
} names[] = {
	{ "iops", offsetof(struct vsp_limits, iops), false },
	{ "iops-burst", offsetof(struct vsp_limits, iops_burst), false },
	{ "iops-min", offsetof(struct vsp_limits, iops_min), false },
	{ "bandwidth", offsetof(struct vsp_limits, bandwidth), true },
	{ "bandwidth-burst", offsetof(struct vsp_limits, bandwidth_burst), true },
	{ "bandwidth-min", offsetof(struct vsp_limits, bandwidth_min), true },
};

static int parse(const char *name, const char *value, bool size, uint64_t *ret, struct hv_err *err)
{
	HV_ERR(cause);
	int rc = 0;

	if (!value)
		return hv_fail(err, -EINVAL, "\"%s\": a value is missing", name);
	if (!size && value[strspn(value, "0123456789")])
		return hv_fail(err, -EINVAL, "\"%s=%s\": %s takes a number", name, value, name);
	rc = hv_size_parse(value, ret, &cause);
	if (rc)
		return hv_fail(err, -EINVAL, "\"%s=%s\": %s", name, value, cause.sentence);
	if (*ret > MAX_RATE)
		return hv_fail(err, -EINVAL, "\"%s=%s\": that is too much for a limit", name,
			       value);
	return 0;
}

int vsp_limits_set(struct vsp_limits *limits, const char *name, const char *value,
		   struct hv_err *err)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t number;
		int rc;

		if (strcmp(name, names[i].name) != 0)
			continue;
		rc = parse(name, value, names[i].size, &number, err);
		if (rc == 0)
			memcpy((char *)limits + names[i].offset, &number, sizeof(number));
		return rc;
	}
	return -ENOENT;
}
