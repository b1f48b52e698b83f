/*
 * vhdmount --list, as text and as JSON.
 */
#include "fuse-mount/list.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char *list(const struct hv_probe *probe, uint64_t size_bytes, bool json)
{
	struct fm_tree *tree;
	char *text;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	cr_assert_eq(fm_tree_new(probe, size_bytes, "{}\n", &tree, NULL), 0);
	cr_assert_eq(fm_list(tree, probe, json, out), 0);
	fclose(out);
	fm_tree_free(tree);
	return text;
}

static void assert_lists(const struct hv_probe *probe, uint64_t size_bytes, const char *expected)
{
	char *text = list(probe, size_bytes, false);

	cr_assert_str_eq(text, expected);
	free(text);
}

static void assert_says(const struct hv_probe *probe, const char *expected)
{
	char *text = list(probe, 10 * GIB, false);

	cr_assert(strstr(text, expected), "no '%s' in\n%s", expected, text);
	free(text);
}

static void assert_json_says(const struct hv_probe *probe, const char *expected)
{
	char *text = list(probe, 10 * GIB, true);

	cr_assert(strstr(text, expected), "no '%s' in\n%s", expected, text);
	free(text);
}

Test(list, an_empty_disk)
{
	const struct hv_probe probe = { 0 };

	assert_lists(&probe, 50 * GIB,
		     "disk.raw   50 GiB      no partition table\n"
		     "info.json  3 B\n");
}

Test(list, an_ordinary_disk)
{
	struct hv_partition partitions[] = {
		{ .number = 1,
		  .offset = MIB,
		  .length = 511 * MIB,
		  .name = "EFI",
		  .content = { .type = "vfat", .usage = "filesystem", .label = "ESP" } },
		{ .number = 2,
		  .offset = GIB,
		  .length = GIB,
		  .content = { .type = "ext4", .usage = "filesystem", .label = "Größe" } },
		{ .number = 3,
		  .offset = 2 * GIB,
		  .length = GIB,
		  .content = { .type = "swap", .usage = "other" } },
	};
	const struct hv_probe probe = { .table = "gpt",
					.partition_count = 3,
					.partitions = partitions };

	assert_lists(&probe, 10 * GIB,
		     "disk.raw        10 GiB      gpt partition table\n"
		     "info.json       3 B\n"
		     "p1-EFI.vfat     511 MiB     vfat 'ESP'\n"
		     "p2-Größe.ext4   1 GiB       ext4 'Größe'\n"
		     "p3.swap         1 GiB       swap\n"
		     "by-label/ESP                -> ../p1-EFI.vfat\n"
		     "by-label/Größe              -> ../p2-Größe.ext4\n"
		     "files/p1                    vfat 'ESP'\n"
		     "files/p2                    ext4 'Größe'\n");
}

Test(list, contents_are_named_in_words)
{
	struct hv_partition partition = { .number = 1, .length = GIB };
	const struct hv_probe probe = { .partition_count = 1, .partitions = &partition };

	assert_says(&probe, "p1.raw     1 GiB       nothing known\n");
	strcpy(partition.content.type, "crypto_LUKS");
	assert_says(&probe, "1 GiB       LUKS, encrypted\n");
	strcpy(partition.content.type, "BitLocker");
	assert_says(&probe, "1 GiB       BitLocker, encrypted\n");
	strcpy(partition.content.type, "LVM2_member");
	assert_says(&probe, "1 GiB       LVM physical volume\n");
	strcpy(partition.content.type, "");
	partition.content.ambivalent = true;
	assert_says(&probe, "1 GiB       several signatures\n");
	strcpy(partition.content.several, "swap, ext4");
	assert_says(&probe, "1 GiB       several signatures: swap, ext4\n");
	assert_json_says(&probe, "\"several\": \"swap, ext4\"");
}

Test(list, the_bare_disk_has_content_too)
{
	struct hv_probe probe = { .whole = { .type = "ext4", .usage = "filesystem" } };

	assert_says(&probe, "10 GiB      ext4; no partition table\n");
	strcpy(probe.table, "PMBR");
	assert_says(&probe, "ext4; a protective MBR whose GPT is gone\n");
	strcpy(probe.table, "dos");
	assert_says(&probe, "ext4; dos partition table without partitions\n");
	strcpy(probe.table, "PMBR");
	probe.whole = (struct hv_signature){ .ambivalent = true };
	assert_says(&probe, "several signatures; a protective MBR");
}

