/*
 * libext2fs over a disk: an I/O manager that reads from struct hv_disk.
 */
#include "hvcore/fsmap_ext.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"

struct hv_fsmap_ext {
	struct hv_disk *disk;
	uint64_t offset, length;
	ext2_filsys fs;
};

/* The library hands its I/O manager a name only. */
static _Thread_local struct hv_fsmap_ext *opening;

static errcode_t disk_close(io_channel channel)
{
	if (--channel->refcount > 0)
		return 0;
	free(channel->name);
	free(channel);
	return 0;
}

static errcode_t disk_set_blksize(io_channel channel, int block_size)
{
	channel->block_size = block_size;
	return 0;
}

/* A negative count is one of bytes. */
static errcode_t disk_read_blk64(io_channel channel, unsigned long long block, int count,
				 void *data)
{
	struct hv_fsmap_ext *fs = channel->private_data;
	uint64_t length = count < 0 ? (uint64_t) - (int64_t)count :
				      (uint64_t)count * (uint64_t)channel->block_size;
	uint64_t offset;

	if (!hv_mul_u64(block, (uint64_t)channel->block_size, &offset) ||
	    !hv_range_inside(offset, length, fs->length) || length % HV_SECTOR_SIZE)
		return EXT2_ET_SHORT_READ;
	return hv_disk_pread(fs->disk, data, length, fs->offset + offset, NULL) ? EIO : 0;
}

static errcode_t disk_read_blk(io_channel channel, unsigned long block, int count, void *data)
{
	return disk_read_blk64(channel, block, count, data);
}

static errcode_t disk_write_blk64(io_channel channel, unsigned long long block, int count,
				  const void *data)
{
	(void)channel;
	(void)block;
	(void)count;
	(void)data;
	return EROFS;
}

static errcode_t disk_write_blk(io_channel channel, unsigned long block, int count,
				const void *data)
{
	return disk_write_blk64(channel, block, count, data);
}

static errcode_t disk_flush(io_channel channel)
{
	(void)channel;
	return 0;
}

static errcode_t disk_open(const char *name, int flags, io_channel *ret);

static struct struct_io_manager disk_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "hvkit disk",
	.open = disk_open,
	.close = disk_close,
	.set_blksize = disk_set_blksize,
	.read_blk = disk_read_blk,
	.write_blk = disk_write_blk,
	.flush = disk_flush,
	.read_blk64 = disk_read_blk64,
	.write_blk64 = disk_write_blk64,
};

static errcode_t disk_open(const char *name, int flags, io_channel *ret)
{
	io_channel channel = calloc(1, sizeof(*channel));

	(void)flags;
	if (!channel)
		return EXT2_ET_NO_MEMORY;
	channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	channel->manager = &disk_manager;
	channel->name = strdup(name);
	channel->block_size = 1024;
	channel->refcount = 1;
	channel->private_data = opening;
	*ret = channel;
	return 0;
}

static int judge(const struct hv_fsmap_ext *fs, struct hv_err *err)
{
	const struct ext2_super_block *super = fs->fs->super;
	uint64_t bytes;

	if (super->s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER)
		return hv_fail(err, -EBUSY, "its journal has to be recovered first");
	if (!(super->s_state & EXT2_VALID_FS))
		return hv_fail(err, -EBUSY, "it was not unmounted cleanly");
	if (super->s_state & EXT2_ERROR_FS)
		return hv_fail(err, -EBADMSG, "it is marked as having errors");
	if (!hv_mul_u64(ext2fs_blocks_count(fs->fs->super), fs->fs->blocksize, &bytes) ||
	    bytes > fs->length)
		return hv_fail(err, -EBADMSG, "it is larger than where it lies");
	return 0;
}

int hv_fsmap_ext_open(struct hv_disk *disk, uint64_t offset, uint64_t length,
		      struct hv_fsmap_ext **ret, struct hv_err *err)
{
	struct hv_fsmap_ext *fs = calloc(1, sizeof(*fs));
	errcode_t failed;
	int rc;

	if (!fs)
		return hv_fail(err, -ENOMEM, "not enough memory");
	*fs = (struct hv_fsmap_ext){ .disk = disk, .offset = offset, .length = length };
	opening = fs;
	failed = ext2fs_open("disk", EXT2_FLAG_64BITS, 0, 0, &disk_manager, &fs->fs);
	opening = NULL;
	rc = failed ? hv_fail(err, -EBADMSG, "it cannot be read: %s", error_message(failed)) :
		      judge(fs, err);
	if (rc == 0) {
		failed = ext2fs_read_block_bitmap(fs->fs);
		if (failed)
			rc = hv_fail(err, -EBADMSG, "its block bitmaps cannot be read: %s",
				     error_message(failed));
	}
	if (rc) {
		hv_fsmap_ext_close(fs);
		return rc;
	}
	*ret = fs;
	return 0;
}

void hv_fsmap_ext_close(struct hv_fsmap_ext *fs)
{
	if (!fs)
		return;
	if (fs->fs)
		ext2fs_free(fs->fs);
	free(fs);
}

uint64_t hv_fsmap_ext_unused_bytes(const struct hv_fsmap_ext *fs)
{
	return ext2fs_free_blocks_count(fs->fs->super) * fs->fs->blocksize;
}

bool hv_fsmap_ext_unused(const struct hv_fsmap_ext *fs, uint64_t offset, uint64_t length)
{
	blk64_t first = offset / fs->fs->blocksize, found;
	blk64_t last = (offset + length - 1) / fs->fs->blocksize;

	if (!length || first < fs->fs->super->s_first_data_block ||
	    last >= ext2fs_blocks_count(fs->fs->super))
		return false;
	return ext2fs_find_first_set_block_bitmap2(fs->fs->block_map, first, last, &found) ==
	       ENOENT;
}
