/*
 * Roles: grants, looked through one after the other.
 */
#include "vsp-storage/roles.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vsp-storage/conf.h"
#include "vsp-storage/vm_file.h"

#define MAX_GROUPS 65536
#define DEFAULT_ROLES "administrator = group hvkit\n"

enum who { USER, GROUP, EVERYBODY };

struct grant {
	enum vsp_role role;
	enum who who;
	id_t id;
	char *vms; /* names with a space before and after each; NULL: all */
};

struct vsp_roles {
	struct grant *grants;
	size_t count;
};

static const char *const role_names[] = {
	[VSP_NOBODY] = "nobody",
	[VSP_VIEWER] = "viewer",
	[VSP_OPERATOR] = "operator",
	[VSP_ADMINISTRATOR] = "administrator",
};

static int no_memory(struct hv_err *err)
{
	return hv_fail(err, -ENOMEM, "not enough memory");
}

/* Peers. */

int vsp_peer_of(int fd, struct vsp_peer *ret, struct hv_err *err)
{
	struct ucred cred;
	socklen_t length = sizeof(cred), bytes = 0;
	gid_t *groups;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length))
		return hv_fail_errno(err, -errno, "cannot tell who has connected");
	/* Asked without room, the kernel says how much is needed. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) && errno != ERANGE)
		bytes = 0;
	if (bytes > MAX_GROUPS * sizeof(gid_t))
		bytes = 0;
	groups = calloc(bytes / sizeof(gid_t) + 1, sizeof(gid_t));
	if (!groups)
		return no_memory(err);
	groups[0] = cred.gid;
	if (bytes && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups + 1, &bytes))
		bytes = 0;
	*ret = (struct vsp_peer){ cred.uid, cred.pid, groups, bytes / sizeof(gid_t) + 1 };
	return 0;
}

void vsp_peer_done(struct vsp_peer *peer)
{
	free(peer->groups);
	peer->groups = NULL;
}

/* Reading. */

static char *next_word(char **text)
{
	return strtok_r(NULL, " \t", text);
}

/* A number, or a name that there is. */
static int find_id(enum who who, const char *name, id_t *ret, struct hv_err *err)
{
	const struct passwd *user = who == USER ? getpwnam(name) : NULL;
	const struct group *group = who == GROUP ? getgrnam(name) : NULL;
	char *end;

	if (user)
		*ret = user->pw_uid;
	else if (group)
		*ret = group->gr_gid;
	else
		*ret = (id_t)strtoul(name, &end, 10);
	if (user || group || (*name >= '0' && *name <= '9' && !*end))
		return 0;
	return hv_fail(err, -EINVAL, "there is no %s \"%s\"", who == USER ? "user" : "group", name);
}

static int take_vms(struct grant *grant, char **rest, struct hv_err *err)
{
	size_t length = strlen(*rest) + 3;
	char *vm = next_word(rest);
	int rc = 0;

	grant->vms = calloc(1, length + 1);
	if (!grant->vms)
		return no_memory(err);
	if (!vm)
		return hv_fail(err, -EINVAL, "the names of VMs are missing after \"on\"");
	strcat(grant->vms, " ");
	for (; vm && rc == 0; vm = next_word(rest)) {
		rc = vsp_name_check("VM", vm, err);
		strcat(strcat(grant->vms, vm), " ");
	}
	return rc;
}

static int take_who(struct grant *grant, const char *text, struct hv_err *err)
{
	HV_AUTO(free) char *copy = strdup(text);
	char *rest = NULL, *word, *name = NULL;
	int rc = 0;

	if (!copy)
		return no_memory(err);
	word = strtok_r(copy, " \t", &rest);
	if (!strcmp(word, "everybody"))
		grant->who = EVERYBODY;
	else if (!strcmp(word, "user") || !strcmp(word, "group"))
		grant->who = *word == 'u' ? USER : GROUP;
	else
		return hv_fail(err, -EINVAL, "\"%s\": user NAME, group NAME or everybody is wanted",
			       text);
	if (grant->who != EVERYBODY && !(name = next_word(&rest)))
		return hv_fail(err, -EINVAL, "\"%s\": a name is missing", text);
	if (name)
		rc = find_id(grant->who, name, &grant->id, err);
	word = next_word(&rest);
	if (rc || !word)
		return rc;
	if (strcmp(word, "on") != 0)
		return hv_fail(err, -EINVAL, "\"%s\": \"on VM...\" is wanted behind the name",
			       text);
	return take_vms(grant, &rest, err);
}

