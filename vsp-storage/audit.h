/*
 * The audit log: one line of JSON for every change that was asked for, with who asked and what came
 * of it. Lines are appended by one write each, so that they stay whole. Private to vsp-storage/.
 */
#ifndef VSP_STORAGE_AUDIT_H
#define VSP_STORAGE_AUDIT_H

#include "hvcore/json.h"
#include "vsp-storage/roles.h"

struct vsp_audit;

/* The file and its directory are made where they are missing; mode 0600. */
int vsp_audit_open(const char *path, struct vsp_audit **ret, struct hv_err *err);
void vsp_audit_close(struct vsp_audit *audit);
HV_DEFINE_CLEANUP(struct vsp_audit, vsp_audit_close)

/* result: 0, or -errno with its sentence. A line that cannot be written is an entry in the log. */
void vsp_audit_write(struct vsp_audit *audit, const struct vsp_peer *peer,
		     const struct hv_json *request, int result, const struct hv_err *err);

#endif
