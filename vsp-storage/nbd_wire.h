/*
 * The NBD protocol's numbers and layouts, by doc/proto.md of the NBD project: fixed newstyle
 * handshake, transmission with simple, structured and extended headers. Everything is big-endian.
 * Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_NBD_WIRE_H
#define VSP_STORAGE_NBD_WIRE_H

#include <assert.h>

#include "hvcore/bytes.h"

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

#define NBD_MAX_STRING 4096u

/* Of the handshake: the server's and the client's. */
enum {
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERROR(n) (UINT32_C(0x80000000) + (n))
#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP NBD_REP_ERROR(1)
#define NBD_REP_ERR_INVALID NBD_REP_ERROR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERROR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERROR(6)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERROR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERROR(10)

enum {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

/* Of an export. */
enum {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
	NBD_CMD_COUNT,
};

enum {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
	NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

#define NBD_REPLY_FLAG_DONE 1u

enum {
	NBD_REPLY_TYPE_NONE = 0,
	NBD_REPLY_TYPE_OFFSET_DATA = 1,
	NBD_REPLY_TYPE_OFFSET_HOLE = 2,
	NBD_REPLY_TYPE_BLOCK_STATUS = 5,
	NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
	NBD_REPLY_TYPE_ERROR = 0x8001,
};

enum {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

/* Of base:allocation. */
enum {
	NBD_STATE_HOLE = 1 << 0,
	NBD_STATE_ZERO = 1 << 1,
};

struct nbd_greeting {
	hv_be64 magic, option_magic;
	hv_be16 flags;
};
static_assert(sizeof(struct nbd_greeting) == 18, "layout");

struct nbd_option {
	hv_be64 magic;
	hv_be32 option, length;
};
static_assert(sizeof(struct nbd_option) == 16, "layout");

struct nbd_option_reply {
	hv_be64 magic;
	hv_be32 option, type, length;
};
static_assert(sizeof(struct nbd_option_reply) == 20, "layout");

/* The answer to NBD_OPT_EXPORT_NAME; zeroes may be left out. */
struct nbd_export {
	hv_be64 size_bytes;
	hv_be16 flags;
	uint8_t zeroes[124];
};
static_assert(sizeof(struct nbd_export) == 134, "layout");

struct nbd_info_export {
	hv_be16 type;
	hv_be64 size_bytes;
	hv_be16 flags;
};
static_assert(sizeof(struct nbd_info_export) == 12, "layout");

struct nbd_info_block_size {
	hv_be16 type;
	hv_be32 minimum, preferred, maximum;
};
static_assert(sizeof(struct nbd_info_block_size) == 14, "layout");

struct nbd_request_header {
	hv_be32 magic;
	hv_be16 flags, type;
	hv_be64 cookie, offset;
	hv_be32 length;
};
static_assert(sizeof(struct nbd_request_header) == 28, "layout");

struct nbd_extended_request_header {
	hv_be32 magic;
	hv_be16 flags, type;
	hv_be64 cookie, offset, length;
};
static_assert(sizeof(struct nbd_extended_request_header) == 32, "layout");

struct nbd_simple_reply {
	hv_be32 magic, error;
	hv_be64 cookie;
};
static_assert(sizeof(struct nbd_simple_reply) == 16, "layout");

struct nbd_chunk {
	hv_be32 magic;
	hv_be16 flags, type;
	hv_be64 cookie;
	hv_be32 length;
};
static_assert(sizeof(struct nbd_chunk) == 20, "layout");

struct nbd_extended_chunk {
	hv_be32 magic;
	hv_be16 flags, type;
	hv_be64 cookie, offset, length;
};
static_assert(sizeof(struct nbd_extended_chunk) == 32, "layout");

struct nbd_hole {
	hv_be64 offset;
	hv_be32 length;
};
static_assert(sizeof(struct nbd_hole) == 12, "layout");

struct nbd_error {
	hv_be32 error;
	hv_be16 message_length;
};
static_assert(sizeof(struct nbd_error) == 6, "layout");

struct nbd_status {
	hv_be32 length, flags;
};
static_assert(sizeof(struct nbd_status) == 8, "layout");

struct nbd_extended_status {
	hv_be64 length, flags;
};
static_assert(sizeof(struct nbd_extended_status) == 16, "layout");

#endif
