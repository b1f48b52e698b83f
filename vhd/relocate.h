/*
 * Inside vhd/: copying blocks to other places in the file.
 */
#ifndef VHD_RELOCATE_H
#define VHD_RELOCATE_H

#include "vhd/image.h"

/* Sectors where a block's bitmap begins, and shall begin. */
struct vhd_move {
	uint32_t from, to;
};

/*
 * Copies bitmaps and payload; blocking. The places do not overlap, and the file is the truth about
 * the bitmaps. No barrier.
 */
int vhd_relocate(struct vhd *vhd, const struct vhd_move *moves, uint32_t count, struct hv_err *err);

#endif
