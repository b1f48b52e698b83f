/*
 * vhost-user-blk as a guest sees it: a client with memory and rings of its own, a server in another
 * process, which is killed, too.
 */
#include "vsp-storage/vhost.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hvcore/clock.h"
#include "tests/support/vhost_client.h"
#include "tests/support/vhost_server.h"

#define SECTORS (SERVER_DISK_BYTES / 2 / 512)
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP
#define feature(number) (UINT64_C(1) << (number))

TestSuite(vhost, .init = server_init, .fini = server_done, .timeout = 20);

static struct vhost_client *client;
static struct vhost_client_ring *ring;
static uint8_t *data;

static void begin(const struct vhost_client_options *options)
{
	client = vhost_client_new("disk", options);
	ring = &client->rings[0];
	data = client->memory + VHOST_CLIENT_DATA;
}

static void fill(uint8_t *at, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		at[i] = (uint8_t)(seed + i * 7 + (i >> 9));
}

static bool is_filled(const uint8_t *at, size_t length, unsigned seed)
{
	for (size_t i = 0; i < length; i++)
		if (at[i] != (uint8_t)(seed + i * 7 + (i >> 9)))
			return false;
	return true;
}

/* Data. */

static const uint64_t without[] = {
	0,
	feature(VIRTIO_RING_F_EVENT_IDX),
	feature(VIRTIO_RING_F_INDIRECT_DESC),
	feature(VIRTIO_RING_F_EVENT_IDX) | feature(VIRTIO_RING_F_INDIRECT_DESC),
};

ParameterizedTestParameters(vhost, data_lands_where_it_should)
{
	return cr_make_param_array(uint64_t, (void *)(uintptr_t)without,
				   sizeof(without) / sizeof(without[0]));
}

/* Several at once, at memory that is aligned to nothing, read back in pieces of another size. */
ParameterizedTest(uint64_t *left_out, vhost, data_lands_where_it_should)
{
	server_start(NULL);
	begin(&(struct vhost_client_options){ .without = *left_out, .slots = *left_out == 0 });
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 16; i++) {
			uint8_t *from = data + i * 8192 + i * 3;

			fill(from, 4096, round + i);
			vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, (15 - i) * 8, from, 4096);
			if (i % 5 == round % 5)
				vhost_client_notify(ring);
		}
		vhost_client_notify(ring);
		for (unsigned i = 0; i < 16; i++) {
			int slot = vhost_client_wait(ring, 5000);

			cr_assert_geq(slot, 0);
			cr_assert_eq(vhost_client_status(ring, (unsigned)slot), OK);
		}
		cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, 0, data + 200001, 65536), OK);
		for (unsigned i = 0; i < 16; i++)
			cr_assert(is_filled(data + 200001 + (15 - i) * 4096, 4096, round + i));
	}
	cr_assert_eq(memcmp(server_shared->bytes, data + 200001, 65536), 0);
	vhost_client_free(client);
}

Test(vhost, several_queues_serve_one_disk)
{
	server_start(NULL);
	begin(&(struct vhost_client_options){ .ring_count = 4, .ring_size = 16 });
	for (unsigned i = 0; i < 400; i++) {
		fill(data, 512, i);
		cr_assert_eq(vhost_client_do(&client->rings[i % 4], VIRTIO_BLK_T_OUT, i, data, 512),
			     OK);
		cr_assert_eq(vhost_client_do(&client->rings[(i + 1) % 4], VIRTIO_BLK_T_IN, i,
					     data + 512, 512),
			     OK);
		cr_assert(is_filled(data + 512, 512, i));
	}
	vhost_client_free(client);
}

Test(vhost, requests_are_answered_by_what_they_deserve)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t length;
		uint8_t status;
	} cases[] = {
		{ VIRTIO_BLK_T_FLUSH, 0, 0, OK },
		{ VIRTIO_BLK_T_IN, SECTORS - 1, 512, OK },
		{ VIRTIO_BLK_T_IN, SECTORS - 1, 1024, IOERR },
		{ VIRTIO_BLK_T_OUT, SECTORS, 512, IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, 512, IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 511, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 513, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, IOERR },
		{ 2, 0, 512, UNSUPP },
		{ 99, 0, 0, UNSUPP },
	};

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(vhost_client_do(ring, cases[i].type, cases[i].sector, data,
					     cases[i].length),
			     cases[i].status, "case %u", i);
	server_shared->fails = -EIO;
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, 0, data, 512), IOERR);
	server_shared->fails = -ENOTSUP;
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, data, 0), UNSUPP);
	vhost_client_free(client);
}

