/*
 * One VHD file for a test: made by the engine in a directory of its own, then damaged by hand, then
 * checked. 8 MiB in blocks of 512 KiB; blocks 0 and 3 hold 4 KiB each. Every test of Criterion is a
 * process of its own, so that there is one image at a time.
 */
#ifndef TESTS_UNIT_VHD_IMAGE_H
#define TESTS_UNIT_VHD_IMAGE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/loop.h"
#include "vhd/check.h"
#include "vhd/footer.h"

#define IMAGE_BYTES (UINT64_C(8) << 20)
#define IMAGE_BLOCK_BYTES (512u << 10)
#define IMAGE_BITMAP 7680 /* of block 0: what Windows 8 and later do with such a header */
#define IMAGE_STRIDE (IMAGE_BLOCK_BYTES + VHD_LAYOUT_ALIGN)
#define IMAGE_HEADER 512
#define IMAGE_BAT 1536 /* of a dynamic disk */

static char directory[] = "/tmp/hvkit-image-XXXXXX";
static char path[64], undo_path[64];
static int fd = -1;
static struct vhd_finding first;

/* For TestSuite(.init, .fini). */
static inline void image_setup(void)
{
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/disk.vhd", directory);
	snprintf(undo_path, sizeof(undo_path), "%s/disk.vhd.undo", directory);
}

static inline void image_teardown(void)
{
	if (fd >= 0)
		close(fd);
	unlink(path);
	unlink(undo_path);
	rmdir(directory);
}

static inline const char *image_path(void)
{
	return path;
}

static inline const char *image_undo_path(void)
{
	return undo_path;
}

