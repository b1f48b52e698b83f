/*
 * The request core.
 *
 * The way of a request: submit (bounds, access), limits of rate (qos.h), admit (whether it may go
 * beside others), send (to the disk, in pieces where it is long), finish (statistics, done). An
 * unaligned change has to wait: it runs alone, and changes that come after it wait behind it, so
 * that it cannot starve. A device that has stopped admits nothing (on_error.h).
 */
#include "vsp-storage/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/log.h"
#include "vsp-storage/pieces.h"
#include "vsp-storage/qos.h"

#define LOG_INTERVAL_NS UINT64_C(1000000000)

int vsp_device_new(struct hv_disk *disk, const struct vsp_device_options *options,
		   struct vsp_device **ret, struct hv_err *err)
{
	HV_AUTO(vsp_device_free) struct vsp_device *device = calloc(1, sizeof(*device));
	int rc;

	if (!device) {
		hv_disk_close(disk);
		return hv_fail(err, -ENOMEM, "not enough memory for a device");
	}
	device->loop = disk->loop;
	device->disk = disk;
	device->size_bytes = disk->size_bytes;
	device->read_only = options->read_only || !disk->writable;
	device->discard = options->discard;
	device->coalesce = options->coalesce;
	device->fast_zero = options->fast_zero;
	device->cache = options->cache;
	device->sector_bytes = options->sector_bytes ? options->sector_bytes : HV_SECTOR_SIZE;
	memcpy(device->serial, options->serial, sizeof(device->serial));
	vsp_device_set_slow(device, options->slow_ms);
	rc = vsp_on_error_set(device, options->stops, err);
	if (rc)
		return rc;
	*ret = hv_steal(device);
	return 0;
}

void vsp_device_set_slow(struct vsp_device *device, uint32_t slow_ms)
{
	device->telemetry.slow_ns = slow_ms * UINT64_C(1000000);
}

void vsp_device_lend(struct vsp_device *device, struct hv_loop *loop)
{
	device->lent = true;
	hv_disk_move(device->disk, loop);
}

void vsp_device_take_back(struct vsp_device *device)
{
	device->lent = false;
}

int vsp_device_extent(struct vsp_device *device, uint64_t offset, uint64_t length, unsigned flags,
		      struct hv_extent *ret)
{
	if (!device->lent)
		return hv_disk_extent(device->disk, offset, length, flags, ret, NULL);
	*ret = (struct hv_extent){ .offset = offset,
				   .length = length,
				   .state = HV_EXTENT_DATA,
				   .host_offset = HV_NO_HOST_OFFSET };
	return 0;
}

void vsp_device_free(struct vsp_device *device)
{
	if (!device)
		return;
	vsp_on_error_done(device);
	hv_disk_close(device->disk);
	free(device);
}

/* Requests that wait. */

static void push(struct vsp_request_queue *queue, struct vsp_request *request)
{
	request->next = NULL;
	if (queue->tail)
		queue->tail->next = request;
	else
		queue->head = request;
	queue->tail = request;
}

static struct vsp_request *pop(struct vsp_request_queue *queue)
{
	struct vsp_request *request = queue->head;

	queue->head = request->next;
	if (!queue->head)
		queue->tail = NULL;
	return request;
}

/* Sending. */

static void send(struct vsp_device *device, struct vsp_request *request)
{
	if (hv_io_changes_data(request->op)) {
		device->changing++;
		request->changing = true;
	}
	if (vsp_is_unaligned(request) || request->length > VSP_PIECE_BYTES)
		vsp_pieces_submit(request);
	else if (request->op == HV_FLUSH && device->cache == VSP_CACHE_UNSAFE)
		hv_loop_finish(device->loop, &request->io, 0);
	else
		hv_disk_submit(device->disk, &request->io);
}

void vsp_device_admit(struct vsp_device *device, struct vsp_request *request)
{
	bool changes = hv_io_changes_data(request->op);

	if (vsp_on_error_holds(device, request))
		return;
	if (changes && device->alone) {
		push(&device->behind, request);
	} else if (changes && vsp_is_unaligned(request)) {
		device->alone = request;
		if (!device->changing)
			send(device, request);
	} else {
		send(device, request);
	}
}

/* A change has ended: is it the turn of one that waits? */
static void change_done(struct vsp_device *device, const struct vsp_request *request)
{
	device->changing--;
	if (request == device->alone) {
		device->alone = NULL;
		while (device->behind.head && !device->alone)
			vsp_device_admit(device, pop(&device->behind));
	} else if (device->alone && !device->changing) {
		send(device, device->alone);
	}
}

