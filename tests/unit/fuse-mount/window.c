/*
 * A part of a disk as a disk: offsets are its own, and it ends where it ends.
 */
#include "fuse-mount/window.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/support/rawdisk.h"

#define MIB (UINT64_C(1) << 20)

static struct rawdisk *raw;
static struct hv_disk *window;

static void setup(void)
{
	HV_ERR(err);

	raw = rawdisk_new(16 * MIB);
	rawdisk_put(raw, 4 * MIB - 512, "before", 6);
	rawdisk_put(raw, 4 * MIB, "first", 5);
	rawdisk_put(raw, 6 * MIB, "behind", 6);
	cr_assert_eq(fm_window_new(&raw->disk, 4 * MIB, 2 * MIB, &window, &err), 0);
}

static void teardown(void)
{
	hv_disk_close(window);
	hv_disk_close(&raw->disk);
}

TestSuite(window, .init = setup, .fini = teardown);

Test(window, it_reads_from_its_beginning_to_its_end)
{
	char buf[1024];
	HV_ERR(err);

	cr_assert_eq(window->size_bytes, 2 * MIB);
	cr_assert_not(window->writable);
	cr_assert_eq(hv_disk_pread(window, buf, 1024, 0, &err), 0);
	cr_assert_str_eq(buf, "first");
	cr_assert_eq(hv_disk_pread(window, buf, 512, 2 * MIB - 512, &err), 0);
	cr_assert_str_eq(buf, "");
	cr_assert_eq(hv_disk_pread(window, buf, 512, 2 * MIB, &err), -EINVAL);
	cr_assert_eq(hv_disk_pread(window, buf, 1024, 2 * MIB - 512, &err), -EINVAL);
}

Test(window, extents_have_its_own_offsets)
{
	struct hv_extent extent;
	HV_ERR(err);

	cr_assert_eq(hv_disk_extent(window, 0, 2 * MIB, 0, &extent, &err), 0);
	cr_assert_eq(extent.offset, 0);
	cr_assert_eq(extent.state, HV_EXTENT_DATA);
	cr_assert_eq(hv_disk_extent(window, extent.length, 2 * MIB - extent.length, 0, &extent,
				    &err),
		     0);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.offset + extent.length, 2 * MIB);
}

Test(window, a_failing_read_is_one_of_its_own)
{
	char buf[512];
	HV_ERR(err);

	raw->bad_offset = 5 * MIB;
	cr_assert_eq(hv_disk_pread(window, buf, 512, 1 * MIB, &err), -EIO);
	cr_assert_eq(hv_disk_pread(window, buf, 512, 0, &err), 0);
}
