/*
 * A front end with a small guest. The memory: rings first (64 KiB each), then a header, a status
 * and an indirect table for each slot (128 bytes), then data.
 */
#include "tests/support/vhost_client.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/must.h"

#define RING_BYTES (64u << 10)
#define SLOTS_AT (VHOST_CLIENT_RINGS * RING_BYTES)
#define SLOT_BYTES 128u
#define RING_SLOTS_BYTES (1024u * SLOT_BYTES)
#define TIMEOUT_MS 5000

enum {
	GET_FEATURES = 1,
	SET_FEATURES,
	SET_OWNER,
	SET_MEM_TABLE = 5,
	SET_NUM = 8,
	SET_ADDR,
	SET_BASE,
	GET_BASE,
	SET_KICK,
	SET_CALL,
	SET_ERR,
	GET_PROTOCOL,
	SET_PROTOCOL,
	GET_QUEUES,
	SET_ENABLE,
	GET_CONFIG = 24,
	GET_INFLIGHT = 31,
	SET_INFLIGHT,
	ADD_REGION = 37
};

struct slot {
	struct virtio_blk_outhdr header;
	struct vring_desc table[3];
	uint8_t status;
};

struct inflight_message {
	uint64_t length, offset;
	uint16_t ring_count, ring_size;
};

_Static_assert(sizeof(struct slot) <= SLOT_BYTES, "a slot");
_Static_assert(SLOTS_AT + VHOST_CLIENT_RINGS * RING_SLOTS_BYTES <= VHOST_CLIENT_DATA, "the layout");

static struct slot *slot_at(const struct vhost_client_ring *ring, unsigned slot)
{
	return (struct slot *)(ring->client->memory + SLOTS_AT + ring->index * RING_SLOTS_BYTES +
			       slot * SLOT_BYTES);
}

/* Messages. */

void vhost_client_send(struct vhost_client *client, uint32_t request, uint32_t flags,
		       const void *payload, uint32_t size, const int *fds, unsigned fd_count)
{
	uint32_t head[3] = { request, 1 | flags, size };
	struct iovec iov[2] = { { head, sizeof(head) }, { (void *)(uintptr_t)payload, size } };
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr aligned;
	} control = { 0 };
	struct msghdr header = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd_count) {
		control.aligned.cmsg_level = SOL_SOCKET;
		control.aligned.cmsg_type = SCM_RIGHTS;
		control.aligned.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.aligned), fds, fd_count * sizeof(int));
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	/* One that is refused may have been hung up on already. */
	(void)!sendmsg(client->socket, &header, MSG_NOSIGNAL);
}

static bool read_fully(int fd, void *to, size_t size, int *ret_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr aligned;
	} control;
	size_t done = 0;

	while (done < size) {
		struct iovec iov = { (char *)to + done, size - done };
		struct msghdr header = { .msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control) };
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		must(poll(&pfd, 1, TIMEOUT_MS) == 1, "the back end does not answer");
		n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return false;
		if (CMSG_FIRSTHDR(&header) && ret_fd)
			memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(int));
		done += (size_t)n;
	}
	return true;
}

int vhost_client_receive(struct vhost_client *client, uint32_t request, void *payload,
			 uint32_t size, int *fd)
{
	uint32_t head[3];

	if (!read_fully(client->socket, head, sizeof(head), fd))
		return -1;
	must(head[0] == request && head[1] == (1 | 4), "message %u answered by %u, flags %#x",
	     request, head[0], head[1]);
	must(head[2] <= size, "message %u answered with %u bytes", request, head[2]);
	must(read_fully(client->socket, payload, head[2], NULL), "an answer is cut short");
	return (int)head[2];
}

uint64_t vhost_client_get(struct vhost_client *client, uint32_t request)
{
	uint64_t value = 0;

	vhost_client_send(client, request, 0, NULL, 0, NULL, 0);
	must(vhost_client_receive(client, request, &value, sizeof(value), NULL) == 8,
	     "no answer to message %u", request);
	return value;
}

void vhost_client_set(struct vhost_client *client, uint32_t request, uint64_t value, int fd)
{
	vhost_client_send(client, request, 0, &value, sizeof(value), &fd, fd >= 0);
}

