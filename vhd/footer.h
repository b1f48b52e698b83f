/*
 * Inside vhd/: footers and headers, decoded and judged.
 */
#ifndef VHD_FOOTER_H
#define VHD_FOOTER_H

#include "vhd/format.h"
#include "vhd/vhd.h"

/* What is wrong with a footer; a bit mask, 0 when it can be used. */
enum vhd_footer_fault {
	VHD_FOOTER_COOKIE_BAD = 1 << 0,
	VHD_FOOTER_CHECKSUM_BAD = 1 << 1,
	VHD_FOOTER_VERSION_BAD = 1 << 2,
	VHD_FOOTER_TYPE_BAD = 1 << 3,
	VHD_FOOTER_OPEN = 1 << 4,   /* filled with Xen's "open" byte */
	VHD_FOOTER_POISON = 1 << 5, /* Xen's interrupted resize */
};

/* ~(sum of all bytes), the checksum field (at checksum_offset) taken as zero. */
uint32_t vhd_checksum(const void *data, size_t length, size_t checksum_offset);

/* Decodes, and returns the faults. */
unsigned vhd_footer_decode(const struct vhd_disk_footer *disk, struct vhd_footer *ret);

/* Sets the checksum. */
void vhd_footer_encode(const struct vhd_footer *footer, struct vhd_disk_footer *ret);

/* Changes the size, and the geometry with it, in a footer that is otherwise kept as it is. */
void vhd_footer_set_size(struct vhd_disk_footer *footer, uint64_t size_bytes);

/* The first fault in words: "wrong checksum". A constant. */
const char *vhd_footer_fault_name(unsigned faults);

/* Both footers of a file, as found. */
struct vhd_footers {
	uint64_t trailing_offset; /* EOF - 512, or EOF - 511 for old files */
	bool old_form;            /* 511 bytes */
	unsigned trailing_faults, copy_faults;
	struct vhd_disk_footer trailing_raw, copy_raw;
	struct vhd_footer trailing, copy;
	const struct vhd_footer
		*best; /* the trailing one if it can be used, else the copy; or NULL */
};

/* -errno only when the file cannot be read. A file too short has both cookies bad. */
int vhd_footers_read(struct hv_file *file, struct vhd_footers *ret, struct hv_err *err);

/* Are both footers valid, and of the same disk by identity and kind? */
bool vhd_footers_same_disk(const struct vhd_footers *footers);

/* The virtual size by the rule of the creator; *from_geometry tells whether CHS decided. */
uint64_t vhd_footer_size(const struct vhd_footer *footer, bool *from_geometry);

/* Does the creator belong to Xen's tools? */
bool vhd_footer_is_xen(const struct vhd_footer *footer);

/* A header, decoded. */
struct vhd_header {
	uint64_t next, bat_offset;
	uint32_t version, max_entries, block_bytes;
	struct hv_guid parent_uuid;
	uint32_t parent_timestamp;
	char *parent_name; /* UTF-8, malloc'ed */
	struct vhd_disk_locator locators[VHD_LOCATORS];
};

enum vhd_header_fault {
	VHD_HEADER_COOKIE_BAD = 1 << 0,
	VHD_HEADER_CHECKSUM_BAD = 1 << 1,
	VHD_HEADER_VERSION_BAD = 1 << 2,
	VHD_HEADER_BLOCK_BAD = 1 << 3,
};

/* Decodes and returns the faults. parent_name is NULL when memory is short. */
unsigned vhd_header_decode(const struct vhd_disk_header *disk, struct vhd_header *ret);
const char *vhd_header_fault_name(unsigned faults);

/* The parent's UUID, timestamp and name; the checksum is not set. */
int vhd_header_name_parent(const struct vhd_create_options *options, struct vhd_disk_header *ret,
			   struct hv_err *err);
void vhd_header_seal(struct vhd_disk_header *header);

#endif
