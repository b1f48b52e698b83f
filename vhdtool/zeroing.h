/*
 * Inside vhdtool/: making a range read as zeros, and showing that it does.
 *
 * TOOL_ZERO_AUTO takes the fastest way that leaves zeros: nothing where the kernel says that
 * nothing is there (holes, unwritten extents), FALLOC_FL_ZERO_RANGE, BLKZEROOUT on devices, else
 * writing. TOOL_ZERO_WRITE overwrites every allocated byte with zeros (O_DIRECT), for storage below
 * which somebody may look. Both then flush, and prove: by FIEMAP where every extent is unwritten,
 * by SEEK_DATA where there is no FIEMAP, else by reading back. A proof by the kernel's word is
 * tried on a sample of pages before it is believed.
 */
#ifndef VHDTOOL_ZEROING_H
#define VHDTOOL_ZEROING_H

#include "hvcore/disk.h"
#include "hvcore/file.h"
#include "hvcore/json.h"

enum tool_zero_mode { TOOL_ZERO_AUTO, TOOL_ZERO_WRITE };

#define TOOL_ZERO_CHOICES "auto|write"

struct tool_zero_options {
	enum tool_zero_mode mode;
	bool fill_holes; /* TOOL_ZERO_WRITE of files: holes are written too */
	bool quiet;
};

/* The value of --secure-zero ("", "auto", "write"). */
enum tool_zero_mode tool_zero_mode_of(const char *value);

struct tool_zeroing {
	const char *method; /* "unwritten extents", "zero range", "BLKZEROOUT", "written", ... */
	uint64_t bytes;     /* that the method was applied to */
	char verified[96];  /* "FIEMAP: all 3 extents unwritten", "read back", ... */
	char grounds[64];   /* of "reads as zeros": "ext4 unwritten extents", ... */
	double seconds, write_seconds, verify_seconds; /* the flush is in seconds only */
};

/*
 * Zeros [offset, offset + length) of a file that was opened for writing (with HV_FILE_DIRECT, or
 * writing does not bypass the page cache). -EIO when the proof fails.
 */
int tool_zero_file(struct hv_file *file, uint64_t offset, uint64_t length,
		   const struct tool_zero_options *options, struct tool_zeroing *ret,
		   struct hv_err *err);

/*
 * The same for all that a dynamic or differencing disk does not read as zero, in whole blocks, so
 * that what a block holds behind the back of its sector bitmap goes too. Blocks stay allocated. To
 * be called before anything else is read from disk.
 */
int tool_zero_disk(struct hv_disk *disk, uint32_t block_bytes,
		   const struct tool_zero_options *options, struct tool_zeroing *ret,
		   struct hv_err *err);

/*
 * Does the kernel say that the range reads as zeros, and does the sample agree? 1 with verified and
 * grounds filled, 0 when it does not say so, -errno.
 */
int tool_prove_zero(struct hv_file *file, uint64_t offset, uint64_t length,
		    struct tool_zeroing *ret, struct hv_err *err);

/* As the member "zeroing" of a JSON object, and as a line of text; zeroing NULL: null, no line. */
void tool_zeroing_json(struct hv_json *object, const struct tool_zeroing *zeroing);
void tool_zeroing_print(const struct tool_zeroing *zeroing);

#endif
