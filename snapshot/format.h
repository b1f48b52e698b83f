/*
 * Inside snapshot/: is a file a VHD or a raw image?
 */
#ifndef SNAPSHOT_FORMAT_H
#define SNAPSHOT_FORMAT_H

#include "hvcore/file.h"

/*
 * Decides by the caller's word ("raw", "vhd"; NULL: none), else by the file's name and contents. A
 * raw disk's contents belong to the guest, who may write a VHD footer there: where name and
 * contents disagree, the caller has to say. A parent of known UUID (by_uuid) is a VHD by any name.
 */
int snap_decide_format(struct hv_file *file, const char *format, bool by_uuid, bool *raw,
		       struct hv_err *err);

#endif
