/*
 * Another parent for a differencing disk: its UUID, timestamp, size, name and paths change in the
 * file.
 * What the disk itself holds is left as it is; whether the new parent reads as the old one did
 * where the disk holds nothing is the caller's affair (snapshot/rebase.h).
 */
#ifndef VHD_REPARENT_H
#define VHD_REPARENT_H

#include "vhd/vhd.h"

enum vhd_reparent_flags {
	/* What the file gives up again is overwritten with zeros before. */
	VHD_REPARENT_ZERO = 1 << 0,
};

/*
 * Records the parent that options tell of: its size is size_bytes. disk is open for writing, and
 * nothing is in flight; what was written before is flushed. Its backing disk is left as it is.
 *
 * At every instant both footers of the file, as far as they are valid, lead to a whole header, the
 * old one or the new one, with its locators (reparent.c tells the order of writes). A cut may leave
 * the footer's copy behind the trailing footer (mended when the file is opened for writing), and
 * the new header and locators at the end of the file (moved when this is called again).
 *
 * -EINVAL: disk is not differencing, or something cannot be recorded; -ENOSPC and -EIO leave the
 * file in one of these states; except for a lack of room, the disk takes no more writes then.
 */
int vhd_reparent(struct hv_disk *disk, const struct vhd_create_options *options, unsigned flags,
		 struct hv_err *err);

#endif
