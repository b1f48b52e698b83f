/*
 * The disks that are there before a workload begins. Sectors that they hold carry stamps of number
 * 1; so does every other block of a parent.
 */
#include <stdlib.h>
#include <string.h>

#include "hvcore/bytes.h"
#include "tests/crash/bytes.h"
#include "tests/crash/vhd/chain.h"
#include "tests/crash/vhd/run.h"

#define HEADER 512      /* offset of the header in the files that we create */
#define BAT_OFFSET 16   /* in the header: a field of 64 bits */
#define STORED_FIRST 10 /* sectors of a block that are stored */
#define STORED_COUNT 150
#define JUNK_SECTORS 2900 /* more than a block of the smallest size, and not a multiple of 4 KiB */

static uint64_t block_sectors(const struct run *run)
{
	return run->shape.block_bytes / HV_SECTOR_SIZE;
}

static struct hv_file *new_file(struct run *run, const char *name, enum vhd_type type,
				uint64_t sectors)
{
	struct vhd_create_options options = { .type = type,
					      .size_bytes = sectors * HV_SECTOR_SIZE,
					      .block_bytes = type == VHD_FIXED ?
								     0 :
								     run->shape.block_bytes,
					      .parent_uuid = { { 1 } },
					      .parent_name = PARENT,
					      .parent_relative = ".\\" PARENT };
	struct hv_file *file;
	HV_ERR(err);

	run_must(run, crash_create(run->world, name, false, &file, &err), &err);
	run_must(run, vhd_create(file, &options, &err), &err);
	run_must(run, hv_file_publish(file, &err), &err);
	return file;
}

static void write_stamps(struct run *run, struct hv_disk *disk, uint64_t first, uint64_t count)
{
	HV_AUTO(free) uint8_t *data = crash_alloc(count * HV_SECTOR_SIZE);
	HV_ERR(err);

	history_fill(data, 1, first, count);
	run_must(run,
		 hv_disk_pwrite(disk, data, count * HV_SECTOR_SIZE, first * HV_SECTOR_SIZE, &err),
		 &err);
	for (uint64_t i = 0; i < count; i++)
		history_begin(run->history, first + i, history_stamp(1, first + i));
}

