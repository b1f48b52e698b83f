/*
 * A chain of three files for a test, in a directory of its own, and what it reads as. 8 MiB and an
 * odd number of sectors, in blocks of 512 KiB: data of each layer, alone and over the others', by
 * sectors and by blocks, and blocks that nobody holds. Every test of Criterion is a process of its
 * own, so that there is one chain at a time.
 */
#ifndef TESTS_UNIT_FUSE_MOUNT_CHAIN_H
#define TESTS_UNIT_FUSE_MOUNT_CHAIN_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/file.h"
#include "snapshot/chain.h"

#define CHAIN_BYTES ((UINT64_C(8) << 20) + 3 * 512)
#define CHAIN_BLOCK (512u << 10)
#define CHAIN_HOLE (5u * CHAIN_BLOCK) /* the first of four blocks that no layer holds */

static char directory[] = "/tmp/hvkit-mount-XXXXXX";
static uint8_t model[CHAIN_BYTES];

static inline void must(int rc, const struct hv_err *err)
{
	cr_assert_geq(rc, 0, "%s", hv_err_text(err, rc));
}

static inline struct hv_disk *open_chain(const char *path, unsigned flags)
{
	struct snap_open_options options = { .flags = flags };
	struct hv_loop *loop;
	struct hv_disk *disk;
	HV_ERR(err);

	must(hv_loop_new(&loop, &err), &err);
	must(snap_open(path, &options, loop, &disk, &err), &err);
	return disk;
}

static inline void close_chain(struct hv_disk *disk)
{
	struct hv_loop *loop = disk->loop;

	hv_disk_close(disk);
	hv_loop_free(loop);
}

static inline void make_layer(const char *path, const char *parent)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC,
					      .size_bytes = CHAIN_BYTES,
					      .block_bytes = CHAIN_BLOCK };
	struct hv_disk *below = parent ? open_chain(parent, 0) : NULL;
	struct snap_child_paths paths = { 0 };
	struct hv_loop *loop;
	struct hv_file *file;
	HV_ERR(err);

	must(hv_loop_new(&loop, &err), &err);
	if (below)
		must(snap_describe_child(path, below, &options, &paths, &err), &err);
	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	must(vhd_create(file, &options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
	hv_loop_free(loop);
	snap_child_paths_free(&paths);
	if (below)
		close_chain(below);
}

static inline uint8_t random_byte(unsigned *seed)
{
	return (uint8_t)(rand_r(seed) >> 8);
}

/* Data into the top layer at path, and into the model. */
static inline void fill(const char *path, uint64_t offset, uint64_t length)
{
	struct hv_disk *disk = open_chain(path, SNAP_OPEN_WRITE);
	unsigned seed = (unsigned)(offset + length);
	HV_ERR(err);

	for (uint64_t i = offset; i < offset + length; i++)
		model[i] = random_byte(&seed) | 1;
	must(hv_disk_pwrite(disk, model + offset, length, offset, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
	close_chain(disk);
}

static inline void make_chain(void)
{
	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
	make_layer("base.vhd", NULL);
	fill("base.vhd", 0, 3 * CHAIN_BLOCK);
	fill("base.vhd", CHAIN_BYTES - 1536, 1536);
	make_layer("middle.vhd", "base.vhd");
	fill("middle.vhd", CHAIN_BLOCK - 512, 1024);
	fill("middle.vhd", 2 * CHAIN_BLOCK, CHAIN_BLOCK);
	fill("middle.vhd", 3 * CHAIN_BLOCK + 1024, 512);
	make_layer("leaf.vhd", "middle.vhd");
	fill("leaf.vhd", 2 * CHAIN_BLOCK + 4096, 70000 / 512 * 512);
	fill("leaf.vhd", 10 * CHAIN_BLOCK, 512);
}

static inline void remove_chain(void)
{
	DIR *files = opendir(".");
	const struct dirent *entry;

	while (files && (entry = readdir(files)))
		if (entry->d_name[0] != '.')
			unlink(entry->d_name);
	closedir(files);
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(directory), 0);
}

static inline bool all_zero(uint64_t offset, uint64_t end)
{
	for (uint64_t i = offset; i < end; i++)
		if (model[i])
			return false;
	return true;
}

/* Makes the chain's table say of that block of the leaf that it lies beyond the end of the file. */
static inline void lose_block(const char *path, unsigned block)
{
	int fd = open(path, O_RDWR);
	struct hv_disk *disk = open_chain(path, 0);
	uint64_t table = vhd_get_info(disk)->bat_offset;

	close_chain(disk);
	cr_assert_eq(pwrite(fd, "\x7f\0\0\0", 4, (off_t)(table + 4UL * block)), 4);
	close(fd);
}

#endif
