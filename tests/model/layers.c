/*
 * Making, opening and closing the layers of a program's disk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/file.h"
#include "snapshot/chain.h"
#include "tests/model/run.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static bool failed(struct program *p, const char *what, int rc, const struct hv_err *err)
{
	return bad(p, "%s failed with %d: %s", what, rc, hv_err_text(err, rc));
}

static uint32_t any_block(struct program *p)
{
	static const uint32_t sizes[] = { 512 * KIB, 512 * KIB, MIB, 2 * MIB };

	return one_in(p, 40) ? 4 * MIB : sizes[any(p, 4)];
}

static uint64_t any_size(struct program *p)
{
	uint64_t block = p->block;

	switch (any(p, 16)) {
	case 0:
		return SECTOR;
	case 1 ... 4:
		return (1 + any(p, 64)) * SECTOR;
	case 5:
		return block;
	case 6 ... 7:
		return block + SECTOR;
	case 8:
		return block - SECTOR;
	case 9 ... 10:
		return (1 + any(p, 3)) * block + any(p, 9) * SECTOR;
	case 11:
		return (1 + any(p, 16 * MIB / SECTOR)) * SECTOR;
	default:
		return (1 + any(p, 2 * block / SECTOR)) * SECTOR;
	}
}

/* Layers lie in different directories, below names of every kind. */
static void name_layer(struct program *p, struct layer *layer)
{
	static const char *const names[] = { "disk", "sub/disk", "a b/c/d\u00efsk ", "layer.",
					     "sub/\u65e5\u672c\U0001d11e" };

	snprintf(layer->path, sizeof(layer->path), "%.3000s/%s%u.%s", p->directory,
		 names[any(p, 5)], p->layer_count, one_in(p, 4) ? "avhd" : "vhd");
}

/* Its path has been chosen before. */
static void new_layer(struct program *p, uint64_t size)
{
	struct layer *layer = &p->layers[p->layer_count];

	layer->model = calloc(1, size);
	if (!layer->model)
		abort();
	layer->size = size;
	p->layer_count++;
}

static unsigned file_flags(const struct program *p)
{
	return HV_FILE_WRITE | (p->direct ? (unsigned)HV_FILE_DIRECT : 0u);
}

/* Makes the file of the top layer; gives it its name unless the caller wants it open. */
static bool create_file(struct program *p, const struct vhd_create_options *options,
			struct hv_file **open)
{
	struct hv_file *file = NULL;
	HV_ERR(err);
	int rc = hv_file_create(top(p)->path, file_flags(p), false, p->loop, &file, &err);

	if (rc)
		return failed(p, "hv_file_create", rc, &err);
	rc = vhd_create(file, options, &err);
	if (!rc && !open)
		rc = hv_file_publish(file, &err);
	if (!rc && open) {
		*open = file;
		return true;
	}
	hv_file_close(file);
	return !rc || failed(p, "vhd_create", rc, &err);
}

/* Fills the disk before its file has a name, without any order of writes. */
static bool fill_unpublished(struct program *p, struct hv_file *file)
{
	HV_ERR(err);
	int rc = vhd_open(file, VHD_OPEN_UNORDERED, &p->disk, &err);

	if (rc) {
		hv_file_close(file);
		return failed(p, "vhd_open", rc, &err);
	}
	for (unsigned i = 0; i < 3; i++)
		if (!op_write(p) || !op_batch(p))
			return false;
	if (!op_flush(p))
		return false;
	rc = hv_file_publish(vhd_get_file(p->disk), &err);
	return !rc || failed(p, "hv_file_publish", rc, &err);
}

bool create_base(struct program *p)
{
	struct vhd_create_options options = { .type = p->type };
	struct hv_file *file = NULL;
	bool unpublished = one_in(p, 4);

	p->block = any_block(p);
	options.size_bytes = any_size(p);
	options.block_bytes = p->type == VHD_FIXED ? 0 : (uint32_t)p->block;
	options.geometry = one_in(p, 4) ? VHD_GEOMETRY_SPEC : VHD_GEOMETRY_EXACT_MAX;
	name_layer(p, &p->layers[0]);
	new_layer(p, options.size_bytes);
	say(p, "create type %d, %llu bytes, blocks of %llu%s%s: %s", (int)p->type,
	    (unsigned long long)options.size_bytes, (unsigned long long)p->block,
	    p->direct ? ", direct" : "", unpublished ? ", filled before it has a name" : "",
	    top(p)->path);
	if (!create_file(p, &options, unpublished ? &file : NULL))
		return false;
	return unpublished ? fill_unpublished(p, file) : open_top(p, true);
}

bool open_top(struct program *p, bool writable)
{
	struct snap_open_options options = {
		.flags = (writable ? (unsigned)SNAP_OPEN_WRITE : 0u) |
			 (p->direct ? (unsigned)SNAP_OPEN_DIRECT : 0u),
	};
	HV_ERR(err);
	int rc = snap_open(top(p)->path, &options, p->loop, &p->disk, &err);

	if (rc)
		return failed(p, "snap_open", rc, &err);
	if (p->disk->size_bytes != top(p)->size)
		return bad(p, "the disk has %llu bytes instead of %llu",
			   (unsigned long long)p->disk->size_bytes,
			   (unsigned long long)top(p)->size);
	return true;
}

bool close_top(struct program *p)
{
	bool right = op_flush(p);

	hv_disk_close(p->disk);
	p->disk = NULL;
	return right;
}

bool op_reopen(struct program *p)
{
	if (!close_top(p) || !verify_file(p, p->layer_count - 1))
		return false;
	if (one_in(p, 3)) {
		if (!open_top(p, false) || !verify_disk(p))
			return false;
		hv_disk_close(p->disk);
		p->disk = NULL;
	}
	return open_top(p, true);
}

static bool describe_child(struct program *p, struct vhd_create_options *options,
			   struct snap_child_paths *paths, const char *child_path)
{
	struct snap_open_options none = {};
	struct hv_disk *parent = NULL;
	HV_ERR(err);
	int rc = snap_open(top(p)->path, &none, p->loop, &parent, &err);

	if (rc)
		return failed(p, "snap_open of the parent", rc, &err);
	rc = snap_describe_child(child_path, parent, options, paths, &err);
	hv_disk_close(parent);
	return !rc || failed(p, "snap_describe_child", rc, &err);
}

bool op_snapshot(struct program *p)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING };
	struct snap_child_paths paths = {};
	struct layer *parent = top(p), *layer = parent + 1;
	bool right;

	if (p->layer_count == MAX_LAYERS)
		return true;
	if (!close_top(p) || !verify_file(p, p->layer_count - 1))
		return false;
	p->block = any_block(p);
	name_layer(p, layer);
	if (!describe_child(p, &options, &paths, layer->path))
		return false;
	options.block_bytes = (uint32_t)p->block;
	options.type = VHD_DIFFERENCING;
	if (options.size_bytes != parent->size)
		return bad(p, "the child is to have %llu bytes",
			   (unsigned long long)options.size_bytes);
	new_layer(p, parent->size);
	memcpy(layer->model, parent->model, parent->size);
	say(p, "  child with blocks of %llu: %s", (unsigned long long)p->block, layer->path);
	right = create_file(p, &options, NULL);
	snap_child_paths_free(&paths);
	return right && open_top(p, true);
}
