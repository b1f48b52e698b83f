/*
 * Chains: how their files are opened: which one is written, what is locked, and what format a file
 * is taken for.
 */
#include "tests/unit/snapshot/chain.h"

#include <sys/stat.h>

TestSuite(chain, .init = setup, .fini = teardown);

/* Writing, and locks. */

Test(chain, writing_to_a_child_leaves_its_parents_alone)
{
	uint8_t *base, *middle, *after;
	size_t base_size, middle_size, size;

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	mark("middle.vhd", 'm');
	make_child("leaf.vhd", "middle.vhd");
	base = slurp("base.vhd", &base_size);
	middle = slurp("middle.vhd", &middle_size);
	mark("leaf.vhd", 'l');
	assert_shows("leaf.vhd", 'l');
	after = slurp("base.vhd", &size);
	cr_assert(size == base_size && !memcmp(after, base, size));
	free(after);
	after = slurp("middle.vhd", &size);
	cr_assert(size == middle_size && !memcmp(after, middle, size));
	free(after);
	free(base);
	free(middle);
	assert_shows("middle.vhd", 'm');
}

static void assert_busy(const char *path, unsigned flags)
{
	struct hv_disk *disk;
	HV_ERR(err);
	int rc = open_chain(path, flags, NULL, &disk, &err);

	cr_assert_eq(rc, -EBUSY, "%s: %d: %s", path, rc, err.sentence);
	cr_assert(strstr(err.sentence, ".vhd"), "%s", err.sentence);
}

static void assert_opens(const char *path, unsigned flags)
{
	struct hv_disk *disk;
	HV_ERR(err);

	must(open_chain(path, flags, NULL, &disk, &err), &err);
	hv_disk_close(disk);
}

Test(chain, parents_are_locked_against_writers)
{
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	make_child("sibling.vhd", "base.vhd");

	must(open_chain("leaf.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("base.vhd", SNAP_OPEN_WRITE);
	assert_busy("middle.vhd", SNAP_OPEN_WRITE);
	assert_opens("base.vhd", 0);
	assert_opens("middle.vhd", 0);
	assert_opens("sibling.vhd", SNAP_OPEN_WRITE);
	hv_disk_close(disk);
	assert_opens("base.vhd", SNAP_OPEN_WRITE);

	/* And the other way round. */
	must(open_chain("base.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", 0);
	assert_busy("sibling.vhd", SNAP_OPEN_WRITE);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_LOCK);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_PARENTS);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
}

Test(chain, leaf_has_one_writer_or_many_readers)
{
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("leaf.vhd", "base.vhd");
	must(open_chain("leaf.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_busy("leaf.vhd", 0);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_LOCK);
	hv_disk_close(disk);
	must(open_chain("leaf.vhd", 0, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_opens("leaf.vhd", 0);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
}

static int open_for(const char *path, const char *written, struct hv_disk **ret, struct hv_err *err)
{
	struct snap_file_id id;
	struct snap_open_options options = { .flags = SNAP_OPEN_WRITE, .write_layer = &id };

	hv_err_clear(err);
	cr_assert_eq(snap_file_id_of(written, &id), 0);
	return snap_open(path, &options, loop, ret, err);
}

Test(chain, a_layer_below_the_leaf_is_written)
{
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk, *middle;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	mkdir("dir", 0777);
	cr_assert_eq(symlink("../middle.vhd", "dir/other-name.vhd"), 0);
	must(open_for("leaf.vhd", "dir/other-name.vhd", &disk, &err), &err);
	middle = snap_layer_at(disk, 1);
	cr_assert(!disk->writable && middle->writable && !snap_layer_at(disk, 2)->writable);
	cr_assert_null(snap_layer_at(disk, 3));
	memset(sector, 'm', sizeof(sector));
	must(hv_disk_pwrite(middle, sector, sizeof(sector), 0, &err), &err);
	must(hv_disk_flush(middle, &err), &err);
	memset(sector, 0, sizeof(sector));
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'm');
	assert_busy("middle.vhd", 0);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_busy("base.vhd", SNAP_OPEN_WRITE);
	assert_opens("base.vhd", 0);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
	cr_assert_eq(open_for("leaf.vhd", "base.vhd", &disk, &err), 0, "%s", err.sentence);
	hv_disk_close(disk);
	cr_assert_eq(open_for("leaf.vhd", "leaf.vhd", &disk, &err), 0, "%s", err.sentence);
	cr_assert(disk->writable);
	hv_disk_close(disk);
	/* One that does not belong to it is left alone. */
	make_base("stranger.vhd", 's');
	cr_assert_eq(open_for("leaf.vhd", "stranger.vhd", &disk, &err), -ESTALE);
	cr_assert(strstr(err.sentence, "leaf.vhd"), "%s", err.sentence);
}

Test(chain, what_a_child_reads_from_is_opened_without_it)
{
	struct snap_open_options options = { 0 };
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	mark("leaf.vhd", 'l');
	must(snap_open_parent("leaf.vhd", &options, loop, &disk, &err), &err);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'b');
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE | SNAP_OPEN_NO_PARENTS);
	assert_busy("middle.vhd", SNAP_OPEN_WRITE);
	hv_disk_close(disk);
	cr_assert_eq(snap_open_parent("base.vhd", &options, loop, &disk, &err), -EINVAL);
}

/* Formats. */

static int open_as(const char *path, const char *format, const char **ret, struct hv_err *err)
{
	struct snap_open_options options = { .format = format };
	struct hv_disk *disk;
	int rc;

	hv_err_clear(err);
	rc = snap_open(path, &options, loop, &disk, err);
	if (rc)
		return rc;
	*ret = hv_disk_format(disk);
	hv_disk_close(disk);
	return 0;
}

static void assert_format(const char *path, const char *format, const char *want)
{
	const char *have = NULL;
	HV_ERR(err);

	must(open_as(path, format, &have, &err), &err);
	cr_expect_str_eq(have, want, "%s is taken for %s", path, have);
}

static void assert_unclear(const char *path, const char *format, int code, const char *words)
{
	const char *have = NULL;
	HV_ERR(err);
	int rc = open_as(path, format, &have, &err);

	cr_expect_eq(rc, code, "%s: %d: %s", path, rc, err.sentence);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	cr_expect(strstr(err.sentence, path), "%s", err.sentence);
}

Test(chain, format_is_told_by_name_and_contents)
{
	char zeros[4096] = { 0 };
	size_t size;
	uint8_t *vhd;

	make_base("disk.vhd", 'b');
	vhd = slurp("disk.vhd", &size);
	assert_format("disk.vhd", NULL, "fixed");
	assert_format("disk.vhd", "raw", "raw");

	/* A guest can write a footer into its raw disk: then the user has to say. */
	spill("disk.img", vhd, size);
	assert_unclear("disk.img", NULL, -EINVAL, "--from");
	assert_format("disk.img", "vhd", "fixed");
	assert_format("disk.img", "raw", "raw");
	spill("DISK.RAW", vhd, size);
	assert_unclear("DISK.RAW", NULL, -EINVAL, "--from");

	/* No suffix, or one that says nothing: the contents decide. */
	spill("disk", vhd, size);
	assert_format("disk", NULL, "fixed");
	spill("disk.backup", vhd, size);
	assert_format("disk.backup", NULL, "fixed");
	spill("zeros", zeros, sizeof(zeros));
	assert_format("zeros", NULL, "raw");
	spill("zeros.img", zeros, sizeof(zeros));
	assert_format("zeros.img", NULL, "raw");
	mkdir("dir.vhd", 0777);
	spill("dir.vhd/zeros", zeros, sizeof(zeros));
	assert_format("dir.vhd/zeros", NULL, "raw");

	/* The name says VHD, so that it is one or broken. */
	spill("zeros.vhd", zeros, sizeof(zeros));
	assert_unclear("zeros.vhd", NULL, -EBADMSG, "not a VHD");
	spill("disk.AVHD", vhd, size);
	assert_format("disk.AVHD", NULL, "fixed");
	vhd[size - 512 + FOOTER_UUID] ^= 1;
	spill("disk", vhd, size);
	assert_unclear("disk", NULL, -EBADMSG, "checksum");
	assert_unclear("disk", "vhd", -EBADMSG, "checksum");
	assert_format("disk", "raw", "raw");
	free(vhd);
}

Test(chain, formats_of_others_are_no_raw_images)
{
	static const struct {
		const char *magic, *name;
	} others[] = {
		{ "vhdxfile", "VHDX" },
		{ "QFI\xfb", "qcow2" },
		{ "KDMV", "VMDK" },
		{ "<<< Oracle VM VirtualBox Disk Image >>>", "VDI" },
	};
	char bytes[4096] = { 0 };

	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, others[i].magic, strlen(others[i].magic));
		spill("disk.img", bytes, sizeof(bytes));
		assert_unclear("disk.img", NULL, -ENOTSUP, others[i].name);
		assert_format("disk.img", "raw", "raw");
	}
}

