/*
 * Inside vhd/check*.c and repair.c: what one check has learned so far.
 *
 *	check.c		the codes, and the order of the steps
 *	check_footer.c	both footers, and what the believed one says
 *	check_header.c	header, and where the BAT lies
 *	check_derive.c	a header with one damaged field
 *	check_locator.c	parent locators and the parent's name
 *	check_bat.c	the BAT, and space that nothing uses
 *	check_data.c	sector bitmaps against data, Xen's batmap
 *	check_salvage.c	what wrong entries of the BAT should be (check_salvage.h)
 *	check_marks.c	what contents say about their own position (check_marks.h)
 *	repair.c	what can be mended, and mending it
 *	undo.c		the undo file
 */
#ifndef VHD_CHECK_INTERNAL_H
#define VHD_CHECK_INTERNAL_H

#include "vhd/check.h"
#include "vhd/image.h"

/* Space left free between parts of a file by writers that align them: not worth a word. */
#define CHECK_PADDING_BYTES (UINT64_C(2) * VHD_LAYOUT_ALIGN)

enum check_code {
	FOOTER_MISSING,
	FOOTER_CHECKSUM,
	FOOTER_COOKIE,
	FOOTER_511,
	FOOTER_DIFFERS,
	FOOTER_VERSION,
	FOOTER_TYPE,
	FOOTER_FEATURES,
	FOOTER_RESERVED,
	FOOTER_SIZE,
	FOOTER_OPEN,
	COPY_MISSING,
	COPY_CHECKSUM,
	UUID_NULL,
	SAVED_STATE,
	HEADER_OFFSET,
	HEADER_COOKIE,
	HEADER_CHECKSUM,
	HEADER_VERSION,
	HEADER_BLOCK_SIZE,
	HEADER_ENTRIES,
	HEADER_NEXT,
	HEADER_DERIVED,
	BAT_OFFSET,
	BAT_TRUNCATED,
	BAT_OUTSIDE,
	BAT_METADATA,
	BAT_OVERLAP,
	BAT_DUPLICATE,
	BLOCK_TRUNCATED,
	BLOCK_SHORT,
	BLOCK_MISALIGNED,
	BITMAP_DATA,
	BAT_SCAN,
	BLOCK_FOUND,
	BLOCK_LOST,
	BLOCK_UNUSED,
	BLOCK_AMBIGUOUS,
	BLOCK_UNCLAIMED,
	LEAK_GAP,
	LEAK_TAIL,
	LOCATOR_RANGE,
	LOCATOR_TEXT,
	LOCATOR_CODE,
	PARENT_UUID_NULL,
	PARENT_NAME_EMPTY,
	XEN_BATMAP,
	XEN_ENCRYPTED,
	XEN_POISON,
	XEN_BITMAP_ORDER,
	SIZE_GEOMETRY,
	HOST_SPARSE,
	CHECK_CODES,
};

struct check_finding {
	enum check_code code;
	struct vhd_finding told;
};

/* A change of the file: at most one sector, some of which may lie past the file's end. */
struct check_change {
	uint64_t offset;
	uint32_t old_length; /* bytes of the sector that the file has */
	uint8_t old[HV_SECTOR_SIZE], new[HV_SECTOR_SIZE];
};

/* In the order of writing; see apply in repair.c. */
enum { CHANGE_HEADER, CHANGE_TRAILING, CHANGE_COPY, CHECK_CHANGES };

struct check_plan {
	bool wanted[CHECK_CHANGES];
	struct check_change changes[CHECK_CHANGES];
	uint64_t new_size;                       /* of the file */
	uint64_t witness_offset, witness_length; /* the BAT */
	bool mends[CHECK_CODES];                 /* findings of these codes are gone then */

	/* The BAT as it shall be, in host order; NULL: it stays. Then bad tells what is still
	 * wrong. */
	uint32_t *bat;
	uint8_t *bad;
};

/* Sectors of the BAT that change, side by side. */
struct check_bat_run {
	uint32_t first, count; /* sectors from the BAT's beginning */
	uint64_t offset;       /* in the file */
	uint8_t *old, *new;
};

#define CHECK_RUN_BYTES (1u << 20) /* the most that one run has */

struct check {
	struct hv_file *file;
	const struct vhd_check_options *options;
	struct vhd_check_result result;
	unsigned counts[CHECK_CODES];

	struct check_finding *findings;
	size_t finding_count, finding_limit;
	struct check_finding *last; /* the one just recorded; NULL: it is only counted */
	bool no_memory;

	struct vhd_footers footers;
	const struct vhd_footer *footer; /* the one believed, valid or not; NULL: none */
	const struct vhd_disk_footer *footer_raw;
	uint64_t size_bytes; /* virtual */
	uint64_t file_end;   /* where the trailing footer begins, or should */

	bool header_found;   /* there is one where the footer says */
	bool header_derived; /* header_raw is not what lies there, but what lay there once */
	struct vhd_disk_header header_raw;
	struct vhd_header header;

	bool layout_known;
	struct vhd_layout layout;
	uint32_t *bat;   /* NULL: not known */
	uint8_t *bad;    /* bit per block: its entry cannot be right; NULL: none such */
	uint8_t *untold; /* per block: findings about its entry that are only counted */
	uint8_t *batmap; /* Xen's, if its checksum is right; else NULL */
	bool bat_sound;  /* known, and every entry is right */
	int64_t cut;     /* the block that the file's end cuts, or -1 */
	struct vhd_bat_summary summary;
	uint64_t tail_bytes; /* what repair of the tail gives back */

	struct check_plan plan;
};

/* Records a finding of the code's own severity; the sentence comes without the path. */
void vhd_check_report(struct check *check, enum check_code code, uint64_t offset, int64_t block,
		      const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same with another severity. */
void vhd_check_report_as(struct check *check, enum vhd_severity severity, enum check_code code,
			 uint64_t offset, int64_t block, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));

/* The last finding is about this range of the disk. */
void vhd_check_report_range(struct check *check, uint64_t start, uint64_t length);

/* Was there any finding of the codes first to last? */
bool vhd_check_found_any(const struct check *check, enum check_code first, enum check_code last);

/* The steps. 0, or -errno when the check cannot go on. */
int vhd_check_footers(struct check *check, struct hv_err *err);
int vhd_check_header(struct check *check, struct hv_err *err);
int vhd_check_locators(struct check *check, struct hv_err *err);
int vhd_check_bat(struct check *check, struct hv_err *err);
int vhd_check_data(struct check *check, struct hv_err *err);
int vhd_check_salvage(struct check *check, struct hv_err *err);

/* Where everything lies by this header, whose cookie and checksum are taken as right. */
int vhd_check_read_layout(const struct check *check, const struct vhd_disk_header *raw,
			  struct vhd_layout *ret, struct hv_err *err);

/* The header as it was before one of its fields was damaged, when that is certain. */
bool vhd_check_derive_header(struct check *check, struct vhd_disk_header *ret);

/* What can be mended, into check->plan. */
void vhd_check_plan_repair(struct check *check);

/* Saves, then mends. */
int vhd_check_repair(struct check *check, struct hv_err *err);

/*
 * The next sectors of the BAT that the plan changes, after those of run (which begins as zeros, but
 * for memory of CHECK_RUN_BYTES each): 1 with run filled, 0 when there are no more, -errno.
 */
int vhd_check_next_run(const struct check *check, struct check_bat_run *run, struct hv_err *err);

/* Saves what the plan changes and cuts off; durable on return. */
int vhd_undo_save(const struct check *check, struct hv_err *err);

#endif
