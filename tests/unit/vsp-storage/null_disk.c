/*
 * A disk with nothing behind it, by its description.
 */
#include "vsp-storage/null_disk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vsp-storage/disk_spec.h"

static struct hv_loop *loop;

static void setup(void)
{
	cr_assert_eq(hv_loop_new(&loop, NULL), 0);
}

static void teardown(void)
{
	hv_loop_free(loop);
}

TestSuite(null_disk, .init = setup, .fini = teardown);

static struct vsp_device *open_spec(const char *text, int expected)
{
	struct vsp_disk_spec spec = { 0 };
	struct vsp_device *device = NULL;
	struct hv_disk *disk;
	HV_ERR(err);
	int rc;

	cr_assert_eq(vsp_disk_spec_parse(text, &spec, &err), 0, "%s: %s", text, err.sentence);
	rc = vsp_disk_spec_open(&spec, loop, &disk, &err);
	cr_assert_eq(rc, expected, "%s: %s", text, err.sentence);
	if (rc == 0)
		cr_assert_eq(vsp_disk_spec_device(&spec, disk, &device, &err), 0);
	vsp_disk_spec_done(&spec);
	return device;
}

Test(null_disk, reads_as_zero_and_forgets_what_is_written)
{
	struct vsp_device *device = open_spec("x=null:1T", 0);
	static const uint8_t zeros[4096];
	uint8_t data[4096];
	struct hv_extent extent;

	cr_assert_eq(device->size_bytes, UINT64_C(1) << 40);
	cr_assert_not(device->read_only);
	memset(data, 7, sizeof(data));
	cr_assert_eq(hv_disk_pwrite(device->disk, data, sizeof(data), 8192, NULL), 0);
	cr_assert_eq(hv_disk_pread(device->disk, data, sizeof(data), 8192, NULL), 0);
	cr_assert_arr_eq(data, zeros, sizeof(data));
	cr_assert_eq(hv_disk_flush(device->disk, NULL), 0);
	cr_assert_eq(hv_disk_extent(device->disk, 0, device->size_bytes, 0, &extent, NULL), 0);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.length, device->size_bytes);
	vsp_device_free(device);
}

Test(null_disk, read_only_when_asked_for)
{
	struct vsp_device *device = open_spec("null:64M,readonly", 0);

	cr_assert(device->read_only);
	vsp_device_free(device);
}

Test(null_disk, mistakes)
{
	cr_assert_null(open_spec("null:", -EINVAL));
	cr_assert_null(open_spec("null:0", -EINVAL));
	cr_assert_null(open_spec("null:100", -EINVAL));
	cr_assert_null(open_spec("null:big", -EINVAL));
	cr_assert_null(open_spec("./null:1M", -ENOENT));
}
