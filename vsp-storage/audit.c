/*
 * The audit log.
 */
#include "vsp-storage/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hvcore/log.h"
#include "vsp-storage/places.h"

struct vsp_audit {
	int fd;
	char *path;
};

int vsp_audit_open(const char *path, struct vsp_audit **ret, struct hv_err *err)
{
	HV_AUTO(vsp_audit_close) struct vsp_audit *audit = calloc(1, sizeof(*audit));
	int rc;

	if (!audit)
		return hv_fail(err, -ENOMEM, "not enough memory");
	audit->fd = -1;
	audit->path = strdup(path);
	if (!audit->path)
		return hv_fail(err, -ENOMEM, "not enough memory");
	rc = vsp_make_parents(path, err);
	if (rc)
		return rc;
	audit->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (audit->fd < 0)
		return hv_fail_errno(err, -errno, "%s: cannot open the audit log", path);
	*ret = hv_steal(audit);
	return 0;
}

void vsp_audit_close(struct vsp_audit *audit)
{
	if (!audit)
		return;
	if (audit->fd >= 0)
		close(audit->fd);
	free(audit->path);
	free(audit);
}

void vsp_audit_write(struct vsp_audit *audit, const struct vsp_peer *peer,
		     const struct hv_json *request, int result, const struct hv_err *err)
{
	HV_AUTO(hv_json_free) struct hv_json *line = hv_json_object();
	HV_AUTO(free) char *text = NULL;
	char time[VSP_TIME_SIZE];
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	int rc = out ? 0 : -ENOMEM;

	vsp_time_text(time);
	hv_json_set_string(line, "time", time);
	hv_json_set_number(line, "uid", peer->uid);
	hv_json_set_number(line, "pid", (uint64_t)peer->pid);
	hv_json_set_copy(line, "request", request);
	hv_json_set_string(line, "result", result ? hv_err_text(err, result) : "ok");
	if (rc == 0)
		rc = hv_json_print_line(line, out);
	if (out)
		fclose(out);
	if (rc == 0 && write(audit->fd, text, length) != (ssize_t)length)
		rc = -errno;
	if (rc)
		hv_log(HV_LOG_WARN, "%s: a line is lost: %s", audit->path, strerror(-rc));
}
