/*
 * Marks: tiny readers of what partition tables and filesystems say about their own position. A mark
 * counts when it names its position in numbers (or has a checksum over them), fits the partition it
 * is in, and belongs to the same filesystem as what is known of that partition already. That no
 * other place says the same is for the caller to see: a disk may hold images of disks.
 *
 *	GPT	UEFI specification, 5.3.2: MyLBA, AlternateLBA, CRC32
 *	MBR	the table, with a filesystem that begins where the table says, in the same block
 *	ext	ext2, 3, 4: s_block_group_nr of every superblock, crc32c where there is one
 *	XFS	version 5: superblock and AGF of each allocation group, agf_seqno, crc32c
 *	Btrfs	the superblock's own byte number, crc32c
 *	NTFS	boot sector and its copy: hidden sectors, total sectors
 */
#include "vhd/check_marks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/bytes.h"
#include "hvcore/checked.h"
#include "hvcore/disk.h"

#define MARK_BYTES (CHECK_MARK_SECTORS * HV_SECTOR_SIZE)
#define MAX_GPT_ENTRIES 128 /* what everybody makes */
#define MAX_OFFSETS 64 /* different sectors inside a block; one filesystem needs one to three */
#define SLACK_SECTORS UINT64_C(2048) /* what a filesystem leaves free at the end of its partition */
#define MAX_COPIES 65536

/* One way to say where one is; the sector is that of the block looked at. */
struct check_mark_kind {
	const char *name;
	/* The LBA that the mark names, or CHECK_NO_LBA; *id tells one filesystem from another. */
	uint64_t (*place)(const struct check_part *part, const struct check_sectors *block,
			  uint32_t block_sectors, uint32_t sector, uint8_t id[16]);
	/* The LBA where the n-th mark should be, or CHECK_NO_LBA; knowing the first. */
	uint64_t (*nth)(const struct check_part *part, const uint8_t *first, uint32_t n);
	uint32_t first; /* sector of the partition */
};

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static uint32_t be32(const uint8_t *p)
{
	return __builtin_bswap32(le32(p));
}

static uint64_t be64(const uint8_t *p)
{
	return __builtin_bswap64(le64(p));
}

#define CRC32 0xedb88320u
#define CRC32C 0x82f63b78u

/* Bit by bit: a few sectors per mark are not worth a table. */
static uint32_t crc(uint32_t polynomial, uint32_t value, const uint8_t *data, size_t length)
{
	while (length--) {
		value ^= *data++;
		for (int i = 0; i < 8; i++)
			value = value >> 1 ^ (polynomial & -(value & 1));
	}
	return value;
}

/* With four bytes (the checksum's own) taken as zero. */
static uint32_t crc_without(uint32_t polynomial, const uint8_t *data, size_t length, size_t at)
{
	static const uint8_t zeros[4];
	uint32_t value = crc(polynomial, UINT32_MAX, data, at);

	value = crc(polynomial, value, zeros, sizeof(zeros));
	return ~crc(polynomial, value, data + at + 4, length - at - 4);
}

static bool is_null(const uint8_t id[16])
{
	static const uint8_t zeros[16];

	return !memcmp(id, zeros, sizeof(zeros));
}

/*
 * Does a filesystem of that many sectors fill the partition, as far as any does? The whole disk it
 * fills better, or it might be in a partition that is not known yet, whole blocks from the start.
 */
static bool fills(const struct check_part *part, uint64_t sectors, uint32_t block_sectors)
{
	uint64_t slack = part->start ? SLACK_SECTORS : hv_min_u64(SLACK_SECTORS, block_sectors);

	return sectors && sectors <= part->sectors && part->sectors - sectors < slack;
}

/* Is the filesystem the one that is known to be there, or may be? */
static bool belongs(const struct check_part *part, const struct check_mark_kind *kind,
		    const uint8_t id[16], uint64_t sectors, uint32_t block_sectors)
{
	if (!part->fs.kind)
		return fills(part, sectors, block_sectors);
	return part->fs.kind == kind && !memcmp(part->fs.id, id, 16);
}

/* An LBA of the partition, if it is there and in that sector of a block. */
static uint64_t inside(const struct check_part *part, uint64_t from_start, uint32_t block_sectors,
		       uint32_t sector)
{
	uint64_t lba = part->start + from_start;

	if (from_start >= part->sectors || lba % block_sectors != sector)
		return CHECK_NO_LBA;
	return lba;
}

