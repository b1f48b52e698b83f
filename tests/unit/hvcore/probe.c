/*
 * Signatures and partition tables on disks in memory. HVKIT_SEED in the environment repeats a run
 * with random bytes.
 */
#include "hvcore/probe.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tests/support/rawdisk.h"

#define MIB (UINT64_C(1) << 20)

static struct hv_probe *probe_disk(struct rawdisk *raw)
{
	struct hv_probe *probe = NULL;
	HV_ERR(err);

	cr_assert_eq(hv_probe_disk(&raw->disk, &probe, &err), 0, "%s", err.sentence);
	cr_assert(probe);
	return probe;
}

static void done(struct rawdisk *raw, struct hv_probe *probe)
{
	hv_probe_free(probe);
	hv_disk_close(&raw->disk);
}

static void assert_described(const struct hv_probe *probe, const char *expected)
{
	char *text = hv_probe_describe(probe);

	cr_assert(text);
	cr_assert_str_eq(text, expected);
	free(text);
}

Test(probe, nothing_is_found_on_an_empty_disk)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe = probe_disk(raw);

	cr_assert_str_eq(probe->whole.type, "");
	cr_assert_not(probe->whole.ambivalent);
	cr_assert_str_eq(probe->table, "");
	cr_assert_eq(probe->partition_count, 0);
	cr_assert_null(hv_probe_describe(probe));
	done(raw, probe);
}

Test(probe, tiny_disks_are_survived)
{
	for (uint64_t sectors = 0; sectors < 20; sectors++) {
		struct rawdisk *raw = rawdisk_new(sectors * 512);
		struct hv_probe *probe;

		if (sectors)
			rawdisk_put_entry(raw, 0, 0, 0x83, 1, 100);
		probe = probe_disk(raw);
		cr_assert_str_eq(probe->whole.type, "");
		done(raw, probe);
	}
}

Test(probe, filesystem_on_the_bare_disk_is_found)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_ext4(raw, 0, "root");
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "ext4");
	cr_assert_str_eq(probe->whole.usage, "filesystem");
	cr_assert_str_eq(probe->whole.label, "root");
	cr_assert_str_eq(probe->whole.uuid, "11223344-5566-7788-0000-000000000000");
	cr_assert_str_eq(probe->table, "");
	assert_described(probe, "an ext4 filesystem labelled 'root'");
	done(raw, probe);
}

Test(probe, swap_is_a_signature)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_swap(raw, 0);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "swap");
	cr_assert_str_eq(probe->whole.usage, "other");
	assert_described(probe, "a swap signature");
	done(raw, probe);
}

Test(probe, signature_at_the_end_of_the_disk_is_found)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB + 512 * 7);
	struct hv_probe *probe;

	rawdisk_put_raid(raw, 0, raw->disk.size_bytes);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "linux_raid_member");
	cr_assert_str_eq(probe->whole.usage, "raid");
	done(raw, probe);
}

Test(probe, ntfs_is_found_though_its_file_table_is_far_away)
{
	struct rawdisk *raw = rawdisk_new(256 * MIB);
	struct hv_probe *probe;

	rawdisk_put_ntfs(raw, 0, 100 * MIB);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "ntfs");
	cr_assert_str_eq(probe->whole.label, "Data");
	cr_assert_str_eq(probe->whole.uuid, "1122334455667788");
	assert_described(probe, "an ntfs filesystem labelled 'Data'");
	done(raw, probe);
}

Test(probe, ntfs_whose_file_table_lies_outside_is_survived)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_ntfs(raw, 0, 8 * MIB);
	rawdisk_put_le(raw, 48, 8, UINT64_MAX / 2);
	rawdisk_put_le(raw, 40, 8, UINT64_MAX);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "");
	done(raw, probe);
}

Test(probe, several_signatures_are_ambivalent)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_ext4(raw, 0, "root");
	rawdisk_put_swap(raw, 0);
	probe = probe_disk(raw);
	cr_assert(probe->whole.ambivalent);
	cr_assert_str_eq(probe->whole.type, "");
	cr_assert_str_eq(probe->whole.several, "swap, ext4");
	assert_described(probe, "several conflicting signatures");
	done(raw, probe);
}

