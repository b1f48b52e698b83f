/*
 * The table of readers, as Debian 12 has them. Each is called so that it stays in the foreground
 * where it can (sandbox_filter.c takes care of the others), works with one thread, and says its
 * faults on standard error.
 *
 * fuse2fs may always write to its volume, because only then it replays a dirty journal; that lands
 * in an overlay, and whether the user may write is not decided by the reader. ntfs-3g does not
 * replay $LogFile.
 */
#include "fuse-mount/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/sandbox.h"

/* clang-format off */
#define EXT(name)								\
	{									\
		.type = (name), .program = "fuse2fs", .package = "fuse2fs",	\
		.arguments = { "%v", "%m", "-f", "-s" },			\
		.write_arguments = { "%v", "%m", "-f", "-s" }, .owners = true	\
	}, {									\
		.type = (name), .program = "fuse2fs", .package = "fuse2fs",	\
		.arguments = { "%v", "%m", "-f", "-s", "-o", "ro" }, .owners = true \
	}
#define GRUB(name)								\
	{									\
		.type = (name), .program = "grub-mount", .package = "grub-common",\
		.arguments = { "%v", "%m" }, .general = true			\
	}
/* clang-format on */

static const struct fm_reader readers[] = {
	EXT("ext4"),
	EXT("ext3"),
	EXT("ext2"),
	{
		.type = "ntfs",
		.program = "ntfs-3g",
		.package = "ntfs-3g",
		.arguments = { "%v", "%m", "-o", "ro,no_detach" },
		.write_arguments = { "%v", "%m", "-o", "no_detach" },
	},
	GRUB("vfat"),
	{
		.type = "exfat",
		.program = "mount.exfat-fuse",
		.package = "exfat-fuse",
		.arguments = { "-o", "ro", "%v", "%m" },
		.write_arguments = { "%v", "%m" },
	},
	{
		.type = "squashfs",
		.program = "squashfuse",
		.package = "squashfuse",
		.arguments = { "-f", "-s", "%v", "%m" },
		.owners = true,
	},
	{
		.type = "iso9660",
		.program = "fuseiso",
		.package = "fuseiso",
		.arguments = { "-n", "%v", "%m", "-f", "-s" },
	},
	GRUB("ext4"),
	GRUB("ext3"),
	GRUB("ext2"),
	GRUB("ntfs"),
	GRUB("exfat"),
	GRUB("squashfs"),
	GRUB("iso9660"),
	GRUB("xfs"),
	GRUB("btrfs"),
	GRUB("udf"),
	GRUB("hfsplus"),
	GRUB("hfs"),
	GRUB("jfs"),
	GRUB("reiserfs"),
	GRUB("f2fs"),
	GRUB("ufs"),
	GRUB("minix"),
};

#define COUNT (sizeof(readers) / sizeof(*readers))

const struct fm_reader *fm_reader_next(const char *type, const struct fm_reader *previous)
{
	for (size_t i = previous ? (size_t)(previous - readers) + 1 : 0; i < COUNT; i++)
		if (strcmp(readers[i].type, type) == 0)
			return &readers[i];
	return NULL;
}

char *fm_reader_program(const struct fm_reader *reader)
{
	static const char *const folders[] = { "/usr/bin", "/bin", "/usr/sbin", "/sbin", NULL };
	char *path;

	for (int i = 0; folders[i]; i++) {
		if (asprintf(&path, "%s/%s", folders[i], reader->program) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* The best that is installed; NULL: none. */
static const struct fm_reader *installed(const char *type)
{
	const struct fm_reader *reader = NULL;
	char *program = NULL;

	while (!program && (reader = fm_reader_next(type, reader)))
		program = fm_reader_program(reader);
	free(program);
	return reader;
}

bool fm_reader_own(const char *type)
{
	const struct fm_reader *reader = installed(type);

	return reader && !reader->general;
}

char *fm_reader_objection(const char *type)
{
	const struct fm_reader *best = fm_reader_next(type, NULL);
	char *sentence = NULL;
	int length = 0;

	if (!best)
		length = asprintf(&sentence,
				  "no program that reads %s is known; as root, --kernel mounts it",
				  type);
	else if (!installed(type))
		length = asprintf(&sentence, "%s is read by %s: install the package %s", type,
				  best->program, best->package);
	else if (!hv_sandbox_possible())
		length = asprintf(&sentence,
				  "this kernel cannot confine %s (seccomp user notification)",
				  best->program);
	return length < 0 ? NULL : sentence;
}
