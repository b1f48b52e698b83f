/*
 * The meter of a VM: its disks, which may be on several loops, share its limits and its guarantee.
 * Private to vsp-storage/.
 *
 * As meter.h, from any thread. The lock is taken for the requests of VMs that have limits or a
 * guarantee of their own, or had them once, and only for those. Times of several loops are
 * compared, which differ by as long as a batch of completions takes.
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
bool vsp_vm_meter_is_limited(struct vsp_vm_meter *vm);
bool vsp_vm_meter_is_guaranteed(struct vsp_vm_meter *vm);

double vsp_vm_meter_wait(struct vsp_vm_meter *vm, const struct vsp_request *request, uint64_t now);
void vsp_vm_meter_take(struct vsp_vm_meter *vm, const struct vsp_request *request);

/*
 * Takes what a request that has to wait needs, for when it will be there: nanoseconds from now. So
 * loops have it in the order in which they asked.
 */
double vsp_vm_meter_reserve(struct vsp_vm_meter *vm, const struct vsp_request *request,
			    uint64_t now);
void vsp_vm_meter_give_back(struct vsp_vm_meter *vm, const struct vsp_request *request);

void vsp_vm_meter_begin(struct vsp_vm_meter *vm, uint64_t now);
void vsp_vm_meter_end(struct vsp_vm_meter *vm, const struct vsp_request *request, uint64_t now);
void vsp_vm_meter_forget(struct vsp_vm_meter *vm, unsigned count, uint64_t now);

/* Loops ask in turns: what one was told, the others are told for a while. */
enum vsp_verdict vsp_vm_meter_judge(struct vsp_vm_meter *vm, uint64_t now);

#endif
