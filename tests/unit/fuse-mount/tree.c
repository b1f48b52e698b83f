/*
 * The tree that a disk makes: tables written by the test, found by libblkid.
 */
#include "fuse-mount/tree.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/rawdisk.h"

#define MIB (UINT64_C(1) << 20)

struct shown {
	struct rawdisk *raw;
	struct hv_probe *probe;
	struct fm_tree *tree;
	const struct fm_node *root;
};

static struct shown show(struct rawdisk *raw)
{
	struct shown shown = { .raw = raw };
	HV_ERR(err);

	cr_assert_eq(hv_probe_disk(&raw->disk, &shown.probe, &err), 0, "%s", err.sentence);
	cr_assert_eq(fm_tree_new(shown.probe, raw->disk.size_bytes, "{}\n", &shown.tree, &err), 0);
	shown.root = fm_tree_get(shown.tree, 1);
	return shown;
}

static void done(struct shown *shown)
{
	fm_tree_free(shown->tree);
	hv_probe_free(shown->probe);
	hv_disk_close(&shown->raw->disk);
}

/* What is in a directory, in the order of listing, hidden names in brackets. */
static void assert_lists(const struct fm_node *directory, const char *expected)
{
	char list[8192] = "";

	cr_assert(directory);
	for (unsigned i = 0; i < directory->child_count; i++) {
		const struct fm_node *child = directory->children[i];

		cr_assert_eq(child->parent, directory);
		sprintf(list + strlen(list), child->hidden ? "%s[%s]" : "%s%s", i ? "|" : "",
			child->name);
	}
	cr_assert_str_eq(list, expected);
}

static const struct fm_node *find(const struct shown *shown, const char *directory,
				  const char *name)
{
	const struct fm_node *node = shown->root;

	if (*directory)
		node = fm_tree_find(node, directory);
	node = node ? fm_tree_find(node, name) : NULL;
	cr_assert(node, "no %s in '%s'", name, directory);
	return node;
}

static void assert_range(const struct fm_node *node, uint64_t offset, uint64_t length)
{
	cr_assert_eq(node->offset, offset, "%s at %llu", node->name,
		     (unsigned long long)node->offset);
	cr_assert_eq(node->length, length, "%s of %llu bytes", node->name,
		     (unsigned long long)node->length);
}

Test(tree, empty_disk_is_one_file)
{
	struct shown shown = show(rawdisk_new(64 * MIB));
	const struct fm_node *node;

	assert_lists(shown.root, "disk.raw|info.json");
	node = find(&shown, "", "disk.raw");
	cr_assert_eq(node->kind, FM_VOLUME);
	cr_assert_null(node->partition);
	assert_range(node, 0, 64 * MIB);
	node = find(&shown, "", "info.json");
	cr_assert_eq(node->kind, FM_TEXT);
	cr_assert_str_eq(node->text, "{}\n");
	cr_assert_eq(node->text_bytes, 3);
	done(&shown);
}

Test(tree, disk_of_no_size_is_a_file_of_no_size)
{
	struct shown shown = show(rawdisk_new(0));

	assert_range(find(&shown, "", "disk.raw"), 0, 0);
	done(&shown);
}

Test(tree, numbers_are_dense_and_lead_to_their_nodes)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;
	uint64_t ino = 0;

	rawdisk_put_ext4(raw, 0, "root");
	shown = show(raw);
	for (const struct fm_node *node; (node = fm_tree_get(shown.tree, ino + 1)); ino++)
		cr_assert_eq(node->ino, ino + 1);
	cr_assert_gt(ino, 5);
	cr_assert_null(fm_tree_get(shown.tree, 0));
	cr_assert_null(fm_tree_get(shown.tree, ino + 1));
	cr_assert_null(fm_tree_get(shown.tree, UINT64_MAX));
	cr_assert_eq(shown.root->parent, shown.root);
	done(&shown);
}

Test(tree, without_info_there_is_no_file_for_it)
{
	const struct hv_probe probe = { 0 };
	struct fm_tree *tree = NULL;

	cr_assert_eq(fm_tree_new(&probe, MIB, NULL, &tree, NULL), 0);
	assert_lists(fm_tree_get(tree, 1), "disk.raw");
	fm_tree_free(tree);
	fm_tree_free(NULL);
}

