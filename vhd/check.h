/*
 * Checking and mending one VHD file, by every rule of the format. Works on files that vhd_open
 * refuses. Chains (identity of parents) are checked by snapshot/.
 */
#ifndef VHD_CHECK_H
#define VHD_CHECK_H

#include "hvcore/file.h"

enum vhd_severity {
	VHD_NOTE,  /* unusual, harmless */
	VHD_LEAK,  /* space that nothing uses */
	VHD_ERROR, /* damaged, or readers may disagree about the contents */
};

struct vhd_finding {
	const char *code; /* stable: "footer-checksum", "bat-overlap", ... (the table in check.c) */
	enum vhd_severity severity;
	uint64_t offset; /* place in the file, or HV_NO_HOST_OFFSET */
	int64_t block;   /* block number, or -1 */
	bool repairable, repaired;
	uint64_t disk_offset, disk_length; /* what of the disk it is about; length 0: not told */
	char sentence[512];
};

#define VHD_CHECK_MAX_TOLD 1000 /* findings of one code that are passed on; all are counted */

struct vhd_check_result {
	unsigned notes, leaks, errors,
		repaired;      /* what was repaired is not counted among the others */
	unsigned untold;       /* counted, but not passed to found */
	unsigned repairable;   /* found, and repair would mend it */
	uint64_t leaked_bytes; /* in the file, and used by nothing */
	uint64_t lost_bytes; /* of the disk, that read as zero (as the parent) once it is repaired */
	uint32_t unreadable_blocks; /* whose entries are wrong, and cannot be put right */
	uint32_t allocated_blocks;
	uint32_t type; /* an enum vhd_type by the footer that is believed, or whatever it says */
};

struct vhd_check_options {
	bool repair;           /* the file must be open for writing */
	bool ascending;        /* the caller knows that blocks were written in ascending order */
	bool data;             /* also read what bitmaps call absent, and look for non-zero data */
	const char *undo_path; /* where repair saves what it overwrites; required for repair */
	void (*found)(const struct vhd_finding *finding, void *arg);
	void (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *arg); /* or NULL */
	void *arg;
};

/*
 * Reports every finding, in the order of the file's parts, once all is known. Returns 0 when the
 * check was made (whatever it found), or -errno when the file could not be read; -EINVAL when it is
 * no VHD at all.
 *
 * Repair mends footers (from each other), checksums, leaks at the end, and entries of the BAT whose
 * right value is certain. It never guesses about data. Before the first write it saves every byte
 * it will overwrite or cut off to undo_path (which must not exist; -EEXIST) and makes that durable;
 * without anything to mend there is no such file. FORMAT.md tells the order of writes.
 */
int vhd_check(struct hv_file *file, const struct vhd_check_options *options,
	      struct vhd_check_result *ret, struct hv_err *err);

/*
 * Puts back what a repair has changed, as saved at undo_path; also after a repair or an undo that
 * was interrupted. file is open for writing. Nothing is written before the whole undo file is
 * validated (-EBADMSG) and every place is found to hold what was there before or after the repair
 * (-ESTALE: the file was changed since).
 */
int vhd_undo(struct hv_file *file, const char *undo_path, struct hv_err *err);

#endif
