/*
 * Opening a VHD: everything in the file is judged before anything is believed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "vhd/image.h"

#define CACHE_BYTES (4u << 20) /* sector bitmaps in memory, more or less */
#define CACHE_MIN 64

static const struct hv_disk_ops dynamic_ops, differencing_ops;

int vhd_look(struct hv_file *file, enum vhd_looks *ret, struct hv_err *err)
{
	struct vhd_footers footers;
	int rc = vhd_footers_read(file, &footers, err);

	if (rc)
		return rc;
	if (footers.best)
		*ret = VHD_LOOKS_VHD;
	else if (!(footers.trailing_faults & VHD_FOOTER_COOKIE_BAD) ||
		 !(footers.copy_faults & VHD_FOOTER_COOKIE_BAD) ||
		 (footers.trailing_faults | footers.copy_faults) & VHD_FOOTER_POISON)
		*ret = VHD_LOOKS_BROKEN;
	else
		*ret = VHD_LOOKS_NONE;
	return 0;
}

int vhd_look_family(struct hv_file *file, struct vhd_family *ret, struct hv_err *err)
{
	struct vhd_disk_header disk;
	struct vhd_footers footers;
	struct vhd_header header;
	struct vhd_family family;
	unsigned faults;
	int rc = vhd_footers_read(file, &footers, err);

	if (rc || !footers.best)
		return rc;
	family = (struct vhd_family){ .uuid = footers.best->uuid, .type = footers.best->type };
	if (family.type == VHD_DIFFERENCING) {
		if (!hv_range_inside(footers.best->data_offset, sizeof(disk), file->size_bytes))
			return 0;
		rc = hv_file_pread(file, &disk, sizeof(disk), footers.best->data_offset, err);
		if (rc)
			return rc;
		faults = vhd_header_decode(&disk, &header);
		free(header.parent_name);
		if (faults)
			return 0;
		family.parent_uuid = header.parent_uuid;
	}
	*ret = family;
	return 1;
}

static int refuse_footers(struct hv_file *file, const struct vhd_footers *footers,
			  struct hv_err *err)
{
	if ((footers->trailing_faults | footers->copy_faults) & VHD_FOOTER_POISON)
		return hv_fail(
			err, -EBADMSG,
			"%s: a resize by Xen's tools was interrupted; finish or undo it there with its journal",
			file->path);
	if (footers->best)
		return 0;
	if (footers->trailing_faults & footers->copy_faults & VHD_FOOTER_COOKIE_BAD)
		return hv_fail(err, -EBADMSG,
			       "%s: not a VHD: no footer at its end nor at its start", file->path);
	return hv_fail(err, -EBADMSG, "%s: no valid footer: at the end, %s; at the start, %s",
		       file->path, vhd_footer_fault_name(footers->trailing_faults),
		       vhd_footer_fault_name(footers->copy_faults));
}

/* What the footer says of the file, into info. */
static void tell_footer(const struct vhd_footers *footers, struct vhd_info *info)
{
	info->type = footers->best->type;
	info->footer = *footers->best;
	info->trailing_footer_valid = !footers->trailing_faults;
	info->copy_valid = !footers->copy_faults;
	vhd_footer_size(footers->best, &info->size_from_geometry);
}

static void tell_layout(const struct vhd_layout *layout, struct vhd_info *info)
{
	info->header_offset = layout->header_offset;
	info->bat_offset = layout->bat_offset;
	info->max_entries = layout->max_entries;
	info->block_bytes = layout->block_bytes;
	info->block_count = layout->block_count;
	info->bitmap_bytes = layout->bitmap_bytes;
	info->xen_batmap_version = layout->batmap_version;
	info->encrypted = layout->batmap_encrypted;
}

static int read_locators(struct vhd *vhd, const struct vhd_header *header, struct hv_err *err)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		int rc = vhd_locator_read(vhd->file, &header->locators[i], &vhd->info.locators[i],
					  err);

		if (rc)
			return rc;
	}
	return 0;
}

struct judging {
	struct vhd *vhd;
	struct hv_err *err; /* takes the first fault */
	bool refuse;        /* for writing */
	bool no_memory;
};

/* Does the file end before the block's part of the disk does? */
static bool loses_sectors(const struct vhd *vhd, uint32_t block)
{
	uint64_t bytes = (uint64_t)vhd_block_sectors(vhd, block) << HV_SECTOR_SHIFT;

	return vhd_data_offset(vhd, block) + bytes > vhd->layout.file_end;
}

