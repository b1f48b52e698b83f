/*
 * Rings by their own contract: memory in pieces, interrupts that are asked for, and what the
 * in-flight region tells when the process dies between any two stores.
 */
#include "vsp-storage/virtqueue.h"

#include <criterion/criterion.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION 8192u
#define USER UINT64_C(0x7f0000000000)
#define SIZE 16

static struct vsp_guest_memory memory;
static struct vsp_inflight tracked;
static struct vsp_virtqueue queue;
static struct vring_desc *desc;
static struct vring_avail *avail;
static struct vring_used *used;
static struct vsp_ring_setup setup = {
	.size = SIZE, .descriptors = USER, .avail = USER + 512, .used = USER + 1024
};

/* Two regions that adjoin for the guest, from address 0, and not here. */
static void init(void)
{
	int fd = memfd_create("guest", 0);

	cr_assert_eq(ftruncate(fd, 4 * REGION), 0);
	cr_assert_eq(vsp_guest_memory_add(&memory, 0, USER, REGION, fd, 0, NULL), 0);
	cr_assert_eq(vsp_guest_memory_add(&memory, REGION, USER + 4 * REGION, REGION, fd,
					  2 * REGION, NULL),
		     0);
	close(fd);
	fd = vsp_inflight_create(1, SIZE, NULL);
	cr_assert_eq(vsp_inflight_open(fd, 0, vsp_inflight_bytes(1, SIZE), 1, SIZE, &tracked, NULL),
		     0);
	close(fd);
	desc = (struct vring_desc *)memory.regions[0].host;
	avail = (struct vring_avail *)(memory.regions[0].host + 512);
	used = (struct vring_used *)(memory.regions[0].host + 1024);
}

static void fini(void)
{
	vsp_guest_memory_done(&memory);
	vsp_inflight_close(&tracked);
}

TestSuite(virtqueue, .init = init, .fini = fini);

static void start(bool track)
{
	HV_ERR(err);

	setup.base = used->idx;
	cr_assert_eq(vsp_virtqueue_start(&queue, &setup, &memory,
					 track ? vsp_inflight_ring(&tracked, 0, SIZE) : NULL, &err),
		     0, "%s", err.sentence);
}

static void offer(uint16_t head)
{
	avail->ring[avail->idx % SIZE] = head;
	avail->idx++;
}

static uint16_t fetch(void)
{
	uint16_t head;

	cr_assert_eq(vsp_virtqueue_next(&queue, &head, NULL), 1);
	return head;
}

Test(virtqueue, memory_comes_in_the_pieces_that_it_lies_in)
{
	struct iovec iov[VSP_CHAIN_PIECES_MAX];
	struct vsp_chain chain;

	/* Two that adjoin, one over the border, and something to write. */
	desc[3] = (struct vring_desc){ 4096, 100, VRING_DESC_F_NEXT, 4 };
	desc[4] = (struct vring_desc){ 4196, 50, VRING_DESC_F_NEXT, 1 };
	desc[1] = (struct vring_desc){ REGION - 10, 30, VRING_DESC_F_NEXT, 0 };
	desc[0] = (struct vring_desc){ 2 * REGION - 1, 1, VRING_DESC_F_WRITE, 0 };
	offer(3);
	start(false);
	cr_assert_eq(vsp_virtqueue_chain(&queue, fetch(), &chain, iov, NULL), 0);
	cr_expect_eq(chain.readable_count, 3);
	cr_expect_eq(chain.readable_bytes, 180);
	cr_expect_eq(chain.writable_count, 1);
	cr_expect(iov[0].iov_base == memory.regions[0].host + 4096 && iov[0].iov_len == 150);
	cr_expect(iov[1].iov_base == memory.regions[0].host + REGION - 10 && iov[1].iov_len == 10);
	cr_expect(iov[2].iov_base == memory.regions[1].host && iov[2].iov_len == 20);
	cr_expect_eq(iov[3].iov_base, memory.regions[1].host + REGION - 1);
}

