/*
 * Driving a merge on files.
 */
#include "snapshot/merge_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/scan.h"
#include "snapshot/merge_remove.h"
#include "snapshot/merge_state.h"
#include "snapshot/parent.h"

/* What a first look at the chain has found. */
struct survey {
	unsigned count;  /* layers of the whole chain */
	unsigned levels; /* above the target */
	struct snap_file_id ids[SNAP_MAX_DEPTH];
	struct hv_guid uuids[SNAP_MAX_DEPTH];
	uint64_t sizes[SNAP_MAX_DEPTH];
	bool fixed[SNAP_MAX_DEPTH];
};

struct job {
	const struct snap_merge_request *request;
	struct hv_loop *loop;
	struct snap_merge_report *report;
	struct survey survey;
	struct hv_disk *top, *target; /* open: for looking first, then for the merge */
	struct snap_merge_state state;
	char *state_path;
};

void snap_merge_report_free(struct snap_merge_report *report)
{
	for (unsigned i = 0; report->layers && i < report->levels; i++)
		free(report->layers[i].path);
	free(report->layers);
	free(report->target);
	snap_children_free(&report->harmed);
	*report = (struct snap_merge_report){ 0 };
}

/* Looking. */

static int open_chain(struct job *job, const struct snap_file_id *write_layer, struct hv_err *err)
{
	struct snap_open_options options = {
		.flags = (write_layer ? SNAP_OPEN_WRITE : 0) |
			 (job->request->direct ? SNAP_OPEN_DIRECT : 0),
		.write_layer = write_layer,
	};

	return snap_open(job->request->child, &options, job->loop, &job->top, err);
}

static void close_chain(struct job *job)
{
	hv_disk_close(hv_steal(job->top));
	job->target = NULL;
}

static int survey_layers(struct job *job, struct hv_err *err)
{
	struct survey *survey = &job->survey;

	for (struct hv_disk *disk = job->top; disk; disk = snap_layer_at(disk, 1)) {
		unsigned i = survey->count++;
		int rc = snap_file_id_of(disk->path, &survey->ids[i]);

		if (rc)
			return hv_fail_errno(err, rc, "%s", disk->path);
		if (vhd_is_vhd(disk)) {
			survey->uuids[i] = vhd_get_info(disk)->footer.uuid;
			survey->fixed[i] = vhd_get_info(disk)->type == VHD_FIXED;
		}
		survey->sizes[i] = disk->size_bytes;
	}
	if (survey->count < 2)
		return hv_fail(err, -EINVAL,
			       "%s: is not a differencing disk, there is nothing to merge it into",
			       job->request->child);
	return 0;
}

static int find_target(struct job *job, struct hv_err *err)
{
	struct survey *survey = &job->survey;
	const char *into = job->request->into;
	struct snap_file_id id;
	int rc;

	survey->levels = 1;
	if (!into)
		return 0;
	rc = snap_file_id_of(into, &id);
	if (rc)
		return hv_fail_errno(err, rc, "%s", into);
	for (unsigned i = 0; i < survey->count; i++) {
		if (survey->ids[i].dev != id.dev || survey->ids[i].ino != id.ino)
			continue;
		survey->levels = i;
		if (!i)
			return hv_fail(err, -EINVAL, "%s: cannot be merged into itself", into);
		return 0;
	}
	return hv_fail(err, -EINVAL, "%s: is no ancestor of '%s'", into, job->request->child);
}

static int fill_report(struct job *job, struct hv_err *err)
{
	struct snap_merge_report *report = job->report;
	unsigned levels = job->survey.levels;

	job->target = snap_layer_at(job->top, levels);
	report->size_bytes = job->top->size_bytes;
	report->target_size_bytes = job->target->size_bytes;
	report->target = strdup(job->target->path);
	report->layers = calloc(levels, sizeof(*report->layers));
	if (!report->target || !report->layers)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", job->request->child);
	report->levels = levels;
	for (unsigned i = 0; i < levels; i++) {
		report->layers[i].path = strdup(snap_layer_at(job->top, i)->path);
		if (!report->layers[i].path)
			return hv_fail(err, -ENOMEM, "%s: not enough memory", job->request->child);
	}
	return 0;
}

