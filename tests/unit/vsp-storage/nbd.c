/*
 * The NBD server, spoken to byte by byte over a socket pair; behind it a small dynamic disk.
 */
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

static int plug_in(void)
{
	int pair[2];
	HV_ERR(err);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(vsp_nbd_connect(nbd, pair[1], &err), 0, "%s", err.sentence);
	return pair[0];
}

static void begin(bool read_only)
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

static void setup(void)
{
	begin(false);
}

static void teardown(void)
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

TestSuite(nbd, .init = setup, .fini = teardown, .timeout = 60);

static void serve(void)
{
	hv_loop_serve(loop, 10);
}

/* Bytes to the server. */

static void put(const void *bytes, size_t length)
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

static void put_u16(uint16_t value)
{
	hv_be16 wire = hv_be16_make(value);

	put(&wire, sizeof(wire));
}

static void put_u32(uint32_t value)
{
	hv_be32 wire = hv_be32_make(value);

	put(&wire, sizeof(wire));
}

static void put_u64(uint64_t value)
{
	hv_be64 wire = hv_be64_make(value);

	put(&wire, sizeof(wire));
}

/* Bytes from the server: all of them within a second, or what there is. */

static size_t get_some(void *ret, size_t length)
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

static void get(void *ret, size_t length)
{
	size_t got = get_some(ret, length);

	cr_assert_eq(got, length, "%zu of %zu bytes", got, length);
}

static uint16_t get_u16(void)
{
	hv_be16 wire;

	get(&wire, sizeof(wire));
	return hv_be16_get(wire);
}

static uint32_t get_u32(void)
{
	hv_be32 wire;

	get(&wire, sizeof(wire));
	return hv_be32_get(wire);
}

static uint64_t get_u64(void)
{
	hv_be64 wire;

	get(&wire, sizeof(wire));
	return hv_be64_get(wire);
}

static void expect_end(void)
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

static void greet(uint32_t flags)
{
	cr_assert_eq(get_u64(), NBD_MAGIC);
	cr_assert_eq(get_u64(), NBD_OPTION_MAGIC);
	cr_assert_eq(get_u16(), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_u32(flags);
}

static void put_option(uint32_t option, uint32_t length)
{
	put_u64(NBD_OPTION_MAGIC);
	put_u32(option);
	put_u32(length);
}

/* Returns the length of the data that follows. */
static uint32_t get_option_reply(uint32_t option, uint32_t type)
{
	uint32_t got;

	cr_assert_eq(get_u64(), NBD_OPTION_REPLY_MAGIC);
	cr_assert_eq(get_u32(), option);
	got = get_u32();
	cr_assert_eq(got, type, "%x instead of %x", got, type);
	return get_u32();
}

static void agree(uint32_t option)
{
	put_option(option, 0);
	cr_assert_eq(get_option_reply(option, NBD_REP_ACK), 0);
}

static void put_info(uint32_t option, const char *name)
{
	put_option(option, 4 + (uint32_t)strlen(name) + 2);
	put_u32((uint32_t)strlen(name));
	put(name, strlen(name));
	put_u16(0);
}

static uint16_t get_infos(uint32_t option)
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

static uint16_t go(void)
{
	put_info(NBD_OPT_GO, "disk");
	return get_infos(NBD_OPT_GO);
}

static void put_queries(uint32_t option, unsigned count, const char *const *queries)
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

static void expect_context(uint32_t option, uint32_t id, const char *name)
{
	char text[64] = "";
	uint32_t length = get_option_reply(option, NBD_REP_META_CONTEXT);

	cr_assert_eq(get_u32(), id);
	cr_assert_leq(length - 4, sizeof(text));
	get(text, length - 4);
	cr_assert_str_eq(text, name);
}

Test(nbd, export_name_is_followed_by_zeroes_unless_agreed)
{
	char zeroes[124], none[124] = { 0 };
	uint16_t flags;

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("disk", 4);
	cr_assert_eq(get_u64(), SIZE);
	flags = get_u16();
	cr_assert_eq(flags, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
				    NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
				    NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_FAST_ZERO);
	get(zeroes, sizeof(zeroes));
	cr_assert_eq(memcmp(zeroes, none, sizeof(none)), 0);
	close(client);
	client = plug_in();
	greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("disk", 4);
	get_u64();
	get_u16();
	cr_assert_eq(get_some(zeroes, 1), 0);
}

Test(nbd, an_unknown_export_name_ends_the_connection)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_EXPORT_NAME, 4);
	put("nope", 4);
	expect_end();
}

