/*
 * Guests and front ends that do not keep to the rules: each loses what it has, with a line in the
 * log, and a second device on the same loop goes on.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/vhost_client.h"
#include "tests/support/vhost_server.h"

static struct vhost_client *client, *other;
static struct vhost_client_ring *ring;
static uint8_t *data;

static void begin(void)
{
	server_init();
	server_start(NULL);
	client = vhost_client_new("disk", &(struct vhost_client_options){ 0 });
	other = vhost_client_new("other", &(struct vhost_client_options){ 0 });
	ring = &client->rings[0];
	data = client->memory + VHOST_CLIENT_DATA;
}

/* Nobody else has noticed, and the socket serves again. */
static void end(void)
{
	cr_expect_eq(vhost_client_do(&other->rings[0], VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
	vhost_client_free(client);
	client = vhost_client_new("disk", &(struct vhost_client_options){ 0 });
	cr_expect_eq(vhost_client_do(&client->rings[0], VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
	vhost_client_free(client);
	vhost_client_free(other);
	server_done();
}

TestSuite(vhost_hostile, .init = begin, .fini = end, .timeout = 20);

/* Each test is another process, in which the same table may lie elsewhere. */
static struct criterion_test_params indices(unsigned count)
{
	static unsigned list[64];

	for (unsigned i = 0; i < count; i++)
		list[i] = i;
	return cr_make_param_array(unsigned, list, count);
}

/* Rings. */

static void describe(struct vring_desc *desc, uint64_t address, uint32_t length, unsigned flags,
		     unsigned next)
{
	*desc = (struct vring_desc){ address, length, (uint16_t)flags, (uint16_t)next };
}

static uint64_t guest(unsigned offset)
{
	return vhost_client_guest(client, data + offset);
}

static void head_outside_the_ring(void)
{
	vhost_client_make_available(ring, 128);
}

static void same_head_twice(void)
{
	server_shared->holds = true;
	vhost_client_prepare(ring, VIRTIO_BLK_T_OUT, 0, data, 512);
	vhost_client_make_available(ring, ring->avail->ring[0]);
}

static void more_than_the_ring_holds(void)
{
	ring->next_avail = (uint16_t)(ring->next_avail + 129);
}

static void loop_in_the_ring(void)
{
	describe(&ring->desc[5], guest(0), 16, VRING_DESC_F_NEXT, 6);
	describe(&ring->desc[6], guest(16), 16, VRING_DESC_F_NEXT, 5);
	vhost_client_make_available(ring, 5);
}

static void loop_of_empty_descriptors(void)
{
	describe(&ring->desc[5], guest(0), 0, VRING_DESC_F_NEXT, 5);
	vhost_client_make_available(ring, 5);
}

static void chain_that_leaves_the_ring(void)
{
	describe(&ring->desc[0], guest(0), 16, VRING_DESC_F_NEXT, 128);
	vhost_client_make_available(ring, 0);
}

static void memory_that_is_none(void)
{
	describe(&ring->desc[0], 0x1000, 16, 0, 0);
	vhost_client_make_available(ring, 0);
}

static void memory_beyond_the_end(void)
{
	describe(&ring->desc[0], guest(0), UINT32_MAX, 0, 0);
	vhost_client_make_available(ring, 0);
}

static void memory_that_wraps(void)
{
	describe(&ring->desc[0], UINT64_MAX - 7, 16, 0, 0);
	vhost_client_make_available(ring, 0);
}

static void indirect_in_indirect(void)
{
	struct vring_desc *table = (struct vring_desc *)data;

	describe(table, guest(0), 16, VRING_DESC_F_INDIRECT, 0);
	describe(&ring->desc[0], guest(0), 16, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static void indirect_with_more_behind(void)
{
	describe(&ring->desc[0], guest(0), 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	vhost_client_make_available(ring, 0);
}

static void indirect_of_an_odd_length(void)
{
	describe(&ring->desc[0], guest(0), 17, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static void indirect_loop(void)
{
	struct vring_desc *table = (struct vring_desc *)data;

	describe(&table[0], guest(64), 0, VRING_DESC_F_NEXT, 1);
	describe(&table[1], guest(64), 0, VRING_DESC_F_NEXT, 0);
	describe(&ring->desc[0], guest(0), 32, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static void indirect_that_leaves_its_table(void)
{
	struct vring_desc *table = (struct vring_desc *)data;

	describe(&table[0], guest(64), 16, VRING_DESC_F_NEXT, 2);
	describe(&ring->desc[0], guest(0), 32, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static void indirect_outside_memory(void)
{
	describe(&ring->desc[0], 0x10, 32, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static void readable_behind_writable(void)
{
	describe(&ring->desc[0], guest(0), 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	describe(&ring->desc[1], guest(16), 16, 0, 0);
	vhost_client_make_available(ring, 0);
}

static void no_room_for_the_header(void)
{
	describe(&ring->desc[0], guest(0), 15, VRING_DESC_F_NEXT, 1);
	describe(&ring->desc[1], guest(16), 1, VRING_DESC_F_WRITE, 0);
	vhost_client_make_available(ring, 0);
}

static void no_room_for_the_status(void)
{
	describe(&ring->desc[0], guest(0), 16, 0, 0);
	vhost_client_make_available(ring, 0);
}

static void too_many_pieces(void)
{
	struct vring_desc *table = (struct vring_desc *)data;

	for (unsigned i = 0; i < 300; i++)
		describe(&table[i], guest(8192 + 2 * i), 1, VRING_DESC_F_NEXT, i + 1);
	describe(&ring->desc[0], guest(0), 300 * 16, VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, 0);
}

static const struct attack {
	void (*make)(void);
	const char *log;
} attacks[] = {
	{ head_outside_the_ring, "descriptor 128 of 128" },
	{ same_head_twice, "while in use" },
	{ more_than_the_ring_holds, "129 requests" },
	{ loop_in_the_ring, "or a loop" },
	{ loop_of_empty_descriptors, "or a loop" },
	{ chain_that_leaves_the_ring, "goes on to descriptor 128" },
	{ memory_that_is_none, "0x1000, which is not memory" },
	{ memory_beyond_the_end, "which is not memory" },
	{ memory_that_wraps, "which is not memory" },
	{ indirect_in_indirect, "names another" },
	{ indirect_with_more_behind, "behind an indirect table" },
	{ indirect_of_an_odd_length, "17 bytes" },
	{ indirect_loop, "or a loop" },
	{ indirect_that_leaves_its_table, "descriptor 2 of 2" },
	{ indirect_outside_memory, "not in memory" },
	{ readable_behind_writable, "behind memory to write" },
	{ no_room_for_the_header, "no room" },
	{ no_room_for_the_status, "no room" },
	{ too_many_pieces, "pieces" },
};

ParameterizedTestParameters(vhost_hostile, a_bad_ring_is_stopped)
{
	return indices(sizeof(attacks) / sizeof(attacks[0]));
}

/* The guest hears nothing more of that queue until it sets it up again. */
ParameterizedTest(unsigned *index, vhost_hostile, a_bad_ring_is_stopped)
{
	const struct attack *attack = &attacks[*index];
	struct pollfd pfd = { .fd = ring->err_fd, .events = POLLIN };

	attack->make();
	vhost_client_notify(ring);
	cr_assert_eq(poll(&pfd, 1, 5000), 1, "not told");
	server_expect_log(attack->log);
	server_expect_log("queue 0 is stopped");
	server_release();
	ring->avail->idx = ring->next_avail;
	cr_expect_eq(vhost_client_do(&other->rings[0], VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
	vhost_client_stop_ring(client, 0);
	memset(ring->desc, 0, 64u << 10);
	ring->next_avail = ring->next_used = 0;
	ring->in_flight = 0;
	vhost_client_start_ring(client, 0, 0);
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
}

/* Messages. */

enum what { NO_FD, MEMORY_FD, PIPE_FD, EIGHT_FDS };

static const struct letter {
	uint32_t request, flags, size;
	enum what fds;
	uint64_t words[8];
	const char *log;
} letters[] = {
	{ 0, 0, 0, NO_FD, { 0 }, "unknown" },
	{ 99, 0, 0, NO_FD, { 0 }, "unknown" },
	{ UINT32_MAX, 0, 0, NO_FD, { 0 }, "unknown" },
	{ 1, 0, 8, NO_FD, { 0 }, "GET_FEATURES has a size" },
	{ 2, 0, 4, NO_FD, { 0 }, "SET_FEATURES has a size" },
	{ 2, 0, 8, NO_FD, { UINT64_MAX }, "not offered" },
	{ 2, 0, 273, NO_FD, { 0 }, "273 bytes" },
	{ 2, 0, 8, MEMORY_FD, { 0 }, "SET_FEATURES has 1 descriptors" },
	{ 1, 2, 0, NO_FD, { 0 }, "flags" },
	{ 1, 4, 0, NO_FD, { 0 }, "flags" },
	{ 16, 0, 8, NO_FD, { 2 }, "not offered" },
	{ 5, 0, 40, NO_FD, { 1, 0, 4096, 0, 0 }, "0 descriptors" },
	{ 5, 0, 40, EIGHT_FDS, { 8, 0, 4096, 0, 0 }, "8 regions in 40 bytes" },
	{ 5, 0, 40, MEMORY_FD, { UINT32_MAX, 0, 4096, 0, 0 }, "4294967295 regions" },
	{ 5, 0, 40, MEMORY_FD, { 1, 0, 0, 0, 0 }, "wraps" },
	{ 5, 0, 40, MEMORY_FD, { 1, 4096, UINT64_MAX - 4095, 0, 0 }, "wraps" },
	{ 5, 0, 40, MEMORY_FD, { 1, 0, 4096, UINT64_MAX - 1, 0 }, "wraps" },
	{ 5, 0, 40, MEMORY_FD, { 1, 0, 16u << 20, 0, 0 }, "not inside its file" },
	{ 5, 0, 40, MEMORY_FD, { 1, 0, 4096, 0, UINT64_MAX - 100 }, "not inside its file" },
	{ 5, 0, 40, PIPE_FD, { 1, 0, 4096, 0, 0 }, "no file" },
	{ 37, 0, 40, NO_FD, { 0, 0, 4096, 0, 0 }, "0 descriptors" },
	{ 37, 0, 40, MEMORY_FD, { 0, VHOST_CLIENT_GUEST_BASE + 4096, 4096, 0, 0 }, "overlaps" },
	{ 37, 0, 40, MEMORY_FD, { 0, 0, 4096, VHOST_CLIENT_USER_BASE, 0 }, "overlaps" },
	{ 38, 0, 40, NO_FD, { 0, 0, 4096, 0, 0 }, "there is no memory region" },
	{ 8, 0, 8, NO_FD, { 64 | 16ull << 32 }, "no queue 64" },
	{ 8, 0, 8, NO_FD, { 0 | 128ull << 32 }, "running" },
	{ 8, 0, 8, NO_FD, { 1 | 100ull << 32 }, "cannot have 100" },
	{ 8, 0, 8, NO_FD, { 1 | 2048ull << 32 }, "cannot have 2048" },
	{ 8, 0, 8, NO_FD, { 1 }, "cannot have 0" },
	{ 10, 0, 8, NO_FD, { 1 | 65536ull << 32 }, "cannot go on" },
	{ 9, 0, 40, NO_FD, { 1ull << 32 }, "dirty logging" },
	{ 11, 0, 8, NO_FD, { 200 }, "no queue 200" },
	{ 12, 0, 8, NO_FD, { 1 | 0x100 }, "polled" },
	{ 12, 0, 8, NO_FD, { 1 }, "0 descriptors" },
	{ 12, 0, 8, MEMORY_FD, { 1 }, "cannot watch" },
	{ 12, 0, 8, PIPE_FD, { 1 | 0x100 }, "1 descriptors" },
	{ 13, 0, 8, MEMORY_FD, { 0 }, "eventfd" },
	{ 13, 0, 8, PIPE_FD, { 0 }, "eventfd" },
	{ 14, 0, 8, PIPE_FD, { 0 }, "eventfd" },
	{ 18, 0, 8, NO_FD, { 70 | 1ull << 32 }, "no queue 70" },
	{ 25, 0, 20, NO_FD, { 0 | 8ull << 32 }, "cannot be changed" },
	{ 25, 0, 12, NO_FD, { 250 | 8ull << 32 }, "not in the config" },
	{ 25, 0, 12, NO_FD, { 0 | 8ull << 32 }, "not in the config" },
	{ 31, 0, 24, NO_FD, { 0, 0, 0 }, "0 rings" },
	{ 31, 0, 24, NO_FD, { 0, 0, 1 | 2048u << 16 }, "not possible" },
	{ 32, 0, 24, MEMORY_FD, { 4096, 0, 1 | 128u << 16 }, "while queues are running" },
	{ 32, 0, 24, NO_FD, { 0, 0, 0 }, "0 descriptors" },
	{ 21, 0, 0, NO_FD, { 0 }, "0 descriptors" },
	{ 21, 0, 0, EIGHT_FDS, { 0 }, "8 descriptors" },
};

ParameterizedTestParameters(vhost_hostile, a_bad_message_ends_the_connection)
{
	return indices(sizeof(letters) / sizeof(letters[0]));
}

static void send_letter(const struct letter *letter, uint32_t flags)
{
	int fds[8], pair[2], memory = client->memory_fd;
	uint8_t payload[512] = { 0 };

	cr_assert_eq(pipe(pair), 0);
	for (unsigned i = 0; i < 8; i++)
		fds[i] = letter->fds == PIPE_FD ? pair[1] : memory;
	memcpy(payload, letter->words, sizeof(letter->words));
	vhost_client_send(client, letter->request, letter->flags | flags, payload,
			  letter->size < sizeof(payload) ? letter->size : 64, fds,
			  letter->fds == EIGHT_FDS ? 8 : letter->fds != NO_FD);
	close(pair[0]);
	close(pair[1]);
}

ParameterizedTest(unsigned *index, vhost_hostile, a_bad_message_ends_the_connection)
{
	const struct letter *letter = &letters[*index];

	send_letter(letter, 0);
	cr_assert(vhost_client_hung_up(client), "still connected");
	server_expect_log("the front end is disconnected");
	server_expect_log(letter->log);
}

Test(vhost_hostile, who_asks_for_an_answer_is_told_of_a_failure)
{
	const struct letter letter = { 8, 0, 8, NO_FD, { 1 | 100ull << 32 }, NULL };
	uint64_t answer = 0;

	send_letter(&letter, 8);
	cr_assert_eq(vhost_client_receive(client, 8, &answer, 8, NULL), 8);
	cr_expect_neq(answer, 0);
	server_expect_log("cannot have 100");
	cr_expect_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
}

Test(vhost_hostile, more_descriptors_than_a_message_may_have)
{
	int fds[16];

	for (unsigned i = 0; i < 16; i++)
		fds[i] = client->memory_fd;
	vhost_client_send(client, 1, 0, NULL, 0, fds, 16);
	cr_assert(vhost_client_hung_up(client));
	server_expect_log("more than 8 descriptors");
}

Test(vhost_hostile, before_anything_is_agreed_upon)
{
	uint8_t payload[12] = { 0 };

	vhost_client_free(client);
	client = vhost_client_connect("disk", &(struct vhost_client_options){ 0 });
	vhost_client_send(client, 24, 0, payload, sizeof(payload), NULL, 0);
	cr_assert(vhost_client_hung_up(client));
	server_expect_log("not agreed upon");
}

/* Rings without memory, sizes or addresses: started in the wrong order. */
Test(vhost_hostile, rings_before_memory)
{
	vhost_client_free(client);
	client = vhost_client_connect("disk", &(struct vhost_client_options){ 0 });
	vhost_client_agree(client, &(struct vhost_client_options){ 0 });
	vhost_client_start_ring(client, 0, 0);
	server_expect_log("is not in memory");
}

Test(vhost_hostile, half_a_message_and_then_nothing)
{
	cr_assert_eq(write(client->socket, "\1\0\0\0\1\0", 6), 6);
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
	shutdown(client->socket, SHUT_WR);
	server_expect_log("in the middle of a message");
}

Test(vhost_hostile, who_does_not_read_answers)
{
	uint32_t get[3] = { 1, 1, 0 };

	for (unsigned i = 0; i < 100000; i++)
		if (send(client->socket, get, sizeof(get), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		    vhost_client_hung_up(client))
			break;
	server_expect_log("answer message 1");
}

/* Memory. */

Test(vhost_hostile, memory_is_taken_away)
{
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_OUT, 0, data, 4096), 0);
	server_shared->holds = true;
	vhost_client_prepare(ring, VIRTIO_BLK_T_IN, 0, data, 4096);
	vhost_client_notify(ring);
	server_wait_held(1);
	cr_assert_eq(ftruncate(client->memory_fd, 0), 0);
	server_release();
	cr_assert(vhost_client_hung_up(client));
	server_expect_log("shared memory was taken away");
}

/* Only the ring is left. */
Test(vhost_hostile, data_is_taken_away)
{
	vhost_client_prepare(ring, VIRTIO_BLK_T_IN, 0, data, 4096);
	cr_assert_eq(ftruncate(client->memory_fd, VHOST_CLIENT_DATA), 0);
	vhost_client_notify(ring);
	cr_assert(vhost_client_hung_up(client));
	server_expect_log("shared memory was taken away");
}

Test(vhost_hostile, the_in_flight_region_is_made_too_short)
{
	struct {
		uint64_t length, offset;
		uint16_t ring_count, ring_size;
	} region = { 4096, 0, 1, 128 };
	int fd = memfd_create("short", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, 4096), 0);
	vhost_client_stop_ring(client, 0);
	cr_assert_eq(vhost_client_try(client, 32, &region, sizeof(region), &fd, 1), 0);
	region.length = 1024;
	cr_assert_neq(vhost_client_try(client, 32, &region, sizeof(region), &fd, 1), 0);
	cr_assert_eq(ftruncate(fd, 0), 0);
	vhost_client_start_ring(client, 0, 0);
	cr_assert(vhost_client_hung_up(client));
	server_expect_log("shared memory was taken away");
	close(fd);
}

/* What a guest writes into the region is worth nothing. */
Test(vhost_hostile, the_in_flight_region_lies)
{
	const struct vhost_client_options options = { .inflight = true };
	uint8_t *region;

	vhost_client_free(client);
	client = vhost_client_new("disk", &options);
	ring = &client->rings[0];
	cr_assert_eq(vhost_client_do(ring, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), 0);
	region = mmap(NULL, client->inflight_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		      client->inflight_fd, 0);
	cr_assert_neq(region, MAP_FAILED);
	memset(region + 12, 0xff, client->inflight_bytes - 12);
	vhost_client_reconnect(client, "disk", &options);
	server_expect_log("queue 0 is stopped");
	munmap(region, client->inflight_bytes);
}
