/*
 * Signatures and partitions, found by libblkid in a copy of the parts of the disk that it reads
 * (probe_copy.c). What it reports comes from the disk and is trusted no further: ranges are
 * clamped to the disk, their number is bounded, texts are cut.
 */
#include "hvcore/probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/probe_copy.h"

#define MAX_NAMED_PARTITIONS 8
#define MAX_SEVERAL 16
#define AMBIVALENT (-2)

static void free_blkid(blkid_probe *probe)
{
	blkid_free_probe(*probe);
}

/* Cuts between characters of UTF-8. */
static void copy_text(char *out, size_t size, const char *text)
{
	size_t length = strnlen(text ? text : "", size);

	if (length == size)
		for (length--; length && ((unsigned char)text[length] & 0xc0) == 0x80;)
			length--;
	if (length)
		memcpy(out, text, length);
	out[length] = '\0';
}

static void copy_value(blkid_probe probe, const char *name, char *out, size_t size)
{
	const char *value;

	if (blkid_probe_lookup_value(probe, name, &value, NULL) == 0)
		copy_text(out, size, value);
}

/* A probe of [offset, offset + length) of the copy; length is not 0. */
static int new_probe(const struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
		     blkid_probe *ret, struct hv_err *err)
{
	blkid_probe probe = blkid_new_probe();

	if (!probe)
		return hv_fail_errno(err, -ENOMEM, "%s: cannot look for signatures",
				     copy->disk->path);
	if (blkid_probe_set_device(probe, copy->fd, (blkid_loff_t)offset, (blkid_loff_t)length)) {
		blkid_free_probe(probe);
		return hv_fail(err, -EIO, "%s: libblkid refuses %llu bytes at %llu",
			       copy->disk->path, (unsigned long long)length,
			       (unsigned long long)offset);
	}
	*ret = probe;
	return 0;
}

/* The types of all signatures, one after the other; of what does not fit, none. */
static void name_several(blkid_probe probe, struct hv_signature *ret)
{
	size_t used = 0;

	blkid_reset_probe(probe);
	for (int i = 0; i < MAX_SEVERAL && blkid_do_probe(probe) == 0; i++) {
		char *end = ret->several + used;
		size_t room = sizeof(ret->several) - used;
		const char *type;
		int length;

		if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL))
			continue;
		length = snprintf(end, room, "%s%s", used ? ", " : "", type);
		if (length < 0 || (size_t)length >= room) {
			*end = '\0';
			return;
		}
		used += (size_t)length;
	}
}

static int find_signature(const struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
			  struct hv_signature *ret, struct hv_err *err)
{
	__attribute__((cleanup(free_blkid))) blkid_probe probe = NULL;
	int r = new_probe(copy, offset, length, &probe, err);

	if (r < 0)
		return r;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_TYPE |
							 BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
							 BLKID_SUBLKS_USAGE | BLKID_SUBLKS_BADCSUM);
	r = blkid_do_safeprobe(probe);
	if (r < 0) {
		/*
		 * Besides AMBIVALENT, errors: superblocks that libblkid gave up on. They too are
		 * something that should not be destroyed unseen.
		 */
		ret->ambivalent = true;
		if (r == AMBIVALENT)
			name_several(probe, ret);
	} else if (r == 0) {
		copy_value(probe, "TYPE", ret->type, sizeof(ret->type));
		copy_value(probe, "USAGE", ret->usage, sizeof(ret->usage));
		copy_value(probe, "LABEL", ret->label, sizeof(ret->label));
		copy_value(probe, "UUID", ret->uuid, sizeof(ret->uuid));
	}
	return 0;
}

/* libblkid counts in sectors of 512 bytes. More than limit is cut. */
static uint64_t sectors_to_bytes(blkid_loff_t sectors, uint64_t limit, bool *cut)
{
	uint64_t bytes;

	if (sectors >= 0 && hv_mul_u64((uint64_t)sectors, HV_SECTOR_SIZE, &bytes) && bytes <= limit)
		return bytes;
	*cut = true;
	return limit;
}