Test(nbd, unknown_client_flags_end_the_connection)
{
	greet(0x80);
	expect_end();
}

Test(nbd, options_are_answered_one_by_one)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_STARTTLS, 0);
	put_option(99, 3);
	put("abc", 3);
	put_info(NBD_OPT_INFO, "disk");
	put_info(NBD_OPT_INFO, "");
	put_info(NBD_OPT_INFO, "other");
	put_option(NBD_OPT_LIST, 0);
	put_option(NBD_OPT_ABORT, 0);
	get_option_reply(NBD_OPT_STARTTLS, NBD_REP_ERR_UNSUP);
	get_option_reply(99, NBD_REP_ERR_UNSUP);
	get_infos(NBD_OPT_INFO);
	get_infos(NBD_OPT_INFO);
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN);
	cr_assert_eq(get_option_reply(NBD_OPT_LIST, NBD_REP_SERVER), 8);
	cr_assert_eq(get_u32(), 4);
	cr_assert_eq(get_u32(), 0x6469736b, "\"disk\"");
	get_option_reply(NBD_OPT_LIST, NBD_REP_ACK);
	get_option_reply(NBD_OPT_ABORT, NBD_REP_ACK);
	expect_end();
}

Test(nbd, malformed_options_are_refused_and_haggling_goes_on)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_LIST, 1);
	put("x", 1);
	get_option_reply(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_INFO, 4);
	put_u32(UINT32_MAX);
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_GO, 4 + 4 + 2);
	put_u32(4);
	put("disk", 4);
	put_u16(7);
	get_option_reply(NBD_OPT_GO, NBD_REP_ERR_INVALID);
	put_queries(NBD_OPT_SET_META_CONTEXT, 0, NULL);
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	put_option(NBD_OPT_STRUCTURED_REPLY, 1);
	put("x", 1);
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_option(NBD_OPT_SET_META_CONTEXT, 12);
	put_u32(4);
	put("disk", 4);
	put_u32(UINT32_MAX);
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
	agree(NBD_OPT_EXTENDED_HEADERS);
	put_option(NBD_OPT_STRUCTURED_REPLY, 0);
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
	go();
}

Test(nbd, too_much_data_of_an_option_is_skipped_or_ends_it)
{
	static char much[1 << 20];

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_option(NBD_OPT_INFO, sizeof(much));
	put(much, sizeof(much));
	get_option_reply(NBD_OPT_INFO, NBD_REP_ERR_TOO_BIG);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_option(NBD_OPT_INFO, UINT32_MAX);
	expect_end();
}

Test(nbd, a_wrong_magic_ends_the_connection)
{
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	put_u64(NBD_OPTION_MAGIC + 1);
	put_u64(0);
	expect_end();
}

Test(nbd, options_may_come_byte_by_byte)
{
	uint8_t bytes[] = { 0,   0,   0, 1, 'I', 'H', 'A', 'V', 'E', 'O',
			    'P', 'T', 0, 0, 0,   8,   0,   0,   0,   0 };

	cr_assert_eq(get_u64(), NBD_MAGIC);
	get_u64();
	get_u16();
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		put(&bytes[i], 1);
		hv_loop_serve(loop, 0);
	}
	get_option_reply(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
}

Test(nbd, contexts_are_listed_and_set)
{
	static const char *const queries[] = { "hvkit:depth", "base:", "x:y" };

	greet(NBD_FLAG_FIXED_NEWSTYLE);
	agree(NBD_OPT_STRUCTURED_REPLY);
	put_queries(NBD_OPT_LIST_META_CONTEXT, 0, NULL);
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "hvkit:depth");
	get_option_reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_queries(NBD_OPT_LIST_META_CONTEXT, 2, queries + 1);
	expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
	get_option_reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	put_queries(NBD_OPT_SET_META_CONTEXT, 3, queries);
	expect_context(NBD_OPT_SET_META_CONTEXT, 2, "hvkit:depth");
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
}

/* Transmission. */

enum form { SIMPLE, STRUCTURED, EXTENDED };

static enum form form;

static void connect_as(enum form wanted)
{
	form = wanted;
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	if (form == STRUCTURED)
		agree(NBD_OPT_STRUCTURED_REPLY);
	if (form == EXTENDED)
		agree(NBD_OPT_EXTENDED_HEADERS);
	go();
}