uint64_t vhost_client_try(struct vhost_client *client, uint32_t request, const void *payload,
			  uint32_t size, const int *fds, unsigned fd_count)
{
	uint64_t value = 0;

	vhost_client_send(client, request, 8, payload, size, fds, fd_count);
	if (vhost_client_receive(client, request, &value, sizeof(value), NULL) != 8)
		return UINT64_MAX;
	return value;
}

void vhost_client_set_ring(struct vhost_client *client, uint32_t request, uint32_t index,
			   uint32_t number)
{
	uint32_t pair[2] = { index, number };

	vhost_client_send(client, request, 0, pair, sizeof(pair), NULL, 0);
}

uint32_t vhost_client_stop_ring(struct vhost_client *client, unsigned index)
{
	uint32_t pair[2] = { index, 0 };

	vhost_client_send(client, GET_BASE, 0, pair, sizeof(pair), NULL, 0);
	must(vhost_client_receive(client, GET_BASE, pair, sizeof(pair), NULL) == 8,
	     "no answer to GET_VRING_BASE");
	must(pair[0] == index, "GET_VRING_BASE answers for another ring");
	return pair[1];
}

/* What has been added since version 1.1 some do not let one ask for. */
#define CONFIG_BYTES 60u

void vhost_client_config(struct vhost_client *client, struct virtio_blk_config *ret)
{
	uint8_t message[12 + CONFIG_BYTES] = { 0 };
	uint32_t head[3] = { 0, CONFIG_BYTES, 0 };

	memcpy(message, head, sizeof(head));
	vhost_client_send(client, GET_CONFIG, 0, message, sizeof(message), NULL, 0);
	must(vhost_client_receive(client, GET_CONFIG, message, sizeof(message), NULL) ==
		     (int)sizeof(message),
	     "no config space");
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, message + sizeof(head), CONFIG_BYTES);
}

bool vhost_client_hung_up(struct vhost_client *client)
{
	struct pollfd pfd = { .fd = client->socket, .events = POLLRDHUP };

	return poll(&pfd, 1, TIMEOUT_MS) == 1 && pfd.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* Beginning. */

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(strlen(path) < sizeof(address.sun_path), "path too long");
	strcpy(address.sun_path, path);
	for (int i = 0; i < 500; i++) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		usleep(10000);
	}
	must(false, "%s: cannot connect", path);
	return -1;
}

static void init_ring(struct vhost_client *client, unsigned index, unsigned size)
{
	struct vhost_client_ring *ring = &client->rings[index];
	uint8_t *at = client->memory + index * RING_BYTES;

	*ring = (struct vhost_client_ring){ .client = client, .index = index, .size = size };
	ring->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ring->desc = (struct vring_desc *)at;
	ring->avail = (struct vring_avail *)(at + 16 * size);
	ring->used = (struct vring_used *)(at + 16 * size + 4096);
}

static void init_slots(struct vhost_client_ring *ring)
{
	ring->slot_count = ring->client->indirect ? ring->size : ring->size / 3;
	ring->free_count = 0;
	for (unsigned i = ring->slot_count; i > 0; i--)
		ring->free_slots[ring->free_count++] = (uint16_t)(i - 1);
}

struct vhost_client *vhost_client_connect(const char *path,
					  const struct vhost_client_options *options)
{
	struct vhost_client *client = calloc(1, sizeof(*client));

	client->memory_bytes = options->memory_bytes ? options->memory_bytes : 8u << 20;
	client->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(ftruncate(client->memory_fd, (off_t)client->memory_bytes) == 0, "no memory");
	client->memory = mmap(NULL, client->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			      client->memory_fd, 0);
	must(client->memory != MAP_FAILED, "no memory");
	client->inflight_fd = -1;
	client->ring_count = options->ring_count ? options->ring_count : 1;
	for (unsigned i = 0; i < client->ring_count; i++)
		init_ring(client, i, options->ring_size ? options->ring_size : 128);
	client->socket = connect_to(path);
	return client;
}

