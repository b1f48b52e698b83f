/*
 * File names made of labels that anybody may have written.
 */
#include "fuse-mount/names.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "hvcore/utf.h"

static void assert_safe(const char *text, const char *expected)
{
	char name[FM_NAME_SIZE] = "before";

	cr_assert_eq(fm_safe_name(text, name), *expected != '\0');
	cr_assert_str_eq(name, expected);
}

Test(names, ordinary_labels_stay_as_they_are)
{
	assert_safe("root", "root");
	assert_safe("My Data (2)", "My Data (2)");
	assert_safe("Größe 漢字 \U0001f4be", "Größe 漢字 \U0001f4be");
	assert_safe("a.b..c.", "a.b..c.");
	assert_safe("-rf \\ $(x) *", "-rf \\ $(x) *");
}

Test(names, no_label_leaves_the_directory)
{
	assert_safe("..", "_.");
	assert_safe(".", "_");
	assert_safe(".hidden", "_hidden");
	assert_safe("../../etc/passwd", "_._.._etc_passwd");
	assert_safe("/", "_");
}

Test(names, controls_and_tricks_become_underscores)
{
	assert_safe("a\x1b[2J\n\x7f", "a_[2J__");
	assert_safe("a\xc2\x85!", "a_!");
	assert_safe("exe\u202egpj", "exe_gpj");
	assert_safe("a\u200bb\u2066c\u2069\ufeff", "a_b_c__");
	assert_safe("\u2028\U000e0041", "__");
	assert_safe("\u061cx\ufffe\ufffd", "_x_\ufffd");
}

Test(names, what_is_no_utf8_becomes_underscores)
{
	assert_safe("x\xff\xc3y", "x__y");
	assert_safe("\xe2\x82", "__");
	assert_safe("\xed\xa0\x80", "___");
}

Test(names, blanks_at_the_ends_are_cut)
{
	assert_safe("  NO NAME  ", "NO NAME");
	assert_safe("\u00a0\u3000x\u2003", "x");
	assert_safe(" .x", "_x");
	assert_safe("   ", "");
	assert_safe("", "");
}

Test(names, long_names_are_cut_between_characters)
{
	char text[1024] = "", name[FM_NAME_SIZE];

	for (int i = 0; i < 300; i++)
		strcat(text, "\u20ac");
	cr_assert(fm_safe_name(text, name));
	cr_assert_eq(strlen(name), 255);
	cr_assert(hv_utf8_valid(name));
	memset(text, ' ', 300);
	text[0] = text[299] = 'x';
	text[300] = '\0';
	assert_safe(text, "x");
}

static void assert_partition(const struct hv_partition *partition, const char *expected)
{
	char name[FM_NAME_SIZE];

	fm_partition_name(partition, name);
	cr_assert_str_eq(name, expected);
}

static void assert_type(const char *type, const char *expected)
{
	struct hv_partition partition = { .number = 3 };

	strcpy(partition.content.type, type);
	assert_partition(&partition, expected);
}

Test(names, partition_is_named_for_its_content)
{
	assert_type("ext4", "p3.ext4");
	assert_type("swap", "p3.swap");
	assert_type("LVM2_member", "p3.lvm");
	assert_type("LVM1_member", "p3.lvm");
	assert_type("crypto_LUKS", "p3.luks");
	assert_type("BitLocker", "p3.bitlocker");
	assert_type("linux_raid_member", "p3.raid");
	assert_type("../x", "p3._._x");
	assert_type("", "p3.raw");
}

Test(names, several_signatures_are_said)
{
	struct hv_partition partition = { .number = 1, .name = "root" };

	partition.content.ambivalent = true;
	assert_partition(&partition, "p1-root.ambivalent");
}

Test(names, gpt_name_is_preferred_unless_a_tool_gave_it)
{
	struct hv_partition partition = { .number = 2, .name = "root-b" };

	assert_partition(&partition, "p2-root-b.raw");
	strcpy(partition.content.label, "root");
	assert_partition(&partition, "p2-root-b.raw");
	strcpy(partition.name, "Basic Data Partition");
	assert_partition(&partition, "p2-root.raw");
	strcpy(partition.content.label, " ");
	assert_partition(&partition, "p2-Basic Data Partition.raw");
	strcpy(partition.name, "");
	assert_partition(&partition, "p2.raw");
	strcpy(partition.content.label, ".x/");
	assert_partition(&partition, "p2-_x_.raw");
}

Test(names, longest_partition_name_is_whole)
{
	struct hv_partition partition = { .number = 4294967295 };
	char name[FM_NAME_SIZE];

	memset(partition.name, 'n', sizeof(partition.name) - 1);
	memset(partition.content.type, 't', sizeof(partition.content.type) - 1);
	fm_partition_name(&partition, name);
	cr_assert_eq(strlen(name), strlen("p4294967295-.") + 127 + 31);
}
