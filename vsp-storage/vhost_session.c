/*
 * A session: receiving, waiting, the end of each batch, and the end of all.
 */
#include "vsp-storage/vhost_session.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "hvcore/container.h"
#include "hvcore/log.h"

#define MESSAGES_AT_ONCE 16

/* Is anything in flight, or not yet published? */
static bool is_busy(const struct vsp_session *session)
{
	for (unsigned i = 0; i < session->ring_count; i++) {
		const struct vsp_vhost_ring *ring = &session->rings[i];

		if (ring->started && (ring->queue.ring.in_flight || ring->queue.ring.batch))
			return true;
	}
	return false;
}

/* One turn for all that completes in the same turn of the loop. */
static void queue_turn(struct vsp_session *session)
{
	if (session->turn_queued)
		return;
	session->turn_queued = true;
	hv_loop_finish(session->blk.device->loop, &session->turn, 0);
}

static void completed(struct vsp_blk *blk)
{
	queue_turn((struct vsp_session *)blk);
}

static void fail(struct vsp_session *session, const struct hv_err *err)
{
	hv_log(HV_LOG_WARN, "%s: the front end is disconnected: %s", session->name, err->sentence);
	vsp_session_close(session);
}

/* The message at hand has its effect, or waits for it. */
static void handle(struct vsp_session *session)
{
	HV_ERR(err);

	session->waiting = vsp_session_must_drain(session) && is_busy(session);
	hv_loop_rewatch(session->blk.device->loop, &session->socket,
			session->waiting ? 0 : EPOLLIN);
	if (session->waiting) {
		vsp_blk_give_back(&session->blk);
		return;
	}
	if (vsp_session_handle(session, &err))
		fail(session, &err);
	vsp_message_done(&session->message);
	vsp_rings_process(session);
	vsp_session_check_memory(session);
}

static void readable(struct hv_watch *watch, uint32_t events)
{
	struct vsp_session *session = hv_container_of(watch, struct vsp_session, socket);
	HV_ERR(err);

	if (session->waiting && events & (EPOLLHUP | EPOLLERR)) {
		vsp_session_close(session);
		return;
	}
	for (int i = 0; i < MESSAGES_AT_ONCE && !session->waiting && !session->closing; i++) {
		int rc = vsp_message_receive(session->socket.fd, &session->message, &err);

		if (rc == 0)
			return;
		if (rc == 1) {
			handle(session);
		} else if (err.code) {
			fail(session, &err);
		} else {
			hv_log(HV_LOG_INFO, "%s: the front end has left", session->name);
			vsp_session_close(session);
		}
	}
}

static void stop_rings(struct vsp_session *session)
{
	for (unsigned i = 0; i < session->ring_count; i++) {
		struct vsp_vhost_ring *ring = &session->rings[i];

		vsp_ring_stop(ring);
		if (ring->err_fd >= 0)
			close(ring->err_fd);
		ring->err_fd = -1;
	}
}

void vsp_session_check_memory(struct vsp_session *session)
{
	HV_ERR(err);

	if (!vsp_mapping_any_lost(&session->lost_seen) || session->closing)
		return;
	if (!vsp_guest_memory_lost(&session->memory) &&
	    !vsp_mapping_lost(&session->inflight.mapping))
		return;
	hv_fail(&err, -EFAULT, "shared memory was taken away");
	fail(session, &err);
}

/* The end of a batch: what was completed is shown, and what waited for that goes on. */
static void turn(struct hv_io *io, int result)
{
	struct vsp_session *session = hv_container_of(io, struct vsp_session, turn);

	(void)result;
	session->turn_queued = false;
	for (unsigned i = 0; i < session->ring_count; i++)
		vsp_ring_publish(&session->rings[i]);
	vsp_session_check_memory(session);
	if (is_busy(session) || session->turn_queued)
		return;
	if (session->closing) {
		stop_rings(session);
		session->ended(session);
	} else if (session->waiting) {
		handle(session);
	}
}

int vsp_session_new(struct vsp_device *device, int fd, const char *name, struct vsp_session **ret,
		    struct hv_err *err)
{
	struct vsp_session *session = calloc(1, sizeof(*session));
	int rc;

	if (!session)
		return hv_fail(err, -ENOMEM, "not enough memory for a session");
	session->blk =
		(struct vsp_blk){ .device = device, .writeback = true, .completed = completed };
	session->name = name;
	session->socket = (struct hv_watch){ .fd = fd, .ready = readable };
	session->backend_fd = -1;
	session->turn.done = turn;
	vsp_mapping_any_lost(&session->lost_seen);
	vsp_rings_init(session);
	rc = hv_loop_watch(device->loop, &session->socket, EPOLLIN, err);
	if (rc) {
		free(session);
		return rc;
	}
	*ret = session;
	return 0;
}

void vsp_session_close(struct vsp_session *session)
{
	if (session->closing)
		return;
	session->closing = true;
	hv_loop_unwatch(session->blk.device->loop, &session->socket);
	close(session->socket.fd);
	vsp_blk_give_back(&session->blk);
	queue_turn(session);
}

void vsp_session_kept(struct vsp_session *session)
{
	if (session->waiting || session->closing)
		vsp_blk_give_back(&session->blk);
}

void vsp_session_free(struct vsp_session *session)
{
	vsp_message_done(&session->message);
	vsp_guest_memory_done(&session->memory);
	vsp_inflight_close(&session->inflight);
	if (session->backend_fd >= 0)
		close(session->backend_fd);
	free(session);
}

/* A front end that does not read what we say sees the new size when it asks for it. */
void vsp_session_resized(struct vsp_session *session)
{
	HV_ERR(err);

	if (session->closing || session->backend_fd < 0)
		return;
	if (vsp_message_send(session->backend_fd, VHOST_BACKEND_CONFIG_CHANGE, 0, NULL, 0, -1,
			     &err))
		hv_log(HV_LOG_WARN, "%s: %s", session->name, err.sentence);
}
