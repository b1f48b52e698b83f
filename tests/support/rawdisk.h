/*
 * Raw disks in memory with partition tables and superblocks made by hand, with just what libblkid
 * asks for. They can only be read; everything asserts by itself.
 */
#ifndef TESTS_RAWDISK_H
#define TESTS_RAWDISK_H

#include "hvcore/disk.h"

/* The first data_bytes are in memory; what was never put there is an extent of zeros. */
struct rawdisk {
	struct hv_disk disk; /* hv_disk_close frees all of it, and its loop */
	uint8_t *data, *put; /* put: one byte for each stretch of 64 KiB */
	uint64_t data_bytes;
	uint64_t bytes_read, zeros_read;
	uint64_t bad_offset; /* reading here fails; UINT64_MAX: nowhere */
};

struct rawdisk *rawdisk_new(uint64_t size_bytes);

void rawdisk_put(struct rawdisk *raw, uint64_t offset, const void *bytes, size_t length);
void rawdisk_put_le(struct rawdisk *raw, uint64_t offset, size_t length, uint64_t value);

/* Superblocks of volumes that start there. */
void rawdisk_put_swap(struct rawdisk *raw, uint64_t start);
void rawdisk_put_ext4(struct rawdisk *raw, uint64_t start, const char *label);
void rawdisk_put_iso9660(struct rawdisk *raw, uint64_t start, const char *label);
void rawdisk_put_luks(struct rawdisk *raw, uint64_t start);

/* A volume of 4 KiB clusters called "Data", with its master file table anywhere. */
void rawdisk_put_ntfs(struct rawdisk *raw, uint64_t start, uint64_t mft);

/* RAID metadata of version 0.90, in the last 64 KiB. */
void rawdisk_put_raid(struct rawdisk *raw, uint64_t start, uint64_t length);

/* Entry of the (extended) boot record in this sector; numbers are sectors. */
void rawdisk_put_entry(struct rawdisk *raw, uint32_t sector, int index, uint8_t type,
		       uint32_t start, uint32_t count);

struct rawdisk_gpt_entry {
	uint64_t first, last; /* sectors */
	const char *name;
};

/* Both copies, and a protective MBR. */
void rawdisk_put_gpt(struct rawdisk *raw, const struct rawdisk_gpt_entry *entries, unsigned count);

#endif
