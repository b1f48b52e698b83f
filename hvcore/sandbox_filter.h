/*
 * Inside hvcore: what the kernel lets a confined program do.
 */
#ifndef HVCORE_SANDBOX_FILTER_H
#define HVCORE_SANDBOX_FILTER_H

#include <stdbool.h>

/* For the calling process and what it becomes. The descriptor that asks about opens, and with
 * reads about pread, too; or -errno. */
int hv_sandbox_filter(bool reads);

#endif
