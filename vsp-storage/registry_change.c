/*
 * Changes by command: the file as it is now, changed, is served, then published.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/clock.h"
#include "hvcore/file.h"
#include "vhd/vhd.h"
#include "vsp-storage/registry.h"

#define QUIET_NS UINT64_C(30000000000) /* in which what the disk has begun should end */
#define QUIET_LOOK_US 500

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

static int begin(const struct vsp_vm *vm, struct vsp_conf **ret, struct hv_err *err)
{
	HV_AUTO(free) char *path = vsp_registry_path(vm->registry, vm->name);

	return path ? vsp_conf_read(path, ret, err) : no_memory(err);
}

/* Takes conf over. name: the disk that has to be served then; NULL: all of them. */
static int try_out(struct vsp_vm *vm, struct vsp_conf *conf, const char *name, struct hv_err *err)
{
	struct vsp_vm_file *file;
	int rc = vsp_vm_file_new(conf, &file, err);

	if (rc == 0)
		rc = vsp_vm_apply(vm, file);
	for (struct vsp_disk *disk = vm->disks; disk && rc == 0; disk = disk->next)
		if (disk->fault && !disk->removed && (!name || !strcmp(disk->name, name)))
			rc = hv_fail(err, -EIO, "disk \"%s\": %s", disk->name, disk->fault);
	return rc;
}

static int copy(const struct vsp_conf *conf, struct vsp_conf **ret, struct hv_err *err)
{
	size_t length;
	HV_AUTO(free) char *text = vsp_conf_text(conf, &length);

	return text ? vsp_conf_parse(conf->path, text, length, ret, err) : no_memory(err);
}

/* Takes conf over; name as above. All is as before when it cannot be served or published. */
static int commit(struct vsp_vm *vm, struct vsp_conf *conf, const char *name, struct hv_err *err)
{
	HV_AUTO(vsp_conf_free) struct vsp_conf *old = NULL;
	int rc = vm->file ? copy(vm->file->conf, &old, err) : 0;

	if (rc) {
		vsp_conf_free(conf);
		return rc;
	}
	rc = try_out(vm, conf, name, err);
	if (rc == 0)
		rc = vsp_conf_write(vm->file->conf, err);
	if (rc && old)
		try_out(vm, hv_steal(old), "", NULL);
	return rc;
}

/* Takes conf over after a change of it that may have failed. */
static int end(struct vsp_vm *vm, struct vsp_conf *conf, int rc, const char *name,
	       struct hv_err *err)
{
	if (rc) {
		vsp_conf_free(conf);
		return rc;
	}
	rc = commit(vm, conf, name, err);
	if (rc == 0)
		vsp_registry_tell(vm->registry, "vm.changed", vm->name, NULL, NULL);
	return rc;
}

/* VMs. */

static int describe(struct vsp_conf *conf, const char *const *disks, size_t disk_count,
		    const char *const *options, size_t option_count, struct hv_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < option_count && rc == 0; i++)
		rc = vsp_conf_set_option(conf, NULL, options[i], err);
	for (size_t i = 0; i < disk_count && rc == 0; i++)
		rc = vsp_conf_add_disk(conf, disks[i], err);
	return rc;
}

int vsp_vm_add(struct vsp_registry *registry, const char *name, const char *const *disks,
	       size_t disk_count, const char *const *options, size_t option_count,
	       struct hv_err *err)
{
	HV_AUTO(free) char *path = vsp_registry_path(registry, name);
	struct vsp_conf *conf;
	struct vsp_vm *vm;
	int rc = path ? vsp_name_check("VM", name, err) : no_memory(err);

	if (rc)
		return rc;
	vm = vsp_registry_find(registry, name);
	if (vm)
		return hv_fail(err, vm->removed ? -EBUSY : -EEXIST,
			       vm->removed ? "the VM \"%s\" is still being removed" :
					     "there is a VM \"%s\" already",
			       name);
	if (access(path, F_OK) == 0)
		return hv_fail(err, -EEXIST, "%s: is there already; reload takes it over", path);
	rc = vsp_conf_parse(path, "", 0, &conf, err);
	if (rc)
		return rc;
	rc = describe(conf, disks, disk_count, options, option_count, err);
	vm = rc ? NULL : vsp_vm_new(registry, name);
	if (rc == 0 && !vm)
		rc = no_memory(err);
	if (rc) {
		vsp_conf_free(conf);
		return rc;
	}
	rc = commit(vm, conf, NULL, err);
	if (rc)
		vsp_vm_retire(vm);
	else
		vsp_registry_tell(registry, "vm.added", name, NULL, NULL);
	return rc;
}

int vsp_vm_remove(struct vsp_vm *vm, struct hv_err *err)
{
	HV_AUTO(free) char *path = vsp_registry_path(vm->registry, vm->name);
	int rc = path ? hv_file_unlink(path, err) : no_memory(err);

	if (rc && (!path || access(path, F_OK) == 0))
		return rc;
	vsp_vm_retire(vm);
	vsp_registry_tell(vm->registry, "vm.removed", vm->name, NULL, NULL);
	return 0;
}

/* Disks. */

