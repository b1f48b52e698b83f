/*
 * Chains: where a parent is looked for, which ones are refused and in what words, and what a child
 * shows of a parent of another kind or size.
 */
#include "tests/unit/snapshot/chain.h"

#include <sys/stat.h>

TestSuite(chain, .init = setup, .fini = teardown);

/* Where a parent is looked for. */

/* Five parents of one UUID; each is removed in turn, so that the next one shows. */
Test(chain, parent_is_looked_for_in_the_documented_order)
{
	char absolute[PATH_MAX + 32], url[PATH_MAX + 64], explicit_path[] = "elsewhere/e.vhd";
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };
	static const char *const in_order[] = { "rel/r.vhd", "name.vhd",  "a.vhd",
						"r.vhd",     "abs/a.vhd", "url/\xc3\xbc b%.vhd" };

	make_base("base.vhd", '.');
	mkdir("rel", 0777);
	mkdir("abs", 0777);
	mkdir("url", 0777);
	mkdir("elsewhere", 0777);
	for (unsigned i = 0; i < 6; i++) {
		copy("base.vhd", in_order[i]);
		mark(in_order[i], (char)('1' + i));
	}
	copy("base.vhd", explicit_path);
	mark(explicit_path, 'e');
	options.parent_uuid = uuid_of("base.vhd");
	snprintf(absolute, sizeof(absolute), "%s/abs/a.vhd", here);
	for (char *p = absolute; *p; p++)
		*p = *p == '/' ? '\\' : *p;
	snprintf(url, sizeof(url), "file://%s/url/%%C3%%bc%%20b%%25.vhd", here);
	options.parent_name = "name.vhd";
	options.parent_relative = ".\\rel\\r.vhd";
	options.parent_absolute = absolute;
	options.parent_url = url;
	create("child.vhd", &options);

	cr_assert_eq(seen_through("child.vhd", explicit_path), 'e');
	for (unsigned i = 0; i < 6; i++) {
		assert_shows("child.vhd", (char)('1' + i));
		cr_assert_eq(unlink(in_order[i]), 0);
	}
	assert_refused("child.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "name.vhd", "rel/r.vhd", "--parent"));
}

Test(chain, url_may_name_this_host_and_an_escaped_nul_means_nothing)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };
	char url[PATH_MAX + 64];

	mkdir("d", 0777);
	make_base("d/b.vhd", 'b');
	options.parent_uuid = uuid_of("d/b.vhd");
	options.parent_url = url;
	snprintf(url, sizeof(url), "file://localhost%s/d/b.vhd", here);
	create("local.vhd", &options);
	assert_shows("local.vhd", 'b');
	snprintf(url, sizeof(url), "file://%s/d/b.vhd%%00", here);
	create("nul.vhd", &options);
	assert_refused("nul.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING, WORDS("nul.vhd"));
	snprintf(url, sizeof(url), "http://%s/d/b.vhd", here);
	create("http.vhd", &options);
	assert_refused("http.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING, WORDS("http.vhd"));
}

Test(chain, drive_letters_are_for_the_name_only)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	options.parent_name = "C:\\Users\\me\\vms\\base.vhd";
	options.parent_absolute = "C:\\Users\\me\\vms\\base.vhd";
	create("child.vhd", &options);
	assert_shows("child.vhd", 'b');
	options.parent_name = options.parent_absolute = "C:base.vhd";
	create("short.vhd", &options);
	assert_shows("short.vhd", 'b');
}

Test(chain, candidate_with_another_uuid_is_passed_over)
{
	struct snap_open_options options = { 0 };
	struct snap_chain *chain;
	HV_ERR(err);

	mkdir("sub", 0777);
	make_base("sub/base.vhd", 'r');
	make_child("child.vhd", "sub/base.vhd");
	copy("sub/base.vhd", "base.vhd");
	unlink("sub/base.vhd");
	make_base("sub/base.vhd", 'x');
	assert_shows("child.vhd", 'r');

	must(snap_examine("child.vhd", &options, loop, &chain, &err), &err);
	cr_assert_eq(chain->count, 2);
	cr_assert_eq(chain->layers[0].parent, SNAP_PARENT_OK);
	cr_assert_eq(chain->layers[0].code, 0);
	cr_assert_null(chain->layers[0].sentence);
	cr_assert_str_eq(strrchr(chain->layers[0].parent_path, '/'), "/base.vhd");
	cr_assert_null(strstr(chain->layers[0].parent_path, "/sub/"));
	cr_assert_eq(chain->layers[1].parent, SNAP_PARENT_NONE);
	snap_chain_free(chain);
}

