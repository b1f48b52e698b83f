/*
 * Keeping requests that failed, and trying them again.
 */
#include "vsp-storage/on_error.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/device.h"
#include "vsp-storage/qos.h"

/* Who stops again so soon after going on has not recovered: the next try comes later. */
#define STEADY_NS UINT64_C(10000000000)

/* Requests that are kept. */

static void keep_last(struct vsp_on_error *on_error, struct vsp_request *request)
{
	struct vsp_request_queue *kept = &on_error->kept;

	request->next = NULL;
	if (kept->tail)
		kept->tail->next = request;
	else
		kept->head = request;
	kept->tail = request;
	on_error->kept_count++;
}

static void keep_first(struct vsp_on_error *on_error, struct vsp_request *request)
{
	struct vsp_request_queue *kept = &on_error->kept;

	request->next = kept->head;
	kept->head = request;
	if (!kept->tail)
		kept->tail = request;
	on_error->kept_count++;
}

static struct vsp_request *take_first(struct vsp_on_error *on_error)
{
	struct vsp_request *request = on_error->kept.head;

	assert(request);
	on_error->kept.head = request->next;
	if (!on_error->kept.head)
		on_error->kept.tail = NULL;
	on_error->kept_count--;
	return request;
}

/* As it was submitted: layers below have changed it. */
static void send_again(struct vsp_device *device, struct vsp_request *request)
{
	request->io.op = request->op;
	request->io.flags = request->flags;
	request->io.offset = request->offset;
	request->io.length = request->length;
	request->changing = false;
	vsp_device_admit(device, request);
}

/* Stopping and going on. */

static void set_timer(struct vsp_on_error *on_error, uint32_t ms)
{
	hv_timer_set(&on_error->timer, ms * UINT64_C(1000000));
}

static void tell(struct vsp_device *device)
{
	if (device->on_error.told)
		device->on_error.told(device->on_error.told_arg, device);
}

static void stop(struct vsp_device *device, int code)
{
	struct vsp_on_error *on_error = &device->on_error;
	uint64_t now = hv_loop_now(device->loop);
	bool again = on_error->resumed_ns && now - on_error->resumed_ns < STEADY_NS;

	if (!again || !on_error->wait_ms)
		on_error->wait_ms = VSP_RETRY_MIN_MS;
	on_error->code = code;
	free(on_error->why);
	on_error->why = strdup(hv_err_text(&device->err, code));
	hv_log(HV_LOG_WARN, "%s: the disk has stopped until it can go on: %s", device->disk->path,
	       hv_err_text(&device->err, code));
	set_timer(on_error, on_error->wait_ms);
	tell(device);
}

static void go_on(struct vsp_device *device)
{
	struct vsp_on_error *on_error = &device->on_error;

	on_error->code = 0;
	on_error->resumed_ns = hv_loop_now(device->loop);
	free(hv_steal(on_error->why));
	set_timer(on_error, 0);
	hv_log(HV_LOG_WARN, "%s: the disk goes on", device->disk->path);
	tell(device);
	while (on_error->kept.head)
		send_again(device, take_first(on_error));
}

static void try_first(struct vsp_device *device)
{
	struct vsp_on_error *on_error = &device->on_error;

	if (on_error->probe)
		return;
	if (!on_error->kept.head) { /* the next one will tell */
		go_on(device);
		return;
	}
	on_error->probe = take_first(on_error);
	send_again(device, on_error->probe);
}

static void try_later(struct vsp_on_error *on_error)
{
	on_error->probe = NULL;
	on_error->wait_ms *= 2;
	if (on_error->wait_ms > VSP_RETRY_MAX_MS)
		on_error->wait_ms = VSP_RETRY_MAX_MS;
	set_timer(on_error, on_error->wait_ms);
}

static void elapsed(struct hv_timer *timer)
{
	struct vsp_device *device = hv_container_of(timer, struct vsp_device, on_error.timer);

	if (device->on_error.code)
		try_first(device);
}

/* For the core. */

/* It takes no room any more from those who share the device. */
static void ungovern(struct vsp_device *device, struct vsp_request *request)
{
	if (request->governed && device->limits)
		vsp_qos_forget(device->limits, hv_loop_now(device->loop));
	request->governed = false;
}

static bool is_worth_waiting(int result)
{
	return result == -ENOSPC || result == -EDQUOT || result == -EIO;
}

bool vsp_on_error_holds(struct vsp_device *device, struct vsp_request *request)
{
	struct vsp_on_error *on_error = &device->on_error;

	if (!on_error->code || request == on_error->probe)
		return false;
	ungovern(device, request);
	keep_last(on_error, request);
	return true;
}

bool vsp_on_error_keeps(struct vsp_device *device, struct vsp_request *request, int result)
{
	struct vsp_on_error *on_error = &device->on_error;
	struct vsp_client *next;

	if (!on_error->stops || request->op == HV_FLUSH || !is_worth_waiting(result))
		return false;
	ungovern(device, request);
	keep_first(on_error, request);
	if (request == on_error->probe)
		try_later(on_error);
	else if (!on_error->code)
		stop(device, result);
	hv_err_clear(&device->err);
	for (struct vsp_client *client = device->clients; client; client = next) {
		next = client->next;
		if (client->kept)
			client->kept(client);
	}
	if (device->limits)
		vsp_qos_changed(device->limits->qos);
	return true;
}

void vsp_on_error_passed(struct vsp_device *device, const struct vsp_request *request)
{
	if (request != device->on_error.probe)
		return;
	device->on_error.probe = NULL;
	go_on(device);
}

int vsp_on_error_resume(struct vsp_device *device, struct hv_err *err)
{
	if (!device->on_error.code)
		return hv_fail(err, -EINVAL, "%s: the disk has not stopped", device->disk->path);
	device->on_error.wait_ms = VSP_RETRY_MIN_MS;
	try_first(device);
	return 0;
}

void vsp_on_error_give_back(struct vsp_device *device,
			    bool (*mine)(const struct vsp_request *request, const void *arg),
			    const void *arg)
{
	struct vsp_on_error *on_error = &device->on_error, given = { 0 };
	unsigned count = on_error->kept_count;

	for (; count; count--) {
		struct vsp_request *request = take_first(on_error);

		keep_last(mine(request, arg) ? &given : on_error, request);
	}
	while (given.kept.head)
		vsp_device_finish(device, take_first(&given), -ECANCELED);
}

/* The policy. */

int vsp_on_error_set(struct vsp_device *device, bool stops, struct hv_err *err)
{
	struct vsp_on_error *on_error = &device->on_error;
	int rc = 0;

	if (stops && !on_error->timer.loop)
		rc = hv_timer_open(&on_error->timer, device->loop, elapsed, err);
	if (rc)
		return rc;
	on_error->stops = stops;
	if (!stops && on_error->code)
		go_on(device);
	return 0;
}

void vsp_on_error_done(struct vsp_device *device)
{
	struct vsp_on_error *on_error = &device->on_error;

	hv_timer_close(&on_error->timer);
	free(on_error->why);
}