static void describe_partition(blkid_partition found, uint64_t disk_bytes, struct hv_partition *ret)
{
	const char *type = blkid_partition_get_type_string(found);

	ret->number = (unsigned)blkid_partition_get_partno(found);
	ret->container = blkid_partition_is_extended(found);
	ret->offset = sectors_to_bytes(blkid_partition_get_start(found), disk_bytes, &ret->cut);
	ret->length = sectors_to_bytes(blkid_partition_get_size(found), disk_bytes - ret->offset,
				       &ret->cut);
	copy_text(ret->name, sizeof(ret->name), blkid_partition_get_name(found));
	copy_text(ret->uuid, sizeof(ret->uuid), blkid_partition_get_uuid(found));
	if (type)
		copy_text(ret->type, sizeof(ret->type), type);
	else
		snprintf(ret->type, sizeof(ret->type), "0x%02x",
			 (unsigned)blkid_partition_get_type(found));
}

/* Fills the table and, without their contents, the partitions. */
static int list_partitions(blkid_partlist list, uint64_t disk_bytes, struct hv_probe *probe)
{
	blkid_parttable table = blkid_partlist_get_table(list);
	int count = blkid_partlist_numof_partitions(list);

	if (table) {
		copy_text(probe->table, sizeof(probe->table), blkid_parttable_get_type(table));
		copy_text(probe->table_uuid, sizeof(probe->table_uuid),
			  blkid_parttable_get_id(table));
	}
	if (count <= 0)
		return 0;
	probe->has_more_partitions = count > HV_PROBE_PARTITIONS;
	if (probe->has_more_partitions)
		count = HV_PROBE_PARTITIONS;
	probe->partitions = calloc((size_t)count, sizeof(*probe->partitions));
	if (!probe->partitions)
		return -ENOMEM;
	for (int i = 0; i < count; i++) {
		blkid_partition found = blkid_partlist_get_partition(list, i);

		if (found)
			describe_partition(found, disk_bytes,
					   &probe->partitions[probe->partition_count++]);
	}
	return 0;
}

/* Tables that have no list of partitions: a protective MBR whose GPT is gone ("PMBR"). */
static void name_table(blkid_probe blkid, struct hv_probe *probe)
{
	blkid_reset_probe(blkid);
	if (blkid_do_probe(blkid) == 0)
		copy_value(blkid, "PTTYPE", probe->table, sizeof(probe->table));
}

static int find_table(const struct hv_probe_copy *copy, struct hv_probe *probe, struct hv_err *err)
{
	__attribute__((cleanup(free_blkid))) blkid_probe blkid = NULL;
	blkid_partlist list;
	int r = new_probe(copy, 0, copy->disk->size_bytes, &blkid, err);

	if (r < 0)
		return r;
	blkid_probe_enable_superblocks(blkid, 0);
	blkid_probe_enable_partitions(blkid, 1);
	list = blkid_probe_get_partitions(blkid); /* NULL also where there is no table */
	if (list)
		r = list_partitions(list, copy->disk->size_bytes, probe);
	if (!*probe->table)
		name_table(blkid, probe);
	if (r < 0)
		return hv_fail_errno(err, r, "%s: cannot list the partitions", copy->disk->path);
	return 0;
}

