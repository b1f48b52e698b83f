/*
 * What becomes of a disk whose storage fails, between the request core and the disk.
 *
 * With the policy "report", guests and clients are told. With "stop", a request that fails for want
 * of space or with an I/O error is kept, and so is what comes after it: the device has stopped, and
 * its guest waits. One of the failed requests is tried again, first after a second and then less
 * and less often, but at least every VSP_RETRY_MAX_MS; when that succeeds, all go on.
 *
 * A flush that fails is reported whatever the policy: the host's kernel may have dropped what it
 * could not write, so that no other flush can succeed, either (hv_file_barrier).
 *
 * Whoever asked and does not want to wait any more has his requests given back, undone. All belongs
 * to the device's loop and its thread. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_ON_ERROR_H
#define VSP_STORAGE_ON_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/timer.h"

#define VSP_RETRY_MIN_MS 1000u
#define VSP_RETRY_MAX_MS 30000u

struct vsp_device;
struct vsp_request;

struct vsp_request_queue {
	struct vsp_request *head, *tail;
};

/* Of a device, all zero at first; all but told is private to on_error.c. */
struct vsp_on_error {
	bool stops;                    /* the policy */
	int code;                      /* what it has stopped for; 0: it runs */
	char *why;                     /* a sentence; NULL without memory */
	struct vsp_request_queue kept; /* those that failed come first */
	unsigned kept_count;
	struct vsp_request *probe; /* that is tried again; NULL: none is */
	struct hv_timer timer;     /* closed while no error stops the disk */
	uint32_t wait_ms;
	uint64_t resumed_ns;

	/* It has stopped, or goes on; may be NULL. */
	void (*told)(void *arg, struct vsp_device *device);
	void *told_arg;
};

void vsp_on_error_done(struct vsp_device *device);

/* The policy, at any time; when it is no longer "stop", what was kept is tried once more. */
int vsp_on_error_set(struct vsp_device *device, bool stops, struct hv_err *err);

/* The request must not go to the disk now: it has been taken over. */
bool vsp_on_error_holds(struct vsp_device *device, struct vsp_request *request);

/* The disk has failed the request. Has it been taken over, to be tried again? */
bool vsp_on_error_keeps(struct vsp_device *device, struct vsp_request *request, int result);

/* The request has ended. */
void vsp_on_error_passed(struct vsp_device *device, const struct vsp_request *request);

/* Tries now whether it goes on. -EINVAL for a device that has not stopped. */
int vsp_on_error_resume(struct vsp_device *device, struct hv_err *err);

/*
 * Ends those kept requests that are mine with -ECANCELED, from inside this call: they have not been
 * carried out, and may be asked for again.
 */
void vsp_on_error_give_back(struct vsp_device *device,
			    bool (*mine)(const struct vsp_request *request, const void *arg),
			    const void *arg);

#endif