Test(list, odd_places_are_said)
{
	struct hv_partition partitions[] = {
		{ .number = 1, .offset = 9 * GIB, .length = GIB, .cut = true },
		{ .number = 2, .offset = 10 * GIB, .length = 0, .cut = true },
		{ .number = 3, .offset = 8 * GIB + MIB, .length = 0 },
		{ .number = 4, .offset = 10 * GIB - 1, .length = 1 },
		{ .number = 5, .offset = 8 * GIB, .length = GIB },
	};
	const struct hv_probe probe = { .table = "dos",
					.partition_count = 5,
					.partitions = partitions };

	assert_lists(&probe, 10 * GIB,
		     "disk.raw   10 GiB      dos partition table\n"
		     "info.json  3 B\n"
		     "p1.raw     1 GiB       nothing known; reaches past the end of the disk; "
		     "overlaps p4\n"
		     "p2.raw     0 B         nothing known; lies beyond the end of the disk\n"
		     "p3.raw     0 B         nothing known; empty\n"
		     "p4.raw     1 B         nothing known; overlaps p1\n"
		     "p5.raw     1 GiB       nothing known\n");
	assert_json_says(&probe, "\"notes\": [\n        \"reaches past the end of the disk\",\n"
				 "        \"overlaps p4\"\n      ]");
}

Test(list, overlaps_of_many_are_cut)
{
	struct hv_partition partitions[12];
	const struct hv_probe probe = { .partition_count = 12, .partitions = partitions };

	for (unsigned i = 0; i < 12; i++)
		partitions[i] = (struct hv_partition){ .number = i + 1, .length = GIB };
	assert_says(&probe, "p1.raw     1 GiB       nothing known; "
			    "overlaps p2, p3, p4, p5, p6, p7, p8, p9, ...\n");
}

Test(list, containers_and_what_is_left_out_are_said)
{
	struct hv_partition partitions[] = {
		{ .number = 2, .offset = GIB, .length = GIB, .container = true },
		{ .number = 5, .offset = GIB + MIB, .length = MIB },
	};
	struct hv_probe probe = { .table = "dos",
				  .partition_count = 2,
				  .partitions = partitions,
				  .has_more_partitions = true };

	assert_says(&probe, "dos partition table; more than 256 partitions, of which the rest is "
			    "not shown; p2 is an extended partition, not shown itself\n");
	assert_says(&probe, "p5.raw     1 MiB       nothing known\n");
	probe.has_unreadable = true;
	assert_says(&probe, "dos partition table; not all of what was looked at can be read; more");
}

Test(list, texts_of_strangers_do_not_drive_the_terminal)
{
	struct hv_partition partition = {
		.number = 1,
		.length = GIB,
		.content = { .type = "t\x1b[2J", .label = "a\nb\x1b\u202e", .uuid = "\x07" },
	};
	const struct hv_probe probe = { .partition_count = 1, .partitions = &partition };

	assert_says(&probe, "t\\x1b[2J 'a_b__'\n");
	assert_says(&probe, "by-label/a_b__ ");
	assert_json_says(&probe, "\"label\": \"a\\nb\\u001B");
}

Test(list, json_has_the_same_entries)
{
	struct hv_partition partition = {
		.number = 1,
		.offset = MIB,
		.length = GIB,
		.uuid = "abc-01",
		.type = "0x83",
		.content = { .type = "ext4", .usage = "filesystem" },
	};
	const struct hv_probe probe = { .table = "dos",
					.partition_count = 1,
					.partitions = &partition };

	assert_json_says(&probe, "{\n"
				 "  \"entries\": [\n"
				 "    {\n"
				 "      \"path\": \"disk.raw\",\n"
				 "      \"kind\": \"volume\",\n"
				 "      \"signature\": null,\n");
	assert_json_says(&probe, "      \"path\": \"p1.ext4\",\n"
				 "      \"kind\": \"volume\",\n"
				 "      \"number\": 1,\n"
				 "      \"offset\": 1048576,\n"
				 "      \"length\": 1073741824,\n"
				 "      \"name\": null,\n"
				 "      \"type\": \"0x83\",\n"
				 "      \"partition_uuid\": \"abc-01\",\n"
				 "      \"signature\": \"ext4\",\n");
	assert_json_says(&probe, "    {\n"
				 "      \"path\": \"by-partuuid/abc-01\",\n"
				 "      \"kind\": \"link\",\n"
				 "      \"target\": \"../p1.ext4\"\n"
				 "    },\n"
				 "    {\n"
				 "      \"path\": \"files/p1\",\n"
				 "      \"kind\": \"files\",\n");
}

Test(list, lost_json_is_an_error)
{
	const struct hv_probe probe = { 0 };
	FILE *full = fopen("/dev/full", "w");
	struct fm_tree *tree;

	cr_assert(full);
	cr_assert_eq(fm_tree_new(&probe, MIB, NULL, &tree, NULL), 0);
	cr_assert_eq(fm_list(tree, &probe, true, full), -EIO);
	fclose(full);
	fm_tree_free(tree);
}
