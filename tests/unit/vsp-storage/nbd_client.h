/*
 * What the tests of the NBD server share: a server over a small dynamic disk, and a client that
 * speaks to it byte by byte over a socket pair, on one thread.
 */
#ifndef TESTS_UNIT_VSP_NBD_CLIENT_H
#define TESTS_UNIT_VSP_NBD_CLIENT_H

#include "vsp-storage/nbd.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/support/memdisk.h"
#include "tests/support/memfile.h"
#include "vsp-storage/address.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define SIZE (8u << 20)
#define BLOCK (512u << 10)
#define COOKIE UINT64_C(0x1122334455667788)

static struct hv_loop *loop;
static struct memdisk disk;
static struct vsp_device *device;
static struct vsp_nbd *nbd;
static int client;

static inline int plug_in(void)
{
	int pair[2];
	HV_ERR(err);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(vsp_nbd_connect(nbd, pair[1], &err), 0, "%s", err.sentence);
	return pair[0];
}

static inline void begin(bool read_only)
{
	struct vsp_device_options options = { .read_only = read_only,
					      .discard = true,
					      .fast_zero = true };
	HV_ERR(err);

	cr_assert_eq(hv_loop_new(&loop, &err), 0);
	disk = memdisk_new(loop, VHD_DYNAMIC, SIZE, BLOCK, NULL);
	memdisk_write(&disk, BLOCK, BLOCK, 1);
	cr_assert_eq(vsp_device_new(disk.disk, &options, &device, &err), 0);
	cr_assert_eq(vsp_nbd_new(loop, &nbd, &err), 0);
	cr_assert_eq(vsp_nbd_export(nbd, "disk", device, &err), 0);
	client = plug_in();
}

static inline void setup(void)
{
	begin(false);
}

static inline void teardown(void)
{
	if (client >= 0)
		close(client);
	vsp_device_dismiss(device);
	for (int i = 0; i < 1000 && (vsp_nbd_connections(nbd) || !vsp_device_is_idle(device)); i++)
		hv_loop_serve(loop, 10);
	cr_assert_eq(vsp_nbd_connections(nbd), 0);
	cr_assert(vsp_device_is_idle(device));
	vsp_nbd_free(nbd);
	cr_assert_eq(hv_disk_flush(device->disk, NULL), 0);
	vsp_device_free(device);
	memdisk_sweep();
	hv_loop_free(loop);
}

static inline void serve(void)
{
	hv_loop_serve(loop, 10);
}

/* Bytes to the server. */

static inline void put(const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length) {
		ssize_t n = send(client, at, length, MSG_NOSIGNAL);

		if (n < 0) {
			cr_assert_eq(errno, EAGAIN, "the server has hung up");
			serve();
			continue;
		}
		at += n;
		length -= (size_t)n;
	}
}

static inline void put_u16(uint16_t value)
{
	hv_be16 wire = hv_be16_make(value);

	put(&wire, sizeof(wire));
}

static inline void put_u32(uint32_t value)
{
	hv_be32 wire = hv_be32_make(value);

	put(&wire, sizeof(wire));
}

static inline void put_u64(uint64_t value)
{
	hv_be64 wire = hv_be64_make(value);

	put(&wire, sizeof(wire));
}

/* Bytes from the server: all of them within a second, or what there is. */

static inline size_t get_some(void *ret, size_t length)
{
	size_t got = 0;

	for (int i = 0; i < 100 && got < length;) {
		ssize_t n = recv(client, (char *)ret + got, length - got, 0);

		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		serve();
		i++;
	}
	return got;
}

static inline void get(void *ret, size_t length)
{
	size_t got = get_some(ret, length);

	cr_assert_eq(got, length, "%zu of %zu bytes", got, length);
}

static inline uint16_t get_u16(void)
{
	hv_be16 wire;

	get(&wire, sizeof(wire));
	return hv_be16_get(wire);
}

static inline uint32_t get_u32(void)
{
	hv_be32 wire;

	get(&wire, sizeof(wire));
	return hv_be32_get(wire);
}

static inline uint64_t get_u64(void)
{
	hv_be64 wire;

	get(&wire, sizeof(wire));
	return hv_be64_get(wire);
}

static inline void expect_end(void)
{
	char byte;

	for (int i = 0; i < 100; i++) {
		ssize_t n = recv(client, &byte, 1, 0);

		cr_assert_leq(n, 0, "more came");
		if (n == 0 || errno != EAGAIN)
			return;
		serve();
	}
	cr_assert_fail("the server did not hang up");
}

/* Haggling. */

