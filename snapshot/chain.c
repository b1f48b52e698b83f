/*
 * Chains: opening layers, judging whether one is another's parent, stacking them.
 */
#include "snapshot/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "snapshot/format.h"
#include "snapshot/parent.h"

const char *snap_parent_state_name(enum snap_parent_state state)
{
	static const char *const names[] = {
		[SNAP_PARENT_NONE] = "none",         [SNAP_PARENT_OK] = "ok",
		[SNAP_PARENT_MISSING] = "missing",   [SNAP_PARENT_WRONG] = "wrong",
		[SNAP_PARENT_RESIZED] = "resized",   [SNAP_PARENT_LOOP] = "loop",
		[SNAP_PARENT_TOO_DEEP] = "too deep", [SNAP_PARENT_FAILED] = "failed",
	};

	return names[state];
}

void snap_chain_free(struct snap_chain *chain)
{
	if (!chain)
		return;
	for (unsigned i = 0; i < chain->count; i++) {
		hv_disk_close(chain->layers[i].disk);
		free(chain->layers[i].parent_path);
		free(chain->layers[i].sentence);
	}
	free(chain->layers);
	free(chain);
}

static const struct vhd_info *vhd_info_of(struct hv_disk *disk)
{
	return vhd_is_vhd(disk) ? vhd_get_info(disk) : NULL;
}

int snap_file_id_of(const char *path, struct snap_file_id *ret)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*ret = (struct snap_file_id){ st.st_dev, st.st_ino };
	return 0;
}

static bool same_file(const struct snap_file_id *a, dev_t dev, ino_t ino)
{
	return a->dev == dev && a->ino == ino;
}

static bool is_write_layer(const struct snap_open_options *options, const char *path, bool leaf)
{
	struct snap_file_id id = { 0 };

	if (!(options->flags & SNAP_OPEN_WRITE) || !options->write_layer)
		return options->flags & SNAP_OPEN_WRITE && leaf;
	return snap_file_id_of(path, &id) == 0 && same_file(options->write_layer, id.dev, id.ino);
}

/* Opening a VHD for writing may mend it: the file must be the right one before that. */
static int open_file(const char *path, const struct snap_open_options *options, bool leaf,
		     struct hv_loop *loop, struct hv_file **ret, struct hv_err *err)
{
	bool write = is_write_layer(options, path, leaf);
	int rc = hv_file_open(path,
			      (write ? HV_FILE_WRITE : 0) |
				      (options->flags & SNAP_OPEN_DIRECT ? HV_FILE_DIRECT : 0) |
				      (options->flags & SNAP_OPEN_NO_LOCK ? HV_FILE_NO_LOCK : 0),
			      loop, ret, err);

	if (rc || !write || !options->write_layer ||
	    same_file(options->write_layer, (*ret)->dev, (*ret)->ino))
		return rc;
	return hv_fail(err, -ESTALE, "%s: was replaced by another file meanwhile", path);
}

static int open_layer(const char *path, const struct snap_open_options *options, bool leaf,
		      bool by_uuid, struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	bool raw;
	int rc = open_file(path, options, leaf, loop, &file, err);

	if (rc == 0)
		rc = snap_decide_format(file, leaf ? options->format : NULL, by_uuid, &raw, err);
	if (rc)
		return rc;
	rc = raw ? hv_raw_open(file, file->size_bytes, ret, err) : vhd_open(file, 0, ret, err);
	if (rc == 0)
		file = NULL;
	return rc;
}

/* The verdict on a layer's parent. */
static void conclude(struct snap_layer *layer, enum snap_parent_state state, const char *path,
		     const struct hv_err *err)
{
	layer->parent = state;
	free(layer->parent_path);
	layer->parent_path = path ? strdup(path) : NULL;
	free(layer->sentence);
	layer->sentence = err ? strdup(err->sentence) : NULL;
	layer->code = err ? err->code : 0;
}

/* The layer whose file is at path, or -1. */
static int layer_with_file(const struct snap_chain *chain, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return -1;
	for (unsigned i = 0; i < chain->count; i++) {
		struct hv_disk *disk = chain->layers[i].disk;

		/* A raw layer is a base: it cannot be part of a loop. */
		if (vhd_is_vhd(disk) && vhd_get_file(disk)->dev == st.st_dev &&
		    vhd_get_file(disk)->ino == st.st_ino)
			return (int)i;
	}
	return -1;
}

