/*
 * Signatures and partition tables on disks in memory. The superblocks are made by hand, with just
 * what libblkid asks for. HVKIT_SEED in the environment repeats a run with random bytes.
 */
#include "hvcore/probe.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "hvcore/loop.h"

#define MIB (UINT64_C(1) << 20)
#define GRAIN (UINT64_C(64) << 10)

/* A disk whose first data_bytes are in memory; what was never put there is an extent of zeros. */
struct memory_disk {
	struct hv_disk disk;
	uint8_t *data, *put; /* put: one byte per GRAIN */
	uint64_t data_bytes;
	uint64_t bytes_read, zeros_read;
	uint64_t bad_offset; /* reading here fails; UINT64_MAX: nowhere */
};

static bool is_put(const struct memory_disk *memory, uint64_t offset)
{
	return offset < memory->data_bytes && memory->put[offset / GRAIN];
}

static void memory_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct memory_disk *memory = (struct memory_disk *)disk;

	cr_assert_eq(io->op, HV_READ);
	cr_assert_eq(io->iov_count, 1);
	if (memory->bad_offset - io->offset < io->length) {
		hv_io_fail(disk, io, -EIO, "%s: bad sector", disk->path);
		return;
	}
	hv_io_fill_zero(io, 0, io->length);
	if (io->offset < memory->data_bytes)
		memcpy(io->iov->iov_base, memory->data + io->offset,
		       io->length < memory->data_bytes - io->offset ?
			       io->length :
			       memory->data_bytes - io->offset);
	memory->bytes_read += io->length;
	if (!is_put(memory, io->offset))
		memory->zeros_read += io->length;
	hv_loop_finish(disk->loop, io, 0);
}

static int memory_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
			 struct hv_extent *ret, struct hv_err *err)
{
	struct memory_disk *memory = (struct memory_disk *)disk;
	uint64_t end = (offset / GRAIN + 1) * GRAIN;

	(void)flags;
	(void)err;
	if (offset >= memory->data_bytes)
		end = offset + length;
	*ret = (struct hv_extent){
		.offset = offset,
		.length = end - offset < length ? end - offset : length,
		.state = is_put(memory, offset) ? HV_EXTENT_DATA : HV_EXTENT_ZERO,
		.host_offset = HV_NO_HOST_OFFSET,
	};
	return 0;
}

static void memory_close(struct hv_disk *disk)
{
	struct memory_disk *memory = (struct memory_disk *)disk;

	hv_loop_free(disk->loop);
	free(memory->data);
	free(memory->put);
	free(memory);
}

static const struct hv_disk_ops memory_ops = {
	.format = "raw",
	.submit = memory_submit,
	.extent = memory_extent,
	.close = memory_close,
};

static struct memory_disk *new_disk(uint64_t size_bytes)
{
	struct memory_disk *memory = calloc(1, sizeof(*memory));

	cr_assert(memory);
	memory->data_bytes = size_bytes < 512 * MIB ? size_bytes : 512 * MIB;
	memory->data = calloc(1, memory->data_bytes + 1);
	memory->put = calloc(1, memory->data_bytes / GRAIN + 1);
	memory->bad_offset = UINT64_MAX;
	cr_assert(memory->data && memory->put);
	memory->disk = (struct hv_disk){
		.ops = &memory_ops,
		.path = "memory",
		.size_bytes = size_bytes,
	};
	cr_assert_eq(hv_loop_new(&memory->disk.loop, NULL), 0);
	return memory;
}

static void put(struct memory_disk *memory, uint64_t offset, const void *bytes, size_t length)
{
	cr_assert(offset + length <= memory->data_bytes);
	memcpy(memory->data + offset, bytes, length);
	for (uint64_t i = offset / GRAIN; i <= (offset + length - 1) / GRAIN; i++)
		memory->put[i] = 1;
}

