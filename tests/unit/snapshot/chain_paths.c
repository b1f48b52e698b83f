/*
 * Chains: the paths by which a child records its parent, however they are named and from wherever
 * one looks.
 */
#include "tests/unit/snapshot/chain.h"

#include <sys/stat.h>

TestSuite(chain, .init = setup, .fini = teardown);

Test(chain, folder_moved_together_still_works)
{
	mkdir("vm", 0777);
	mkdir("vm/snap", 0777);
	mkdir("vm/disks", 0777);
	make_base("vm/disks/base.vhd", 'b');
	make_child_with("vm/snap/child.vhd", "vm/disks/base.vhd", ALL & ~NAME);
	cr_assert_eq(rename("vm", "moved"), 0);
	assert_shows("moved/snap/child.vhd", 'b');
	/* Also when something stale lies at the old place. */
	mkdir("vm", 0777);
	mkdir("vm/disks", 0777);
	copy("moved/disks/base.vhd", "vm/disks/base.vhd");
	mark("vm/disks/base.vhd", 'x');
	assert_shows("moved/snap/child.vhd", 'b');
	/* A child moved alone finds it by its absolute path. */
	cr_assert_eq(rename("moved/snap/child.vhd", "child.vhd"), 0);
	assert_shows("child.vhd", 'x');
}

/* One character of each of the seventeen planes. */
static void every_plane(char *out)
{
	for (uint32_t plane = 0; plane <= 16; plane++) {
		uint32_t c = plane << 16 | 0x4e2d;

		if (c >= 0x10000)
			*out++ = (char)(0xf0 | c >> 18);
		if (c >= 0x10000)
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		else
			*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	*out = '\0';
}

Test(chain, paths_with_every_unicode_plane)
{
	static const unsigned forms[] = { NAME, RELATIVE, ABSOLUTE, URL };
	char planes[128], base[300], child[300];

	every_plane(planes);
	cr_assert_eq(mkdir(planes, 0777), 0);
	snprintf(base, sizeof(base), "%s/b %s#%%?.vhd", planes, planes);
	make_base(base, 'b');
	for (unsigned i = 0; i < 4; i++) {
		bool beside = forms[i] == NAME || forms[i] == RELATIVE;

		snprintf(child, sizeof(child), "%s/%s-%u.vhd", beside ? planes : ".", planes, i);
		make_child_with(child, base, forms[i]);
		assert_shows(child, 'b');
	}
	/* What was recorded is what was said. */
	{
		struct hv_disk *disk;
		char name[300];
		HV_ERR(err);

		snprintf(child, sizeof(child), "%s/all.vhd", planes);
		make_child(child, base);
		must(open_chain(child, SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
		snprintf(name, sizeof(name), "b %s#%%?.vhd", planes);
		cr_assert_str_eq(vhd_get_info(disk)->parent_name, name);
		hv_disk_close(disk);
	}
}

static const char *locator_of(struct hv_disk *disk, uint32_t code)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		if (vhd_get_info(disk)->locators[i].code == code)
			return vhd_get_info(disk)->locators[i].text;
	}
	return NULL;
}

static void assert_relative(const char *child, const char *want)
{
	struct hv_disk *disk;
	HV_ERR(err);

	must(open_chain(child, SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
	cr_assert_str_eq(locator_of(disk, VHD_LOCATOR_W2RU), want);
	hv_disk_close(disk);
}

Test(chain, relative_paths_climb)
{
	static const char *const dirs[] = { "a", "a/b", "a/b/c", "a/bc", "a/b/cd" };

	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		cr_assert_eq(mkdir(dirs[i], 0777), 0);
	make_base("a/bc/base.vhd", 'b');
	make_child_with("a/b/c/child.vhd", "a/bc/base.vhd", RELATIVE);
	assert_relative("a/b/c/child.vhd", ".\\..\\..\\bc\\base.vhd");
	make_base("a/b/base.vhd", 'u');
	make_child_with("a/b/cd/child.vhd", "a/b/base.vhd", RELATIVE);
	assert_relative("a/b/cd/child.vhd", ".\\..\\base.vhd");
	make_child_with("a/b/child.vhd", "a/b/base.vhd", RELATIVE);
	assert_relative("a/b/child.vhd", ".\\base.vhd");
	make_base("a/b/cd/base.vhd", 'd');
	make_child_with("a/child.vhd", "a/b/cd/base.vhd", RELATIVE);
	assert_relative("a/child.vhd", ".\\b\\cd\\base.vhd");
	cr_assert_eq(rename("a", "z"), 0);
	assert_shows("z/b/c/child.vhd", 'b');
	assert_shows("z/b/cd/child.vhd", 'u');
	assert_shows("z/b/child.vhd", 'u');
	assert_shows("z/child.vhd", 'd');
	/* From wherever one stands. */
	cr_assert_eq(chdir("z/b/c"), 0);
	assert_shows("child.vhd", 'b');
	assert_shows("../cd/child.vhd", 'u');
	cr_assert_eq(chdir("../../.."), 0);
}

Test(chain, symbolic_links_are_seen_through)
{
	mkdir("deep", 0777);
	mkdir("deep/er", 0777);
	mkdir("disks", 0777);
	cr_assert_eq(symlink("deep/er", "short"), 0);
	cr_assert_eq(symlink("../disks", "deep/linked"), 0);
	make_base("disks/base.vhd", 'b');
	cr_assert_eq(symlink("../disks/base.vhd", "deep/alias.vhd"), 0);

	make_child_with("short/child.vhd", "deep/linked/base.vhd", RELATIVE);
	assert_relative("short/child.vhd", ".\\..\\..\\disks\\base.vhd");
	assert_shows("short/child.vhd", 'b');
	assert_shows("deep/er/child.vhd", 'b');
	make_child_with("short/other.vhd", "deep/alias.vhd", RELATIVE);
	assert_relative("short/other.vhd", ".\\..\\..\\disks\\base.vhd");
	assert_shows("deep/er/other.vhd", 'b');
	unlink("deep/linked");
	unlink("deep/alias.vhd");
	assert_shows("short/child.vhd", 'b');
	assert_shows("short/other.vhd", 'b');
}

static void assert_no_child(const char *child, const char *parent_path, const char *words)
{
	struct vhd_create_options options = { 0 };
	struct snap_child_paths paths;
	struct hv_disk *parent;
	HV_ERR(err);

	must(open_chain(parent_path, SNAP_OPEN_NO_PARENTS, NULL, &parent, &err), &err);
	cr_expect_eq(snap_describe_child(child, parent, &options, &paths, &err), -EINVAL);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	hv_disk_close(parent);
}

Test(chain, parents_that_a_child_cannot_record)
{
	uint8_t null_uuid[16] = { 0 };

	spill("base.raw", "raw", 3);
	assert_no_child("child.vhd", "base.raw", "only a VHD");
	make_base("base.vhd", 'b');
	make_base("back\\slash.vhd", 'b');
	assert_no_child("child.vhd", "back\\slash.vhd", "backslash");
	make_base("latin\xfc.vhd", 'b');
	assert_no_child("child.vhd", "latin\xfc.vhd", "UTF-8");
	mkdir("dir\xfc", 0777);
	assert_no_child("dir\xfc/child.vhd", "base.vhd", "UTF-8");
	patch_footer("base.vhd", FOOTER_UUID, null_uuid, 16);
	assert_no_child("child.vhd", "base.vhd", "UUID");
}