static inline void create(struct hv_loop *loop, enum vhd_type type)
{
	struct vhd_create_options options = { .type = type,
					      .size_bytes = IMAGE_BYTES,
					      .block_bytes = IMAGE_BLOCK_BYTES,
					      .parent_uuid = { { 1, 2, 3 } },
					      .parent_name = "parent.vhd",
					      .parent_relative = ".\\parent.vhd",
					      .parent_absolute = "\\vms\\parent.vhd",
					      .parent_url = "file:///vms/parent.vhd" };
	struct hv_file *file;
	HV_ERR(err);

	if (type == VHD_FIXED)
		options.block_bytes = 0;
	cr_assert_eq(hv_file_create(path, HV_FILE_WRITE, false, loop, &file, &err), 0, "%s",
		     err.sentence);
	cr_assert_eq(vhd_create(file, &options, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_file_publish(file, &err), 0, "%s", err.sentence);
	hv_file_close(file);
}

static inline void fill(struct hv_loop *loop)
{
	struct hv_file *file;
	struct hv_disk *disk;
	uint8_t data[4096];
	HV_ERR(err);

	memset(data, 'A', sizeof(data));
	cr_assert_eq(hv_file_open(path, HV_FILE_WRITE, loop, &file, &err), 0, "%s", err.sentence);
	cr_assert_eq(vhd_open(file, 0, &disk, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_disk_pwrite(disk, data, sizeof(data), 0, &err), 0);
	cr_assert_eq(hv_disk_pwrite(disk, data, sizeof(data), 3 * IMAGE_BLOCK_BYTES, &err), 0);
	cr_assert_eq(hv_disk_flush(disk, &err), 0);
	hv_disk_close(disk);
}

static inline void image_make(enum vhd_type type)
{
	struct hv_loop *loop;
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
	create(loop, type);
	fill(loop);
	hv_loop_free(loop);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
}

/* The file's bytes. */

static inline uint64_t image_size(void)
{
	return (uint64_t)lseek(fd, 0, SEEK_END);
}

static inline void image_resize(uint64_t size_bytes)
{
	cr_assert_eq(ftruncate(fd, (off_t)size_bytes), 0);
}

static inline void image_read(uint64_t offset, void *data, size_t length)
{
	cr_assert_eq(pread(fd, data, length, (off_t)offset), (ssize_t)length);
}

static inline void image_write(uint64_t offset, const void *data, size_t length)
{
	cr_assert_eq(pwrite(fd, data, length, (off_t)offset), (ssize_t)length);
}

static inline void image_put(uint64_t offset, uint8_t byte)
{
	image_write(offset, &byte, 1);
}

static inline void image_put32(uint64_t offset, uint32_t number)
{
	hv_be32 disk = hv_be32_make(number);

	image_write(offset, &disk, sizeof(disk));
}

static inline void image_put64(uint64_t offset, uint64_t number)
{
	hv_be64 disk = hv_be64_make(number);

	image_write(offset, &disk, sizeof(disk));
}

static inline uint32_t image_get32(uint64_t offset)
{
	hv_be32 disk;

	image_read(offset, &disk, sizeof(disk));
	return hv_be32_get(disk);
}

/* All of them; malloc'ed. */
static inline uint8_t *image_contents(void)
{
	uint8_t *bytes = malloc(image_size() + 1);

	cr_assert_not_null(bytes);
	image_read(0, bytes, image_size());
	return bytes;
}

/* Where the trailing footer is. */
static inline uint64_t image_footer(void)
{
	return image_size() - VHD_FOOTER_BYTES;
}

/* Makes the checksum right again. */
static inline void image_seal_footer(uint64_t offset)
{
	struct vhd_disk_footer footer;
	size_t at = offsetof(struct vhd_disk_footer, checksum);

	image_read(offset, &footer, sizeof(footer));
	image_put32(offset + at, vhd_checksum(&footer, sizeof(footer), at));
}

static inline void image_seal_header(void)
{
	struct vhd_disk_header header;
	size_t at = offsetof(struct vhd_disk_header, checksum);

	image_read(IMAGE_HEADER, &header, sizeof(header));
	image_put32(IMAGE_HEADER + at, vhd_checksum(&header, sizeof(header), at));
}

/* Writes the same into both footers, checksums right. */
static inline void image_both32(size_t field, uint32_t number)
{
	image_put32(image_footer() + field, number);
	image_seal_footer(image_footer());
	image_put32(field, number);
	image_seal_footer(0);
}

static inline void image_both64(size_t field, uint64_t number)
{
	image_put64(image_footer() + field, number);
	image_seal_footer(image_footer());
	image_put64(field, number);
	image_seal_footer(0);
}

struct list {
	char *codes;
	size_t size;
	bool any;
};

static inline void found(const struct vhd_finding *finding, void *arg)
{
	struct list *list = arg;
	size_t used = strlen(list->codes);

	if (!strcmp(finding->code, "host-sparse"))
		return;
	if (!list->any)
		first = *finding;
	list->any = true;
	snprintf(list->codes + used, list->size - used, "%s%s", used ? " " : "", finding->code);
	cr_expect_neq(finding->sentence[0], '\0');
}

/*
 * Checks: codes are those of all findings in their order, with a blank between, apart from
 * host-sparse (which the filesystem decides).
 */
static inline struct vhd_check_result image_check_file(struct hv_file *file, bool repair,
						       char *codes, size_t size)
{
	struct list list = { codes, size, false };
	struct vhd_check_options options = {
		.repair = repair, .data = true, .undo_path = undo_path, .found = found, .arg = &list
	};
	struct vhd_check_result result;
	HV_ERR(err);

	codes[0] = '\0';
	cr_assert_eq(vhd_check(file, &options, &result, &err), 0, "%s", err.sentence);
	return result;
}

static inline struct vhd_check_result image_check(bool repair, char *codes, size_t size)
{
	struct vhd_check_result result;
	struct hv_file *file;
	HV_ERR(err);

	cr_assert_eq(hv_file_open(path, repair ? HV_FILE_WRITE : 0, NULL, &file, &err), 0, "%s",
		     err.sentence);
	result = image_check_file(file, repair, codes, size);
	hv_file_close(file);
	return result;
}

static inline void image_assert_codes(const char *codes)
{
	char have[4096];

	image_check(false, have, sizeof(have));
	cr_assert_str_eq(have, codes);
}

/* Of the last check. */
static inline const struct vhd_finding *image_first(void)
{
	return &first;
}

#endif
