/*
 * Fuzz target: a ring, with everything in it, of a hostile guest. The first bytes choose size,
 * features and where the ring goes on; the rest is the guest's memory, which begins at address 0,
 * so that small numbers are addresses. It is two regions that adjoin for the guest and not here.
 * Whatever the ring says, what it is taken for has to lie in memory.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/harness/fuzz.h"
#include "vsp-storage/virtqueue.h"

#define REGION 8192u
#define USER UINT64_C(0x10000)
#define DESCRIPTORS 0u
#define AVAIL 1024u
#define USED 2048u
#define ROUNDS 200

struct choice {
	uint8_t size, features, base, inflight_offset;
};

static struct vsp_guest_memory memory;
static struct vsp_inflight inflight;

static int new_memory(uint64_t bytes)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	fuzz_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "no memory");
	return fd;
}

static void begin(void)
{
	int fd = new_memory(4 * REGION), tracked = new_memory(vsp_inflight_bytes(1, 64));
	HV_ERR(err);

	fuzz_assert(vsp_guest_memory_add(&memory, 0, USER, REGION, fd, 0, &err) == 0 &&
			    vsp_guest_memory_add(&memory, REGION, USER + 2 * REGION, REGION, fd,
						 2 * REGION, &err) == 0,
		    "%s", err.sentence);
	fuzz_assert(vsp_inflight_open(tracked, 0, vsp_inflight_bytes(1, 64), 1, 64, &inflight,
				      &err) == 0,
		    "%s", err.sentence);
	close(fd);
	close(tracked);
}

/* Both regions from data, zeros behind; the in-flight region from anywhere in it. */
static void fill(const uint8_t *data, size_t size, unsigned inflight_offset)
{
	for (unsigned i = 0; i < 2; i++) {
		size_t n = size < REGION ? size : REGION;

		memset(memory.regions[i].host, 0, REGION);
		memcpy(memory.regions[i].host, data, n);
		data += n;
		size -= n;
	}
	memcpy(inflight.mapping.start, memory.regions[0].host + inflight_offset * 16,
	       inflight.mapping.length);
}

static void judge(const struct vsp_chain *chain, const struct iovec *iov)
{
	int count = chain->readable_count + chain->writable_count;
	uint64_t bytes = 0;

	fuzz_assert(chain->readable_count >= 0 && chain->writable_count >= 0 &&
			    count <= VSP_CHAIN_PIECES_MAX,
		    "%d pieces", count);
	for (int i = 0; i < count; i++) {
		uint64_t start = (uint64_t)(uintptr_t)iov[i].iov_base;
		bool inside = false;

		for (unsigned r = 0; r < 2; r++) {
			uint64_t host = (uint64_t)(uintptr_t)memory.regions[r].host;

			inside |= start >= host &&
				  hv_range_inside(start - host, iov[i].iov_len, REGION);
		}
		fuzz_assert(inside, "piece %d is not in memory", i);
		bytes += iov[i].iov_len;
	}
	fuzz_assert(bytes == chain->readable_bytes + chain->writable_bytes, "%llu bytes",
		    (unsigned long long)bytes);
}

/* Answers every third at once, the others later; the guest changes its mind meanwhile. */
static void serve(struct vsp_virtqueue *queue)
{
	static struct iovec iov[VSP_CHAIN_PIECES_MAX];
	uint16_t waiting[VSP_RING_SIZE_MAX], head;
	unsigned count = 0;
	HV_ERR(err);

	vsp_virtqueue_wake(queue);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct vsp_chain chain;
		int rc = vsp_virtqueue_next(queue, &head, &err);

		fuzz_assert(rc == 0 || rc == 1 || rc == -EBADMSG, "next gave %d", rc);
		if (rc < 0 || (rc == 0 && vsp_virtqueue_rest(queue)))
			break;
		if (rc == 0)
			continue;
		rc = vsp_virtqueue_chain(queue, head, &chain, iov, &err);
		fuzz_assert(rc == 0 || rc == -EBADMSG, "chain gave %d", rc);
		if (rc) {
			vsp_virtqueue_abandon(queue);
			break;
		}
		judge(&chain, iov);
		if (round % 3 == 0)
			vsp_virtqueue_complete(queue, head, 1);
		else
			waiting[count++] = head;
		if (round % 7 == 6)
			vsp_virtqueue_publish(queue);
	}
	fuzz_assert(queue->in_flight == count, "%u in flight instead of %u", queue->in_flight,
		    count);
	while (count)
		vsp_virtqueue_complete(queue, waiting[--count], 0);
	vsp_virtqueue_publish(queue);
	fuzz_assert(!queue->in_flight && !queue->batch, "something is left");
}

static void run(const uint8_t *data, size_t size)
{
	static struct vsp_virtqueue queue;
	struct choice choice;
	struct vsp_ring_setup setup = { .descriptors = USER + DESCRIPTORS,
					.avail = USER + AVAIL,
					.used = USER + USED };
	HV_ERR(err);

	if (!memory.count)
		begin();
	if (size < sizeof(choice))
		return;
	memcpy(&choice, data, sizeof(choice));
	fill(data + sizeof(choice), size - sizeof(choice), choice.inflight_offset);
	setup.size = (uint16_t)(1u << choice.size % 7);
	setup.event_idx = choice.features & 1;
	setup.base = choice.base;
	if (vsp_virtqueue_start(
		    &queue, &setup, &memory,
		    choice.features & 2 ? vsp_inflight_ring(&inflight, 0, setup.size) : NULL, &err))
		fuzz_finding("%s", err.sentence);
	serve(&queue);
}

const struct fuzz_target fuzz_target = { .run = run };
