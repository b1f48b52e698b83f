/*
 * A disk as people write it: "FILE", or "NAME=FILE", with options after commas:
 *
 *	system=/vms/web.vhd,cache=writeback,serial=web-system
 *
 * The name is made of letters, digits, '.', '_' and '-'; without one it is "". A comma that belongs
 * to the file's name is written twice, and a file whose name would be taken for NAME=FILE as
 * "./...". "null:SIZE" is no file, but a disk that holds nothing (null_disk.h).
 *
 *	readonly[=on|off]	cache=none|writeback|unsafe	discard=on|off	serial=TEXT
 *	sector=512|4096		format=raw|vhd			parent=FILE
 *	iops=N			iops-burst=N			bandwidth=SIZE	bandwidth-burst=SIZE
 *	iops-min=N		bandwidth-min=SIZE		slow-ms=N
 *	on-error=report|stop	coalesce=on|off
 */
#ifndef VSP_STORAGE_DISK_SPEC_H
#define VSP_STORAGE_DISK_SPEC_H

#include "vsp-storage/device.h"
#include "vsp-storage/limits.h"

struct vsp_disk_spec {
	char *name, *path; /* malloc'ed */
	char *format;      /* "raw", "vhd"; NULL: look */
	char *parent;      /* NULL: look */
	struct vsp_device_options device;
	struct vsp_limits limits;
};

/* Length of NAME in "NAME=FILE"; 0: there is none. */
size_t vsp_disk_spec_name_length(const char *word);
/* Takes what is before the next lone comma off *text, in place; NULL after the last. */
char *vsp_disk_spec_word(char **text);

/* One option: "cache=none", "readonly". -EINVAL with a sentence. */
int vsp_disk_spec_set(struct vsp_disk_spec *spec, const char *option, struct hv_err *err);

/* Options that are not named are as *ret says before; on failure it is to be freed with done, too. */
int vsp_disk_spec_parse(const char *text, struct vsp_disk_spec *ret, struct hv_err *err);
void vsp_disk_spec_done(struct vsp_disk_spec *spec);

/* Does that option change how a disk is watched and limited, not what it is? */
bool vsp_disk_spec_is_mild(const char *option);

/* The same disk in all but its name and what is mild? */
bool vsp_disk_spec_same(const struct vsp_disk_spec *a, const struct vsp_disk_spec *b);

/* Opens the disk with all its parents, which may take time. */
int vsp_disk_spec_open(const struct vsp_disk_spec *spec, struct hv_loop *loop, struct hv_disk **ret,
		       struct hv_err *err);

/* Makes a device of it. Takes the disk over, also when it fails. */
int vsp_disk_spec_device(const struct vsp_disk_spec *spec, struct hv_disk *disk,
			 struct vsp_device **ret, struct hv_err *err);

#endif
