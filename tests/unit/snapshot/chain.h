/*
 * What the tests of chains share. Every test works in a directory of its own, on disks of 64 KiB
 * whose first and last sectors carry a mark that tells them apart.
 */
#ifndef TESTS_UNIT_SNAPSHOT_CHAIN_H
#define TESTS_UNIT_SNAPSHOT_CHAIN_H

#include "snapshot/chain.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/workdir.h"
#include "tests/unit/must.h"

#define SIZE (64u << 10)
#define FOOTER_ORIGINAL 40
#define FOOTER_CURRENT 48
#define FOOTER_CHECKSUM 64
#define FOOTER_UUID 68
#define HEADER 512
#define HEADER_CHECKSUM 36
#define HEADER_PARENT_UUID 40

static char here[PATH_MAX];
static struct hv_loop *loop;

static inline void setup(void)
{
	HV_ERR(err);

	workdir_enter();
	cr_assert_not_null(getcwd(here, sizeof(here)));
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static inline void teardown(void)
{
	hv_loop_free(loop);
	workdir_leave();
}

/* Making disks. */

static inline void create(const char *path, const struct vhd_create_options *options)
{
	struct hv_file *file;
	HV_ERR(err);

	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	if (options->type == VHD_FIXED)
		must(hv_file_truncate(file, options->size_bytes, &err), &err);
	must(vhd_create(file, options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
}

static inline int open_chain(const char *path, unsigned flags, const char *parent,
			     struct hv_disk **ret, struct hv_err *err)
{
	struct snap_open_options options = { .flags = flags, .parent_path = parent };

	hv_err_clear(err);
	return snap_open(path, &options, loop, ret, err);
}

/* The disk's own file gets the mark: in its first and its last sector. */
static inline void mark(const char *path, char with)
{
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	memset(sector, with, sizeof(sector));
	must(open_chain(path, SNAP_OPEN_WRITE | SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
	must(hv_disk_pwrite(disk, sector, sizeof(sector), 0, &err), &err);
	must(hv_disk_pwrite(disk, sector, sizeof(sector), disk->size_bytes - sizeof(sector), &err),
	     &err);
	must(hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static inline void make_base(const char *path, char with)
{
	create(path, &(struct vhd_create_options){ .type = VHD_FIXED, .size_bytes = SIZE });
	mark(path, with);
}

enum { NAME = 1, RELATIVE = 2, ABSOLUTE = 4, URL = 8, ALL = 15 };

/* A child that records its parent in these forms only. */
static inline void make_child_with(const char *path, const char *parent_path, unsigned forms)
{
	struct vhd_create_options options = { 0 };
	struct snap_child_paths paths;
	struct hv_disk *parent;
	HV_ERR(err);

	must(open_chain(parent_path, SNAP_OPEN_NO_PARENTS, NULL, &parent, &err), &err);
	must(snap_describe_child(path, parent, &options, &paths, &err), &err);
	if (!(forms & NAME))
		options.parent_name = NULL;
	if (!(forms & RELATIVE))
		options.parent_relative = NULL;
	if (!(forms & ABSOLUTE))
		options.parent_absolute = NULL;
	if (!(forms & URL))
		options.parent_url = NULL;
	create(path, &options);
	snap_child_paths_free(&paths);
	hv_disk_close(parent);
}

static inline void make_child(const char *path, const char *parent_path)
{
	make_child_with(path, parent_path, ALL);
}

static inline struct hv_guid uuid_of(const char *path)
{
	struct hv_disk *disk;
	struct hv_guid uuid;
	HV_ERR(err);

	must(open_chain(path, SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
	uuid = vhd_get_info(disk)->footer.uuid;
	hv_disk_close(disk);
	return uuid;
}

/* Changing files behind the engine's back. */

static inline uint8_t *slurp(const char *path, size_t *size)
{
	FILE *in = fopen(path, "rb");
	uint8_t *bytes;

	cr_assert_not_null(in, "%s", path);
	fseek(in, 0, SEEK_END);
	*size = (size_t)ftell(in);
	rewind(in);
	bytes = malloc(*size + 1);
	cr_assert_eq(fread(bytes, 1, *size, in), *size);
	fclose(in);
	return bytes;
}

static inline void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out, "%s", path);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

static inline void copy(const char *from, const char *to)
{
	size_t size;
	uint8_t *bytes = slurp(from, &size);

	spill(to, bytes, size);
	free(bytes);
}

static inline void put_be(uint8_t *at, unsigned bytes, uint64_t number)
{
	while (bytes--) {
		at[bytes] = (uint8_t)number;
		number >>= 8;
	}
}

static inline void seal(uint8_t *structure, size_t length, size_t checksum_at)
{
	uint32_t sum = 0;

	put_be(structure + checksum_at, 4, 0);
	for (size_t i = 0; i < length; i++)
		sum += structure[i];
	put_be(structure + checksum_at, 4, ~sum);
}

/* Into every footer of the file. */
static inline void patch_footer(const char *path, size_t field, const void *data, size_t length)
{
	size_t size;
	uint8_t *bytes = slurp(path, &size), *footers[] = { bytes + size - 512, bytes };

	for (int i = 0; i < 2; i++) {
		if (memcmp(footers[i], "conectix", 8))
			continue;
		memcpy(footers[i] + field, data, length);
		seal(footers[i], 512, FOOTER_CHECKSUM);
	}
	spill(path, bytes, size);
	free(bytes);
}

static inline void patch_footer64(const char *path, size_t field, uint64_t number)
{
	uint8_t bytes[8];

	put_be(bytes, 8, number);
	patch_footer(path, field, bytes, 8);
}

/* Looking. */

/* Which disk's mark the chain shows. */
static inline char seen_through(const char *path, const char *parent)
{
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	must(open_chain(path, 0, parent, &disk, &err), &err);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	hv_disk_close(disk);
	for (size_t i = 1; i < sizeof(sector); i++)
		cr_assert_eq(sector[i], sector[0]);
	return sector[0];
}

static inline void assert_shows(const char *path, char with)
{
	cr_assert_eq(seen_through(path, NULL), with, "%s does not show '%c'", path, with);
}

/* Opening fails with code, in a sentence that holds each of these words; a NULL ends them. */
static inline void assert_refused(const char *path, const char *parent, int code,
				  enum snap_parent_state state, const char *const *words)
{
	struct snap_open_options options = { .parent_path = parent };
	struct snap_chain *chain;
	struct hv_disk *disk;
	const struct snap_layer *last;
	HV_ERR(err);
	int rc = open_chain(path, 0, parent, &disk, &err);

	cr_assert_eq(rc, code, "%s: %d: %s", path, rc, err.sentence);
	for (; *words; words++)
		cr_expect(strstr(err.sentence, *words), "no '%s' in: %s", *words, err.sentence);
	/* Looking at it tells the same, and gives what there is. */
	must(snap_examine(path, &options, loop, &chain, &err), &err);
	last = &chain->layers[chain->count - 1];
	cr_expect_eq(last->parent, state, "%s", snap_parent_state_name(last->parent));
	cr_expect_eq(last->code, code);
	snap_chain_free(chain);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

#endif
