/*
 * What the parts of the NBD server share: nbd_server.c (listening, lives of connections),
 * nbd_options.c (haggling), nbd_transfer.c (receiving), nbd_request.c (judging and doing),
 * nbd_status.c (what is where), nbd_reply.c (replies), nbd_tls.c (encryption). Private to
 * vsp-storage/.
 *
 * A connection does its work in two places: when its socket is readable or writable, and in its
 * turn, which comes with the next turn of the loop after anything was done for it. The turn sends
 * all replies that have gathered with one system call, goes on with requests that had to wait, and
 * is the only place where a connection is freed. So nothing here is freed under anybody's feet.
 */
#ifndef VSP_STORAGE_NBD_CONNECTION_H
#define VSP_STORAGE_NBD_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "vsp-storage/buffers.h"
#include "vsp-storage/nbd.h"

struct nbd_tls;

#define NBD_RX_BYTES (128u << 10)
#define NBD_REPLY_HEADER_MAX 48

enum nbd_phase {
	NBD_GREETING, /* the client's flags are awaited */
	NBD_HAGGLING,
	NBD_MOVING, /* agreed; to go on with a peer when what was said has been sent */
	NBD_TRANSFER,
	NBD_DRAINING, /* nothing more is read; what is in flight is answered */
	NBD_CLOSED,   /* the socket is gone; requests may still be in flight */
};

enum nbd_context {
	NBD_CONTEXT_ALLOCATION, /* base:allocation */
	NBD_CONTEXT_DEPTH,      /* hvkit:depth: which layer of the chain holds it */
	NBD_CONTEXTS,
};

struct nbd_request {
	struct vsp_request vsp; /* the first member */
	struct nbd_connection *connection;
	struct nbd_request *next;
	uint64_t cookie, offset, length;
	uint16_t type, flags;
	uint64_t charged_bytes; /* of the window */
	struct vsp_buffer buffer;
	struct iovec iov;

	/* The reply: header, then data. */
	uint8_t header[NBD_REPLY_HEADER_MAX];
	size_t header_bytes, data_bytes;
};

struct nbd_request_queue {
	struct nbd_request *head, *tail;
};

struct nbd_export_entry {
	struct vsp_client client; /* the first member */
	struct vsp_nbd *nbd;
	struct vsp_device *device;
	struct nbd_export_entry *next;
	char name[];
};

struct nbd_connection {
	struct hv_watch watch;
	struct vsp_client client; /* of device */
	struct vsp_nbd *nbd;      /* that serves it */
	struct vsp_nbd *home;     /* that has accepted it */
	struct hv_work passing;   /* from the one to the other */
	struct nbd_connection *next, **link;
	struct hv_io turn;
	bool turn_comes;
	enum nbd_phase phase;
	uint32_t events; /* watched for */
	uint64_t since_ns;

	struct nbd_tls *tls; /* NULL: none */
	bool starts_tls;     /* when what was said has been sent */

	/* Agreed on. */
	bool no_zeroes, structured, extended;
	struct vsp_device *chosen;         /* from NBD_MOVING on */
	struct vsp_device *device;         /* served, from NBD_TRANSFER on */
	struct vsp_device *context_device; /* that contexts were set for */
	unsigned contexts;                 /* bits by enum nbd_context */

	/* Input. */
	uint8_t *rx; /* NBD_RX_BYTES */
	size_t rx_start, rx_end;
	bool stalled;                /* there is input, and the window is full */
	bool receives_large;         /* writes: little is read beyond their payload */
	uint64_t skip_bytes;         /* of input, nobody wants them */
	struct nbd_request *payload; /* whose payload is being received */
	uint64_t payload_got;

	/* Output: of the handshake, and replies. */
	uint8_t *out;
	size_t out_size, out_bytes, out_sent;
	struct nbd_request_queue replies;
	size_t reply_sent; /* of the first */

	/* Requests: those not in use, and what is taken of the window. */
	struct nbd_request *unused;
	unsigned requests;
	uint64_t window_bytes;
};

/* nbd_server.c */

/* Has the connection's turn come with the next turn of the loop. */
void nbd_schedule(struct nbd_connection *connection);

/* The end, for whatever reason; the struct stays until its turn. */
void nbd_close(struct nbd_connection *connection);