static void put_le(struct memory_disk *memory, uint64_t offset, size_t length, uint64_t value)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < length; i++, value >>= 8)
		bytes[i] = (uint8_t)value;
	put(memory, offset, bytes, length);
}

static void put_swap(struct memory_disk *memory, uint64_t start)
{
	put_le(memory, start + 1024, 4, 1);
	put_le(memory, start + 1028, 4, 100);
	put(memory, start + 4086, "SWAPSPACE2", 10);
}

static void put_ext4(struct memory_disk *memory, uint64_t start, const char *label)
{
	put_le(memory, start + 1024 + 56, 2, 0xef53);
	put_le(memory, start + 1024 + 76, 4, 1);
	put_le(memory, start + 1024 + 92, 4, 0x4);
	put_le(memory, start + 1024 + 96, 4, 0x40);
	put_le(memory, start + 1024 + 104, 8, UINT64_C(0x8877665544332211));
	put(memory, start + 1024 + 120, label, strlen(label));
}

/* A volume of 4 KiB clusters called "Data", with its master file table anywhere. */
static void put_ntfs(struct memory_disk *memory, uint64_t start, uint64_t mft)
{
	uint64_t record = start + mft + 3 * 1024;

	put(memory, start, "\xeb\x52\x90NTFS    ", 11);
	put_le(memory, start + 11, 2, 512);
	put_le(memory, start + 13, 1, 8);
	put_le(memory, start + 40, 8, UINT64_C(1) << 40);
	put_le(memory, start + 48, 8, mft / 4096);
	put_le(memory, start + 56, 8, 2);
	put_le(memory, start + 64, 1, 0xf6);
	put_le(memory, start + 72, 8, UINT64_C(0x1122334455667788));
	put(memory, start + 510, "\x55\xaa", 2);
	put(memory, start + mft, "FILE", 4);
	put(memory, record, "FILE", 4);
	put_le(memory, record + 20, 2, 56);
	put_le(memory, record + 24, 4, 200);
	put_le(memory, record + 28, 4, 1024);
	put_le(memory, record + 56, 4, 0x60);
	put_le(memory, record + 60, 4, 32);
	put_le(memory, record + 56 + 16, 4, 8);
	put_le(memory, record + 56 + 20, 2, 24);
	put(memory, record + 56 + 24, "D\0a\0t\0a\0", 8);
}

/* RAID metadata of version 0.90, in the last 64 KiB. */
static void put_raid(struct memory_disk *memory, uint64_t start, uint64_t length)
{
	uint64_t at = start + (length & ~UINT64_C(0xffff)) - 0x10000;

	put_le(memory, at, 4, 0xa92b4efc);
	put_le(memory, at + 8, 4, 90);
	put_le(memory, at + 20, 4, 0x12345678);
}

/* Entry of the (extended) boot record in this sector; numbers are sectors. */
static void put_entry(struct memory_disk *memory, uint32_t sector, int index, uint8_t type,
		      uint32_t start, uint32_t count)
{
	uint64_t record = (uint64_t)sector * 512;

	put(memory, record + 510, "\x55\xaa", 2);
	put_le(memory, record + 446 + (unsigned)index * 16 + 4, 1, type);
	put_le(memory, record + 446 + (unsigned)index * 16 + 8, 4, start);
	put_le(memory, record + 446 + (unsigned)index * 16 + 12, 4, count);
}

