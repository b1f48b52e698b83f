/*
 * A VM's definition, as its file NAME.conf tells it; see vm.conf(5):
 *
 *	iops = 5000
 *
 *	[disk system]
 *	file = /vms/web.vhd
 *	iops = 2000
 *
 * The file is the truth: what a program changes it changes in the text, then reads that.
 */
#ifndef VSP_STORAGE_VM_FILE_H
#define VSP_STORAGE_VM_FILE_H

#include "vsp-storage/conf.h"
#include "vsp-storage/disk_spec.h"

#define VSP_NAME_MAX 64 /* bytes of the name of a VM or disk */
#define VSP_VM_MAX_DISKS 64
#define VSP_VM_SUFFIX ".conf"

struct vsp_vm_file {
	struct vsp_conf *conf;
	struct vsp_limits limits; /* of all disks together */
	char *socket_group;       /* whose members may connect, besides our own user; NULL: none */
	struct vsp_disk_spec *disks;
	size_t disk_count;
};

/*
 * -EINVAL with a sentence unless it is made of up to VSP_NAME_MAX letters, digits, '.', '_' and
 * '-', and begins with a letter or digit: it becomes part of file names.
 */
int vsp_name_check(const char *what, const char *name, struct hv_err *err);

/* Takes conf over, also when it fails. -EINVAL with "PATH:LINE: reason". */
int vsp_vm_file_new(struct vsp_conf *conf, struct vsp_vm_file **ret, struct hv_err *err);

void vsp_vm_file_free(struct vsp_vm_file *file);
HV_DEFINE_CLEANUP(struct vsp_vm_file, vsp_vm_file_free)

/* NULL: there is none of that name; lent. */
struct vsp_disk_spec *vsp_vm_file_disk(const struct vsp_vm_file *file, const char *name);

/* Adds the disk that the text (see disk_spec.h) describes. -EEXIST; -EINVAL without a name. */
int vsp_conf_add_disk(struct vsp_conf *conf, const char *text, struct hv_err *err);

/* -ENOENT. */
int vsp_conf_remove_disk(struct vsp_conf *conf, const char *name, struct hv_err *err);

/*
 * One option, "iops=2000", of a disk, or of the VM where that is NULL; "iops=" goes back to what
 * it is without a setting.
 */
int vsp_conf_set_option(struct vsp_conf *conf, const char *disk, const char *option,
			struct hv_err *err);

#endif
