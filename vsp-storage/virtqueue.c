/*
 * Split virtqueues, the device's side. Fields that both sides touch are loaded and stored as
 * atomics: acquire and release for the two indices, and a full barrier where each side writes one
 * word and then reads the other's (notifications, 2.7.7 and 2.7.10).
 */
#include "vsp-storage/virtqueue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "hvcore/checked.h"

/* Rings are little-endian, or (legacy) the guest's; both are ours. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are read as they are");

enum descriptor_flags { NEXT = 1, WRITABLE = 2, INDIRECT = 4 };

struct vsp_ring_descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

#define NO_INTERRUPT 1

struct vsp_ring_avail {
	uint16_t flags, index;
	uint16_t ring[]; /* and behind it used_event */
};

struct used_entry {
	uint32_t head, written;
};

#define NO_NOTIFY 1

struct vsp_ring_used {
	uint16_t flags, index;
	struct used_entry ring[]; /* and behind it avail_event */
};

static_assert(sizeof(struct vsp_ring_descriptor) == 16, "2.7.5");
static_assert(sizeof(struct vsp_ring_avail) == 4, "2.7.6");
static_assert(sizeof(struct used_entry) == 8 && sizeof(struct vsp_ring_used) == 4, "2.7.8");

#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, value) __atomic_store_n(p, value, __ATOMIC_RELAXED)

static uint16_t *used_event(const struct vsp_virtqueue *queue)
{
	return &queue->avail->ring[queue->size];
}

static uint16_t *avail_event(const struct vsp_virtqueue *queue)
{
	return (uint16_t *)&queue->used->ring[queue->size];
}

static bool is_taken(const struct vsp_virtqueue *queue, uint16_t head)
{
	return queue->taken[head / 64] >> head % 64 & 1;
}

/* One of the three parts of a ring. */
static int find_part(const struct vsp_guest_memory *memory, const char *what, uint64_t user,
		     uint64_t bytes, unsigned alignment, void **ret, struct hv_err *err)
{
	void *part = vsp_guest_memory_at_user(memory, user, bytes);

	if (!part)
		return hv_fail(err, -EINVAL, "%s of %llu bytes at %#llx is not in memory", what,
			       (unsigned long long)bytes, (unsigned long long)user);
	if ((uintptr_t)part % alignment)
		return hv_fail(err, -EINVAL, "%s at %#llx is not aligned to %u bytes", what,
			       (unsigned long long)user, alignment);
	*ret = part;
	return 0;
}

int vsp_virtqueue_move(struct vsp_virtqueue *queue, const struct vsp_ring_setup *setup,
		       struct hv_err *err)
{
	const struct vsp_guest_memory *memory = queue->memory;
	uint64_t size = setup->size;
	void *descriptors, *avail, *used;
	int rc = find_part(memory, "descriptor table", setup->descriptors, 16 * size, 16,
			   &descriptors, err);

	if (rc == 0)
		rc = find_part(memory, "available ring", setup->avail, 6 + 2 * size, 2, &avail,
			       err);
	if (rc == 0)
		rc = find_part(memory, "used ring", setup->used, 6 + 8 * size, 4, &used, err);
	if (rc)
		return rc;
	queue->descriptors = descriptors;
	queue->avail = avail;
	queue->used = used;
	return 0;
}

/* Everything that was fetched and not answered is there again, and only that. */
static void recover(struct vsp_virtqueue *queue)
{
	queue->again_count = vsp_inflight_recover(queue->inflight, queue->size, queue->used_idx,
						  queue->again_heads, &queue->counter);
	queue->next_avail = (uint16_t)(queue->used_idx + queue->again_count);
}

int vsp_virtqueue_start(struct vsp_virtqueue *queue, const struct vsp_ring_setup *setup,
			struct vsp_guest_memory *memory, struct vsp_inflight_ring *inflight,
			struct hv_err *err)
{
	int rc;

	if (!hv_is_power_of_two(setup->size) || setup->size > VSP_RING_SIZE_MAX)
		return hv_fail(err, -EINVAL, "a ring of %u entries is not possible", setup->size);
	memset(queue, 0, sizeof(*queue));
	queue->memory = memory;
	queue->size = setup->size;
	queue->event_idx = setup->event_idx;
	rc = vsp_virtqueue_move(queue, setup, err);
	if (rc)
		return rc;
	queue->owes_signal = true;
	queue->inflight = inflight;
	queue->used_idx = load(&queue->used->index);
	queue->next_avail = setup->base;
	if (inflight)
		recover(queue);
	queue->seen_avail = queue->next_avail;
	return 0;
}

/* A head that the guest names, or named to a process that died. */
static int take(struct vsp_virtqueue *queue, uint16_t head, struct hv_err *err)
{
	if (head >= queue->size)
		return hv_fail(err, -EBADMSG, "the guest names descriptor %u of %u", head,
			       queue->size);
	if (is_taken(queue, head))
		return hv_fail(err, -EBADMSG, "the guest names descriptor %u again while in use",
			       head);
	queue->taken[head / 64] |= 1ull << head % 64;
	queue->in_flight++;
	return 0;
}