static inline void greet(uint32_t flags)
{
	cr_assert_eq(get_u64(), NBD_MAGIC);
	cr_assert_eq(get_u64(), NBD_OPTION_MAGIC);
	cr_assert_eq(get_u16(), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_u32(flags);
}

static inline void put_option(uint32_t option, uint32_t length)
{
	put_u64(NBD_OPTION_MAGIC);
	put_u32(option);
	put_u32(length);
}

/* Returns the length of the data that follows. */
static inline uint32_t get_option_reply(uint32_t option, uint32_t type)
{
	uint32_t got;

	cr_assert_eq(get_u64(), NBD_OPTION_REPLY_MAGIC);
	cr_assert_eq(get_u32(), option);
	got = get_u32();
	cr_assert_eq(got, type, "%x instead of %x", got, type);
	return get_u32();
}

static inline void agree(uint32_t option)
{
	put_option(option, 0);
	cr_assert_eq(get_option_reply(option, NBD_REP_ACK), 0);
}

static inline void put_info(uint32_t option, const char *name)
{
	put_option(option, 4 + (uint32_t)strlen(name) + 2);
	put_u32((uint32_t)strlen(name));
	put(name, strlen(name));
	put_u16(0);
}

static inline uint16_t get_infos(uint32_t option)
{
	uint16_t flags;

	cr_assert_eq(get_option_reply(option, NBD_REP_INFO), 12);
	cr_assert_eq(get_u16(), NBD_INFO_EXPORT);
	cr_assert_eq(get_u64(), SIZE);
	flags = get_u16();
	cr_assert_eq(get_option_reply(option, NBD_REP_INFO), 14);
	cr_assert_eq(get_u16(), NBD_INFO_BLOCK_SIZE);
	cr_assert_eq(get_u32(), 1);
	cr_assert_eq(get_u32(), 4096);
	cr_assert_eq(get_u32(), 32 << 20);
	cr_assert_eq(get_option_reply(option, NBD_REP_ACK), 0);
	return flags;
}

static inline uint16_t go(void)
{
	put_info(NBD_OPT_GO, "disk");
	return get_infos(NBD_OPT_GO);
}

static inline void put_queries(uint32_t option, unsigned count, const char *const *queries)
{
	uint32_t length = 4 + 4 + 4;

	for (unsigned i = 0; i < count; i++)
		length += 4 + (uint32_t)strlen(queries[i]);
	put_option(option, length);
	put_u32(4);
	put("disk", 4);
	put_u32(count);
	for (unsigned i = 0; i < count; i++) {
		put_u32((uint32_t)strlen(queries[i]));
		put(queries[i], strlen(queries[i]));
	}
}

static inline void expect_context(uint32_t option, uint32_t id, const char *name)
{
	char text[64] = "";
	uint32_t length = get_option_reply(option, NBD_REP_META_CONTEXT);

	cr_assert_eq(get_u32(), id);
	cr_assert_leq(length - 4, sizeof(text));
	get(text, length - 4);
	cr_assert_str_eq(text, name);
}

/* Transmission. */

enum form { SIMPLE, STRUCTURED, EXTENDED };

static enum form form;

static inline void connect_as(enum form wanted)
{
	form = wanted;
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	if (form == STRUCTURED)
		agree(NBD_OPT_STRUCTURED_REPLY);
	if (form == EXTENDED)
		agree(NBD_OPT_EXTENDED_HEADERS);
	go();
}

static inline void put_request(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length)
{
	bool payload = form == EXTENDED && type == NBD_CMD_WRITE;

	put_u32(form == EXTENDED ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	put_u16(flags | (payload ? NBD_CMD_FLAG_PAYLOAD_LEN : 0));
	put_u16(type);
	put_u64(COOKIE);
	put_u64(offset);
	if (form == EXTENDED)
		put_u64(length);
	else
		put_u32((uint32_t)length);
}

/* Returns the length of the payload. */
static inline uint64_t get_chunk(uint16_t flags, uint16_t type, uint64_t offset)
{
	uint16_t got;

	cr_assert_eq(get_u32(),
		     form == EXTENDED ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	cr_assert_eq(get_u16(), flags);
	got = get_u16();
	cr_assert_eq(got, type, "type %x instead of %x", got, type);
	cr_assert_eq(get_u64(), COOKIE);
	if (form == EXTENDED) {
		cr_assert_eq(get_u64(), offset);
		return get_u64();
	}
	return get_u32();
}

static inline void get_simple(uint32_t error)
{
	uint32_t got;

	cr_assert_eq(get_u32(), NBD_SIMPLE_REPLY_MAGIC);
	got = get_u32();
	cr_assert_eq(got, error, "error %u instead of %u", got, error);
	cr_assert_eq(get_u64(), COOKIE);
}

/* The reply to something without data. */
static inline void expect_error(uint16_t type, uint64_t offset, uint32_t error)
{
	bool chunks = form == EXTENDED || (form == STRUCTURED &&
					   (type == NBD_CMD_READ || type == NBD_CMD_BLOCK_STATUS));

	if (!chunks) {
		get_simple(error);
	} else if (!error) {
		cr_assert_eq(get_chunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, offset), 0);
	} else {
		cr_assert_eq(get_chunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, offset), 6);
		cr_assert_eq(get_u32(), error);
		cr_assert_eq(get_u16(), 0);
	}
}

static inline void command(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
			   uint32_t error)
{
	put_request(type, flags, offset, length);
	expect_error(type, offset, error);
}

static inline void put_write(uint64_t offset, const void *data, size_t length)
{
	put_request(NBD_CMD_WRITE, 0, offset, length);
	put(data, length);
}

static inline void expect_data(void *ret, uint64_t offset, size_t length)
{
	if (form == SIMPLE) {
		get_simple(0);
	} else {
		cr_assert_eq(get_chunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, offset),
			     8 + length);
		cr_assert_eq(get_u64(), offset);
	}
	get(ret, length);
}

static inline void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)rand_r(&seed);
}

#endif
