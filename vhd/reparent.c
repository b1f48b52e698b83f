/*
 * Giving a differencing disk another parent.
 *
 * Header and locators take several sectors, so that they are not changed where they are: a complete
 * new header and its locators are written behind the last block, the footers are switched to them,
 * then what is at home is written, and the footers are switched back:
 *
 *	1  room at the end of the file (alloc.c); there, the new locators and a header
 *	2  barrier; trailing footer to that header; barrier; the copy; barrier
 *	3  locators and header at home
 *	4  barrier; trailing footer to the header at home; barrier; the copy; barrier
 *	5  what lies at the end is cut off
 *
 * A footer is one sector: it has its old or its new contents. So each valid footer leads to a
 *header that is whole and durable. Locators for which there is no space at home stay at the end.
 *
 * Home is where the header is. After an interruption between 2 and 4 that is the end of the file;
 * then the header that everybody puts right behind the footer's copy, if it is still there, is
 *home.
 */
#include "vhd/reparent.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

struct space {
	uint64_t offset;
	uint32_t bytes, code;
	bool taken;
};

struct reparent {
	struct vhd *vhd;
	unsigned flags;
	uint64_t parent_bytes;
	struct vhd_paths paths;
	struct vhd_disk_header header; /* but for the locators */
	uint64_t home;
	const struct space *places[VHD_PATHS]; /* where each path belongs; NULL: at the end */
	struct space spaces[VHD_LOCATORS];
	unsigned space_count;
	uint64_t stays;  /* at the end of the file: paths that have no place at home */
	uint64_t passes; /* there: a header, and the other paths */
	uint64_t end;
};

static int read_header(struct vhd *vhd, uint64_t offset, struct vhd_disk_header *ret,
		       struct hv_err *err)
{
	return hv_file_pread(vhd->file, ret, sizeof(*ret), offset, err);
}

/* Is nothing there that the disk needs, or may come to need? */
static bool is_free(const struct reparent *job, uint64_t start, uint64_t length)
{
	const struct vhd_layout *layout = &job->vhd->layout;
	uint64_t end = start + length;

	if (start < job->home + VHD_HEADER_BYTES && job->home < end)
		return false;
	for (unsigned i = 0; i < layout->region_count; i++) {
		const struct vhd_region *region = &layout->regions[i];

		/* The locators at home are what is going to be replaced. */
		if (job->home == layout->header_offset && !strcmp(region->name, "parent locator"))
			continue;
		if (region->offset < end && start < region->offset + region->length)
			return false;
	}
	for (unsigned i = 0; i < job->space_count; i++) {
		const struct space *space = &job->spaces[i];

		if (space->offset < end && start < space->offset + space->bytes)
			return false;
	}
	return end <= job->vhd->alloc.next_end && !vhd_space_claims(job->vhd, start, end);
}

/* The space of a locator of the header at home, as far as it is nobody else's. */
static void add_space(struct reparent *job, const struct vhd_disk_locator *disk)
{
	uint64_t offset = hv_be64_get(disk->data_offset);
	uint32_t length = hv_be32_get(disk->data_length), bytes = hv_be32_get(disk->data_space);
	struct space *space = &job->spaces[job->space_count];

	if (bytes < HV_SECTOR_SIZE)
		bytes *= HV_SECTOR_SIZE;
	if (!hv_be32_get(disk->code) || !hv_range_inside(offset, bytes, job->vhd->file->size_bytes))
		return;
	/* Some writers reserve less than they say. */
	if (!is_free(job, offset, bytes))
		bytes = length;
	if (!bytes || !hv_range_inside(offset, bytes, job->vhd->file->size_bytes) ||
	    !is_free(job, offset, bytes))
		return;
	*space =
		(struct space){ .offset = offset, .bytes = bytes, .code = hv_be32_get(disk->code) };
	job->space_count++;
}

static struct space *find_space(struct reparent *job, const struct vhd_path *path, bool same_code)
{
	for (unsigned i = 0; i < job->space_count; i++) {
		struct space *space = &job->spaces[i];

		if (!space->taken && space->bytes >= path->length_bytes &&
		    (!same_code || space->code == path->code))
			return space;
	}
	return NULL;
}

