#include "tests/support/memvhd.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/bytes.h"
#include "tests/support/must.h"

#define SECTOR 512
#define FOOTER 512
#define PART_START 16u
#define EXT_GROUP_BLOCKS 16u /* of 1 KiB: four of our blocks */

struct maker {
	struct memvhd disk;
	unsigned *seed;
	struct hv_file *file;
	uint64_t sectors;                  /* of the disk */
	uint32_t place[MEMVHD_MAX_BLOCKS]; /* of every block that ever was */
	bool marked[MEMVHD_MAX_BLOCKS];
	uint8_t (*data)[MEMVHD_BLOCK_BYTES];
};

static unsigned roll(unsigned *seed, unsigned n)
{
	return (unsigned)rand_r(seed) % n;
}

static void put(struct hv_file *file, const void *data, size_t length, uint64_t offset)
{
	HV_ERR(err);

	must(hv_file_pwrite(file, data, length, offset, &err) == 0, "%s", err.sentence);
}

static void be(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, value >>= 8)
		at[i] = (uint8_t)value;
}

static void le(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++, value >>= 8)
		at[i] = (uint8_t)value;
}

/* Contents. */

static uint8_t *sector_of(struct maker *maker, uint64_t lba)
{
	return maker->data[lba / MEMVHD_BLOCK_SECTORS] + lba % MEMVHD_BLOCK_SECTORS * SECTOR;
}

static uint32_t crc32_of(const uint8_t *data, size_t length)
{
	uint32_t value = UINT32_MAX;

	while (length--) {
		value ^= *data++;
		for (int i = 0; i < 8; i++)
			value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
	}
	return ~value;
}

void memvhd_make_gpt(uint8_t *ret, uint64_t my, uint64_t alternate, uint64_t table, uint32_t crc)
{
	memset(ret, 0, SECTOR);
	memcpy(ret, "EFI PART", 8);
	le(ret + 8, 0x10000, 4);
	le(ret + 12, 92, 4);
	le(ret + 24, my, 8);
	le(ret + 32, alternate, 8);
	memset(ret + 56, 0x55, 16);
	le(ret + 72, table, 8);
	le(ret + 80, 4, 4);
	le(ret + 84, 128, 4);
	le(ret + 88, crc, 4);
	le(ret + 16, crc32_of(ret, 92), 4);
}

static void put_gpt(struct maker *maker, uint64_t my, uint64_t alternate, uint64_t table)
{
	uint8_t *entry = sector_of(maker, table);

	maker->marked[my / MEMVHD_BLOCK_SECTORS] = true;
	memset(entry, 0, SECTOR);
	memset(entry, 0x77, 32);
	le(entry + 32, PART_START, 8);
	le(entry + 40, maker->sectors - 3, 8);
	memvhd_make_gpt(sector_of(maker, my), my, alternate, table, crc32_of(entry, SECTOR));
}

void memvhd_make_superblock(uint8_t *ret, uint64_t disk_sectors, uint32_t group, uint8_t id)
{
	memset(ret, 0, SECTOR);
	le(ret + 4, (disk_sectors - 2 - PART_START) / 2, 4);
	le(ret + 0x14, 1, 4);
	le(ret + 0x20, EXT_GROUP_BLOCKS, 4);
	le(ret + 0x38, 0xef53, 2);
	le(ret + 0x5a, group, 2);
	memset(ret + 0x68, id, 16);
}

static void put_superblock(struct maker *maker, uint32_t group)
{
	uint64_t lba = PART_START + (group ? (1 + group * EXT_GROUP_BLOCKS) * 2 : 2);

	maker->marked[lba / MEMVHD_BLOCK_SECTORS] = true;
	memvhd_make_superblock(sector_of(maker, lba), maker->sectors, group, MEMVHD_EXT_ID);
	memset(sector_of(maker, lba + 1), 0, SECTOR);
}