Test(vhost, the_serial_number_is_told)
{
	server_start(&(struct vsp_device_options){ .serial = "hvkit-0123456789abcd" });
	begin(&(struct vhost_client_options){ 0 });
	memset(data, 0xaa, 64);
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_GET_ID, 0, data, 20), OK);
	cr_assert_eq(memcmp(data, "hvkit-0123456789abcd\xaa", 21), 0);
	vhost_client_free(client);
}

/* Discarding and zeroing. */

static uint8_t clear(uint32_t type, const struct virtio_blk_discard_write_zeroes *segments,
		     unsigned count)
{
	memcpy(data, segments, count * sizeof(*segments));
	return vhost_client_do(ring, type, 0, data, (uint32_t)(count * sizeof(*segments)));
}

Test(vhost, segments_are_discarded_and_zeroed)
{
	struct virtio_blk_discard_write_zeroes two[17] = {
		{ .sector = 8, .num_sectors = 8 }, { .sector = 64, .num_sectors = 1, .flags = 1 }
	};

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	memset(server_shared->bytes, 0xff, SERVER_DISK_BYTES);
	cr_assert_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, two, 2), OK);
	cr_assert_eq(server_shared->logged, 2);
	cr_assert_eq(server_shared->log[0].op, HV_ZERO);
	cr_assert_eq(server_shared->log[1].op, HV_DISCARD);
	for (unsigned sector = 0; sector < 128; sector++)
		cr_assert_eq(server_shared->bytes[sector * 512],
			     (sector >= 8 && sector < 16) || sector == 64 ? 0 : 0xff);
	two[1] = (struct virtio_blk_discard_write_zeroes){ .sector = 100, .num_sectors = 10 };
	cr_assert_eq(clear(VIRTIO_BLK_T_DISCARD, two, 2), OK);
	cr_assert_eq(server_shared->log[3].op, HV_DISCARD);
	cr_assert_eq(server_shared->bytes[109 * 512], 0);
	cr_assert_eq(clear(VIRTIO_BLK_T_DISCARD, two, 16), OK, "empty ones are fine");
	vhost_client_free(client);
}

/* One bad segment, and none has been done. */
Test(vhost, bad_segments_are_refused_before_the_first_takes_effect)
{
	struct virtio_blk_discard_write_zeroes list[17] = { { .sector = 8, .num_sectors = 8 } };
	unsigned before;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	before = server_shared->logged;
	list[1] = (struct virtio_blk_discard_write_zeroes){ .num_sectors = 1, .flags = 1 };
	cr_expect_eq(clear(VIRTIO_BLK_T_DISCARD, list, 2), UNSUPP);
	list[1].flags = 2;
	cr_expect_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, list, 2), UNSUPP);
	list[1] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS, .num_sectors = 1 };
	cr_expect_eq(clear(VIRTIO_BLK_T_DISCARD, list, 2), IOERR);
	list[1] = (struct virtio_blk_discard_write_zeroes){ .sector = UINT64_MAX - 1,
							    .num_sectors = 2 };
	cr_expect_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, list, 2), IOERR);
	list[1].num_sectors = 0;
	list[1].sector = 0;
	cr_expect_eq(clear(VIRTIO_BLK_T_DISCARD, list, 17), IOERR);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_DISCARD, 0, data, 24), IOERR);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_DISCARD, 0, data, 0), IOERR);
	cr_expect_eq(server_shared->logged, before);
	vhost_client_free(client);
}

/* Layouts. */

static void put_descriptor(unsigned index, const uint8_t *memory, uint32_t length, bool writable,
			   bool last)
{
	ring->desc[index] = (struct vring_desc){
		.addr = vhost_client_guest(client, memory),
		.len = length,
		.flags = (uint16_t)((writable ? VRING_DESC_F_WRITE : 0) |
				    (last ? 0 : VRING_DESC_F_NEXT)),
		.next = (uint16_t)(index + 1),
	};
}

static void run_chain(void)
{
	vhost_client_make_available(ring, 0);
	vhost_client_notify(ring);
	cr_assert_eq(vhost_client_wait(ring, 5000), 0);
}

