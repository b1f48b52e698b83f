/*
 * The VMs that vspd serves, and their disks.
 *
 * A VM is its file in the configuration directory (vm_file.h); the registry makes what is served
 * follow it. Each disk has sockets of its own, RUNTIME/VM/DISK.vhost and .nbd. A disk that cannot
 * be served, or a file that cannot be read, says why, and disturbs nobody.
 *
 * The registry belongs to the thread of the control plane. Each disk belongs to an I/O loop while
 * it is open: what is done to it is done there, while that thread waits (loops.h). The limits of a
 * VM are shared by all loops that have a disk of it (vm_meter.h).
 *
 * Changes are made in this order: what may fail is tried first, then the file is published, so
 * that a crash in between leaves the definition as it was.
 */
#ifndef VSP_STORAGE_REGISTRY_H
#define VSP_STORAGE_REGISTRY_H

#include "hvcore/json.h"
#include "vsp-storage/loops.h"
#include "vsp-storage/vm_disk.h"
#include "vsp-storage/vm_file.h"

struct vsp_vm {
	char *name;
	struct vsp_vm *next;
	struct vsp_registry *registry;
	char *directory;          /* of sockets */
	struct vsp_vm_file *file; /* as last read without a fault; NULL: never */
	char *fault;              /* of the file as it is now; NULL: none */
	struct vsp_vm_meter meter;
	struct vsp_disk *disks;
	bool removed;
};

struct vsp_registry {
	struct hv_loop *loop; /* the control plane's */
	struct vsp_loops *loops;
	char *config_dir, *runtime_dir; /* config_dir/NAME.conf */
	struct vsp_vm *vms;             /* by name */
	uint64_t tickets;               /* one for each change that takes time */
	/* Told of everything that happens; disk and detail may be NULL. */
	void (*event)(void *arg, const char *what, const char *vm, const char *disk,
		      const char *detail);
	void *event_arg;
};

/* Makes both directories where they are missing. The loops stay the caller's. */
int vsp_registry_new(struct hv_loop *loop, struct vsp_loops *loops, const char *config_dir,
		     const char *runtime_dir, struct vsp_registry **ret, struct hv_err *err);

/* All is drained and settled. */
void vsp_registry_free(struct vsp_registry *registry);
HV_DEFINE_CLEANUP(struct vsp_registry, vsp_registry_free)

/* A VM or a disk of it by name; -ENOENT with a sentence. */
int vsp_registry_vm(struct vsp_registry *registry, const char *name, struct vsp_vm **ret,
		    struct hv_err *err);
int vsp_vm_disk(struct vsp_vm *vm, const char *name, struct vsp_disk **ret, struct hv_err *err);

/*
 * Reads the files again (of one VM, or of all where that is NULL): new VMs come, those without a
 * file go, what has changed follows. A faulty file is reported (event, vm->fault) and changes
 * nothing. -errno only when the directory cannot be read, or there is neither the VM nor a file of
 * it.
 */
int vsp_registry_reload(struct vsp_registry *registry, const char *name, struct hv_err *err);

/*
 * Changes by command (registry_change.c). Disks are described as in disk_spec.h; options are
 * "iops=2000". When one of them fails, all is as before.
 */
int vsp_vm_add(struct vsp_registry *registry, const char *name, const char *const *disks,
	       size_t disk_count, const char *const *options, size_t option_count,
	       struct hv_err *err);
int vsp_vm_remove(struct vsp_vm *vm, struct hv_err *err);
int vsp_vm_attach(struct vsp_vm *vm, const char *description, struct hv_err *err);
int vsp_vm_detach(struct vsp_vm *vm, struct vsp_disk *disk, struct hv_err *err);

/*
 * disk is NULL for options of the VM. -EBUSY for what cannot change while the disk is served,
 * unless reattach is set: then its clients are cut off and may come again.
 */
int vsp_vm_set(struct vsp_vm *vm, const char *disk, const char *const *options, size_t option_count,
	       bool reattach, struct hv_err *err);

/* Waits for what the disk has begun; -EBUSY when that does not end. See vsp_disk_grow_begin. */
int vsp_vm_grow(struct vsp_vm *vm, struct vsp_disk *disk, uint64_t size_bytes, struct hv_err *err);

/* A disk that has stopped (on_error.h) tries at once whether it can go on. */
int vsp_disk_resume(struct vsp_disk *disk, struct hv_err *err);

/* Closes the disks until the next reload; of all VMs where vm is NULL. */
void vsp_registry_drain(struct vsp_registry *registry, struct vsp_vm *vm);

/*
 * What takes time (leaving) goes on in vsp_registry_turn, to be called after every turn of the
 * control plane's loop; it returns for how many milliseconds that may sleep. What has been begun up
 * to now is settled when vsp_registry_is_settled(registry->tickets as it was then) says so.
 */
int vsp_registry_turn(struct vsp_registry *registry);
bool vsp_registry_is_settled(const struct vsp_registry *registry, uint64_t ticket);

/*
 * Between registry.c and registry_change.c.
 */
struct vsp_vm *vsp_registry_find(struct vsp_registry *registry, const char *name);
char *vsp_registry_path(const struct vsp_registry *registry, const char *name); /* malloc'ed */
void vsp_registry_tell(struct vsp_registry *registry, const char *what, const char *vm,
		       const char *disk, const char *detail);

/* A VM without disks, in its place by name; NULL without memory. */
struct vsp_vm *vsp_vm_new(struct vsp_registry *registry, const char *name);

/* Takes the definition over, and has it served. -ENOMEM. */
int vsp_vm_apply(struct vsp_vm *vm, struct vsp_vm_file *file);

/* It goes when its disks are closed. */
void vsp_vm_retire(struct vsp_vm *vm);

#endif