Test(probe, partitions_of_an_mbr_and_their_contents_are_found)
{
	struct rawdisk *raw = rawdisk_new(128 * MIB);
	struct hv_probe *probe;

	rawdisk_put_le(raw, 440, 4, 0xdeadbeef);
	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 65536);
	rawdisk_put_entry(raw, 0, 2, 0x82, 100000, 20000);
	rawdisk_put_ext4(raw, 2048 * 512, "root");
	rawdisk_put_swap(raw, 100000 * 512);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "dos");
	cr_assert_str_eq(probe->table_uuid, "deadbeef");
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_eq(probe->partitions[0].number, 1);
	cr_assert_eq(probe->partitions[0].offset, 2048 * 512);
	cr_assert_eq(probe->partitions[0].length, 65536 * 512);
	cr_assert_str_eq(probe->partitions[0].type, "0x83");
	cr_assert_str_eq(probe->partitions[0].content.type, "ext4");
	cr_assert_str_eq(probe->partitions[0].content.label, "root");
	cr_assert_eq(probe->partitions[1].number, 3);
	cr_assert_str_eq(probe->partitions[1].content.type, "swap");
	assert_described(probe, "a dos partition table with 2 partitions (ext4, swap)");
	done(raw, probe);
}

Test(probe, signature_at_the_end_of_a_partition_is_found)
{
	struct rawdisk *raw = rawdisk_new(128 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0xfd, 2048, 65536);
	rawdisk_put_raid(raw, 2048 * 512, 65536 * 512);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->partitions[0].content.type, "linux_raid_member");
	done(raw, probe);
}

Test(probe, ntfs_inside_a_partition_is_found)
{
	struct rawdisk *raw = rawdisk_new(256 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x07, 2048, 450000);
	rawdisk_put_ntfs(raw, 2048 * 512, 100 * MIB);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->partitions[0].content.type, "ntfs");
	cr_assert_str_eq(probe->partitions[0].content.label, "Data");
	done(raw, probe);
}

/* The links lie where neither the head nor the tail of the disk is copied. */
Test(probe, logical_partitions_are_found_along_the_chain)
{
	struct rawdisk *raw = rawdisk_new(400 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x05, 100000, 600000);
	rawdisk_put_entry(raw, 100000, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 100000, 1, 0x05, 200000, 10000);
	rawdisk_put_entry(raw, 300000, 0, 0x83, 64, 2000);
	rawdisk_put_entry(raw, 300000, 1, 0x05, 400000, 10000);
	rawdisk_put_entry(raw, 500000, 0, 0x82, 64, 3000);
	rawdisk_put_swap(raw, UINT64_C(500064) * 512);
	probe = probe_disk(raw);
	cr_assert_eq(probe->partition_count, 4);
	cr_assert_str_eq(probe->partitions[0].type, "0x05");
	cr_assert(probe->partitions[0].container && !probe->partitions[1].container);
	cr_assert_eq(probe->partitions[1].number, 5);
	cr_assert_eq(probe->partitions[2].offset, UINT64_C(300064) * 512);
	cr_assert_eq(probe->partitions[3].number, 7);
	cr_assert_eq(probe->partitions[3].offset, UINT64_C(500064) * 512);
	cr_assert_str_eq(probe->partitions[3].content.type, "swap");
	done(raw, probe);
}

Test(probe, chain_of_boot_records_may_be_a_ring, .timeout = 20)
{
	struct rawdisk *raw = rawdisk_new(128 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x05, 10000, 200000);
	rawdisk_put_entry(raw, 10000, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 10000, 1, 0x05, 50000, 1000);
	rawdisk_put_entry(raw, 60000, 0, 0x83, 64, 1000);
	rawdisk_put_entry(raw, 60000, 1, 0x05, 0, 1000);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "dos");
	cr_assert_leq(probe->partition_count, 256);
	done(raw, probe);
}

