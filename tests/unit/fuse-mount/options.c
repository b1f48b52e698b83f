/*
 * What the user asks for, in particular the words that mount(8) hands over.
 */
#include "fuse-mount/options.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/err.h"

/* The words are cut up in place. */
static int settle(struct fm_options *options, const char *words)
{
	static char copy[512];
	static const char *list[2];
	HV_ERR(err);

	strcpy(copy, words);
	list[0] = copy;
	options->mount_options = list;
	return fm_options_settle(options, &err);
}

static struct fm_options settled(const char *words)
{
	struct fm_options options = { 0 };

	cr_assert_eq(settle(&options, words), 0, "%s", words);
	return options;
}

static void assert_refused(struct fm_options options, const char *words)
{
	cr_assert_eq(settle(&options, words), -EINVAL, "%s", words);
	free(options.more);
}

Test(options, words_are_options_with_either_stroke)
{
	struct fm_options options = settled(
		"overlay=a b.vhd,allow_other,offset-limit=1M:512,parent=p,from=raw,verbose");

	cr_assert_str_eq(options.overlay, "a b.vhd");
	cr_assert(options.allow_other && options.verbose);
	cr_assert_eq(options.window_offset, 1 << 20);
	cr_assert_eq(options.window_bytes, 512);
	cr_assert_str_eq(options.parent, "p");
	cr_assert_str_eq(options.format, "raw");
	cr_assert_null(options.more);
}

Test(options, what_mount_says_by_itself_is_no_wish)
{
	struct fm_options options =
		settled("rw,dev,suid,,defaults,noauto,nofail,user,_netdev,x-gvfs-show,comment=x");

	cr_assert_not(options.rw);
	cr_assert_null(options.more);
	cr_assert(settled("write").rw);
	cr_assert_not(settled("ro").rw);
}

Test(options, what_is_not_ours_goes_to_fuse)
{
	struct fm_options options = settled("noexec,uid=7,max_background=3,list,unmount,json");

	cr_assert_str_eq(options.more, "noexec,max_background=3,list,unmount,json");
	cr_assert_eq(options.uid, 7);
	cr_assert_not(options.list);
	free(options.more);
}

Test(options, files_are_those_of_who_mounts)
{
	struct fm_options options = settled("");

	cr_assert_eq(options.uid, getuid());
	cr_assert_eq(options.gid, getgid());
	cr_assert_eq(settled("gid=4294967294").gid, 4294967294U);
}

Test(options, numbers_that_are_none_are_refused)
{
	static const char *const wrong[] = {
		"uid=",           "uid=-1",
		"uid=x",          "gid=4294967295",
		"gid=1 ",         "offset-limit=1",
		"from=me",        "offset-limit=512:0",
		"offset-limit=x", "offset-limit=512:513",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_refused((struct fm_options){ 0 }, wrong[i]);
}

Test(options, contradictions_are_refused)
{
	assert_refused((struct fm_options){ .list = true, .unmount = true }, "");
	assert_refused((struct fm_options){ .rw = true }, "overlay=x");
	assert_refused((struct fm_options){ .rw = true }, "force-share");
	assert_refused((struct fm_options){ .kernel_cache = true }, "write");
	assert_refused((struct fm_options){ .json = true }, "");
}
