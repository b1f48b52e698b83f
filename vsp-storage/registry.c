/*
 * The registry: what is served follows the files.
 */
#include "vsp-storage/registry.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/log.h"
#include "vsp-storage/places.h"

#define TURN_MS 20

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

void vsp_registry_tell(struct vsp_registry *registry, const char *what, const char *vm,
		       const char *disk, const char *detail)
{
	if (registry->event)
		registry->event(registry->event_arg, what, vm, disk, detail);
}

static void tell_fault(struct vsp_registry *registry, const char *what, const char *vm,
		       const char *disk, const char *fault)
{
	hv_log(HV_LOG_WARN, "%s%s%s: %s", vm, disk ? "/" : "", disk ? disk : "", fault);
	vsp_registry_tell(registry, what, vm, disk, fault);
}

/*
 * What happens to a disk by itself is seen on its loop, and told on the registry's: the struct has
 * all that there is to tell.
 */
struct news {
	struct hv_work work;
	struct vsp_registry *registry;
	bool stopped;
	char *vm, *disk, *why;
};

static void news_free(struct news *news)
{
	free(news->vm);
	free(news->disk);
	free(news->why);
	free(news);
}

static void news_arrived(struct hv_work *work, int result)
{
	struct news *news = (struct news *)work;

	(void)result;
	vsp_registry_tell(news->registry, news->stopped ? "disk.stopped" : "disk.resumed", news->vm,
			  news->disk, news->why);
	news_free(news);
}

/* Without memory, only the log tells. */
static void disk_told(void *arg, struct vsp_device *device)
{
	const struct vsp_disk *disk = arg;
	struct news *news = calloc(1, sizeof(*news));

	if (!news)
		return;
	news->work.done = news_arrived;
	news->registry = disk->vm->registry;
	news->stopped = device->on_error.code;
	news->vm = strdup(disk->vm->name);
	news->disk = strdup(disk->name);
	news->why = device->on_error.why ? strdup(device->on_error.why) : NULL;
	if (news->vm && news->disk)
		hv_loop_post(news->registry->loop, &news->work);
	else
		news_free(news);
}

/* Finding. */

struct vsp_vm *vsp_registry_find(struct vsp_registry *registry, const char *name)
{
	struct vsp_vm *vm = registry->vms;

	while (vm && strcmp(vm->name, name) != 0)
		vm = vm->next;
	return vm;
}

int vsp_registry_vm(struct vsp_registry *registry, const char *name, struct vsp_vm **ret,
		    struct hv_err *err)
{
	struct vsp_vm *vm = vsp_registry_find(registry, name);

	if (!vm || vm->removed)
		return hv_fail(err, -ENOENT, "there is no VM \"%s\"", name);
	*ret = vm;
	return 0;
}

static struct vsp_disk *find_disk(struct vsp_vm *vm, const char *name)
{
	struct vsp_disk *disk = vm->disks;

	while (disk && strcmp(disk->name, name) != 0)
		disk = disk->next;
	return disk;
}

int vsp_vm_disk(struct vsp_vm *vm, const char *name, struct vsp_disk **ret, struct hv_err *err)
{
	struct vsp_disk *disk = find_disk(vm, name);

	if (!disk || disk->removed)
		return hv_fail(err, -ENOENT, "VM \"%s\" has no disk \"%s\"", vm->name, name);
	*ret = disk;
	return 0;
}

/* VMs come and go. */

static void vm_free(struct vsp_vm *vm)
{
	struct vsp_disk *disk;

	if (!vm)
		return;
	while ((disk = vm->disks)) {
		vm->disks = disk->next;
		vsp_disk_free(disk);
	}
	if (vm->directory)
		rmdir(vm->directory);
	vsp_vm_meter_done(&vm->meter);
	vsp_vm_file_free(vm->file);
	free(vm->directory);
	free(vm->fault);
	free(vm->name);
	free(vm);
}

struct vsp_vm *vsp_vm_new(struct vsp_registry *registry, const char *name)
{
	struct vsp_vm *vm = calloc(1, sizeof(*vm)), **link = &registry->vms;

	if (!vm)
		return NULL;
	vm->registry = registry;
	vsp_vm_meter_init(&vm->meter);
	vm->name = strdup(name);
	if (!vm->name || asprintf(&vm->directory, "%s/%s", registry->runtime_dir, name) < 0) {
		vm->directory = NULL;
		vm_free(vm);
		return NULL;
	}
	while (*link && strcmp((*link)->name, name) < 0)
		link = &(*link)->next;
	vm->next = *link;
	*link = vm;
	return vm;
}

