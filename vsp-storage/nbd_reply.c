/*
 * Replies, and sending them: as many as there are with one system call, header and data of each
 * from where they are.
 *
 * Which form a reply has: extended headers once they are agreed on; else a read and a block status
 * are answered by chunks once structured replies are, and everything else by a simple reply.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define SEND_IOV 128
#define ENCRYPTIONS 8 /* of many bytes, with one turn: others want theirs, too */

static void queue(struct nbd_request *request)
{
	struct nbd_request_queue *replies = &request->connection->replies;

	request->next = NULL;
	if (replies->tail)
		replies->tail->next = request;
	else
		replies->head = request;
	replies->tail = request;
}

/* A client that is gone gets nothing; its connection may have waited for this request to end. */
static void answer(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	if (connection->phase == NBD_CLOSED)
		nbd_request_recycle(request);
	else
		queue(request);
	nbd_schedule(connection);
}

static bool by_chunks(const struct nbd_request *request)
{
	const struct nbd_connection *connection = request->connection;

	if (connection->extended)
		return true;
	return connection->structured &&
	       (request->type == NBD_CMD_READ || request->type == NBD_CMD_BLOCK_STATUS);
}

size_t nbd_put_chunk(const struct nbd_request *request, uint8_t *out, uint16_t flags, uint16_t type,
		     uint64_t length)
{
	struct nbd_extended_chunk extended = {
		.magic = hv_be32_make(NBD_EXTENDED_REPLY_MAGIC),
		.flags = hv_be16_make(flags),
		.type = hv_be16_make(type),
		.cookie = hv_be64_make(request->cookie),
		.offset = hv_be64_make(request->offset),
		.length = hv_be64_make(length),
	};
	struct nbd_chunk chunk = {
		.magic = hv_be32_make(NBD_STRUCTURED_REPLY_MAGIC),
		.flags = extended.flags,
		.type = extended.type,
		.cookie = extended.cookie,
		.length = hv_be32_make((uint32_t)length),
	};

	if (request->connection->extended) {
		memcpy(out, &extended, sizeof(extended));
		return sizeof(extended);
	}
	memcpy(out, &chunk, sizeof(chunk));
	return sizeof(chunk);
}

/* The only chunk of a reply, with a payload that begins in the header, and may go on as data. */
static void reply_chunk(struct nbd_request *request, uint16_t type, const void *payload,
			size_t payload_bytes, size_t data_bytes)
{
	size_t size = nbd_put_chunk(request, request->header, NBD_REPLY_FLAG_DONE, type,
				    payload_bytes + data_bytes);

	if (payload_bytes)
		memcpy(request->header + size, payload, payload_bytes);
	request->header_bytes = size + payload_bytes;
	request->data_bytes = data_bytes;
	answer(request);
}

static void reply_simple(struct nbd_request *request, uint32_t error, size_t data_bytes)
{
	struct nbd_simple_reply reply = {
		.magic = hv_be32_make(NBD_SIMPLE_REPLY_MAGIC),
		.error = hv_be32_make(error),
		.cookie = hv_be64_make(request->cookie),
	};

	memcpy(request->header, &reply, sizeof(reply));
	request->header_bytes = sizeof(reply);
	request->data_bytes = data_bytes;
	answer(request);
}

void nbd_reply(struct nbd_request *request, uint32_t error)
{
	struct nbd_error failure = { .error = hv_be32_make(error) };
	hv_be64 offset = hv_be64_make(request->offset);
	size_t data_bytes = request->type == NBD_CMD_READ && !error ? request->length : 0;

	if (!data_bytes)
		vsp_buffers_put(nbd_buffers(request->connection->nbd), &request->buffer);
	if (!by_chunks(request))
		reply_simple(request, error, data_bytes);
	else if (error)
		reply_chunk(request, NBD_REPLY_TYPE_ERROR, &failure, sizeof(failure), 0);
	else if (data_bytes)
		reply_chunk(request, NBD_REPLY_TYPE_OFFSET_DATA, &offset, sizeof(offset),
			    data_bytes);
	else
		reply_chunk(request, NBD_REPLY_TYPE_NONE, NULL, 0, 0);
}

void nbd_reply_hole(struct nbd_request *request)
{
	struct nbd_hole hole = { .offset = hv_be64_make(request->offset),
				 .length = hv_be32_make((uint32_t)request->length) };

	reply_chunk(request, NBD_REPLY_TYPE_OFFSET_HOLE, &hole, sizeof(hole), 0);
}

void nbd_reply_chunks(struct nbd_request *request, size_t data_bytes)
{
	request->header_bytes = 0;
	request->data_bytes = data_bytes;
	answer(request);
}

/* Sending. */

static bool add(struct iovec *iov, int *count, void *base, size_t length, size_t *skip)
{
	size_t skipped = *skip < length ? *skip : length;

	*skip -= skipped;
	if (length == skipped)
		return true;
	if (*count == SEND_IOV)
		return false;
	iov[(*count)++] = (struct iovec){ (char *)base + skipped, length - skipped };
	return true;
}

/* All that is to be sent, from where sending stopped. */
static int gather(struct nbd_connection *connection, struct iovec *iov)
{
	size_t skip = connection->reply_sent;
	size_t out_skip = connection->out_sent;
	int count = 0;

	add(iov, &count, connection->out, connection->out_bytes, &out_skip);
	for (struct nbd_request *reply = connection->replies.head; reply; reply = reply->next)
		if (!add(iov, &count, reply->header, reply->header_bytes, &skip) ||
		    !add(iov, &count, reply->buffer.memory, reply->data_bytes, &skip))
			break;
	return count;
}

/* n bytes have been sent. */
static void forget(struct nbd_connection *connection, size_t n)
{
	struct nbd_request_queue *replies = &connection->replies;
	size_t out = connection->out_bytes - connection->out_sent;

	out = n < out ? n : out;
	connection->out_sent += out;
	if (connection->out_sent == connection->out_bytes)
		connection->out_sent = connection->out_bytes = 0;
	connection->reply_sent += n - out;
	while (replies->head) {
		struct nbd_request *reply = replies->head;
		size_t size = reply->header_bytes + reply->data_bytes;

		if (connection->reply_sent < size)
			break;
		connection->reply_sent -= size;
		replies->head = reply->next;
		if (!replies->head)
			replies->tail = NULL;
		nbd_request_recycle(reply);
	}
}

bool nbd_has_output(const struct nbd_connection *connection)
{
	return connection->out_bytes || connection->replies.head ||
	       (connection->tls && nbd_tls_has_output(connection->tls));
}

static ssize_t send_some(struct nbd_connection *connection)
{
	struct iovec iov[SEND_IOV];
	struct msghdr message = { .msg_iov = iov };

	message.msg_iovlen = (size_t)gather(connection, iov);
	if (connection->tls)
		return nbd_tls_send(connection->tls, iov, message.msg_iovlen);
	return sendmsg(connection->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int nbd_send(struct nbd_connection *connection)
{
	for (int i = 0; nbd_has_output(connection); i++) {
		ssize_t n;

		if (connection->tls && i == ENCRYPTIONS) {
			nbd_schedule(connection);
			return 0;
		}
		n = send_some(connection);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		forget(connection, (size_t)n);
	}
	return 0;
}