static void give_places(struct reparent *job)
{
	for (int same_code = 1; same_code >= 0; same_code--) {
		for (unsigned i = 0; i < job->paths.count; i++) {
			struct space *space =
				job->places[i] ? NULL :
						 find_space(job, &job->paths.paths[i], same_code);

			if (!space)
				continue;
			space->taken = true;
			job->places[i] = space;
		}
	}
}

/*
 * Is there, right behind the footer's copy, an older header of this disk? Writing it may have been
 * interrupted, so that its checksum is wrong; but old or new, its fields and its locators are each
 * within one sector.
 */
static int find_older_home(struct reparent *job, struct vhd_disk_header *ret, struct hv_err *err)
{
	const struct vhd_layout *layout = &job->vhd->layout;
	struct vhd_disk_header disk;
	struct vhd_header header;
	unsigned faults;
	int rc;

	job->home = layout->header_offset;
	if (job->home == VHD_FOOTER_BYTES || !is_free(job, VHD_FOOTER_BYTES, VHD_HEADER_BYTES))
		return 0;
	rc = read_header(job->vhd, VHD_FOOTER_BYTES, &disk, err);
	if (rc)
		return rc;
	faults = vhd_header_decode(&disk, &header);
	free(header.parent_name);
	if (faults & ~VHD_HEADER_CHECKSUM_BAD || header.bat_offset != layout->bat_offset ||
	    header.max_entries != layout->max_entries || header.block_bytes != layout->block_bytes)
		return 0;
	job->home = VHD_FOOTER_BYTES;
	*ret = disk;
	return 0;
}

static int look_around(struct reparent *job, struct hv_err *err)
{
	struct vhd *vhd = job->vhd;
	struct vhd_disk_header at_home;
	int rc = read_header(vhd, vhd->layout.header_offset, &job->header, err);

	if (rc)
		return rc;
	at_home = job->header;
	rc = find_older_home(job, &at_home, err);
	if (rc)
		return rc;
	for (int i = 0; i < VHD_LOCATORS; i++)
		add_space(job, &at_home.locators[i]);
	give_places(job);
	return 0;
}

/* The end of the file: first what stays there, then what passes. */
static int make_room(struct reparent *job, struct hv_err *err)
{
	uint64_t staying = 0, passing = VHD_LAYOUT_ALIGN;
	int rc;

	for (unsigned i = 0; i < job->paths.count; i++)
		*(job->places[i] ? &passing : &staying) += VHD_LOCATOR_SPACE;
	/* The footer will stand in the page before what passes. */
	rc = vhd_alloc_room(job->vhd, staying + VHD_LAYOUT_ALIGN + passing, &job->stays, err);
	if (rc)
		return rc;
	job->passes = job->stays + staying + VHD_LAYOUT_ALIGN;
	job->end = job->passes + passing;
	return 0;
}

/* Paths and a header that names them: at home, or as they pass at the end. */
static int write_header(struct reparent *job, bool at_home, struct hv_err *err)
{
	struct hv_file *file = job->vhd->file;
	struct vhd_disk_header header = job->header;
	uint64_t staying = job->stays, passing = job->passes + VHD_LAYOUT_ALIGN;
	int rc = 0;

	memset(header.locators, 0, sizeof(header.locators));
	for (unsigned i = 0; i < job->paths.count && rc == 0; i++) {
		const struct vhd_path *path = &job->paths.paths[i];
		const struct space *place = job->places[i];
		uint64_t *next = place ? &passing : &staying;
		uint64_t offset = *next;
		uint32_t space = VHD_LOCATOR_SPACE;

		*next += VHD_LOCATOR_SPACE;
		if (place && at_home) {
			offset = place->offset;
			space = place->bytes;
		}
		vhd_locator_encode(path, offset, space, &header.locators[i]);
		/* What stays at the end is written once. */
		if (place || !at_home)
			rc = hv_file_pwrite(file, path->text, hv_min_u64(space, VHD_LOCATOR_SPACE),
					    offset, err);
	}
	vhd_header_seal(&header);
	if (rc == 0)
		rc = hv_file_pwrite(file, &header, sizeof(header),
				    at_home ? job->home : job->passes, err);
	return rc;
}

