/*
 * What libblkid looks at, copied from a disk to a memfd. Most signatures lie near the start or the
 * end of a volume. Three things lie elsewhere, and are followed here with every number bounded:
 * the chain of extended boot records of an MBR disk, the partitions of an MBR that may hold
 * another table, and the pointers of NTFS, FAT32 and exFAT boot sectors to what libblkid reads
 * next (it takes no volume for NTFS whose master file table it cannot read).
 */
#include "hvcore/probe_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hvcore/checked.h"
#include "hvcore/scan.h"

#define BUFFER_BYTES (256u << 10)
#define BUFFER_ALIGN 4096

/* The second header of LUKS2 may begin as late as 4 MiB; ZFS and RAID labels end a volume. */
#define HEAD_BYTES ((4u << 20) + (64u << 10))
#define TAIL_BYTES (2u << 20)

/* Tables inside an MBR partition (BSD, Solaris, Minix, UnixWare) lie in its first 16 KiB. */
#define NESTED_BYTES (32u << 10)

#define MAX_EXTENDED_RECORDS 256
#define MAX_FOLLOWED_BYTES (1u << 20)

#define MBR_ENTRIES 4
#define MBR_ENTRY_OFFSET 446
#define MBR_ENTRY_SIZE 16
#define MBR_SIGNATURE_OFFSET 510

struct mbr_entry {
	uint8_t type;
	uint32_t start, count; /* sectors */
};

static uint64_t get_le(const uint8_t *p, size_t length)
{
	uint64_t value = 0;

	while (length--)
		value = value << 8 | p[length];
	return value;
}

int hv_probe_copy_open(struct hv_probe_copy *copy, struct hv_disk *disk, struct hv_err *err)
{
	copy->disk = disk;
	copy->fd = memfd_create("hvkit-probe", MFD_CLOEXEC);
	copy->buffer = aligned_alloc(BUFFER_ALIGN, BUFFER_BYTES);
	if (!copy->buffer)
		return hv_fail_errno(err, -ENOMEM, "%s: cannot look for signatures", disk->path);
	if (copy->fd < 0)
		return hv_fail_errno(err, -errno, "%s: cannot make a file in memory", disk->path);
	if (disk->size_bytes > INT64_MAX)
		return hv_fail(err, -EOVERFLOW, "%s: the disk is too large to look for signatures",
			       disk->path);
	if (ftruncate(copy->fd, (off_t)disk->size_bytes) < 0)
		return hv_fail_errno(err, -errno, "%s: cannot size a file in memory", disk->path);
	return 0;
}

void hv_probe_copy_close(struct hv_probe_copy *copy)
{
	if (copy->fd >= 0)
		close(copy->fd);
	free(copy->buffer);
	*copy = (struct hv_probe_copy){ .fd = -1 };
}