static bool uuid_seen(const struct snap_chain *chain, const struct hv_guid *uuid)
{
	for (unsigned i = 0; i < chain->count; i++) {
		const struct vhd_info *info = vhd_info_of(chain->layers[i].disk);

		if (info && !hv_guid_is_null(uuid) && hv_guid_equal(&info->footer.uuid, uuid))
			return true;
	}
	return false;
}

/*
 * A larger parent has been resized, unless the child was made at the parent's size and shrunk. A
 * smaller parent is fine (beyond its end is zero), unless it was made at the child's size: then it
 * has been cut.
 */
bool snap_was_resized(struct hv_disk *child, struct hv_disk *parent)
{
	const struct vhd_info *below = vhd_info_of(parent);
	uint64_t made = vhd_get_info(child)->footer.original_bytes;

	if (parent->size_bytes > child->size_bytes)
		return made != parent->size_bytes;
	return parent->size_bytes < child->size_bytes && below && made == child->size_bytes &&
	       below->footer.original_bytes == child->size_bytes;
}

static enum snap_parent_state judge_identity(struct hv_disk *child, struct hv_disk *parent,
					     struct hv_err *err)
{
	const struct hv_guid *wanted = &vhd_get_info(child)->parent_uuid;
	const struct vhd_info *info = vhd_info_of(parent);
	char want[HV_GUID_TEXT_SIZE], have[HV_GUID_TEXT_SIZE];

	hv_guid_format(wanted, want);
	if (!info) {
		/* Xen's tools leave the UUID out when the parent is a raw image. */
		if (hv_guid_is_null(wanted))
			return SNAP_PARENT_OK;
		hv_fail(err, -ESTALE,
			"%s: '%s' is not its parent: it is no VHD, the parent has UUID %s; name the right file with --parent",
			child->path, parent->path, want);
		return SNAP_PARENT_WRONG;
	}
	hv_guid_format(&info->footer.uuid, have);
	if (!hv_guid_equal(&info->footer.uuid, wanted)) {
		hv_fail(err, -ESTALE,
			"%s: '%s' is not its parent: it has UUID %s, the parent has %s; name the right file with --parent",
			child->path, parent->path, have, want);
		return SNAP_PARENT_WRONG;
	}
	return SNAP_PARENT_OK;
}

static enum snap_parent_state judge(const struct snap_chain *chain, struct hv_disk *child,
				    struct hv_disk *parent, struct hv_err *err)
{
	enum snap_parent_state state = judge_identity(child, parent, err);
	const struct vhd_info *info = vhd_info_of(parent);

	if (state != SNAP_PARENT_OK)
		return state;
	if (info && uuid_seen(chain, &info->footer.uuid)) {
		hv_fail(err, -ELOOP,
			"%s: its parent '%s' has the UUID of a disk that depends on it, so that the chain is a loop; one of them is a copy",
			child->path, parent->path);
		return SNAP_PARENT_LOOP;
	}
	if (snap_was_resized(child, parent)) {
		hv_fail(err, -ESTALE,
			"%s: its parent '%s' has been resized to %llu bytes since the child of %llu bytes was made; give the parent its old size back",
			child->path, parent->path, (unsigned long long)parent->size_bytes,
			(unsigned long long)child->size_bytes);
		return SNAP_PARENT_RESIZED;
	}
	return SNAP_PARENT_OK;
}

/* Tries one candidate. SNAP_PARENT_MISSING: go on to the next. */
static enum snap_parent_state try_candidate(const struct snap_chain *chain, struct hv_disk *child,
					    const char *path,
					    const struct snap_open_options *options,
					    struct hv_disk **ret, struct hv_err *err)
{
	/* A null UUID is Xen's way of saying that the parent is raw, unless it looks like a VHD. */
	bool by_uuid = !hv_guid_is_null(&vhd_get_info(child)->parent_uuid);
	HV_AUTO(hv_disk_close) struct hv_disk *parent = NULL;
	enum snap_parent_state state;
	int rc;