static const struct check_mark_kind ext, xfs, btrfs, ntfs;

/* ext2, ext3, ext4. */

#define EXT_CSUM_FEATURE 0x400u

struct ext_super {
	uint64_t blocks, per_group, first;
	uint32_t block_sectors, group;
	uint8_t id[16];
};

static bool ext_decode(const uint8_t *raw, struct ext_super *ret)
{
	uint32_t log_block = le32(raw + 0x18);
	bool checked = le32(raw + 0x64) & EXT_CSUM_FEATURE;

	if (le16(raw + 0x38) != 0xef53 || log_block > 6)
		return false;
	if (checked && crc(CRC32C, UINT32_MAX, raw, 0x3fc) != le32(raw + 0x3fc))
		return false;
	*ret = (struct ext_super){
		.blocks = le32(raw + 4),
		.per_group = le32(raw + 0x20),
		.first = le32(raw + 0x14),
		.block_sectors = 2u << log_block,
		.group = le16(raw + 0x5a),
	};
	if (le32(raw + 0x60) & 0x80) /* 64bit */
		ret->blocks |= (uint64_t)le32(raw + 0x150) << 32;
	memcpy(ret->id, raw + 0x68, 16);
	return ret->per_group && ret->first <= 1 && ret->blocks < UINT64_C(1) << 48 &&
	       !is_null(ret->id);
}

static uint64_t ext_group(const struct ext_super *super, uint32_t group)
{
	if (!group)
		return 2;
	return (super->first + group * super->per_group) * super->block_sectors;
}

static uint64_t ext_place(const struct check_part *part, const struct check_sectors *block,
			  uint32_t block_sectors, uint32_t sector, uint8_t id[16])
{
	uint8_t raw[2 * HV_SECTOR_SIZE];
	struct ext_super super;

	if (!block->read(block, sector, 2, raw) || !ext_decode(raw, &super) ||
	    !belongs(part, &ext, super.id, super.blocks * super.block_sectors, block_sectors))
		return CHECK_NO_LBA;
	memcpy(id, super.id, 16);
	return inside(part, ext_group(&super, super.group), block_sectors, sector);
}

static uint64_t ext_nth(const struct check_part *part, const uint8_t *first, uint32_t n)
{
	struct ext_super super;
	uint64_t place;

	if (!ext_decode(first, &super))
		return CHECK_NO_LBA;
	place = ext_group(&super, n);
	return place < super.blocks * super.block_sectors ? part->start + place : CHECK_NO_LBA;
}

/* XFS. */

struct xfs_super {
	uint64_t sectors, group_sectors;
	uint32_t sector_bytes;
	uint8_t id[16]; /* what the metadata carry */
};

static bool xfs_decode(const uint8_t *raw, struct xfs_super *ret)
{
	uint32_t block_bytes = be32(raw + 4), sector_bytes = (uint32_t)be32(raw + 100) & 0xffff;
	bool other_id = be32(raw + 216) & 4;

	if (memcmp(raw, "XFSB", 4) || (raw[101] & 15) != 5 ||
	    (sector_bytes != 512 && sector_bytes != 4096) || block_bytes < 512 ||
	    block_bytes > 65536 || be64(raw + 8) >= UINT64_C(1) << 44 || !be32(raw + 84))
		return false;
	if (crc_without(CRC32C, raw, sector_bytes, 224) != le32(raw + 224))
		return false;
	ret->sectors = be64(raw + 8) * (block_bytes / 512);
	ret->group_sectors = (uint64_t)be32(raw + 84) * (block_bytes / 512);
	ret->sector_bytes = sector_bytes;
	memcpy(ret->id, raw + (other_id ? 248 : 32), 16);
	return true;
}

