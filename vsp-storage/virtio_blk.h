/*
 * The block device of virtio 1.2 (section 5.2): layouts and numbers.
 */
#ifndef VSP_STORAGE_VIRTIO_BLK_H
#define VSP_STORAGE_VIRTIO_BLK_H

#include <assert.h>
#include <stddef.h>

#include "hvcore/bytes.h"

enum virtio_blk_feature {
	VIRTIO_BLK_SIZE_MAX = 1,
	VIRTIO_BLK_SEG_MAX = 2,
	VIRTIO_BLK_RO = 5,
	VIRTIO_BLK_BLK_SIZE = 6,
	VIRTIO_BLK_FLUSH = 9,
	VIRTIO_BLK_TOPOLOGY = 10,
	VIRTIO_BLK_CONFIG_WCE = 11,
	VIRTIO_BLK_MQ = 12,
	VIRTIO_BLK_DISCARD = 13,
	VIRTIO_BLK_WRITE_ZEROES = 14,
};

enum virtio_feature {
	VIRTIO_NOTIFY_ON_EMPTY = 24,
	VIRTIO_ANY_LAYOUT = 27,
	VIRTIO_INDIRECT = 28,
	VIRTIO_EVENT_IDX = 29,
	VIRTIO_VERSION_1 = 32,
};

enum virtio_blk_type {
	VIRTIO_BLK_IN = 0,
	VIRTIO_BLK_OUT = 1,
	VIRTIO_BLK_FLUSH_OUT = 4,
	VIRTIO_BLK_GET_ID = 8,
	VIRTIO_BLK_DISCARD_OUT = 11,
	VIRTIO_BLK_WRITE_ZEROES_OUT = 13,
};

enum virtio_blk_status { VIRTIO_BLK_OK = 0, VIRTIO_BLK_IOERR = 1, VIRTIO_BLK_UNSUPP = 2 };

#define VIRTIO_BLK_ID_BYTES 20
#define VIRTIO_BLK_SECTOR 512u /* the unit of every sector number, whatever blk_size says */

struct virtio_blk_header {
	hv_le32 type, priority;
	hv_le64 sector;
};

struct virtio_blk_segment {
	hv_le64 sector;
	hv_le32 sector_count, flags;
};

#define VIRTIO_BLK_SEGMENT_UNMAP 1u

struct virtio_blk_config {
	hv_le64 capacity;
	hv_le32 size_max, seg_max;
	hv_le16 cylinders;
	uint8_t heads, sectors;
	hv_le32 blk_size;
	uint8_t physical_exponent, alignment_offset;
	hv_le16 min_io_size;
	hv_le32 opt_io_size;
	uint8_t writeback, unused;
	hv_le16 queue_count;
	hv_le32 max_discard_sectors, max_discard_segments, discard_alignment;
	hv_le32 max_zeroes_sectors, max_zeroes_segments;
	uint8_t zeroes_may_unmap, unused2[3];
};

static_assert(sizeof(struct virtio_blk_header) == 16, "5.2.6");
static_assert(sizeof(struct virtio_blk_segment) == 16, "5.2.6");
static_assert(offsetof(struct virtio_blk_config, blk_size) == 20, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, writeback) == 32, "5.2.4");
static_assert(offsetof(struct virtio_blk_config, max_discard_sectors) == 36, "5.2.4");
static_assert(sizeof(struct virtio_blk_config) == 60, "5.2.4");

#endif