static int point_footers(struct reparent *job, uint64_t header_offset, struct hv_err *err)
{
	struct vhd *vhd = job->vhd;
	struct vhd_disk_footer *footer = &vhd->footer_raw;
	uint64_t places[] = { vhd->file->size_bytes - VHD_FOOTER_BYTES, 0 };
	/* The header is durable before a footer leads to it. */
	int rc = hv_file_barrier(vhd->file, err);

	footer->data_offset = hv_be64_make(header_offset);
	footer->original_size = hv_be64_make(job->parent_bytes);
	footer->checksum = hv_be32_make(
		vhd_checksum(footer, sizeof(*footer), offsetof(struct vhd_disk_footer, checksum)));
	for (unsigned i = 0; i < 2 && rc == 0; i++) {
		rc = hv_file_pwrite(vhd->file, footer, sizeof(*footer), places[i], err);
		/* The trailing footer comes first; both are durable before the other header goes. */
		if (rc == 0)
			rc = hv_file_barrier(vhd->file, err);
	}
	return rc;
}

/* Overwrites what is given up: what has passed at the end, and what is left of the old paths. */
static int overwrite(struct reparent *job, struct hv_err *err)
{
	struct hv_file *file = job->vhd->file;
	int rc = vhd_overwrite(file, job->passes, job->end, err);

	for (unsigned i = 0; i < job->space_count && rc == 0; i++) {
		const struct space *space = &job->spaces[i];
		uint64_t written = space->taken ? VHD_LOCATOR_SPACE : 0;

		rc = vhd_overwrite(file, space->offset + written, space->offset + space->bytes,
				   err);
	}
	/* The zeros reach the medium before their space is given back. */
	return rc ? rc : hv_file_barrier(file, err);
}

/* The file leads to home again: what is known of it is read anew, and the end is cut off. */
static int settle(struct reparent *job, struct hv_err *err)
{
	struct vhd *vhd = job->vhd;
	int rc = vhd_reload(vhd, err);

	if (rc == 0 && job->flags & VHD_REPARENT_ZERO)
		rc = overwrite(job, err);
	if (rc)
		return rc;
	vhd->space.changed = true;
	vhd_space_lower(vhd);
	rc = vhd_alloc_trim(vhd, err);
	/* What lies before the footer need not be zero here. */
	vhd->alloc.limit =
		hv_min_u64(vhd->alloc.limit, hv_round_up(vhd->alloc.next_end, VHD_LAYOUT_ALIGN));
	return rc;
}

static int change(struct reparent *job, struct hv_err *err)
{
	struct vhd *vhd = job->vhd;
	int rc = make_room(job, err);

	if (rc)
		return rc;
	/* From here on what is in memory and what is in the file may differ: no more writes then. */
	rc = write_header(job, false, err);
	if (rc == 0)
		rc = point_footers(job, job->passes, err);
	if (rc == 0)
		rc = write_header(job, true, err);
	if (rc == 0)
		rc = point_footers(job, job->home, err);
	if (rc == 0)
		rc = settle(job, err);
	if (rc)
		vhd->poisoned = true;
	return rc;
}

static int judge(struct vhd *vhd, const struct vhd_create_options *options, struct hv_err *err)
{
	const char *path = vhd->base.path;

	if (!vhd->base.writable)
		return hv_fail(err, -EROFS, "%s: the disk is open read-only", path);
	if (vhd->poisoned)
		return hv_fail(err, -EIO,
			       "%s: an earlier flush failed, so the disk takes no more writes",
			       path);
	if (hv_guid_is_null(&options->parent_uuid))
		return hv_fail(err, -EINVAL, "a parent without a UUID can have no children");
	return 0;
}

int vhd_reparent(struct hv_disk *disk, const struct vhd_create_options *options, unsigned flags,
		 struct hv_err *err)
{
	struct reparent job = { .vhd = vhd_of(disk),
				.flags = flags,
				.parent_bytes = options->size_bytes };
	int rc;

	if (!vhd_is_vhd(disk) || vhd_is_fixed(disk) || !job.vhd->differencing)
		return hv_fail(err, -EINVAL, "%s: is not a differencing disk, and has no parent",
			       disk->path);
	rc = judge(job.vhd, options, err);
	if (rc == 0)
		rc = vhd_quiesce(job.vhd, err);
	if (rc == 0)
		rc = vhd_paths_encode(options, &job.paths, err);
	if (rc == 0)
		rc = look_around(&job, err);
	if (rc == 0)
		rc = vhd_header_name_parent(options, &job.header, err);
	if (rc == 0)
		rc = change(&job, err);
	vhd_paths_free(&job.paths);
	return rc;
}
