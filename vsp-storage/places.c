/*
 * Places and times.
 */
#include "vsp-storage/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_NAME "vspd.sock"
#define SYSTEM_RUNTIME "/run/hvkit"
#define DIRECTORY_MODE 0755

int vsp_path_join(const char *directory, const char *name, char **ret, struct hv_err *err)
{
	if (asprintf(ret, "%s/%s", directory, name) >= 0)
		return 0;
	*ret = NULL;
	return hv_fail(err, -ENOMEM, "not enough memory");
}

/* What root has, or a name below $variable, or below a directory in $HOME (NULL: nowhere). */
static int place(const char *system, const char *variable, const char *home, const char *name,
		 const char *option, char **ret, struct hv_err *err)
{
	HV_AUTO(free) char *below = NULL;
	const char *base = getenv(variable);
	int rc;

	if (geteuid() == 0)
		return vsp_path_join(system, name, ret, err);
	if (base && *base == '/')
		return vsp_path_join(base, name, ret, err);
	if (!home || !getenv("HOME"))
		return hv_fail(err, -ENOENT, "%s is not set; give %s", variable, option);
	rc = vsp_path_join(getenv("HOME"), home, &below, err);
	return rc ? rc : vsp_path_join(below, name, ret, err);
}

int vsp_config_dir(char **ret, struct hv_err *err)
{
	return place("/etc", "XDG_CONFIG_HOME", ".config", "hvkit", "--config-dir", ret, err);
}

int vsp_runtime_dir(char **ret, struct hv_err *err)
{
	return place("/run", "XDG_RUNTIME_DIR", NULL, "hvkit", "--runtime-dir", ret, err);
}

int vsp_audit_path(char **ret, struct hv_err *err)
{
	return place("/var/log", "XDG_STATE_HOME", ".local/state", "hvkit/audit.log", "--audit-log",
		     ret, err);
}

int vsp_control_path(char **ret, struct hv_err *err)
{
	HV_AUTO(free) char *directory = NULL, *own = NULL;

	if (vsp_runtime_dir(&directory, NULL) == 0 &&
	    vsp_path_join(directory, CONTROL_NAME, &own, NULL) == 0 && access(own, F_OK) == 0) {
		*ret = hv_steal(own);
		return 0;
	}
	return vsp_path_join(SYSTEM_RUNTIME, CONTROL_NAME, ret, err);
}

int vsp_make_parents(const char *path, struct hv_err *err)
{
	HV_AUTO(free) char *part = strdup(path);

	if (!part)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (char *slash = part; (slash = strchr(slash + 1, '/')); *slash = '/') {
		*slash = '\0';
		if (mkdir(part, DIRECTORY_MODE) && errno != EEXIST)
			return hv_fail_errno(err, -errno, "%s: cannot make the directory", part);
	}
	return 0;
}

int vsp_make_directory(const char *path, struct hv_err *err)
{
	int rc = vsp_make_parents(path, err);

	if (rc)
		return rc;
	if (mkdir(path, DIRECTORY_MODE) && errno != EEXIST)
		return hv_fail_errno(err, -errno, "%s: cannot make the directory", path);
	return 0;
}

void vsp_time_text(char text[VSP_TIME_SIZE])
{
	struct timespec now;
	struct tm tm;
	size_t length;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	length = strftime(text, VSP_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + length, VSP_TIME_SIZE - length, ".%03uZ",
		 (unsigned)(now.tv_nsec / 1000000));
}
