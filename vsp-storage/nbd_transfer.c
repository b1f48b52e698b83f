/*
 * Transmission: requests off the socket and into the device.
 *
 * One recv brings many requests. The payload of a write goes into memory that suits O_DIRECT: what
 * of it came along with its header is copied, the rest is received straight into it, together with
 * what follows. A request that the window has no room for stays in the input, and so do all behind
 * it, until replies have been sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hvcore/checked.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define RECEIVES 8              /* at once, so that no client holds up the others */
#define LARGE_BYTES (64u << 10) /* a write from which payload is not worth a copy */
#define BEYOND_LARGE 4096u      /* read with the end of a large payload: headers */
#define HOLE_FROM (32u << 10)   /* a read worth a look whether there is anything */
#define MAX_SKIP (64u << 20)    /* payload of a write that is too long */

/* A request as it came. */
struct asked {
	uint16_t flags, type;
	uint64_t cookie, offset, length;
};

/* Requests in use, and not. */

static struct nbd_request *request_new(struct nbd_connection *connection, const struct asked *asked)
{
	struct nbd_request *request = connection->unused;

	if (request)
		connection->unused = request->next;
	else
		request = calloc(1, sizeof(*request));
	if (!request)
		return NULL;
	request->connection = connection;
	request->cookie = asked->cookie;
	request->offset = asked->offset;
	request->length = asked->length;
	request->type = asked->type;
	request->flags = asked->flags;
	request->charged_bytes = 0;
	connection->requests++;
	return request;
}

void nbd_request_recycle(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	vsp_buffers_put(nbd_buffers(connection->nbd), &request->buffer);
	connection->window_bytes -= request->charged_bytes;
	connection->requests--;
	request->next = connection->unused;
	connection->unused = request;
}

void nbd_requests_free(struct nbd_connection *connection)
{
	struct nbd_request *request;

	while ((request = connection->unused)) {
		connection->unused = request->next;
		free(request);
	}
}

/* Judging. */

static bool has_data(uint16_t type)
{
	return type == NBD_CMD_READ || type == NBD_CMD_WRITE || type == NBD_CMD_CACHE;
}

/* Bytes behind the header. */
static uint64_t payload_of(const struct nbd_connection *connection, const struct asked *asked)
{
	bool has = connection->extended ? asked->flags & NBD_CMD_FLAG_PAYLOAD_LEN :
					  asked->type == NBD_CMD_WRITE;

	return has ? asked->length : 0;
}