int vsp_vm_attach(struct vsp_vm *vm, const char *description, struct hv_err *err)
{
	struct vsp_disk_spec spec = { 0 };
	struct vsp_conf *conf;
	int rc = vsp_disk_spec_parse(description, &spec, err);

	for (struct vsp_disk *disk = vm->disks; disk && rc == 0; disk = disk->next)
		if (disk->removed && !strcmp(disk->name, spec.name))
			rc = hv_fail(err, -EBUSY, "the disk \"%s\" is still being detached",
				     disk->name);
	if (rc == 0)
		rc = begin(vm, &conf, err);
	if (rc == 0) {
		rc = vsp_conf_add_disk(conf, description, err);
		rc = end(vm, conf, rc, spec.name, err);
	}
	vsp_disk_spec_done(&spec);
	return rc;
}

int vsp_vm_detach(struct vsp_vm *vm, struct vsp_disk *disk, struct hv_err *err)
{
	struct vsp_conf *conf;
	int rc = begin(vm, &conf, err);

	if (rc)
		return rc;
	rc = vsp_conf_remove_disk(conf, disk->name, err);
	return end(vm, conf, rc, "", err);
}

/* Would a disk that is served have to be closed? */
static int judge_set(struct vsp_vm *vm, const struct vsp_conf *conf, const char *name,
		     struct hv_err *err)
{
	HV_AUTO(vsp_vm_file_free) struct vsp_vm_file *file = NULL;
	const struct vsp_disk_spec *now = vm->file ? vsp_vm_file_disk(vm->file, name) : NULL;
	struct vsp_disk *disk;
	struct vsp_conf *again;
	int rc = copy(conf, &again, err);

	if (rc == 0)
		rc = vsp_vm_file_new(again, &file, err);
	if (rc || !now || vsp_vm_disk(vm, name, &disk, NULL) || disk->state != VSP_DISK_SERVED)
		return rc;
	if (vsp_disk_spec_same(now, vsp_vm_file_disk(file, name)))
		return 0;
	return hv_fail(
		err, -EBUSY,
		"the disk \"%s\" is being served; --reattach changes it nevertheless, its clients have to come again",
		name);
}

int vsp_vm_set(struct vsp_vm *vm, const char *disk, const char *const *options, size_t option_count,
	       bool reattach, struct hv_err *err)
{
	struct vsp_conf *conf;
	int rc = begin(vm, &conf, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < option_count && rc == 0; i++)
		rc = vsp_conf_set_option(conf, disk, options[i], err);
	if (rc == 0 && disk && !reattach)
		rc = judge_set(vm, conf, disk, err);
	return end(vm, conf, rc, "", err);
}

static int not_served(const struct vsp_disk *disk, struct hv_err *err)
{
	return hv_fail(err, -EBUSY, "the disk \"%s\" is not being served", disk->name);
}

struct growing {
	struct vsp_vm *vm;
	struct vsp_disk *disk;
	uint64_t size_bytes;
	struct hv_err *err;
	int rc;
	bool lent;
};

static void grow_begin(void *arg)
{
	struct growing *growing = arg;

	growing->rc = vsp_disk_grow_begin(growing->disk, growing->size_bytes, growing->err);
}

static void grow_lend(void *arg)
{
	struct growing *growing = arg;

	growing->lent = vsp_disk_grow_lend(growing->disk, growing->vm->registry->loop);
}

static void grow_end(void *arg)
{
	const struct growing *growing = arg;

	vsp_disk_grow_end(growing->disk);
}

/* Its loop goes on meanwhile. */
static int borrow(struct growing *growing)
{
	uint64_t end = hv_now_ns() + QUIET_NS;

	for (;;) {
		vsp_loop_run(growing->disk->loop, grow_lend, growing);
		if (growing->lent)
			return 0;
		if (hv_now_ns() > end)
			return hv_fail(growing->err, -EBUSY,
				       "the requests that disk \"%s\" has begun do not end",
				       growing->disk->name);
		usleep(QUIET_LOOK_US);
	}
}

static int grow_here(struct growing *growing)
{
	int rc = borrow(growing);

	if (rc == 0) {
		struct hv_disk *disk = growing->disk->device->disk;

		rc = vhd_resize(disk, growing->size_bytes, 0, growing->err);
		hv_disk_move(disk, growing->disk->loop->loop);
	}
	vsp_loop_run(growing->disk->loop, grow_end, growing);
	return rc;
}

int vsp_vm_grow(struct vsp_vm *vm, struct vsp_disk *disk, uint64_t size_bytes, struct hv_err *err)
{
	struct growing growing = { .vm = vm, .disk = disk, .size_bytes = size_bytes, .err = err };
	int rc;

	if (disk->state != VSP_DISK_SERVED)
		return not_served(disk, err);
	vsp_loop_run(disk->loop, grow_begin, &growing);
	rc = growing.rc ? growing.rc : grow_here(&growing);
	if (rc == 0)
		vsp_registry_tell(vm->registry, "disk.resized", vm->name, disk->name, NULL);
	return rc;
}

struct resuming {
	struct vsp_device *device;
	struct hv_err *err;
	int rc;
};

static void resume(void *arg)
{
	struct resuming *resuming = arg;

	resuming->rc = vsp_on_error_resume(resuming->device, resuming->err);
}

int vsp_disk_resume(struct vsp_disk *disk, struct hv_err *err)
{
	struct resuming resuming = { .device = disk->device, .err = err };

	if (disk->state != VSP_DISK_SERVED)
		return not_served(disk, err);
	vsp_loop_run(disk->loop, resume, &resuming);
	return resuming.rc;
}
