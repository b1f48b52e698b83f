/*
 * What somebody else says of a filesystem is believed as far as the filesystem reaches. (What
 * libext2fs and ntfs-3g say: tests/cli/compact.sh.)
 */
#include "hvcore/fsmap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rawdisk.h"

#define MIB (UINT64_C(1) << 20)
#define START (2048 * UINT64_C(512))
#define CLUSTER 4096u

static struct rawdisk *raw;
static struct hv_fsmap *map;

/* One partition with NTFS. */
static void setup(void)
{
	HV_ERR(err);

	raw = rawdisk_new(64 * MIB);
	rawdisk_put_entry(raw, 0, 0, 7, 2048, 32 * MIB / 512);
	rawdisk_put_le(raw, 510, 2, 0xaa55);
	rawdisk_put_ntfs(raw, START, 16 * MIB);
	cr_assert_eq(hv_fsmap_new(&raw->disk, &map, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_fsmap_count(map), 1);
}

static void teardown(void)
{
	hv_fsmap_free(map);
	hv_disk_close(&raw->disk);
}

TestSuite(fsmap, .init = setup, .fini = teardown);

Test(fsmap, ntfs_has_an_objection_until_somebody_has_asked_it)
{
	const struct hv_fs *fs = hv_fsmap_get(map, 0);

	cr_assert_str_eq(fs->type, "ntfs");
	cr_assert(fs->partition == 1 && fs->offset == START && fs->length == 32 * MIB);
	cr_assert(fs->objection);
	cr_assert_not(hv_fsmap_unused(map, START + MIB, CLUSTER));
	cr_assert_eq(hv_fsmap_object(map, 0, "asleep"), 0);
	cr_assert_str_eq(fs->objection, "asleep");
}

Test(fsmap, units_are_used_or_not_as_their_bits_say)
{
	uint8_t *bits = calloc(4, 1);
	HV_ERR(err);

	bits[0] = 0x80;
	bits[1] = 0x01;
	cr_assert_eq(hv_fsmap_told(map, 0, bits, 32, CLUSTER, &err), 0);
	cr_assert_null(hv_fsmap_get(map, 0)->objection);
	cr_assert_eq(hv_fsmap_get(map, 0)->unused_bytes, 30 * CLUSTER);
	cr_assert_not(hv_fsmap_unused(map, START, CLUSTER));
	cr_assert(hv_fsmap_unused(map, START + CLUSTER, 14 * CLUSTER));
	cr_assert_not(hv_fsmap_unused(map, START + CLUSTER, 14 * CLUSTER + 512));
	cr_assert_not(hv_fsmap_unused(map, START + 16 * CLUSTER - 512, 1024));
	cr_assert(hv_fsmap_unused(map, START + 16 * CLUSTER, 16 * CLUSTER), "up to the last");
	cr_assert_not(hv_fsmap_unused(map, START + 16 * CLUSTER, 17 * CLUSTER), "behind it");
	cr_assert_not(hv_fsmap_unused(map, START - 512, CLUSTER), "before it");
}

Test(fsmap, what_reaches_beyond_the_filesystem_is_refused)
{
	const struct {
		uint64_t units;
		uint32_t unit_bytes;
	} lies[] = {
		{ 32 * MIB / CLUSTER + 1, CLUSTER },
		{ UINT64_MAX / CLUSTER + 2, CLUSTER },
		{ 1, 0 },
	};
	uint8_t bits[1] = { 0 };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		HV_ERR(err);

		cr_expect_eq(hv_fsmap_told(map, 0, bits, lies[i].units, lies[i].unit_bytes, &err),
			     -EINVAL);
		cr_expect(hv_fsmap_get(map, 0)->objection);
	}
}