static uint16_t known_flags(const struct nbd_connection *connection, uint16_t type)
{
	static const uint16_t known[NBD_CMD_COUNT] = {
		[NBD_CMD_READ] = NBD_CMD_FLAG_DF,
		[NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		[NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_REQ_ONE,
	};
	bool payload = connection->extended && type == NBD_CMD_WRITE;

	/* FUA is allowed with every command, and means something to those that change data. */
	return known[type] | NBD_CMD_FLAG_FUA | (payload ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
}

/* What is wrong with a request by itself: an error of the wire, or 0. Bounds are the device's. */
static uint32_t judge(const struct nbd_connection *connection, const struct asked *asked)
{
	const struct vsp_device *device = connection->device;

	if (asked->type >= NBD_CMD_COUNT)
		return NBD_EINVAL;
	if (asked->flags & ~known_flags(connection, asked->type))
		return NBD_EINVAL;
	if (has_data(asked->type) && asked->length > VSP_NBD_MAX_REQUEST)
		return NBD_EINVAL;
	if (asked->type == NBD_CMD_WRITE && asked->length && !payload_of(connection, asked))
		return NBD_EINVAL;
	if (asked->type == NBD_CMD_TRIM && !device->read_only && !device->discard)
		return NBD_EINVAL;
	if (asked->type == NBD_CMD_BLOCK_STATUS && !connection->contexts)
		return NBD_EINVAL;
	if (asked->flags & NBD_CMD_FLAG_FAST_ZERO && !device->fast_zero)
		return NBD_ENOTSUP;
	return 0;
}

/* Doing. */

static uint32_t wire_error(int result)
{
	switch (-result) {
	case 0:
		return 0;
	case EPERM:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	default:
		return NBD_EIO;
	}
}

static void request_done(struct vsp_request *vsp, int result)
{
	struct nbd_request *request = (struct nbd_request *)vsp;

	/* Zeroing may be discarding to the device, but past the end it is a write to the client. */
	if (request->type == NBD_CMD_WRITE_ZEROES && result == -EINVAL)
		result = -ENOSPC;
	nbd_reply(request, wire_error(result));
}

static enum hv_io_op op_of(const struct nbd_request *request)
{
	switch (request->type) {
	case NBD_CMD_WRITE:
		return HV_WRITE;
	case NBD_CMD_FLUSH:
		return HV_FLUSH;
	case NBD_CMD_TRIM:
		return HV_DISCARD;
	case NBD_CMD_WRITE_ZEROES:
		return request->flags & NBD_CMD_FLAG_NO_HOLE ? HV_ZERO : HV_DISCARD;
	default:
		return HV_READ;
	}
}

static void submit(struct nbd_request *request)
{
	struct hv_io *io = &request->vsp.io;
	bool data = has_data(request->type) && request->length;

	io->op = op_of(request);
	io->flags = request->flags & NBD_CMD_FLAG_FUA && hv_io_changes_data(io->op) ? HV_IO_FUA : 0;
	io->offset = io->op == HV_FLUSH ? 0 : request->offset;
	io->length = io->op == HV_FLUSH ? 0 : request->length;
	request->iov = (struct iovec){ request->buffer.memory, request->length };
	io->iov = data ? &request->iov : NULL;
	io->iov_count = data;
	request->vsp.done = request_done;
	vsp_device_submit(request->connection->device, &request->vsp);
}

/* Is it a read of what is known to hold nothing? It needs neither memory nor the disk. */
static bool reads_hole(const struct nbd_request *request)
{
	const struct nbd_connection *connection = request->connection;
	const struct vsp_device *device = connection->device;
	uint64_t at = hv_round_down(request->offset, HV_SECTOR_SIZE), end;
	struct hv_extent extent;

	if (request->type != NBD_CMD_READ || request->length < HOLE_FROM ||
	    !connection->structured || request->flags & NBD_CMD_FLAG_DF ||
	    !hv_range_inside(request->offset, request->length, device->size_bytes))
		return false;
	end = hv_round_up(request->offset + request->length, HV_SECTOR_SIZE);
	for (; at < end; at += extent.length)
		if (hv_disk_extent(device->disk, at, end - at, HV_EXTENT_COARSE, &extent, NULL) ||
		    extent.state != HV_EXTENT_ZERO)
			return false;
	return true;
}

static int get_buffer(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	if (!has_data(request->type) || !request->length)
		return 0;
	request->charged_bytes = request->length;
	connection->window_bytes += request->length;
	return vsp_buffers_get(nbd_buffers(connection->nbd), request->length, &request->buffer);
}

static void expect_payload(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	connection->payload = request;
	connection->payload_got = 0;
}

/* Without memory for the request itself there can be no reply. */
static void begin(struct nbd_connection *connection, const struct asked *asked)
{
	struct nbd_request *request = request_new(connection, asked);
	uint32_t error = judge(connection, asked);

	if (!request) {
		nbd_close(connection);
		return;
	}
	connection->receives_large = asked->type == NBD_CMD_WRITE && asked->length >= LARGE_BYTES;
	if (!error && reads_hole(request)) {
		nbd_reply_hole(request);
		return;
	}
	if (!error && get_buffer(request))
		error = NBD_ENOMEM;
	if (error) {
		connection->skip_bytes = payload_of(connection, asked);
		nbd_reply(request, error);
	} else if (request->type == NBD_CMD_BLOCK_STATUS) {
		nbd_block_status(request);
	} else if (payload_of(connection, asked)) {
		expect_payload(request);
	} else {
		submit(request);
	}
}

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
static bool decode(const struct nbd_connection *connection, struct asked *ret)
{
	struct nbd_extended_request_header header = { 0 };
	uint32_t magic = connection->extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
	struct nbd_request_header compact;

	memcpy(&header, connection->rx + connection->rx_start, header_bytes(connection));
	memcpy(&compact, &header, sizeof(compact));
	*ret = (struct asked){
		.flags = hv_be16_get(header.flags),
		.type = hv_be16_get(header.type),
		.cookie = hv_be64_get(header.cookie),
		.offset = hv_be64_get(header.offset),
		.length = connection->extended ? hv_be64_get(header.length) :
						 hv_be32_get(compact.length),
	};
	return hv_be32_get(header.magic) == magic;
}

static bool window_has_room(const struct nbd_connection *connection, const struct asked *asked)
{
	uint64_t bytes = has_data(asked->type) ? asked->length : 0;

	if (connection->requests >= VSP_NBD_WINDOW_REQUESTS)
		return false;
	return !connection->window_bytes || bytes > VSP_NBD_MAX_REQUEST ||
	       connection->window_bytes + bytes <= VSP_NBD_WINDOW_BYTES;
}

/* Takes one request's header; false: there is none, or it has to wait. */
static bool take_header(struct nbd_connection *connection)
{
	struct asked asked;

	if (input_bytes(connection) < header_bytes(connection))
		return false;
	if (!decode(connection, &asked) || payload_of(connection, &asked) > MAX_SKIP) {
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
	begin(connection, &asked);
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
	submit(request);
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
	if (connection->phase < NBD_TRANSFER)
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

void nbd_receive(struct nbd_connection *connection)
{
	for (int i = 0; i < RECEIVES; i++) {
		struct iovec iov[2];
		struct msghdr message = { .msg_iov = iov };
		size_t wanted = prepare(connection, iov, &message.msg_iovlen);
		ssize_t n = recvmsg(connection->watch.fd, &message, MSG_DONTWAIT);

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
}
