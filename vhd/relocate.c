/*
 * Copying blocks, with their bitmaps, to other places in the same file: several pieces in flight,
 * holes kept. Who points to the blocks is not changed here.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "hvcore/checked.h"
#include "vhd/relocate.h"

#define PIECE_BYTES (1u << 20)
#define PIECES 16

struct piece {
	struct hv_io io;
	struct iovec iov;
	struct vhd_relocation *work;
	uint64_t to;
	void *memory;
};

struct vhd_relocation {
	struct vhd *vhd;
	const struct vhd_move *moves;
	uint32_t count, next; /* the move that the next piece comes from */
	uint64_t done;        /* bytes of it that are under way */
	unsigned in_flight;
	int result;
	struct hv_err err;
	struct piece pieces[PIECES];
};

static void start_piece(struct piece *piece);

static void piece_written(struct hv_io *io, int result)
{
	struct piece *piece = (struct piece *)io;

	piece->work->in_flight--;
	if (result && !piece->work->result)
		piece->work->result = result;
	start_piece(piece);
}

static void piece_read(struct hv_io *io, int result)
{
	struct piece *piece = (struct piece *)io;

	if (result) {
		piece_written(io, result);
		return;
	}
	piece->io = (struct hv_io){ .op = HV_WRITE,
				    .offset = piece->to,
				    .length = piece->iov.iov_len,
				    .iov = &piece->iov,
				    .iov_count = 1,
				    .err = &piece->work->err,
				    .done = piece_written };
	hv_file_submit(piece->work->vhd->file, &piece->io);
}

/* The next [from, from + length) to be copied; false at the end. Pieces end where the bitmap does. */
static bool next_range(struct vhd_relocation *work, uint64_t *from, uint64_t *to, uint64_t *length)
{
	const struct vhd_layout *layout = &work->vhd->layout;
	uint64_t total = (uint64_t)layout->bitmap_bytes + layout->block_bytes, end;
	const struct vhd_move *move = &work->moves[work->next];

	if (work->next == work->count || work->result)
		return false;
	end = work->done < layout->bitmap_bytes ? layout->bitmap_bytes : total;
	*length = hv_min_u64(end - work->done, PIECE_BYTES);
	*from = ((uint64_t)move->from << HV_SECTOR_SHIFT) + work->done;
	*to = ((uint64_t)move->to << HV_SECTOR_SHIFT) + work->done;
	work->done += *length;
	if (work->done == total) {
		work->done = 0;
		work->next++;
	}
	return true;
}

static void start_piece(struct piece *piece)
{
	struct vhd_relocation *work = piece->work;
	struct hv_file *file = work->vhd->file;
	uint64_t from, length;
	struct hv_extent extent;

	if (!next_range(work, &from, &piece->to, &length))
		return;
	work->in_flight++;
	piece->iov = (struct iovec){ piece->memory, length };
	piece->io = (struct hv_io){ .op = HV_READ,
				    .offset = from,
				    .length = length,
				    .iov = &piece->iov,
				    .iov_count = 1,
				    .err = &work->err,
				    .done = piece_read };
	if (hv_file_extent(file, from, length, 0, &extent, NULL) == 0 &&
	    extent.state == HV_EXTENT_ZERO && extent.length == length)
		piece->io = (struct hv_io){ .op = HV_DISCARD,
					    .offset = piece->to,
					    .length = length,
					    .err = &work->err,
					    .done = piece_written };
	hv_file_submit(file, &piece->io);
}

int vhd_relocate(struct vhd *vhd, const struct vhd_move *moves, uint32_t count, struct hv_err *err)
{
	HV_AUTO(free) struct vhd_relocation *work = calloc(1, sizeof(*work));
	int rc = 0;

	if (!work)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
	work->vhd = vhd;
	work->moves = moves;
	work->count = count;
	for (unsigned i = 0; i < PIECES && rc == 0; i++) {
		struct piece *piece = &work->pieces[i];

		piece->work = work;
		if (posix_memalign(&piece->memory, VHD_LAYOUT_ALIGN, PIECE_BYTES)) {
			piece->memory = NULL;
			rc = hv_fail(err, -ENOMEM, "%s: not enough memory", vhd->base.path);
		}
	}
	for (unsigned i = 0; i < PIECES && rc == 0; i++)
		start_piece(&work->pieces[i]);
	while (work->in_flight)
		hv_loop_turn(vhd->base.loop, true);
	for (unsigned i = 0; i < PIECES; i++)
		free(work->pieces[i].memory);
	if (rc == 0 && work->result)
		rc = hv_fail(err, work->result, "%s", hv_err_text(&work->err, work->result));
	return rc;
}