	if (layer_with_file(chain, path) >= 0) {
		hv_fail(err, -ELOOP,
			"%s: its parent '%s' is a disk that depends on it, so that the chain is a loop",
			child->path, path);
		return SNAP_PARENT_LOOP;
	}
	rc = open_layer(path, options, false, by_uuid, child->loop, &parent, err);
	if (rc == -ENOENT || rc == -ENOTDIR || rc == -ENAMETOOLONG)
		return SNAP_PARENT_MISSING;
	if (rc)
		return SNAP_PARENT_FAILED;
	state = judge(chain, child, parent, err);
	if (state == SNAP_PARENT_OK)
		*ret = hv_steal(parent);
	return state;
}

static void say_missing(struct hv_disk *child, const struct snap_candidates *candidates,
			struct hv_err *err)
{
	const struct vhd_info *info = vhd_get_info(child);

	if (!candidates->count)
		hv_fail(err, -ENOENT,
			"%s: records no path of its parent; name the parent with --parent",
			child->path);
	else
		hv_fail(err, -ENOENT,
			"%s: its parent '%s' was not found, looked for at '%s'; put it there or name it with --parent",
			child->path, *info->parent_name ? info->parent_name : candidates->paths[0],
			candidates->paths[0]);
}

/*
 * Finds the parent of the last layer of the chain; its verdict goes into the layer, the opened
 * parent to *ret. A wrong candidate is passed over; when none is right, the first that exists is
 * what the sentence speaks of.
 */
static int find_parent(struct snap_chain *chain, const struct snap_open_options *options,
		       const char *explicit_path, struct hv_disk **ret)
{
	struct snap_layer *layer = &chain->layers[chain->count - 1];
	struct hv_disk *child = layer->disk;
	const struct vhd_info *info = vhd_get_info(child);
	struct snap_candidates candidates;
	int rc = snap_candidates(info, child->path, explicit_path, &candidates);

	if (rc)
		return rc;
	layer->parent = SNAP_PARENT_MISSING;
	for (unsigned i = 0; i < candidates.count; i++) {
		HV_ERR(err);
		enum snap_parent_state state =
			try_candidate(chain, child, candidates.paths[i], options, ret, &err);

		if (state == SNAP_PARENT_OK) {
			conclude(layer, state, candidates.paths[i], NULL);
			break;
		}
		if (state != SNAP_PARENT_MISSING && layer->parent == SNAP_PARENT_MISSING)
			conclude(layer, state, candidates.paths[i], &err);
	}
	if (layer->parent == SNAP_PARENT_MISSING) {
		HV_ERR(err);

		say_missing(child, &candidates, &err);
		conclude(layer, SNAP_PARENT_MISSING, candidates.count ? candidates.paths[0] : NULL,
			 &err);
	}
	snap_candidates_free(&candidates);
	return 0;
}

static int append(struct snap_chain *chain, struct hv_disk *disk)
{
	struct snap_layer *layers =
		realloc(chain->layers, (chain->count + 1) * sizeof(*chain->layers));

	if (!layers) {
		hv_disk_close(disk);
		return -ENOMEM;
	}
	chain->layers = layers;
	layers[chain->count++] = (struct snap_layer){ .disk = disk };
	return 0;
}

static void refuse_depth(struct snap_layer *layer)
{
	HV_ERR(err);

	hv_fail(&err, -ELOOP,
		"%s: the chain has more than %d layers; merge some of them where it was made",
		layer->disk->path, SNAP_MAX_DEPTH);
	conclude(layer, SNAP_PARENT_TOO_DEEP, NULL, &err);
}

/* Follows parents from the last layer up, as far as they can be had. */
static int follow(struct snap_chain *chain, const struct snap_open_options *options)
{
	const char *explicit_path = options->parent_path;
	int rc = 0;

	while (rc == 0) {
		struct snap_layer *layer = &chain->layers[chain->count - 1];
		const struct vhd_info *info = vhd_info_of(layer->disk);
		struct hv_disk *parent = NULL;

		if (!info || info->type != VHD_DIFFERENCING)
			break;
		if (chain->count == SNAP_MAX_DEPTH) {
			refuse_depth(layer);
			break;
		}
		rc = find_parent(chain, options, explicit_path, &parent);
		explicit_path = NULL;
		if (!parent)
			break;
		rc = append(chain, parent);
	}
	return rc;
}