void vhost_client_agree(struct vhost_client *client, const struct vhost_client_options *options)
{
	client->features = vhost_client_get(client, GET_FEATURES) & ~options->without;
	client->protocol_features = vhost_client_get(client, GET_PROTOCOL);
	vhost_client_set(client, SET_PROTOCOL, client->protocol_features, -1);
	vhost_client_send(client, SET_OWNER, 0, NULL, 0, NULL, 0);
	vhost_client_set(client, SET_FEATURES, client->features, -1);
	client->event_idx = client->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	client->indirect = client->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
}

static void share_inflight(struct vhost_client *client)
{
	struct inflight_message message = { .ring_count = (uint16_t)client->ring_count,
					    .ring_size = (uint16_t)client->rings[0].size };

	if (client->inflight_fd < 0) {
		vhost_client_send(client, GET_INFLIGHT, 0, &message, sizeof(message), NULL, 0);
		must(vhost_client_receive(client, GET_INFLIGHT, &message, sizeof(message),
					  &client->inflight_fd) == sizeof(message) &&
			     client->inflight_fd >= 0,
		     "no in-flight region");
		client->inflight_bytes = message.length;
	}
	message.length = client->inflight_bytes;
	message.offset = 0;
	vhost_client_send(client, SET_INFLIGHT, 0, &message, sizeof(message), &client->inflight_fd,
			  1);
}

void vhost_client_share(struct vhost_client *client, const struct vhost_client_options *options)
{
	uint64_t message[5] = { options->slots ? 0 : 1, VHOST_CLIENT_GUEST_BASE,
				client->memory_bytes, VHOST_CLIENT_USER_BASE, 0 };

	if (options->inflight)
		share_inflight(client);
	vhost_client_send(client, options->slots ? ADD_REGION : SET_MEM_TABLE, 0, message,
			  sizeof(message), &client->memory_fd, 1);
}

static uint64_t user(const struct vhost_client *client, const void *memory)
{
	return VHOST_CLIENT_USER_BASE + (uint64_t)((const uint8_t *)memory - client->memory);
}

void vhost_client_start_ring(struct vhost_client *client, unsigned index, unsigned base)
{
	struct vhost_client_ring *ring = &client->rings[index];
	uint64_t addresses[5] = { index, user(client, ring->desc), user(client, ring->used),
				  user(client, ring->avail), 0 };

	vhost_client_set_ring(client, SET_NUM, index, ring->size);
	vhost_client_set_ring(client, SET_BASE, index, base);
	vhost_client_send(client, SET_ADDR, 0, addresses, sizeof(addresses), NULL, 0);
	vhost_client_set(client, SET_ERR, index, ring->err_fd);
	vhost_client_set(client, SET_KICK, index, ring->kick_fd);
	vhost_client_set(client, SET_CALL, index, ring->call_fd);
	vhost_client_set_ring(client, SET_ENABLE, index, 1);
}

static void start_rings(struct vhost_client *client)
{
	for (unsigned i = 0; i < client->ring_count; i++)
		vhost_client_start_ring(client, i, client->rings[i].used->idx);
}

struct vhost_client *vhost_client_new(const char *path, const struct vhost_client_options *options)
{
	struct vhost_client *client = vhost_client_connect(path, options);

	vhost_client_agree(client, options);
	for (unsigned i = 0; i < client->ring_count; i++)
		init_slots(&client->rings[i]);
	vhost_client_share(client, options);
	start_rings(client);
	return client;
}

void vhost_client_reconnect(struct vhost_client *client, const char *path,
			    const struct vhost_client_options *options)
{
	close(client->socket);
	client->socket = connect_to(path);
	vhost_client_agree(client, options);
	vhost_client_share(client, options);
	start_rings(client);
}

void vhost_client_free(struct vhost_client *client)
{
	for (unsigned i = 0; i < client->ring_count; i++) {
		close(client->rings[i].kick_fd);
		close(client->rings[i].call_fd);
		close(client->rings[i].err_fd);
	}
	if (client->inflight_fd >= 0)
		close(client->inflight_fd);
	munmap(client->memory, client->memory_bytes);
	close(client->memory_fd);
	close(client->socket);
	free(client);
}

/* Requests. */