static void put_contents(struct maker *maker)
{
	const struct memvhd_options *options = &maker->disk.options;
	uint32_t groups = (uint32_t)((maker->sectors - 2 - PART_START) / (EXT_GROUP_BLOCKS * 2));

	for (uint64_t lba = 0; lba < (uint64_t)options->blocks * MEMVHD_BLOCK_SECTORS; lba++) {
		uint8_t *at = sector_of(maker, lba);

		for (int i = 0; i < SECTOR / 8; i++)
			le(at + i * 8, (lba * 64 + (uint64_t)i) * UINT64_C(0x9e3779b97f4a7c15) + 1,
			   8);
	}
	if (options->contents == MEMVHD_NOISE)
		return;
	put_gpt(maker, 1, maker->sectors - 1, 2);
	put_gpt(maker, maker->sectors - 1, 1, maker->sectors - 2);
	for (uint32_t group = 0; group < groups; group++) {
		if (roll(maker->seed, 3) || !group)
			put_superblock(maker, group);
	}
	if (options->twin)
		memcpy(maker->data[6 + roll(maker->seed, options->blocks - 8)],
		       maker->data[roll(maker->seed, 4)], MEMVHD_BLOCK_BYTES);
}

/* Places. */

static void choose_order(struct maker *maker, uint32_t *order, uint32_t count)
{
	enum memvhd_order kind = maker->disk.options.order;

	for (uint32_t i = 0; i + 1 < count; i++) {
		uint32_t with = i, other;

		if (kind == MEMVHD_SCATTERED)
			with = i + roll(maker->seed, count - i);
		else if (kind == MEMVHD_DESCENDING && i < count / 2)
			with = count - 1 - i;
		else if (kind == MEMVHD_NEARLY && !roll(maker->seed, 24))
			with = i + 1;
		other = order[with];
		order[with] = order[i];
		order[i] = other;
	}
}

static void place_blocks(struct maker *maker, uint64_t *end)
{
	const struct memvhd_options *options = &maker->disk.options;
	uint32_t order[MEMVHD_MAX_BLOCKS], count = 0;
	bool aligned = options->layout == MEMVHD_ALIGNED;
	uint64_t bat_end = MEMVHD_BAT + (options->blocks * 4 + 511) / 512 * 512, at = bat_end;

	for (uint32_t block = 0; block < options->blocks; block++) {
		maker->place[block] = MEMVHD_UNUSED;
		if (maker->marked[block] || roll(maker->seed, 100) >= options->hole_percent)
			order[count++] = block;
	}
	choose_order(maker, order, count);
	maker->disk.stride = aligned ? MEMVHD_BLOCK_BYTES + 4096 : MEMVHD_BLOCK_BYTES + 512;
	if (aligned)
		at = (bat_end + 4095) / 4096 * 4096 + 4096 - 512;
	for (uint32_t i = 0; i < count; i++, at += maker->disk.stride)
		maker->place[order[i]] = (uint32_t)(at / SECTOR);
	*end = at + (options->layout == MEMVHD_SLACK ? SECTOR : 0);
	for (uint32_t block = 0; block < options->blocks; block++) {
		bool dropped = roll(maker->seed, 100) < options->stale_percent ||
			       (options->unfinished && count && block == order[count - 1]);

		/* What a filesystem lives on is not dropped. */
		dropped &= !maker->marked[block];
		maker->disk.table[block] = dropped ? MEMVHD_UNUSED : maker->place[block];
	}
}

static void write_blocks(struct maker *maker)
{
	uint8_t bitmap[SECTOR] = { 0 };

	for (uint32_t block = 0; block < maker->disk.options.blocks; block++) {
		uint64_t at = (uint64_t)maker->place[block] * SECTOR;

		if (maker->place[block] == MEMVHD_UNUSED)
			continue;
		bitmap[0] = 0xff;
		put(maker->file, bitmap, SECTOR, at);
		put(maker->file, maker->data[block], MEMVHD_BLOCK_BYTES, at + SECTOR);
	}
}

/* Metadata. */

static void seal(uint8_t *data, size_t length, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum += i < at || i >= at + 4 ? data[i] : 0;
	be(data + at, ~sum, 4);
}

