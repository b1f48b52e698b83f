/*
 * The lock around it.
 */
#include "vsp-storage/vm_meter.h"

void vsp_vm_meter_init(struct vsp_vm_meter *vm)
{
	*vm = (struct vsp_vm_meter){ 0 };
	pthread_mutex_init(&vm->lock, NULL);
}

void vsp_vm_meter_done(struct vsp_vm_meter *vm)
{
	pthread_mutex_destroy(&vm->lock);
}

void vsp_vm_meter_set(struct vsp_vm_meter *vm, const struct vsp_limits *limits)
{
	pthread_mutex_lock(&vm->lock);
	vsp_meter_set(&vm->meter, limits);
	if (vsp_meter_is_limited(&vm->meter) || vsp_meter_is_guaranteed(&vm->meter))
		__atomic_store_n(&vm->counts, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&vm->lock);
}

struct vsp_meter *vsp_vm_meter_enter(struct vsp_vm_meter *vm)
{
	if (!vm || !__atomic_load_n(&vm->counts, __ATOMIC_RELAXED))
		return NULL;
	pthread_mutex_lock(&vm->lock);
	return &vm->meter;
}

void vsp_vm_meter_leave(struct vsp_vm_meter *vm)
{
	pthread_mutex_unlock(&vm->lock);
}