char *vsp_registry_path(const struct vsp_registry *registry, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s" VSP_VM_SUFFIX, registry->config_dir, name) < 0 ? NULL : path;
}

/* What is served follows the definition. */

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void run_dismiss(void *arg)
{
	struct vsp_disk *disk = arg;

	vsp_disk_dismiss(disk, ++disk->vm->registry->tickets);
}

/* On its loop, if it is open. */
static void dismiss(struct vsp_disk *disk)
{
	if (disk->state == VSP_DISK_SERVED)
		vsp_loop_run(disk->loop, run_dismiss, disk);
}

static void remove_disk(struct vsp_disk *disk)
{
	disk->removed = true;
	disk->wanted = false;
	dismiss(disk);
}

struct change {
	struct vsp_disk *disk;
	const struct vsp_disk_spec *spec;
	const char *group;
	bool other_group;
};

/* What may change while it is served. */
static void run_change(void *arg)
{
	const struct change *change = arg;
	const struct vsp_device_options *options = &change->spec->device;
	struct vsp_disk *disk = change->disk;
	const struct vsp_vm *vm = disk->vm;
	HV_ERR(err);

	vsp_meter_set(&disk->limits.own, &change->spec->limits);
	vsp_qos_changed(disk->loop->qos);
	vsp_device_set_slow(disk->device, options->slow_ms);
	disk->device->coalesce = options->coalesce;
	if (vsp_on_error_set(disk->device, options->stops, &err))
		tell_fault(vm->registry, "disk.fault", vm->name, disk->name, err.sentence);
	if (change->other_group && vsp_disk_set_group(disk, change->group, &err))
		tell_fault(vm->registry, "disk.fault", vm->name, disk->name, err.sentence);
}

static void update_disk(struct vsp_disk *disk, const struct vsp_vm_file *file,
			const struct vsp_disk_spec *spec)
{
	const struct vsp_vm_file *before = disk->vm->file;
	const struct vsp_disk_spec *old = before ? vsp_vm_file_disk(before, disk->name) : NULL;
	struct change change = { .disk = disk, .spec = spec, .group = file->socket_group };

	disk->removed = false;
	if (disk->drained)
		return;
	if (disk->state == VSP_DISK_SERVED && old && vsp_disk_spec_same(old, spec)) {
		change.other_group = !same(before->socket_group, file->socket_group);
		vsp_loop_run(disk->loop, run_change, &change);
		return;
	}
	disk->wanted = true;
	dismiss(disk);
}

static int add_disk(struct vsp_vm *vm, const char *name)
{
	struct vsp_disk *disk = vsp_disk_new(name), **link = &vm->disks;

	if (!disk)
		return -ENOMEM;
	while (*link)
		link = &(*link)->next;
	*link = disk;
	disk->vm = vm;
	disk->wanted = true;
	return 0;
}

struct opening {
	struct vsp_disk *disk;
	const struct vsp_disk_spec *spec;
	struct hv_disk *opened;
	bool served;
};

static void serve_opened(void *arg)
{
	struct opening *opening = arg;
	struct vsp_disk *disk = opening->disk;
	struct vsp_vm *vm = disk->vm;
	struct vsp_disk_place place = { .loop = disk->loop,
					.meter = &vm->meter,
					.directory = vm->directory,
					.socket_group = vm->file->socket_group };
	HV_ERR(err);

	if (vsp_disk_serve(disk, opening->spec, opening->opened, &place, &err)) {
		tell_fault(vm->registry, "disk.fault", vm->name, disk->name, err.sentence);
		return;
	}
	disk->device->on_error.told = disk_told;
	disk->device->on_error.told_arg = disk;
	opening->served = true;
	vsp_registry_tell(vm->registry, "disk.attached", vm->name, disk->name, NULL);
}

/* Opening may take its time, so it is done here, and what the loop serves goes on meanwhile. */
static void open_disk(struct vsp_vm *vm, struct vsp_disk *disk)
{
	struct opening opening = { .disk = disk, .spec = vsp_vm_file_disk(vm->file, disk->name) };
	struct vsp_loop *loop = vsp_loops_least(vm->registry->loops);
	HV_ERR(err);
	int rc = vsp_disk_spec_open(opening.spec, vm->registry->loop, &opening.opened, &err);

	if (rc) {
		vsp_disk_refuse(disk, hv_err_text(&err, rc));
		tell_fault(vm->registry, "disk.fault", vm->name, disk->name, hv_err_text(&err, rc));
		return;
	}
	hv_disk_move(opening.opened, loop->loop);
	disk->loop = loop;
	vsp_loop_run(loop, serve_opened, &opening);
	if (opening.served)
		loop->disks++;
	else
		disk->loop = NULL;
}