/* Every allocation group begins with a copy of the superblock; its number is in the next sector. */
static uint64_t xfs_place(const struct check_part *part, const struct check_sectors *block,
			  uint32_t block_sectors, uint32_t sector, uint8_t id[16])
{
	uint8_t raw[MARK_BYTES], agf[MARK_BYTES];
	struct xfs_super super;
	uint32_t step;

	if (!block->read(block, sector, 1, raw) || memcmp(raw, "XFSB", 4))
		return CHECK_NO_LBA;
	step = (be32(raw + 100) & 0xffff) / HV_SECTOR_SIZE;
	if ((step != 1 && step != 8) || !block->read(block, sector, step, raw) ||
	    !xfs_decode(raw, &super) ||
	    !belongs(part, &xfs, super.id, super.sectors, block_sectors) ||
	    !block->read(block, (uint64_t)sector + step, step, agf))
		return CHECK_NO_LBA;
	if (memcmp(agf, "XAGF", 4) || memcmp(agf + 64, super.id, 16) ||
	    crc_without(CRC32C, agf, super.sector_bytes, 216) != le32(agf + 216))
		return CHECK_NO_LBA;
	memcpy(id, super.id, 16);
	if (be32(agf + 8) > super.sectors / super.group_sectors)
		return CHECK_NO_LBA;
	return inside(part, be32(agf + 8) * super.group_sectors, block_sectors, sector);
}

static uint64_t xfs_nth(const struct check_part *part, const uint8_t *first, uint32_t n)
{
	struct xfs_super super;

	if (!xfs_decode(first, &super) || n * super.group_sectors >= super.sectors)
		return CHECK_NO_LBA;
	return part->start + n * super.group_sectors;
}

/* Btrfs. */

static const uint64_t btrfs_copies[] = { 64u << 10, 64u << 20, UINT64_C(256) << 30 };

static uint64_t btrfs_place(const struct check_part *part, const struct check_sectors *block,
			    uint32_t block_sectors, uint32_t sector, uint8_t id[16])
{
	uint8_t raw[4096];

	if (!block->read(block, sector, 8, raw) || memcmp(raw + 0x40, "_BHRfS_M", 8) ||
	    le16(raw + 0xc4) != 0 || ~crc(CRC32C, UINT32_MAX, raw + 32, 4096 - 32) != le32(raw) ||
	    !belongs(part, &btrfs, raw + 0x20, le64(raw + 0xd1) / HV_SECTOR_SIZE, block_sectors))
		return CHECK_NO_LBA;
	memcpy(id, raw + 0x20, 16);
	return inside(part, le64(raw + 0x30) / HV_SECTOR_SIZE, block_sectors, sector);
}

static uint64_t btrfs_nth(const struct check_part *part, const uint8_t *first, uint32_t n)
{
	(void)first;
	if (n >= sizeof(btrfs_copies) / sizeof(btrfs_copies[0]) ||
	    btrfs_copies[n] / HV_SECTOR_SIZE >= part->sectors)
		return CHECK_NO_LBA;
	return part->start + btrfs_copies[n] / HV_SECTOR_SIZE;
}

/* NTFS. */

/* Both copies are alike: which one it is, the sector inside the block tells, if the two differ. */
static uint64_t ntfs_place(const struct check_part *part, const struct check_sectors *block,
			   uint32_t block_sectors, uint32_t sector, uint8_t id[16])
{
	uint8_t raw[HV_SECTOR_SIZE];
	uint64_t total, first, second;

	if (!block->read(block, sector, 1, raw) || memcmp(raw + 3, "NTFS    ", 8) ||
	    le16(raw + 510) != 0xaa55 || le16(raw + 11) != HV_SECTOR_SIZE ||
	    le32(raw + 28) != part->start)
		return CHECK_NO_LBA;
	total = le64(raw + 40);
	memset(id, 0, 16);
	memcpy(id, raw + 72, 8);
	if (!fills(part, total, block_sectors) || !belongs(part, &ntfs, id, total, block_sectors))
		return CHECK_NO_LBA;
	first = inside(part, 0, block_sectors, sector);
	second = inside(part, total, block_sectors, sector);
	if (first != CHECK_NO_LBA && second != CHECK_NO_LBA)
		return CHECK_NO_LBA;
	return first != CHECK_NO_LBA ? first : second;
}

static uint64_t ntfs_nth(const struct check_part *part, const uint8_t *first, uint32_t n)
{
	if (n > 1)
		return CHECK_NO_LBA;
	return part->start + (n ? le64(first + 40) : 0);
}

static const struct check_mark_kind ext = { "the ext superblock there", ext_place, ext_nth, 2 };
static const struct check_mark_kind xfs = { "the XFS allocation group there", xfs_place, xfs_nth,
					    0 };
