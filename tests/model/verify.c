/*
 * Comparing what the engine reads, and what it left in the files, with the model.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/file.h"
#include "tests/model/refvhd.h"
#include "tests/model/run.h"
#include "vhd/check.h"

bool same_as_model(struct program *p, const struct layer *layer, const uint8_t *data,
		   uint64_t offset, uint64_t length, const char *who)
{
	if (!memcmp(data, layer->model + offset, length))
		return true;
	for (uint64_t at = 0; at < length; at += SECTOR)
		if (memcmp(data + at, layer->model + offset + at, SECTOR) != 0)
			return bad(p, "%s: sector %llu differs from the model (%02x, not %02x)",
				   who, (unsigned long long)(offset + at) / SECTOR, data[at],
				   layer->model[offset + at]);
	return true;
}

/* ---- The closed file ---- */

static bool reference_reads_the_same(struct program *p, unsigned number)
{
	const struct layer *layer = &p->layers[number];
	char *ancestors[MAX_LAYERS], why[REF_WHY] = "";
	uint8_t sector[REF_SECTOR];
	struct ref *ref;
	bool right = true;

	for (unsigned i = 0; i < number; i++)
		ancestors[i] = p->layers[number - 1 - i].path;
	ref = ref_open(layer->path, ancestors, one_in(p, 2) ? (int)number : 0, why);
	if (!ref)
		return bad(p, "reference reader: %s", why);
	if (ref_size_bytes(ref) != layer->size)
		right = bad(p, "reference reader: %llu bytes",
			    (unsigned long long)ref_size_bytes(ref));
	for (uint64_t i = 0; i < layer->size / SECTOR && right; i++)
		right = ref_read_sector(ref, i, sector) < 0 ?
				bad(p, "reference reader: %s", ref_why(ref)) :
				same_as_model(p, layer, sector, i * SECTOR, SECTOR,
					      "reference reader");
	if (right && ref_audit(ref) < 0)
		right = bad(p, "audit: %s", ref_why(ref));
	ref_close(ref);
	return right;
}

static void found(const struct vhd_finding *finding, void *arg)
{
	struct program *p = arg;

	if (finding->severity != VHD_NOTE && !(p->discarded && !strcmp(finding->code, "leak-gap")))
		bad(p, "check: %s: %s", finding->code, finding->sentence);
}

static bool check_finds_nothing(struct program *p, unsigned number)
{
	struct vhd_check_options options = { .data = true, .found = found, .arg = p };
	struct vhd_check_result result = {};
	struct hv_file *file = NULL;
	HV_ERR(err);
	int rc = hv_file_open(p->layers[number].path, 0, p->loop, &file, &err);

	if (rc)
		return bad(p, "hv_file_open: %s", hv_err_text(&err, rc));
	rc = vhd_check(file, &options, &result, &err);
	hv_file_close(file);
	if (rc)
		return bad(p, "vhd_check failed with %d: %s", rc, hv_err_text(&err, rc));
	return !p->failed && (!result.errors || bad(p, "check counts errors"));
}

bool verify_file(struct program *p, unsigned layer)
{
	say(p, "  verify layer %u", layer);
	return reference_reads_the_same(p, layer) && check_finds_nothing(p, layer);
}

/* ---- The open disk ---- */

bool verify_disk(struct program *p)
{
	uint64_t step, size = top(p)->size;
	bool right = true;

	for (uint64_t at = 0; at < size && right; at += step) {
		struct request *r;

		step = (1 + any(p, 4096)) * SECTOR;
		step = step < size - at ? step : size - at;
		r = request_new(p, HV_READ, at, step);
		request_submit(r);
		right = request_wait(&r, 1) &&
			same_as_model(p, top(p), r->data, at, step, "engine");
		request_free(r);
	}
	return right;
}

/* ---- Extents ---- */

static bool stored_there(struct program *p, const struct hv_extent *extent)
{
	const struct layer *layer = &p->layers[p->layer_count - 1 - extent->depth];
	int fd = open(layer->path, O_RDONLY | O_CLOEXEC);
	uint8_t *data = malloc(extent->length);
	bool right = fd >= 0 && data &&
		     pread(fd, data, extent->length, (off_t)extent->host_offset) ==
			     (ssize_t)extent->length;

	if (!right)
		bad(p, "extent at sector %llu: nothing at %#llx of layer %u",
		    (unsigned long long)extent->offset / SECTOR,
		    (unsigned long long)extent->host_offset, extent->depth);
	right = right && same_as_model(p, top(p), data, extent->offset, extent->length,
				       "host_offset of an extent");
	free(data);
	if (fd >= 0)
		close(fd);
	return right;
}

static bool all_zero(const uint8_t *data, uint64_t length)
{
	return !data[0] && !memcmp(data, data + 1, length - 1);
}

static bool extent_right(struct program *p, const struct hv_extent *e, uint64_t offset,
			 uint64_t length, unsigned flags)
{
	unsigned long long sector = offset / SECTOR;

	if (e->offset != offset || !e->length || e->length > length || e->length % SECTOR)
		return bad(p, "extent asked at sector %llu + %llu: is at %llu + %llu", sector,
			   (unsigned long long)length / SECTOR,
			   (unsigned long long)e->offset / SECTOR,
			   (unsigned long long)e->length / SECTOR);
	if (e->state == HV_EXTENT_UNMAPPED || e->depth >= p->layer_count)
		return bad(p, "extent at sector %llu: state %d, depth %u", sector, (int)e->state,
			   e->depth);
	if (e->state == HV_EXTENT_ZERO)
		return all_zero(top(p)->model + offset, e->length) ||
		       bad(p, "extent at sector %llu is said to be zero", sector);
	if (flags || e->host_offset == HV_NO_HOST_OFFSET)
		return true;
	return stored_there(p, e);
}

bool op_extents(struct program *p)
{
	unsigned flags = one_in(p, 3) ? HV_EXTENT_COARSE : 0;
	uint64_t size = top(p)->size, length;

	for (uint64_t at = 0; at < size; at += length) {
		struct hv_extent extent = {};
		HV_ERR(err);
		int rc;

		length = one_in(p, 2) ? size - at : (1 + any(p, 4096)) * SECTOR;
		length = length < size - at ? length : size - at;
		rc = hv_disk_extent(p->disk, at, length, flags, &extent, &err);
		if (rc)
			return bad(p, "extent: %s", hv_err_text(&err, rc));
		if (!extent_right(p, &extent, at, length, flags))
			return false;
		length = extent.length;
	}
	return true;
}
