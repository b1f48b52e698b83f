/*
 * What vspd may still do once it has begun, for the case that somebody finds a way to have it do
 * something else. Private to vsp-storage/.
 *
 * Of root's capabilities it keeps those by which it opens the files of others and gives sockets to
 * a group. Neither it nor what it becomes gets new privileges. The kernel answers system calls that
 * serving disks does not need as if it had none of them: there are no other programs and no other
 * processes, no tracing, mounting, modules, keys, or raw sockets. Files may still be opened,
 * threads made, and names looked up.
 */
#ifndef VSP_STORAGE_CONFINE_H
#define VSP_STORAGE_CONFINE_H

#include "hvcore/err.h"

/*
 * For all threads; before there are any others, whose capabilities would stay. Where the kernel
 * has no filters, there is none. -errno.
 */
int vsp_confine(struct hv_err *err);

#endif