/* Finishing. */

/* One sentence a second at most: a guest may ask for the same bad sector again and again. */
static bool may_log(uint64_t *logged_ns, uint64_t now)
{
	if (*logged_ns && now - *logged_ns < LOG_INTERVAL_NS)
		return false;
	*logged_ns = now;
	return true;
}

static void log_failure(struct vsp_device *device, uint64_t now)
{
	if (may_log(&device->logged_ns, now))
		hv_log(HV_LOG_WARN, "%s", device->err.sentence);
	hv_err_clear(&device->err);
}

static void log_slow(struct vsp_device *device, const struct vsp_request *request, uint64_t now)
{
	if (may_log(&device->slow_logged_ns, now))
		hv_log(HV_LOG_WARN,
		       "%s: slow: %s of %" PRIu64 " bytes at %" PRIu64 " took %" PRIu64
		       " ms, %u were in flight",
		       device->disk->path, vsp_op_name(request->op), request->length,
		       request->offset, (now - request->start_ns - request->held_ns) / 1000000,
		       request->depth);
}

void vsp_device_finish(struct vsp_device *device, struct vsp_request *request, int result)
{
	uint64_t now = hv_loop_now(device->loop);
	bool slow = vsp_telemetry_end(&device->telemetry, request, result, now);

	if (device->err.code)
		log_failure(device, now);
	if (slow)
		log_slow(device, request, now);
	if (request->governed && device->limits)
		vsp_qos_done(device->limits, request, now);
	request->done(request, result);
}

static void io_done(struct hv_io *io, int result)
{
	struct vsp_request *request = (struct vsp_request *)io;
	struct vsp_device *device = request->device;

	if (request->changing)
		change_done(device, request);
	if (result && !request->refused && vsp_on_error_keeps(device, request, result))
		return;
	vsp_on_error_passed(device, request);
	vsp_device_finish(device, request, result);
}

/* Submitting. */

/* The one check of what guests and clients ask for: 0 or -errno. */
static int judge(const struct vsp_device *device, const struct vsp_request *request)
{
	if (device->read_only && hv_io_changes_data(request->op))
		return -EROFS;
	if (hv_range_inside(request->offset, request->length, device->size_bytes))
		return 0;
	return request->op == HV_WRITE || request->op == HV_ZERO ? -ENOSPC : -EINVAL;
}

void vsp_device_submit(struct vsp_device *device, struct vsp_request *request)
{
	struct hv_io *io = &request->io;
	int rc;

	request->device = device;
	request->start_ns = hv_loop_now(device->loop);
	request->offset = io->offset;
	request->length = io->length;
	request->op = io->op;
	request->changing = request->governed = false;
	if (io->op == HV_DISCARD && !device->discard)
		request->op = io->op = HV_ZERO;
	if (device->cache == VSP_CACHE_UNSAFE)
		io->flags &= ~(unsigned)HV_IO_FUA;
	request->flags = io->flags;
	io->done = io_done;
	io->err = &device->err;
	vsp_telemetry_begin(&device->telemetry, request);
	rc = judge(device, request);
	request->refused = rc != 0;
	if (rc || (!io->length && io->op != HV_FLUSH)) {
		hv_loop_finish(device->loop, io, rc);
		return;
	}
	if (device->limits)
		vsp_qos_submit(device->limits, request);
	else
		vsp_device_admit(device, request);
}

/* Clients. */

void vsp_device_attach(struct vsp_device *device, struct vsp_client *client)
{
	client->next = device->clients;
	device->clients = client;
}

void vsp_device_detach(struct vsp_device *device, struct vsp_client *client)
{
	struct vsp_client **link = &device->clients;

	while (*link && *link != client)
		link = &(*link)->next;
	if (*link)
		*link = client->next;
}

/* A client may go while it is being told. */
void vsp_device_dismiss(struct vsp_device *device)
{
	struct vsp_client *next;

	for (struct vsp_client *client = device->clients; client; client = next) {
		next = client->next;
		client->detach(client);
	}
}

bool vsp_device_is_idle(const struct vsp_device *device)
{
	return !device->clients && !device->telemetry.in_flight;
}

void vsp_device_resized(struct vsp_device *device)
{
	struct vsp_client *next;

	device->size_bytes = device->disk->size_bytes;
	for (struct vsp_client *client = device->clients; client; client = next) {
		next = client->next;
		client->resized(client);
	}
}
