/*
 * Chains: where a parent is looked for, which ones are refused and in what words, what is locked,
 * and what format a file is taken for. Every test works in a directory of its own, on disks of
 * 64 KiB whose first and last sectors carry a mark that tells them apart.
 */
#include "snapshot/chain.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "hvcore/checked.h"

#define SIZE (64u << 10)
#define FOOTER_ORIGINAL 40
#define FOOTER_CURRENT 48
#define FOOTER_CHECKSUM 64
#define FOOTER_UUID 68
#define HEADER 512
#define HEADER_CHECKSUM 36
#define HEADER_PARENT_UUID 40

static char directory[] = "chain-XXXXXX";
static char here[PATH_MAX];
static struct hv_loop *loop;

static void setup(void)
{
	HV_ERR(err);

	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
	cr_assert_not_null(getcwd(here, sizeof(here)));
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	hv_loop_free(loop);
	cr_assert_eq(chdir(".."), 0);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(chain, .init = setup, .fini = teardown);

static void must(int rc, const struct hv_err *err)
{
	cr_assert_eq(rc, 0, "%s", hv_err_text(err, rc));
}

/* Making disks. */

static void create(const char *path, const struct vhd_create_options *options)
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

static int open_chain(const char *path, unsigned flags, const char *parent, struct hv_disk **ret,
		      struct hv_err *err)
{
	struct snap_open_options options = { .flags = flags, .parent_path = parent };

	hv_err_clear(err);
	return snap_open(path, &options, loop, ret, err);
}

/* The disk's own file gets the mark: in its first and its last sector. */
static void mark(const char *path, char with)
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

static void make_base(const char *path, char with)
{
	create(path, &(struct vhd_create_options){ .type = VHD_FIXED, .size_bytes = SIZE });
	mark(path, with);
}

enum { NAME = 1, RELATIVE = 2, ABSOLUTE = 4, URL = 8, ALL = 15 };

/* A child that records its parent in these forms only. */
static void make_child_with(const char *path, const char *parent_path, unsigned forms)
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

static void make_child(const char *path, const char *parent_path)
{
	make_child_with(path, parent_path, ALL);
}

static struct hv_guid uuid_of(const char *path)
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

static uint8_t *slurp(const char *path, size_t *size)
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

static void spill(const char *path, const void *bytes, size_t size)
{
	FILE *out = fopen(path, "wb");

	cr_assert_not_null(out, "%s", path);
	cr_assert_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

static void copy(const char *from, const char *to)
{
	size_t size;
	uint8_t *bytes = slurp(from, &size);

	spill(to, bytes, size);
	free(bytes);
}

static void put_be(uint8_t *at, unsigned bytes, uint64_t number)
{
	while (bytes--) {
		at[bytes] = (uint8_t)number;
		number >>= 8;
	}
}

static void seal(uint8_t *structure, size_t length, size_t checksum_at)
{
	uint32_t sum = 0;

	put_be(structure + checksum_at, 4, 0);
	for (size_t i = 0; i < length; i++)
		sum += structure[i];
	put_be(structure + checksum_at, 4, ~sum);
}

/* Into every footer of the file. */
static void patch_footer(const char *path, size_t field, const void *data, size_t length)
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

static void patch_footer64(const char *path, size_t field, uint64_t number)
{
	uint8_t bytes[8];

	put_be(bytes, 8, number);
	patch_footer(path, field, bytes, 8);
}

static void set_parent_uuid(const char *path, const struct hv_guid *uuid)
{
	size_t size;
	uint8_t *bytes = slurp(path, &size);

	memcpy(bytes + HEADER + HEADER_PARENT_UUID, uuid->b, 16);
	seal(bytes + HEADER, 1024, HEADER_CHECKSUM);
	spill(path, bytes, size);
	free(bytes);
}

/* Looking. */

/* Which disk's mark the chain shows. */
static char seen_through(const char *path, const char *parent)
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

static void assert_shows(const char *path, char with)
{
	cr_assert_eq(seen_through(path, NULL), with, "%s does not show '%c'", path, with);
}

/* Opening fails with code, in a sentence that holds each of these words; a NULL ends them. */
static void assert_refused(const char *path, const char *parent, int code,
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

/* Where a parent is looked for. */

/* Five parents of one UUID; each is removed in turn, so that the next one shows. */
Test(chain, parent_is_looked_for_in_the_documented_order)
{
	char absolute[PATH_MAX + 32], url[PATH_MAX + 64], explicit_path[] = "elsewhere/e.vhd";
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };
	static const char *const in_order[] = { "rel/r.vhd", "name.vhd",  "a.vhd",
						"r.vhd",     "abs/a.vhd", "url/\xc3\xbc b%.vhd" };

	make_base("base.vhd", '.');
	mkdir("rel", 0777);
	mkdir("abs", 0777);
	mkdir("url", 0777);
	mkdir("elsewhere", 0777);
	for (unsigned i = 0; i < 6; i++) {
		copy("base.vhd", in_order[i]);
		mark(in_order[i], (char)('1' + i));
	}
	copy("base.vhd", explicit_path);
	mark(explicit_path, 'e');
	options.parent_uuid = uuid_of("base.vhd");
	snprintf(absolute, sizeof(absolute), "%s/abs/a.vhd", here);
	for (char *p = absolute; *p; p++)
		*p = *p == '/' ? '\\' : *p;
	snprintf(url, sizeof(url), "file://%s/url/%%C3%%bc%%20b%%25.vhd", here);
	options.parent_name = "name.vhd";
	options.parent_relative = ".\\rel\\r.vhd";
	options.parent_absolute = absolute;
	options.parent_url = url;
	create("child.vhd", &options);

	cr_assert_eq(seen_through("child.vhd", explicit_path), 'e');
	for (unsigned i = 0; i < 6; i++) {
		assert_shows("child.vhd", (char)('1' + i));
		cr_assert_eq(unlink(in_order[i]), 0);
	}
	assert_refused("child.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "name.vhd", "rel/r.vhd", "--parent"));
}

Test(chain, url_may_name_this_host_and_an_escaped_nul_means_nothing)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };
	char url[PATH_MAX + 64];

	mkdir("d", 0777);
	make_base("d/b.vhd", 'b');
	options.parent_uuid = uuid_of("d/b.vhd");
	options.parent_url = url;
	snprintf(url, sizeof(url), "file://localhost%s/d/b.vhd", here);
	create("local.vhd", &options);
	assert_shows("local.vhd", 'b');
	snprintf(url, sizeof(url), "file://%s/d/b.vhd%%00", here);
	create("nul.vhd", &options);
	assert_refused("nul.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING, WORDS("nul.vhd"));
	snprintf(url, sizeof(url), "http://%s/d/b.vhd", here);
	create("http.vhd", &options);
	assert_refused("http.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING, WORDS("http.vhd"));
}

Test(chain, drive_letters_are_for_the_name_only)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	options.parent_name = "C:\\Users\\me\\vms\\base.vhd";
	options.parent_absolute = "C:\\Users\\me\\vms\\base.vhd";
	create("child.vhd", &options);
	assert_shows("child.vhd", 'b');
	options.parent_name = options.parent_absolute = "C:base.vhd";
	create("short.vhd", &options);
	assert_shows("short.vhd", 'b');
}

Test(chain, candidate_with_another_uuid_is_passed_over)
{
	struct snap_open_options options = { 0 };
	struct snap_chain *chain;
	HV_ERR(err);

	mkdir("sub", 0777);
	make_base("sub/base.vhd", 'r');
	make_child("child.vhd", "sub/base.vhd");
	copy("sub/base.vhd", "base.vhd");
	unlink("sub/base.vhd");
	make_base("sub/base.vhd", 'x');
	assert_shows("child.vhd", 'r');

	must(snap_examine("child.vhd", &options, loop, &chain, &err), &err);
	cr_assert_eq(chain->count, 2);
	cr_assert_eq(chain->layers[0].parent, SNAP_PARENT_OK);
	cr_assert_eq(chain->layers[0].code, 0);
	cr_assert_null(chain->layers[0].sentence);
	cr_assert_str_eq(strrchr(chain->layers[0].parent_path, '/'), "/base.vhd");
	cr_assert_null(strstr(chain->layers[0].parent_path, "/sub/"));
	cr_assert_eq(chain->layers[1].parent, SNAP_PARENT_NONE);
	snap_chain_free(chain);
}

Test(chain, explicit_parent_stands_alone)
{
	make_base("base.vhd", 'b');
	make_base("other.vhd", 'o');
	make_child("child.vhd", "base.vhd");
	assert_shows("child.vhd", 'b');
	assert_refused("child.vhd", "other.vhd", -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "other.vhd", "--parent"));
	assert_refused("child.vhd", "none.vhd", -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "none.vhd", "--parent"));
}

