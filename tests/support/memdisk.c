#include "tests/support/memdisk.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/must.h"
#include "vhd/check.h"

static void pattern(uint8_t *sector, uint64_t offset, unsigned generation)
{
	for (unsigned i = 0; i < HV_SECTOR_SIZE / 8; i++) {
		uint64_t word = (offset + i) * UINT64_C(0x9e3779b97f4a7c15) + generation;

		memcpy(sector + (size_t)i * 8, &word, 8);
	}
	if (!generation)
		memset(sector, 0, HV_SECTOR_SIZE);
}

void memdisk_open(struct memdisk *disk, const struct memdisk *parent)
{
	HV_ERR(err);
	int rc = vhd_open(memfile_file(disk->mem), 0, &disk->disk, &err);

	must(rc == 0, "open: %s", err.sentence);
	if (parent) {
		struct hv_disk *below = NULL;

		rc = vhd_open(memfile_file(memfile_copy(parent->mem)), 0, &below, &err);
		must(rc == 0, "open the parent: %s", err.sentence);
		vhd_set_backing(disk->disk, below);
	}
}

/* All files, until memdisk_sweep: closed or not. */
static struct memfile **files;
static size_t file_count;

static struct memfile *own(struct memfile *mem)
{
	memfile_keep(mem);
	files = realloc(files, (file_count + 1) * sizeof(*files));
	files[file_count++] = mem;
	return mem;
}

void memdisk_sweep(void)
{
	while (file_count)
		memfile_free(files[--file_count]);
	free(files);
	files = NULL;
}

struct memdisk memdisk_new(struct hv_loop *loop, enum vhd_type type, uint64_t size_bytes,
			   uint32_t block_bytes, const struct memdisk *parent)
{
	struct memdisk disk = { .loop = loop, .mem = own(memfile_new(loop)) };
	struct vhd_create_options options = { .type = type,
					      .size_bytes = size_bytes,
					      .block_bytes = block_bytes,
					      .parent_name = "parent.vhd" };
	HV_ERR(err);

	memset(&options.parent_uuid, parent ? 1 : 0, sizeof(options.parent_uuid));
	must(vhd_create(memfile_file(disk.mem), &options, &err) == 0, "%s", err.sentence);
	memdisk_open(&disk, parent);
	return disk;
}

void memdisk_drop(struct memdisk *disk)
{
	struct memfile *old = disk->mem;

	hv_disk_close(disk->disk);
	disk->disk = NULL;
	disk->mem = own(memfile_copy(old));
	/* The copy takes its place. */
	for (size_t i = 0; i < file_count; i++) {
		if (files[i] == old)
			files[i] = files[--file_count];
	}
	memfile_free(old);
}

void memdisk_close(struct memdisk *disk)
{
	memdisk_flush(disk);
	memdisk_drop(disk);
}

void memdisk_reopen(struct memdisk *disk, const struct memdisk *parent)
{
	memdisk_close(disk);
	memdisk_open(disk, parent);
}

void memdisk_flush(struct memdisk *disk)
{
	HV_ERR(err);

	must(hv_disk_flush(disk->disk, &err) == 0, "flush: %s", err.sentence);
}

void memdisk_write(struct memdisk *disk, uint64_t offset, uint64_t length, unsigned generation)
{
	uint8_t *data = malloc(length);
	HV_ERR(err);

	for (uint64_t at = 0; at < length; at += HV_SECTOR_SIZE)
		pattern(data + at, offset + at, generation);
	must(hv_disk_pwrite(disk->disk, data, length, offset, &err) == 0, "%s", err.sentence);
	free(data);
}

void memdisk_expect(struct memdisk *disk, uint64_t offset, uint64_t length, unsigned generation)
{
	uint8_t *data = malloc(length), wanted[HV_SECTOR_SIZE];
	HV_ERR(err);

	must(hv_disk_pread(disk->disk, data, length, offset, &err) == 0, "%s", err.sentence);
	for (uint64_t at = 0; at < length; at += HV_SECTOR_SIZE) {
		pattern(wanted, offset + at, generation);
		must(!memcmp(data + at, wanted, HV_SECTOR_SIZE),
		     "sector %llu is not of generation %u",
		     (unsigned long long)(offset + at) / HV_SECTOR_SIZE, generation);
	}
	free(data);
}

struct tolerance {
	bool leaks_are_fine;
};

static void found(const struct vhd_finding *finding, void *arg)
{
	const struct tolerance *tolerance = arg;

	if (finding->severity == VHD_NOTE ||
	    (finding->severity == VHD_LEAK && tolerance->leaks_are_fine))
		return;
	must(false, "%s: %s", finding->code, finding->sentence);
}

void memdisk_check(const struct memdisk *disk, bool leaks_are_fine)
{
	struct tolerance tolerance = { leaks_are_fine };
	struct vhd_check_options options = { .data = true, .found = found, .arg = &tolerance };
	struct memfile *copy = memfile_copy(disk->mem);
	struct vhd_check_result result;
	HV_ERR(err);
	int rc = vhd_check(memfile_file(copy), &options, &result, &err);

	must(rc == 0, "check: %s", err.sentence);
	hv_file_close(memfile_file(copy));
}

uint64_t memdisk_file_bytes(const struct memdisk *disk)
{
	return memfile_file(disk->mem)->size_bytes;
}

unsigned memdisk_allocated(const struct memdisk *disk)
{
	return vhd_get_info(disk->disk)->allocated_blocks;
}
