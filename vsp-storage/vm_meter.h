/*
 * The meter of a VM: its disks, which may be on several loops, share its limits and its guarantee.
 * Private to vsp-storage/.
 *
 * From any thread. Requests of a VM that never had limits or a guarantee of its own do not take the
 * lock. Times of several loops are compared, which differ by as long as a batch of completions
 * takes.
 */
#ifndef VSP_STORAGE_VM_METER_H
#define VSP_STORAGE_VM_METER_H

#include <pthread.h>

#include "vsp-storage/meter.h"

struct vsp_vm_meter {
	pthread_mutex_t lock;
	bool counts; /* atomic; once it is set, it stays */
	struct vsp_meter meter;
};

/* Without limits. */
void vsp_vm_meter_init(struct vsp_vm_meter *vm);
void vsp_vm_meter_done(struct vsp_vm_meter *vm);

void vsp_vm_meter_set(struct vsp_vm_meter *vm, const struct vsp_limits *limits);

/* The meter, until vsp_vm_meter_leave; NULL, and nothing to leave: there is nothing to count. */
struct vsp_meter *vsp_vm_meter_enter(struct vsp_vm_meter *vm);
void vsp_vm_meter_leave(struct vsp_vm_meter *vm);

#endif
