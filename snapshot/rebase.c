/*
 * Changing parents.
 */
#include "snapshot/rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/keep_view.h"
#include "vhd/reparent.h"

struct rebase {
	const struct snap_rebase_request *request;
	struct hv_loop *loop;
	struct snap_rebase_report *report;
	struct snap_file_id id; /* of the child */
	struct hv_disk *child;  /* alone */
	struct hv_disk *old_parent, *new_parent;
	struct vhd_create_options record; /* of the new parent */
	struct snap_child_paths paths;
};

void snap_rebase_report_free(struct snap_rebase_report *report)
{
	free(report->old_parent);
	free(report->parent);
	*report = (struct snap_rebase_report){ 0 };
}

static unsigned flags_of(const struct rebase *rebase)
{
	return rebase->request->direct ? SNAP_OPEN_DIRECT : 0;
}

/* The child, alone; for writing it must be the file that was looked at. */
static int open_child(struct rebase *rebase, bool write, struct hv_err *err)
{
	struct snap_open_options options = {
		.flags = flags_of(rebase) | SNAP_OPEN_NO_PARENTS | (write ? SNAP_OPEN_WRITE : 0),
		.format = "vhd",
		.write_layer = write ? &rebase->id : NULL,
	};

	hv_disk_close(hv_steal(rebase->child));
	return snap_open(rebase->request->child, &options, rebase->loop, &rebase->child, err);
}

static int look_at_child(struct rebase *rebase, struct hv_err *err)
{
	const char *path = rebase->request->child;
	int rc = open_child(rebase, false, err);

	if (rc)
		return rc;
	if (vhd_get_info(rebase->child)->type != VHD_DIFFERENCING)
		return hv_fail(err, -EINVAL,
			       "%s: is not a differencing disk, and has no parent to change", path);
	rebase->id = (struct snap_file_id){ vhd_get_file(rebase->child)->dev,
					    vhd_get_file(rebase->child)->ino };
	rebase->report->size_bytes = rebase->child->size_bytes;
	rebase->report->old_uuid = vhd_get_info(rebase->child)->parent_uuid;
	return 0;
}

/* The new parent. */

static int refuse_own_file(const struct rebase *rebase, struct hv_err *err)
{
	struct snap_file_id id;

	if (snap_file_id_of(rebase->request->parent, &id) || id.dev != rebase->id.dev ||
	    id.ino != rebase->id.ino)
		return 0;
	return hv_fail(err, -EINVAL, "%s: cannot be its own parent", rebase->request->child);
}

/* Neither the child itself, nor a disk that depends on it or has its UUID. */
static int refuse_descendants(const struct rebase *rebase, struct hv_err *err)
{
	const struct hv_guid *uuid = &vhd_get_info(rebase->child)->footer.uuid;
	unsigned depth = 0;

	for (struct hv_disk *layer = rebase->new_parent; layer; layer = snap_layer_at(layer, 1)) {
		const struct vhd_info *info = vhd_is_vhd(layer) ? vhd_get_info(layer) : NULL;
		const struct hv_file *file = info ? vhd_get_file(layer) : NULL;

		if (file && file->dev == rebase->id.dev && file->ino == rebase->id.ino)
			return hv_fail(err, -EINVAL,
				       "%s: depends on '%s', so that it cannot be its parent",
				       rebase->request->parent, rebase->request->child);
		if (info && !hv_guid_is_null(uuid) && hv_guid_equal(&info->footer.uuid, uuid))
			return hv_fail(
				err, -EINVAL,
				"%s: has the UUID of '%s', so that the chain would be a loop; one of them is a copy",
				layer->path, rebase->request->child);
		depth++;
	}
	if (depth >= SNAP_MAX_DEPTH)
		return hv_fail(err, -ELOOP, "%s: has %u layers already, and a chain has at most %d",
			       rebase->request->parent, depth, SNAP_MAX_DEPTH);
	return 0;
}

static int refuse_size(const struct rebase *rebase, struct hv_err *err)
{
	struct hv_disk *child = rebase->child, *parent = rebase->new_parent;

	if (!snap_was_resized(child, parent))
		return 0;
	return hv_fail(
		err, -EINVAL,
		"%s: has %llu bytes, with which it cannot be the parent of '%s' of %llu bytes; resize one of them",
		rebase->request->parent, (unsigned long long)parent->size_bytes,
		rebase->request->child, (unsigned long long)child->size_bytes);
}

