/*
 * Each function is its namesake of meter.h, under the lock.
 */
#include "vsp-storage/vm_meter.h"

#define VERDICT_NS UINT64_C(25000000) /* for as long a verdict holds */

void vsp_vm_meter_init(struct vsp_vm_meter *vm)
{
	*vm = (struct vsp_vm_meter){ 0 };
	pthread_mutex_init(&vm->lock, NULL);
}

void vsp_vm_meter_done(struct vsp_vm_meter *vm)
{
	pthread_mutex_destroy(&vm->lock);
}

/* Takes the lock, if there is anything to count. */
static bool enter(struct vsp_vm_meter *vm)
{
	if (!__atomic_load_n(&vm->counts, __ATOMIC_RELAXED))
		return false;
	pthread_mutex_lock(&vm->lock);
	return true;
}

static void leave(struct vsp_vm_meter *vm)
{
	pthread_mutex_unlock(&vm->lock);
}

void vsp_vm_meter_set(struct vsp_vm_meter *vm, const struct vsp_limits *limits)
{
	pthread_mutex_lock(&vm->lock);
	vsp_meter_set(&vm->meter, limits);
	if (vsp_meter_is_limited(&vm->meter) || vsp_meter_is_guaranteed(&vm->meter))
		__atomic_store_n(&vm->counts, true, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&vm->lock);
}

bool vsp_vm_meter_is_limited(struct vsp_vm_meter *vm)
{
	bool limited;

	if (!enter(vm))
		return false;
	limited = vsp_meter_is_limited(&vm->meter);
	leave(vm);
	return limited;
}

bool vsp_vm_meter_is_guaranteed(struct vsp_vm_meter *vm)
{
	bool guaranteed;

	if (!enter(vm))
		return false;
	guaranteed = vsp_meter_is_guaranteed(&vm->meter);
	leave(vm);
	return guaranteed;
}

double vsp_vm_meter_wait(struct vsp_vm_meter *vm, const struct vsp_request *request, uint64_t now)
{
	double wait;

	if (!enter(vm))
		return 0;
	wait = vsp_meter_wait(&vm->meter, request, now);
	leave(vm);
	return wait;
}

void vsp_vm_meter_take(struct vsp_vm_meter *vm, const struct vsp_request *request)
{
	if (!enter(vm))
		return;
	vsp_meter_take(&vm->meter, request);
	leave(vm);
}

double vsp_vm_meter_reserve(struct vsp_vm_meter *vm, const struct vsp_request *request,
			    uint64_t now)
{
	double wait;

	if (!enter(vm))
		return 0;
	wait = vsp_meter_wait(&vm->meter, request, now);
	vsp_meter_take(&vm->meter, request);
	leave(vm);
	return wait;
}

void vsp_vm_meter_give_back(struct vsp_vm_meter *vm, const struct vsp_request *request)
{
	if (!enter(vm))
		return;
	vsp_meter_give_back(&vm->meter, request);
	leave(vm);
}

void vsp_vm_meter_begin(struct vsp_vm_meter *vm, uint64_t now)
{
	if (!enter(vm))
		return;
	vsp_meter_begin(&vm->meter, now);
	leave(vm);
}

void vsp_vm_meter_end(struct vsp_vm_meter *vm, const struct vsp_request *request, uint64_t now)
{
	if (!enter(vm))
		return;
	vsp_meter_end(&vm->meter, request, now);
	leave(vm);
}

void vsp_vm_meter_forget(struct vsp_vm_meter *vm, unsigned count, uint64_t now)
{
	if (!enter(vm))
		return;
	vsp_meter_forget(&vm->meter, count, now);
	leave(vm);
}

enum vsp_verdict vsp_vm_meter_judge(struct vsp_vm_meter *vm, uint64_t now)
{
	enum vsp_verdict verdict;

	if (!enter(vm))
		return VSP_UNKNOWN;
	if (now < vm->meter.guarantee.judged_ns + VERDICT_NS)
		verdict = vm->meter.guarantee.verdict;
	else
		verdict = vsp_meter_judge(&vm->meter, now);
	leave(vm);
	return verdict;
}
