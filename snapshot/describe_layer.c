/*
 * One layer, that is one file: the disk it makes, its allocation, and how it lies on the host.
 * describe_vhd.c tells the rest.
 */
#include "snapshot/describe_layer.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "hvcore/bytes.h"
#include "hvcore/checked.h"

#define VERSION_IN_HEADER 24 /* bytes */

/* The number of extents; nothing is written back for it, so that it costs no time. */
static int64_t count_extents(int fd)
{
	struct fiemap map = { .fm_length = FIEMAP_MAX_OFFSET };

	return fd >= 0 && ioctl(fd, FS_IOC_FIEMAP, &map) == 0 ? (int64_t)map.fm_mapped_extents : -1;
}

static int look_at_host(struct hv_file *file, struct snap_layer_info *ret, struct hv_err *err)
{
	struct stat st;
	int rc = hv_file_stat(file, &st);

	if (rc)
		return hv_fail_errno(err, rc, "%s", file->path);
	ret->file_bytes = file->size_bytes;
	ret->block_device = file->block_device;
	ret->allocated_bytes = file->block_device ? file->size_bytes : (uint64_t)st.st_blocks * 512;
	ret->extents = file->block_device ? -1 : count_extents(file->fd);
	snprintf(ret->filesystem, sizeof(ret->filesystem), "%s", hv_file_fs_name(file));
	return 0;
}

/* What of the header vhd_info leaves out, because it has been checked. */
static int look_at_header(struct hv_file *file, struct snap_layer_info *ret, struct hv_err *err)
{
	struct {
		hv_be32 version, max_entries, block_size, checksum;
	} part;
	int rc;

	if (ret->vhd->type == VHD_FIXED)
		return 0;
	rc = hv_file_pread(file, &part, sizeof(part), ret->vhd->header_offset + VERSION_IN_HEADER,
			   err);
	if (rc)
		return rc;
	ret->header_version = hv_be32_get(part.version);
	ret->header_checksum = hv_be32_get(part.checksum);
	return 0;
}

int snap_layer_look(const struct snap_layer *layer, struct snap_layer_info *ret, struct hv_err *err)
{
	struct hv_disk *disk = layer->disk;
	HV_AUTO(hv_file_close) struct hv_file *own = NULL;
	struct hv_file *file;
	int rc = 0;

	*ret = (struct snap_layer_info){ .layer = layer, .disk = disk };
	if (vhd_is_vhd(disk)) {
		ret->vhd = vhd_get_info(disk);
		file = vhd_get_file(disk);
		rc = look_at_header(file, ret, err);
	} else {
		/* A raw disk keeps its file to itself. */
		rc = hv_file_open(disk->path, HV_FILE_NO_LOCK, NULL, &own, err);
		file = own;
	}
	return rc ? rc : look_at_host(file, ret, err);
}

static void describe_size(const struct hv_description *out, const struct snap_layer_info *layer)
{
	const struct vhd_info *vhd = layer->vhd;
	uint64_t size = layer->disk->size_bytes, said;
	const char *rule = "file size", *why = "by the length of the file";
	char text[HV_DESCRIBE_BYTES_SIZE];

	if (vhd) {
		said = vhd->size_from_geometry ? vhd_geometry_bytes(&vhd->footer.geometry) :
						 vhd->footer.current_bytes;
		if (size < hv_round_down(said, HV_SECTOR_SIZE)) {
			why = "by the length of the file, which is less than the footer says";
		} else if (vhd->size_from_geometry) {
			rule = "geometry";
			why = "by the geometry, as this creator means it";
		} else {
			rule = "current size";
			why = "by the footer's current size";
		}
	}
	hv_describe_format_bytes(size, text);
	hv_json_set_number(out->json, "size_bytes", size);
	hv_json_set_string(out->json, "size_rule", rule);
	hv_describe_line(out, "virtual size", "%s, %s", text, why);
}