/* Without any framing: a header in three parts, the last of them with data behind, and odd pieces. */
Test(vhost, header_data_and_status_may_be_framed_in_any_way)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = 3 };
	uint8_t *status;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	status = data + 9000;
	memcpy(data, &header, 16);
	fill(data + 16, 1024, 1);
	put_descriptor(0, data, 1, false, false);
	put_descriptor(1, data + 1, 9, false, false);
	put_descriptor(2, data + 10, 6 + 700, false, false);
	put_descriptor(3, data + 16 + 700, 0, false, false);
	put_descriptor(4, data + 16 + 700, 324, false, false);
	put_descriptor(5, status, 1, true, true);
	*status = 0xee;
	run_chain();
	cr_assert_eq(*status, OK);
	cr_assert(is_filled(server_shared->bytes + 3 * 512, 1024, 1));

	header.type = VIRTIO_BLK_T_IN;
	memcpy(data, &header, 16);
	memset(data + 5000, 0xee, 2000);
	put_descriptor(0, data, 16, false, false);
	put_descriptor(1, data + 5000, 1, true, false);
	put_descriptor(2, data + 6000, 512, true, true);
	run_chain();
	cr_assert_eq(data[6000 + 511], OK, "the last byte of all is the status");
	cr_assert(data[5000] == server_shared->bytes[3 * 512] &&
		  !memcmp(data + 6000, server_shared->bytes + 3 * 512 + 1, 511));
	cr_assert_eq(data[6000 + 512], 0xee);
	vhost_client_free(client);
}

/* What the front end is told. */

Test(vhost, config_space_describes_the_disk)
{
	struct virtio_blk_config config;

	server_start(&(struct vsp_device_options){ .discard = true, .sector_bytes = 4096 });
	begin(&(struct vhost_client_options){ 0 });
	vhost_client_config(client, &config);
	cr_expect_eq(config.capacity, SECTORS);
	cr_expect_eq(config.blk_size, 4096);
	cr_expect_eq(config.physical_block_exp, 0);
	cr_expect_eq(config.wce, 1);
	cr_expect_eq(config.seg_max, 126);
	cr_expect_eq(config.max_discard_seg, 16);
	cr_expect_eq(config.max_write_zeroes_seg, 16);
	cr_expect_eq(config.write_zeroes_may_unmap, 1);
	cr_expect(client->features & feature(VIRTIO_BLK_F_DISCARD));
	cr_expect_not(client->features & feature(VIRTIO_BLK_F_RO));
	cr_expect_eq(vhost_client_get(client, 17), 64, "queues");
	vhost_client_free(client);
}

Test(vhost, a_read_only_disk_is_told_and_held_to)
{
	server_start(&(struct vsp_device_options){ .read_only = true });
	begin(&(struct vhost_client_options){ 0 });
	cr_expect(client->features & feature(VIRTIO_BLK_F_RO));
	cr_expect_not(client->features & feature(VIRTIO_BLK_F_WRITE_ZEROES));
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_OUT, 0, data, 512), IOERR);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, 0, data, 512), OK);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, data, 0), OK);
	vhost_client_free(client);
}

static uint64_t set_write_cache(uint8_t on)
{
	struct {
		uint32_t offset, size, flags;
		uint8_t byte;
	} __attribute__((packed)) config = { 32, 1, 0, on };

	return vhost_client_try(client, 25, &config, sizeof(config), NULL, 0);
}

static unsigned flags_of_a_write(void)
{
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_OUT, 0, data, 512), OK);
	return server_shared->log[server_shared->logged - 1].flags;
}

Test(vhost, writes_are_durable_when_the_guest_switches_the_cache_off)
{
	struct virtio_blk_discard_write_zeroes one = { .num_sectors = 1 };
	struct virtio_blk_config config;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	cr_expect_eq(flags_of_a_write(), 0);
	cr_expect_eq(set_write_cache(0), 0);
	vhost_client_config(client, &config);
	cr_expect_eq(config.wce, 0);
	cr_expect_eq(flags_of_a_write(), HV_IO_FUA);
	cr_expect_eq(clear(VIRTIO_BLK_T_WRITE_ZEROES, &one, 1), OK);
	cr_expect_eq(server_shared->log[server_shared->logged - 1].op, HV_FLUSH);
	cr_expect_eq(set_write_cache(1), 0);
	cr_expect_eq(flags_of_a_write(), 0);
	cr_expect_neq(set_write_cache(2), 0);
	vhost_client_free(client);
}

Test(vhost, writes_are_durable_for_a_guest_that_knows_no_flush)
{
	server_start(NULL);
	begin(&(struct vhost_client_options){ .without = feature(VIRTIO_BLK_F_FLUSH) });
	cr_expect_eq(flags_of_a_write(), HV_IO_FUA);
	vhost_client_free(client);
}