/* The client has chosen: it is served, here or by the peer of that device's loop. */
void nbd_serve(struct nbd_connection *connection, struct vsp_device *device);

/* What is done every few seconds, by a clock of which now is the time. */
void nbd_tick(struct vsp_nbd *nbd, uint64_t now);

struct vsp_device *nbd_find_export(struct vsp_nbd *nbd, const char *name, size_t length);
const struct nbd_export_entry *nbd_exports(const struct vsp_nbd *nbd);
struct vsp_buffers *nbd_buffers(struct vsp_nbd *nbd);
struct hv_loop *nbd_loop(struct vsp_nbd *nbd);
const struct vsp_tls *nbd_credentials(const struct vsp_nbd *nbd); /* NULL: there is no TLS */

/* Is it served in plain, though it must not be? */
bool nbd_lacks_tls(const struct nbd_connection *connection);

/* nbd_options.c */

int nbd_greet(struct nbd_connection *connection);

/*
 * Takes what it can from the input, in GREETING and HAGGLING. An option is looked at when the
 * answer to the one before has been sent, so that output is bounded.
 */
void nbd_haggle(struct nbd_connection *connection);

/* nbd_transfer.c */

/* Is there a use for more input now? Otherwise the client has to wait. */
bool nbd_wants_input(const struct nbd_connection *connection);

/* Reads from the socket, and does nbd_take_input. */
void nbd_receive(struct nbd_connection *connection);

/* Takes what it can from the input, in every phase. */
void nbd_take_input(struct nbd_connection *connection);

/* nbd_request.c */

/* A request as it came. */
struct nbd_asked {
	uint16_t flags, type;
	uint64_t cookie, offset, length;
};

/* Does the command move length bytes, to or from memory of ours? */
bool nbd_has_data(uint16_t type);

/* Bytes that follow the header. */
uint64_t nbd_payload_of(const struct nbd_connection *connection, const struct nbd_asked *asked);

/*
 * Begins what is asked for: it is answered, or with the device, or its payload is awaited and
 * nbd_submit to be called when it is there.
 */
void nbd_begin(struct nbd_connection *connection, const struct nbd_asked *asked);
void nbd_submit(struct nbd_request *request);

/* Requests that are kept (on_error.h) are not waited for. */
void nbd_give_back(struct nbd_connection *connection);

/* To be used again; a connection frees them with nbd_requests_free. */
void nbd_request_recycle(struct nbd_request *request);
void nbd_requests_free(struct nbd_connection *connection);

/* nbd_status.c */

/* Answers a block status request. */
void nbd_block_status(struct nbd_request *request);

/* nbd_reply.c */

/* Queues the reply; error is of the wire, 0 for none. What a read was asked for is in its buffer. */
void nbd_reply(struct nbd_request *request, uint32_t error);
void nbd_reply_hole(struct nbd_request *request);

/* Writes a chunk's header; returns its size. */
size_t nbd_put_chunk(const struct nbd_request *request, uint8_t *out, uint16_t flags, uint16_t type,
		     uint64_t length);
/* Queues a reply of data_bytes in the buffer, chunks' headers included. */
void nbd_reply_chunks(struct nbd_request *request, size_t data_bytes);

/* Sends what the socket takes. -EPIPE and its like: the client is gone. */
int nbd_send(struct nbd_connection *connection);
bool nbd_has_output(const struct nbd_connection *connection);

/* nbd_tls.c */

/* From now on all goes through TLS; without memory the connection ends. */
void nbd_tls_begin(struct nbd_connection *connection);
void nbd_tls_free(struct nbd_tls *tls); /* NULL is fine */

bool nbd_tls_wants_input(const struct nbd_tls *tls);
bool nbd_tls_has_input(const struct nbd_tls *tls); /* no longer in the socket */
bool nbd_tls_has_output(const struct nbd_tls *tls);

/* As recvmsg and sendmsg. What nbd_tls_send has taken over may not be on its way yet. */
ssize_t nbd_tls_receive(struct nbd_tls *tls, const struct iovec *iov, size_t count);
ssize_t nbd_tls_send(struct nbd_tls *tls, const struct iovec *iov, size_t count);

#endif