Test(probe, partition_that_leaves_the_disk_is_clamped)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, UINT32_MAX);
	rawdisk_put_entry(raw, 0, 1, 0x83, UINT32_MAX, UINT32_MAX);
	rawdisk_put_swap(raw, 2048 * 512);
	probe = probe_disk(raw);
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_eq(probe->partitions[0].length, 63 * MIB);
	cr_assert_str_eq(probe->partitions[0].content.type, "swap");
	cr_assert_eq(probe->partitions[1].offset, 64 * MIB);
	cr_assert_eq(probe->partitions[1].length, 0);
	cr_assert(probe->partitions[0].cut && probe->partitions[1].cut);
	cr_assert_str_eq(probe->partitions[1].content.type, "");
	done(raw, probe);
}

Test(probe, partition_up_to_the_end_of_the_disk_is_not_cut)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 63 * 2048);
	probe = probe_disk(raw);
	cr_assert_eq(probe->partitions[0].length, 63 * MIB);
	cr_assert_not(probe->partitions[0].cut);
	done(raw, probe);
}

/* As many as there are; a disk has no right to fill our memory. */
Test(probe, hundreds_of_logical_partitions_are_bounded)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x05, 100, 130000);
	for (unsigned i = 0; i < 300; i++) {
		rawdisk_put_entry(raw, 100 + 100 * i, 0, 0x83, 1, 99);
		if (i < 299)
			rawdisk_put_entry(raw, 100 + 100 * i, 1, 0x05, 100 * (i + 1), 100);
	}
	probe = probe_disk(raw);
	cr_assert_eq(probe->partition_count, HV_PROBE_PARTITIONS);
	cr_assert(probe->has_more_partitions);
	cr_assert_eq(probe->partitions[255].number, 259);
	done(raw, probe);
}

static const struct rawdisk_gpt_entry two_entries[] = {
	{ 2048, 40000, "system" },
	{ 50000, 100000, "data" },
};

Test(probe, damaged_gpt_is_read_from_its_backup)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_gpt(raw, two_entries, 2);
	rawdisk_put_le(raw, 512 + 40, 1, 99);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "gpt");
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_str_eq(probe->partitions[1].name, "data");
	cr_assert_not(probe->has_more_partitions);
	done(raw, probe);
}

Test(probe, protective_mbr_without_gpt_has_no_partitions)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0xee, 1, 64 * 2048 - 1);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "PMBR");
	cr_assert_eq(probe->partition_count, 0);
	done(raw, probe);
}

/* The GPT counts, as for the kernel. */
Test(probe, hybrid_mbr_is_a_gpt)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_gpt(raw, two_entries, 2);
	rawdisk_put_entry(raw, 0, 1, 0x0c, 2048, 1000);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "gpt");
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_eq(probe->partitions[0].length, (40000 - 2048 + 1) * 512);
	done(raw, probe);
}

Test(probe, cd_image_for_usb_sticks_is_filesystem_and_table)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_iso9660(raw, 0, "INSTALL");
	rawdisk_put_entry(raw, 0, 0, 0x17, 0, 64 * 2048);
	rawdisk_put_entry(raw, 0, 1, 0xef, 4000, 2048);
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.type, "iso9660");
	cr_assert_str_eq(probe->whole.label, "INSTALL");
	cr_assert_str_eq(probe->table, "dos");
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_str_eq(probe->partitions[0].content.type, "iso9660");
	cr_assert_eq(probe->partitions[1].offset, 4000 * 512);
	done(raw, probe);
}

/* BSD's type 5 is no extended partition. */
Test(probe, partition_of_a_nested_table_is_no_container)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	uint64_t at = 2048 * 512 + 512;
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0xa5, 2048, 100000);
	rawdisk_put_le(raw, at, 4, 0x82564557);
	rawdisk_put_le(raw, at + 132, 4, 0x82564557);
	rawdisk_put_le(raw, at + 138, 2, 1);
	rawdisk_put_le(raw, at + 148, 4, 4000);
	rawdisk_put_le(raw, at + 152, 4, 3000);
	rawdisk_put_le(raw, at + 160, 1, 5);
	rawdisk_put_swap(raw, 3000 * 512);
	probe = probe_disk(raw);
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_eq(probe->partitions[1].number, 5);
	cr_assert_str_eq(probe->partitions[1].type, "0x05");
	cr_assert_not(probe->partitions[1].container);
	cr_assert_str_eq(probe->partitions[1].content.type, "swap");
	done(raw, probe);
}

