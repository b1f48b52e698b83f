/*
 * Dynamic disks built byte by byte in memory, without the engine, in the layouts of several writers
 * and with partition tables and filesystems inside: for tests that damage a block allocation table
 * and have to know what was there. Blocks are small, so that thousands of images can be tried.
 */
#ifndef TESTS_MEMVHD_H
#define TESTS_MEMVHD_H

#include "tests/support/memfile.h"

#define MEMVHD_BLOCK_SECTORS 8
#define MEMVHD_BLOCK_BYTES (MEMVHD_BLOCK_SECTORS * 512)
#define MEMVHD_HEADER 512
#define MEMVHD_BAT 1536
#define MEMVHD_MAX_BLOCKS 512
#define MEMVHD_UNUSED UINT32_MAX

enum memvhd_layout {
	MEMVHD_PACKED,  /* QEMU */
	MEMVHD_SLACK,   /* Virtual PC: a sector before the footer */
	MEMVHD_ALIGNED, /* Windows 8 and later, and ours */
	MEMVHD_LAYOUTS,
};

enum memvhd_order {
	MEMVHD_ASCENDING,
	MEMVHD_NEARLY, /* neighbours have changed places here and there */
	MEMVHD_SCATTERED,
	MEMVHD_DESCENDING,
	MEMVHD_ORDERS,
};

enum memvhd_contents {
	MEMVHD_NOISE,
	MEMVHD_GPT_EXT, /* GPT with one partition of ext, copies of its superblock in many groups */
	MEMVHD_CONTENTS,
};

struct memvhd_options {
	enum memvhd_layout layout;
	enum memvhd_order order;
	enum memvhd_contents contents;
	uint32_t blocks;
	unsigned hole_percent; /* blocks that were never there */
	unsigned stale_percent; /* blocks that were dropped, and whose old contents still lie there */
	bool unfinished;        /* the last block in the file was never entered in the table */
	bool twin;              /* some block holds the same as one with marks */
	uint32_t cut_sectors;   /* of the disk's last block, that lie beyond its end */
};

struct memvhd {
	struct memvhd_options options;
	uint32_t table[MEMVHD_MAX_BLOCKS]; /* as it was made */
	uint64_t stride;
	struct memfile *mem;
};

struct memvhd memvhd_make(const struct memvhd_options *options, unsigned *seed);
void memvhd_free(struct memvhd *disk);

uint32_t memvhd_entry(struct hv_file *file, uint32_t block);
void memvhd_set_entry(struct hv_file *file, uint32_t block, uint32_t sector);

/* Reads or writes one sector of a block, wherever it was placed when the disk was made. */
void memvhd_read_sector(const struct memvhd *disk, uint32_t block, unsigned sector, uint8_t *ret);
void memvhd_write_sector(struct memvhd *disk, uint32_t block, unsigned sector, const void *data);
void memvhd_write_bitmap(struct memvhd *disk, uint32_t block, uint8_t bits);

#define MEMVHD_EXT_ID 0x99
#define MEMVHD_EXT_BLOCK(group) (2 + 4 * (group)) /* where its superblock is, in sector 2 */

/* One sector each: a GPT header, and the first half of a superblock of the ext in such a disk. */
void memvhd_make_gpt(uint8_t *ret, uint64_t my, uint64_t alternate, uint64_t table, uint32_t crc);
void memvhd_make_superblock(uint8_t *ret, uint64_t disk_sectors, uint32_t group, uint8_t id);

#endif
