/*
 * vspctl: tells vspd what to serve, and the user what vspd does.
 */
#include "vsp-storage/ctl.h"

static const struct hv_command *const commands[] = {
	&ctl_vm_add,      &ctl_vm_list,     &ctl_vm_show,
	&ctl_vm_remove,   &ctl_vm_set,      &ctl_disk_attach,
	&ctl_disk_detach, &ctl_disk_resize, &ctl_disk_set,
	&ctl_disk_resume, &ctl_stats,       &ctl_requests,
	&ctl_qemu_args,   &ctl_drain,       &ctl_events,
	&ctl_reload,      &ctl_shutdown,    NULL,
};

static const struct hv_program program = {
	.name = "vspctl",
	.summary = "tells vspd which VMs and disks to serve",
	.version = HVKIT_VERSION,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return hv_program_run(&program, argc, argv);
}
