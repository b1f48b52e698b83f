/*
 * The filesystems of a disk, and what they do not use.
 */
#include "hvcore/fsmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/fsmap_ext.h"
#include "hvcore/fsmap_ntfs.h"
#include "hvcore/probe.h"

struct entry {
	struct hv_fs fs;
	/* One of them; both NULL: objected to. */
	struct hv_fsmap_ext *ext;
	struct hv_fsmap_ntfs *ntfs;
};

struct hv_fsmap {
	unsigned count;
	struct entry entries[];
};

static bool is_ext(const struct hv_fs *fs)
{
	return !strcmp(fs->type, "ext2") || !strcmp(fs->type, "ext3") || !strcmp(fs->type, "ext4");
}

static void ask(struct hv_disk *disk, struct entry *entry)
{
	struct hv_fs *fs = &entry->fs;
	HV_ERR(err);

	if (is_ext(fs))
		hv_fsmap_ext_open(disk, fs->offset, fs->length, &entry->ext, &err);
	else if (!strcmp(fs->type, "ntfs"))
		hv_fsmap_ntfs_open(disk, fs->offset, fs->length, &entry->ntfs, &err);
	else
		hv_fail(&err, -ENOTSUP, "this kind of filesystem cannot be asked");
	if (entry->ext)
		fs->unused_bytes = hv_fsmap_ext_unused_bytes(entry->ext);
	else if (entry->ntfs)
		fs->unused_bytes = hv_fsmap_ntfs_unused_bytes(entry->ntfs);
	else
		fs->objection = strdup(err.sentence);
}

/* offset counts from the filesystem's start. */
static bool says_unused(const struct entry *entry, uint64_t offset, uint64_t length)
{
	if (entry->ext)
		return hv_fsmap_ext_unused(entry->ext, offset, length);
	return entry->ntfs && hv_fsmap_ntfs_unused(entry->ntfs, offset, length);
}

static void add(struct hv_fsmap *map, struct hv_disk *disk, uint64_t offset, uint64_t length,
		const struct hv_signature *content)
{
	struct entry *entry = &map->entries[map->count];

	if (strcmp(content->usage, "filesystem") || content->ambivalent ||
	    !hv_range_inside(offset, length, disk->size_bytes))
		return;
	entry->fs = (struct hv_fs){ .offset = offset, .length = length };
	memcpy(entry->fs.type, content->type, sizeof(entry->fs.type));
	ask(disk, entry);
	map->count++;
}

int hv_fsmap_new(struct hv_disk *disk, struct hv_fsmap **ret, struct hv_err *err)
{
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	struct hv_fsmap *map;
	int rc = hv_probe_disk(disk, &probe, err);

	if (rc)
		return rc;
	map = calloc(1, sizeof(*map) + (probe->partition_count + 1) * sizeof(map->entries[0]));
	if (!map)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", disk->path);
	add(map, disk, 0, disk->size_bytes, &probe->whole);
	for (unsigned i = 0; i < probe->partition_count; i++)
		add(map, disk, probe->partitions[i].offset, probe->partitions[i].length,
		    &probe->partitions[i].content);
	*ret = map;
	return 0;
}

void hv_fsmap_free(struct hv_fsmap *map)
{
	if (!map)
		return;
	for (unsigned i = 0; i < map->count; i++) {
		hv_fsmap_ext_close(map->entries[i].ext);
		hv_fsmap_ntfs_close(map->entries[i].ntfs);
		free(map->entries[i].fs.objection);
	}
	free(map);
}

unsigned hv_fsmap_count(const struct hv_fsmap *map)
{
	return map->count;
}

const struct hv_fs *hv_fsmap_get(const struct hv_fsmap *map, unsigned i)
{
	return &map->entries[i].fs;
}

/* Overlapping partitions are possible: nobody who covers the range may use any of it. */
bool hv_fsmap_unused(const struct hv_fsmap *map, uint64_t offset, uint64_t length)
{
	bool unused = false;

	for (unsigned i = 0; i < map->count; i++) {
		const struct entry *entry = &map->entries[i];

		if (offset + length <= entry->fs.offset ||
		    offset >= entry->fs.offset + entry->fs.length)
			continue;
		if (offset < entry->fs.offset ||
		    !says_unused(entry, offset - entry->fs.offset, length))
			return false;
		unused = true;
	}
	return unused;
}