/* Does the device write the data? */
static bool is_in(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

static void describe(const struct vhost_client *client, struct vring_desc *desc, const void *memory,
		     uint32_t length, unsigned flags, unsigned next)
{
	*desc = (struct vring_desc){ .addr = vhost_client_guest(client, memory),
				     .len = length,
				     .flags = (uint16_t)flags,
				     .next = (uint16_t)next };
}

unsigned vhost_client_prepare(struct vhost_client_ring *ring, uint32_t type, uint64_t sector,
			      void *data, uint32_t length)
{
	struct vhost_client *client = ring->client;
	unsigned index, slot, first;
	struct vring_desc *desc;
	struct slot *memory;

	must(ring->free_count, "no slot is free");
	slot = ring->free_slots[--ring->free_count];
	memory = slot_at(ring, slot);
	memory->header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	memory->status = 0xee;
	first = client->indirect ? 0 : 3 * slot;
	desc = client->indirect ? memory->table : &ring->desc[first];
	index = 0;
	describe(client, &desc[index], &memory->header, 16, VRING_DESC_F_NEXT, first + 1);
	index++;
	if (length) {
		describe(client, &desc[index], data, length,
			 VRING_DESC_F_NEXT | (is_in(type) ? VRING_DESC_F_WRITE : 0), first + 2);
		index++;
	}
	describe(client, &desc[index], &memory->status, 1, VRING_DESC_F_WRITE, 0);
	if (client->indirect)
		describe(client, &ring->desc[slot], memory->table, 16 * (index + 1),
			 VRING_DESC_F_INDIRECT, 0);
	vhost_client_make_available(ring, client->indirect ? slot : 3 * slot);
	return slot;
}

void vhost_client_make_available(struct vhost_client_ring *ring, unsigned head)
{
	ring->avail->ring[ring->next_avail++ % ring->size] = (uint16_t)head;
	ring->in_flight++;
}

void vhost_client_notify(struct vhost_client_ring *ring)
{
	uint16_t before = ring->avail->idx, event;
	uint64_t one = 1;
	bool wanted;

	__atomic_store_n(&ring->avail->idx, ring->next_avail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n((uint16_t *)&ring->used->ring[ring->size], __ATOMIC_RELAXED);
	if (ring->client->event_idx)
		wanted = vring_need_event(event, ring->next_avail, before);
	else
		wanted = !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) &
			   VRING_USED_F_NO_NOTIFY);
	if (wanted)
		must(write(ring->kick_fd, &one, sizeof(one)) == sizeof(one), "cannot kick");
}

int vhost_client_reap(struct vhost_client_ring *ring)
{
	uint16_t index = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
	unsigned head, slot;

	if (index == ring->next_used)
		return -1;
	head = ring->used->ring[ring->next_used++ % ring->size].id;
	slot = ring->client->indirect ? head : head / 3;
	must(slot < ring->slot_count && ring->in_flight, "the device answers descriptor %u", head);
	ring->in_flight--;
	ring->free_slots[ring->free_count++] = (uint16_t)slot;
	return (int)slot;
}

/* The guest rests until the next answer. False: there is one already. */
static bool rest(struct vhost_client_ring *ring)
{
	if (ring->client->event_idx)
		__atomic_store_n(&ring->avail->ring[ring->size], ring->next_used, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) == ring->next_used;
}

int vhost_client_wait(struct vhost_client_ring *ring, int timeout_ms)
{
	struct pollfd pfd = { .fd = ring->call_fd, .events = POLLIN };
	uint64_t count;

	while (rest(ring)) {
		if (poll(&pfd, 1, timeout_ms) != 1)
			return -1;
		(void)!read(ring->call_fd, &count, sizeof(count));
	}
	return vhost_client_reap(ring);
}

uint8_t vhost_client_status(const struct vhost_client_ring *ring, unsigned slot)
{
	return slot_at(ring, slot)->status;
}

uint8_t vhost_client_do(struct vhost_client_ring *ring, uint32_t type, uint64_t sector, void *data,
			uint32_t length)
{
	unsigned slot = vhost_client_prepare(ring, type, sector, data, length);

	vhost_client_notify(ring);
	must(vhost_client_wait(ring, TIMEOUT_MS) == (int)slot, "a request was not answered");
	return vhost_client_status(ring, slot);
}