static const struct check_mark_kind btrfs = { "the Btrfs superblock there", btrfs_place, btrfs_nth,
					      128 };
static const struct check_mark_kind ntfs = { "the NTFS boot sector there", ntfs_place, ntfs_nth,
					     0 };
static const struct check_mark_kind *const kinds[] = { &ext, &xfs, &btrfs, &ntfs };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* GPT. */

struct gpt {
	uint64_t my, alternate, table;
	uint32_t entries, entry_bytes, crc;
	uint8_t id[16];
};

static bool gpt_decode(const uint8_t *raw, struct gpt *ret)
{
	uint32_t length = le32(raw + 12);

	if (memcmp(raw, "EFI PART", 8) || length < 92 || length > HV_SECTOR_SIZE ||
	    crc_without(CRC32, raw, length, 16) != le32(raw + 16))
		return false;
	*ret = (struct gpt){
		.my = le64(raw + 24),
		.alternate = le64(raw + 32),
		.table = le64(raw + 72),
		.entries = le32(raw + 80),
		.entry_bytes = le32(raw + 84),
		.crc = le32(raw + 88),
	};
	memcpy(ret->id, raw + 56, 16);
	return true;
}

/* A header names its position; that it is this disk's, the disk's size or its twin must say. */
static uint64_t gpt_place(const struct check_contents *contents, const struct check_sectors *block,
			  uint32_t block_sectors, uint32_t sector)
{
	uint8_t raw[HV_SECTOR_SIZE];
	struct gpt gpt;
	uint64_t last = contents->sectors - 1, end;

	if (!block->read(block, sector, 1, raw) || !gpt_decode(raw, &gpt) ||
	    gpt.my % block_sectors != sector || gpt.my >= contents->sectors)
		return CHECK_NO_LBA;
	end = gpt.my == 1 ? gpt.alternate : gpt.my;
	if (gpt.my != 1 && gpt.alternate != 1)
		return CHECK_NO_LBA;
	if (contents->gpt ? end != contents->gpt_alternate || memcmp(gpt.id, contents->gpt_id, 16) :
			    end != last)
		return CHECK_NO_LBA;
	return gpt.my;
}

/* MBR. */

#define MBR_PARTS 4

static unsigned mbr_decode(const uint8_t *raw, uint64_t sectors, struct check_part *ret)
{
	unsigned count = 0;

	if (le16(raw + 510) != 0xaa55)
		return 0;
	for (unsigned i = 0; i < MBR_PARTS; i++) {
		const uint8_t *entry = raw + 446 + (size_t)i * 16;
		struct check_part part = { .start = le32(entry + 8), .sectors = le32(entry + 12) };

		if (entry[0] & 0x7f)
			return 0;
		if (!entry[4])
			continue;
		if (!part.start || !part.sectors || part.start + part.sectors > sectors)
			return 0;
		if (entry[4] != 0xee) /* which stands for a GPT */
			ret[count++] = part;
	}
	return count;
}

/*
 * The table has no checksum and does not say where it is. It counts when the partitions reach to
 * the end of this disk, and one of them begins in the same block with a filesystem that fills it.
 */
static uint64_t mbr_place(const struct check_contents *contents, const struct check_sectors *block,
			  uint32_t block_sectors)
{
	struct check_part parts[MBR_PARTS];
	uint8_t raw[HV_SECTOR_SIZE], id[16];
	uint64_t end = 0, slack = contents->sectors / 64;
	bool found = false;
	unsigned count;

	if (!block->read(block, 0, 1, raw))
		return CHECK_NO_LBA;
	count = mbr_decode(raw, contents->sectors, parts);
	for (unsigned i = 0; i < count; i++) {
		if (parts[i].start + parts[i].sectors > end)
			end = parts[i].start + parts[i].sectors;
		for (unsigned k = 0; k < KINDS; k++) {
			uint64_t at = parts[i].start + kinds[k]->first;

			found |= at < block_sectors &&
				 kinds[k]->place(&parts[i], block, block_sectors, (uint32_t)at,
						 id) == at;
		}
	}
	slack = hv_max_u64(slack, 4 * SLACK_SECTORS);
	return found && end + slack >= contents->sectors ? 0 : CHECK_NO_LBA;
}

