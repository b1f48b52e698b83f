/*
 * How a file lies on its filesystem: FIEMAP and the filesystem's name.
 */
#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "hvcore/checked.h"
#include "hvcore/file.h"

#define EXTENTS_AT_ONCE 256

/* Counts the part of an extent that lies in [offset, end). */
static void count_extent(const struct fiemap_extent *extent, uint64_t offset, uint64_t end,
			 struct hv_file_layout *layout)
{
	uint64_t start = hv_max_u64(extent->fe_logical, offset);
	uint64_t stop = hv_min_u64(extent->fe_logical + extent->fe_length, end);
	uint64_t length = stop > start ? stop - start : 0;

	if (!length)
		return;
	layout->extents++;
	layout->allocated_bytes += length;
	if (extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN)
		layout->unwritten_bytes += length;
	else if (extent->fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC |
				     FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_INLINE))
		layout->unknown_bytes += length;
}

int hv_file_layout(struct hv_file *file, uint64_t offset, uint64_t length,
		   struct hv_file_layout *ret)
{
	HV_AUTO(free)
	struct fiemap *map = malloc(sizeof(*map) + EXTENTS_AT_ONCE * sizeof(struct fiemap_extent));
	uint64_t at = offset, end = offset + length;
	struct hv_file_layout layout = { 0 };
	bool last = false;

	if (!map)
		return -ENOMEM;
	while (at < end && !last) {
		*map = (struct fiemap){ .fm_start = at,
					.fm_length = end - at,
					.fm_flags = FIEMAP_FLAG_SYNC,
					.fm_extent_count = EXTENTS_AT_ONCE };
		if (file->fd < 0 || ioctl(file->fd, FS_IOC_FIEMAP, map))
			return file->fd < 0 || errno == ENOTTY ? -EOPNOTSUPP : -errno;
		if (!map->fm_mapped_extents)
			break;
		for (unsigned i = 0; i < map->fm_mapped_extents; i++) {
			const struct fiemap_extent *extent = &map->fm_extents[i];

			count_extent(extent, offset, end, &layout);
			at = extent->fe_logical + extent->fe_length;
			last = extent->fe_flags & FIEMAP_EXTENT_LAST;
		}
	}
	*ret = layout;
	return 0;
}

/* The device number names the mount in mountinfo, except where devices are anonymous. */
static const char *name_from_mounts(dev_t dev)
{
	static _Thread_local char name[32];
	char line[4096], wanted[32];
	const char *found = NULL;
	FILE *in = fopen("/proc/self/mountinfo", "re");

	if (!in)
		return NULL;
	snprintf(wanted, sizeof(wanted), " %u:%u ", major(dev), minor(dev));
	while (!found && fgets(line, sizeof(line), in)) {
		const char *type = strstr(line, " - ");

		if (type && strstr(line, wanted) && sscanf(type, " - %31s", name) == 1)
			found = name;
	}
	fclose(in);
	return found;
}

const char *hv_file_fs_name(struct hv_file *file)
{
	static const struct {
		long magic;
		const char *name;
	} known[] = {
		{ 0xef53, "ext4" },      { 0x58465342, "xfs" },  { 0x9123683e, "btrfs" },
		{ 0x01021994, "tmpfs" }, { 0x6969, "nfs" },      { 0x794c7630, "overlay" },
		{ 0x65735546, "fuse" },  { 0x4d44, "vfat" },     { 0x2011bab0, "exfat" },
		{ 0x2fc12fc1, "zfs" },   { 0xf2f52010, "f2fs" },
	};
	const char *name = name_from_mounts(file->dev);
	struct statfs fs;

	if (name)
		return name;
	if (file->fd < 0 || fstatfs(file->fd, &fs))
		return "unknown";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if ((long)fs.f_type == known[i].magic)
			return known[i].name;
	}
	return "unknown";
}
