/*
 * Who may do what: roles by user or group, of all VMs or of some, in a file that people edit:
 *
 *	# ROLE = WHO [on VM...]
 *	administrator = group hvkit
 *	operator = user alice on web db
 *	viewer = everybody
 *
 * Each role includes those before it: viewers look, operators change what a VM may use and how it
 *is served, administrators say which VMs there are and which files they have. Root and the user
 *that vspd runs as are administrators of everything, whatever the file says. Without a file so is
 *the group hvkit. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_ROLES_H
#define VSP_STORAGE_ROLES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"

enum vsp_role { VSP_NOBODY, VSP_VIEWER, VSP_OPERATOR, VSP_ADMINISTRATOR };

/* Whoever is at the other end of a socket, as the kernel knows him. */
struct vsp_peer {
	uid_t uid;
	pid_t pid;
	gid_t *groups; /* the effective one and the supplementary ones */
	size_t group_count;
};

int vsp_peer_of(int fd, struct vsp_peer *ret, struct hv_err *err);
void vsp_peer_done(struct vsp_peer *peer);

struct vsp_roles;

/* Those of the file, or the default where there is none. -EINVAL with "PATH:LINE: reason". */
int vsp_roles_read(const char *path, struct vsp_roles **ret, struct hv_err *err);
void vsp_roles_free(struct vsp_roles *roles);
HV_DEFINE_CLEANUP(struct vsp_roles, vsp_roles_free)

/* On a VM, or on all of them where vm is NULL. Without roles (NULL): only root's and our own. */
enum vsp_role vsp_roles_of(const struct vsp_roles *roles, const struct vsp_peer *peer,
			   const char *vm);

/* 0, or -EACCES with a sentence that names what is missing. */
int vsp_roles_check(const struct vsp_roles *roles, const struct vsp_peer *peer,
		    enum vsp_role needed, const char *vm, struct hv_err *err);

#endif