/* A short look, for most sectors are none of these. */
static bool may_be_fs(const struct check_sectors *block, uint32_t sector)
{
	uint8_t raw[HV_SECTOR_SIZE];

	return block->read(block, sector, 1, raw) &&
	       (le16(raw + 0x38) == 0xef53 || !memcmp(raw, "XFSB", 4) ||
		!memcmp(raw + 0x40, "_BHRfS_M", 8) || !memcmp(raw + 3, "NTFS    ", 8));
}

uint64_t vhd_check_mark_at(const struct check_contents *contents, const struct check_sectors *block,
			   uint32_t block_sectors, uint32_t sector, const char **name)
{
	uint64_t lba = gpt_place(contents, block, block_sectors, sector);

	*name = "the GPT header there";
	if (lba == CHECK_NO_LBA && sector == 0) {
		*name = "the partition table there";
		lba = mbr_place(contents, block, block_sectors);
	}
	if (!may_be_fs(block, sector))
		return lba;
	for (unsigned i = 0; i < contents->part_count * KINDS; i++) {
		const struct check_mark_kind *kind = kinds[i % KINDS];
		uint8_t id[16];
		uint64_t other =
			kind->place(&contents->parts[i / KINDS], block, block_sectors, sector, id);

		if (other == CHECK_NO_LBA || other == lba)
			continue;
		/* It would fit into two partitions. */
		if (lba != CHECK_NO_LBA)
			return CHECK_NO_LBA;
		*name = kind->name;
		lba = other;
	}
	return lba;
}

/* Where to look. */

struct offsets {
	uint32_t at[MAX_OFFSETS];
	unsigned count;
};

static void add_offset(struct offsets *offsets, uint64_t lba, uint32_t block_sectors)
{
	uint32_t at = (uint32_t)(lba % block_sectors);
	unsigned i = offsets->count;

	for (unsigned k = 0; k < offsets->count; k++) {
		if (offsets->at[k] == at)
			return;
	}
	if (offsets->count == MAX_OFFSETS)
		return;
	for (; i && offsets->at[i - 1] > at; i--)
		offsets->at[i] = offsets->at[i - 1];
	offsets->at[i] = at;
	offsets->count++;
}

static void add_marks_of(struct offsets *offsets, const struct check_part *part,
			 uint32_t block_sectors)
{
	const struct check_fs *fs = &part->fs;

	add_offset(offsets, part->start + part->sectors - 1, block_sectors); /* of NTFS */
	for (unsigned k = 0; k < KINDS && !fs->kind; k++)
		add_offset(offsets, part->start + kinds[k]->first, block_sectors);
	for (uint32_t n = 0; fs->kind && n < MAX_COPIES; n++) {
		uint64_t lba = fs->kind->nth(part, fs->first, n);

		if (lba == CHECK_NO_LBA)
			break;
		add_offset(offsets, lba, block_sectors);
	}
}

int vhd_check_marks_list(const struct check_contents *contents, uint32_t block_sectors,
			 uint32_t **ret)
{
	struct offsets offsets = { .count = 0 };

	add_offset(&offsets, 0, block_sectors);
	add_offset(&offsets, 1, block_sectors);
	add_offset(&offsets, contents->sectors - 1, block_sectors);
	if (contents->gpt)
		add_offset(&offsets, contents->gpt_alternate, block_sectors);
	for (unsigned i = 0; i < contents->part_count; i++)
		add_marks_of(&offsets, &contents->parts[i], block_sectors);
	*ret = malloc(sizeof(offsets.at));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, offsets.at, sizeof(offsets.at));
	return (int)offsets.count;
}

/* Learning. */

static int add_part(struct check_contents *contents, struct check_part part)
{
	unsigned count = contents->part_count + 1;
	void *parts = realloc(contents->parts, count * sizeof(part));

	if (!parts)
		return -ENOMEM;
	contents->parts = parts;
	contents->parts[contents->part_count++] = part;
	return 0;
}

