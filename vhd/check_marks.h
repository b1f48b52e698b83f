/*
 * Inside vhd/check*.c: marks, which are sectors of a disk that say where on the disk they are:
 * headers of partition tables, superblocks of filesystems and their copies.
 */
#ifndef VHD_CHECK_MARKS_H
#define VHD_CHECK_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_MARK_SECTORS 8 /* the longest mark */
#define CHECK_NO_LBA UINT64_MAX

/* Reads sectors; false where nothing is known of one of them, or it was never written. */
struct check_sectors {
	bool (*read)(const struct check_sectors *sectors, uint64_t first, unsigned count,
		     uint8_t *ret);
	void *arg;
	uint64_t at; /* where the first sector is; for the reader */
};

/* A filesystem whose first superblock was read from where it belongs. */
struct check_fs {
	const struct check_mark_kind *kind; /* NULL: none is known */
	uint8_t id[16];
	uint8_t first[CHECK_MARK_SECTORS * 512]; /* what was read */
};

struct check_part {
	uint64_t start, sectors;
	struct check_fs fs;
};

/* What is known of a disk's contents, and so of where marks may be. */
struct check_contents {
	uint64_t sectors;
	bool gpt;
	uint8_t gpt_id[16];
	uint64_t gpt_alternate;   /* place of the second header; meaningful with gpt */
	struct check_part *parts; /* the first is the whole disk */
	unsigned part_count;
	unsigned known; /* how many things have been recognised: grows with what can be read */
};

/*
 * Learns the partitions and filesystems from a disk of which some sectors can be read. 0 or
 * -ENOMEM; vhd_check_marks_forget frees.
 */
int vhd_check_marks_learn(const struct check_sectors *disk, uint64_t sectors,
			  struct check_contents *ret);
void vhd_check_marks_forget(struct check_contents *contents);

/*
 * The sectors inside a block at which marks can be, ascending, in ret; malloc'ed. Returns their
 * number or -ENOMEM.
 */
int vhd_check_marks_list(const struct check_contents *contents, uint32_t block_sectors,
			 uint32_t **ret);

/*
 * Where a block of the disk says that it is, by the mark at this sector of it: the LBA of that
 * sector, and the mark's name. CHECK_NO_LBA when there is no mark, or one that says nothing certain.
 */
uint64_t vhd_check_mark_at(const struct check_contents *contents, const struct check_sectors *block,
			   uint32_t block_sectors, uint32_t sector, const char **name);

#endif
