/*
 * The NBD server's transmission, in all three forms of replies, and clients that misbehave.
 */
#include "hvcore/clock.h"
#include "tests/unit/vsp-storage/nbd_client.h"

TestSuite(nbd_transfer, .init = setup, .fini = teardown, .timeout = 60);

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

Test(nbd_transfer, reads_and_writes_with_simple_replies)
{
	read_and_write(SIMPLE);
}

Test(nbd_transfer, reads_and_writes_with_structured_replies)
{
	read_and_write(STRUCTURED);
}

Test(nbd_transfer, reads_and_writes_with_extended_headers)
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

Test(nbd_transfer, errors_of_simple_replies)
{
	errors(SIMPLE);
}

Test(nbd_transfer, errors_of_structured_replies)
{
	errors(STRUCTURED);
}

Test(nbd_transfer, errors_of_extended_headers)
{
	errors(EXTENDED);
}

Test(nbd_transfer, a_write_that_is_too_long_is_skipped)
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
Test(nbd_transfer, extended_payload_is_what_the_flag_says)
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

Test(nbd_transfer, a_request_without_the_magic_ends_the_connection)
{
	connect_as(SIMPLE);
	put_u32(NBD_EXTENDED_REQUEST_MAGIC);
	put_u64(0);
	put_u64(0);
	put_u64(0);
	expect_end();
}

Test(nbd_transfer, holes_are_told_as_holes_unless_in_one_piece)
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

Test(nbd_transfer, zeroing_and_trimming)
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

Test(read_only_nbd_transfer, changes_are_refused, .fini = teardown)
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

Test(nbd_transfer, block_status)
{
	block_status(STRUCTURED);
}

Test(nbd_transfer, block_status_with_extended_headers)
{
	block_status(EXTENDED);
}

/* Many requests, and clients that misbehave. */

Test(nbd_transfer, more_writes_than_the_window_holds_at_once)
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
		cr_assert_leq(device->telemetry.in_flight, VSP_NBD_WINDOW_REQUESTS);
	}
	return vsp_telemetry_operations(&device->telemetry, HV_READ);
}

Test(nbd_transfer, who_takes_no_replies_is_not_read_from_and_holds_up_nobody)
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

Test(nbd_transfer, the_window_counts_small_requests_too)
{
	connect_as(SIMPLE);
	cr_assert_leq(ask_only(4096), 4 * VSP_NBD_WINDOW_REQUESTS);
}

Test(nbd_transfer, a_write_with_fua_is_durable_when_it_is_answered)
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

Test(nbd_transfer, clients_vanish_at_any_byte)
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
	cr_assert_eq(device->telemetry.in_flight, 0);
}

Test(nbd_transfer, a_device_that_goes_away_is_let_go_when_its_requests_are_answered)
{
	uint8_t data[4096];

	connect_as(SIMPLE);
	put_request(NBD_CMD_READ, 0, 0, 4096);
	put_request(NBD_CMD_READ, 0, 4096, 4096);
	for (int i = 0; i < 100 && vsp_telemetry_operations(&device->telemetry, HV_READ) +
						   device->telemetry.in_flight <
					   2;
	     i++)
		hv_loop_serve(loop, 0);
	vsp_device_dismiss(device);
	expect_data(data, 0, 4096);
	expect_data(data, 4096, 4096);
	expect_end();
	serve();
	cr_assert(vsp_device_is_idle(device));
}

Test(nbd_transfer, who_does_not_finish_its_handshake_is_cut_off_in_time)
{
	uint64_t second = UINT64_C(1000000000);
	int silent = client;
	char byte;

	client = plug_in();
	connect_as(SIMPLE);
	nbd_tick(nbd, hv_now_ns() + (VSP_NBD_HANDSHAKE_SECONDS - 1) * second);
	serve();
	cr_assert_eq(vsp_nbd_connections(nbd), 2);
	nbd_tick(nbd, hv_now_ns() + (VSP_NBD_HANDSHAKE_SECONDS + 1) * second);
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

Test(nbd_transfer, there_are_only_so_many_clients_at_a_time)
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
