/*
 * Another parent for a differencing disk, whose view stays what it was.
 */
#ifndef SNAPSHOT_REBASE_H
#define SNAPSHOT_REBASE_H

#include "hvcore/guid.h"
#include "hvcore/loop.h"
#include "snapshot/chain.h"

struct snap_rebase_request {
	const char *child;
	const char *parent;     /* the new one */
	const char *old_parent; /* where the old one is; NULL: look */
	/*
	 * Compare nothing and copy nothing: for a parent that was moved or renamed, or a view that
	 * shall change. The old parent need not be there.
	 */
	bool unsafe;
	bool dry_run;   /* compare, and change nothing */
	bool overwrite; /* what the file gives up is overwritten with zeros before */
	bool direct;
	bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *arg); /* false: stop */
	void *arg;
};

struct snap_rebase_report {
	struct hv_guid old_uuid, uuid; /* of the parents */
	char *old_parent;              /* where it was found; NULL: it was not looked for */
	char *parent;                  /* where the child finds the new one (or would) */
	uint64_t size_bytes, compared_bytes, copied_bytes, zeroed_bytes;
};

/*
 * First the child is given what it would read otherwise, and that is made durable; then its record
 * of the parent is changed (vhd/reparent.h). So it reads the same at every instant. Whatever
 * interrupts it, the same call goes on: what was copied stays copied.
 *
 * -EINVAL: the new parent cannot be one (a raw image; the child itself or a disk that depends on
 * it; a size with which the chain would not be opened any more). -EINTR: stopped by progress.
 * report is freed with snap_rebase_report_free, also after a failure.
 */
int snap_rebase(const struct snap_rebase_request *request, struct hv_loop *loop,
		struct snap_rebase_report *report, struct hv_err *err);
void snap_rebase_report_free(struct snap_rebase_report *report);

#endif