static int look_for_more(struct vsp_virtqueue *queue, struct hv_err *err)
{
	uint16_t index = __atomic_load_n(&queue->avail->index, __ATOMIC_ACQUIRE);
	uint16_t count = (uint16_t)(index - queue->next_avail);

	if (count > queue->size)
		return hv_fail(err, -EBADMSG,
			       "the guest makes %u requests of a ring of %u available", count,
			       queue->size);
	queue->seen_avail = index;
	return count > 0;
}

int vsp_virtqueue_next(struct vsp_virtqueue *queue, uint16_t *ret, struct hv_err *err)
{
	uint16_t head;
	int rc;

	if (queue->again < queue->again_count) {
		head = queue->again_heads[queue->again];
		rc = take(queue, head, err);
		if (rc)
			return rc;
		queue->again++;
		*ret = head;
		return 1;
	}
	if (queue->next_avail == queue->seen_avail) {
		rc = look_for_more(queue, err);
		if (rc <= 0)
			return rc;
	}
	head = load(&queue->avail->ring[queue->next_avail & (queue->size - 1)]);
	rc = take(queue, head, err);
	if (rc)
		return rc;
	if (queue->inflight)
		vsp_inflight_fetch(queue->inflight, head, queue->counter++);
	queue->next_avail++;
	*ret = head;
	return 1;
}

/* Walking a chain. */

struct walk {
	struct vsp_virtqueue *queue;
	struct vsp_chain chain;
	struct iovec *iov;
	unsigned steps;
};

/* The copy is what counts, whatever the guest does to the original meanwhile. */
static struct vsp_ring_descriptor copy_descriptor(const void *from)
{
	struct vsp_ring_descriptor copy;

	memcpy(&copy, from, sizeof(copy));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return copy;
}

/* One piece of memory; put together with the one before where they adjoin. */
static int add_piece(struct walk *walk, uint8_t *start, uint64_t length, bool writable,
		     struct hv_err *err)
{
	struct vsp_chain *chain = &walk->chain;
	int count = chain->readable_count + chain->writable_count;
	int *kind_count = writable ? &chain->writable_count : &chain->readable_count;
	struct iovec *last = count ? &walk->iov[count - 1] : NULL;

	if (*kind_count && (uint8_t *)last->iov_base + last->iov_len == start) {
		last->iov_len += length;
	} else {
		if (count == VSP_CHAIN_PIECES_MAX)
			return hv_fail(err, -EBADMSG, "a request has more than %d pieces of memory",
				       VSP_CHAIN_PIECES_MAX);
		walk->iov[count] = (struct iovec){ start, length };
		++*kind_count;
	}
	*(writable ? &chain->writable_bytes : &chain->readable_bytes) += length;
	return 0;
}

static int add_buffer(struct walk *walk, const struct vsp_ring_descriptor *descriptor,
		      struct hv_err *err)
{
	bool writable = descriptor->flags & WRITABLE;
	uint64_t address = descriptor->address, left = descriptor->length, piece;

	if (!writable && walk->chain.writable_count)
		return hv_fail(err, -EBADMSG,
			       "a request has memory to read behind memory to write");
	while (left) {
		uint8_t *start = vsp_guest_memory_at(walk->queue->memory, address, left, &piece);
		int rc;

		if (!start)
			return hv_fail(err, -EBADMSG, "a request names %#llx, which is not memory",
				       (unsigned long long)address);
		rc = add_piece(walk, start, piece, writable, err);
		if (rc)
			return rc;
		address += piece;
		left -= piece;
	}
	return 0;
}

static int count_step(struct walk *walk, unsigned most, struct hv_err *err)
{
	if (++walk->steps > most)
		return hv_fail(err, -EBADMSG, "a request has more than %u descriptors, or a loop",
			       most);
	return 0;
}

static int read_indirect(struct walk *walk, uint64_t table, uint16_t index,
			 struct vsp_ring_descriptor *ret, struct hv_err *err)
{
	uint64_t address = table + 16ull * index, piece;
	void *from = vsp_guest_memory_at(walk->queue->memory, address, 16, &piece);

	if (!from || piece < 16)
		return hv_fail(err, -EBADMSG, "an indirect descriptor at %#llx is not in memory",
			       (unsigned long long)address);
	*ret = copy_descriptor(from);
	if (ret->flags & INDIRECT)
		return hv_fail(err, -EBADMSG, "an indirect table names another one");
	return 0;
}

static int walk_indirect(struct walk *walk, const struct vsp_ring_descriptor *table,
			 struct hv_err *err)
{
	struct vsp_ring_descriptor descriptor = { .flags = NEXT };
	uint32_t count = table->length / 16;