static uint32_t crc32(const uint8_t *data, size_t length)
{
	uint32_t crc = UINT32_MAX;

	while (length--) {
		crc ^= *data++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

struct gpt_entry {
	uint64_t first, last; /* sectors */
	const char *name;
};

static void put_gpt(struct memory_disk *memory, const struct gpt_entry *entries, unsigned count)
{
	uint64_t sectors = memory->disk.size_bytes / 512;

	put_entry(memory, 0, 0, 0xee, 1, (uint32_t)sectors - 1);
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = 1024 + i * 128;

		put_le(memory, at, 8, UINT64_C(0x477284830fc63daf) ^ (i > 0));
		put_le(memory, at + 8, 8, UINT64_C(0xe47d47d8693d798e));
		put_le(memory, at + 16, 8, 0x1000 + i);
		put_le(memory, at + 32, 8, entries[i].first);
		put_le(memory, at + 40, 8, entries[i].last);
		for (size_t j = 0; entries[i].name[j]; j++)
			put_le(memory, at + 56 + 2 * j, 2, (uint8_t)entries[i].name[j]);
	}
	put(memory, 512, "EFI PART", 8);
	put_le(memory, 512 + 8, 4, 0x10000);
	put_le(memory, 512 + 12, 4, 92);
	put_le(memory, 512 + 24, 8, 1);
	put_le(memory, 512 + 32, 8, sectors - 1);
	put_le(memory, 512 + 40, 8, 34);
	put_le(memory, 512 + 48, 8, sectors - 34);
	put_le(memory, 512 + 56, 8, 0xabcd);
	put_le(memory, 512 + 72, 8, 2);
	put_le(memory, 512 + 80, 4, 128);
	put_le(memory, 512 + 84, 4, 128);
	put_le(memory, 512 + 88, 4, crc32(memory->data + 1024, 128 * 128));
	put_le(memory, 512 + 16, 4, crc32(memory->data + 512, 92));
}

static struct hv_probe *probe_disk(struct memory_disk *memory)
{
	struct hv_probe *probe = NULL;
	HV_ERR(err);

	cr_assert_eq(hv_probe_disk(&memory->disk, &probe, &err), 0, "%s", err.sentence);
	cr_assert(probe);
	return probe;
}

static void done(struct memory_disk *memory, struct hv_probe *probe)
{
	hv_probe_free(probe);
	hv_disk_close(&memory->disk);
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
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe = probe_disk(memory);

	cr_assert_str_eq(probe->whole.type, "");
	cr_assert_not(probe->whole.ambivalent);
	cr_assert_str_eq(probe->table, "");
	cr_assert_eq(probe->partition_count, 0);
	cr_assert_null(hv_probe_describe(probe));
	done(memory, probe);
}

Test(probe, tiny_disks_are_survived)
{
	for (uint64_t sectors = 0; sectors < 20; sectors++) {
		struct memory_disk *memory = new_disk(sectors * 512);
		struct hv_probe *probe;

		if (sectors)
			put_entry(memory, 0, 0, 0x83, 1, 100);
		probe = probe_disk(memory);
		cr_assert_str_eq(probe->whole.type, "");
		done(memory, probe);
	}
}

Test(probe, filesystem_on_the_bare_disk_is_found)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_ext4(memory, 0, "root");
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.type, "ext4");
	cr_assert_str_eq(probe->whole.usage, "filesystem");
	cr_assert_str_eq(probe->whole.label, "root");
	cr_assert_str_eq(probe->whole.uuid, "11223344-5566-7788-0000-000000000000");
	cr_assert_str_eq(probe->table, "");
	assert_described(probe, "an ext4 filesystem labelled 'root'");
	done(memory, probe);
}

Test(probe, swap_is_a_signature)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_swap(memory, 0);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.type, "swap");
	cr_assert_str_eq(probe->whole.usage, "other");
	assert_described(probe, "a swap signature");
	done(memory, probe);
}

Test(probe, signature_at_the_end_of_the_disk_is_found)
{
	struct memory_disk *memory = new_disk(64 * MIB + 512 * 7);
	struct hv_probe *probe;

	put_raid(memory, 0, memory->disk.size_bytes);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.type, "linux_raid_member");
	cr_assert_str_eq(probe->whole.usage, "raid");
	done(memory, probe);
}

Test(probe, ntfs_is_found_though_its_file_table_is_far_away)
{
	struct memory_disk *memory = new_disk(256 * MIB);
	struct hv_probe *probe;

	put_ntfs(memory, 0, 100 * MIB);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.type, "ntfs");
	cr_assert_str_eq(probe->whole.label, "Data");
	cr_assert_str_eq(probe->whole.uuid, "1122334455667788");
	assert_described(probe, "an ntfs filesystem labelled 'Data'");
	done(memory, probe);
}

