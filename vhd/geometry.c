/*
 * Cylinders, heads, sectors: the appendix of the specification.
 */
#include "hvcore/checked.h"
#include "vhd/vhd.h"

struct vhd_geometry vhd_geometry_of(uint64_t size_bytes)
{
	uint64_t total = hv_min_u64(size_bytes / HV_SECTOR_SIZE, UINT64_C(65535) * 16 * 255);
	uint64_t spt, heads, tracks; /* tracks: cylinders times heads */

	if (total >= UINT64_C(65535) * 16 * 63) {
		spt = 255;
		heads = 16;
		tracks = total / spt;
	} else {
		spt = 17;
		tracks = total / spt;
		heads = hv_max_u64(4, hv_div_up(tracks, 1024));
		if (tracks >= heads * 1024 || heads > 16) {
			spt = 31;
			heads = 16;
			tracks = total / spt;
		}
		if (tracks >= heads * 1024) {
			spt = 63;
			heads = 16;
			tracks = total / spt;
		}
	}
	return (struct vhd_geometry){ (uint16_t)(tracks / heads), (uint8_t)heads, (uint8_t)spt };
}

uint64_t vhd_geometry_bytes(const struct vhd_geometry *geometry)
{
	return (uint64_t)geometry->cylinders * geometry->heads * geometry->sectors_per_track *
	       HV_SECTOR_SIZE;
}

struct vhd_geometry vhd_geometry_exact_or_max(uint64_t size_bytes)
{
	struct vhd_geometry geometry = vhd_geometry_of(size_bytes);

	if (vhd_geometry_bytes(&geometry) != size_bytes)
		geometry = (struct vhd_geometry){ 65535, 16, 255 };
	return geometry;
}