static void open_wanted(struct vsp_vm *vm)
{
	for (struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
		if (disk->wanted && disk->state == VSP_DISK_ABSENT)
			open_disk(vm, disk);
}

int vsp_vm_apply(struct vsp_vm *vm, struct vsp_vm_file *file)
{
	int rc = 0;

	vsp_vm_meter_set(&vm->meter, &file->limits);
	for (struct vsp_disk *disk = vm->disks; disk; disk = disk->next) {
		const struct vsp_disk_spec *spec = vsp_vm_file_disk(file, disk->name);

		if (spec)
			update_disk(disk, file, spec);
		else
			remove_disk(disk);
	}
	for (size_t i = 0; i < file->disk_count && rc == 0; i++)
		if (!find_disk(vm, file->disks[i].name))
			rc = add_disk(vm, file->disks[i].name);
	vsp_vm_file_free(vm->file);
	vm->file = file;
	free(hv_steal(vm->fault));
	open_wanted(vm);
	return rc;
}

void vsp_vm_retire(struct vsp_vm *vm)
{
	vm->removed = true;
	for (struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
		remove_disk(disk);
}

/* Reading the files. */

static int read_definition(const struct vsp_registry *registry, const char *name,
			   struct vsp_vm_file **ret, struct hv_err *err)
{
	HV_AUTO(free) char *path = vsp_registry_path(registry, name);
	struct vsp_conf *conf;
	int rc = path ? vsp_conf_read(path, &conf, err) : no_memory(err);

	return rc ? rc : vsp_vm_file_new(conf, ret, err);
}

static void report(struct vsp_vm *vm, const char *sentence)
{
	free(vm->fault);
	vm->fault = strdup(sentence);
	tell_fault(vm->registry, "vm.fault", vm->name, NULL, sentence);
}

/* A fault is reported, and changes nothing. */
static int reload_vm(struct vsp_registry *registry, const char *name, struct hv_err *err)
{
	struct vsp_vm *vm = vsp_registry_find(registry, name);
	bool known = vm && !vm->removed;
	struct vsp_vm_file *file;
	HV_ERR(cause);
	int rc = vsp_name_check("VM", name, err);

	if (rc)
		return rc;
	rc = read_definition(registry, name, &file, &cause);
	if (rc == -ENOENT && vm && !vm->removed) {
		vsp_vm_retire(vm);
		vsp_registry_tell(registry, "vm.removed", name, NULL, NULL);
		return 0;
	}
	if (rc == -ENOENT)
		return hv_fail(err, rc, "there is no VM \"%s\"", name);
	if (!vm && !(vm = vsp_vm_new(registry, name))) {
		if (rc == 0)
			vsp_vm_file_free(file);
		return no_memory(err);
	}
	vsp_registry_tell(registry, known ? "vm.changed" : "vm.added", name, NULL, NULL);
	vm->removed = false;
	for (struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
		disk->drained = false;
	if (rc == 0)
		return vsp_vm_apply(vm, file);
	report(vm, hv_err_text(&cause, rc));
	return 0;
}

static bool is_definition(const char *file)
{
	size_t length = strlen(file), suffix = strlen(VSP_VM_SUFFIX);

	return *file != '.' && length > suffix && !strcmp(file + length - suffix, VSP_VM_SUFFIX);
}

/* Those that are not known yet. */
static int load_new(struct vsp_registry *registry, struct hv_err *err)
{
	DIR *directory = opendir(registry->config_dir);
	const struct dirent *entry;

	if (!directory)
		return hv_fail_errno(err, -errno, "%s", registry->config_dir);
	while ((entry = readdir(directory))) {
		HV_AUTO(free) char *name = NULL;
		HV_ERR(fault);

		if (!is_definition(entry->d_name))
			continue;
		name = strndup(entry->d_name, strlen(entry->d_name) - strlen(VSP_VM_SUFFIX));
		if (!name || (vsp_registry_find(registry, name) &&
			      !vsp_registry_find(registry, name)->removed))
			continue;
		if (reload_vm(registry, name, &fault))
			hv_log(HV_LOG_WARN, "%s/%s: %s", registry->config_dir, entry->d_name,
			       fault.sentence);
	}
	closedir(directory);
	return 0;
}

int vsp_registry_reload(struct vsp_registry *registry, const char *name, struct hv_err *err)
{
	if (name)
		return reload_vm(registry, name, err);
	for (struct vsp_vm *vm = registry->vms; vm; vm = vm->next)
		if (!vm->removed)
			reload_vm(registry, vm->name, NULL);
	return load_new(registry, err);
}

/* Draining, and what takes time. */

static void drain(struct vsp_vm *vm)
{
	for (struct vsp_disk *disk = vm->disks; disk; disk = disk->next) {
		disk->drained = true;
		disk->wanted = false;
		dismiss(disk);
	}
}

void vsp_registry_drain(struct vsp_registry *registry, struct vsp_vm *only)
{
	for (struct vsp_vm *vm = registry->vms; vm; vm = vm->next)
		if (!only || vm == only)
			drain(vm);
}

static void run_turn(void *arg)
{
	vsp_disk_turn(arg);
}

static void turn_disk(struct vsp_vm *vm, struct vsp_disk *disk)
{
	if (disk->state <= VSP_DISK_SERVED)
		return;
	vsp_loop_run(disk->loop, run_turn, disk);
	if (disk->state != VSP_DISK_ABSENT)
		return;
	disk->loop->disks--;
	disk->loop = NULL;
	vsp_registry_tell(vm->registry, "disk.detached", vm->name, disk->name, disk->fault);
}

/* Disks that are closed and no longer wanted go. */
static void turn_vm(struct vsp_vm *vm)
{
	struct vsp_disk **link = &vm->disks, *disk;

	while ((disk = *link)) {
		turn_disk(vm, disk);
		if (!disk->removed || disk->state != VSP_DISK_ABSENT) {
			link = &disk->next;
			continue;
		}
		*link = disk->next;
		vsp_disk_free(disk);
	}
}

/* Is anything of it under way? What is served needs nothing. */
static bool is_busy(const struct vsp_vm *vm)
{
	for (const struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
		if (disk->state > VSP_DISK_SERVED || disk->removed || disk->wanted)
			return true;
	return false;
}

int vsp_registry_turn(struct vsp_registry *registry)
{
	struct vsp_vm **link = &registry->vms, *vm;
	bool busy = false;

	while ((vm = *link)) {
		turn_vm(vm);
		if (!vm->removed)
			open_wanted(vm);
		busy |= is_busy(vm);
		if (!vm->removed || vm->disks) {
			link = &vm->next;
			continue;
		}
		*link = vm->next;
		vm_free(vm);
	}
	return busy ? TURN_MS : -1;
}

bool vsp_registry_is_settled(const struct vsp_registry *registry, uint64_t ticket)
{
	for (const struct vsp_vm *vm = registry->vms; vm; vm = vm->next)
		for (const struct vsp_disk *disk = vm->disks; disk; disk = disk->next)
			if (disk->state > VSP_DISK_SERVED && disk->ticket <= ticket)
				return false;
	return true;
}

/* Beginning and end. */

int vsp_registry_new(struct hv_loop *loop, struct vsp_loops *loops, const char *config_dir,
		     const char *runtime_dir, struct vsp_registry **ret, struct hv_err *err)
{
	HV_AUTO(vsp_registry_free) struct vsp_registry *registry = calloc(1, sizeof(*registry));
	int rc;

	if (!registry || !(registry->config_dir = strdup(config_dir)) ||
	    !(registry->runtime_dir = strdup(runtime_dir)))
		return no_memory(err);
	registry->loop = loop;
	registry->loops = loops;
	rc = hv_loop_listen(loop, err);
	if (rc == 0)
		rc = vsp_make_directory(config_dir, err);
	if (rc == 0)
		rc = vsp_make_directory(runtime_dir, err);
	if (rc)
		return rc;
	*ret = hv_steal(registry);
	return 0;
}

void vsp_registry_free(struct vsp_registry *registry)
{
	struct vsp_vm *vm;

	if (!registry)
		return;
	while ((vm = registry->vms)) {
		registry->vms = vm->next;
		vm_free(vm);
	}
	free(registry->config_dir);
	free(registry->runtime_dir);
	free(registry);
}
