/*
 * Inside vhd/: an open dynamic or differencing disk, and how its parts share the work.
 *
 *	open.c    reads footers, header, locators and BAT, judges them, makes a disk
 *	data.c    reads, writes and zeros: splits requests by block and sends them on
 *	bitmap.c  sector bitmaps in memory
 *	alloc.c   places new blocks, moves the trailing footer out of their way
 *	space.c   space among the blocks: what blocks have given up
 *	commit.c  makes metadata durable: the order of writes
 *	extent.c  tells what is where
 *	resize.c  another virtual size
 *	compact.c, relocate.c, overwrite.c	giving space back
 *	reparent.c  another parent
 *	fixed.c   fixed disks, which need none of this
 */
#ifndef VHD_IMAGE_H
#define VHD_IMAGE_H

#include "vhd/footer.h"
#include "vhd/vhd.h"

/* A part of the file that is neither block nor footer. */
struct vhd_region {
	uint64_t offset, length; /* bytes */
	const char *name;
};

#define VHD_MAX_REGIONS (4 + VHD_LOCATORS)
#define VHD_MAX_BAT_BYTES (64u << 20) /* sixteen times a full 2040 GiB disk of 2 MiB blocks */

/* The fixed facts of a dynamic or differencing file; no state. */
struct vhd_layout {
	uint64_t size_bytes; /* virtual */
	uint32_t block_bytes, block_shift, block_count, max_entries;
	uint32_t bitmap_bytes; /* in the file: whole sectors */
	uint64_t header_offset, bat_offset;
	uint64_t file_end; /* where blocks must end: before the trailing footer */
	uint64_t metadata_end;
	struct vhd_region regions[VHD_MAX_REGIONS];
	unsigned region_count;
	const char *beyond;      /* what of the metadata reaches beyond the file's end, or NULL */
	uint32_t batmap_version; /* Xen; 0: none */
	bool batmap_encrypted;
};

enum vhd_bat_fault {
	VHD_BAT_OUTSIDE,   /* the block begins or ends beyond the file */
	VHD_BAT_CUT,       /* the last block in the file is cut by the end of the file */
	VHD_BAT_METADATA,  /* overlaps metadata */
	VHD_BAT_OVERLAP,   /* overlaps another block */
	VHD_BAT_DUPLICATE, /* is where another block is */
};

/* What a look over a whole BAT finds. */
struct vhd_bat_summary {
	uint32_t allocated, fragments;
	uint64_t data_end; /* end of metadata and of all blocks that lie in the file */
	bool aligned;
};

/*
 * Judges every entry in time proportional to their number (and memory to the file's size in
 * blocks). found is called for each fault; other is the block that it collides with, or -1.
 * Returns 0 or -ENOMEM.
 */
int vhd_bat_judge(const struct vhd_layout *layout, const uint32_t *bat,
		  void (*found)(enum vhd_bat_fault fault, uint32_t block, int64_t other,
				const struct vhd_region *region, void *arg),
		  void *arg, struct vhd_bat_summary *ret);

/* One sentence about a fault of the BAT, without the path. */
void vhd_bat_fault_text(enum vhd_bat_fault fault, const struct vhd_layout *layout,
			const uint32_t *bat, uint32_t block, int64_t other,
			const struct vhd_region *region, char *text, size_t size);

/*
 * Reads the BAT (entries up to layout->block_count) into host order; malloc'ed. -ENOTSUP when it
 * would take more memory than any real disk needs.
 */
int vhd_bat_read(struct hv_file *file, const struct vhd_layout *layout, uint32_t **ret,
		 struct hv_err *err);

/*
 * Reads and judges the header that footer points to, and where everything lies. header is decoded
 * as far as possible also on failure (the caller frees header->parent_name).
 */
int vhd_layout_read(struct hv_file *file, const struct vhd_footers *footers,
		    struct vhd_header *header, struct vhd_layout *ret, struct hv_err *err);

/* Decodes a locator slot and reads its text. Only a failing read of the file is an error. */
int vhd_locator_read(struct hv_file *file, const struct vhd_disk_locator *disk,
		     struct vhd_locator *ret, struct hv_err *err);

/* Writing who the parent is, and where. */