Test(probe, gpt_partitions_have_names_types_and_contents)
{
	static const struct rawdisk_gpt_entry entries[] = {
		{ 2048, 40000, "system" },
		{ 50000, 100000, "data" },
	};
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_gpt(raw, entries, 2);
	rawdisk_put_ext4(raw, 50000 * 512, "home");
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->table, "gpt");
	cr_assert_str_eq(probe->table_uuid, "0000abcd-0000-0000-0000-000000000000");
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_str_eq(probe->partitions[0].name, "system");
	cr_assert_str_eq(probe->partitions[0].type, "0fc63daf-8483-4772-8e79-3d69d8477de4");
	cr_assert_str_eq(probe->partitions[0].uuid, "00001000-0000-0000-0000-000000000000");
	cr_assert_str_eq(probe->partitions[0].content.type, "");
	cr_assert_str_eq(probe->partitions[1].name, "data");
	cr_assert_eq(probe->partitions[1].length, UINT64_C(50001) * 512);
	cr_assert_str_eq(probe->partitions[1].content.label, "home");
	assert_described(probe, "a gpt partition table with 2 partitions (unknown, ext4)");
	done(raw, probe);
}

Test(probe, what_reads_as_zero_is_not_read)
{
	struct rawdisk *raw = rawdisk_new(128 * MIB);
	struct hv_probe *probe;

	rawdisk_put_entry(raw, 0, 0, 0x83, 4096, 65536);
	rawdisk_put_ext4(raw, 4096 * 512, "root");
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->partitions[0].content.type, "ext4");
	cr_assert_eq(raw->zeros_read, 0);
	cr_assert_lt(raw->bytes_read, MIB);
	done(raw, probe);
}

Test(probe, disk_of_four_exbibytes_is_probed_at_once)
{
	struct rawdisk *raw = rawdisk_new(UINT64_C(1) << 62);
	struct hv_probe *probe;

	rawdisk_put_ext4(raw, 0, "vast");
	probe = probe_disk(raw);
	cr_assert_str_eq(probe->whole.label, "vast");
	done(raw, probe);
}

Test(probe, failing_read_is_an_error_with_a_sentence)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe = NULL;
	HV_ERR(err);

	rawdisk_put_ext4(raw, 0, "root");
	raw->bad_offset = 1024;
	cr_assert_eq(hv_probe_disk(&raw->disk, &probe, &err), -EIO);
	cr_assert_null(probe);
	cr_assert_str_eq(err.sentence, "memory: bad sector");
	done(raw, probe);
}

Test(probe, who_only_looks_sees_what_can_be_read)
{
	struct rawdisk *raw = rawdisk_new(128 * MIB);
	struct hv_probe *probe = NULL;
	HV_ERR(err);

	rawdisk_put_entry(raw, 0, 0, 0x83, 2048, 65536);
	rawdisk_put_entry(raw, 0, 1, 0x83, 100000, 65536);
	rawdisk_put_ext4(raw, 2048 * 512, "lost");
	rawdisk_put_ext4(raw, 100000 * 512, "found");
	rawdisk_put_le(raw, 100000 * 512 + 16384, 1, 1);
	raw->bad_offset = 100000 * 512 + 16384;
	cr_assert_eq(hv_probe_readable(&raw->disk, &probe, &err), 0);
	cr_assert_eq(err.code, 0);
	cr_assert(probe->has_unreadable);
	cr_assert_str_eq(probe->partitions[0].content.label, "lost");
	cr_assert_str_eq(probe->partitions[1].content.label, "found");
	hv_probe_free(probe);
	raw->bad_offset = 2048 * 512 + 1024;
	cr_assert_eq(hv_probe_readable(&raw->disk, &probe, &err), 0);
	cr_assert_str_eq(probe->partitions[0].content.type, "");
	cr_assert_str_eq(probe->partitions[1].content.label, "found");
	hv_probe_free(probe);
	raw->bad_offset = 0;
	cr_assert_eq(hv_probe_readable(&raw->disk, &probe, &err), 0);
	cr_assert_eq(probe->partition_count, 0);
	hv_probe_free(probe);
	raw->bad_offset = UINT64_MAX;
	cr_assert_eq(hv_probe_readable(&raw->disk, &probe, &err), 0);
	cr_assert_not(probe->has_unreadable);
	done(raw, probe);
}