Test(vhost, another_size_is_told_on_the_back_channel)
{
	int pair[2];
	uint32_t head[3];
	struct virtio_blk_config config;
	struct pollfd pfd = { .events = POLLIN };

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(vhost_client_try(client, 21, NULL, 0, &pair[1], 1), 0);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, SECTORS, data, 512), IOERR);
	server_shared->size_bytes = SERVER_DISK_BYTES;
	pfd.fd = pair[0];
	cr_assert_eq(poll(&pfd, 1, 5000), 1, "no message");
	cr_assert_eq(read(pair[0], head, sizeof(head)), (ssize_t)sizeof(head));
	cr_expect(head[0] == 2 && head[1] == 1 && head[2] == 0);
	vhost_client_config(client, &config);
	cr_expect_eq(config.capacity, SERVER_DISK_BYTES / 512);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, SECTORS, data, 512), OK);
	close(pair[0]);
	close(pair[1]);
	vhost_client_free(client);
}

/* In flight. */

static void hold_writes(unsigned count, unsigned first)
{
	server_shared->holds = true;
	for (unsigned i = 0; i < count; i++) {
		fill(data + i * 512, 512, first + i);
		vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, first + i, data + i * 512, 512);
	}
	vhost_client_notify(ring);
	server_wait_held(count);
}

static void expect_writes(unsigned count, unsigned first)
{
	for (unsigned i = 0; i < count; i++) {
		int slot = vhost_client_wait(ring, 5000);

		cr_assert_geq(slot, 0, "only %u of %u are answered", i, count);
		cr_assert_eq(vhost_client_status(ring, (unsigned)slot), OK);
	}
	for (unsigned i = 0; i < count; i++)
		cr_assert(is_filled(server_shared->bytes + (size_t)(first + i) * 512, 512,
				    first + i));
	cr_assert_eq(vhost_client_wait(ring, 20), -1, "something is answered twice");
}

Test(vhost, what_completes_together_is_one_interrupt)
{
	uint64_t count;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	usleep(50000);
	(void)!read(ring->call_fd, &count, sizeof(count));
	hold_writes(8, 0);
	server_release();
	expect_writes(8, 0);
	hold_writes(8, 8);
	cr_assert_eq(read(ring->call_fd, &count, sizeof(count)), -1);
	server_release();
	usleep(50000);
	cr_assert_eq(read(ring->call_fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_assert_eq(count, 1);
	expect_writes(8, 8);
	vhost_client_free(client);
}

/* The next process does what the last one had fetched, in the same order, and nothing else. */
Test(vhost, a_killed_server_repeats_what_was_in_flight)
{
	const struct vhost_client_options options = { .inflight = true };
	unsigned before;

	server_start(NULL);
	begin(&options);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 50 + round; i++)
			cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), OK);
		hold_writes(20 + round, 100 * round);
		server_kill();
		before = server_shared->logged;
		server_release();
		server_start(NULL);
		vhost_client_reconnect(client, "disk", &options);
		expect_writes(20 + round, 100 * round);
		cr_assert_eq(server_shared->logged, before + 20 + round);
		for (unsigned i = 0; i < 20 + round; i++)
			cr_assert_eq(server_shared->log[before + i].offset,
				     (100 * round + i) * 512ull);
	}
	server_expect_log("repeating 24 requests");
	vhost_client_free(client);
}

Test(vhost, requests_made_while_nobody_serves_are_done_by_the_next_server)
{
	const struct vhost_client_options options = { .inflight = true };

	server_start(NULL);
	begin(&options);
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), OK);
	server_kill();
	fill(data, 512, 9);
	vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, 9, data, 512);
	vhost_client_notify(ring);
	server_start(NULL);
	vhost_client_reconnect(client, "disk", &options);
	expect_writes(1, 9);
	vhost_client_free(client);
}

/* The ring's position is told only when everything before it has been answered. */
Test(vhost, stopping_a_queue_waits_for_what_is_in_flight)
{
	uint32_t base;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	hold_writes(10, 0);
	vhost_client_set_ring(client, 11, 0, 0);
	usleep(50000);
	cr_assert_eq(ring->used->idx, 0);
	server_release();
	cr_assert_eq(vhost_client_receive(client, 11, (uint32_t[2]){ 0 }, 8, NULL), 8);
	cr_assert_eq(ring->used->idx, 10);
	base = vhost_client_stop_ring(client, 0);
	cr_assert_eq(base, 10);
	vhost_client_start_ring(client, 0, base);
	expect_writes(10, 0);
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), OK);
	vhost_client_free(client);
}

