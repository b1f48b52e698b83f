/*
 * The VHD engine: one file, one layer. Follows the Virtual Hard Disk Image Format Specification
 * 1.0 (2006-10-11) and, where Windows departs from it, Windows.
 *
 * A differencing disk is opened without its parent. The engine reports what it does not hold as
 * unmapped, and reads it from the backing disk that vhd_set_backing gave it; finding, checking and
 * stacking parents is the work of snapshot/.
 */
#ifndef VHD_VHD_H
#define VHD_VHD_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/disk.h"
#include "hvcore/file.h"
#include "hvcore/guid.h"

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

#define VHD_DEFAULT_BLOCK_BYTES (2u << 20)
#define VHD_MIN_BLOCK_BYTES (512u << 10)            /* that we create */
#define VHD_MAX_BLOCK_BYTES (256u << 20)            /* that we create */
#define VHD_MAX_SPARSE_BYTES (UINT64_C(2040) << 30) /* dynamic and differencing */
#define VHD_MAX_FIXED_BYTES (UINT64_C(64) << 40)
#define VHD_FOOTER_BYTES 512u
#define VHD_EPOCH 946684800 /* 2000-01-01T00:00Z in Unix time */

struct vhd_geometry {
	uint16_t cylinders;
	uint8_t heads, sectors_per_track;
};

/* The spec's appendix. */
struct vhd_geometry vhd_geometry_of(uint64_t size_bytes);
uint64_t vhd_geometry_bytes(const struct vhd_geometry *geometry);

/* The same where it is exact, else the largest, which sends every reader to the size itself. */
struct vhd_geometry vhd_geometry_exact_or_max(uint64_t size_bytes);

enum vhd_locator_code {
	VHD_LOCATOR_W2RU = 0x57327275, /* Windows, relative path, UTF-16LE */
	VHD_LOCATOR_W2KU = 0x57326b75, /* Windows, absolute path, UTF-16LE */
	VHD_LOCATOR_MACX = 0x4d616358, /* file: URL, UTF-8 */
	VHD_LOCATOR_MAC = 0x4d616320,  /* alias blob */
	VHD_LOCATOR_WI2R = 0x57693272, /* deprecated */
	VHD_LOCATOR_WI2K = 0x5769326b, /* deprecated */
};

#define VHD_LOCATORS 8

struct vhd_locator {
	uint32_t code;        /* 0: the slot is empty; mistyped Mac codes are set right */
	uint32_t space_bytes; /* reserved in the file */
	uint32_t length_bytes;
	uint64_t offset;
	char *text; /* the path as written there, UTF-8; NULL when it is no path or not readable */
};

/* A footer, decoded. */
struct vhd_footer {
	uint32_t features, version;
	uint64_t data_offset;
	uint32_t timestamp; /* seconds since VHD_EPOCH */
	uint8_t creator[4];
	uint32_t creator_version;
	uint8_t creator_os[4];
	uint64_t original_bytes, current_bytes;
	struct vhd_geometry geometry;
	uint32_t type;
	uint32_t checksum;
	struct hv_guid uuid;
	uint8_t saved_state;
	uint8_t hidden; /* byte 85: set by Xen */
};

/* Everything known of an open VHD; lent, valid until the disk is closed. */
struct vhd_info {
	enum vhd_type type;
	struct vhd_footer footer;               /* the one in force */
	bool trailing_footer_valid, copy_valid; /* copy_valid: dynamic and differencing only */
	bool size_from_geometry;                /* the virtual size was taken from CHS */

	/* Dynamic and differencing only. */
	uint64_t header_offset, bat_offset;
	uint32_t max_entries, block_bytes, block_count; /* block_count = ceil(size / block) */
	uint32_t bitmap_bytes;                          /* in the file, padded to sectors */
	uint32_t allocated_blocks;
	uint64_t data_end;           /* end of metadata and blocks: where the footer belongs */
	bool aligned;                /* every allocated block's data lies on a 4 KiB boundary */
	uint32_t fragments;          /* runs of blocks that follow each other in the file */
	uint32_t xen_batmap_version; /* 0: none */
	bool encrypted;              /* by Xen: what is read is ciphertext */

	/* Differencing only. */
	struct hv_guid parent_uuid;
	uint32_t parent_timestamp;
	char *parent_name; /* UTF-8; "" when there is none */
	struct vhd_locator locators[VHD_LOCATORS];
};