static int learn_gpt_parts(const struct check_sectors *disk, struct check_contents *contents,
			   const struct gpt *gpt)
{
	uint64_t bytes = (uint64_t)gpt->entries * gpt->entry_bytes;
	uint64_t count = (bytes + HV_SECTOR_SIZE - 1) / HV_SECTOR_SIZE;
	uint8_t *table;
	int rc = 0;

	if (gpt->entries > MAX_GPT_ENTRIES || gpt->entry_bytes < 128 || gpt->entry_bytes > 1024 ||
	    gpt->table >= contents->sectors || count > contents->sectors - gpt->table)
		return 0;
	table = malloc(count * HV_SECTOR_SIZE + 1);
	if (!table)
		return -ENOMEM;
	if (!disk->read(disk, gpt->table, (unsigned)count, table) ||
	    ~crc(CRC32, UINT32_MAX, table, bytes) != gpt->crc)
		goto out;
	for (uint32_t i = 0; i < gpt->entries && rc == 0; i++) {
		const uint8_t *entry = table + (size_t)i * gpt->entry_bytes;
		uint64_t first = le64(entry + 32), last = le64(entry + 40);

		if (!is_null(entry) && first && last >= first && last < contents->sectors)
			rc = add_part(contents, (struct check_part){ .start = first,
								     .sectors = last - first + 1 });
	}
out:
	free(table);
	return rc;
}

/* The header at one of its two places. */
static int learn_gpt(const struct check_sectors *disk, struct check_contents *contents,
		     uint64_t lba)
{
	uint8_t raw[HV_SECTOR_SIZE];
	unsigned before = contents->part_count;
	struct gpt gpt;
	int rc;

	if (!disk->read(disk, lba, 1, raw) || !gpt_decode(raw, &gpt) || gpt.my != lba ||
	    (lba != 1 && gpt.alternate != 1))
		return 0;
	if (!contents->gpt)
		contents->known++;
	contents->gpt = true;
	contents->gpt_alternate = lba == 1 ? gpt.alternate : lba;
	memcpy(contents->gpt_id, gpt.id, 16);
	rc = learn_gpt_parts(disk, contents, &gpt);
	contents->known += contents->part_count - before;
	return rc;
}

static int learn_mbr(const struct check_sectors *disk, struct check_contents *contents)
{
	struct check_part parts[MBR_PARTS];
	uint8_t raw[HV_SECTOR_SIZE];
	unsigned count;
	int rc = 0;

	if (!disk->read(disk, 0, 1, raw))
		return 0;
	count = mbr_decode(raw, contents->sectors, parts);
	for (unsigned i = 0; i < count && rc == 0; i++)
		rc = add_part(contents, parts[i]);
	contents->known += count;
	return rc;
}

/* Which filesystem begins the partition, as far as that can be read. */
static void learn_fs(const struct check_sectors *disk, struct check_part *part)
{
	for (unsigned k = 0; k < KINDS; k++) {
		uint64_t at = part->start + kinds[k]->first;
		uint8_t id[16];

		/* The disk is taken as one block, so that the sector is the LBA. */
		if (at >= UINT32_MAX ||
		    kinds[k]->place(part, disk, UINT32_MAX, (uint32_t)at, id) != at)
			continue;
		for (unsigned i = 0; i < CHECK_MARK_SECTORS; i++)
			disk->read(disk, at + i, 1, part->fs.first + (size_t)i * HV_SECTOR_SIZE);
		memcpy(part->fs.id, id, 16);
		part->fs.kind = kinds[k];
		return;
	}
}

int vhd_check_marks_learn(const struct check_sectors *disk, uint64_t sectors,
			  struct check_contents *ret)
{
	struct check_contents contents = { .sectors = sectors };
	int rc = add_part(&contents, (struct check_part){ .sectors = sectors });

	if (rc == 0)
		rc = learn_gpt(disk, &contents, 1);
	if (rc == 0 && contents.part_count == 1 && sectors > 1)
		rc = learn_gpt(disk, &contents, sectors - 1);
	if (rc == 0 && !contents.gpt)
		rc = learn_mbr(disk, &contents);
	for (unsigned i = 0; i < contents.part_count; i++) {
		learn_fs(disk, &contents.parts[i]);
		contents.known += contents.parts[i].fs.kind != NULL;
	}
	if (rc) {
		vhd_check_marks_forget(&contents);
		return rc;
	}
	*ret = contents;
	return 0;
}

void vhd_check_marks_forget(struct check_contents *contents)
{
	free(contents->parts);
	*contents = (struct check_contents){ 0 };
}