static void put_request(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length)
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
static uint64_t get_chunk(uint16_t flags, uint16_t type, uint64_t offset)
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

static void get_simple(uint32_t error)
{
	uint32_t got;

	cr_assert_eq(get_u32(), NBD_SIMPLE_REPLY_MAGIC);
	got = get_u32();
	cr_assert_eq(got, error, "error %u instead of %u", got, error);
	cr_assert_eq(get_u64(), COOKIE);
}

/* The reply to something without data. */
static void expect_error(uint16_t type, uint64_t offset, uint32_t error)
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

static void command(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length, uint32_t error)
{
	put_request(type, flags, offset, length);
	expect_error(type, offset, error);
}

static void put_write(uint64_t offset, const void *data, size_t length)
{
	put_request(NBD_CMD_WRITE, 0, offset, length);
	put(data, length);
}

static void expect_data(void *ret, uint64_t offset, size_t length)
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

static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)rand_r(&seed);
}

static void read_and_write(enum form wanted)
{
	static const uint32_t lengths[] = { 1, 512, 1000, 4096, 65536, 70000, 131072, 1 << 20 };
	static uint8_t data[1 << 20], back[1 << 20];

	connect_as(wanted);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint64_t offset = BLOCK / 2 + i * 777;

		fill(data, lengths[i], i);
		put_write(offset, data, lengths[i]);
		expect_error(NBD_CMD_WRITE, offset, 0);
		put_request(NBD_CMD_READ, 0, offset, lengths[i]);
		expect_data(back, offset, lengths[i]);
		cr_assert_eq(memcmp(data, back, lengths[i]), 0, "%u bytes", lengths[i]);
	}
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
	put_request(NBD_CMD_READ, 0, 0, 0);
	expect_error(NBD_CMD_READ, 0, 0);
	put_request(NBD_CMD_DISC, 0, 0, 0);
	expect_end();
}

Test(nbd, reads_and_writes_with_simple_replies)
{
	read_and_write(SIMPLE);
}

Test(nbd, reads_and_writes_with_structured_replies)
{
	read_and_write(STRUCTURED);
}

Test(nbd, reads_and_writes_with_extended_headers)
{
	read_and_write(EXTENDED);
}

static void errors(enum form wanted)
{
	uint8_t data[1000] = { 0 };

	connect_as(wanted);
	command(NBD_CMD_READ, 0, SIZE - 512, 1024, NBD_EINVAL);
	command(NBD_CMD_READ, 0, UINT64_MAX - 511, 1024, NBD_EINVAL);
	command(NBD_CMD_READ, 0, 0, VSP_NBD_MAX_REQUEST + 1, NBD_EINVAL);
	command(NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL);
	put_write(SIZE - 512, data, 1000);
	expect_error(NBD_CMD_WRITE, SIZE - 512, NBD_ENOSPC);
	command(NBD_CMD_WRITE_ZEROES, 0, SIZE, 1, NBD_ENOSPC);
	command(NBD_CMD_TRIM, 0, SIZE, 1, NBD_EINVAL);
	command(NBD_CMD_CACHE, 0, SIZE, 1, NBD_EINVAL);
	command(NBD_CMD_CACHE, 0, 0, 4096, 0);
	command(NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL);
	command(8, 0, 0, 0, NBD_EINVAL);
	command(0xffff, 0, 0, 0, NBD_EINVAL);
	command(NBD_CMD_FLUSH, 0x8000, 0, 0, NBD_EINVAL);
	command(NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0, 0);
	put_request(99, 0, 0, 0);
	expect_error(99, 0, NBD_EINVAL);
}

Test(nbd, errors_of_simple_replies)
{
	errors(SIMPLE);
}

Test(nbd, errors_of_structured_replies)
{
	errors(STRUCTURED);
}

Test(nbd, errors_of_extended_headers)
{
	errors(EXTENDED);
}

Test(nbd, a_write_that_is_too_long_is_skipped)
{
	uint8_t *data = calloc(1, VSP_NBD_MAX_REQUEST + 1);

	connect_as(SIMPLE);
	put_write(0, data, VSP_NBD_MAX_REQUEST + 1);
	expect_error(NBD_CMD_WRITE, 0, NBD_EINVAL);
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
	put_request(NBD_CMD_WRITE, 0, 0, UINT32_MAX);
	expect_end();
	free(data);
}

