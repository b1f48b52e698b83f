/*
 * Fuzz target: decoding a footer. The input is one sector.
 */
#include <stddef.h>
#include <string.h>

#include "tests/fuzz/harness/fuzz.h"
#include "vhd/footer.h"

/* Whatever was decoded is encoded such that it is decoded to the same. */
static void go_round(const struct vhd_disk_footer *disk, const struct vhd_footer *footer,
		     unsigned faults)
{
	struct vhd_disk_footer again, kept = *disk;
	struct vhd_footer footer2;
	unsigned unchanged = VHD_FOOTER_VERSION_BAD | VHD_FOOTER_TYPE_BAD;

	vhd_footer_encode(footer, &again);
	fuzz_assert(vhd_footer_decode(&again, &footer2) == (faults & unchanged),
		    "an encoded footer has faults");
	footer2.checksum = footer->checksum;
	fuzz_assert(!memcmp(footer, &footer2, offsetof(struct vhd_footer, saved_state)) &&
			    footer->saved_state == footer2.saved_state &&
			    footer->hidden == footer2.hidden,
		    "a footer does not come back as it was");
	memset(kept.reserved, 0, sizeof(kept.reserved));
	kept.checksum = again.checksum;
	fuzz_assert(!memcmp(&kept, &again, sizeof(again)), "a footer's bytes are not kept");
}

static void judge_size(const struct vhd_footer *footer)
{
	uint64_t by_geometry = vhd_geometry_bytes(&footer->geometry);
	struct vhd_geometry geometry = vhd_geometry_of(footer->current_bytes);
	bool from_geometry;
	uint64_t size = vhd_footer_size(footer, &from_geometry);

	fuzz_assert(size == (from_geometry ? by_geometry : footer->current_bytes) &&
			    size <= footer->current_bytes,
		    "a size that nobody wrote");
	fuzz_assert(vhd_geometry_bytes(&geometry) <= footer->current_bytes ||
			    footer->current_bytes < 4 * 17 * 512,
		    "a geometry larger than the disk");
}

static void run(const uint8_t *data, size_t size)
{
	struct vhd_disk_footer disk;
	struct vhd_footer footer = { 0 };
	unsigned faults;

	if (size < sizeof(disk))
		return;
	memcpy(&disk, data, sizeof(disk));
	faults = vhd_footer_decode(&disk, &footer);
	fuzz_assert(*vhd_footer_fault_name(faults), "a fault without a name");
	if (faults & VHD_FOOTER_COOKIE_BAD)
		return;
	go_round(&disk, &footer, faults);
	judge_size(&footer);
	vhd_footer_is_xen(&footer);
}

static void mend(uint8_t *data, size_t size)
{
	struct vhd_disk_footer *disk = (struct vhd_disk_footer *)data;

	if (size < sizeof(*disk))
		return;
	memcpy(disk->cookie, VHD_FOOTER_COOKIE, 8);
	disk->checksum = hv_be32_make(
		vhd_checksum(disk, sizeof(*disk), offsetof(struct vhd_disk_footer, checksum)));
}

const struct fuzz_target fuzz_target = { .run = run, .mend = mend };