static void note_fault(enum vhd_bat_fault fault, uint32_t block, int64_t other,
		       const struct vhd_region *region, void *arg)
{
	struct judging *judging = arg;
	struct vhd *vhd = judging->vhd;
	char text[256] = "";

	/* The first is enough; there may be millions. */
	if (!judging->err->code)
		vhd_bat_fault_text(fault, &vhd->layout, vhd->bat, block, other, region, text,
				   sizeof(text));
	if (fault == VHD_BAT_CUT) {
		/* Stored short on purpose: settled before it is written. Else something is lost. */
		judging->refuse |= !vhd->info.trailing_footer_valid && loses_sectors(vhd, block);
		if (judging->refuse)
			hv_fail(judging->err, -EBADMSG, "%s: %s", vhd->base.path, text);
		return;
	}
	judging->refuse = true;
	if (!vhd->bad)
		vhd->bad = calloc(1, vhd->layout.block_count / 8 + 1);
	if (!vhd->bad) {
		judging->no_memory = true;
		return;
	}
	hv_bit_set(vhd->bad, block);
	if (other >= 0)
		hv_bit_set(vhd->bad, (size_t)other);
	hv_fail(judging->err, -EBADMSG, "%s: %s; vhdtool check tells more", vhd->base.path, text);
}

/* For writing the whole table must be right; for reading, wrong entries fail when they are used. */
static int judge_bat(struct vhd *vhd, struct hv_err *err)
{
	struct vhd_bat_summary sum;
	HV_ERR(first);
	struct judging judging = { .vhd = vhd, .err = &first };
	int rc = vhd_bat_judge(&vhd->layout, vhd->bat, note_fault, &judging, &sum);

	if (rc || judging.no_memory)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	if (judging.refuse && vhd->base.writable)
		return hv_fail(err, -EBADMSG, "%s", first.sentence);
	vhd->info.allocated_blocks = sum.allocated;
	vhd->info.fragments = sum.fragments;
	vhd->info.aligned = sum.aligned;
	vhd->info.data_end = sum.data_end;
	return 0;
}

static int judge_for_writing(struct vhd *vhd, struct hv_err *err)
{
	const char *path = vhd->base.path;

	if (vhd->layout.batmap_encrypted)
		return hv_fail(err, -ENOTSUP,
			       "%s: encrypted by Xen's tools, not opened for writing", path);
	/* As the file grows, blocks would come to lie there. */
	if (vhd->layout.beyond)
		return hv_fail(
			err, -EBADMSG,
			"%s: the %s reaches beyond the file's end, not opened for writing; vhdtool check tells more",
			path, vhd->layout.beyond);
	if (vhd->info.footer.saved_state)
		return hv_fail(
			err, -EBUSY,
			"%s: belongs to a virtual machine in saved state, not opened for writing",
			path);
	return 0;
}

static int allocate_maps(struct vhd *vhd, struct hv_err *err)
{
	size_t bytes = vhd->layout.block_count / 8 + 1;

	vhd->full = calloc(1, bytes);
	vhd->unpublished = calloc(1, bytes);
	if (!vhd->full || !vhd->unpublished)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	vhd->cache.limit = CACHE_BYTES / vhd->layout.bitmap_bytes;
	if (vhd->cache.limit < CACHE_MIN)
		vhd->cache.limit = CACHE_MIN;
	return 0;
}

static int tell_parent(struct vhd *vhd, struct vhd_header *header, struct hv_err *err)
{
	if (!vhd->differencing)
		return 0;
	vhd->info.parent_uuid = header->parent_uuid;
	vhd->info.parent_timestamp = header->parent_timestamp;
	vhd->info.parent_name = hv_steal(header->parent_name);
	return read_locators(vhd, header, err);
}

static void forget_parent(struct vhd *vhd)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		free(vhd->info.locators[i].text);
		vhd->info.locators[i] = (struct vhd_locator){ 0 };
	}
	free(hv_steal(vhd->info.parent_name));
}

static int fill_in(struct vhd *vhd, const struct vhd_footers *footers, struct vhd_header *header,
		   struct hv_err *err)
{
	int rc;

	tell_footer(footers, &vhd->info);
	tell_layout(&vhd->layout, &vhd->info);
	vhd->differencing = vhd->info.type == VHD_DIFFERENCING;
	vhd->base.ops = vhd->differencing ? &differencing_ops : &dynamic_ops;
	vhd->base.size_bytes = vhd->layout.size_bytes;
	vhd->footer_raw =
		footers->best == &footers->copy ? footers->copy_raw : footers->trailing_raw;
	vhd->copy_stale = vhd_footers_same_disk(footers) &&
			  memcmp(&footers->trailing_raw, &footers->copy_raw, VHD_FOOTER_BYTES);
	rc = tell_parent(vhd, header, err);
	if (rc == 0)
		rc = vhd_bat_read(vhd->file, &vhd->layout, &vhd->bat, err);
	if (rc == 0)
		rc = allocate_maps(vhd, err);
	if (rc == 0)
		rc = judge_bat(vhd, err);
	return rc;
}

static void free_vhd(struct vhd *vhd)
{
	if (!vhd)
		return;
	vhd_bitmaps_free(vhd);
	vhd_space_free(vhd);
	forget_parent(vhd);
	free(vhd->bat);
	free(vhd->full);
	free(vhd->unpublished);
	free(vhd->bad);
	free(vhd->pending);
	free(vhd);
}
HV_DEFINE_CLEANUP(struct vhd, free_vhd)