static int open_new_parent(struct rebase *rebase, struct hv_err *err)
{
	struct snap_open_options options = { .flags = flags_of(rebase) };
	int rc = refuse_own_file(rebase, err);

	if (rc == 0)
		rc = snap_open(rebase->request->parent, &options, rebase->loop, &rebase->new_parent,
			       err);
	if (rc == 0)
		rc = refuse_descendants(rebase, err);
	if (rc == 0)
		rc = snap_describe_child(rebase->request->child, rebase->new_parent,
					 &rebase->record, &rebase->paths, err);
	if (rc == 0)
		rc = refuse_size(rebase, err);
	if (rc == 0)
		rebase->report->uuid = rebase->record.parent_uuid;
	return rc;
}

/* The old one. */

static int open_old_parent(struct rebase *rebase, struct hv_err *err)
{
	struct snap_open_options options = { .flags = flags_of(rebase),
					     .parent_path = rebase->request->old_parent };
	HV_ERR(why);
	int rc = snap_open_parent(rebase->request->child, &options, rebase->loop,
				  &rebase->old_parent, &why);

	if (rc)
		return hv_fail(err, rc, "%s; --unsafe changes the parent without comparing",
			       hv_err_text(&why, rc));
	rebase->report->old_parent = strdup(rebase->old_parent->path);
	return rebase->report->old_parent ? 0 : -ENOMEM;
}

static int keep_view(struct rebase *rebase, struct hv_err *err)
{
	struct snap_rebase_report *report = rebase->report;
	struct snap_keep_view options = {
		.child = rebase->child,
		.old_parent = rebase->old_parent,
		.new_parent = rebase->new_parent,
		.dry_run = rebase->request->dry_run,
		.progress = rebase->request->progress,
		.arg = rebase->request->arg,
	};
	struct snap_kept_view kept;
	int rc = snap_keep_view(&options, &kept, err);

	report->compared_bytes = kept.compared_bytes;
	report->copied_bytes = kept.copied_bytes;
	report->zeroed_bytes = kept.zeroed_bytes;
	if (rc == -EINTR)
		return hv_fail(
			err, rc,
			"%s: interrupted, its parent is the old one; the same command goes on",
			rebase->request->child);
	return rc;
}

/* Afterwards. */

static int look_again(struct rebase *rebase, struct hv_err *err)
{
	struct snap_open_options options = { .flags = flags_of(rebase) };
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	struct hv_disk *parent;
	int rc = snap_open(rebase->request->child, &options, rebase->loop, &disk, err);

	if (rc)
		return rc;
	parent = snap_layer_at(disk, 1);
	if (vhd_get_file(parent)->dev != vhd_get_file(rebase->new_parent)->dev ||
	    vhd_get_file(parent)->ino != vhd_get_file(rebase->new_parent)->ino)
		return hv_fail(err, -ESTALE,
			       "%s: finds '%s' as its parent now, which has the same UUID as '%s'",
			       rebase->request->child, parent->path, rebase->request->parent);
	free(rebase->report->parent);
	rebase->report->parent = strdup(parent->path);
	return rebase->report->parent ? 0 : -ENOMEM;
}

static int change(struct rebase *rebase, struct hv_err *err)
{
	const struct snap_rebase_request *request = rebase->request;
	int rc = 0;

	if (!request->unsafe)
		rc = open_old_parent(rebase, err);
	if (rc == 0)
		rc = open_child(rebase, !request->dry_run, err);
	if (rc == 0 && !request->unsafe)
		rc = keep_view(rebase, err);
	if (rc || request->dry_run)
		return rc;
	/* What was copied is durable before the parent changes: vhd_reparent flushes first. */
	rc = vhd_reparent(rebase->child, &rebase->record,
			  request->overwrite ? VHD_REPARENT_ZERO : 0, err);
	hv_disk_close(hv_steal(rebase->child));
	return rc ? rc : look_again(rebase, err);
}

int snap_rebase(const struct snap_rebase_request *request, struct hv_loop *loop,
		struct snap_rebase_report *report, struct hv_err *err)
{
	struct rebase rebase = { .request = request, .loop = loop, .report = report };
	int rc;

	*report = (struct snap_rebase_report){ 0 };
	rc = look_at_child(&rebase, err);
	if (rc == 0)
		rc = open_new_parent(&rebase, err);
	if (rc == 0) {
		report->parent = strdup(rebase.new_parent->path);
		rc = report->parent ? change(&rebase, err) : -ENOMEM;
	}
	hv_disk_close(rebase.child);
	hv_disk_close(rebase.old_parent);
	hv_disk_close(rebase.new_parent);
	snap_child_paths_free(&rebase.paths);
	return rc;
}
