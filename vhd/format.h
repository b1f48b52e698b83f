/*
 * Inside vhd/: the structures of a VHD file as they lie on disk (Virtual Hard Disk Image Format
 * Specification 1.0), big-endian throughout. Nobody computes with these: footer.c, header.c and
 * locator.c turn them into host structs and back.
 */
#ifndef VHD_FORMAT_H
#define VHD_FORMAT_H

#include <assert.h>

#include "hvcore/bytes.h"

#define VHD_FOOTER_COOKIE "conectix"
#define VHD_HEADER_COOKIE "cxsparse"
#define VHD_BATMAP_COOKIE "tdbatmap" /* Xen */
#define VHD_POISON_COOKIE "v_poison" /* Xen: a resize was interrupted */
#define VHD_OPEN_BYTE 0xc7           /* Xen: fills the trailing footer while the file is open */

#define VHD_VERSION 0x00010000u
#define VHD_FEATURE_TEMPORARY 1u
#define VHD_FEATURE_RESERVED 2u /* always set */
#define VHD_NOWHERE UINT64_MAX
#define VHD_UNUSED UINT32_MAX /* a BAT entry */
#define VHD_HEADER_BYTES 1024u
#define VHD_OLD_FOOTER_BYTES 511u /* before Virtual PC 2004 */
#define VHD_PARENT_NAME_BYTES 512u
#define VHD_LAYOUT_ALIGN 4096u /* where payload begins in Windows 8 and later, and in ours */

struct vhd_disk_footer {
	uint8_t cookie[8];
	hv_be32 features;
	hv_be32 version;
	hv_be64 data_offset;
	hv_be32 timestamp;
	uint8_t creator[4];
	hv_be32 creator_version;
	uint8_t creator_os[4];
	hv_be64 original_size;
	hv_be64 current_size;
	hv_be16 cylinders;
	uint8_t heads;
	uint8_t sectors_per_track;
	hv_be32 type;
	hv_be32 checksum;
	uint8_t uuid[16];
	uint8_t saved_state;
	uint8_t hidden;
	uint8_t reserved[426];
};
static_assert(sizeof(struct vhd_disk_footer) == 512, "a footer is one sector");

struct vhd_disk_locator {
	hv_be32 code;
	hv_be32 data_space;
	hv_be32 data_length;
	hv_be32 reserved;
	hv_be64 data_offset;
};
static_assert(sizeof(struct vhd_disk_locator) == 24, "a locator entry is 24 bytes");

struct vhd_disk_header {
	uint8_t cookie[8];
	hv_be64 next;
	hv_be64 bat_offset;
	hv_be32 version;
	hv_be32 max_entries;
	hv_be32 block_size;
	hv_be32 checksum;
	uint8_t parent_uuid[16];
	hv_be32 parent_timestamp;
	hv_be32 reserved;
	uint8_t parent_name[VHD_PARENT_NAME_BYTES];
	struct vhd_disk_locator locators[8];
	uint8_t reserved2[256];
};
static_assert(sizeof(struct vhd_disk_header) == VHD_HEADER_BYTES, "a header is two sectors");

/* Xen's addition, in the sector after the BAT. */
struct vhd_disk_batmap {
	uint8_t cookie[8];
	hv_be64 offset;
	hv_be32 sectors;
	hv_be32 version;
	hv_be32 checksum;
	uint8_t marker;
	uint8_t keyhash_cookie;
	uint8_t keyhash_nonce[32];
	uint8_t keyhash[32];
	uint8_t reserved[418];
};
static_assert(sizeof(struct vhd_disk_batmap) == 512, "a batmap header is one sector");

#endif
