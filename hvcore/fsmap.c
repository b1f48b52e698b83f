/*
 * The filesystems of a disk, and what they do not use.
 */
#include "hvcore/fsmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bitmap.h"
#include "hvcore/checked.h"
#include "hvcore/fsmap_ext.h"
#include "hvcore/probe.h"

struct entry {
	struct hv_fs fs;
	struct hv_fsmap_ext *ext; /* or */
	uint8_t *used;            /* a bit for each unit; neither: objected to */
	uint64_t units;
	uint32_t unit_bytes;
};

struct hv_fsmap {
	unsigned count;
	struct entry entries[];
};

static void ask(struct hv_disk *disk, struct entry *entry)
{
	struct hv_fs *fs = &entry->fs;
	HV_ERR(err);

	if (strcmp(fs->type, "ext2") && strcmp(fs->type, "ext3") && strcmp(fs->type, "ext4"))
		hv_fail(&err, -ENOTSUP, "this kind of filesystem cannot be asked");
	else if (hv_fsmap_ext_open(disk, fs->offset, fs->length, &entry->ext, &err) == 0)
		fs->unused_bytes = hv_fsmap_ext_unused_bytes(entry->ext);
	if (!entry->ext)
		fs->objection = strdup(err.sentence);
}

static void add(struct hv_fsmap *map, struct hv_disk *disk, unsigned partition, uint64_t offset,
		uint64_t length, const struct hv_signature *content)
{
	struct entry *entry = &map->entries[map->count];

	if (strcmp(content->usage, "filesystem") || content->ambivalent ||
	    !hv_range_inside(offset, length, disk->size_bytes))
		return;
	entry->fs = (struct hv_fs){ .offset = offset, .length = length, .partition = partition };
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
	add(map, disk, 0, 0, disk->size_bytes, &probe->whole);
	for (unsigned i = 0; i < probe->partition_count; i++) {
		const struct hv_partition *partition = &probe->partitions[i];

		add(map, disk, partition->number, partition->offset, partition->length,
		    &partition->content);
	}
	*ret = map;
	return 0;
}

void hv_fsmap_free(struct hv_fsmap *map)
{
	if (!map)
		return;
	for (unsigned i = 0; i < map->count; i++) {
		hv_fsmap_ext_close(map->entries[i].ext);
		free(map->entries[i].used);
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

int hv_fsmap_told(struct hv_fsmap *map, unsigned i, uint8_t *bits, uint64_t units,
		  uint32_t unit_bytes, struct hv_err *err)
{
	struct entry *entry = &map->entries[i];
	uint64_t bytes, used = 0;

	if (!unit_bytes || !hv_mul_u64(units, unit_bytes, &bytes) || bytes > entry->fs.length)
		return hv_fail(err, -EINVAL, "it is larger than where it lies");
	for (uint64_t unit = 0; unit < units; unit++)
		used += hv_bit_get(bits, unit);
	free(hv_steal(entry->fs.objection));
	entry->used = bits;
	entry->units = units;
	entry->unit_bytes = unit_bytes;
	entry->fs.unused_bytes = (units - used) * unit_bytes;
	return 0;
}

int hv_fsmap_object(struct hv_fsmap *map, unsigned i, const char *objection)
{
	char *copy = strdup(objection);

	if (!copy)
		return -ENOMEM;
	free(map->entries[i].fs.objection);
	map->entries[i].fs.objection = copy;
	return 0;
}

static bool entry_unused(const struct entry *entry, uint64_t offset, uint64_t length)
{
	uint64_t first, last;

	if (entry->ext)
		return hv_fsmap_ext_unused(entry->ext, offset, length);
	if (!entry->used || !length)
		return false;
	first = offset / entry->unit_bytes;
	last = (offset + length - 1) / entry->unit_bytes;
	return last < entry->units && hv_bits_none(entry->used, first, last - first + 1);
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
		    !entry_unused(entry, offset - entry->fs.offset, length))
			return false;
		unused = true;
	}
	return unused;
}
