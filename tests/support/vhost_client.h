/*
 * A front end for vhost-user-blk with a small guest inside, for tests and measurements. It takes
 * its layouts from the kernel's headers, not from ours. Everything asserts by itself, but where a
 * test wants to see a refusal.
 *
 * The guest's memory is a memfd that lies at different addresses for the guest, for the front end
 * ("user") and in this process, so that a mistaken one shows.
 */
#ifndef TESTS_VHOST_CLIENT_H
#define TESTS_VHOST_CLIENT_H

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VHOST_CLIENT_RINGS 4
#define VHOST_CLIENT_GUEST_BASE UINT64_C(0x100000000)
#define VHOST_CLIENT_USER_BASE UINT64_C(0x7f0000000000)
#define VHOST_CLIENT_DATA (1u << 20) /* where memory for data begins */

struct vhost_client;

/* A request takes a slot of its ring: three descriptors, or one that names a table of three. */
struct vhost_client_ring {
	struct vhost_client *client;
	unsigned index, size, slot_count;
	int kick_fd, call_fd, err_fd;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
	unsigned in_flight;
	uint16_t free_slots[1024];
	unsigned free_count;
};

struct vhost_client {
	int socket, memory_fd, inflight_fd;
	uint8_t *memory;
	size_t memory_bytes;
	uint64_t features, protocol_features;
	uint64_t inflight_bytes;
	bool event_idx, indirect;
	unsigned ring_count;
	struct vhost_client_ring rings[VHOST_CLIENT_RINGS];
};

struct vhost_client_options {
	size_t memory_bytes;            /* 0: 8 MiB */
	unsigned ring_count, ring_size; /* 0: 1 ring of 128 */
	uint64_t without;               /* feature bits not to be agreed upon */
	bool inflight;
	bool slots; /* ADD_MEM_REG instead of SET_MEM_TABLE */
};

/* Connects and does everything that comes before the first request. */
struct vhost_client *vhost_client_new(const char *path, const struct vhost_client_options *options);

/* The parts of it: connected only; features; memory; rings; in-flight region. */
struct vhost_client *vhost_client_connect(const char *path,
					  const struct vhost_client_options *options);
void vhost_client_agree(struct vhost_client *client, const struct vhost_client_options *options);
void vhost_client_share(struct vhost_client *client, const struct vhost_client_options *options);
void vhost_client_start_ring(struct vhost_client *client, unsigned index, unsigned base);

/* As QEMU does when the back end has died: the same guest, another connection. */
void vhost_client_reconnect(struct vhost_client *client, const char *path,
			    const struct vhost_client_options *options);
void vhost_client_free(struct vhost_client *client);

/* Messages, low level. The length of the answer's payload, -1 when the other side hung up. */
void vhost_client_send(struct vhost_client *client, uint32_t request, uint32_t flags,
		       const void *payload, uint32_t size, const int *fds, unsigned fd_count);
int vhost_client_receive(struct vhost_client *client, uint32_t request, void *payload,
			 uint32_t size, int *fd);
uint64_t vhost_client_get(struct vhost_client *client, uint32_t request);
void vhost_client_set(struct vhost_client *client, uint32_t request, uint64_t value, int fd);
/* The same with an acknowledgement asked for: 0 or what the back end says. */
uint64_t vhost_client_try(struct vhost_client *client, uint32_t request, const void *payload,
			  uint32_t size, const int *fds, unsigned fd_count);
void vhost_client_set_ring(struct vhost_client *client, uint32_t request, uint32_t index,
			   uint32_t number);
uint32_t vhost_client_stop_ring(struct vhost_client *client, unsigned index);
void vhost_client_config(struct vhost_client *client, struct virtio_blk_config *ret);
bool vhost_client_hung_up(struct vhost_client *client);

static inline uint64_t vhost_client_guest(const struct vhost_client *client, const void *memory)
{
	return VHOST_CLIENT_GUEST_BASE + (uint64_t)((const uint8_t *)memory - client->memory);
}

/*
 * Requests: prepared in a slot and made available; data lies in the client's memory. notify shows
 * them to the device, and kicks it where it wants that. Then reap: the slot of one that is done, or
 * -1; wait: the same, but waits, and -1 when nothing comes for a while.
 */
unsigned vhost_client_prepare(struct vhost_client_ring *ring, uint32_t type, uint64_t sector,
			      void *data, uint32_t length);
void vhost_client_make_available(struct vhost_client_ring *ring, unsigned head);
void vhost_client_notify(struct vhost_client_ring *ring);
int vhost_client_reap(struct vhost_client_ring *ring);
int vhost_client_wait(struct vhost_client_ring *ring, int timeout_ms);
uint8_t vhost_client_status(const struct vhost_client_ring *ring, unsigned slot);

/* One request from its beginning to its end: the status. */
uint8_t vhost_client_do(struct vhost_client_ring *ring, uint32_t type, uint64_t sector, void *data,
			uint32_t length);

#endif
