/*
 * VHDs on files in memory, for tests: made, filled and looked at in few words. Everything asserts
 * by itself; patterns are made of an offset and a generation, so that misplaced data shows.
 */
#ifndef TESTS_MEMDISK_H
#define TESTS_MEMDISK_H

#include "tests/support/memfile.h"
#include "vhd/vhd.h"

struct memdisk {
	struct hv_loop *loop;
	struct memfile *mem;
	struct hv_disk *disk; /* NULL while closed */
};

/* Frees the files of all disks of the test, which are closed. */
void memdisk_sweep(void);

/* A new disk, open for writing. A parent makes it a child, which reads a copy of the parent. */
struct memdisk memdisk_new(struct hv_loop *loop, enum vhd_type type, uint64_t size_bytes,
			   uint32_t block_bytes, const struct memdisk *parent);

/* Closes (after a flush) and opens again; the file is a copy of what is there. */
void memdisk_reopen(struct memdisk *disk, const struct memdisk *parent);
void memdisk_close(struct memdisk *disk);
void memdisk_drop(struct memdisk *disk);                               /* closes without a flush */
void memdisk_open(struct memdisk *disk, const struct memdisk *parent); /* a closed one */

void memdisk_write(struct memdisk *disk, uint64_t offset, uint64_t length, unsigned generation);
void memdisk_flush(struct memdisk *disk);

/* What is there was written by that generation; 0: it is zero. */
void memdisk_expect(struct memdisk *disk, uint64_t offset, uint64_t length, unsigned generation);

/* The file, as it is, has no findings worse than a note (or a leak). */
void memdisk_check(const struct memdisk *disk, bool leaks_are_fine);

uint64_t memdisk_file_bytes(const struct memdisk *disk);
unsigned memdisk_allocated(const struct memdisk *disk);

#endif