/* A payload that nobody expects is skipped, and one that is missing is an error. */
Test(nbd, extended_payload_is_what_the_flag_says)
{
	uint8_t data[512] = { 0 };

	connect_as(EXTENDED);
	put_request(NBD_CMD_READ, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 512);
	put(data, sizeof(data));
	expect_error(NBD_CMD_READ, 0, NBD_EINVAL);
	put_u32(NBD_EXTENDED_REQUEST_MAGIC);
	put_u16(0);
	put_u16(NBD_CMD_WRITE);
	put_u64(COOKIE);
	put_u64(0);
	put_u64(512);
	expect_error(NBD_CMD_WRITE, 0, NBD_EINVAL);
	command(NBD_CMD_WRITE_ZEROES, 0, 0, SIZE, 0);
	command(NBD_CMD_WRITE_ZEROES, 0, 0, UINT64_MAX, NBD_ENOSPC);
	put_request(NBD_CMD_READ, NBD_CMD_FLAG_PAYLOAD_LEN, 0, UINT64_MAX);
	expect_end();
}

Test(nbd, a_request_without_the_magic_ends_the_connection)
{
	connect_as(SIMPLE);
	put_u32(NBD_EXTENDED_REQUEST_MAGIC);
	put_u64(0);
	put_u64(0);
	put_u64(0);
	expect_end();
}

Test(nbd, holes_are_told_as_holes_unless_in_one_piece)
{
	static uint8_t data[65536], zero[65536];

	connect_as(STRUCTURED);
	put_request(NBD_CMD_READ, 0, 4 * BLOCK, 65536);
	cr_assert_eq(get_chunk(NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_HOLE, 0), 12);
	cr_assert_eq(get_u64(), 4 * BLOCK);
	cr_assert_eq(get_u32(), 65536);
	put_request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 4 * BLOCK, 65536);
	memset(data, 1, sizeof(data));
	expect_data(data, 4 * BLOCK, 65536);
	cr_assert_eq(memcmp(data, zero, sizeof(data)), 0);
	put_request(NBD_CMD_READ, 0, BLOCK - 32768, 65536);
	expect_data(data, BLOCK - 32768, 65536);
	cr_assert_eq(memcmp(data, zero, 32768), 0);
	cr_assert_neq(memcmp(data + 32768, zero, 32768), 0);
}

Test(nbd, zeroing_and_trimming)
{
	static uint8_t data[4096], zero[4096];

	connect_as(SIMPLE);
	command(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, BLOCK, 4096, 0);
	command(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_FUA, BLOCK + 4096, 1000,
		0);
	put_request(NBD_CMD_READ, 0, BLOCK + 1000, 4096);
	expect_data(data, BLOCK + 1000, 4096);
	cr_assert_eq(memcmp(data, zero, 4096), 0);
	put_request(NBD_CMD_READ, 0, BLOCK + 5096, 8);
	expect_data(data, BLOCK + 5096, 8);
	cr_assert_neq(memcmp(data, zero, 8), 0);
	cr_assert_eq(memdisk_allocated(&disk), 1);
	command(NBD_CMD_TRIM, 0, BLOCK, BLOCK, 0);
	cr_assert_eq(memdisk_allocated(&disk), 0);
	device->fast_zero = false;
	command(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 4096, NBD_ENOTSUP);
}

Test(read_only_nbd, changes_are_refused, .fini = teardown)
{
	uint8_t data[512] = { 0 };

	begin(true);
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	cr_assert_eq(go(), NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH |
				   NBD_FLAG_CAN_MULTI_CONN);
	put_write(0, data, 512);
	get_simple(NBD_EPERM);
	command(NBD_CMD_TRIM, 0, 0, 512, NBD_EPERM);
	command(NBD_CMD_WRITE_ZEROES, 0, 0, 512, NBD_EPERM);
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
	put_request(NBD_CMD_READ, 0, 0, 512);
	expect_data(data, 0, 512);
}

/* Block status. */

static void expect_status(bool last, uint32_t id, unsigned count, const uint64_t *pairs,
			  uint64_t offset)
{
	bool extended = form == EXTENDED;

	get_chunk(last, extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS,
		  offset);
	cr_assert_eq(get_u32(), id);
	if (extended)
		cr_assert_eq(get_u32(), count);
	for (unsigned i = 0; i < 2 * count; i++) {
		uint64_t got = extended ? get_u64() : get_u32();

		cr_assert_eq(got, pairs[i], "%u: %llu", i, (unsigned long long)got);
	}
}