Test(tree, filesystem_on_the_bare_disk_has_files_and_links)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;
	const struct fm_node *node;

	rawdisk_put_ext4(raw, 0, "root");
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|by-label|by-uuid|files|[.volumes]");
	cr_assert_str_eq(find(&shown, "by-label", "root")->target, "../disk.raw");
	cr_assert_eq(find(&shown, "by-label", "root")->kind, FM_LINK);
	cr_assert_str_eq(find(&shown, "by-uuid", "11223344-5566-7788-0000-000000000000")->target,
			 "../disk.raw");
	node = find(&shown, "files", "disk");
	cr_assert_eq(node->kind, FM_FILES);
	cr_assert_null(node->partition);
	cr_assert_str_eq(node->content->type, "ext4");
	node = find(&shown, ".volumes", "disk");
	cr_assert_eq(node->kind, FM_VOLUME);
	cr_assert_not(node->hidden);
	assert_range(node, 0, 64 * MIB);
	done(&shown);
}

Test(tree, partitions_of_a_gpt_are_files_with_names)
{
	static const struct rawdisk_gpt_entry entries[] = {
		{ 2048, 40000, "system" },
		{ 50000, 100000, "data" },
		{ 100001, 120000, "" },
	};
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;
	const struct fm_node *node;

	rawdisk_put_gpt(raw, entries, 3);
	rawdisk_put_ext4(raw, 50000 * 512, "home");
	rawdisk_put_swap(raw, UINT64_C(100001) * 512);
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|p1-system.raw|p2-data.ext4|p3.swap|"
				 "by-label|by-uuid|by-partuuid|files|[.volumes]");
	node = find(&shown, "", "p2-data.ext4");
	assert_range(node, 50000 * 512, UINT64_C(50001) * 512);
	cr_assert_eq(node->partition, &shown.probe->partitions[1]);
	cr_assert_eq(node->content, &shown.probe->partitions[1].content);
	assert_lists(fm_tree_find(shown.root, "by-label"), "home");
	assert_lists(fm_tree_find(shown.root, "by-partuuid"),
		     "00001000-0000-0000-0000-000000000000|"
		     "00001001-0000-0000-0000-000000000000|"
		     "00001002-0000-0000-0000-000000000000");
	cr_assert_str_eq(
		find(&shown, "by-partuuid", "00001002-0000-0000-0000-000000000000")->target,
		"../p3.swap");
	assert_lists(fm_tree_find(shown.root, "files"), "p2");
	assert_range(find(&shown, ".volumes", "p2"), 50000 * 512, UINT64_C(50001) * 512);
	done(&shown);
}

Test(tree, only_filesystems_have_files)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 8192);
	rawdisk_put_entry(raw, 0, 1, 0x82, 20480, 8192);
	rawdisk_put_entry(raw, 0, 2, 0x83, 40960, 8192);
	rawdisk_put_luks(raw, 2048 * 512);
	rawdisk_put_swap(raw, 20480 * 512);
	rawdisk_put_swap(raw, 40960 * 512);
	rawdisk_put_ext4(raw, 40960 * 512, "both");
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|p1.luks|p2.swap|p3.ambivalent|by-uuid");
	done(&shown);
}

Test(tree, extended_partition_is_no_volume)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 8192);
	rawdisk_put_entry(raw, 0, 1, 0x0f, 20480, 100000);
	rawdisk_put_entry(raw, 20480, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 20480, 1, 0x05, 10000, 5000);
	rawdisk_put_entry(raw, 30480, 0, 0x82, 64, 1000);
	rawdisk_put_swap(raw, UINT64_C(30544) * 512);
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|p1.raw|p5.raw|p6.swap");
	assert_range(find(&shown, "", "p6.swap"), UINT64_C(30544) * 512, 1000 * 512);
	done(&shown);
}

Test(tree, ring_of_logical_partitions_ends)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x05, 10000, 100000);
	rawdisk_put_entry(raw, 10000, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 10000, 1, 0x05, 20000, 1000);
	rawdisk_put_entry(raw, 30000, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 30000, 1, 0x05, 0, 1000);
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|p5.raw|p6.raw");
	done(&shown);
}

Test(tree, hundreds_of_partitions_are_shown)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x05, 100, 130000);
	for (unsigned i = 0; i < 200; i++) {
		rawdisk_put_entry(raw, 100 + 100 * i, 0, 0x83, 1, 99);
		if (i < 199)
			rawdisk_put_entry(raw, 100 + 100 * i, 1, 0x05, 100 * (i + 1), 100);
	}
	shown = show(raw);
	cr_assert_eq(shown.root->child_count, 2 + 200);
	assert_range(find(&shown, "", "p204.raw"), (100 + 199 * 100 + 1) * 512, 99 * 512);
	done(&shown);
}

