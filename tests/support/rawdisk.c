/*
 * Raw disks in raw with partition tables and superblocks.
 */
#include "tests/support/rawdisk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/loop.h"
#include "tests/support/must.h"

#define MIB (UINT64_C(1) << 20)
#define GRAIN (UINT64_C(64) << 10)
#define GPT_HEADER_BYTES 92
#define GPT_ENTRIES 128
#define GPT_ENTRY_BYTES 128

static bool is_put(const struct rawdisk *raw, uint64_t offset)
{
	return offset < raw->data_bytes && raw->put[offset / GRAIN];
}

static void raw_submit(struct hv_disk *disk, struct hv_io *io)
{
	struct rawdisk *raw = (struct rawdisk *)disk;

	must(io->op == HV_READ, "%s of a read-only disk", hv_io_verb(io->op));
	must(io->iov_count == 1, "%d buffers", io->iov_count);
	if (raw->bad_offset - io->offset < io->length) {
		hv_io_fail(disk, io, -EIO, "%s: bad sector", disk->path);
		return;
	}
	hv_io_fill_zero(io, 0, io->length);
	if (io->offset < raw->data_bytes)
		memcpy(io->iov->iov_base, raw->data + io->offset,
		       io->length < raw->data_bytes - io->offset ? io->length :
								   raw->data_bytes - io->offset);
	raw->bytes_read += io->length;
	if (!is_put(raw, io->offset))
		raw->zeros_read += io->length;
	hv_loop_finish(disk->loop, io, 0);
}

static int raw_extent(struct hv_disk *disk, uint64_t offset, uint64_t length, unsigned flags,
		      struct hv_extent *ret, struct hv_err *err)
{
	struct rawdisk *raw = (struct rawdisk *)disk;
	uint64_t end = (offset / GRAIN + 1) * GRAIN;

	(void)flags;
	(void)err;
	if (offset >= raw->data_bytes)
		end = offset + length;
	*ret = (struct hv_extent){
		.offset = offset,
		.length = end - offset < length ? end - offset : length,
		.state = is_put(raw, offset) ? HV_EXTENT_DATA : HV_EXTENT_ZERO,
		.host_offset = HV_NO_HOST_OFFSET,
	};
	return 0;
}

static void raw_close(struct hv_disk *disk)
{
	struct rawdisk *raw = (struct rawdisk *)disk;

	hv_loop_free(disk->loop);
	free(raw->data);
	free(raw->put);
	free(raw);
}

static const struct hv_disk_ops raw_ops = {
	.format = "raw",
	.submit = raw_submit,
	.extent = raw_extent,
	.close = raw_close,
};

struct rawdisk *rawdisk_new(uint64_t size_bytes)
{
	struct rawdisk *raw = calloc(1, sizeof(*raw));

	must(raw, "no memory");
	raw->data_bytes = size_bytes < 512 * MIB ? size_bytes : 512 * MIB;
	raw->data = calloc(1, raw->data_bytes + 1);
	raw->put = calloc(1, raw->data_bytes / GRAIN + 1);
	raw->bad_offset = UINT64_MAX;
	must(raw->data && raw->put, "no memory");
	raw->disk = (struct hv_disk){
		.ops = &raw_ops,
		.path = "memory",
		.size_bytes = size_bytes,
	};
	must(hv_loop_new(&raw->disk.loop, NULL) == 0, "no loop");
	return raw;
}

void rawdisk_put(struct rawdisk *raw, uint64_t offset, const void *bytes, size_t length)
{
	must(offset + length <= raw->data_bytes, "beyond the disk");
	memcpy(raw->data + offset, bytes, length);
	for (uint64_t i = offset / GRAIN; i <= (offset + length - 1) / GRAIN; i++)
		raw->put[i] = 1;
}

void rawdisk_put_le(struct rawdisk *raw, uint64_t offset, size_t length, uint64_t value)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < length; i++, value >>= 8)
		bytes[i] = (uint8_t)value;
	rawdisk_put(raw, offset, bytes, length);
}

void rawdisk_put_swap(struct rawdisk *raw, uint64_t start)
{
	rawdisk_put_le(raw, start + 1024, 4, 1);
	rawdisk_put_le(raw, start + 1028, 4, 100);
	rawdisk_put(raw, start + 4086, "SWAPSPACE2", 10);
}

void rawdisk_put_ext4(struct rawdisk *raw, uint64_t start, const char *label)
{
	rawdisk_put_le(raw, start + 1024 + 56, 2, 0xef53);
	rawdisk_put_le(raw, start + 1024 + 76, 4, 1);
	rawdisk_put_le(raw, start + 1024 + 92, 4, 0x4);
	rawdisk_put_le(raw, start + 1024 + 96, 4, 0x40);
	rawdisk_put_le(raw, start + 1024 + 104, 8, UINT64_C(0x8877665544332211));
	rawdisk_put(raw, start + 1024 + 120, label, strlen(label));
}

void rawdisk_put_iso9660(struct rawdisk *raw, uint64_t start, const char *label)
{
	rawdisk_put(raw, start + 32768, "\1CD001\1", 7);
	rawdisk_put(raw, start + 32768 + 40, label, strlen(label));
	rawdisk_put(raw, start + 34816, "\377CD001\1", 7);
}

void rawdisk_put_luks(struct rawdisk *raw, uint64_t start)
{
	rawdisk_put(raw, start, "LUKS\xba\xbe\0\1", 8);
	rawdisk_put(raw, start + 168, "01234567-89ab-cdef-0123-456789abcdef", 36);
}

