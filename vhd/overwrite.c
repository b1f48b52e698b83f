/*
 * Zeros, really written, over space before it is given back, for storage below which somebody may
 * look.
 */
#include <errno.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "vhd/image.h"

#define PIECE_BYTES (1u << 20)

int vhd_overwrite(struct hv_file *file, uint64_t offset, uint64_t end, struct hv_err *err)
{
	static const uint8_t zeros[PIECE_BYTES] __attribute__((aligned(4096)));
	int rc = 0;

	while (rc == 0 && offset < end) {
		size_t n = hv_min_u64(end - offset, PIECE_BYTES);

		rc = hv_file_pwrite(file, zeros, n, offset, err);
		offset += n;
	}
	return rc;
}

int vhd_overwrite_free(struct vhd *vhd, struct hv_err *err)
{
	uint64_t block_bytes = (uint64_t)vhd->layout.bitmap_bytes + vhd->layout.block_bytes;
	HV_AUTO(free) uint32_t *places = vhd_space_list(vhd);
	int rc = 0;

	if (!places)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	for (uint32_t i = 0; i < vhd->space.ready.count && rc == 0; i++) {
		uint64_t start = (uint64_t)places[i] << HV_SECTOR_SHIFT;

		rc = vhd_overwrite(vhd->file, start, start + block_bytes, err);
	}
	if (rc == 0)
		rc = vhd_overwrite(vhd->file, vhd->alloc.next_end,
				   vhd->file->size_bytes - VHD_FOOTER_BYTES, err);
	/* The zeros have reached the medium before the filesystem gets its blocks back. */
	return rc ? rc : hv_file_barrier(vhd->file, err);
}