Test(chain, explicit_parent_is_the_leafs_only)
{
	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	cr_assert_eq(rename("middle.vhd", "moved.vhd"), 0);
	cr_assert_eq(seen_through("leaf.vhd", "moved.vhd"), 'b');
}

Test(chain, vhd_parent_may_have_any_name)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	cr_assert_eq(rename("base.vhd", "base.img"), 0);
	cr_assert_eq(seen_through("child.vhd", "base.img"), 'b');
	cr_assert_eq(rename("base.img", "base.dat"), 0);
	cr_assert_eq(seen_through("child.vhd", "base.dat"), 'b');
}

/* What is refused. */

Test(chain, wrong_parent_is_named_with_both_uuids)
{
	char have[HV_GUID_TEXT_SIZE], want[HV_GUID_TEXT_SIZE];
	struct hv_guid uuid;

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	uuid = uuid_of("base.vhd");
	hv_guid_format(&uuid, want);
	unlink("base.vhd");
	make_base("base.vhd", 'n');
	uuid = uuid_of("base.vhd");
	hv_guid_format(&uuid, have);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "/base.vhd", have, want, "--parent"));
}

Test(chain, raw_file_is_no_parent_of_a_child_that_knows_a_uuid)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	spill("base.raw", "not a VHD", 9);
	assert_refused("child.vhd", "base.raw", -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "base.raw", "no VHD", "--parent"));
}