Test(chain, explicit_parent_stands_alone)
{
	make_base("base.vhd", 'b');
	make_base("other.vhd", 'o');
	make_child("child.vhd", "base.vhd");
	assert_shows("child.vhd", 'b');
	assert_refused("child.vhd", "other.vhd", -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "other.vhd", "--parent"));
	assert_refused("child.vhd", "none.vhd", -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "none.vhd", "--parent"));
}

Test(chain, explicit_parent_is_the_leafs_only)
{
	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	cr_assert_eq(rename("middle.vhd", "moved.vhd"), 0);
	cr_assert_eq(seen_through("leaf.vhd", "moved.vhd"), 'b');
}

Test(chain, vhd_parent_may_have_any_name)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	cr_assert_eq(rename("base.vhd", "base.img"), 0);
	cr_assert_eq(seen_through("child.vhd", "base.img"), 'b');
	cr_assert_eq(rename("base.img", "base.dat"), 0);
	cr_assert_eq(seen_through("child.vhd", "base.dat"), 'b');
}

/* What is refused. */

Test(chain, wrong_parent_is_named_with_both_uuids)
{
	char have[HV_GUID_TEXT_SIZE], want[HV_GUID_TEXT_SIZE];
	struct hv_guid uuid;

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	uuid = uuid_of("base.vhd");
	hv_guid_format(&uuid, want);
	unlink("base.vhd");
	make_base("base.vhd", 'n');
	uuid = uuid_of("base.vhd");
	hv_guid_format(&uuid, have);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "/base.vhd", have, want, "--parent"));
}

Test(chain, raw_file_is_no_parent_of_a_child_that_knows_a_uuid)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	spill("base.raw", "not a VHD", 9);
	assert_refused("child.vhd", "base.raw", -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "base.raw", "no VHD", "--parent"));
}

Test(chain, child_without_any_path_says_so)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	create("child.vhd", &options);
	assert_refused("child.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "records no path", "--parent"));
	cr_assert_eq(seen_through("child.vhd", "base.vhd"), 'b');
}

Test(chain, resized_parent)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	copy("base.vhd", "old.vhd");

	/* Grown. */
	cr_assert_eq(truncate("base.vhd", SIZE * 2 + 512), 0);
	{
		size_t size;
		uint8_t *bytes = slurp("base.vhd", &size);

		memcpy(bytes + size - 512, bytes + SIZE, 512);
		spill("base.vhd", bytes, size);
		free(bytes);
	}
	patch_footer64("base.vhd", FOOTER_CURRENT, SIZE * 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd", "131072", "65536", "old size"));

	/* Cut. */
	copy("old.vhd", "base.vhd");
	patch_footer64("base.vhd", FOOTER_CURRENT, SIZE / 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd", "32768"));

	copy("old.vhd", "base.vhd");
	assert_shows("child.vhd", 'b');
}

/* A child that names `parent`, whatever that is. */
static void make_link(const char *path, const char *uuid, const char *parent,
		      const char *parent_uuid)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING,
					      .size_bytes = SIZE,
					      .parent_name = parent };

	memcpy(options.parent_uuid.b, parent_uuid, 16);
	create(path, &options);
	patch_footer(path, FOOTER_UUID, uuid, 16);
}

#define UUID_A "AAAAAAAAAAAAAAAA"
#define UUID_B "BBBBBBBBBBBBBBBB"
#define UUID_C "CCCCCCCCCCCCCCCC"

Test(chain, loops)
{
	make_link("self.vhd", UUID_C, "self.vhd", UUID_C);
	assert_refused("self.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP, WORDS("self.vhd", "loop"));

	make_link("a.vhd", UUID_A, "b.vhd", UUID_B);
	make_link("b.vhd", UUID_B, "a.vhd", UUID_A);
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/a.vhd'", "loop"));
	make_link("leaf.vhd", UUID_C, "a.vhd", UUID_A);
	assert_refused("leaf.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/a.vhd'", "loop"));

	/* By another name of the same file, and by a copy. */
	unlink("b.vhd");
	make_link("b.vhd", UUID_B, "also-a.vhd", UUID_A);
	cr_assert_eq(link("a.vhd", "also-a.vhd"), 0);
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP, WORDS("b.vhd: ", "/also-a.vhd'"));
	unlink("also-a.vhd");
	copy("a.vhd", "also-a.vhd");
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/also-a.vhd'", "loop", "copy"));
}

