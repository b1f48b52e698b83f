/*
 * Inside vhdtool/: what NTFS filesystems on a disk do not use, by the word of ntfs-3g, which gets
 * to see the disk through vhdmount: its writes end in a temporary file.
 */
#ifndef VHDTOOL_NTFS_H
#define VHDTOOL_NTFS_H

#include "hvcore/fsmap.h"

/*
 * Tells map of the filesystems that are NTFS, or why one cannot be believed. path is the disk that
 * map was made of, and is open nowhere. 0, also when there is none; -ENOMEM.
 */
int tool_ask_ntfs(const char *path, const char *parent, struct hv_fsmap *map, struct hv_err *err);

#endif