/* Other disks. */

static int find_harmed(struct job *job, struct hv_err *err)
{
	const struct survey *survey = &job->survey;
	struct snap_children *harmed = &job->report->harmed;
	const char *const *extra = job->request->siblings_in;
	struct hv_guid uuids[SNAP_MAX_DEPTH];
	struct snap_children_query query = { .uuids = uuids,
					     .uuid_count = survey->levels + 1,
					     .except = survey->ids,
					     .except_count = survey->count };
	int rc = 0;

	memcpy(uuids, survey->uuids, sizeof(uuids));
	if (!job->request->remove) /* the child's own children stay right */
		uuids[0] = (struct hv_guid){ { 0 } };
	for (unsigned i = 0; i < survey->count && rc == 0; i++)
		rc = snap_find_children_beside(snap_layer_at(job->top, i)->path, &query, harmed,
					       err);
	for (; rc == 0 && extra && *extra; extra++)
		rc = snap_find_children(*extra, &query, harmed, err);
	return rc;
}

static int refuse_harm(struct job *job, struct hv_err *err)
{
	const struct snap_children *harmed = &job->report->harmed;
	const struct snap_child *first = harmed->list;

	if (!harmed->count || job->request->force)
		return 0;
	if (first->unknown)
		return hv_fail(
			err, -EBUSY,
			"%s: cannot be looked into, and may be a child of a disk that the merge changes; --force merges all the same",
			first->path);
	if (!first->parent)
		return hv_fail(
			err, -EBUSY,
			"%s: is a child of '%s', which would be deleted; --force does it all the same",
			first->path, job->top->path);
	return hv_fail(
		err, -EBUSY,
		"%s: is a child of '%s', and would not be right any more after the merge; --force merges all the same",
		first->path, snap_layer_at(job->top, first->parent)->path);
}

/* An earlier run may have been interrupted while it deleted layers, which look like siblings now. */
static int remove_leftovers(struct job *job, struct hv_err *err)
{
	const struct survey *survey = &job->survey;
	const struct snap_merge_identity *target;
	struct snap_merge_state state;
	int rc = 0;

	if (!job->request->remove || job->request->options.dry_run || survey->levels != 1)
		return 0;
	rc = snap_merge_state_read(job->state_path, &state, err);
	if (rc <= 0)
		return rc;
	target = &state.layers[state.count - 1];
	if (state.merged_bytes != state.size_bytes || target->dev != survey->ids[1].dev ||
	    target->ino != survey->ids[1].ino ||
	    !hv_guid_equal(&state.layers[0].uuid, &survey->uuids[0]))
		return 0;
	rc = 0;
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		rc = snap_merge_remove_leftovers(job->request, &state,
						 snap_layer_at(job->top, i)->path, job->loop, err);
	return rc;
}

/* Sizes. */

/* What the target has beyond the child's end must read as the child does there: as nothing. */
static int judge_rest(struct job *job, struct hv_err *err)
{
	struct hv_disk *target = job->target;
	uint64_t end = job->top->size_bytes;
	int rc;

	if (target->size_bytes <= end)
		return 0;
	rc = hv_disk_is_zero(target, end, target->size_bytes - end, err);
	if (rc == 0)
		return hv_fail(
			err, -EINVAL,
			"%s: is larger than '%s' and holds data beyond its end at %llu; make it smaller first",
			target->path, job->request->child, (unsigned long long)end);
	return rc < 0 ? rc : 0;
}

/*
 * A fixed disk that is made larger may show its old footer, where the first of the new sectors is,
 * after a power cut. The layer above it holds zeros there first, if it holds nothing yet.
 */
static int cover_footer(struct job *job, unsigned depth, struct hv_err *err)
{
	static const uint8_t zeros[HV_SECTOR_SIZE];
	uint64_t end = job->survey.sizes[depth];
	struct hv_extent extent;
	struct hv_disk *above;
	int rc = open_chain(job, &job->survey.ids[depth - 1], err);

	if (rc)
		return rc;
	above = snap_layer_at(job->top, depth - 1);
	rc = hv_disk_extent(above, end, sizeof(zeros), 0, &extent, err);
	if (rc == 0 && !(extent.state == HV_EXTENT_DATA && extent.depth == 0))
		rc = hv_disk_pwrite(above, zeros, sizeof(zeros), end, err);
	if (rc == 0)
		rc = hv_disk_flush(above, err);
	close_chain(job);
	return rc;
}

