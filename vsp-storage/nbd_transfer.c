/*
 * Transmission: requests off the socket and into the device.
 *
 * One recv brings many requests. The payload of a write goes into memory that suits O_DIRECT: what
 * of it came along with its header is copied, the rest is received straight into it, together with
 * what follows. A request that the window has no room for stays in the input, and so do all behind
 * it, until replies have been sent.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "hvcore/checked.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define RECEIVES 8              /* at once, so that no client holds up the others */
#define LARGE_BYTES (64u << 10) /* a write from which payload is not worth a copy */
#define BEYOND_LARGE 4096u      /* read with the end of a large payload: headers */
#define MAX_SKIP (64u << 20)    /* payload of a write that is too long */

/* Taking requests off the input. */

static size_t input_bytes(const struct nbd_connection *connection)
{
	return connection->rx_end - connection->rx_start;
}

static size_t header_bytes(const struct nbd_connection *connection)
{
	return connection->extended ? sizeof(struct nbd_extended_request_header) :
				      sizeof(struct nbd_request_header);
}

/* The two headers differ in the last member only. False: it is no request. */
static bool decode(const struct nbd_connection *connection, struct nbd_asked *ret)
{
	struct nbd_extended_request_header header = { 0 };
	uint32_t magic = connection->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
	struct nbd_request_header compact;

	memcpy(&header, connection->rx + connection->rx_start, header_bytes(connection));
	memcpy(&compact, &header, sizeof(compact));
	*ret = (struct nbd_asked){
		.flags = hv_be16_get(header.flags),
		.type = hv_be16_get(header.type),
		.cookie = hv_be64_get(header.cookie),
		.offset = hv_be64_get(header.offset),
		.length = connection->extended ? hv_be64_get(header.length) :
						 hv_be32_get(compact.length),
	};
	return hv_be32_get(header.magic) == magic;
}

static bool window_has_room(const struct nbd_connection *connection, const struct nbd_asked *asked)
{
	uint64_t bytes = nbd_has_data(asked->type) ? asked->length : 0;

	if (connection->requests >= VSP_NBD_WINDOW_REQUESTS)
		return false;
	return !connection->window_bytes || bytes > VSP_NBD_MAX_REQUEST ||
	       connection->window_bytes + bytes <= VSP_NBD_WINDOW_BYTES;
}

/* Takes one request's header; false: there is none, or it has to wait. */
static bool take_header(struct nbd_connection *connection)
{
	struct nbd_asked asked;

	if (input_bytes(connection) < header_bytes(connection))
		return false;
	if (!decode(connection, &asked) || nbd_payload_of(connection, &asked) > MAX_SKIP) {
		nbd_close(connection);
		return false;
	}
	if (asked.type == NBD_CMD_DISC) {
		connection->phase = NBD_DRAINING;
		nbd_schedule(connection);
		return false;
	}
	connection->stalled = !window_has_room(connection, &asked);
	if (connection->stalled)
		return false;
	connection->rx_start += header_bytes(connection);
	connection->receives_large = asked.type == NBD_CMD_WRITE && asked.length >= LARGE_BYTES;
	nbd_begin(connection, &asked);
	return true;
}

/* False: some is missing. */
static bool take_payload(struct nbd_connection *connection)
{
	struct nbd_request *request = connection->payload;
	uint64_t missing = request->length - connection->payload_got;
	size_t n = hv_min_u64(missing, input_bytes(connection));

	memcpy((char *)request->buffer.memory + connection->payload_got,
	       connection->rx + connection->rx_start, n);
	connection->rx_start += n;
	connection->payload_got += n;
	if (n < missing)
		return false;
	connection->payload = NULL;
	nbd_submit(request);
	return true;
}

static bool take_skipped(struct nbd_connection *connection)
{
	size_t n = hv_min_u64(connection->skip_bytes, input_bytes(connection));

	connection->rx_start += n;
	connection->skip_bytes -= n;
	return !connection->skip_bytes;
}

static void take_requests(struct nbd_connection *connection)
{
	bool more = true;

	while (more && connection->phase == NBD_TRANSFER) {
		if (connection->skip_bytes)
			more = take_skipped(connection);
		else if (connection->payload)
			more = take_payload(connection);
		else
			more = take_header(connection);
	}
}

void nbd_take_input(struct nbd_connection *connection)
{
	if (connection->phase < NBD_TRANSFER)
		nbd_haggle(connection);
	take_requests(connection);
}

/* Receiving. */

bool nbd_wants_input(const struct nbd_connection *connection)
{
	if (connection->tls && !nbd_tls_wants_input(connection->tls))
		return false;
	if (connection->phase < NBD_MOVING)
		return !nbd_has_output(connection);
	return connection->phase == NBD_TRANSFER && !connection->stalled;
}

/* Moves what is left of the input, mostly less than a header, to the front. */
static void make_room(struct nbd_connection *connection)
{
	size_t left = input_bytes(connection);

	memmove(connection->rx, connection->rx + connection->rx_start, left);
	connection->rx_start = 0;
	connection->rx_end = left;
}

/* What was wanted, and where it is to go. */
static size_t prepare(struct nbd_connection *connection, struct iovec iov[2], size_t *count)
{
	const struct nbd_request *request = connection->payload;
	size_t room, missing = 0;

	make_room(connection);
	room = NBD_RX_BYTES - connection->rx_end;
	if (connection->receives_large && !connection->skip_bytes)
		room = hv_min_u64(room, BEYOND_LARGE);
	*count = 0;
	if (request) {
		missing = request->length - connection->payload_got;
		iov[(*count)++] =
			(struct iovec){ (char *)request->buffer.memory + connection->payload_got,
					missing };
	}
	iov[(*count)++] = (struct iovec){ connection->rx + connection->rx_end, room };
	return missing + room;
}

static void received(struct nbd_connection *connection, size_t n)
{
	if (connection->payload) {
		uint64_t missing = connection->payload->length - connection->payload_got;
		size_t direct = hv_min_u64(missing, n);

		connection->payload_got += direct;
		n -= direct;
	}
	connection->rx_end += n;
	nbd_take_input(connection);
}

/* No more will come. What came whole is answered. */
static void end_of_input(struct nbd_connection *connection)
{
	if (connection->payload)
		nbd_request_recycle(connection->payload);
	connection->payload = NULL;
	connection->phase = NBD_DRAINING;
	nbd_schedule(connection);
}

static ssize_t receive_some(struct nbd_connection *connection, size_t *wanted)
{
	struct iovec iov[2];
	struct msghdr message = { .msg_iov = iov };

	*wanted = prepare(connection, iov, &message.msg_iovlen);
	if (connection->tls)
		return nbd_tls_receive(connection->tls, iov, message.msg_iovlen);
	return recvmsg(connection->watch.fd, &message, MSG_DONTWAIT);
}

void nbd_receive(struct nbd_connection *connection)
{
	for (int i = 0; i < RECEIVES; i++) {
		size_t wanted;
		ssize_t n = receive_some(connection, &wanted);

		if (n == 0)
			end_of_input(connection);
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			nbd_close(connection);
		if (n <= 0)
			return;
		received(connection, (size_t)n);
		if ((size_t)n < wanted || !nbd_wants_input(connection))
			return;
	}
	/* What TLS has decrypted, the socket does not wake us for. */
	if (connection->tls)
		nbd_schedule(connection);
}
