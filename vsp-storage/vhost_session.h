/*
 * One front end, from its connection to its last request. Inside vsp-storage.
 *
 * Everything happens on the device's loop. Messages that change what rings stand on (memory, ring
 * addresses, the end of a ring) wait until nothing is in flight; meanwhile nothing new is fetched
 * and no other message is read. When the front end goes, what is in flight ends against memory that
 * is still mapped, and is published; only then the session ends. What a device that has stopped
 * keeps is not waited for: it stays in flight for the guest, and is fetched again.
 */
#ifndef VSP_STORAGE_VHOST_SESSION_H
#define VSP_STORAGE_VHOST_SESSION_H

#include "hvcore/timer.h"
#include "vsp-storage/guest_memory.h"
#include "vsp-storage/inflight.h"
#include "vsp-storage/moderation.h"
#include "vsp-storage/vhost_blk.h"
#include "vsp-storage/vhost_message.h"

#define VSP_VHOST_RINGS_MAX 64

struct vsp_session;

struct vsp_vhost_ring {
	struct vsp_session *session;
	struct vsp_blk_queue queue;
	struct vsp_ring_setup setup;
	bool has_addresses, enabled;
	bool started;            /* the queue is live */
	bool broken;             /* it was; nothing is fetched until it is set up again */
	struct hv_watch kick;    /* edge-triggered, so that nobody reads it; fd -1: none */
	struct hv_poller poller; /* from a kick until the ring rests */
	int call_fd, err_fd;
	struct vsp_moderation moderation;
	struct hv_timer hold; /* opened when it is first needed */
	bool held;            /* an interrupt is, and the guest need not kick, until hold elapses */
};

struct vsp_session {
	struct vsp_blk blk;
	const char *name; /* for the log: lent */
	struct hv_watch socket;
	struct vsp_message message; /* being received, or waiting */
	bool waiting;               /* the message, for what is in flight */
	bool closing;
	uint64_t protocol_features; /* agreed */
	int backend_fd;             /* the back channel; -1: none */
	struct vsp_guest_memory memory;
	struct vsp_inflight inflight;
	unsigned lost_seen; /* of vsp_mapping_any_lost */
	struct hv_io turn;  /* the work at the end of a batch */
	bool turn_queued;
	void (*ended)(struct vsp_session *session); /* nothing refers to it any more; may free it */
	void *owner;
	unsigned ring_count; /* rings that have been named: [0, ring_count) */
	struct vsp_vhost_ring rings[VSP_VHOST_RINGS_MAX];
};

/* Begins with a connected, non-blocking socket, which is taken over on success. */
int vsp_session_new(struct vsp_device *device, int fd, const char *name, struct vsp_session **ret,
		    struct hv_err *err);

/* From now on nothing is fetched; ended is called from a later turn. Again: nothing. */
void vsp_session_close(struct vsp_session *session);
void vsp_session_free(struct vsp_session *session);

/* The device keeps a request that failed, perhaps one of ours. */
void vsp_session_kept(struct vsp_session *session);

/* The device's size is another one: tells the front end. */
void vsp_session_resized(struct vsp_session *session);

/* vhost_message handling, in vhost_protocol.c: 0 or -errno; the message's whole effect, or none. */
int vsp_session_handle(struct vsp_session *session, struct hv_err *err);
/* Must the message at hand wait until nothing is in flight? */
bool vsp_session_must_drain(const struct vsp_session *session);

/* Ends the session of a front end that has taken shared memory away; after memory was used. */
void vsp_session_check_memory(struct vsp_session *session);

/* Rings, in vhost_ring.c. */

void vsp_rings_init(struct vsp_session *session);
/* Starts it when all of it is there; a fault is logged, and breaks it. */
void vsp_ring_start(struct vsp_vhost_ring *ring);
/* Nothing is in flight. Gives the descriptors back. */
void vsp_ring_stop(struct vsp_vhost_ring *ring);
/* Memory lies elsewhere, or the ring does. */
void vsp_ring_move(struct vsp_vhost_ring *ring);
int vsp_ring_set_kick(struct vsp_vhost_ring *ring, int fd, struct hv_err *err);
/* Fetches and submits whatever is available; the loop looks for more until it has to sleep. */
void vsp_rings_process(struct vsp_session *session);
/* Shows the guest what has been done, and interrupts it where it wants that, now or soon. */
void vsp_ring_publish(struct vsp_vhost_ring *ring);
void vsp_ring_signal(struct vsp_vhost_ring *ring);
unsigned vsp_ring_index(const struct vsp_vhost_ring *ring);

#endif
