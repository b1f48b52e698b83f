/*
 * The part of a disk that --offset and --length name.
 */
#include "vhdtool/range.h"

#include <errno.h>
#include <inttypes.h>

#include "hvcore/checked.h"
#include "hvcore/size.h"

int range_parse(const struct range_options *options, struct range *ret, struct hv_err *err)
{
	struct range range = { .offset = options->offset, .to_end = !options->length };
	HV_ERR(cause);
	int rc = 0;

	if (options->length)
		rc = hv_size_parse(options->length, &range.length, &cause);
	if (rc)
		return hv_fail(err, rc, "option '--length': %s", hv_err_text(&cause, rc));
	*ret = range;
	return 0;
}

int range_fit(struct range *range, const struct hv_disk *disk, struct hv_err *err)
{
	if (range->offset > disk->size_bytes)
		return hv_fail(err, -EINVAL,
			       "%s: offset %" PRIu64 " is beyond the disk's end at %" PRIu64,
			       disk->path, range->offset, disk->size_bytes);
	if (range->to_end)
		range->length = disk->size_bytes - range->offset;
	if (!hv_range_inside(range->offset, range->length, disk->size_bytes))
		return hv_fail(err, -EINVAL,
			       "%s: %" PRIu64 " bytes at %" PRIu64
			       " reach beyond the disk's end at %" PRIu64,
			       disk->path, range->length, range->offset, disk->size_bytes);
	return 0;
}