Test(chain, states_have_names)
{
	static const char *const names[] = { "none",    "ok",   "missing",  "wrong",
					     "resized", "loop", "too deep", "failed" };

	for (unsigned i = 0; i < 8; i++)
		cr_assert_str_eq(snap_parent_state_name((enum snap_parent_state)i), names[i]);
}

/* Another loop. */

/* A raw base under a dynamic and a differencing disk, or a fixed one: whatever has a loop moves. */
static void work_on(struct hv_disk *disk, uint8_t seed)
{
	static uint8_t data[SIZE], read[SIZE];
	struct hv_extent extent;
	HV_ERR(err);

	memset(data, seed, SIZE);
	must(hv_disk_pwrite(disk, data, SIZE / 2, SIZE / 4, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
	must(hv_disk_discard(disk, SIZE / 8, SIZE / 4, &err), &err);
	must(hv_disk_pread(disk, read, SIZE, 0, &err), &err);
	cr_assert_eq(memcmp(read + SIZE * 3 / 8, data, SIZE * 3 / 8), 0);
	must(hv_disk_extent(disk, 0, SIZE, 0, &extent, &err), &err);
}

Test(chain, a_disk_that_has_moved_to_another_loop_needs_nothing_of_the_first, .timeout = 60)
{
	static const char *const paths[] = { "leaf.vhd", "fixed.vhd", "raw" };
	static const unsigned flags[] = { SNAP_OPEN_WRITE, SNAP_OPEN_WRITE | SNAP_OPEN_DIRECT };
	struct vhd_create_options fixed = { .type = VHD_FIXED, .size_bytes = SIZE };
	FILE *raw = fopen("raw", "w");
	HV_ERR(err);

	cr_assert_eq(ftruncate(fileno(raw), SIZE), 0);
	fclose(raw);
	create("fixed.vhd", &fixed);
	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	for (size_t i = 0; i < 6; i++) {
		struct hv_loop *before;
		struct hv_disk *disk;

		must(open_chain(paths[i / 2], flags[i % 2], NULL, &disk, &err), &err);
		work_on(disk, 1);
		before = loop;
		must(hv_loop_new(&loop, &err), &err);
		hv_disk_move(disk, loop);
		hv_loop_free(before);
		work_on(disk, 2);
		hv_disk_close(disk);
	}
	assert_shows("middle.vhd", 'b');
}