Test(chain, depth_is_limited)
{
	char path[32], parent[32];

	make_base("0.vhd", 'b');
	for (int i = 1; i <= SNAP_MAX_DEPTH; i++) {
		snprintf(path, sizeof(path), "%d.vhd", i);
		snprintf(parent, sizeof(parent), "%d.vhd", i - 1);
		make_child_with(path, parent, NAME);
	}
	snprintf(path, sizeof(path), "%d.vhd", SNAP_MAX_DEPTH - 1);
	assert_shows(path, 'b');
	snprintf(path, sizeof(path), "%d.vhd", SNAP_MAX_DEPTH);
	assert_refused(path, NULL, -ELOOP, SNAP_PARENT_TOO_DEEP, WORDS("1.vhd", "256"));
}

Test(chain, what_is_no_file_is_no_parent_and_is_not_waited_for)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	unlink("base.vhd");
	cr_assert_eq(mkfifo("base.vhd", 0666), 0);
	assert_refused("child.vhd", NULL, -EINVAL, SNAP_PARENT_FAILED, WORDS("base.vhd"));
	unlink("base.vhd");
	cr_assert_eq(mkdir("base.vhd", 0777), 0);
	assert_refused("child.vhd", NULL, -EISDIR, SNAP_PARENT_FAILED, WORDS("base.vhd"));
}

/* Sizes and kinds of parents. */

static void set_parent_uuid(const char *path, const struct hv_guid *uuid)
{
	size_t size;
	uint8_t *bytes = slurp(path, &size);

	memcpy(bytes + HEADER + HEADER_PARENT_UUID, uuid->b, 16);
	seal(bytes + HEADER, 1024, HEADER_CHECKSUM);
	spill(path, bytes, size);
	free(bytes);
}

Test(chain, null_uuid_means_a_raw_parent)
{
	uint8_t raw[SIZE];

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	set_parent_uuid("child.vhd", &(struct hv_guid){ { 0 } });
	memset(raw, 'w', sizeof(raw));
	spill("base.raw", raw, sizeof(raw));
	cr_assert_eq(seen_through("child.vhd", "base.raw"), 'w');
	/* Somebody's VHD is no raw image, even then. */
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "/base.vhd"));
}

Test(chain, child_larger_than_its_parent_reads_zeros_past_the_end)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = 3 * SIZE };
	char data[3 * SIZE], zeros[2 * SIZE] = { 0 };
	struct hv_extent extent;
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	options.parent_name = "base.vhd";
	create("child.vhd", &options);
	must(open_chain("child.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, 3 * SIZE);
	memset(data, 'x', sizeof(data));
	must(hv_disk_pread(disk, data, sizeof(data), 0, &err), &err);
	cr_assert_eq(data[SIZE - 1], 'b');
	cr_assert_eq(memcmp(data + SIZE, zeros, sizeof(zeros)), 0);
	must(hv_disk_extent(disk, SIZE, 2 * SIZE, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.length, 2 * SIZE);
	/* A write across the parent's end. */
	memset(data, 'c', 1024);
	must(hv_disk_pwrite(disk, data, 1024, SIZE - 512, &err), &err);
	must(hv_disk_pread(disk, data, sizeof(data), 0, &err), &err);
	cr_assert_eq(data[SIZE - 513], 0);
	cr_assert_eq(data[SIZE - 512], 'c');
	cr_assert_eq(data[SIZE + 511], 'c');
	cr_assert_eq(data[SIZE + 512], 0);
	hv_disk_close(disk);
}

Test(chain, child_that_was_shrunk_shows_the_parents_start)
{
	struct hv_disk *disk;
	char sector[512];
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	patch_footer64("child.vhd", FOOTER_CURRENT, SIZE / 2);
	must(open_chain("child.vhd", 0, NULL, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, SIZE / 2);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'b');
	must(hv_disk_pread(disk, sector, sizeof(sector), SIZE / 2 - 512, &err), &err);
	cr_assert_eq(sector[0], 0);
	hv_disk_close(disk);
	/* One that was made smaller than its parent is now, was made when the parent was smaller. */
	patch_footer64("child.vhd", FOOTER_ORIGINAL, SIZE / 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd"));
}