Test(chain, child_without_any_path_says_so)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = SIZE };

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	create("child.vhd", &options);
	assert_refused("child.vhd", NULL, -ENOENT, SNAP_PARENT_MISSING,
		       WORDS("child.vhd", "records no path", "--parent"));
	cr_assert_eq(seen_through("child.vhd", "base.vhd"), 'b');
}

Test(chain, resized_parent)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	copy("base.vhd", "old.vhd");

	/* Grown. */
	cr_assert_eq(truncate("base.vhd", SIZE * 2 + 512), 0);
	{
		size_t size;
		uint8_t *bytes = slurp("base.vhd", &size);

		memcpy(bytes + size - 512, bytes + SIZE, 512);
		spill("base.vhd", bytes, size);
		free(bytes);
	}
	patch_footer64("base.vhd", FOOTER_CURRENT, SIZE * 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd", "131072", "65536", "old size"));

	/* Cut. */
	copy("old.vhd", "base.vhd");
	patch_footer64("base.vhd", FOOTER_CURRENT, SIZE / 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd", "32768"));

	copy("old.vhd", "base.vhd");
	assert_shows("child.vhd", 'b');
}

/* A child that names `parent`, whatever that is. */
static void make_link(const char *path, const char *uuid, const char *parent,
		      const char *parent_uuid)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING,
					      .size_bytes = SIZE,
					      .parent_name = parent };

	memcpy(options.parent_uuid.b, parent_uuid, 16);
	create(path, &options);
	patch_footer(path, FOOTER_UUID, uuid, 16);
}

#define UUID_A "AAAAAAAAAAAAAAAA"
#define UUID_B "BBBBBBBBBBBBBBBB"
#define UUID_C "CCCCCCCCCCCCCCCC"

Test(chain, loops)
{
	make_link("self.vhd", UUID_C, "self.vhd", UUID_C);
	assert_refused("self.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP, WORDS("self.vhd", "loop"));

	make_link("a.vhd", UUID_A, "b.vhd", UUID_B);
	make_link("b.vhd", UUID_B, "a.vhd", UUID_A);
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/a.vhd'", "loop"));
	make_link("leaf.vhd", UUID_C, "a.vhd", UUID_A);
	assert_refused("leaf.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/a.vhd'", "loop"));

	/* By another name of the same file, and by a copy. */
	unlink("b.vhd");
	make_link("b.vhd", UUID_B, "also-a.vhd", UUID_A);
	cr_assert_eq(link("a.vhd", "also-a.vhd"), 0);
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP, WORDS("b.vhd: ", "/also-a.vhd'"));
	unlink("also-a.vhd");
	copy("a.vhd", "also-a.vhd");
	assert_refused("a.vhd", NULL, -ELOOP, SNAP_PARENT_LOOP,
		       WORDS("b.vhd: ", "/also-a.vhd'", "loop", "copy"));
}

