/*
 * What vhost-user sends over its socket (QEMU's docs/interop/vhost-user.rst): the layouts and
 * numbers, and nothing else. All numbers are in the machine's own byte order; both ends are on one
 * machine.
 */
#ifndef VSP_STORAGE_VHOST_WIRE_H
#define VSP_STORAGE_VHOST_WIRE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum vhost_request {
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_RESET_OWNER = 4,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_SET_VRING_ERR = 14,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SET_BACKEND_REQ_FD = 21,
	VHOST_GET_CONFIG = 24,
	VHOST_SET_CONFIG = 25,
	VHOST_GET_INFLIGHT_FD = 31,
	VHOST_SET_INFLIGHT_FD = 32,
	VHOST_RESET_DEVICE = 34,
	VHOST_GET_MAX_MEM_SLOTS = 36,
	VHOST_ADD_MEM_REG = 37,
	VHOST_REM_MEM_REG = 38,
};

/* On the back channel, from us to the front end. */
#define VHOST_BACKEND_CONFIG_CHANGE 2

enum vhost_flags {
	VHOST_VERSION_MASK = 3,
	VHOST_VERSION = 1,
	VHOST_REPLY = 1 << 2,
	VHOST_NEED_REPLY = 1 << 3,
};

enum vhost_protocol_feature {
	VHOST_PROTOCOL_MQ = 0,
	VHOST_PROTOCOL_REPLY_ACK = 3,
	VHOST_PROTOCOL_BACKEND_REQ = 5,
	VHOST_PROTOCOL_CONFIG = 9,
	VHOST_PROTOCOL_INFLIGHT_SHMFD = 12,
	VHOST_PROTOCOL_RESET_DEVICE = 13,
	VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS = 15,
};

#define VHOST_F_PROTOCOL_FEATURES 30 /* among the feature bits of virtio */

struct vhost_header {
	uint32_t request, flags, size;
};

struct vhost_region {
	uint64_t guest, size, user, fd_offset;
};

#define VHOST_TABLE_REGIONS_MAX 8

struct vhost_mem_table {
	uint32_t count, padding;
	struct vhost_region regions[VHOST_TABLE_REGIONS_MAX];
};

struct vhost_one_region {
	uint64_t padding;
	struct vhost_region region;
};

struct vhost_ring_number {
	uint32_t index, number;
};

struct vhost_ring_addresses {
	uint32_t index, flags;
	uint64_t descriptors, used, avail, log;
};

#define VHOST_RING_INDEX_MASK 0xff
#define VHOST_RING_NO_FD 0x100

#define VHOST_CONFIG_MAX 256

struct vhost_config {
	uint32_t offset, size, flags;
	uint8_t bytes[VHOST_CONFIG_MAX];
};

#define VHOST_CONFIG_HEAD offsetof(struct vhost_config, bytes)

struct vhost_inflight {
	uint64_t length, offset;
	uint16_t ring_count, ring_size;
	uint8_t padding[4];
};

#define VHOST_INFLIGHT_MIN 20 /* some send the padding, some do not */

union vhost_payload {
	uint64_t number;
	struct vhost_mem_table table;
	struct vhost_one_region one;
	struct vhost_ring_number ring;
	struct vhost_ring_addresses addresses;
	struct vhost_config config;
	struct vhost_inflight inflight;
	uint8_t bytes[272];
};

static_assert(sizeof(struct vhost_header) == 12, "the message's header");
static_assert(sizeof(struct vhost_mem_table) == 264, "SET_MEM_TABLE");
static_assert(sizeof(struct vhost_one_region) == 40, "ADD_MEM_REG, REM_MEM_REG");
static_assert(sizeof(struct vhost_ring_number) == 8, "SET_VRING_NUM and others");
static_assert(sizeof(struct vhost_ring_addresses) == 40, "SET_VRING_ADDR");
static_assert(sizeof(struct vhost_config) == 268, "GET_CONFIG, SET_CONFIG");
static_assert(sizeof(struct vhost_inflight) == 24, "GET_INFLIGHT_FD, SET_INFLIGHT_FD");
static_assert(sizeof(union vhost_payload) == 272, "the largest of them");

#endif
