/*
 * The NBD server: devices as exports, over connected stream sockets.
 *
 * Fixed newstyle with structured replies and extended headers; everything is told by doc/proto.md
 * of the NBD project. Connections of one device may be many, and a flush on one covers the
 * completed writes of all. A server, its exports and connections belong to one loop and its thread;
 * servers of several loops may serve clients of one socket, see vsp_nbd_add_peer.
 *
 * What a client can cost is bounded: VSP_NBD_WINDOW_REQUESTS requests and VSP_NBD_WINDOW_BYTES of
 * payload (or one request) are with the server until their replies have been sent; then nothing
 * more is read from that client until some are. At most VSP_NBD_MAX_CONNECTIONS clients are served;
 * the next ones wait in the listening socket's queue. Who has not finished its handshake in
 * VSP_NBD_HANDSHAKE_SECONDS is cut off.
 */
#ifndef VSP_STORAGE_NBD_H
#define VSP_STORAGE_NBD_H

#include <stdbool.h>

#include "vsp-storage/device.h"
#include "vsp-storage/tls.h"

#define VSP_NBD_MAX_REQUEST (32u << 20) /* bytes of one read or write */
#define VSP_NBD_WINDOW_REQUESTS 256u
#define VSP_NBD_WINDOW_BYTES (32u << 20)
#define VSP_NBD_MAX_CONNECTIONS 256u
#define VSP_NBD_HANDSHAKE_SECONDS 30

struct vsp_nbd;

int vsp_nbd_new(struct hv_loop *loop, struct vsp_nbd **ret, struct hv_err *err);

/* No connection is left, nor an export (see vsp_device_dismiss). */
void vsp_nbd_free(struct vsp_nbd *nbd);
HV_DEFINE_CLEANUP(struct vsp_nbd, vsp_nbd_free)

enum vsp_tls_mode {
	VSP_TLS_OFF,
	VSP_TLS_ON,       /* clients of Unix sockets may choose, others have to use it */
	VSP_TLS_REQUIRED, /* all have to */
};

/* Before the first connection; tls stays the caller's, and longer than the server. */
void vsp_nbd_set_tls(struct vsp_nbd *nbd, const struct vsp_tls *tls, enum vsp_tls_mode mode);

/*
 * The device under that name, until it is dismissed. An only export is found as "", too.
 * -EEXIST, -ENAMETOOLONG.
 */
int vsp_nbd_export(struct vsp_nbd *nbd, const char *name, struct vsp_device *device,
		   struct hv_err *err);

/*
 * Exports of nbd may be devices of peer's loop, too: who chooses one of those is served by the peer
 * from then on. For devices whose size does not change; before anything is exported, and as long as
 * both are there. Before such a device is dismissed, nbd is stopped.
 */
void vsp_nbd_add_peer(struct vsp_nbd *nbd, struct vsp_nbd *peer);

/* Accepts connections of a listening socket, which the caller keeps open until vsp_nbd_stop. */
int vsp_nbd_listen(struct vsp_nbd *nbd, int fd, struct hv_err *err);

/* Serves one connected socket, which is taken over, also when it fails. */
int vsp_nbd_connect(struct vsp_nbd *nbd, int fd, struct hv_err *err);

/* Accepts no more, and cuts off clients that are not being served yet. */
void vsp_nbd_stop(struct vsp_nbd *nbd);

/* Cuts off all clients, but for those that are with a peer. What is in flight comes to its end. */
void vsp_nbd_cut(struct vsp_nbd *nbd);

/*
 * How many connections that it has accepted there are, those included that are with a peer, or only
 * wait for requests in flight.
 */
unsigned vsp_nbd_connections(const struct vsp_nbd *nbd);

/* Calls empty, on the loop, whenever the last of them has gone. */
void vsp_nbd_on_empty(struct vsp_nbd *nbd, void (*empty)(void *arg), void *arg);

#endif