Test(chain, depth_is_limited)
{
	char path[32], parent[32];

	make_base("0.vhd", 'b');
	for (int i = 1; i <= SNAP_MAX_DEPTH; i++) {
		snprintf(path, sizeof(path), "%d.vhd", i);
		snprintf(parent, sizeof(parent), "%d.vhd", i - 1);
		make_child_with(path, parent, NAME);
	}
	snprintf(path, sizeof(path), "%d.vhd", SNAP_MAX_DEPTH - 1);
	assert_shows(path, 'b');
	snprintf(path, sizeof(path), "%d.vhd", SNAP_MAX_DEPTH);
	assert_refused(path, NULL, -ELOOP, SNAP_PARENT_TOO_DEEP, WORDS("1.vhd", "256"));
}

Test(chain, what_is_no_file_is_no_parent_and_is_not_waited_for)
{
	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	unlink("base.vhd");
	cr_assert_eq(mkfifo("base.vhd", 0666), 0);
	assert_refused("child.vhd", NULL, -EINVAL, SNAP_PARENT_FAILED, WORDS("base.vhd"));
	unlink("base.vhd");
	cr_assert_eq(mkdir("base.vhd", 0777), 0);
	assert_refused("child.vhd", NULL, -EISDIR, SNAP_PARENT_FAILED, WORDS("base.vhd"));
}

/* Sizes and kinds of parents. */

Test(chain, null_uuid_means_a_raw_parent)
{
	uint8_t raw[SIZE];

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	set_parent_uuid("child.vhd", &(struct hv_guid){ { 0 } });
	memset(raw, 'w', sizeof(raw));
	spill("base.raw", raw, sizeof(raw));
	cr_assert_eq(seen_through("child.vhd", "base.raw"), 'w');
	/* Somebody's VHD is no raw image, even then. */
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_WRONG,
		       WORDS("child.vhd", "/base.vhd"));
}

Test(chain, child_larger_than_its_parent_reads_zeros_past_the_end)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING, .size_bytes = 3 * SIZE };
	char data[3 * SIZE], zeros[2 * SIZE] = { 0 };
	struct hv_extent extent;
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	options.parent_uuid = uuid_of("base.vhd");
	options.parent_name = "base.vhd";
	create("child.vhd", &options);
	must(open_chain("child.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, 3 * SIZE);
	memset(data, 'x', sizeof(data));
	must(hv_disk_pread(disk, data, sizeof(data), 0, &err), &err);
	cr_assert_eq(data[SIZE - 1], 'b');
	cr_assert_eq(memcmp(data + SIZE, zeros, sizeof(zeros)), 0);
	must(hv_disk_extent(disk, SIZE, 2 * SIZE, 0, &extent, &err), &err);
	cr_assert_eq(extent.state, HV_EXTENT_ZERO);
	cr_assert_eq(extent.length, 2 * SIZE);
	/* A write across the parent's end. */
	memset(data, 'c', 1024);
	must(hv_disk_pwrite(disk, data, 1024, SIZE - 512, &err), &err);
	must(hv_disk_pread(disk, data, sizeof(data), 0, &err), &err);
	cr_assert_eq(data[SIZE - 513], 0);
	cr_assert_eq(data[SIZE - 512], 'c');
	cr_assert_eq(data[SIZE + 511], 'c');
	cr_assert_eq(data[SIZE + 512], 0);
	hv_disk_close(disk);
}

Test(chain, child_that_was_shrunk_shows_the_parents_start)
{
	struct hv_disk *disk;
	char sector[512];
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("child.vhd", "base.vhd");
	patch_footer64("child.vhd", FOOTER_CURRENT, SIZE / 2);
	must(open_chain("child.vhd", 0, NULL, &disk, &err), &err);
	cr_assert_eq(disk->size_bytes, SIZE / 2);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'b');
	must(hv_disk_pread(disk, sector, sizeof(sector), SIZE / 2 - 512, &err), &err);
	cr_assert_eq(sector[0], 0);
	hv_disk_close(disk);
	/* One that was made smaller than its parent is now, was made when the parent was smaller. */
	patch_footer64("child.vhd", FOOTER_ORIGINAL, SIZE / 2);
	assert_refused("child.vhd", NULL, -ESTALE, SNAP_PARENT_RESIZED,
		       WORDS("child.vhd", "/base.vhd"));
}

