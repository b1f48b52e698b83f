/*
 * A map as a disk: the same bytes, and what an overlay upon it leaves alone.
 */
#include "fuse-mount/below.h"

#include <errno.h>

#include "fuse-mount/overlay.h"
#include "tests/unit/fuse-mount/chain.h"

static struct fm_map *map;
static struct hv_disk *disk;

static void open_below(void)
{
	struct hv_loop *loop;
	HV_ERR(err);

	must(fm_map_new(open_chain("leaf.vhd", 0), &map, &err), &err);
	must(hv_loop_new(&loop, &err), &err);
	must(fm_below_new(map, loop, &disk, &err), &err);
}

static void close_below(void)
{
	close_chain(disk);
	fm_map_free(map);
}

static void setup(void)
{
	make_chain();
	setenv("TMPDIR", directory, 1);
	open_below();
}

static void teardown(void)
{
	close_below();
	remove_chain();
}

TestSuite(below, .init = setup, .fini = teardown);

static void assert_reads(struct hv_disk *what)
{
	static uint8_t whole[CHAIN_BYTES];
	HV_ERR(err);

	memset(whole, 0xee, sizeof(whole));
	must(hv_disk_pread(what, whole, CHAIN_BYTES, 0, &err), &err);
	cr_assert_arr_eq(whole, model, CHAIN_BYTES);
}

Test(below, it_reads_as_the_map)
{
	cr_assert_eq(disk->size_bytes, CHAIN_BYTES);
	assert_reads(disk);
}

Test(below, extents_of_nothing_are_zero_and_none_has_a_place)
{
	HV_ERR(err);

	for (uint64_t at = 0; at < CHAIN_BYTES;) {
		struct hv_extent extent;

		must(hv_disk_extent(disk, at, CHAIN_BYTES - at, 0, &extent, &err), &err);
		cr_assert(extent.offset == at && extent.length);
		cr_assert_eq(extent.host_offset, HV_NO_HOST_OFFSET);
		if (extent.state == HV_EXTENT_ZERO)
			cr_assert(all_zero(at, at + extent.length));
		at += extent.length;
	}
}

Test(below, it_is_only_read)
{
	char sector[512] = "";
	HV_ERR(err);

	cr_assert_eq(hv_disk_pwrite(disk, sector, 512, 0, &err), -EROFS);
	must(hv_disk_flush(disk, &err), &err);
}

Test(below, an_overlay_upon_it_takes_what_is_written)
{
	struct hv_disk *overlay;
	HV_ERR(err);

	must(fm_overlay_temporary(disk, &overlay, &err), &err);
	disk = overlay; /* has taken it over */
	memset(model + 4096, 'o', 512);
	must(hv_disk_pwrite(disk, model + 4096, 512, 4096, &err), &err);
	assert_reads(disk);
}

Test(below, a_lost_block_is_an_error_with_a_sentence)
{
	char sector[512];
	HV_ERR(err);

	close_below();
	lose_block("leaf.vhd", 10);
	open_below();
	cr_assert_eq(hv_disk_pread(disk, sector, 512, 10 * CHAIN_BLOCK, &err), -EIO);
	cr_assert_not_null(strstr(err.sentence, "leaf.vhd"));
	hv_err_clear(&err);
	must(hv_disk_pread(disk, sector, 512, 0, &err), &err);
}