/* Every other block holds data; it may end before the child does. */
static void make_parent(struct run *run)
{
	uint64_t sectors = run->shape.sectors - (run_random(run, 2) ? 0 : 700);
	struct hv_file *file = new_file(run, PARENT, VHD_DYNAMIC, sectors);
	struct hv_disk *disk;
	HV_ERR(err);

	run_must(run, vhd_open(file, 0, &disk, &err), &err);
	for (uint64_t at = 0; at < sectors; at += 2 * block_sectors(run)) {
		uint64_t left = sectors - at;

		write_stamps(run, disk, at, left < block_sectors(run) ? left : block_sectors(run));
	}
	run_must(run, hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static void fill(struct run *run)
{
	struct hv_disk *disk;
	HV_ERR(err);

	run_must(run, run_open_disk(run, run->world, true, 0, &disk, &err), &err);
	for (uint64_t at = 0; at + STORED_FIRST + STORED_COUNT < run->shape.sectors;
	     at += 2 * block_sectors(run))
		write_stamps(run, disk, at + STORED_FIRST, STORED_COUNT);
	run_must(run, hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static void put(struct run *run, struct hv_file *file, const void *data, size_t length,
		uint64_t offset)
{
	HV_ERR(err);

	run_must(run, hv_file_pwrite(file, data, length, offset, &err), &err);
}

/*
 * A block as QEMU and Virtual PC place it: the bitmap right behind what there is, the payload right
 * behind that. One of a dynamic disk has all bits set.
 */
static uint64_t put_block(struct run *run, struct hv_file *file, uint64_t bat, uint64_t block,
			  uint64_t place)
{
	size_t bitmap_bytes = (size_t)(block_sectors(run) / 8 + HV_SECTOR_SIZE - 1) /
			      HV_SECTOR_SIZE * HV_SECTOR_SIZE;
	hv_be32 entry = hv_be32_make((uint32_t)(place / HV_SECTOR_SIZE));
	uint64_t first = block * block_sectors(run);
	HV_AUTO(free) uint8_t *bytes = crash_alloc(bitmap_bytes + run->shape.block_bytes);

	memset(bytes, run->shape.type == VHD_DYNAMIC ? 0xff : 0, block_sectors(run) / 8);
	for (uint64_t i = STORED_FIRST; i < STORED_FIRST + STORED_COUNT; i++) {
		bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
		history_begin(run->history, first + i, history_stamp(1, first + i));
	}
	history_fill(bytes + bitmap_bytes + STORED_FIRST * HV_SECTOR_SIZE, 1, first + STORED_FIRST,
		     STORED_COUNT);
	if (run->shape.type == VHD_DYNAMIC)
		for (uint64_t i = 0; i < block_sectors(run) && first + i < run->shape.sectors; i++)
			if (i < STORED_FIRST || i >= STORED_FIRST + STORED_COUNT)
				history_begin(run->history, first + i, 0);
	put(run, file, bytes, bitmap_bytes + run->shape.block_bytes, place);
	put(run, file, &entry, sizeof(entry), bat + block * sizeof(entry));
	return place + bitmap_bytes + run->shape.block_bytes;
}

/* Takes a new disk of ours apart, and puts it together in the other layout. */
static void make_foreign(struct run *run, struct hv_file *file)
{
	uint64_t blocks = (run->shape.sectors + block_sectors(run) - 1) / block_sectors(run);
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t bat, end;
	hv_be64 field;
	HV_ERR(err);

	run_must(run, hv_file_pread(file, footer, sizeof(footer), 0, &err), &err);
	run_must(run, hv_file_pread(file, &field, sizeof(field), HEADER + BAT_OFFSET, &err), &err);
	bat = hv_be64_get(field);
	end = bat + (blocks * 4 + HV_SECTOR_SIZE - 1) / HV_SECTOR_SIZE * HV_SECTOR_SIZE;
	run_must(run, hv_file_truncate(file, end, &err), &err);
	for (uint64_t block = 0; block + 1 < blocks; block += 2)
		end = put_block(run, file, bat, block, end);
	put(run, file, footer, sizeof(footer), end);
}

/* The footer further away; what lies before it now is nobody's. */
static void add_junk(struct run *run)
{
	HV_AUTO(free) uint8_t *junk = crash_alloc(JUNK_SECTORS * HV_SECTOR_SIZE);
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	uint8_t footer[VHD_FOOTER_BYTES];
	uint64_t place;
	HV_ERR(err);

	run_must(run, crash_open(run->world, DISK, HV_FILE_WRITE, &file, &err), &err);
	place = file->size_bytes - VHD_FOOTER_BYTES;
	run_must(run, hv_file_pread(file, footer, sizeof(footer), place, &err), &err);
	history_fill(junk, 1, UINT32_MAX, JUNK_SECTORS);
	put(run, file, junk, JUNK_SECTORS * HV_SECTOR_SIZE, place);
	put(run, file, footer, sizeof(footer), place + JUNK_SECTORS * HV_SECTOR_SIZE);
}

void shape_make(struct run *run)
{
	unsigned flags = run->shape.flags;
	struct hv_file *file;

	if (flags & SHAPE_CHAIN) {
		chain_make(run);
		return;
	}
	if (run->shape.type == VHD_DIFFERENCING)
		make_parent(run);
	if (flags & SHAPE_EMPTY)
		return;
	file = new_file(run, DISK, run->shape.type, run->shape.sectors);
	if (flags & SHAPE_FOREIGN)
		make_foreign(run, file);
	hv_file_close(file);
	if (flags & SHAPE_FILLED && !(flags & SHAPE_FOREIGN))
		fill(run);
	if (flags & SHAPE_JUNK)
		add_junk(run);
}