static void describe_allocation(const struct hv_description *out, const struct vhd_info *vhd)
{
	uint64_t allocated = (uint64_t)vhd->allocated_blocks * vhd->block_bytes;
	char text[HV_DESCRIBE_BYTES_SIZE];

	hv_describe_bytes(out, "block_bytes", "block size", vhd->block_bytes);
	hv_json_set_number(out->json, "block_count", vhd->block_count);
	hv_json_set_number(out->json, "allocated_blocks", vhd->allocated_blocks);
	hv_json_set_number(out->json, "allocated_bytes", allocated);
	hv_describe_format_bytes(allocated, text);
	hv_describe_line(out, "allocated", "%u of %u blocks (%.3g %%), %s", vhd->allocated_blocks,
			 vhd->block_count, 100.0 * vhd->allocated_blocks / vhd->block_count, text);
	hv_json_set_number(out->json, "fragments", vhd->fragments);
	if (!vhd->allocated_blocks) {
		hv_json_set_null(out->json, "aligned");
		return;
	}
	hv_json_set_bool(out->json, "aligned", vhd->aligned);
	hv_describe_line(
		out, "alignment", "%s",
		vhd->aligned ?
			"every block's data begins at a multiple of 4 KiB" :
			"not every block's data begins at a multiple of 4 KiB, which is slow on most media");
	hv_describe_line(out, "fragmentation",
			 "%u run%s of blocks that follow each other in the file", vhd->fragments,
			 vhd->fragments == 1 ? "" : "s");
}

static void describe_flat(const struct hv_description *out, const struct snap_layer_info *layer)
{
	static const char *const none[] = { "block_bytes", "block_count", "allocated_blocks" };

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		hv_json_set_null(out->json, none[i]);
	hv_json_set_number(out->json, "allocated_bytes", layer->disk->size_bytes);
	hv_json_set_number(out->json, "fragments", 1);
	hv_json_set_bool(out->json, "aligned", true);
}

static void describe_azure(const struct hv_description *out, const struct snap_layer_info *layer)
{
	const char *objection = "it is not a VHD";
	struct hv_json *json = hv_json_set_object(out->json, "azure");

	if (layer->vhd)
		objection =
			vhd_azure_objection(layer->vhd, layer->disk->size_bytes, layer->file_bytes);
	hv_json_set_bool(json, "acceptable", !objection);
	hv_json_set_string(json, "reason", objection);
	if (layer->vhd)
		hv_describe_line(out, "azure", "%s%s",
				 objection ? "not acceptable: " : "acceptable",
				 objection ? objection : "");
}

static void describe_host(const struct hv_description *all, const struct snap_layer_info *layer)
{
	struct hv_description out = hv_describe_section(all, "host", "host");
	bool sparse = layer->allocated_bytes < layer->file_bytes;

	hv_describe_bytes(&out, "size_bytes", layer->block_device ? "device size" : "file size",
			  layer->file_bytes);
	hv_describe_bytes(&out, "allocated_bytes", "allocated", layer->allocated_bytes);
	hv_json_set_bool(out.json, "sparse", sparse);
	hv_describe_line(&out, "sparse", "%s%s", sparse ? "yes" : "no",
			 sparse && layer->vhd ?
				 "; Windows refuses a VHD that is stored as a sparse file" :
				 "");
	hv_json_set_bool(out.json, "block_device", layer->block_device);
	hv_describe_text(&out, "filesystem", "filesystem",
			 layer->block_device ? NULL : layer->filesystem);
	if (layer->extents < 0)
		hv_json_set_null(out.json, "extents");
	else
		hv_describe_number(&out, "extents", "extents", (uint64_t)layer->extents);
}

void snap_describe_layer(const struct hv_description *out, const struct snap_layer_info *layer)
{
	const struct vhd_info *vhd = layer->vhd;
	bool flat = !vhd || vhd->type == VHD_FIXED;

	hv_describe_text(out, "file", "file", layer->disk->path);
	hv_describe_text(out, "format", "format", hv_disk_format(layer->disk));
	describe_size(out, layer);
	if (vhd)
		hv_describe_uuid(out, "uuid", "uuid", &vhd->footer.uuid);
	else
		hv_json_set_null(out->json, "uuid");
	if (flat)
		describe_flat(out, layer);
	else
		describe_allocation(out, vhd);
	describe_azure(out, layer);
	if (vhd)
		snap_describe_footer(out, layer);
	else
		hv_json_set_null(out->json, "footer");
	if (!flat)
		snap_describe_header(out, layer);
	else
		hv_json_set_null(out->json, "header");
	if (!flat && vhd->type == VHD_DIFFERENCING)
		snap_describe_parent(out, layer);
	else
		hv_json_set_null(out->json, "parent");
	describe_host(out, layer);
}