static int grow_layer(struct job *job, unsigned depth, struct hv_err *err)
{
	struct hv_disk *layer;
	int rc = open_chain(job, &job->survey.ids[depth], err);

	if (rc)
		return rc;
	layer = snap_layer_at(job->top, depth);
	if (!layer || !vhd_is_vhd(layer) || !layer->writable)
		rc = hv_fail(err, -ENOTSUP,
			     "%s: is smaller than '%s', and a raw image is not made larger",
			     layer ? layer->path : job->report->target, job->request->child);
	if (rc == 0)
		rc = vhd_resize(layer, job->report->size_bytes,
				job->request->options.overwrite ? VHD_RESIZE_OVERWRITE : 0, err);
	if (rc == 0)
		rc = hv_disk_flush(layer, err);
	close_chain(job);
	return rc;
}

/*
 * The target must hold all of the child. Layers between them grow first, from the top down: a
 * parent larger than its child would be taken for one that was resized behind its back.
 */
static int grow_layers(struct job *job, struct hv_err *err)
{
	const struct survey *survey = &job->survey;
	int rc = 0;

	if (survey->sizes[survey->levels] >= survey->sizes[0])
		return 0;
	for (unsigned i = 1; i <= survey->levels && rc == 0; i++) {
		if (survey->sizes[i] >= survey->sizes[0])
			continue;
		if (survey->fixed[i])
			rc = cover_footer(job, i, err);
		if (rc == 0)
			rc = grow_layer(job, i, err);
	}
	return rc;
}

/* Merging. */

static void copy_counts(struct job *job, const struct snap_merge *merge)
{
	struct snap_merge_report *report = job->report;
	struct snap_merge_progress now;

	snap_merge_get_progress(merge, &now);
	report->merged_bytes = now.durable_bytes;
	report->copied_bytes = now.copied_bytes;
	report->zeroed_bytes = now.zeroed_bytes;
	for (unsigned i = 0; i < report->levels; i++) {
		report->layers[i].copied_bytes = now.layers[i].copied_bytes;
		report->layers[i].copied_blocks = now.layers[i].copied_blocks;
	}
}

static int record(struct job *job, uint64_t durable_bytes, struct hv_err *err)
{
	if (job->request->options.dry_run || durable_bytes == job->state.merged_bytes)
		return 0;
	job->state.merged_bytes = durable_bytes;
	return snap_merge_state_save(job->state_path, &job->state, err);
}

static int drive(struct job *job, struct snap_merge *merge, struct hv_err *err)
{
	struct snap_merge_progress now;
	bool stopped = false;
	int rc;

	while ((rc = snap_merge_step(merge, err)) > 0) {
		snap_merge_get_progress(merge, &now);
		hv_loop_turn(job->loop, now.in_flight != 0);
		snap_merge_get_progress(merge, &now);
		rc = record(job, now.durable_bytes, err);
		if (rc)
			return rc;
		if (!stopped && job->request->progress &&
		    !job->request->progress(&now, job->request->arg)) {
			snap_merge_stop(merge);
			stopped = true;
		}
	}
	snap_merge_get_progress(merge, &now);
	if (rc == 0)
		rc = record(job, now.durable_bytes, err);
	if (rc == 0 && now.durable_bytes < now.total_bytes)
		return hv_fail(
			err, -EINTR,
			"%s: interrupted after %llu of %llu bytes; the same command goes on there",
			job->request->child, (unsigned long long)now.durable_bytes,
			(unsigned long long)now.total_bytes);
	return rc;
}

static int merge_layers(struct job *job, struct hv_err *err)
{
	HV_AUTO(snap_merge_free) struct snap_merge *merge = NULL;
	struct snap_merge_options options = job->request->options;
	int rc;

	options.start_bytes = job->state.merged_bytes;
	rc = snap_merge_begin(job->top, job->target, &options, &merge, err);
	if (rc)
		return rc;
	rc = drive(job, merge, err);
	copy_counts(job, merge);
	return rc;
}