#define VHD_LOCATOR_SPACE (16u << 10) /* a path of 4095 characters, in UTF-16 or percent-encoded */
#define VHD_PATHS 3

struct vhd_path {
	uint32_t code, length_bytes;
	uint8_t *text; /* VHD_LOCATOR_SPACE bytes, zero behind the text */
};

/* The paths of a parent as they go into the file. */
struct vhd_paths {
	unsigned count;
	struct vhd_path paths[VHD_PATHS];
};

/* To be freed with vhd_paths_free, also on failure. */
int vhd_paths_encode(const struct vhd_create_options *options, struct vhd_paths *ret,
		     struct hv_err *err);
void vhd_paths_free(struct vhd_paths *paths);

/* The slot of a path that lies at offset. */
void vhd_locator_encode(const struct vhd_path *path, uint64_t offset, uint32_t space_bytes,
			struct vhd_disk_locator *ret);

/* Where the trailing footer belongs when metadata and blocks end at `end`. */
uint64_t vhd_footer_place(uint64_t end);

/* A sector bitmap in memory. */
struct vhd_bitmap {
	uint32_t block;
	bool loading;  /* bits are not valid yet */
	bool dirty;    /* holds bits that are not in the file */
	unsigned pins; /* requests and commits that use it */
	struct vhd_bitmap *hash_next, *newer, *older, *dirty_next;
	struct hv_io *waiters; /* requests to route again once it is loaded; newest first */
	struct hv_io load;
	struct iovec load_iov;
	struct vhd *vhd;
	uint8_t *bits;
};

#define VHD_BITMAP_BUCKETS 4096

struct vhd_bitmap_cache {
	struct vhd_bitmap *buckets[VHD_BITMAP_BUCKETS];
	struct vhd_bitmap *newest, *oldest;
	struct vhd_bitmap *dirty;
	unsigned count, limit, dirty_count;
	uint8_t *spare; /* for bits_now */
};

struct vhd_io_queue {
	struct hv_io *head, *tail;
};

struct vhd_alloc {
	uint64_t next_end; /* end of metadata and of all blocks given out */
	uint64_t limit;    /* new blocks end here at the latest; up to here the file is zero */
	uint32_t batch;    /* blocks that the next extension makes room for */
	bool extending, extended;
	bool barrier_failed; /* of the extension */
	struct vhd_io_queue waiters;
	struct hv_work work;

	/* Of the extension under way. */
	uint64_t new_footer;           /* its place */
	uint64_t junk_start, junk_end; /* to be zeroed once the new footer is durable */
	struct hv_err err;
};

/* Places of blocks, by the sector where their bitmap begins. */
struct vhd_places {
	uint32_t *sectors;
	uint32_t count, limit;
};

struct vhd_space {
	struct vhd_places dropped;    /* since the last commit began */
	struct vhd_places committing; /* by the commit under way */
	struct vhd_places released;   /* the file's table names them no more */
	struct vhd_places clearing;   /* being drained, then cleared */
	struct vhd_places ready;      /* to be given out; a heap, the lowest first */
	struct vhd_places gaps;       /* found in the file, ascending; not cleared yet */
	uint32_t gaps_used, cleared;
	bool gaps_known, busy;
	bool whole;   /* whoever takes a place overwrites all of it: none is cleared */
	bool changed; /* blocks have gone, so that the last may end lower */
	enum hv_io_op clear_op;
	struct hv_io io;
};

struct vhd_commit_op; /* space.c */

enum vhd_space_answer {
	VHD_SPACE_TAKEN, /* *ret is the sector of a place that reads as zero */
	VHD_SPACE_WAIT,  /* vhd_alloc_retry will be called */
	VHD_SPACE_NONE,
};

enum vhd_space_answer vhd_space_take(struct vhd *vhd, uint32_t *ret);

/*
 * Gives up an allocated block: it reads as unallocated from now on, its place can be used again
 * after a commit. False when that cannot be done now (somebody uses its bitmap, or no memory).
 */
bool vhd_space_drop(struct vhd *vhd, uint32_t block);

/*
 * Until vhd_space_clear_ready is called, whoever takes a place overwrites all of it, so that places
 * need not be cleared, and gaps are as good as any.
 */
