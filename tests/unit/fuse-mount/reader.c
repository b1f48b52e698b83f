/*
 * The table of readers: every row can be started as it stands.
 */
#include "fuse-mount/reader.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const types[] = { "ext2",     "ext3",    "ext4", "ntfs",  "vfat", "exfat",
				     "squashfs", "iso9660", "xfs",  "btrfs", "udf" };

#define COUNT (sizeof(types) / sizeof(*types))

static int times(const char *const arguments[], const char *word)
{
	int found = 0;

	for (int i = 0; i < FM_READER_ARGUMENTS && arguments[i]; i++)
		found += strcmp(arguments[i], word) == 0;
	return found;
}

Test(reader, the_filesystems_of_the_contract_have_one)
{
	for (size_t i = 0; i < COUNT; i++)
		cr_assert_not_null(fm_reader_next(types[i], NULL), "%s", types[i]);
}

Test(reader, each_is_given_the_volume_and_the_directory_once)
{
	for (size_t i = 0; i < COUNT; i++) {
		const struct fm_reader *reader = NULL;

		while ((reader = fm_reader_next(types[i], reader))) {
			cr_assert_str_eq(reader->type, types[i]);
			cr_assert_eq(times(reader->arguments, "%v"), 1, "%s", reader->program);
			cr_assert_eq(times(reader->arguments, "%m"), 1, "%s", reader->program);
			if (!reader->write_arguments[0])
				continue;
			cr_assert_eq(times(reader->write_arguments, "%v"), 1, "%s",
				     reader->program);
			cr_assert_eq(times(reader->write_arguments, "%m"), 1, "%s",
				     reader->program);
		}
	}
}

Test(reader, an_unknown_type_has_none_and_is_said_to)
{
	char *sentence = fm_reader_objection("zonefs");

	cr_assert_null(fm_reader_next("zonefs", NULL));
	cr_assert_not_null(sentence);
	cr_assert_not_null(strstr(sentence, "zonefs"));
	cr_assert_not_null(strstr(sentence, "--kernel"));
	free(sentence);
}

Test(reader, a_program_is_found_where_it_can_be_executed)
{
	const struct fm_reader *reader = fm_reader_next("ext4", NULL);
	struct fm_reader none = { .program = "no-such-reader" };
	char *program = fm_reader_program(reader);

	if (program)
		cr_assert_eq(access(program, X_OK), 0);
	else
		cr_assert_not_null(strstr(fm_reader_objection("ext4"), "install"));
	free(program);
	cr_assert_null(fm_reader_program(&none));
}

/* grub-mount reads a little of everything. */
Test(reader, only_what_is_made_for_a_filesystem_is_its_own)
{
	cr_assert_not(fm_reader_own("xfs"));
	cr_assert_not(fm_reader_own("btrfs"));
	cr_assert_not(fm_reader_own("erofs"));
	cr_assert_eq(fm_reader_own("ext4"), access("/usr/bin/fuse2fs", X_OK) == 0);
}