static int write_out(struct hv_probe_copy *copy, const uint8_t *data, uint64_t length,
		     uint64_t offset, struct hv_err *err)
{
	while (length) {
		ssize_t n = pwrite(copy->fd, data, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return hv_fail_errno(err, n ? -errno : -EIO,
					     "%s: cannot copy to a file in memory",
					     copy->disk->path);
		data += n;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

/* Piece by piece, so that a bad sector costs no more than what is around it. */
static void read_what_can_be_read(struct hv_probe_copy *copy, uint64_t length, uint64_t offset)
{
	uint8_t *buffer = copy->buffer;

	for (uint64_t at = 0, part; at < length; at += part) {
		part = hv_min_u64(length - at, BUFFER_ALIGN);
		if (hv_disk_pread(copy->disk, buffer + at, part, offset + at, NULL) < 0)
			memset(buffer + at, 0, part);
	}
	copy->missed = true;
}

/* Into the buffer. */
static int read_disk(struct hv_probe_copy *copy, uint64_t length, uint64_t offset,
		     struct hv_err *err)
{
	int r = hv_disk_pread(copy->disk, copy->buffer, length, offset, copy->lenient ? NULL : err);

	if (r == 0 || !copy->lenient)
		return r;
	read_what_can_be_read(copy, length, offset);
	return 0;
}

static int copy_data(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
		     struct hv_err *err)
{
	while (length) {
		uint64_t part = hv_min_u64(length, BUFFER_BYTES);
		int r = read_disk(copy, part, offset, err);

		if (r == 0 && !hv_is_zero(copy->buffer, part))
			r = write_out(copy, copy->buffer, part, offset, err);
		if (r < 0)
			return r;
		offset += part;
		length -= part;
	}
	return 0;
}

/* Where even that is not known, reading tells. */
static int find_extent(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
		       struct hv_extent *ret, struct hv_err *err)
{
	int r = hv_disk_extent(copy->disk, offset, length, 0, ret, copy->lenient ? NULL : err);

	if (r == 0 || !copy->lenient)
		return r;
	*ret = (struct hv_extent){
		.offset = offset,
		.length = hv_min_u64(length, BUFFER_BYTES),
		.state = HV_EXTENT_DATA,
	};
	return 0;
}

/* Copies what of the range lies inside the disk, in whole sectors, and does not read as zero. */
static int copy_range(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
		      struct hv_err *err)
{
	uint64_t size = copy->disk->size_bytes, end;

	if (offset >= size)
		return 0;
	end = hv_min_u64(size,
			 hv_round_up(offset + hv_min_u64(length, size - offset), HV_SECTOR_SIZE));
	offset = hv_round_down(offset, HV_SECTOR_SIZE);
	while (offset < end) {
		struct hv_extent extent;
		int r = find_extent(copy, offset, end - offset, &extent, err);

		if (r == 0 && extent.state != HV_EXTENT_ZERO)
			r = copy_data(copy, offset, extent.length, err);
		if (r < 0)
			return r;
		offset += extent.length;
	}
	return 0;
}

static int copy_ends(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
		     struct hv_err *err)
{
	int r = copy_range(copy, offset, hv_min_u64(length, HEAD_BYTES), err);

	if (r < 0 || length <= HEAD_BYTES)
		return r;
	return copy_range(copy, offset + length - hv_min_u64(length - HEAD_BYTES, TAIL_BYTES),
			  hv_min_u64(length - HEAD_BYTES, TAIL_BYTES), err);
}

/* Where the master file table begins, and its first four records: the last names the volume. */
static bool follow_ntfs(const uint8_t *boot, uint64_t *offset, uint64_t *length)
{
	uint64_t cluster = get_le(boot + 11, 2) * boot[13];
	int8_t per_record = (int8_t)boot[64];
	uint64_t record;

	if (memcmp(boot + 3, "NTFS    ", 8) || per_record < -20)
		return false;
	record = per_record > 0 ? (uint64_t)per_record * cluster : UINT64_C(1) << -per_record;
	*length = 4 * record;
	return hv_mul_u64(get_le(boot + 48, 8), cluster, offset);
}

/* The first cluster of the root directory, which holds the label. */
static bool follow_fat32(const uint8_t *boot, uint64_t *offset, uint64_t *length)
{
	uint64_t sector = get_le(boot + 11, 2), root = get_le(boot + 44, 4);
	uint64_t data = get_le(boot + 14, 2) + boot[16] * get_le(boot + 36, 4);

	if (memcmp(boot + 82, "FAT32   ", 8) || root < 2)
		return false;
	*length = boot[13] * sector;
	*offset = (data + (root - 2) * boot[13]) * sector; /* less than 2^57 */
	return true;
}

static bool follow_exfat(const uint8_t *boot, uint64_t *offset, uint64_t *length)
{
	uint64_t heap = get_le(boot + 88, 4), root = get_le(boot + 96, 4);

	if (memcmp(boot + 3, "EXFAT   ", 8) || root < 2 || boot[108] > 12 || boot[109] > 16)
		return false;
	*length = UINT64_C(1) << (boot[108] + boot[109]);
	*offset = (heap + ((root - 2) << boot[109])) << boot[108]; /* less than 2^61 */
	return true;
}

/* Copies what the volume's boot sector points to. */
static int copy_followed(struct hv_probe_copy *copy, uint64_t start, uint64_t length,
			 struct hv_err *err)
{
	uint64_t offset, followed;
	const uint8_t *boot = copy->buffer;
	int r;

	if (length < HV_SECTOR_SIZE)
		return 0;
	r = read_disk(copy, HV_SECTOR_SIZE, start, err);
	if (r < 0)
		return r;
	if (!follow_ntfs(boot, &offset, &followed) && !follow_fat32(boot, &offset, &followed) &&
	    !follow_exfat(boot, &offset, &followed))
		return 0;
	if (offset >= length)
		return 0;
	followed = hv_min_u64(hv_min_u64(followed, MAX_FOLLOWED_BYTES), length - offset);
	return copy_range(copy, start + offset, followed, err);
}

static bool is_extended(const struct mbr_entry *entry)
{
	return entry->count && (entry->type == 0x05 || entry->type == 0x0f || entry->type == 0x85);
}

/* Reads the entries of the (extended) boot record at sector; 1, or 0 where there is none. */
static int read_entries(struct hv_probe_copy *copy, uint64_t sector,
			struct mbr_entry entries[MBR_ENTRIES], struct hv_err *err)
{
	const uint8_t *p = copy->buffer;
	int r;

	if (!hv_range_inside(sector * HV_SECTOR_SIZE, HV_SECTOR_SIZE, copy->disk->size_bytes))
		return 0;
	r = read_disk(copy, HV_SECTOR_SIZE, sector * HV_SECTOR_SIZE, err);
	if (r < 0)
		return r;
	if (p[MBR_SIGNATURE_OFFSET] != 0x55 || p[MBR_SIGNATURE_OFFSET + 1] != 0xaa)
		return 0;
	p += MBR_ENTRY_OFFSET;
	for (int i = 0; i < MBR_ENTRIES; i++, p += MBR_ENTRY_SIZE)
		entries[i] = (struct mbr_entry){
			.type = p[4],
			.start = (uint32_t)get_le(p + 8, 4),
			.count = (uint32_t)get_le(p + 12, 4),
		};
	return 1;
}

/* The chain begins at sector first, to which all its links are relative. It may be a ring. */
static int copy_extended_records(struct hv_probe_copy *copy, uint32_t first, struct hv_err *err)
{
	struct mbr_entry entries[MBR_ENTRIES];
	uint32_t sector = first;

	for (int hops = 0; hops < MAX_EXTENDED_RECORDS; hops++) {
		int r = read_entries(copy, sector, entries, err), i;

		if (r <= 0)
			return r;
		r = copy_range(copy, (uint64_t)sector * HV_SECTOR_SIZE, HV_SECTOR_SIZE, err);
		if (r < 0)
			return r;
		for (i = 0; i < MBR_ENTRIES && !is_extended(&entries[i]); i++)
			;
		if (i == MBR_ENTRIES)
			return 0;
		sector = first + entries[i].start; /* wraps, as it does in libblkid */
	}
	return 0;
}

static int copy_mbr_tables(struct hv_probe_copy *copy, struct hv_err *err)
{
	struct mbr_entry entries[MBR_ENTRIES];
	int r = read_entries(copy, 0, entries, err);

	if (r <= 0)
		return r;
	for (int i = 0; i < MBR_ENTRIES; i++) {
		if (is_extended(&entries[i]))
			r = copy_extended_records(copy, entries[i].start, err);
		else if (entries[i].count)
			r = copy_range(copy, (uint64_t)entries[i].start * HV_SECTOR_SIZE,
				       NESTED_BYTES, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int hv_probe_copy_whole(struct hv_probe_copy *copy, struct hv_err *err)
{
	uint64_t size = copy->disk->size_bytes;
	int r = copy_ends(copy, 0, size, err);

	if (r == 0)
		r = copy_followed(copy, 0, size, err);
	if (r == 0)
		r = copy_mbr_tables(copy, err);
	return r;
}

static int drop_all(struct hv_probe_copy *copy, struct hv_err *err)
{
	if (ftruncate(copy->fd, 0) < 0 || ftruncate(copy->fd, (off_t)copy->disk->size_bytes) < 0)
		return hv_fail_errno(err, -errno, "%s: cannot size a file in memory",
				     copy->disk->path);
	return 0;
}

int hv_probe_copy_partition(struct hv_probe_copy *copy, uint64_t offset, uint64_t length,
			    struct hv_err *err)
{
	int r = drop_all(copy, err);

	if (r == 0)
		r = copy_ends(copy, offset, length, err);
	if (r == 0)
		r = copy_followed(copy, offset, length, err);
	return r;
}
