/*
 * A disk of a VM while it is served: a device with two sockets of its own, DISK.vhost for the VM
 * and DISK.nbd for everybody else, and its way out. Private to vsp-storage/.
 *
 * States: absent, served, dismissed (clients finish), flushing, absent again. What takes time goes
 * on in vsp_disk_turn. All functions are called on the disk's loop, but for vsp_disk_refuse; the
 * state, what is wanted and what is wrong change in them only, for the control plane to look at in
 * between.
 */
#ifndef VSP_STORAGE_VM_DISK_H
#define VSP_STORAGE_VM_DISK_H

#include "vsp-storage/address.h"
#include "vsp-storage/disk_spec.h"
#include "vsp-storage/loops.h"
#include "vsp-storage/nbd.h"
#include "vsp-storage/vhost.h"

enum vsp_disk_state {
	VSP_DISK_ABSENT,
	VSP_DISK_SERVED,
	VSP_DISK_DISMISSED,
	VSP_DISK_FLUSHING,
};

struct vsp_disk {
	char *name;
	struct vsp_disk *next;
	struct vsp_vm *vm;     /* whose it is; the registry's */
	struct vsp_loop *loop; /* NULL while it is absent; the registry's */
	enum vsp_disk_state state;
	bool removed;    /* from the definition: goes when it is absent */
	bool wanted;     /* to be opened when it is absent */
	bool drained;    /* closed by command, until the next reload */
	char *fault;     /* why it is not served; NULL: nothing is wrong */
	uint64_t ticket; /* of the latest change that takes time */

	/* While it is not absent. */
	struct vsp_device *device;
	struct vsp_nbd *nbd;
	struct vsp_listener listener; /* of NBD */
	struct vsp_vhost *vhost;      /* NULL once it has been dismissed */
	char *vhost_path;
	struct vsp_qos_member limits;
	uint64_t deadline_ns; /* for clients that do not take their replies */
	struct hv_io flush;
	bool flushed;
	int flush_result;
};

/* What a disk's VM has for it. */
struct vsp_disk_place {
	struct vsp_loop *loop;
	struct vsp_vm_meter *meter;
	const char *directory;    /* of sockets; made where it is missing */
	const char *socket_group; /* NULL: none */
};

struct vsp_disk *vsp_disk_new(const char *name); /* NULL without memory */

/* It is absent. */
void vsp_disk_free(struct vsp_disk *disk);

/*
 * An absent disk, which has been opened and belongs to the place's loop, is served. Takes opened
 * over; after a failure the disk is absent, and fault tells why.
 */
int vsp_disk_serve(struct vsp_disk *disk, const struct vsp_disk_spec *spec, struct hv_disk *opened,
		   const struct vsp_disk_place *place, struct hv_err *err);

/* It could not be opened; by the control plane, while it is absent. */
void vsp_disk_refuse(struct vsp_disk *disk, const char *why);

/* Who may connect to its sockets. -ENOENT for no such group, -errno of chown. */
int vsp_disk_set_group(struct vsp_disk *disk, const char *group, struct hv_err *err);

/* Takes no more clients and lets those that are there finish. */
void vsp_disk_dismiss(struct vsp_disk *disk, uint64_t ticket);

/* Goes on with what takes time, until the disk is absent. */
void vsp_disk_turn(struct vsp_disk *disk);

/*
 * A VHD that is served grows in another place, while its requests wait and the other disks of its
 * loop go on. begin: from now on they wait; -EINVAL for a smaller size, -ENOTSUP for what is no
 * VHD. lend, until it is true: then nothing is with the disk, and it belongs to the other loop. It
 * comes back by hv_disk_move. end, whatever has happened: they go on.
 */
int vsp_disk_grow_begin(struct vsp_disk *disk, uint64_t size_bytes, struct hv_err *err);
bool vsp_disk_grow_lend(struct vsp_disk *disk, struct hv_loop *loop);
void vsp_disk_grow_end(struct vsp_disk *disk);

/* "served", ...: a constant. A disk that is served may have "stopped" (on_error.h). */
const char *vsp_disk_state_name(const struct vsp_disk *disk);

/* What is wrong, fault or error; NULL: nothing. */
const char *vsp_disk_trouble(const struct vsp_disk *disk);

#endif
