/*
 * Commands: a table, and a function for each.
 */
#include "vsp-storage/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/log.h"
#include "vsp-storage/stats.h"

/* Arguments. */

static int get_string(const struct vsp_call *call, const char *key, const char **ret,
		      struct hv_err *err)
{
	*ret = hv_json_get_string(call->request, key);
	return *ret ? 0 : hv_fail(err, -EINVAL, "\"%s\" is missing, or no text", key);
}

/* An array of texts, which is malloc'ed; none is an empty one. */
static int get_strings(const struct vsp_call *call, const char *key, const char ***ret,
		       size_t *count, struct hv_err *err)
{
	struct hv_json *array = hv_json_get_array(call->request, key);

	if (!array && hv_json_has(call->request, key))
		return hv_fail(err, -EINVAL, "\"%s\" is no list", key);
	*count = hv_json_count(array);
	*ret = calloc(*count + 1, sizeof(**ret));
	if (!*ret)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (size_t i = 0; i < *count; i++) {
		(*ret)[i] = hv_json_string_at(array, i);
		if (!(*ret)[i])
			return hv_fail(err, -EINVAL, "\"%s\" holds what is no text", key);
	}
	return 0;
}

static bool is_visible(void *arg, const char *vm)
{
	const struct vsp_call *call = arg;

	return vsp_roles_of(call->context->roles, call->peer, vm) >= VSP_VIEWER;
}

/* VMs. */

static int vm_list(struct vsp_call *call, struct hv_err *err)
{
	struct hv_json *list = hv_json_set_array(call->result, "vms");

	(void)err;
	for (struct vsp_vm *vm = call->context->registry->vms; vm; vm = vm->next)
		if (!vm->removed && is_visible(call, vm->name))
			vsp_show_vm(vm, hv_json_add_object(list));
	return 0;
}

static int vm_show(struct vsp_call *call, struct hv_err *err)
{
	(void)err;
	vsp_show_vm(call->vm, call->result);
	return 0;
}

static int vm_add(struct vsp_call *call, struct hv_err *err)
{
	HV_AUTO(free) const char **disks = NULL, **options = NULL;
	size_t disk_count, option_count;
	const char *name;
	int rc = get_string(call, "vm", &name, err);

	if (rc == 0)
		rc = get_strings(call, "disks", &disks, &disk_count, err);
	if (rc == 0)
		rc = get_strings(call, "options", &options, &option_count, err);
	if (rc == 0)
		rc = vsp_vm_add(call->context->registry, name, disks, disk_count, options,
				option_count, err);
	if (rc == 0)
		rc = vsp_registry_vm(call->context->registry, name, &call->vm, err);
	return rc ? rc : vm_show(call, err);
}

static int vm_remove(struct vsp_call *call, struct hv_err *err)
{
	return vsp_vm_remove(call->vm, err);
}

/* What is mild belongs to operators; which files, and how, to administrators. */
static int judge_options(const struct vsp_call *call, const char **options, size_t count,
			 struct hv_err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (vsp_disk_spec_is_mild(options[i]))
			continue;
		return vsp_roles_check(call->context->roles, call->peer, VSP_ADMINISTRATOR,
				       call->vm->name, err);
	}
	return 0;
}

static int set(struct vsp_call *call, struct hv_err *err)
{
	HV_AUTO(free) const char **options = NULL;
	bool reattach = false;
	size_t count;
	int rc = get_strings(call, "options", &options, &count, err);

	if (rc == 0)
		rc = judge_options(call, options, count, err);
	hv_json_get_bool(call->request, "reattach", &reattach);
	if (rc == 0)
		rc = vsp_vm_set(call->vm, call->disk ? call->disk->name : NULL, options, count,
				reattach, err);
	return rc;
}

/* Disks. */

static int disk_attach(struct vsp_call *call, struct hv_err *err)
{
	const char *description;
	int rc = get_string(call, "disk", &description, err);

	return rc ? rc : vsp_vm_attach(call->vm, description, err);
}

static int disk_detach(struct vsp_call *call, struct hv_err *err)
{
	return vsp_vm_detach(call->vm, call->disk, err);
}

static int disk_resize(struct vsp_call *call, struct hv_err *err)
{
	uint64_t size;
	int rc;

	if (!hv_json_get_number(call->request, "size_bytes", &size))
		return hv_fail(err, -EINVAL, "\"size_bytes\" is missing, or no number");
	rc = vsp_vm_grow(call->vm, call->disk, size, err);
	if (rc == 0)
		hv_json_set_number(call->result, "size_bytes", call->disk->device->size_bytes);
	return rc;
}

static int disk_requests(struct vsp_call *call, struct hv_err *err)
{
	if (!call->disk->device)
		return hv_fail(err, -ENOENT, "the disk \"%s\" is not being served",
			       call->disk->name);
	vsp_show_requests(call->disk, call->result);
	return 0;
}

static int disk_resume(struct vsp_call *call, struct hv_err *err)
{
	return vsp_disk_resume(call->disk, err);
}

/* The whole. */

static int stats(struct vsp_call *call, struct hv_err *err)
{
	(void)err;
	vsp_stats_json(call->context->registry, call->vm, is_visible, call, call->result);
	return 0;
}