/* With an event index the guest names the answer that it waits for. */
Test(virtqueue, the_guest_is_interrupted_when_it_asked_for_that)
{
	uint16_t *used_event = &avail->ring[SIZE], event;

	setup.event_idx = true;
	start(false);
	*used_event = 2;
	for (unsigned i = 0; i < 6; i++) {
		offer((uint16_t)i);
		vsp_virtqueue_complete(&queue, fetch(), 0);
		/* The first is owed to whoever was there before. */
		cr_expect_eq(vsp_virtqueue_publish(&queue), i == 0 || i == 2, "answer %u", i);
	}
	*used_event = 8;
	for (unsigned i = 6; i < 10; i++) {
		offer((uint16_t)i);
		vsp_virtqueue_complete(&queue, fetch(), 0);
	}
	cr_expect(vsp_virtqueue_publish(&queue), "it was among them");
	cr_expect_not(vsp_virtqueue_publish(&queue), "nothing new");
	cr_expect(vsp_virtqueue_rest(&queue));
	memcpy(&event, &used->ring[SIZE], sizeof(event));
	cr_expect_eq(event, 10);
}

Test(virtqueue, without_an_event_index_flags_say_it)
{
	setup.event_idx = false;
	start(false);
	for (unsigned i = 0; i < 4; i++) {
		avail->flags = i % 2 ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		offer((uint16_t)i);
		vsp_virtqueue_complete(&queue, fetch(), 0);
		cr_expect_eq(vsp_virtqueue_publish(&queue), i % 2 == 0);
	}
	vsp_virtqueue_wake(&queue);
	cr_expect_eq(used->flags, VRING_USED_F_NO_NOTIFY);
	offer(1);
	cr_expect_not(vsp_virtqueue_rest(&queue), "one is there already");
	cr_expect_eq(used->flags, 0);
}

Test(virtqueue, indices_wrap)
{
	avail->idx = used->idx = 65530;
	start(true);
	for (unsigned i = 0; i < 100; i++) {
		offer((uint16_t)(i % SIZE));
		cr_assert_eq(fetch(), i % SIZE);
		vsp_virtqueue_complete(&queue, (uint16_t)(i % SIZE), i);
		vsp_virtqueue_publish(&queue);
		cr_assert_eq(used->idx, (uint16_t)(65531 + i));
		cr_assert_eq(used->ring[(uint16_t)(65530 + i) % SIZE].len, i);
	}
}

/* What the next process takes up after this one was killed. */
static unsigned repeated(uint16_t *heads)
{
	unsigned count = 0;

	start(true);
	while (vsp_virtqueue_next(&queue, &heads[count], NULL) == 1)
		count++;
	return count;
}

Test(virtqueue, what_was_fetched_and_not_answered_is_repeated_in_order)
{
	uint16_t heads[SIZE];

	start(true);
	for (unsigned i = 0; i < 8; i++)
		offer((uint16_t)(15 - i));
	for (unsigned i = 0; i < 8; i++)
		fetch();
	vsp_virtqueue_complete(&queue, 13, 0);
	vsp_virtqueue_complete(&queue, 9, 0);
	vsp_virtqueue_publish(&queue);
	/* Answered, and not published: the guest knows nothing of it. */
	vsp_virtqueue_complete(&queue, 11, 0);
	cr_assert_eq(repeated(heads), 6);
	cr_assert_arr_eq(heads, ((uint16_t[]){ 15, 14, 12, 11, 10, 8 }), 6 * sizeof(heads[0]));
	/* And once more; a new one comes behind them. */
	offer(1);
	cr_assert_eq(repeated(heads), 7);
	cr_assert_eq(heads[6], 1);
}

/* Killed between the publication and what follows it: the last batch is known by its links. */
Test(virtqueue, a_batch_that_was_published_is_not_repeated)
{
	struct vsp_inflight_ring *region = vsp_inflight_ring(&tracked, 0, SIZE);
	uint16_t heads[SIZE];

	for (unsigned cleared = 0; cleared <= 3; cleared++) {
		start(true);
		for (unsigned i = 0; i < 5; i++)
			offer((uint16_t)(i + cleared));
		for (unsigned i = 0; i < 5; i++)
			fetch();
		for (unsigned i = 1; i < 4; i++)
			vsp_virtqueue_complete(&queue, (uint16_t)(i + cleared), 0);
		/* As publishing does, and no further. */
		used->idx = (uint16_t)(used->idx + 3);
		for (unsigned i = 0; i < cleared; i++)
			region->entries[i + 1 + cleared].inflight = 0;
		cr_assert_eq(repeated(heads), 2, "%u cleared", cleared);
		cr_assert_eq(heads[0], cleared);
		cr_assert_eq(heads[1], cleared + 4);
		vsp_virtqueue_complete(&queue, heads[0], 0);
		vsp_virtqueue_complete(&queue, heads[1], 0);
		vsp_virtqueue_publish(&queue);
		cr_assert_eq(repeated(heads), 0);
	}
}