static void block_status(enum form wanted)
{
	static const char *const queries[] = { "base:allocation", "hvkit:depth" };
	const uint64_t allocation[] = { BLOCK, 3, BLOCK, 0, SIZE - 2 * BLOCK, 3 };
	const uint64_t depth[] = { BLOCK, 0, BLOCK, 1, SIZE - 2 * BLOCK, 0 };
	const uint64_t odd[] = { 100, 3, 200, 0 }, one[] = { 7, 0 };

	form = wanted;
	greet(NBD_FLAG_FIXED_NEWSTYLE);
	agree(form == EXTENDED ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY);
	put_queries(NBD_OPT_SET_META_CONTEXT, 2, queries);
	expect_context(NBD_OPT_SET_META_CONTEXT, 1, queries[0]);
	expect_context(NBD_OPT_SET_META_CONTEXT, 2, queries[1]);
	get_option_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
	go();
	put_request(NBD_CMD_BLOCK_STATUS, 0, 0, SIZE);
	expect_status(false, 1, 3, allocation, 0);
	expect_status(true, 2, 3, depth, 0);
	put_request(NBD_CMD_BLOCK_STATUS, 0, BLOCK - 100, 300);
	expect_status(false, 1, 2, odd, BLOCK - 100);
	expect_status(true, 2, 2, (const uint64_t[]){ 100, 0, 200, 1 }, BLOCK - 100);
	put_request(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 2 * BLOCK - 7, 300);
	expect_status(false, 1, 1, one, 2 * BLOCK - 7);
	expect_status(true, 2, 1, (const uint64_t[]){ 7, 1 }, 2 * BLOCK - 7);
	command(NBD_CMD_BLOCK_STATUS, 0, SIZE - 1, 2, NBD_EINVAL);
	command(NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL);
}

Test(nbd, block_status)
{
	block_status(STRUCTURED);
}

Test(nbd, block_status_with_extended_headers)
{
	block_status(EXTENDED);
}

/* Many requests, and clients that misbehave. */

Test(nbd, more_writes_than_the_window_holds_at_once)
{
	enum { COUNT = 1000, EACH = 4096 };
	static uint8_t data[COUNT * EACH], back[COUNT * EACH];

	connect_as(SIMPLE);
	fill(data, sizeof(data), 5);
	for (unsigned i = 0; i < COUNT; i++)
		put_write(i * EACH, data + i * EACH, EACH);
	for (unsigned i = 0; i < COUNT; i++)
		get_simple(0);
	put_request(NBD_CMD_READ, 0, 0, sizeof(back));
	expect_data(back, 0, sizeof(back));
	cr_assert_eq(memcmp(data, back, sizeof(back)), 0);
}

/* Asks for far more than window and socket hold, and takes nothing. How much was read? */
static uint64_t ask_only(uint32_t length)
{
	struct nbd_request_header header = { .magic = hv_be32_make(NBD_REQUEST_MAGIC),
					     .length = hv_be32_make(length) };

	for (unsigned idle = 0, sent = 0; idle < 20 && sent < 3000;) {
		ssize_t n = send(client, &header, sizeof(header), MSG_NOSIGNAL);

		cr_assert(n < 0 || n == sizeof(header));
		if (n > 0)
			sent++;
		else
			idle++;
		hv_loop_serve(loop, n < 0);
		cr_assert_leq(device->in_flight, VSP_NBD_WINDOW_REQUESTS);
	}
	return device->stats[HV_READ].operations;
}

Test(nbd, who_takes_no_replies_is_not_read_from_and_holds_up_nobody)
{
	int slow = client;
	uint8_t data[512];

	connect_as(SIMPLE);
	cr_assert_leq(ask_only(SIZE), 2 * (VSP_NBD_WINDOW_BYTES / SIZE));
	client = plug_in();
	connect_as(SIMPLE);
	put_request(NBD_CMD_READ, 0, 0, 512);
	expect_data(data, 0, 512);
	close(slow);
}

Test(nbd, the_window_counts_small_requests_too)
{
	connect_as(SIMPLE);
	cr_assert_leq(ask_only(4096), 4 * VSP_NBD_WINDOW_REQUESTS);
}

