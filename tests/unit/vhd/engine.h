/*
 * What the tests of the engine share: disks by their path, sectors that tell where they come from,
 * files as bytes, and many requests at once. Every test works in a directory of its own.
 */
#ifndef TESTS_UNIT_VHD_ENGINE_H
#define TESTS_UNIT_VHD_ENGINE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/bytes.h"
#include "hvcore/loop.h"
#include "tests/support/workdir.h"
#include "tests/unit/must.h"
#include "vhd/vhd.h"

#define MIB (UINT64_C(1) << 20)
#define UNUSED UINT32_MAX
#define HEADER 512
#define BAT 1536

static struct hv_loop *loop;

static inline void setup(void)
{
	HV_ERR(err);

	workdir_enter();
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static inline void teardown(void)
{
	hv_loop_free(loop);
	workdir_leave();
}

static inline void create(const char *path, const struct vhd_create_options *options)
{
	struct hv_file *file;
	HV_ERR(err);

	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	must(vhd_create(file, options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
}

static inline void create_dynamic(const char *path, uint64_t size, uint32_t block)
{
	create(path, &(struct vhd_create_options){
			     .type = VHD_DYNAMIC, .size_bytes = size, .block_bytes = block });
}

static inline int try_open(const char *path, bool writable, struct hv_disk **ret,
			   struct hv_err *err)
{
	struct hv_file *file;
	int rc;

	hv_err_clear(err);
	rc = hv_file_open(path, writable ? HV_FILE_WRITE : 0, loop, &file, err);
	if (rc)
		return rc;
	rc = vhd_open(file, 0, ret, err);
	if (rc)
		hv_file_close(file);
	return rc;
}

static inline struct hv_disk *open_disk(const char *path, bool writable)
{
	struct hv_disk *disk = NULL;
	HV_ERR(err);

	must(try_open(path, writable, &disk, &err), &err);
	return disk;
}

static inline struct hv_disk *open_child(const char *path, bool writable, const char *parent)
{
	struct hv_disk *disk = open_disk(path, writable);

	vhd_set_backing(disk, open_disk(parent, false));
	return disk;
}

/* Sectors that tell where they come from: a number, all over. */

static inline void stamp(uint8_t *sector, uint64_t number)
{
	for (size_t i = 0; i < HV_SECTOR_SIZE; i += 8)
		memcpy(sector + i, &number, 8);
}

/* The number in a sector; all ones when it is not one number all over. */
static inline uint64_t stamp_in(const uint8_t *sector)
{
	uint64_t number;

	memcpy(&number, sector, 8);
	return memcmp(sector, sector + 8, HV_SECTOR_SIZE - 8) ? UINT64_MAX : number;
}

static inline void write_stamp(struct hv_disk *disk, uint64_t sector, uint64_t number)
{
	uint8_t data[HV_SECTOR_SIZE];
	HV_ERR(err);

	stamp(data, number);
	must(hv_disk_pwrite(disk, data, sizeof(data), sector * HV_SECTOR_SIZE, &err), &err);
}

static inline uint64_t read_stamp(struct hv_disk *disk, uint64_t sector)
{
	uint8_t data[HV_SECTOR_SIZE];
	HV_ERR(err);

	must(hv_disk_pread(disk, data, sizeof(data), sector * HV_SECTOR_SIZE, &err), &err);
	return stamp_in(data);
}

static inline void flush(struct hv_disk *disk)
{
	HV_ERR(err);

	must(hv_disk_flush(disk, &err), &err);
}

/* Files, as bytes. */

static inline uint64_t size_of(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static inline void read_at(const char *path, uint64_t offset, void *data, size_t length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, data, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static inline uint32_t be32_at(const char *path, uint64_t offset)
{
	hv_be32 value;

	read_at(path, offset, &value, sizeof(value));
	return hv_be32_get(value);
}

static inline uint64_t be64_at(const char *path, uint64_t offset)
{
	hv_be64 value;

	read_at(path, offset, &value, sizeof(value));
	return hv_be64_get(value);
}

static inline void put_be(uint8_t *at, unsigned bytes, uint64_t number)
{
	while (bytes--) {
		at[bytes] = (uint8_t)number;
		number >>= 8;
	}
}

static inline void seal(uint8_t *structure, size_t length, size_t checksum_at)
{
	uint32_t sum = 0;

	put_be(structure + checksum_at, 4, 0);
	for (size_t i = 0; i < length; i++)
		sum += structure[i];
	put_be(structure + checksum_at, 4, ~sum);
}

/* Children. */

static inline void make_parent_and_child(uint64_t size, uint32_t block)
{
	uint8_t *data = malloc(size);
	struct hv_disk *disk;
	HV_ERR(err);

	create_dynamic("parent.vhd", size, block);
	for (uint64_t i = 0; i < size / 512; i++)
		stamp(data + i * 512, i + 1);
	disk = open_disk("parent.vhd", true);
	/* The last quarter of the parent is empty. */
	must(hv_disk_pwrite(disk, data, size / 4 * 3, 0, &err), &err);
	flush(disk);
	hv_disk_close(disk);
	free(data);
	create("child.vhd", &(struct vhd_create_options){ .type = VHD_DIFFERENCING,
							  .size_bytes = size,
							  .block_bytes = block,
							  .parent_uuid = { { 1 } } });
}

/* Many requests at once. */

struct request {
	struct hv_io io;
	struct iovec iov;
	uint8_t *data;
	unsigned *left;
	int result;
};

static inline void request_done(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->result = result;
	--*request->left;
}

static inline void submit_write(struct hv_disk *disk, struct request *request, uint64_t sector,
				uint32_t count, uint64_t number, unsigned flags)
{
	request->data = malloc((size_t)count * 512);
	for (uint32_t i = 0; i < count; i++)
		stamp(request->data + (size_t)i * 512, number);
	request->iov = (struct iovec){ request->data, (size_t)count * 512 };
	request->io = (struct hv_io){ .op = HV_WRITE,
				      .flags = flags,
				      .offset = sector * 512,
				      .length = (uint64_t)count * 512,
				      .iov = &request->iov,
				      .iov_count = 1,
				      .done = request_done };
	++*request->left;
	hv_disk_submit(disk, &request->io);
}

/* Extents. */

static inline void assert_extent(struct hv_disk *disk, uint64_t sector, unsigned flags,
				 enum hv_extent_state state, unsigned depth, uint64_t sectors)
{
	struct hv_extent extent;
	HV_ERR(err);

	must(hv_disk_extent(disk, sector * 512, disk->size_bytes - sector * 512, flags, &extent,
			    &err),
	     &err);
	cr_assert(extent.offset == sector * 512 && extent.length == sectors * 512 &&
			  extent.state == state &&
			  (state != HV_EXTENT_DATA || extent.depth == depth),
		  "at %llu: %llu sectors, state %d, depth %u", (unsigned long long)sector,
		  (unsigned long long)extent.length / 512, extent.state, extent.depth);
}

#endif
