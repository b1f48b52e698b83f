/*
 * Cylinders, heads and sectors: the vectors of other programs' disks.
 */
#include <criterion/criterion.h>

#include "vhd/vhd.h"

static const struct {
	uint64_t size_bytes;
	struct vhd_geometry geometry;
	uint64_t by_geometry;
} vectors[] = {
	{ 104448, { 3, 4, 17 }, 104448 },
	{ 4194304, { 120, 4, 17 }, 4177920 },
	{ 10485760, { 301, 4, 17 }, 10479616 },
	{ 13631488, { 391, 4, 17 }, 13613056 },
	{ 67108864, { 963, 8, 17 }, 67055616 },
	{ 133169152, { 1019, 15, 17 }, 133040640 },
	{ 134217728, { 963, 16, 17 }, 134111232 },
	{ 209715200, { 825, 16, 31 }, 209510400 },
	{ 262144000, { 507, 16, 63 }, 261660672 },
	{ 268435456, { 520, 16, 63 }, 268369920 },
	{ 528482304, { 1024, 16, 63 }, 528482304 },
	{ 536870912, { 1040, 16, 63 }, 536739840 },
	{ 1073741824, { 2080, 16, 63 }, 1073479680 },
	{ 3221225472, { 6241, 16, 63 }, 3220955136 }, /* a Windows 7 footer: 1861103F */
	{ 33822350848, { 65534, 16, 63 }, 33821835264 },
	{ 33822351360, { 16191, 16, 255 }, 33822351360 }, /* the threshold */
	{ 34359738368, { 16448, 16, 255 }, 34359214080 },
	{ 136365211648, { 65278, 16, 255 }, 136363130880 }, /* Virtual PC and Hyper-V files */
	{ 136899993600, { 65535, 16, 255 }, 136899993600 },
};

Test(geometry, of_known_sizes)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct vhd_geometry have = vhd_geometry_of(vectors[i].size_bytes);
		const struct vhd_geometry *want = &vectors[i].geometry;

		cr_expect(have.cylinders == want->cylinders && have.heads == want->heads &&
				  have.sectors_per_track == want->sectors_per_track,
			  "%llu bytes: %u/%u/%u", (unsigned long long)vectors[i].size_bytes,
			  have.cylinders, have.heads, have.sectors_per_track);
	}
}

Test(geometry, in_bytes)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		cr_expect_eq(vhd_geometry_bytes(&vectors[i].geometry), vectors[i].by_geometry);
}

Test(geometry, never_larger_than_the_disk)
{
	for (uint64_t size = HV_SECTOR_SIZE; size < UINT64_C(1) << 42; size += size / 3 + 512) {
		struct vhd_geometry geometry = vhd_geometry_of(size);

		cr_expect_leq(vhd_geometry_bytes(&geometry), size);
	}
}

Test(geometry, of_everything_larger_is_the_largest)
{
	static const uint64_t sizes[] = { 136899993600 + 512, UINT64_C(2040) << 30,
					  UINT64_C(64) << 40, UINT64_MAX };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vhd_geometry geometry = vhd_geometry_of(sizes[i]);

		cr_expect(geometry.cylinders == 65535 && geometry.heads == 16 &&
			  geometry.sectors_per_track == 255);
	}
}

Test(geometry, of_less_than_a_cylinder_has_no_cylinders)
{
	struct vhd_geometry geometry = vhd_geometry_of(512);

	cr_expect_eq(geometry.cylinders, 0);
	cr_expect_eq(vhd_geometry_bytes(&geometry), 0);
}
