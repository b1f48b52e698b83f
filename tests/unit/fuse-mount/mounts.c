/*
 * Lines of mountinfo, as the kernel writes them and as it does not.
 */
#include "fuse-mount/mounts.h"

#include <criterion/criterion.h>
#include <string.h>

static struct fm_mounts *parse(const char *text)
{
	struct fm_mounts *mounts = NULL;

	cr_assert_eq(fm_mounts_parse(text, &mounts), 0);
	return mounts;
}

static void assert_mount(const struct fm_mount *mount, const char *target, const char *type,
			 const char *source)
{
	cr_assert_str_eq(mount->target, target);
	cr_assert_str_eq(mount->type, type);
	cr_assert_str_eq(mount->source, source);
}

Test(mounts, optional_fields_are_stepped_over)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts = parse(
		"36 35 98:0 / /a rw,noatime - ext4 /dev/sda1 rw\n"
		"37 35 98:1 /x /b rw shared:2 master:1 - fuse.vhdmount disk.vhd rw,user_id=0\n");

	cr_assert_eq(mounts->count, 2);
	assert_mount(&mounts->mounts[0], "/a", "ext4", "/dev/sda1");
	assert_mount(&mounts->mounts[1], "/b", "fuse.vhdmount", "disk.vhd");
}

Test(mounts, octal_escapes_are_decoded)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts =
		parse("1 2 0:3 / /a\\040b\\011c\\134d\\012e rw - t\\0409 s\\040s rw\n");

	cr_assert_eq(mounts->count, 1);
	assert_mount(&mounts->mounts[0], "/a b\tc\\d\ne", "t 9", "s s");
}

Test(mounts, what_is_no_escape_stays)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts = parse("1 2 0:3 / /a\\04\\x\\999\\ rw - t s rw\n");

	cr_assert_eq(mounts->count, 1);
	cr_assert_str_eq(mounts->mounts[0].target, "/a\\04\\x\\999\\");
}

Test(mounts, lines_that_are_none_are_left_out)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts = parse("\n-\n1 2 3\n1 2 0:3 / /a rw\n1 2 0:3 / /a rw -\n"
					 "1 2 0:3 / /a rw - type\n1 2 0:3 / a rw - type source rw\n"
					 "1 2 0:3 / /good rw - type source\n");

	cr_assert_eq(mounts->count, 1);
	assert_mount(&mounts->mounts[0], "/good", "type", "source");
}

Test(mounts, the_last_of_several_at_one_place_is_seen)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts = parse("1 2 0:3 / /a rw - first s rw\n"
					 "1 2 0:3 / /a/b rw - between s rw\n"
					 "1 2 0:3 / /a rw - last s rw\n");

	cr_assert_str_eq(fm_mounts_at(mounts, "/a")->type, "last");
	cr_assert_str_eq(fm_mounts_at(mounts, "/a/b")->type, "between");
	cr_assert_null(fm_mounts_at(mounts, "/a/"));
}

Test(mounts, below_is_not_beside)
{
	HV_AUTO(fm_mounts_free)
	struct fm_mounts *mounts = parse("1 2 0:3 / /a rw - t s rw\n1 2 0:3 / /a/b rw - t s rw\n"
					 "1 2 0:3 / /ab rw - t s rw\n");

	cr_assert_not(fm_mount_is_below(&mounts->mounts[0], "/a"));
	cr_assert(fm_mount_is_below(&mounts->mounts[1], "/a"));
	cr_assert_not(fm_mount_is_below(&mounts->mounts[2], "/a"));
}

Test(mounts, the_kernels_own_list_is_understood)
{
	HV_AUTO(fm_mounts_free) struct fm_mounts *mounts = NULL;
	HV_ERR(err);

	cr_assert_eq(fm_mounts_read(&mounts, &err), 0, "%s", err.sentence);
	cr_assert_not_null(fm_mounts_at(mounts, "/"));
	cr_assert_not_null(fm_mounts_at(mounts, "/proc"));
}
