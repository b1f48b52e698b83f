/*
 * Requests that a disk cannot be given as they are. Private to vsp-storage/.
 *
 * Those that begin or end within a sector go in pieces, one after the other: the sector at the
 * head, the one at the tail, the whole sectors between. Of a read, the edges' sectors are read and
 * what is wanted of them is copied out; of a change, they are read, changed and written, so that
 * nobody else may change them meanwhile: the caller sees to that.
 *
 * Long ones are cut too: zeroing or discarding a range costs the engine memory for each block of
 * it.
 */
#ifndef VSP_STORAGE_PIECES_H
#define VSP_STORAGE_PIECES_H

#include "vsp-storage/device.h"

#define VSP_PIECE_BYTES (UINT64_C(256) << 20)

/* Completes request->io as hv_disk_submit would. */
void vsp_pieces_submit(struct vsp_request *request);

static inline bool vsp_is_unaligned(const struct vsp_request *request)
{
	return (request->offset | request->length) & (HV_SECTOR_SIZE - 1);
}

#endif
