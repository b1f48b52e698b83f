/*
 * The control socket: one JSON object per line each way.
 *
 *	{"command": "vm.show", "vm": "web"}
 *	{"ok": true, "result": {...}}
 *	{"ok": false, "error": "there is no VM \"web\"", "code": "ENOENT"}
 *
 * The kernel says who has connected; roles.h says what he may do; audit.h remembers what was
 *changed. After "events", a connection gets one line for everything that happens to VMs it may look
 *at. What a client can cost is bounded: VSP_CONTROL_CLIENTS, a line of VSP_CONTROL_LINE bytes, one
 *command at a time, and who does not read what he asked for is cut off. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_CONTROL_H
#define VSP_STORAGE_CONTROL_H

#include "vsp-storage/audit.h"
#include "vsp-storage/registry.h"

#define VSP_CONTROL_CLIENTS 64
#define VSP_CONTROL_LINE (64u << 10)
#define VSP_CONTROL_OUTPUT (8u << 20)

struct vsp_control;

/* What commands work on. */
struct vsp_control_context {
	struct vsp_registry *registry;
	struct vsp_roles *roles; /* the control's; read again by "reload" */
	const char *roles_path;
	struct vsp_audit *audit;
	bool shutdown; /* was asked for */
};

/* The socket may be connected to by everybody: roles decide. context is the caller's. */
int vsp_control_new(struct hv_loop *loop, const char *path, struct vsp_control_context *context,
		    struct vsp_control **ret, struct hv_err *err);

/* Answers what has settled; after every turn of the loop. */
void vsp_control_turn(struct vsp_control *control);

void vsp_control_event(struct vsp_control *control, const char *what, const char *vm,
		       const char *disk, const char *detail);

void vsp_control_free(struct vsp_control *control);
HV_DEFINE_CLEANUP(struct vsp_control, vsp_control_free)

#endif
