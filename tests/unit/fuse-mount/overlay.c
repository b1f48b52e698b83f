/*
 * Overlays: they take what is written, and the disk below stays as it is.
 */
#include "fuse-mount/overlay.h"

#include <errno.h>

#include "tests/support/rawdisk.h"
#include "tests/unit/fuse-mount/chain.h"

TestSuite(overlay, .init = make_chain, .fini = remove_chain);

static unsigned count_files(void)
{
	DIR *files = opendir(".");
	unsigned count = 0;

	while (readdir(files))
		count++;
	closedir(files);
	return count;
}

static void assert_leaf_is_unchanged(void)
{
	struct hv_disk *disk = open_chain("leaf.vhd", 0);
	static uint8_t whole[CHAIN_BYTES];
	HV_ERR(err);

	must(hv_disk_pread(disk, whole, CHAIN_BYTES, 0, &err), &err);
	cr_assert_arr_eq(whole, model, CHAIN_BYTES);
	close_chain(disk);
}

static void write_somewhere(struct hv_disk *disk)
{
	char sector[512];
	HV_ERR(err);

	memset(sector, 'o', sizeof(sector));
	must(hv_disk_pwrite(disk, sector, sizeof(sector), 1024, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
	memset(sector, 0, sizeof(sector));
	must(hv_disk_pread(disk, sector, sizeof(sector), 1024, &err), &err);
	cr_assert_eq(sector[7], 'o');
	must(hv_disk_pread(disk, sector, sizeof(sector), 2048, &err), &err);
	cr_assert_arr_eq(sector, model + 2048, sizeof(sector));
}

Test(overlay, a_temporary_one_has_no_name)
{
	unsigned before = count_files();
	struct hv_disk *disk;
	HV_ERR(err);

	setenv("TMPDIR", directory, 1);
	must(fm_overlay_temporary(open_chain("leaf.vhd", 0), &disk, &err), &err);
	cr_assert_eq(count_files(), before);
	cr_assert_eq(disk->size_bytes, CHAIN_BYTES);
	write_somewhere(disk);
	close_chain(disk);
	cr_assert_eq(count_files(), before);
	assert_leaf_is_unchanged();
}

Test(overlay, a_disk_larger_than_differencing_disks_has_none)
{
	struct rawdisk *raw = rawdisk_new(UINT64_C(2041) << 30);
	struct hv_disk *disk = NULL;
	HV_ERR(err);

	cr_assert_eq(fm_overlay_temporary(&raw->disk, &disk, &err), -EOVERFLOW);
	cr_assert_null(disk);
	hv_disk_close(&raw->disk);
}

static int open_overlay(const char *path, const char *below, struct hv_disk **ret)
{
	struct snap_open_options options = { 0 };
	struct hv_loop *loop;
	HV_ERR(err);
	int rc;

	must(hv_loop_new(&loop, &err), &err);
	rc = fm_overlay_open(path, below, &options, loop, ret, &err);
	if (rc)
		hv_loop_free(loop);
	return rc;
}

Test(overlay, one_with_a_name_is_a_child_that_is_used_again)
{
	struct hv_disk *disk;
	char sector[512];
	HV_ERR(err);

	cr_assert_eq(open_overlay("over.vhd", "leaf.vhd", &disk), 0);
	write_somewhere(disk);
	close_chain(disk);
	cr_assert_eq(open_overlay("over.vhd", "leaf.vhd", &disk), 0);
	must(hv_disk_pread(disk, sector, sizeof(sector), 1024, &err), &err);
	cr_assert_eq(sector[0], 'o');
	close_chain(disk);
	disk = open_chain("over.vhd", 0);
	must(hv_disk_pread(disk, sector, sizeof(sector), 1024, &err), &err);
	cr_assert_eq(sector[0], 'o');
	close_chain(disk);
	assert_leaf_is_unchanged();
}

Test(overlay, what_is_no_child_of_the_disk_is_refused)
{
	struct hv_disk *disk = NULL;

	cr_assert_eq(open_overlay("leaf.vhd", "base.vhd", &disk), -ESTALE); /* middle's child */
	cr_assert_eq(open_overlay("base.vhd", "leaf.vhd", &disk), -ESTALE); /* nobody's */
	cr_assert_null(disk);
	assert_leaf_is_unchanged();
}

Test(overlay, a_missing_disk_leaves_no_overlay)
{
	struct hv_disk *disk = NULL;

	cr_assert_eq(open_overlay("over.vhd", "none.vhd", &disk), -ENOENT);
	cr_assert_neq(access("over.vhd", F_OK), 0);
}
