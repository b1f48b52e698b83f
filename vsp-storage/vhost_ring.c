/*
 * Rings of a session: their descriptors, their beginning and end.
 *
 * A kick is an eventfd that nobody reads: watched edge-triggered, each of the guest's writes wakes
 * the loop once, and the counter may grow for ever. From a kick on the loop looks at the ring by
 * itself, and the guest need not kick, until the loop has nothing to do (hv_loop_poll). A call is
 * one that we write; it has to be of a kind for which a write cannot raise SIGPIPE. Of a guest that
 * gets more done without, calls are held for a while, and so is the look at the ring (moderation.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/vhost_session.h"
#include "vsp-storage/vhost_wire.h"

unsigned vsp_ring_index(const struct vsp_vhost_ring *ring)
{
	return (unsigned)(ring - ring->session->rings);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		hv_log(HV_LOG_DEBUG, "cannot signal descriptor %d", fd);
}

void vsp_ring_signal(struct vsp_vhost_ring *ring)
{
	signal_fd(ring->call_fd);
}

static void break_ring(struct vsp_vhost_ring *ring, const struct hv_err *err)
{
	hv_log(HV_LOG_WARN, "%s: queue %u is stopped until the guest resets its device: %s",
	       ring->session->name, vsp_ring_index(ring), err->sentence);
	ring->broken = true;
	signal_fd(ring->err_fd);
}

static bool is_live(const struct vsp_vhost_ring *ring)
{
	const struct vsp_session *session = ring->session;

	return ring->started && ring->enabled && !ring->broken && !session->waiting &&
	       !session->closing;
}

/* How many requests came. */
static int fetch(struct vsp_vhost_ring *ring)
{
	HV_ERR(err);
	int count;

	if (!is_live(ring))
		return 0;
	count = vsp_blk_queue_process(&ring->queue, &err);
	if (count < 0)
		break_ring(ring, &err);
	return count;
}

static struct vsp_vhost_ring *ring_of(struct hv_poller *poller)
{
	return hv_container_of(poller, struct vsp_vhost_ring, poller);
}

static bool look(struct hv_poller *poller)
{
	struct vsp_vhost_ring *ring = ring_of(poller);
	bool any = fetch(ring) > 0;

	if (any)
		vsp_session_check_memory(ring->session);
	return any;
}

/* The guest may add requests until we have said that we rest. */
static bool rest(struct hv_poller *poller)
{
	struct vsp_vhost_ring *ring = ring_of(poller);

	return !is_live(ring) || ring->held || vsp_virtqueue_rest(&ring->queue.ring);
}

static void process(struct vsp_vhost_ring *ring)
{
	fetch(ring);
	if (is_live(ring))
		hv_loop_poll(ring->session->blk.device->loop, &ring->poller);
}

void vsp_rings_init(struct vsp_session *session)
{
	for (unsigned i = 0; i < VSP_VHOST_RINGS_MAX; i++) {
		struct vsp_vhost_ring *ring = &session->rings[i];

		ring->session = session;
		ring->kick.fd = ring->call_fd = ring->err_fd = -1;
		ring->poller = (struct hv_poller){ .look = look, .rest = rest };
	}
}

void vsp_rings_process(struct vsp_session *session)
{
	for (unsigned i = 0; i < session->ring_count; i++)
		process(&session->rings[i]);
}

static void release(struct vsp_vhost_ring *ring)
{
	if (ring->held)
		vsp_ring_signal(ring);
	ring->held = false;
}

static void hold_elapsed(struct hv_timer *timer)
{
	struct vsp_vhost_ring *ring = hv_container_of(timer, struct vsp_vhost_ring, hold);

	release(ring);
	process(ring);
	vsp_session_check_memory(ring->session);
}

/* False: it cannot be. */
static bool hold(struct vsp_vhost_ring *ring)
{
	struct hv_loop *loop = ring->session->blk.device->loop;

	if (ring->held)
		return true;
	if (!ring->hold.loop && hv_timer_open(&ring->hold, loop, hold_elapsed, NULL))
		return false;
	hv_timer_set(&ring->hold, ring->moderation.hold_ns);
	ring->held = true;
	return true;
}

void vsp_ring_publish(struct vsp_vhost_ring *ring)
{
	struct vsp_device *device = ring->session->blk.device;
	unsigned count = ring->queue.ring.batch;

	if (!ring->started || !count)
		return;
	if (device->coalesce)
		vsp_moderation_count(&ring->moderation, count, hv_loop_now(device->loop));
	if (!vsp_virtqueue_publish(&ring->queue.ring))
		return;
	if (!device->coalesce || !ring->moderation.hold_ns || !hold(ring))
		vsp_ring_signal(ring);
}

/* What the guest asked for while nobody served it is there already: no kick will tell. */
void vsp_ring_start(struct vsp_vhost_ring *ring)
{
	struct vsp_session *session = ring->session;
	struct vsp_inflight_ring *inflight;
	HV_ERR(err);
	int rc;

	if (ring->started || ring->kick.fd < 0 || !ring->has_addresses || !ring->setup.size)
		return;
	inflight = vsp_inflight_ring(&session->inflight, vsp_ring_index(ring), ring->setup.size);
	ring->setup.event_idx = session->blk.features >> VIRTIO_EVENT_IDX & 1;
	if (!(session->blk.features >> VHOST_F_PROTOCOL_FEATURES & 1))
		ring->enabled = true;
	rc = vsp_blk_queue_start(&ring->queue, &session->blk, &ring->setup, &session->memory,
				 inflight, &err);
	ring->broken = rc != 0;
	ring->started = rc == 0;
	if (rc)
		break_ring(ring, &err);
	else if (ring->queue.ring.again_count)
		hv_log(HV_LOG_INFO, "%s: queue %u: repeating %u requests of an earlier process",
		       session->name, vsp_ring_index(ring), ring->queue.ring.again_count);
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void drop_kick(struct vsp_vhost_ring *ring)
{
	if (ring->kick.fd >= 0)
		hv_loop_unwatch(ring->session->blk.device->loop, &ring->kick);
	drop(&ring->kick.fd);
}

void vsp_ring_stop(struct vsp_vhost_ring *ring)
{
	if (ring->started)
		ring->setup.base = ring->queue.ring.next_avail;
	release(ring);
	hv_timer_close(&ring->hold);
	ring->moderation = (struct vsp_moderation){ 0 };
	hv_loop_unpoll(ring->session->blk.device->loop, &ring->poller);
	vsp_blk_queue_stop(&ring->queue);
	drop_kick(ring);
	drop(&ring->call_fd);
	ring->started = ring->broken = false;
}

void vsp_ring_move(struct vsp_vhost_ring *ring)
{
	HV_ERR(err);

	if (ring->started && vsp_virtqueue_move(&ring->queue.ring, &ring->setup, &err))
		break_ring(ring, &err);
}

static void kicked(struct hv_watch *watch, uint32_t events)
{
	struct vsp_vhost_ring *ring = hv_container_of(watch, struct vsp_vhost_ring, kick);

	(void)events;
	vsp_ring_start(ring);
	process(ring);
	vsp_session_check_memory(ring->session);
}

int vsp_ring_set_kick(struct vsp_vhost_ring *ring, int fd, struct hv_err *err)
{
	int rc;

	drop_kick(ring);
	ring->kick = (struct hv_watch){ .fd = fd, .ready = kicked };
	rc = hv_loop_watch(ring->session->blk.device->loop, &ring->kick, EPOLLIN | EPOLLET, err);
	if (rc)
		drop(&ring->kick.fd);
	return rc;
}