Test(nbd, a_write_with_fua_is_durable_when_it_is_answered)
{
	uint8_t data[512] = { 1 };

	connect_as(SIMPLE);
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
	memfile_fail(disk.mem, MEM_BARRIER, 1, -EIO);
	put_write(BLOCK, data, sizeof(data));
	get_simple(0);
	put_request(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, BLOCK, sizeof(data));
	put(data, sizeof(data));
	get_simple(NBD_EIO);
}

Test(nbd, clients_vanish_at_any_byte)
{
	static uint8_t data[8192];

	for (size_t cut = 0; cut < 28 + sizeof(data); cut += cut < 40 ? 1 : 997) {
		struct nbd_request_header header = { .magic = hv_be32_make(NBD_REQUEST_MAGIC),
						     .type = hv_be16_make(NBD_CMD_WRITE),
						     .length = hv_be32_make(sizeof(data)) };

		connect_as(SIMPLE);
		put_request(NBD_CMD_READ, 0, 0, 4096);
		put(&header, cut < sizeof(header) ? cut : sizeof(header));
		if (cut > sizeof(header))
			put(data, cut - sizeof(header));
		if (cut % 2)
			serve();
		close(client);
		client = plug_in();
	}
	for (int i = 0; i < 20; i++)
		serve();
	cr_assert_eq(vsp_nbd_connections(nbd), 1);
	cr_assert_eq(device->in_flight, 0);
}

Test(nbd, a_device_that_goes_away_is_let_go_when_its_requests_are_answered)
{
	uint8_t data[4096];

	connect_as(SIMPLE);
	put_request(NBD_CMD_READ, 0, 0, 4096);
	put_request(NBD_CMD_READ, 0, 4096, 4096);
	for (int i = 0; i < 100 && device->stats[HV_READ].operations + device->in_flight < 2; i++)
		hv_loop_serve(loop, 0);
	vsp_device_dismiss(device);
	expect_data(data, 0, 4096);
	expect_data(data, 4096, 4096);
	expect_end();
	serve();
	cr_assert(vsp_device_is_idle(device));
}

Test(nbd, who_does_not_finish_its_handshake_is_cut_off_in_time)
{
	uint64_t second = UINT64_C(1000000000);
	int silent = client;
	char byte;

	client = plug_in();
	connect_as(SIMPLE);
	nbd_tick(nbd, nbd_now_ns() + (VSP_NBD_HANDSHAKE_SECONDS - 1) * second);
	serve();
	cr_assert_eq(vsp_nbd_connections(nbd), 2);
	nbd_tick(nbd, nbd_now_ns() + (VSP_NBD_HANDSHAKE_SECONDS + 1) * second);
	serve();
	cr_assert_eq(vsp_nbd_connections(nbd), 1);
	while (recv(silent, &byte, 1, 0) > 0)
		;
	cr_assert_eq(recv(silent, &byte, 1, 0), 0);
	close(silent);
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
}

static int dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

Test(nbd, there_are_only_so_many_clients_at_a_time)
{
	static int crowd[VSP_NBD_MAX_CONNECTIONS + 1];
	struct vsp_listener listener = VSP_NO_LISTENER;
	char directory[] = "nbd-XXXXXX", path[64];
	HV_ERR(err);

	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	cr_assert_eq(vsp_listen_unix(path, &listener, &err), 0, "%s", err.sentence);
	cr_assert_eq(vsp_nbd_listen(nbd, listener.fd, &err), 0);
	for (unsigned i = 0; i <= VSP_NBD_MAX_CONNECTIONS; i++) {
		crowd[i] = dial(path);
		hv_loop_serve(loop, 0);
	}
	for (int i = 0; i < 20; i++)
		hv_loop_serve(loop, 0);
	cr_assert_eq(vsp_nbd_connections(nbd), VSP_NBD_MAX_CONNECTIONS);
	close(client);
	close(crowd[5]);
	client = crowd[VSP_NBD_MAX_CONNECTIONS];
	connect_as(SIMPLE);
	command(NBD_CMD_FLUSH, 0, 0, 0, 0);
	for (unsigned i = 0; i < VSP_NBD_MAX_CONNECTIONS; i++)
		if (i != 5)
			close(crowd[i]);
	vsp_nbd_stop(nbd);
	vsp_listener_close(&listener);
	rmdir(directory);
}