static int find_contents(struct hv_probe_copy *copy, struct hv_probe *probe, struct hv_err *err)
{
	for (unsigned i = 0; i < probe->partition_count; i++) {
		struct hv_partition *p = &probe->partitions[i];
		int r;

		if (!p->length || p->container)
			continue;
		r = hv_probe_copy_partition(copy, p->offset, p->length, err);
		if (r == 0)
			r = find_signature(copy, p->offset, p->length, &p->content, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int find_all(struct hv_probe_copy *copy, struct hv_disk *disk, struct hv_probe *probe,
		    struct hv_err *err)
{
	int r = hv_probe_copy_open(copy, disk, err);

	if (r == 0)
		r = hv_probe_copy_whole(copy, err);
	if (r == 0)
		r = find_signature(copy, 0, disk->size_bytes, &probe->whole, err);
	if (r == 0)
		r = find_table(copy, probe, err);
	if (r == 0)
		r = find_contents(copy, probe, err);
	return r;
}

static int probe_disk(struct hv_disk *disk, bool lenient, struct hv_probe **ret, struct hv_err *err)
{
	__attribute__((cleanup(hv_probe_copy_close))) struct hv_probe_copy copy = {
		.fd = -1,
		.lenient = lenient,
	};
	HV_AUTO(hv_probe_free) struct hv_probe *probe = calloc(1, sizeof(*probe));
	int r = 0;

	if (!probe)
		return hv_fail_errno(err, -ENOMEM, "%s: cannot look for signatures", disk->path);
	if (disk->size_bytes)
		r = find_all(&copy, disk, probe, err);
	if (r < 0)
		return r;
	probe->has_unreadable = copy.missed;
	*ret = hv_steal(probe);
	return 0;
}

int hv_probe_disk(struct hv_disk *disk, struct hv_probe **ret, struct hv_err *err)
{
	return probe_disk(disk, false, ret, err);
}

int hv_probe_readable(struct hv_disk *disk, struct hv_probe **ret, struct hv_err *err)
{
	return probe_disk(disk, true, ret, err);
}

void hv_probe_free(struct hv_probe *probe)
{
	if (probe)
		free(probe->partitions);
	free(probe);
}

/* Labels come from the disk and go to a terminal. */
static void print_clean(FILE *out, const char *text)
{
	for (; *text; text++)
		putc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, out);
}

/* By the sound of what people say: an ext4, an NTFS, an XFS, a btrfs, a udf. */
static const char *article(const char *name)
{
	static const char *const an[] = { "a",    "e",   "i",   "o",      "A",    "E",   "I",  "O",
					  "f2fs", "hfs", "LVM", "mdraid", "ntfs", "xfs", "sgi" };

	for (size_t i = 0; i < sizeof(an) / sizeof(an[0]); i++)
		if (!strncmp(name, an[i], strlen(an[i])))
			return "an";
	return "a";
}

static void print_signature(FILE *out, const struct hv_signature *signature)
{
	if (signature->ambivalent) {
		fputs("several conflicting signatures", out);
		return;
	}
	fprintf(out, "%s %s %s", article(signature->type), signature->type,
		!strcmp(signature->usage, "filesystem") ? "filesystem" : "signature");
	if (!*signature->label)
		return;
	fputs(" labelled '", out);
	print_clean(out, signature->label);
	putc('\'', out);
}

static const char *content_word(const struct hv_partition *partition)
{
	if (partition->content.ambivalent)
		return "ambiguous";
	return *partition->content.type ? partition->content.type : "unknown";
}

static void print_table(FILE *out, const struct hv_probe *probe)
{
	unsigned count = probe->partition_count;

	fprintf(out, "%s %s partition table with ", article(probe->table), probe->table);
	if (!count) {
		fputs("no partitions", out);
		return;
	}
	fprintf(out, "%u partition%s (", count, count == 1 ? "" : "s");
	for (unsigned i = 0; i < count && i < MAX_NAMED_PARTITIONS; i++)
		fprintf(out, "%s%s", i ? ", " : "", content_word(&probe->partitions[i]));
	fputs(count > MAX_NAMED_PARTITIONS ? ", ...)" : ")", out);
}

static void print_all(FILE *out, const struct hv_probe *probe)
{
	bool has_signature = probe->whole.ambivalent || *probe->whole.type;

	if (has_signature)
		print_signature(out, &probe->whole);
	if (has_signature && *probe->table)
		fputs(" and ", out);
	if (*probe->table)
		print_table(out, probe);
}

char *hv_probe_describe(const struct hv_probe *probe)
{
	HV_AUTO(free) char *text = NULL;
	bool lost;
	size_t length;
	FILE *out;

	if (!probe->whole.ambivalent && !*probe->whole.type && !*probe->table)
		return NULL;
	out = open_memstream(&text, &length);
	if (!out)
		return NULL;
	print_all(out, probe);
	lost = ferror(out);
	if (fclose(out) || lost)
		return NULL;
	return hv_steal(text);
}