Test(tree, partitions_beyond_the_end_are_cut)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, UINT32_MAX);
	rawdisk_put_entry(raw, 0, 1, 0x83, UINT32_MAX, 2048);
	shown = show(raw);
	assert_range(find(&shown, "", "p1.raw"), MIB, 63 * MIB);
	assert_range(find(&shown, "", "p2.raw"), 64 * MIB, 0);
	done(&shown);
}

/* The caller's size counts, whatever the probe says. */
Test(tree, ranges_keep_to_the_size_that_is_given)
{
	struct hv_partition partition = { .number = 1, .offset = MIB, .length = UINT64_MAX };
	const struct hv_probe probe = { .partition_count = 1, .partitions = &partition };
	struct fm_tree *tree;

	cr_assert_eq(fm_tree_new(&probe, 3 * MIB, NULL, &tree, NULL), 0);
	assert_range(fm_tree_find(fm_tree_get(tree, 1), "p1.raw"), MIB, 2 * MIB);
	fm_tree_free(tree);
}

Test(tree, labels_cannot_leave_their_directory)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 8192);
	rawdisk_put_entry(raw, 0, 1, 0x83, 20480, 8192);
	rawdisk_put_entry(raw, 0, 2, 0x83, 40960, 8192);
	rawdisk_put_ext4(raw, 2048 * 512, "..");
	rawdisk_put_ext4(raw, 20480 * 512, "../x\x1b[2J");
	rawdisk_put_ext4(raw, 40960 * 512, "  ");
	shown = show(raw);
	assert_lists(fm_tree_find(shown.root, "by-label"), "_.|_._x_[2J");
	cr_assert_str_eq(find(&shown, "by-label", "_.")->target, "../p1-_..ext4");
	find(&shown, "", "p2-_._x_[2J.ext4");
	find(&shown, "", "p3.ext4");
	done(&shown);
}

Test(tree, clones_have_links_of_their_own)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	for (int i = 0; i < 3; i++) {
		rawdisk_put_entry(raw, 0, i, 0x83, 2048 + (unsigned)i * 20480, 8192);
		rawdisk_put_ext4(raw, (2048 + (unsigned)i * 20480) * 512,
				 i == 1 ? "root-p3" : "root");
	}
	shown = show(raw);
	assert_lists(fm_tree_find(shown.root, "by-label"), "root|root-p3");
	cr_assert_str_eq(find(&shown, "by-label", "root")->target, "../p1-root.ext4");
	cr_assert_str_eq(find(&shown, "by-label", "root-p3")->target, "../p2-root-p3.ext4");
	assert_lists(fm_tree_find(shown.root, "by-uuid"),
		     "11223344-5566-7788-0000-000000000000|"
		     "11223344-5566-7788-0000-000000000000-p2|"
		     "11223344-5566-7788-0000-000000000000-p3");
	done(&shown);
}

Test(tree, first_partition_of_a_number_counts)
{
	struct hv_partition partitions[] = {
		{ .number = 2, .name = "first", .length = MIB },
		{ .number = 2, .name = "second", .length = MIB },
	};
	const struct hv_probe probe = { .partition_count = 2, .partitions = partitions };
	struct fm_tree *tree;

	cr_assert_eq(fm_tree_new(&probe, 3 * MIB, NULL, &tree, NULL), 0);
	assert_lists(fm_tree_get(tree, 1), "disk.raw|p2-first.raw");
	fm_tree_free(tree);
}

Test(tree, cd_image_shows_disk_and_partitions)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct shown shown;

	rawdisk_put_iso9660(raw, 0, "INSTALL");
	rawdisk_put_entry(raw, 0, 0, 0x17, 0, 64 * 2048);
	rawdisk_put_entry(raw, 0, 1, 0xef, 4000, 2048);
	shown = show(raw);
	assert_lists(shown.root, "disk.raw|info.json|p1-INSTALL.iso9660|p2.raw|by-label|files|"
				 "[.volumes]");
	assert_lists(fm_tree_find(shown.root, "by-label"), "INSTALL|INSTALL-p1");
	cr_assert_str_eq(find(&shown, "by-label", "INSTALL")->target, "../disk.raw");
	assert_lists(fm_tree_find(shown.root, "files"), "disk|p1");
	done(&shown);
}

Test(tree, finding_looks_into_directories_only)
{
	struct shown shown = show(rawdisk_new(MIB));

	cr_assert_null(fm_tree_find(shown.root, ""));
	cr_assert_null(fm_tree_find(shown.root, "disk"));
	cr_assert_null(fm_tree_find(shown.root, "files"));
	cr_assert_null(fm_tree_find(find(&shown, "", "disk.raw"), "x"));
	done(&shown);
}