Test(probe, label_is_printed_without_control_characters)
{
	struct rawdisk *raw = rawdisk_new(64 * MIB);
	struct hv_probe *probe;

	rawdisk_put_ext4(raw, 0, "a\x1b[2J\nb");
	probe = probe_disk(raw);
	assert_described(probe, "an ext4 filesystem labelled 'a?[2J?b'");
	done(raw, probe);
}

Test(probe, long_lists_of_partitions_are_cut_in_the_description)
{
	struct hv_partition partitions[9] = { 0 };
	struct hv_probe probe = {
		.table = "gpt",
		.partition_count = 9,
		.partitions = partitions,
	};

	strcpy(partitions[0].content.type, "vfat");
	partitions[1].content.ambivalent = true;
	assert_described(&probe, "a gpt partition table with 9 partitions (vfat, ambiguous, "
				 "unknown, unknown, unknown, unknown, unknown, unknown, ...)");
	probe.partition_count = 1;
	assert_described(&probe, "a gpt partition table with 1 partition (vfat)");
	probe.partition_count = 0;
	assert_described(&probe, "a gpt partition table with no partitions");
}

Test(probe, signature_and_table_are_both_described)
{
	struct hv_probe probe = { .table = "dos", .whole = { .type = "iso9660" } };

	strcpy(probe.whole.usage, "filesystem");
	assert_described(&probe, "an iso9660 filesystem and a dos partition table with no "
				 "partitions");
}

Test(probe, freeing_nothing_is_safe)
{
	hv_probe_free(NULL);
}

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void start_random(void)
{
	const char *text = getenv("HVKIT_SEED");

	if (text)
		state = strtoull(text, NULL, 0);
	else
		cr_assert_eq(getrandom(&state, sizeof(state), 0), (ssize_t)sizeof(state));
	state |= 1;
	fprintf(stderr, "HVKIT_SEED=%" PRIu64 "\n", state);
}

/* Random bytes in places that something points to. */
static void damage(struct rawdisk *raw)
{
	static const uint64_t places[] = { 0, 11, 13, 40, 48, 64, 446, 512, 1024, 1080 };

	for (int i = 0; i < 6; i++) {
		uint64_t at = places[next_random() % 10] + next_random() % 64;

		rawdisk_put_le(raw, at + (next_random() & 1 ? 0 : 2048 * 512), 8, next_random());
	}
}

Test(probe, damaged_disks_are_survived, .timeout = 120)
{
	static const struct rawdisk_gpt_entry entries[] = { { 2048, 40000, "system" } };

	start_random();
	for (int round = 0; round < 300; round++) {
		struct rawdisk *raw = rawdisk_new(64 * MIB);

		if (round % 3 == 0)
			rawdisk_put_gpt(raw, entries, 1);
		else
			rawdisk_put_entry(raw, 0, round % 4, round & 1 ? 0x05 : 0x83, 2048, 65536);
		rawdisk_put_ntfs(raw, round & 4 ? 2048 * 512 : 0, 8 * MIB);
		damage(raw);
		rawdisk_put(raw, 510, "\x55\xaa", 2);
		rawdisk_put(raw, 2048 * 512 + 510, "\x55\xaa", 2);
		done(raw, probe_disk(raw));
	}
}