void vhd_space_take_whole(struct vhd *vhd);

/* The block, whose contents have been copied, is at the place `to` from now on. Likewise. */
bool vhd_space_move(struct vhd *vhd, uint32_t block, uint32_t to);

/* The places that are ready, ascending; malloc'ed, NULL without memory. */
uint32_t *vhd_space_list(const struct vhd *vhd);

/* Ends that, and clears what is ready. Blocking. */
void vhd_space_clear_ready(struct vhd *vhd);

void vhd_space_commit_begins(struct vhd *vhd);
void vhd_space_commit_ends(struct vhd *vhd, int result);

/* Does a block, or a place that one may get, touch [start, end)? */
bool vhd_space_claims(const struct vhd *vhd, uint64_t start, uint64_t end);

/* Finds out where the last block ends now. Nothing may be in flight, pending or being cleared. */
void vhd_space_lower(struct vhd *vhd);
void vhd_space_free(struct vhd *vhd);

/* commit.c */

/* An entry of the BAT as it stood when a commit began. */
struct vhd_change {
	uint32_t block, entry;
};

struct vhd_commit {
	bool active, wanted; /* wanted: another one shall follow */
	int phase, result;
	unsigned in_flight;
	struct vhd_io_queue joined, waiting; /* flushes served by this commit, and by the next */
	struct vhd_change *changes; /* of the BAT that this commit brings to the file, ascending */
	uint32_t change_count;
	struct vhd_commit_op *ops; /* one for each bitmap and each run of BAT sectors */
	struct hv_io barrier;
	struct hv_err err;
};

struct vhd {
	struct hv_disk base;
	struct hv_file *file;
	struct hv_disk *backing;
	struct vhd_info info;
	struct vhd_layout layout;
	struct vhd_disk_footer footer_raw; /* what every footer of the file shall hold */
	bool differencing;
	bool unordered;  /* see VHD_OPEN_UNORDERED */
	bool poisoned;   /* a barrier failed: what is durable is not known any more */
	bool copy_stale; /* the footer's copy is valid, but not the trailing footer's */

	uint32_t *bat;        /* host order */
	uint8_t *full;        /* bit per block: the sector bitmap is known to be all ones */
	uint8_t *unpublished; /* bit per block: in pending */
	uint8_t *bad;         /* bit per block: the entry cannot be right; NULL: none such */
	uint8_t *ones;        /* the bitmap of a new block of a dynamic disk */
	uint32_t *pending;    /* blocks whose entry has changed since the last commit began */
	uint32_t pending_count, pending_limit;

	struct vhd_bitmap_cache cache;
	struct vhd_alloc alloc;
	struct vhd_space space;
	struct vhd_commit commit;
};

static inline struct vhd *vhd_of(struct hv_disk *disk)
{
	return (struct vhd *)disk;
}

static inline uint64_t vhd_bitmap_offset(const struct vhd *vhd, uint32_t block)
{
	return (uint64_t)vhd->bat[block] << HV_SECTOR_SHIFT;
}

static inline uint64_t vhd_data_offset(const struct vhd *vhd, uint32_t block)
{
	return vhd_bitmap_offset(vhd, block) + vhd->layout.bitmap_bytes;
}

/* Sectors of the block that lie inside the disk. */
static inline uint32_t vhd_block_sectors(const struct vhd *vhd, uint32_t block)
{
	uint64_t start = (uint64_t)block << vhd->layout.block_shift;
	uint64_t left = vhd->base.size_bytes - start;

	return (uint32_t)((left < vhd->layout.block_bytes ? left : vhd->layout.block_bytes) >>
			  HV_SECTOR_SHIFT);
}

/* Reads footers and header again, which were changed in the file. */
int vhd_reload(struct vhd *vhd, struct hv_err *err);

void vhd_queue_push(struct vhd_io_queue *queue, struct hv_io *io);
struct hv_io *vhd_queue_pop(struct vhd_io_queue *queue); /* NULL when empty */

/* data.c */
void vhd_submit(struct hv_disk *disk, struct hv_io *io);
void vhd_route(struct vhd *vhd, struct hv_io *io); /* io lies in one block */

/* bitmap.c */