static int take_line(struct vsp_roles *roles, const struct vsp_conf_line *line, struct hv_err *err)
{
	struct grant *grant = &roles->grants[roles->count];
	unsigned role = VSP_VIEWER;

	if (line->kind == VSP_CONF_OTHER)
		return 0;
	if (line->kind == VSP_CONF_SECTION || !line->value)
		return hv_fail(err, -EINVAL, "ROLE = WHO is wanted");
	while (role <= VSP_ADMINISTRATOR && strcmp(line->key, role_names[role]) != 0)
		role++;
	if (role > VSP_ADMINISTRATOR)
		return hv_fail(err, -EINVAL, "\"%s\" is no role: viewer, operator or administrator",
			       line->key);
	grant->role = role;
	roles->count++;
	return take_who(grant, line->value, err);
}

static int take(struct vsp_roles *roles, const struct vsp_conf *conf, struct hv_err *err)
{
	roles->grants = calloc(conf->count + 1, sizeof(*roles->grants));
	if (!roles->grants)
		return no_memory(err);
	for (size_t i = 0; i < conf->count; i++) {
		HV_ERR(cause);
		int rc = take_line(roles, &conf->lines[i], &cause);

		if (rc)
			return vsp_conf_fail(conf, i + 1, rc, &cause, err);
	}
	return 0;
}

static int read_lines(const char *path, struct vsp_conf **ret, struct hv_err *err)
{
	bool none = access(path, F_OK) && errno == ENOENT;
	const char *text = getgrnam("hvkit") ? DEFAULT_ROLES : "";

	return none ? vsp_conf_parse(path, text, strlen(text), ret, err) :
		      vsp_conf_read(path, ret, err);
}

int vsp_roles_read(const char *path, struct vsp_roles **ret, struct hv_err *err)
{
	HV_AUTO(vsp_roles_free) struct vsp_roles *roles = calloc(1, sizeof(*roles));
	HV_AUTO(vsp_conf_free) struct vsp_conf *conf = NULL;
	int rc = roles ? read_lines(path, &conf, err) : no_memory(err);

	if (rc == 0)
		rc = take(roles, conf, err);
	if (rc)
		return rc;
	*ret = hv_steal(roles);
	return 0;
}

void vsp_roles_free(struct vsp_roles *roles)
{
	if (!roles)
		return;
	for (size_t i = 0; roles->grants && i < roles->count; i++)
		free(roles->grants[i].vms);
	free(roles->grants);
	free(roles);
}

/* Asking. */

static bool is_meant(const struct grant *grant, const struct vsp_peer *peer)
{
	if (grant->who == USER)
		return peer->uid == grant->id;
	for (size_t i = 0; grant->who == GROUP && i < peer->group_count; i++)
		if (peer->groups[i] == grant->id)
			return true;
	return grant->who == EVERYBODY;
}

static bool is_of(const struct grant *grant, const char *vm)
{
	const char *found = grant->vms;
	size_t length = vm ? strlen(vm) : 0;

	if (!found || !vm)
		return !found;
	while ((found = strstr(found, vm))) {
		if (found[-1] == ' ' && found[length] == ' ')
			return true;
		found++;
	}
	return false;
}

enum vsp_role vsp_roles_of(const struct vsp_roles *roles, const struct vsp_peer *peer,
			   const char *vm)
{
	enum vsp_role role = VSP_NOBODY;

	if (peer->uid == 0 || peer->uid == geteuid())
		return VSP_ADMINISTRATOR;
	for (size_t i = 0; roles && i < roles->count; i++) {
		const struct grant *grant = &roles->grants[i];

		if (grant->role > role && is_meant(grant, peer) && is_of(grant, vm))
			role = grant->role;
	}
	return role;
}

int vsp_roles_check(const struct vsp_roles *roles, const struct vsp_peer *peer,
		    enum vsp_role needed, const char *vm, struct hv_err *err)
{
	if (vsp_roles_of(roles, peer, vm) >= needed)
		return 0;
	if (!vm)
		return hv_fail(err, -EACCES, "access denied: needs %s on all VMs",
			       role_names[needed]);
	return hv_fail(err, -EACCES, "access denied: needs %s on VM %s", role_names[needed], vm);
}