Test(vhost, memory_may_be_shared_anew_while_queues_run)
{
	const struct vhost_client_options options = { 0 };

	server_start(NULL);
	begin(&options);
	for (unsigned i = 0; i < 20; i++) {
		hold_writes(5, i * 5);
		vhost_client_share(client, &options);
		server_release();
		expect_writes(5, i * 5);
	}
	vhost_client_free(client);
}

Test(vhost, a_disabled_queue_rests)
{
	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	vhost_client_set_ring(client, 18, 0, 0);
	vhost_client_get(client, 1);
	fill(data, 512, 4);
	vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, 4, data, 512);
	vhost_client_notify(ring);
	cr_assert_eq(vhost_client_wait(ring, 50), -1);
	vhost_client_set_ring(client, 18, 0, 1);
	expect_writes(1, 4);
	vhost_client_free(client);
}

/* A disk that has stopped keeps what failed: nobody waits for that. */

static const struct vsp_device_options stopping = { .discard = true, .stops = true };

static void stop_disk(unsigned count, unsigned first)
{
	server_shared->fails = -ENOSPC;
	for (unsigned i = 0; i < count; i++) {
		fill(data + i * 512, 512, first + i);
		vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, first + i, data + i * 512, 512);
	}
	vhost_client_notify(ring);
	server_expect_log("has stopped");
	cr_assert_eq(vhost_client_wait(ring, 50), -1);
}

Test(vhost, a_guest_whose_disk_has_stopped_waits_and_is_not_told)
{
	server_start(&stopping);
	begin(&(struct vhost_client_options){ 0 });
	stop_disk(5, 0);
	server_shared->fails = 0;
	expect_writes(5, 0);
	server_expect_log("goes on");
	vhost_client_free(client);
}

Test(vhost, a_queue_of_a_stopped_disk_can_be_stopped_and_taken_up)
{
	uint32_t base;

	server_start(&stopping);
	begin(&(struct vhost_client_options){ .inflight = true });
	stop_disk(5, 0);
	base = vhost_client_stop_ring(client, 0);
	cr_assert_eq(ring->used->idx, 0);
	vhost_client_start_ring(client, 0, base);
	cr_assert_eq(vhost_client_wait(ring, 50), -1);
	server_shared->fails = 0;
	expect_writes(5, 0);
	vhost_client_free(client);
}

Test(vhost, memory_of_a_guest_whose_disk_has_stopped_may_be_shared_anew)
{
	server_start(&stopping);
	begin(&(struct vhost_client_options){ .inflight = true });
	stop_disk(5, 0);
	for (unsigned i = 0; i < 3; i++)
		vhost_client_share(client, &(struct vhost_client_options){ 0 });
	cr_assert_neq(vhost_client_get(client, 1), 0, "messages go on");
	server_shared->fails = 0;
	expect_writes(5, 0);
	vhost_client_free(client);
}

Test(vhost, a_front_end_comes_back_to_a_stopped_disk)
{
	const struct vhost_client_options options = { .inflight = true };

	server_start(&stopping);
	begin(&options);
	stop_disk(5, 0);
	for (unsigned i = 0; i < 3; i++)
		vhost_client_reconnect(client, "disk", &options);
	server_shared->fails = 0;
	expect_writes(5, 0);
	vhost_client_free(client);
}

Test(vhost, a_server_whose_disk_has_stopped_ends_and_leaves_the_rest_to_the_next)
{
	const struct vhost_client_options options = { .inflight = true };

	server_start(&stopping);
	begin(&options);
	stop_disk(5, 0);
	server_stop();
	server_shared->fails = 0;
	server_start(&stopping);
	vhost_client_reconnect(client, "disk", &options);
	expect_writes(5, 0);
	vhost_client_free(client);
}

/* It could not ask again: better an error than never an answer. */
Test(vhost, a_guest_without_tracking_is_told_when_its_queue_is_stopped)
{
	server_start(&stopping);
	begin(&(struct vhost_client_options){ 0 });
	stop_disk(1, 0);
	vhost_client_stop_ring(client, 0);
	cr_assert_eq(ring->used->idx, 1);
	cr_assert_eq(vhost_client_status(ring, 0), IOERR);
	vhost_client_free(client);
}

/* Front ends come and go. */