/*
 * The bitmap of an allocated block. NULL when it has to be loaded first: io is routed again then.
 * Also NULL when there is no memory: io has failed then.
 */
struct vhd_bitmap *vhd_bitmap_get(struct vhd *vhd, uint32_t block, struct hv_io *io);

/* A cached, loaded bitmap, or NULL. */
struct vhd_bitmap *vhd_bitmap_peek(struct vhd *vhd, uint32_t block);

/* A bitmap of zeros for a block just allocated; NULL without memory. */
struct vhd_bitmap *vhd_bitmap_make(struct vhd *vhd, uint32_t block);

/* The bits, read now if need be; lent until the next call for any bitmap. For extents. */
int vhd_bitmap_bits_now(struct vhd *vhd, uint32_t block, const uint8_t **ret, struct hv_err *err);

void vhd_bitmap_mark(struct vhd *vhd, struct vhd_bitmap *bitmap, uint32_t start, uint32_t count);
void vhd_bitmap_dirty(struct vhd *vhd, struct vhd_bitmap *bitmap);
/* Drops what is known of a block that is given up; false while somebody uses it. */
bool vhd_bitmap_forget(struct vhd *vhd, uint32_t block);
void vhd_bitmap_drop(struct vhd *vhd, struct vhd_bitmap *bitmap);
void vhd_bitmaps_free(struct vhd *vhd);

/* alloc.c */

/* Gives block a place; false when there is none yet, and then io is queued. */
bool vhd_alloc_block(struct vhd *vhd, uint32_t block, struct hv_io *io);

/* Where a block's bitmap would begin if the space before it ended at end. */
uint64_t vhd_alloc_place(const struct vhd *vhd, uint64_t end);

/* There may be places now: what waits for one tries again. */
void vhd_alloc_retry(struct vhd *vhd);

/* Takes bytes behind everything, for metadata. Blocking; nothing may be in flight. */
int vhd_alloc_room(struct vhd *vhd, uint64_t bytes, uint64_t *ret, struct hv_err *err);

/* At open for writing: what is not as it should be of the file's end and footers is mended. */
int vhd_alloc_settle(struct vhd *vhd, struct hv_err *err);

/* Footer to its exact place, slack given back. Nothing may be in flight or pending. */
int vhd_alloc_trim(struct vhd *vhd, struct hv_err *err);

/* commit.c */

/*
 * Completes io when everything that completed before is durable. io is a flush, or a FUA request
 * whose data is written.
 */
void vhd_commit_add(struct vhd *vhd, struct hv_io *io);
/* The block's entry in the BAT has changed (or is about to); false without memory. */
bool vhd_commit_remember(struct vhd *vhd, uint32_t block);
bool vhd_commit_clean(const struct vhd *vhd); /* no metadata waits to be written */

#define VHD_COMMIT_BLOCKS 1024 /* unpublished blocks that call for a commit without a flush */
void vhd_commit_soon(struct vhd *vhd); /* starts a commit when that much waits */

/* extent.c */
int vhd_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
	       struct hv_extent *ret, struct hv_err *err);

/* Does the backing disk read as zero there? 1, 0 or -errno. */
int vhd_backing_is_zero(struct vhd *vhd, uint64_t offset, uint64_t length, struct hv_err *err);

/* overwrite.c */

int vhd_overwrite(struct hv_file *file, uint64_t offset, uint64_t end, struct hv_err *err);

/* Places that are ready, and everything behind the last block, followed by a barrier. Blocking. */
int vhd_overwrite_free(struct vhd *vhd, struct hv_err *err);

/* resize.c */

/* Flushes, and waits until the engine does nothing by itself any more. */
int vhd_quiesce(struct vhd *vhd, struct hv_err *err);

/* fixed.c */
int vhd_fixed_open(struct hv_file *file, const struct vhd_footers *footers, struct hv_disk **ret,
		   struct hv_err *err);
bool vhd_is_fixed(const struct hv_disk *disk);
struct vhd_info *vhd_fixed_info(struct hv_disk *disk);
struct hv_file *vhd_fixed_file(struct hv_disk *disk);
int vhd_fixed_resize(struct hv_disk *disk, uint64_t size_bytes, unsigned flags, struct hv_err *err);

#endif