void rawdisk_put_ntfs(struct rawdisk *raw, uint64_t start, uint64_t mft)
{
	uint64_t record = start + mft + 3 * 1024;

	rawdisk_put(raw, start, "\xeb\x52\x90NTFS    ", 11);
	rawdisk_put_le(raw, start + 11, 2, 512);
	rawdisk_put_le(raw, start + 13, 1, 8);
	rawdisk_put_le(raw, start + 40, 8, UINT64_C(1) << 40);
	rawdisk_put_le(raw, start + 48, 8, mft / 4096);
	rawdisk_put_le(raw, start + 56, 8, 2);
	rawdisk_put_le(raw, start + 64, 1, 0xf6);
	rawdisk_put_le(raw, start + 72, 8, UINT64_C(0x1122334455667788));
	rawdisk_put(raw, start + 510, "\x55\xaa", 2);
	rawdisk_put(raw, start + mft, "FILE", 4);
	rawdisk_put(raw, record, "FILE", 4);
	rawdisk_put_le(raw, record + 20, 2, 56);
	rawdisk_put_le(raw, record + 24, 4, 200);
	rawdisk_put_le(raw, record + 28, 4, 1024);
	rawdisk_put_le(raw, record + 56, 4, 0x60);
	rawdisk_put_le(raw, record + 60, 4, 32);
	rawdisk_put_le(raw, record + 56 + 16, 4, 8);
	rawdisk_put_le(raw, record + 56 + 20, 2, 24);
	rawdisk_put(raw, record + 56 + 24, "D\0a\0t\0a\0", 8);
}

void rawdisk_put_raid(struct rawdisk *raw, uint64_t start, uint64_t length)
{
	uint64_t at = start + (length & ~UINT64_C(0xffff)) - 0x10000;

	rawdisk_put_le(raw, at, 4, 0xa92b4efc);
	rawdisk_put_le(raw, at + 8, 4, 90);
	rawdisk_put_le(raw, at + 20, 4, 0x12345678);
}

void rawdisk_put_entry(struct rawdisk *raw, uint32_t sector, int index, uint8_t type,
		       uint32_t start, uint32_t count)
{
	uint64_t record = (uint64_t)sector * 512;

	rawdisk_put(raw, record + 510, "\x55\xaa", 2);
	rawdisk_put_le(raw, record + 446 + (unsigned)index * 16 + 4, 1, type);
	rawdisk_put_le(raw, record + 446 + (unsigned)index * 16 + 8, 4, start);
	rawdisk_put_le(raw, record + 446 + (unsigned)index * 16 + 12, 4, count);
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

static void put_gpt_header(struct rawdisk *raw, uint64_t sector, uint64_t other, uint64_t entries)
{
	uint64_t at = sector * 512, sectors = raw->disk.size_bytes / 512;

	rawdisk_put(raw, at, "EFI PART", 8);
	rawdisk_put_le(raw, at + 8, 4, 0x10000);
	rawdisk_put_le(raw, at + 12, 4, GPT_HEADER_BYTES);
	rawdisk_put_le(raw, at + 24, 8, sector);
	rawdisk_put_le(raw, at + 32, 8, other);
	rawdisk_put_le(raw, at + 40, 8, 34);
	rawdisk_put_le(raw, at + 48, 8, sectors - 34);
	rawdisk_put_le(raw, at + 56, 8, 0xabcd);
	rawdisk_put_le(raw, at + 72, 8, entries);
	rawdisk_put_le(raw, at + 80, 4, GPT_ENTRIES);
	rawdisk_put_le(raw, at + 84, 4, GPT_ENTRY_BYTES);
	rawdisk_put_le(raw, at + 88, 4,
		       crc32(raw->data + entries * 512, GPT_ENTRIES * GPT_ENTRY_BYTES));
	rawdisk_put_le(raw, at + 16, 4, crc32(raw->data + at, GPT_HEADER_BYTES));
}

static void put_gpt_entry(struct rawdisk *raw, uint64_t at, unsigned index,
			  const struct rawdisk_gpt_entry *entry)
{
	rawdisk_put_le(raw, at, 8, UINT64_C(0x477284830fc63daf) ^ (index > 0));
	rawdisk_put_le(raw, at + 8, 8, UINT64_C(0xe47d47d8693d798e));
	rawdisk_put_le(raw, at + 16, 8, 0x1000 + index);
	rawdisk_put_le(raw, at + 32, 8, entry->first);
	rawdisk_put_le(raw, at + 40, 8, entry->last);
	for (size_t j = 0; entry->name[j]; j++)
		rawdisk_put_le(raw, at + 56 + 2 * j, 2, (uint8_t)entry->name[j]);
}

void rawdisk_put_gpt(struct rawdisk *raw, const struct rawdisk_gpt_entry *entries, unsigned count)
{
	uint64_t sectors = raw->disk.size_bytes / 512;

	rawdisk_put_entry(raw, 0, 0, 0xee, 1, (uint32_t)sectors - 1);
	for (unsigned i = 0; i < count; i++) {
		put_gpt_entry(raw, 1024 + i * GPT_ENTRY_BYTES, i, &entries[i]);
		put_gpt_entry(raw, (sectors - 33) * 512 + i * GPT_ENTRY_BYTES, i, &entries[i]);
	}
	put_gpt_header(raw, 1, sectors - 1, 2);
	put_gpt_header(raw, sectors - 1, 1, sectors - 33);
}