static int metrics(struct vsp_call *call, struct hv_err *err)
{
	HV_AUTO(free) char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return hv_fail(err, -ENOMEM, "not enough memory");
	vsp_stats_prometheus(call->context->registry, call->vm, is_visible, call, out);
	fclose(out);
	hv_json_set_string(call->result, "text", text);
	return 0;
}

static int drain(struct vsp_call *call, struct hv_err *err)
{
	(void)err;
	vsp_registry_drain(call->context->registry, call->vm);
	return 0;
}

static void reload_roles(struct vsp_control_context *context)
{
	struct vsp_roles *roles;
	HV_ERR(err);

	if (vsp_roles_read(context->roles_path, &roles, &err)) {
		hv_log(HV_LOG_WARN, "%s", err.sentence);
		return;
	}
	vsp_roles_free(context->roles);
	context->roles = roles;
}

/* What could not be done is told as the VMs' and disks' faults. */
static int reload(struct vsp_call *call, struct hv_err *err)
{
	struct vsp_registry *registry = call->context->registry;
	const char *name = hv_json_get_string(call->request, "vm");
	struct hv_json *faults = hv_json_set_array(call->result, "faults");
	int rc = vsp_registry_reload(registry, name, err);

	if (!name)
		reload_roles(call->context);
	for (struct vsp_vm *vm = registry->vms; vm; vm = vm->next)
		if (!vm->removed && (!name || !strcmp(vm->name, name)))
			vsp_show_faults(vm, faults);
	return rc;
}

static int shut_down(struct vsp_call *call, struct hv_err *err)
{
	(void)err;
	call->context->shutdown = true;
	return 0;
}

static int ping(struct vsp_call *call, struct hv_err *err)
{
	(void)err;
	hv_json_set_string(call->result, "version", HVKIT_VERSION);
	return 0;
}

static const struct vsp_control_command commands[] = {
	{ "vm.list", VSP_NOBODY, false, false, VSP_NO_VM, vm_list },
	{ "vm.show", VSP_VIEWER, false, false, VSP_THE_VM, vm_show },
	{ "vm.add", VSP_ADMINISTRATOR, true, false, VSP_NEW_VM, vm_add },
	{ "vm.remove", VSP_ADMINISTRATOR, true, true, VSP_THE_VM, vm_remove },
	{ "vm.set", VSP_OPERATOR, true, false, VSP_THE_VM, set },
	{ "disk.attach", VSP_ADMINISTRATOR, true, false, VSP_THE_VM, disk_attach },
	{ "disk.detach", VSP_ADMINISTRATOR, true, true, VSP_THE_DISK, disk_detach },
	{ "disk.resize", VSP_OPERATOR, true, false, VSP_THE_DISK, disk_resize },
	{ "disk.resume", VSP_OPERATOR, true, false, VSP_THE_DISK, disk_resume },
	{ "disk.set", VSP_OPERATOR, true, true, VSP_THE_DISK, set },
	{ "disk.requests", VSP_VIEWER, false, false, VSP_THE_DISK, disk_requests },
	{ "stats", VSP_NOBODY, false, false, VSP_ANY_VM, stats },
	{ "metrics", VSP_NOBODY, false, false, VSP_ANY_VM, metrics },
	{ "drain", VSP_OPERATOR, true, true, VSP_ANY_VM, drain },
	{ "reload", VSP_OPERATOR, true, true, VSP_NEW_VM, reload },
	{ "shutdown", VSP_ADMINISTRATOR, true, false, VSP_NO_VM, shut_down },
	{ "ping", VSP_NOBODY, false, false, VSP_NO_VM, ping },
};

const struct vsp_control_command *vsp_control_find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int find_names(const struct vsp_control_command *command, struct vsp_call *call,
		      const char *vm, struct hv_err *err)
{
	const char *disk;
	int rc;

	if (command->names < VSP_ANY_VM || command->names == VSP_NEW_VM ||
	    (!vm && command->names == VSP_ANY_VM))
		return 0;
	if (!vm)
		return hv_fail(err, -EINVAL, "\"vm\" is missing, or no text");
	rc = vsp_registry_vm(call->context->registry, vm, &call->vm, err);
	if (rc || command->names != VSP_THE_DISK)
		return rc;
	rc = get_string(call, "disk", &disk, err);
	return rc ? rc : vsp_vm_disk(call->vm, disk, &call->disk, err);
}

/* Whoever may not look at a VM is not told whether it is there. */
int vsp_control_run(const struct vsp_control_command *command, struct vsp_call *call,
		    struct hv_err *err)
{
	const char *vm = hv_json_get_string(call->request, "vm");
	enum vsp_role role = command->role;
	int rc = 0;

	if (vm && command->names != VSP_NO_VM && role < VSP_VIEWER)
		role = VSP_VIEWER;
	if (role > VSP_NOBODY)
		rc = vsp_roles_check(call->context->roles, call->peer, role,
				     command->names == VSP_NO_VM ? NULL : vm, err);
	if (rc == 0)
		rc = find_names(command, call, vm, err);
	return rc ? rc : command->run(call, err);
}
