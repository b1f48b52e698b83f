/*
 * vhost-user-blk: serves a device to one virtual machine at a time over a Unix socket.
 *
 * QEMU, cloud-hypervisor and others are the front end: they share the guest's memory and the
 * descriptors by which the guest and we wake each other, and are not in the way of a request. A
 * front end that has gone may come again, or another one; meanwhile the guest waits. With in-flight
 * tracking (QEMU: always) that also holds for a vspd that was killed and started again: what it had
 * fetched and not answered is done by the next.
 *
 * Front ends and guests are hostile: a front end that does not keep to the protocol, or takes
 * shared memory away, loses its connection; a guest whose ring is not by the rules loses that ring
 * until it resets its device. Both leave one line in the log.
 */
#ifndef VSP_STORAGE_VHOST_H
#define VSP_STORAGE_VHOST_H

#include "vsp-storage/device.h"

struct vsp_vhost;

/*
 * Listens on a Unix socket of mode 0600, on the device's loop. It is a client of the device, and
 * goes when the device does: see vsp_device_dismiss, after which *ret is not to be used. ret may be
 * NULL.
 */
int vsp_vhost_serve(struct vsp_device *device, const char *path, struct vsp_vhost **ret,
		    struct hv_err *err);

/* Is there a front end? */
bool vsp_vhost_is_connected(const struct vsp_vhost *vhost);

#endif