static void write_metadata(struct maker *maker, uint64_t end)
{
	uint8_t footer[512] = { 0 }, header[1024] = { 0 };
	uint8_t bat[MEMVHD_MAX_BLOCKS * 4];
	uint64_t size = maker->sectors * SECTOR;

	memcpy(footer, "conectix", 8);
	be(footer + 8, 2, 4);
	be(footer + 12, 0x10000, 4);
	be(footer + 16, MEMVHD_HEADER, 8);
	memcpy(footer + 28, "win \0\x0a\0\0Wi2k", 12);
	be(footer + 40, size, 8);
	be(footer + 48, size, 8);
	be(footer + 56, 0xffff10ff, 4);
	be(footer + 60, 3, 4);
	memset(footer + 68, 0x31, 16);
	seal(footer, sizeof(footer), 64);
	memcpy(header, "cxsparse", 8);
	be(header + 8, UINT64_MAX, 8);
	be(header + 16, MEMVHD_BAT, 8);
	be(header + 24, 0x10000, 4);
	be(header + 28, maker->disk.options.blocks, 4);
	be(header + 32, MEMVHD_BLOCK_BYTES, 4);
	seal(header, sizeof(header), 36);
	memset(bat, 0xff, sizeof(bat));
	for (uint32_t block = 0; block < maker->disk.options.blocks; block++)
		be(bat + (size_t)block * 4, maker->disk.table[block], 4);
	put(maker->file, footer, sizeof(footer), 0);
	put(maker->file, header, sizeof(header), MEMVHD_HEADER);
	put(maker->file, bat, (maker->disk.options.blocks * 4 + 511) / 512 * 512, MEMVHD_BAT);
	put(maker->file, footer, sizeof(footer), end);
}

struct memvhd memvhd_make(const struct memvhd_options *options, unsigned *seed)
{
	struct maker maker = { .disk = { .options = *options }, .seed = seed };
	uint64_t end;

	maker.sectors = (uint64_t)options->blocks * MEMVHD_BLOCK_SECTORS - options->cut_sectors;
	maker.disk.mem = memfile_new(NULL);
	maker.file = memfile_file(maker.disk.mem);
	maker.data = malloc(options->blocks * sizeof(*maker.data));
	put_contents(&maker);
	place_blocks(&maker, &end);
	write_blocks(&maker);
	write_metadata(&maker, end);
	free(maker.data);
	return maker.disk;
}

void memvhd_free(struct memvhd *disk)
{
	hv_file_close(memfile_file(disk->mem));
}

uint32_t memvhd_entry(struct hv_file *file, uint32_t block)
{
	hv_be32 entry;
	HV_ERR(err);

	must(hv_file_pread(file, &entry, 4, MEMVHD_BAT + (uint64_t)block * 4, &err) == 0, "%s",
	     err.sentence);
	return hv_be32_get(entry);
}

void memvhd_set_entry(struct hv_file *file, uint32_t block, uint32_t sector)
{
	hv_be32 entry = hv_be32_make(sector);

	put(file, &entry, sizeof(entry), MEMVHD_BAT + (uint64_t)block * 4);
}

static uint64_t sector_place(const struct memvhd *disk, uint32_t block, unsigned sector)
{
	must(disk->table[block] != MEMVHD_UNUSED, "block %u has no place", block);
	return ((uint64_t)disk->table[block] + 1 + sector) * SECTOR;
}

void memvhd_read_sector(const struct memvhd *disk, uint32_t block, unsigned sector, uint8_t *ret)
{
	HV_ERR(err);

	must(hv_file_pread(memfile_file(disk->mem), ret, SECTOR, sector_place(disk, block, sector),
			   &err) == 0,
	     "%s", err.sentence);
}

void memvhd_write_sector(struct memvhd *disk, uint32_t block, unsigned sector, const void *data)
{
	put(memfile_file(disk->mem), data, SECTOR, sector_place(disk, block, sector));
}

void memvhd_write_bitmap(struct memvhd *disk, uint32_t block, uint8_t bits)
{
	put(memfile_file(disk->mem), &bits, 1, (uint64_t)disk->table[block] * SECTOR);
}