/* Paths. */

Test(chain, folder_moved_together_still_works)
{
	mkdir("vm", 0777);
	mkdir("vm/snap", 0777);
	mkdir("vm/disks", 0777);
	make_base("vm/disks/base.vhd", 'b');
	make_child_with("vm/snap/child.vhd", "vm/disks/base.vhd", ALL & ~NAME);
	cr_assert_eq(rename("vm", "moved"), 0);
	assert_shows("moved/snap/child.vhd", 'b');
	/* Also when something stale lies at the old place. */
	mkdir("vm", 0777);
	mkdir("vm/disks", 0777);
	copy("moved/disks/base.vhd", "vm/disks/base.vhd");
	mark("vm/disks/base.vhd", 'x');
	assert_shows("moved/snap/child.vhd", 'b');
	/* A child moved alone finds it by its absolute path. */
	cr_assert_eq(rename("moved/snap/child.vhd", "child.vhd"), 0);
	assert_shows("child.vhd", 'x');
}

/* One character of each of the seventeen planes. */
static void every_plane(char *out)
{
	for (uint32_t plane = 0; plane <= 16; plane++) {
		uint32_t c = plane << 16 | 0x4e2d;

		if (c >= 0x10000)
			*out++ = (char)(0xf0 | c >> 18);
		if (c >= 0x10000)
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		else
			*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	*out = '\0';
}

Test(chain, paths_with_every_unicode_plane)
{
	static const unsigned forms[] = { NAME, RELATIVE, ABSOLUTE, URL };
	char planes[128], base[300], child[300];

	every_plane(planes);
	cr_assert_eq(mkdir(planes, 0777), 0);
	snprintf(base, sizeof(base), "%s/b %s#%%?.vhd", planes, planes);
	make_base(base, 'b');
	for (unsigned i = 0; i < 4; i++) {
		bool beside = forms[i] == NAME || forms[i] == RELATIVE;

		snprintf(child, sizeof(child), "%s/%s-%u.vhd", beside ? planes : ".", planes, i);
		make_child_with(child, base, forms[i]);
		assert_shows(child, 'b');
	}
	/* What was recorded is what was said. */
	{
		struct hv_disk *disk;
		char name[300];
		HV_ERR(err);

		snprintf(child, sizeof(child), "%s/all.vhd", planes);
		make_child(child, base);
		must(open_chain(child, SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
		snprintf(name, sizeof(name), "b %s#%%?.vhd", planes);
		cr_assert_str_eq(vhd_get_info(disk)->parent_name, name);
		hv_disk_close(disk);
	}
}

static const char *locator_of(struct hv_disk *disk, uint32_t code)
{
	for (int i = 0; i < VHD_LOCATORS; i++) {
		if (vhd_get_info(disk)->locators[i].code == code)
			return vhd_get_info(disk)->locators[i].text;
	}
	return NULL;
}

static void assert_relative(const char *child, const char *want)
{
	struct hv_disk *disk;
	HV_ERR(err);

	must(open_chain(child, SNAP_OPEN_NO_PARENTS, NULL, &disk, &err), &err);
	cr_assert_str_eq(locator_of(disk, VHD_LOCATOR_W2RU), want);
	hv_disk_close(disk);
}

Test(chain, relative_paths_climb)
{
	static const char *const dirs[] = { "a", "a/b", "a/b/c", "a/bc", "a/b/cd" };

	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		cr_assert_eq(mkdir(dirs[i], 0777), 0);
	make_base("a/bc/base.vhd", 'b');
	make_child_with("a/b/c/child.vhd", "a/bc/base.vhd", RELATIVE);
	assert_relative("a/b/c/child.vhd", ".\\..\\..\\bc\\base.vhd");
	make_base("a/b/base.vhd", 'u');
	make_child_with("a/b/cd/child.vhd", "a/b/base.vhd", RELATIVE);
	assert_relative("a/b/cd/child.vhd", ".\\..\\base.vhd");
	make_child_with("a/b/child.vhd", "a/b/base.vhd", RELATIVE);
	assert_relative("a/b/child.vhd", ".\\base.vhd");
	make_base("a/b/cd/base.vhd", 'd');
	make_child_with("a/child.vhd", "a/b/cd/base.vhd", RELATIVE);
	assert_relative("a/child.vhd", ".\\b\\cd\\base.vhd");
	cr_assert_eq(rename("a", "z"), 0);
	assert_shows("z/b/c/child.vhd", 'b');
	assert_shows("z/b/cd/child.vhd", 'u');
	assert_shows("z/b/child.vhd", 'u');
	assert_shows("z/child.vhd", 'd');
	/* From wherever one stands. */
	cr_assert_eq(chdir("z/b/c"), 0);
	assert_shows("child.vhd", 'b');
	assert_shows("../cd/child.vhd", 'u');
	cr_assert_eq(chdir("../../.."), 0);
}

Test(chain, symbolic_links_are_seen_through)
{
	mkdir("deep", 0777);
	mkdir("deep/er", 0777);
	mkdir("disks", 0777);
	cr_assert_eq(symlink("deep/er", "short"), 0);
	cr_assert_eq(symlink("../disks", "deep/linked"), 0);
	make_base("disks/base.vhd", 'b');
	cr_assert_eq(symlink("../disks/base.vhd", "deep/alias.vhd"), 0);

	make_child_with("short/child.vhd", "deep/linked/base.vhd", RELATIVE);
	assert_relative("short/child.vhd", ".\\..\\..\\disks\\base.vhd");
	assert_shows("short/child.vhd", 'b');
	assert_shows("deep/er/child.vhd", 'b');
	make_child_with("short/other.vhd", "deep/alias.vhd", RELATIVE);
	assert_relative("short/other.vhd", ".\\..\\..\\disks\\base.vhd");
	assert_shows("deep/er/other.vhd", 'b');
	unlink("deep/linked");
	unlink("deep/alias.vhd");
	assert_shows("short/child.vhd", 'b');
	assert_shows("short/other.vhd", 'b');
}

static void assert_no_child(const char *child, const char *parent_path, const char *words)
{
	struct vhd_create_options options = { 0 };
	struct snap_child_paths paths;
	struct hv_disk *parent;
	HV_ERR(err);

	must(open_chain(parent_path, SNAP_OPEN_NO_PARENTS, NULL, &parent, &err), &err);
	cr_expect_eq(snap_describe_child(child, parent, &options, &paths, &err), -EINVAL);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	hv_disk_close(parent);
}

Test(chain, parents_that_a_child_cannot_record)
{
	uint8_t null_uuid[16] = { 0 };

	spill("base.raw", "raw", 3);
	assert_no_child("child.vhd", "base.raw", "only a VHD");
	make_base("base.vhd", 'b');
	make_base("back\\slash.vhd", 'b');
	assert_no_child("child.vhd", "back\\slash.vhd", "backslash");
	make_base("latin\xfc.vhd", 'b');
	assert_no_child("child.vhd", "latin\xfc.vhd", "UTF-8");
	mkdir("dir\xfc", 0777);
	assert_no_child("dir\xfc/child.vhd", "base.vhd", "UTF-8");
	patch_footer("base.vhd", FOOTER_UUID, null_uuid, 16);
	assert_no_child("child.vhd", "base.vhd", "UUID");
}

/* Writing, and locks. */

Test(chain, writing_to_a_child_leaves_its_parents_alone)
{
	uint8_t *base, *middle, *after;
	size_t base_size, middle_size, size;

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	mark("middle.vhd", 'm');
	make_child("leaf.vhd", "middle.vhd");
	base = slurp("base.vhd", &base_size);
	middle = slurp("middle.vhd", &middle_size);
	mark("leaf.vhd", 'l');
	assert_shows("leaf.vhd", 'l');
	after = slurp("base.vhd", &size);
	cr_assert(size == base_size && !memcmp(after, base, size));
	free(after);
	after = slurp("middle.vhd", &size);
	cr_assert(size == middle_size && !memcmp(after, middle, size));
	free(after);
	free(base);
	free(middle);
	assert_shows("middle.vhd", 'm');
}

static void assert_busy(const char *path, unsigned flags)
{
	struct hv_disk *disk;
	HV_ERR(err);
	int rc = open_chain(path, flags, NULL, &disk, &err);

	cr_assert_eq(rc, -EBUSY, "%s: %d: %s", path, rc, err.sentence);
	cr_assert(strstr(err.sentence, ".vhd"), "%s", err.sentence);
}

static void assert_opens(const char *path, unsigned flags)
{
	struct hv_disk *disk;
	HV_ERR(err);

	must(open_chain(path, flags, NULL, &disk, &err), &err);
	hv_disk_close(disk);
}

Test(chain, parents_are_locked_against_writers)
{
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	make_child("sibling.vhd", "base.vhd");

	must(open_chain("leaf.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("base.vhd", SNAP_OPEN_WRITE);
	assert_busy("middle.vhd", SNAP_OPEN_WRITE);
	assert_opens("base.vhd", 0);
	assert_opens("middle.vhd", 0);
	assert_opens("sibling.vhd", SNAP_OPEN_WRITE);
	hv_disk_close(disk);
	assert_opens("base.vhd", SNAP_OPEN_WRITE);

	/* And the other way round. */
	must(open_chain("base.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", 0);
	assert_busy("sibling.vhd", SNAP_OPEN_WRITE);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_LOCK);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_PARENTS);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
}

Test(chain, leaf_has_one_writer_or_many_readers)
{
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("leaf.vhd", "base.vhd");
	must(open_chain("leaf.vhd", SNAP_OPEN_WRITE, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_busy("leaf.vhd", 0);
	assert_opens("leaf.vhd", SNAP_OPEN_NO_LOCK);
	hv_disk_close(disk);
	must(open_chain("leaf.vhd", 0, NULL, &disk, &err), &err);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_opens("leaf.vhd", 0);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
}

static int open_for(const char *path, const char *written, struct hv_disk **ret, struct hv_err *err)
{
	struct snap_file_id id;
	struct snap_open_options options = { .flags = SNAP_OPEN_WRITE, .write_layer = &id };

	hv_err_clear(err);
	cr_assert_eq(snap_file_id_of(written, &id), 0);
	return snap_open(path, &options, loop, ret, err);
}

Test(chain, a_layer_below_the_leaf_is_written)
{
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk, *middle;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	mkdir("dir", 0777);
	cr_assert_eq(symlink("../middle.vhd", "dir/other-name.vhd"), 0);
	must(open_for("leaf.vhd", "dir/other-name.vhd", &disk, &err), &err);
	middle = snap_layer_at(disk, 1);
	cr_assert(!disk->writable && middle->writable && !snap_layer_at(disk, 2)->writable);
	cr_assert_null(snap_layer_at(disk, 3));
	memset(sector, 'm', sizeof(sector));
	must(hv_disk_pwrite(middle, sector, sizeof(sector), 0, &err), &err);
	must(hv_disk_flush(middle, &err), &err);
	memset(sector, 0, sizeof(sector));
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'm');
	assert_busy("middle.vhd", 0);
	assert_busy("leaf.vhd", SNAP_OPEN_WRITE);
	assert_busy("base.vhd", SNAP_OPEN_WRITE);
	assert_opens("base.vhd", 0);
	hv_disk_close(disk);
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE);
	cr_assert_eq(open_for("leaf.vhd", "base.vhd", &disk, &err), 0, "%s", err.sentence);
	hv_disk_close(disk);
	cr_assert_eq(open_for("leaf.vhd", "leaf.vhd", &disk, &err), 0, "%s", err.sentence);
	cr_assert(disk->writable);
	hv_disk_close(disk);
	/* One that does not belong to it is left alone. */
	make_base("stranger.vhd", 's');
	cr_assert_eq(open_for("leaf.vhd", "stranger.vhd", &disk, &err), -ESTALE);
	cr_assert(strstr(err.sentence, "leaf.vhd"), "%s", err.sentence);
}

Test(chain, what_a_child_reads_from_is_opened_without_it)
{
	struct snap_open_options options = { 0 };
	char sector[HV_SECTOR_SIZE];
	struct hv_disk *disk;
	HV_ERR(err);

	make_base("base.vhd", 'b');
	make_child("middle.vhd", "base.vhd");
	make_child("leaf.vhd", "middle.vhd");
	mark("leaf.vhd", 'l');
	must(snap_open_parent("leaf.vhd", &options, loop, &disk, &err), &err);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	cr_assert_eq(sector[0], 'b');
	assert_opens("leaf.vhd", SNAP_OPEN_WRITE | SNAP_OPEN_NO_PARENTS);
	assert_busy("middle.vhd", SNAP_OPEN_WRITE);
	hv_disk_close(disk);
	cr_assert_eq(snap_open_parent("base.vhd", &options, loop, &disk, &err), -EINVAL);
}

/* Formats. */

static int open_as(const char *path, const char *format, const char **ret, struct hv_err *err)
{
	struct snap_open_options options = { .format = format };
	struct hv_disk *disk;
	int rc;

	hv_err_clear(err);
	rc = snap_open(path, &options, loop, &disk, err);
	if (rc)
		return rc;
	*ret = hv_disk_format(disk);
	hv_disk_close(disk);
	return 0;
}

static void assert_format(const char *path, const char *format, const char *want)
{
	const char *have = NULL;
	HV_ERR(err);

	must(open_as(path, format, &have, &err), &err);
	cr_expect_str_eq(have, want, "%s is taken for %s", path, have);
}

static void assert_unclear(const char *path, const char *format, int code, const char *words)
{
	const char *have = NULL;
	HV_ERR(err);
	int rc = open_as(path, format, &have, &err);

	cr_expect_eq(rc, code, "%s: %d: %s", path, rc, err.sentence);
	cr_expect(strstr(err.sentence, words), "%s", err.sentence);
	cr_expect(strstr(err.sentence, path), "%s", err.sentence);
}

Test(chain, format_is_told_by_name_and_contents)
{
	char zeros[4096] = { 0 };
	size_t size;
	uint8_t *vhd;

	make_base("disk.vhd", 'b');
	vhd = slurp("disk.vhd", &size);
	assert_format("disk.vhd", NULL, "fixed");
	assert_format("disk.vhd", "raw", "raw");

	/* A guest can write a footer into its raw disk: then the user has to say. */
	spill("disk.img", vhd, size);
	assert_unclear("disk.img", NULL, -EINVAL, "--from");
	assert_format("disk.img", "vhd", "fixed");
	assert_format("disk.img", "raw", "raw");
	spill("DISK.RAW", vhd, size);
	assert_unclear("DISK.RAW", NULL, -EINVAL, "--from");

	/* No suffix, or one that says nothing: the contents decide. */
	spill("disk", vhd, size);
	assert_format("disk", NULL, "fixed");
	spill("disk.backup", vhd, size);
	assert_format("disk.backup", NULL, "fixed");
	spill("zeros", zeros, sizeof(zeros));
	assert_format("zeros", NULL, "raw");
	spill("zeros.img", zeros, sizeof(zeros));
	assert_format("zeros.img", NULL, "raw");
	mkdir("dir.vhd", 0777);
	spill("dir.vhd/zeros", zeros, sizeof(zeros));
	assert_format("dir.vhd/zeros", NULL, "raw");

	/* The name says VHD, so that it is one or broken. */
	spill("zeros.vhd", zeros, sizeof(zeros));
	assert_unclear("zeros.vhd", NULL, -EBADMSG, "not a VHD");
	spill("disk.AVHD", vhd, size);
	assert_format("disk.AVHD", NULL, "fixed");
	vhd[size - 512 + FOOTER_UUID] ^= 1;
	spill("disk", vhd, size);
	assert_unclear("disk", NULL, -EBADMSG, "checksum");
	assert_unclear("disk", "vhd", -EBADMSG, "checksum");
	assert_format("disk", "raw", "raw");
	free(vhd);
}

Test(chain, formats_of_others_are_no_raw_images)
{
	static const struct {
		const char *magic, *name;
	} others[] = {
		{ "vhdxfile", "VHDX" },
		{ "QFI\xfb", "qcow2" },
		{ "KDMV", "VMDK" },
		{ "<<< Oracle VM VirtualBox Disk Image >>>", "VDI" },
	};
	char bytes[4096] = { 0 };

	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, others[i].magic, strlen(others[i].magic));
		spill("disk.img", bytes, sizeof(bytes));
		assert_unclear("disk.img", NULL, -ENOTSUP, others[i].name);
		assert_format("disk.img", "raw", "raw");
	}
}

Test(chain, states_have_names)
{
	static const char *const names[] = { "none",    "ok",   "missing",  "wrong",
					     "resized", "loop", "too deep", "failed" };

	for (unsigned i = 0; i < 8; i++)
		cr_assert_str_eq(snap_parent_state_name((enum snap_parent_state)i), names[i]);
}
