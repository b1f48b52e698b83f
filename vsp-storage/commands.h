/*
 * The commands of the control socket. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_COMMANDS_H
#define VSP_STORAGE_COMMANDS_H

#include "vsp-storage/control.h"

struct vsp_call {
	struct vsp_control_context *context;
	const struct vsp_peer *peer;
	struct hv_json *request, *result; /* result is an object, to be filled */
	struct vsp_vm *vm;                /* named by the request; NULL: none */
	struct vsp_disk *disk;            /* likewise */
};

struct vsp_control_command {
	const char *name;
	enum vsp_role role;
	bool changes; /* is audited, also when it is denied */
	bool settles; /* is answered when what it began has come to its end */
	enum { VSP_NO_VM, VSP_ANY_VM, VSP_NEW_VM, VSP_THE_VM, VSP_THE_DISK } names;
	int (*run)(struct vsp_call *call, struct hv_err *err);
};

/* NULL: there is none of that name. "events" is the control's own. */
const struct vsp_control_command *vsp_control_find(const char *name);

/* Checks the right, finds what the request names, and runs the command. */
int vsp_control_run(const struct vsp_control_command *command, struct vsp_call *call,
		    struct hv_err *err);

#endif