Test(probe, ntfs_whose_file_table_lies_outside_is_survived)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_ntfs(memory, 0, 8 * MIB);
	put_le(memory, 48, 8, UINT64_MAX / 2);
	put_le(memory, 40, 8, UINT64_MAX);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.type, "");
	done(memory, probe);
}

Test(probe, several_signatures_are_ambivalent)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_ext4(memory, 0, "root");
	put_swap(memory, 0);
	probe = probe_disk(memory);
	cr_assert(probe->whole.ambivalent);
	cr_assert_str_eq(probe->whole.type, "");
	assert_described(probe, "several conflicting signatures");
	done(memory, probe);
}

Test(probe, partitions_of_an_mbr_and_their_contents_are_found)
{
	struct memory_disk *memory = new_disk(128 * MIB);
	struct hv_probe *probe;

	put_le(memory, 440, 4, 0xdeadbeef);
	put_entry(memory, 0, 0, 0x83, 2048, 65536);
	put_entry(memory, 0, 2, 0x82, 100000, 20000);
	put_ext4(memory, 2048 * 512, "root");
	put_swap(memory, 100000 * 512);
	probe = probe_disk(memory);
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
	done(memory, probe);
}

Test(probe, signature_at_the_end_of_a_partition_is_found)
{
	struct memory_disk *memory = new_disk(128 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0xfd, 2048, 65536);
	put_raid(memory, 2048 * 512, 65536 * 512);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->partitions[0].content.type, "linux_raid_member");
	done(memory, probe);
}

Test(probe, ntfs_inside_a_partition_is_found)
{
	struct memory_disk *memory = new_disk(256 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0x07, 2048, 450000);
	put_ntfs(memory, 2048 * 512, 100 * MIB);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->partitions[0].content.type, "ntfs");
	cr_assert_str_eq(probe->partitions[0].content.label, "Data");
	done(memory, probe);
}

/* The links lie where neither the head nor the tail of the disk is copied. */
Test(probe, logical_partitions_are_found_along_the_chain)
{
	struct memory_disk *memory = new_disk(400 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0x05, 100000, 600000);
	put_entry(memory, 100000, 0, 0x83, 64, 1000);
	put_entry(memory, 100000, 1, 0x05, 200000, 10000);
	put_entry(memory, 300000, 0, 0x83, 64, 2000);
	put_entry(memory, 300000, 1, 0x05, 400000, 10000);
	put_entry(memory, 500000, 0, 0x82, 64, 3000);
	put_swap(memory, UINT64_C(500064) * 512);
	probe = probe_disk(memory);
	cr_assert_eq(probe->partition_count, 4);
	cr_assert_str_eq(probe->partitions[0].type, "0x05");
	cr_assert_eq(probe->partitions[1].number, 5);
	cr_assert_eq(probe->partitions[2].offset, UINT64_C(300064) * 512);
	cr_assert_eq(probe->partitions[3].number, 7);
	cr_assert_eq(probe->partitions[3].offset, UINT64_C(500064) * 512);
	cr_assert_str_eq(probe->partitions[3].content.type, "swap");
	done(memory, probe);
}

Test(probe, chain_of_boot_records_may_be_a_ring, .timeout = 20)
{
	struct memory_disk *memory = new_disk(128 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0x05, 10000, 200000);
	put_entry(memory, 10000, 0, 0x83, 64, 1000);
	put_entry(memory, 10000, 1, 0x05, 50000, 1000);
	put_entry(memory, 60000, 0, 0x83, 64, 1000);
	put_entry(memory, 60000, 1, 0x05, 0, 1000);
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->table, "dos");
	cr_assert_leq(probe->partition_count, 256);
	done(memory, probe);
}

