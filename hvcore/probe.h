/*
 * What libblkid finds on a disk: filesystem, RAID, LVM and crypto signatures, the partition table,
 * and the signature inside each partition. Works on any struct hv_disk: the parts that libblkid
 * looks at are copied into an unlinked sparse file first.
 */
#ifndef HVCORE_PROBE_H
#define HVCORE_PROBE_H

#include "hvcore/disk.h"

#define HV_PROBE_PARTITIONS 256

struct hv_signature {
	char type[32];  /* "ext4", "ntfs", "LVM2_member", ...; empty: nothing found */
	char usage[16]; /* "filesystem", "raid", "crypto", "other" */
	char label[128];
	char uuid[64];
	bool ambivalent;  /* several signatures, or a damaged one: type is empty */
	char several[96]; /* then: their types, as far as they can be told: "ext4, swap" */
};

struct hv_partition {
	unsigned number;
	uint64_t offset, length; /* bytes; inside the disk */
	bool cut;                /* the table has it reach past the end of the disk */
	bool container;          /* an extended partition: a table, which has been read */
	char name[128];          /* GPT name */
	char type[64];           /* GPT type GUID or MBR type as "0x83" */
	char uuid[64];
	struct hv_signature content;
};

struct hv_probe {
	struct hv_signature whole; /* on the bare disk */
	char table[16];            /* "gpt", "dos", "PMBR" (a GPT is gone), ...; empty: none */
	char table_uuid[64];
	unsigned partition_count; /* at most HV_PROBE_PARTITIONS */
	bool has_more_partitions; /* than are in the list */
	bool has_unreadable;      /* hv_probe_readable only */
	struct hv_partition *partitions;
};

/* 0 (also when nothing is found) or -errno with a sentence. */
int hv_probe_disk(struct hv_disk *disk, struct hv_probe **ret, struct hv_err *err);

/*
 * The same for who only looks: what cannot be read is taken for zero, and has_unreadable says so.
 * Whoever is about to overwrite something asks hv_probe_disk.
 */
int hv_probe_readable(struct hv_disk *disk, struct hv_probe **ret, struct hv_err *err);
void hv_probe_free(struct hv_probe *probe);
HV_DEFINE_CLEANUP(struct hv_probe, hv_probe_free)

/*
 * One phrase naming what would be destroyed ("an ext4 filesystem labelled 'root'",
 * "a gpt partition table with 3 partitions (vfat, ext4, swap)"), malloc'ed; NULL when nothing was
 * found (or no memory is left).
 */
char *hv_probe_describe(const struct hv_probe *probe);

#endif