int snap_examine(const char *path, const struct snap_open_options *options, struct hv_loop *loop,
		 struct snap_chain **ret, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = calloc(1, sizeof(*chain));
	struct hv_disk *leaf;
	int rc;

	if (!chain)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", path);
	rc = open_layer(path, options, true, false, loop, &leaf, err);
	if (rc)
		return rc;
	rc = append(chain, leaf);
	if (rc == 0 && !(options->flags & SNAP_OPEN_NO_PARENTS))
		rc = follow(chain, options);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot open the chain", path);
	*ret = hv_steal(chain);
	return 0;
}

/* Whoever opens a disk for its contents shall not be given ciphertext without a word. */
static int refuse_encrypted(const struct snap_chain *chain, struct hv_err *err)
{
	for (unsigned i = 0; i < chain->count; i++) {
		const struct vhd_info *info = vhd_info_of(chain->layers[i].disk);

		if (info && info->encrypted)
			return hv_fail(
				err, -ENOTSUP,
				"%s: encrypted by Xen's tools, so that its contents cannot be read",
				chain->layers[i].disk->path);
	}
	return 0;
}

static int refuse_missing_layer(const struct snap_chain *chain,
				const struct snap_open_options *options, struct hv_err *err)
{
	if (!options->write_layer || !(options->flags & SNAP_OPEN_WRITE))
		return 0;
	for (unsigned i = 0; i < chain->count; i++) {
		if (chain->layers[i].disk->writable)
			return 0;
	}
	return hv_fail(err, -ESTALE, "%s: the layer to be written is not in its chain any more",
		       chain->layers[0].disk->path);
}

static int refuse_incomplete(const struct snap_chain *chain, struct hv_err *err)
{
	const struct snap_layer *last = &chain->layers[chain->count - 1];

	if (!last->code)
		return 0;
	return hv_fail(err, last->code, "%s", last->sentence ? last->sentence : last->disk->path);
}

/* The whole chain, or why it cannot be had. */
static int open_whole(const char *path, const struct snap_open_options *options,
		      struct hv_loop *loop, struct snap_chain **ret, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	int rc = snap_examine(path, options, loop, &chain, err);

	if (rc == 0)
		rc = refuse_incomplete(chain, err);
	if (rc == 0)
		rc = refuse_encrypted(chain, err);
	if (rc == 0)
		rc = refuse_missing_layer(chain, options, err);
	if (rc == 0)
		*ret = hv_steal(chain);
	return rc;
}

/* From the base up to that layer, each takes over the one below. */
static struct hv_disk *stack(struct snap_chain *chain, unsigned top)
{
	for (unsigned i = chain->count - 1; i > top; i--) {
		vhd_set_backing(chain->layers[i - 1].disk, chain->layers[i].disk);
		chain->layers[i].disk = NULL;
	}
	return hv_steal(chain->layers[top].disk);
}

int snap_chain_stack(struct snap_chain *chain, struct hv_disk **ret, struct hv_err *err)
{
	int rc = refuse_incomplete(chain, err);

	if (rc == 0)
		rc = refuse_encrypted(chain, err);
	if (rc == 0)
		*ret = stack(chain, 0);
	return rc;
}

int snap_open(const char *path, const struct snap_open_options *options, struct hv_loop *loop,
	      struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	int rc = open_whole(path, options, loop, &chain, err);

	if (rc == 0)
		*ret = stack(chain, 0);
	return rc;
}

int snap_open_parent(const char *path, const struct snap_open_options *options,
		     struct hv_loop *loop, struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(snap_chain_free) struct snap_chain *chain = NULL;
	int rc = open_whole(path, options, loop, &chain, err);

	if (rc)
		return rc;
	if (chain->count < 2)
		return hv_fail(err, -EINVAL, "%s: is not a differencing disk, and has no parent",
			       path);
	*ret = stack(chain, 1);
	return 0;
}

struct hv_disk *snap_layer_at(struct hv_disk *disk, unsigned depth)
{
	while (disk && depth--)
		disk = vhd_is_vhd(disk) ? vhd_get_backing(disk) : NULL;
	return disk;
}

struct hv_file *snap_layer_file(struct hv_disk *layer)
{
	return vhd_is_vhd(layer) ? vhd_get_file(layer) : hv_raw_get_file(layer);
}