	if (table->length == 0 || table->length % 16)
		return hv_fail(err, -EBADMSG, "an indirect table has %u bytes", table->length);
	while (descriptor.flags & NEXT) {
		int rc = count_step(walk, VSP_CHAIN_DESCRIPTORS_MAX, err);

		if (rc == 0 && descriptor.next >= count)
			rc = hv_fail(err, -EBADMSG,
				     "an indirect chain goes on to descriptor %u of %u",
				     descriptor.next, count);
		if (rc == 0)
			rc = read_indirect(walk, table->address, descriptor.next, &descriptor, err);
		if (rc == 0)
			rc = add_buffer(walk, &descriptor, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Any number of direct descriptors, the last of which may be an indirect table (2.7.5.3). */
int vsp_virtqueue_chain(struct vsp_virtqueue *queue, uint16_t head, struct vsp_chain *ret,
			struct iovec *iov, struct hv_err *err)
{
	struct walk walk = { .queue = queue, .iov = iov };
	struct vsp_ring_descriptor descriptor = { .flags = NEXT, .next = head };

	while (descriptor.flags & NEXT) {
		int rc = count_step(&walk, queue->size, err);

		if (rc)
			return rc;
		if (descriptor.next >= queue->size)
			return hv_fail(err, -EBADMSG, "a chain goes on to descriptor %u of %u",
				       descriptor.next, queue->size);
		descriptor = copy_descriptor(&queue->descriptors[descriptor.next]);
		if ((descriptor.flags & (NEXT | INDIRECT)) == (NEXT | INDIRECT))
			return hv_fail(err, -EBADMSG, "a chain goes on behind an indirect table");
		rc = descriptor.flags & INDIRECT ? walk_indirect(&walk, &descriptor, err) :
						   add_buffer(&walk, &descriptor, err);
		if (rc)
			return rc;
	}
	*ret = walk.chain;
	return 0;
}

/* Answers. */

void vsp_virtqueue_abandon(struct vsp_virtqueue *queue)
{
	queue->in_flight--;
}

void vsp_virtqueue_give_back(struct vsp_virtqueue *queue, uint16_t head)
{
	unsigned left = queue->again_count - queue->again;

	memmove(queue->again_heads, queue->again_heads + queue->again,
		left * sizeof(queue->again_heads[0]));
	queue->again = 0;
	queue->again_heads[left] = head;
	queue->again_count = left + 1;
	queue->taken[head / 64] &= ~(1ull << head % 64);
	queue->in_flight--;
}

void vsp_virtqueue_complete(struct vsp_virtqueue *queue, uint16_t head, uint32_t written)
{
	uint16_t at = (uint16_t)(queue->used_idx + queue->batch) & (queue->size - 1);

	store(&queue->used->ring[at].head, head);
	store(&queue->used->ring[at].written, written);
	if (queue->inflight)
		vsp_inflight_answer(queue->inflight, head, queue->last_answer);
	queue->last_answer = head;
	queue->batch_heads[queue->batch++] = head;
	queue->in_flight--;
}

/* Is event, by which the guest wants to hear of us, among [before, now)? */
static bool passes(uint16_t event, uint16_t now, uint16_t before)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static bool wants_signal(struct vsp_virtqueue *queue, uint16_t before)
{
	bool owed = queue->owes_signal;

	queue->owes_signal = false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->event_idx)
		return owed || passes(load(used_event(queue)), queue->used_idx, before);
	return owed || !(load(&queue->avail->flags) & NO_INTERRUPT);
}

bool vsp_virtqueue_publish(struct vsp_virtqueue *queue)
{
	uint16_t before = queue->used_idx;

	if (!queue->batch)
		return false;
	queue->used_idx = (uint16_t)(before + queue->batch);
	__atomic_store_n(&queue->used->index, queue->used_idx, __ATOMIC_RELEASE);
	if (queue->inflight)
		vsp_inflight_published(queue->inflight, queue->batch_heads, queue->batch,
				       queue->used_idx);
	for (unsigned i = 0; i < queue->batch; i++)
		queue->taken[queue->batch_heads[i] / 64] &= ~(1ull << queue->batch_heads[i] % 64);
	queue->batch = 0;
	return wants_signal(queue, before);
}

/* With an event index the guest hears of the next one only when we name it. */
void vsp_virtqueue_wake(struct vsp_virtqueue *queue)
{
	if (!queue->event_idx && !queue->awake)
		store(&queue->used->flags, NO_NOTIFY);
	queue->awake = true;
}

bool vsp_virtqueue_rest(struct vsp_virtqueue *queue)
{
	queue->awake = false;
	if (queue->event_idx)
		store(avail_event(queue), queue->next_avail);
	else
		store(&queue->used->flags, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return queue->again == queue->again_count &&
	       load(&queue->avail->index) == queue->next_avail;
}