enum vhd_geometry_rule {
	VHD_GEOMETRY_EXACT_MAX, /* vhd_geometry_exact_or_max: every reader sees size */
	VHD_GEOMETRY_SPEC,      /* spec CHS always, for Virtual PC */
};

struct vhd_create_options {
	enum vhd_type type;
	uint64_t size_bytes;  /* multiple of the sector size */
	uint32_t block_bytes; /* 0: default */
	enum vhd_geometry_rule geometry;

	/* Differencing only. The paths are UTF-8; see snapshot/chain.h for who makes them. */
	struct hv_guid parent_uuid;
	uint32_t parent_timestamp;
	const char *parent_name;     /* file name */
	const char *parent_relative; /* ".\dir\name", Windows form */
	const char *parent_absolute; /* "\dir\name", Windows form */
	const char *parent_url;      /* "file:///dir/name" */
};

/*
 * Writes the metadata of a new disk into an empty file. For a fixed disk that is the footer at
 * size_bytes (at the end of a block device); the data before it is the caller's business. No
 * barrier. -EINVAL with a sentence for sizes that the format cannot hold.
 */
int vhd_create(struct hv_file *file, const struct vhd_create_options *options, struct hv_err *err);

/* The options are checked as vhd_create would, before any file is touched. */
int vhd_create_check(const struct vhd_create_options *options, struct hv_err *err);

enum vhd_looks {
	VHD_LOOKS_NONE,   /* no cookie anywhere */
	VHD_LOOKS_VHD,    /* a valid footer at the end or a valid copy at the start */
	VHD_LOOKS_BROKEN, /* a cookie, but no valid footer */
};

/* Looks for footers; does not judge the rest. */
int vhd_look(struct hv_file *file, enum vhd_looks *ret, struct hv_err *err);

/* Who a VHD is, and whose child. */
struct vhd_family {
	struct hv_guid uuid;
	enum vhd_type type;
	struct hv_guid parent_uuid; /* null unless it is differencing */
};

/*
 * Looks at footers and header only. 1 with *ret filled; 0: no VHD, or one without a valid footer
 * and header; -errno when the file cannot be read.
 */
int vhd_look_family(struct hv_file *file, struct vhd_family *ret, struct hv_err *err);

enum vhd_open_flags {
	/*
	 * The file has no name yet: order of writes does not matter before the first flush, so
	 * that no barrier is needed while the disk is being filled.
	 */
	VHD_OPEN_UNORDERED = 1 << 0,
};

/*
 * Opens a VHD for what its file was opened for. Takes the file over on success. For writing, the
 * whole file must be sound (-EBADMSG names the defect); for reading, a damaged part fails only
 * when it is read.
 */
int vhd_open(struct hv_file *file, unsigned flags, struct hv_disk **ret, struct hv_err *err);

/* Is disk one of ours? Its file is lent. */
bool vhd_is_vhd(const struct hv_disk *disk);
const struct vhd_info *vhd_get_info(struct hv_disk *disk);
struct hv_file *vhd_get_file(struct hv_disk *disk);

/*
 * What the disk reads from where it holds nothing itself. The backing disk is taken over and
 * closed with it. Past the backing disk's end is zero. Without one, reads of unmapped sectors fail.
 */
void vhd_set_backing(struct hv_disk *disk, struct hv_disk *backing);
struct hv_disk *vhd_get_backing(struct hv_disk *disk);

enum vhd_resize_flags {
	VHD_RESIZE_OVERWRITE = 1 << 0, /* space is overwritten with zeros before it is given back */
};

/*
 * Changes the virtual size of a disk open for writing; blocking, nothing may be in flight. New
 * space reads as zero. What lies beyond a smaller size is given up without a look at it. A power
 * cut leaves the old size or the new one, and a footer that differs from its copy at worst, which
 * the next opening for writing mends; a fixed disk that keeps its old size may show a footer in the
 * first sector of what was to be cut off, or one that has grown in the first of what is new. After
 * a failure the disk has the size that disk->size_bytes says. -EINVAL for sizes that the format
 * cannot hold, -ENOTSUP on a block device.
 */
int vhd_resize(struct hv_disk *disk, uint64_t size_bytes, unsigned flags, struct hv_err *err);

/* Is the disk acceptable to Azure? NULL if so, else the reason (a constant). */
const char *vhd_azure_objection(const struct vhd_info *info, uint64_t size_bytes,
				uint64_t file_bytes);

#endif