Test(vhost, the_next_front_end_waits_for_what_the_last_one_left)
{
	struct vhost_client *first, *second;

	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	hold_writes(10, 0);
	first = client;
	second = vhost_client_connect("disk", &(struct vhost_client_options){ 0 });
	vhost_client_free(first);
	vhost_client_send(second, 1, 0, NULL, 0, NULL, 0);
	cr_assert_eq(poll(&(struct pollfd){ .fd = second->socket, .events = POLLIN }, 1, 100), 0,
		     "served while the first one's requests are in flight");
	server_release();
	cr_assert_eq(vhost_client_receive(second, 1, (uint64_t[1]){ 0 }, 8, NULL), 8);
	for (unsigned i = 0; i < 10; i++)
		cr_assert(is_filled(server_shared->bytes + (size_t)i * 512, 512, i));
	vhost_client_free(second);
}

Test(vhost, a_server_that_ends_finishes_what_is_in_flight)
{
	server_start(NULL);
	begin(&(struct vhost_client_options){ 0 });
	hold_writes(10, 0);
	server_release();
	server_stop();
	expect_writes(10, 0);
	cr_assert(vhost_client_hung_up(client));
	cr_assert_neq(access("disk", F_OK), 0);
	vhost_client_free(client);
}

Test(vhost, front_ends_come_and_go)
{
	server_start(NULL);
	for (unsigned i = 0; i < 100; i++) {
		begin(&(struct vhost_client_options){ .inflight = i % 2, .slots = i % 3 == 0 });
		if (i % 5)
			cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_IN, i, data, 512), OK);
		vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, i, data, 512);
		vhost_client_notify(ring);
		vhost_client_free(client);
	}
}

/* Interrupts held back. */

#define INTERRUPT_COSTS_NS UINT64_C(300000)
#define REQUEST_COSTS_NS UINT64_C(20000)
#define LOAD_NS UINT64_C(200000000)

struct load {
	unsigned interrupts, answers;
};

static void spend(uint64_t ns)
{
	uint64_t end = hv_now_ns() + ns;

	while (hv_now_ns() < end)
		;
}

static bool is_interrupted(void)
{
	uint64_t count;

	return read(ring->call_fd, &count, sizeof(count)) == sizeof(count);
}

/* A guest to which an interrupt is dear, and that always has more to ask for. */
static struct load run_load(void)
{
	uint64_t end = hv_now_ns() + LOAD_NS;
	struct load load = { 0 };

	while (hv_now_ns() < end) {
		if (is_interrupted()) {
			load.interrupts++;
			spend(INTERRUPT_COSTS_NS);
			while (vhost_client_wait(ring, 0) >= 0)
				load.answers++;
		}
		if (ring->free_count) {
			vhost_client_prepare(ring, VIRTIO_BLK_T_IN, 0, data, 512);
			vhost_client_notify(ring);
		}
		spend(REQUEST_COSTS_NS);
	}
	return load;
}

/* That it is so once is enough: what comes of a trial depends on what else the machine does. */
static void begin_where_interrupts_are_held(void)
{
	uint64_t end = hv_now_ns() + UINT64_C(15000000000);
	struct load load = { 0 };

	server_start(&(struct vsp_device_options){ .coalesce = true });
	begin(&(struct vhost_client_options){ 0 });
	do {
		cr_assert_lt(hv_now_ns(), end, "%u interrupts for %u answers", load.interrupts,
			     load.answers);
		load = run_load();
	} while (load.answers < 8 * load.interrupts);
}

Test(vhost, a_guest_that_gains_by_it_is_interrupted_less_often)
{
	begin_where_interrupts_are_held();
	while (ring->in_flight)
		cr_assert_geq(vhost_client_wait(ring, 5000), 0, "and it is, always");
	vhost_client_free(client);
}

Test(vhost, a_ring_that_is_stopped_holds_nothing_back)
{
	uint16_t used;

	begin_where_interrupts_are_held();
	while (ring->in_flight)
		cr_assert_geq(vhost_client_wait(ring, 5000), 0);
	cr_assert_eq(vhost_client_wait(ring, 1), -1, "now it wants to hear of the next");
	is_interrupted();
	used = ring->used->idx;
	vhost_client_prepare(ring, VIRTIO_BLK_T_IN, 0, data, 512);
	vhost_client_notify(ring);
	while (__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) == used)
		;
	vhost_client_stop_ring(client, 0);
	cr_expect(is_interrupted());
	vhost_client_free(client);
}