Test(probe, partition_that_leaves_the_disk_is_clamped)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0x83, 2048, UINT32_MAX);
	put_entry(memory, 0, 1, 0x83, UINT32_MAX, UINT32_MAX);
	put_swap(memory, 2048 * 512);
	probe = probe_disk(memory);
	cr_assert_eq(probe->partition_count, 2);
	cr_assert_eq(probe->partitions[0].length, 63 * MIB);
	cr_assert_str_eq(probe->partitions[0].content.type, "swap");
	cr_assert_eq(probe->partitions[1].offset, 64 * MIB);
	cr_assert_eq(probe->partitions[1].length, 0);
	cr_assert_str_eq(probe->partitions[1].content.type, "");
	done(memory, probe);
}

Test(probe, gpt_partitions_have_names_types_and_contents)
{
	static const struct gpt_entry entries[] = {
		{ 2048, 40000, "system" },
		{ 50000, 100000, "data" },
	};
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_gpt(memory, entries, 2);
	put_ext4(memory, 50000 * 512, "home");
	probe = probe_disk(memory);
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
	done(memory, probe);
}

Test(probe, what_reads_as_zero_is_not_read)
{
	struct memory_disk *memory = new_disk(128 * MIB);
	struct hv_probe *probe;

	put_entry(memory, 0, 0, 0x83, 4096, 65536);
	put_ext4(memory, 4096 * 512, "root");
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->partitions[0].content.type, "ext4");
	cr_assert_eq(memory->zeros_read, 0);
	cr_assert_lt(memory->bytes_read, MIB);
	done(memory, probe);
}

Test(probe, disk_of_four_exbibytes_is_probed_at_once)
{
	struct memory_disk *memory = new_disk(UINT64_C(1) << 62);
	struct hv_probe *probe;

	put_ext4(memory, 0, "vast");
	probe = probe_disk(memory);
	cr_assert_str_eq(probe->whole.label, "vast");
	done(memory, probe);
}

Test(probe, failing_read_is_an_error_with_a_sentence)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe = NULL;
	HV_ERR(err);

	put_ext4(memory, 0, "root");
	memory->bad_offset = 1024;
	cr_assert_eq(hv_probe_disk(&memory->disk, &probe, &err), -EIO);
	cr_assert_null(probe);
	cr_assert_str_eq(err.sentence, "memory: bad sector");
	done(memory, probe);
}

Test(probe, label_is_printed_without_control_characters)
{
	struct memory_disk *memory = new_disk(64 * MIB);
	struct hv_probe *probe;

	put_ext4(memory, 0, "a\x1b[2J\nb");
	probe = probe_disk(memory);
	assert_described(probe, "an ext4 filesystem labelled 'a?[2J?b'");
	done(memory, probe);
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
static void damage(struct memory_disk *memory)
{
	static const uint64_t places[] = { 0, 11, 13, 40, 48, 64, 446, 512, 1024, 1080 };

	for (int i = 0; i < 6; i++) {
		uint64_t at = places[next_random() % 10] + next_random() % 64;

		put_le(memory, at + (next_random() & 1 ? 0 : 2048 * 512), 8, next_random());
	}
}

Test(probe, damaged_disks_are_survived, .timeout = 120)
{
	static const struct gpt_entry entries[] = { { 2048, 40000, "system" } };

	start_random();
	for (int round = 0; round < 300; round++) {
		struct memory_disk *memory = new_disk(64 * MIB);

		if (round % 3 == 0)
			put_gpt(memory, entries, 1);
		else
			put_entry(memory, 0, round % 4, round & 1 ? 0x05 : 0x83, 2048, 65536);
		put_ntfs(memory, round & 4 ? 2048 * 512 : 0, 8 * MIB);
		damage(memory);
		put(memory, 510, "\x55\xaa", 2);
		put(memory, 2048 * 512 + 510, "\x55\xaa", 2);
		done(memory, probe_disk(memory));
	}
}
