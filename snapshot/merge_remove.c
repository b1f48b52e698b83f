/*
 * Removing what was merged. A layer between the child and the target is not right by itself any
 * more, since below it things have changed: none of them may be left in a state that opens.
 */
#include "snapshot/merge_remove.h"

#include <errno.h>
#include <stdlib.h>

#include "vhd/reparent.h"

struct removal {
	const struct snap_merge_request *request;
	const struct snap_merge_state *state;
	struct hv_loop *loop;
	struct snap_merge_report *report;
	bool attached;                         /* the child is the target's own */
	struct hv_file *files[SNAP_MAX_DEPTH]; /* open for writing, locked */
	char *real[SNAP_MAX_DEPTH];            /* where they are, links followed */
};

/* The file that was merged, and nobody else's now. */
static int claim(struct removal *removal, unsigned i, struct hv_err *err)
{
	const char *path = removal->report->layers[i].path;
	unsigned flags = HV_FILE_WRITE | (removal->request->before_removal ? HV_FILE_DIRECT : 0);
	int rc;

	removal->real[i] = realpath(path, NULL);
	if (!removal->real[i])
		return hv_fail_errno(err, -errno, "%s", path);
	rc = hv_file_open(removal->real[i], flags, removal->loop, &removal->files[i], err);
	if (rc)
		return rc;
	if (snap_merge_is_layer(removal->files[i], &removal->state->layers[i]))
		return 0;
	return hv_fail(err, -ESTALE, "%s: was changed since it was merged", path);
}

static int claim_all(struct removal *removal, struct hv_err *err)
{
	HV_ERR(why);
	int rc = 0;

	for (unsigned i = 0; i < removal->report->levels && rc == 0; i++)
		rc = claim(removal, i, &why);
	if (rc)
		return hv_fail(err, rc, "everything is merged, but nothing was deleted: %s",
			       hv_err_text(&why, rc));
	return 0;
}

/* The child becomes the target's own child, which it reads like already. */
static int attach(struct removal *removal, struct hv_disk *child, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *target = NULL;
	struct snap_open_options open = { 0 };
	struct vhd_create_options options = { 0 };
	struct snap_child_paths paths = { 0 };
	int rc = snap_open(removal->report->target, &open, removal->loop, &target, err);

	if (rc || !vhd_is_vhd(target)) /* a raw image can have no child */
		return rc;
	rc = snap_describe_child(child->path, target, &options, &paths, err);
	if (rc == 0)
		rc = vhd_reparent(child, &options,
				  removal->request->options.overwrite ? VHD_REPARENT_ZERO : 0, err);
	snap_child_paths_free(&paths);
	removal->attached = rc == 0;
	return rc;
}

static int attach_child(struct removal *removal, struct hv_err *err)
{
	struct hv_disk *child;
	int rc;

	removal->attached = removal->report->levels == 1;
	if (removal->attached)
		return 0;
	rc = vhd_open(removal->files[0], 0, &child, err);
	if (rc)
		return rc;
	removal->files[0] = NULL;
	rc = attach(removal, child, err);
	hv_disk_close(child);
	if (rc == 0)
		rc = hv_file_open(removal->real[0], HV_FILE_WRITE | HV_FILE_DIRECT, removal->loop,
				  &removal->files[0], err);
	return rc;
}

static int remove_one(struct removal *removal, unsigned i, struct hv_err *err)
{
	const struct snap_merge_request *request = removal->request;
	int rc = 0;

	if (request->before_removal)
		rc = request->before_removal(removal->files[i], request->arg, err);
	/* One is gone for good before the next goes. */
	if (rc == 0)
		rc = hv_file_unlink(removal->real[i], err);
	if (rc == 0)
		removal->report->layers[i].removed = true;
	return rc;
}

/* The child does not outlive what it needs. */
static int remove_all(struct removal *removal, struct hv_err *err)
{
	int rc = removal->attached ? 0 : remove_one(removal, 0, err);

	for (unsigned i = removal->report->levels; --i > 0 && rc == 0;)
		rc = remove_one(removal, i, err);
	if (rc == 0 && removal->attached)
		rc = remove_one(removal, 0, err);
	return rc;
}

int snap_merge_remove(const struct snap_merge_request *request,
		      const struct snap_merge_state *state, struct hv_loop *loop,
		      struct snap_merge_report *report, struct hv_err *err)
{
	struct removal removal = {
		.request = request, .state = state, .loop = loop, .report = report
	};
	int rc = claim_all(&removal, err);

	if (rc == 0)
		rc = attach_child(&removal, err);
	if (rc == 0)
		rc = remove_all(&removal, err);
	for (unsigned i = 0; i < report->levels; i++) {
		hv_file_close(removal.files[i]);
		free(removal.real[i]);
	}
	return rc;
}

/* Leftovers. */

static int remove_leftover(const struct snap_merge_request *request, const char *path,
			   const struct snap_merge_identity *identity, struct hv_loop *loop,
			   struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct snap_file_id id;
	int rc;

	/* The child itself, which is open, is found as well. */
	if (snap_file_id_of(path, &id) || id.dev != identity->dev || id.ino != identity->ino)
		return 0;
	rc = hv_file_open(path, HV_FILE_WRITE | HV_FILE_DIRECT, loop, &file, err);
	if (rc || !snap_merge_is_layer(file, identity))
		return rc;
	if (request->before_removal)
		rc = request->before_removal(file, request->arg, err);
	return rc ? rc : hv_file_unlink(path, err);
}

int snap_merge_remove_leftovers(const struct snap_merge_request *request,
				const struct snap_merge_state *state, const char *path,
				struct hv_loop *loop, struct hv_err *err)
{
	struct snap_children found = { 0 };
	struct snap_children_query query = { .uuid_count = 1 };
	int rc = 0;

	/* The lowest first, as before; each is a child of the next. */
	for (unsigned i = state->count - 1; i-- > 1 && rc == 0;) {
		query.uuids = &state->layers[i + 1].uuid;
		rc = snap_find_children_beside(path, &query, &found, err);
		for (unsigned n = 0; n < found.count && rc == 0; n++)
			rc = remove_leftover(request, found.list[n].path, &state->layers[i], loop,
					     err);
		snap_children_free(&found);
	}
	return rc;
}