/* What an earlier run has left beside the target. */
static int resume(struct job *job, struct hv_err *err)
{
	struct snap_merge_report *report = job->report;
	enum snap_merge_found found;
	int rc = snap_merge_state_load(job->state_path, &job->state, &found, err);

	if (rc)
		return rc;
	if (found == SNAP_MERGE_OTHER && !job->request->force)
		return hv_fail(
			err, -EBUSY,
			"%s: a merge of another disk into it was not finished ('%s'); finish that first, --force gives it up",
			job->target->path, job->state_path);
	if (found == SNAP_MERGE_CHANGED)
		report->restarted = "a layer was changed since";
	else if (found == SNAP_MERGE_DAMAGED)
		report->restarted = "its record is damaged";
	else if (found == SNAP_MERGE_OTHER)
		report->restarted = "it was of another disk";
	report->resumed_bytes = report->merged_bytes = job->state.merged_bytes;
	/* Nothing is merged whose progress could not be recorded. */
	return found == SNAP_MERGE_SAME ? 0 :
					  snap_merge_state_save(job->state_path, &job->state, err);
}

/* The chain as it was looked at, its target open for writing. */
static int reopen(struct job *job, struct hv_err *err)
{
	unsigned levels = job->survey.levels;
	int rc = open_chain(job, &job->survey.ids[levels], err);

	if (rc)
		return rc;
	job->target = snap_layer_at(job->top, levels);
	for (unsigned i = 0; i <= levels; i++) {
		struct hv_disk *layer = snap_layer_at(job->top, i);
		struct snap_file_id id;

		if (!layer || snap_file_id_of(layer->path, &id) ||
		    id.dev != job->survey.ids[i].dev || id.ino != job->survey.ids[i].ino)
			return hv_fail(err, -ESTALE, "%s: its chain was changed meanwhile",
				       job->request->child);
	}
	rc = snap_merge_state_of(job->top, levels, &job->state, err);
	return rc ? rc : resume(job, err);
}

static int name_state(struct job *job, struct hv_err *err)
{
	job->state_path = snap_merge_state_path(job->target->path);
	if (!job->state_path)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", job->request->child);
	return 0;
}

static int look(struct job *job, struct hv_err *err)
{
	int rc = open_chain(job, NULL, err);

	if (rc == 0)
		rc = survey_layers(job, err);
	if (rc == 0)
		rc = find_target(job, err);
	if (rc == 0)
		rc = fill_report(job, err);
	if (rc == 0)
		rc = judge_rest(job, err);
	if (rc == 0)
		rc = name_state(job, err);
	if (rc == 0)
		rc = remove_leftovers(job, err);
	if (rc == 0)
		rc = find_harmed(job, err);
	return rc;
}

static int merge_and_clean_up(struct job *job, struct hv_err *err)
{
	const struct snap_merge_request *request = job->request;
	int rc;

	close_chain(job);
	rc = grow_layers(job, err);
	if (rc == 0)
		rc = reopen(job, err);
	if (rc == 0)
		rc = merge_layers(job, err);
	close_chain(job);
	if (rc == 0 && request->remove)
		rc = snap_merge_remove(request, &job->state, job->loop, job->report, err);
	return rc ? rc : snap_merge_state_remove(job->state_path, err);
}

int snap_merge_run(const struct snap_merge_request *request, struct hv_loop *loop,
		   struct snap_merge_report *report, struct hv_err *err)
{
	struct job job = { .request = request, .loop = loop, .report = report };
	int rc;

	*report = (struct snap_merge_report){ 0 };
	rc = look(&job, err);
	if (rc == 0 && request->options.dry_run)
		rc = merge_layers(&job, err);
	if (rc == 0)
		rc = refuse_harm(&job, err);
	if (rc == 0 && !request->options.dry_run)
		rc = merge_and_clean_up(&job, err);
	close_chain(&job);
	free(job.state_path);
	return rc;
}