static int open_sparse(struct hv_file *file, unsigned flags, const struct vhd_footers *footers,
		       struct hv_disk **ret, struct hv_err *err)
{
	HV_AUTO(free_vhd) struct vhd *vhd = calloc(1, sizeof(*vhd));
	struct vhd_header header = { 0 };
	int rc;

	if (!vhd)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	vhd->file = file;
	vhd->unordered = flags & VHD_OPEN_UNORDERED;
	vhd->base = (struct hv_disk){ .loop = file->loop,
				      .path = file->path,
				      .writable = file->writable };
	rc = vhd_layout_read(file, footers, &header, &vhd->layout, err);
	if (rc == 0)
		rc = fill_in(vhd, footers, &header, err);
	free(header.parent_name);
	if (rc == 0 && file->writable)
		rc = judge_for_writing(vhd, err);
	if (rc == 0 && file->writable)
		rc = vhd_alloc_settle(vhd, err);
	if (rc)
		return rc;
	*ret = &hv_steal(vhd)->base;
	return 0;
}

int vhd_open(struct hv_file *file, unsigned flags, struct hv_disk **ret, struct hv_err *err)
{
	struct vhd_footers footers;
	int rc = vhd_footers_read(file, &footers, err);

	if (rc == 0)
		rc = refuse_footers(file, &footers, err);
	if (rc)
		return rc;
	if (footers.best->type == VHD_FIXED)
		return vhd_fixed_open(file, &footers, ret, err);
	return open_sparse(file, flags, &footers, ret, err);
}

int vhd_reload(struct vhd *vhd, struct hv_err *err)
{
	struct vhd_header header = { 0 };
	struct vhd_footers footers;
	int rc = vhd_footers_read(vhd->file, &footers, err);

	if (rc == 0)
		rc = refuse_footers(vhd->file, &footers, err);
	if (rc == 0)
		rc = vhd_layout_read(vhd->file, &footers, &header, &vhd->layout, err);
	if (rc == 0) {
		tell_footer(&footers, &vhd->info);
		tell_layout(&vhd->layout, &vhd->info);
		forget_parent(vhd);
		rc = tell_parent(vhd, &header, err);
	}
	free(header.parent_name);
	return rc;
}

/* What the engine does by itself comes to its end. */
static void come_to_rest(struct vhd *vhd)
{
	while (vhd->alloc.extending || vhd->commit.active || vhd->space.busy)
		hv_loop_turn(vhd->base.loop, true);
}

static void vhd_move(struct hv_disk *disk, struct hv_loop *loop)
{
	struct vhd *vhd = vhd_of(disk);

	come_to_rest(vhd);
	if (vhd->backing)
		hv_disk_move(vhd->backing, loop);
	hv_file_move(vhd->file, loop);
}

static void vhd_close(struct hv_disk *disk)
{
	struct vhd *vhd = vhd_of(disk);

	come_to_rest(vhd);
	if (disk->writable && !vhd->poisoned && vhd_commit_clean(vhd)) {
		vhd_space_lower(vhd);
		vhd_alloc_trim(vhd, NULL);
	}
	hv_disk_close(vhd->backing);
	hv_file_close(vhd->file);
	free_vhd(vhd);
}

static const struct hv_disk_ops dynamic_ops = {
	.format = "dynamic",
	.submit = vhd_submit,
	.extent = vhd_extent,
	.move = vhd_move,
	.close = vhd_close,
};

static const struct hv_disk_ops differencing_ops = {
	.format = "differencing",
	.submit = vhd_submit,
	.extent = vhd_extent,
	.move = vhd_move,
	.close = vhd_close,
};

bool vhd_is_vhd(const struct hv_disk *disk)
{
	return disk->ops == &dynamic_ops || disk->ops == &differencing_ops || vhd_is_fixed(disk);
}

const struct vhd_info *vhd_get_info(struct hv_disk *disk)
{
	struct vhd *vhd = vhd_of(disk);

	if (vhd_is_fixed(disk))
		return vhd_fixed_info(disk);
	if (disk->writable)
		vhd->info.data_end = vhd->alloc.next_end;
	return &vhd->info;
}

struct hv_file *vhd_get_file(struct hv_disk *disk)
{
	return vhd_is_fixed(disk) ? vhd_fixed_file(disk) : vhd_of(disk)->file;
}

void vhd_set_backing(struct hv_disk *disk, struct hv_disk *backing)
{
	hv_disk_close(vhd_of(disk)->backing);
	vhd_of(disk)->backing = backing;
}

struct hv_disk *vhd_get_backing(struct hv_disk *disk)
{
	return vhd_is_fixed(disk) ? NULL : vhd_of(disk)->backing;
}
