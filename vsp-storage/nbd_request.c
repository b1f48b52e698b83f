/*
 * One request: judging what a client asks for, and doing it.
 */
#include <errno.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "vsp-storage/nbd_connection.h"
#include "vsp-storage/nbd_wire.h"

#define HOLE_FROM (32u << 10) /* a read worth a look whether there is anything */

/* Requests in use, and not. */

static struct nbd_request *request_new(struct nbd_connection *connection,
				       const struct nbd_asked *asked)
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

bool nbd_has_data(uint16_t type)
{
	return type == NBD_CMD_READ || type == NBD_CMD_WRITE || type == NBD_CMD_CACHE;
}

/* Bytes behind the header. */
uint64_t nbd_payload_of(const struct nbd_connection *connection, const struct nbd_asked *asked)
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
static uint32_t judge(const struct nbd_connection *connection, const struct nbd_asked *asked)
{
	const struct vsp_device *device = connection->device;

	if (asked->type >= NBD_CMD_COUNT)
		return NBD_EINVAL;
	if (asked->flags & ~known_flags(connection, asked->type))
		return NBD_EINVAL;
	if (nbd_has_data(asked->type) && asked->length > VSP_NBD_MAX_REQUEST)
		return NBD_EINVAL;
	if (asked->type == NBD_CMD_WRITE && asked->length && !nbd_payload_of(connection, asked))
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

	/* A client that is not answered asks again when it is back. */
	if (result == -ECANCELED)
		nbd_close(request->connection);
	/* Zeroing may be discarding to the device, but past the end it is a write to the client. */
	if (request->type == NBD_CMD_WRITE_ZEROES && result == -EINVAL)
		result = -ENOSPC;
	nbd_reply(request, wire_error(result));
}

static bool is_of(const struct vsp_request *vsp, const void *connection)
{
	return vsp->done == request_done &&
	       ((const struct nbd_request *)vsp)->connection == connection;
}

void nbd_give_back(struct nbd_connection *connection)
{
	vsp_on_error_give_back(connection->device, is_of, connection);
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

void nbd_submit(struct nbd_request *request)
{
	struct hv_io *io = &request->vsp.io;
	bool data = nbd_has_data(request->type) && request->length;

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
	struct vsp_device *device = connection->device;
	uint64_t at = hv_round_down(request->offset, HV_SECTOR_SIZE), end;
	struct hv_extent extent;

	if (request->type != NBD_CMD_READ || request->length < HOLE_FROM ||
	    !connection->structured || request->flags & NBD_CMD_FLAG_DF ||
	    !hv_range_inside(request->offset, request->length, device->size_bytes))
		return false;
	end = hv_round_up(request->offset + request->length, HV_SECTOR_SIZE);
	for (; at < end; at += extent.length)
		if (vsp_device_extent(device, at, end - at, HV_EXTENT_COARSE, &extent) ||
		    extent.state != HV_EXTENT_ZERO)
			return false;
	return true;
}

static int get_buffer(struct nbd_request *request)
{
	struct nbd_connection *connection = request->connection;

	if (!nbd_has_data(request->type) || !request->length)
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
void nbd_begin(struct nbd_connection *connection, const struct nbd_asked *asked)
{
	struct nbd_request *request = request_new(connection, asked);
	uint32_t error = judge(connection, asked);

	if (!request) {
		nbd_close(connection);
		return;
	}
	if (!error && reads_hole(request)) {
		nbd_reply_hole(request);
		return;
	}
	if (!error && get_buffer(request))
		error = NBD_ENOMEM;
	if (error) {
		connection->skip_bytes = nbd_payload_of(connection, asked);
		nbd_reply(request, error);
	} else if (request->type == NBD_CMD_BLOCK_STATUS) {
		nbd_block_status(request);
	} else if (nbd_payload_of(connection, asked)) {
		expect_payload(request);
	} else {
		nbd_submit(request);
	}
}
