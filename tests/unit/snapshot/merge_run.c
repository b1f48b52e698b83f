/*
 * Merging files, where a command line cannot interfere at the right moment: what changes while a
 * merge is under way, and what it tells of itself meanwhile.
 */
#include "snapshot/merge_run.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hvcore/bytes.h"
#include "tests/support/workdir.h"
#include "tests/unit/must.h"

#define SIZE (4u << 20)

static struct hv_loop *loop;

static void create(const char *path, const char *parent)
{
	struct vhd_create_options options = { .type = VHD_DYNAMIC, .size_bytes = SIZE };
	struct snap_open_options open = { 0 };
	struct snap_child_paths paths = { 0 };
	struct hv_disk *disk = NULL;
	struct hv_file *file;
	HV_ERR(err);

	if (parent) {
		must(snap_open(parent, &open, loop, &disk, &err), &err);
		must(snap_describe_child(path, disk, &options, &paths, &err), &err);
	}
	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	must(vhd_create(file, &options, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
	hv_disk_close(disk);
	snap_child_paths_free(&paths);
}

static void fill(const char *path, int with)
{
	struct snap_open_options open = { .flags = SNAP_OPEN_WRITE };
	static char data[SIZE / 2];
	struct hv_disk *disk;
	HV_ERR(err);

	memset(data, with, sizeof(data));
	must(snap_open(path, &open, loop, &disk, &err), &err);
	must(hv_disk_pwrite(disk, data, sizeof(data), 0, &err), &err);
	must(hv_disk_flush(disk, &err), &err);
	hv_disk_close(disk);
}

static int first_byte(const char *path)
{
	struct snap_open_options open = { 0 };
	struct hv_disk *disk;
	char sector[HV_SECTOR_SIZE];
	HV_ERR(err);

	must(snap_open(path, &open, loop, &disk, &err), &err);
	must(hv_disk_pread(disk, sector, sizeof(sector), 0, &err), &err);
	hv_disk_close(disk);
	return sector[0];
}

static void setup(void)
{
	HV_ERR(err);

	workdir_enter();
	must(hv_loop_new(&loop, &err), &err);
	create("base.vhd", NULL);
	create("middle.vhd", "base.vhd");
	fill("middle.vhd", 'm');
	create("leaf.vhd", "middle.vhd");
	fill("leaf.vhd", 'l');
}

static void teardown(void)
{
	hv_loop_free(loop);
	workdir_leave();
}

TestSuite(merge_run, .init = setup, .fini = teardown);

static unsigned calls;

/* Somebody touches the file that arg names, though it is locked. */
static bool touch(const struct snap_merge_progress *progress, void *arg)
{
	cr_assert_leq(progress->durable_bytes, progress->reached_bytes);
	cr_assert_eq(progress->total_bytes, SIZE);
	calls++;
	cr_assert_eq(utimensat(AT_FDCWD, arg, NULL, 0), 0);
	return true;
}

static bool stop(const struct snap_merge_progress *progress, void *arg)
{
	(void)progress;
	(void)arg;
	return false;
}

static int run(struct snap_merge_request request, struct hv_err *err)
{
	struct snap_merge_report report;
	int rc;

	request.child = "leaf.vhd";
	request.into = "base.vhd";
	hv_err_clear(err);
	rc = snap_merge_run(&request, loop, &report, err);
	cr_assert(report.levels == 2 && report.target);
	snap_merge_report_free(&report);
	return rc;
}

Test(merge_run, a_layer_that_changed_meanwhile_is_not_removed)
{
	static char *const layers[] = { "leaf.vhd", "middle.vhd" };

	for (unsigned i = 0; i < 2; i++) {
		HV_ERR(err);

		cr_assert_eq(run((struct snap_merge_request){ .remove = true,
							      .progress = touch,
							      .arg = layers[i] },
				 &err),
			     -ESTALE);
		cr_assert(strstr(err.sentence, layers[i]) && strstr(err.sentence, "changed"), "%s",
			  err.sentence);
		cr_assert(calls > 0);
		cr_assert_eq(first_byte("leaf.vhd"), 'l');
		cr_assert_eq(first_byte("base.vhd"), 'l');
		cr_assert_eq(access("middle.vhd", F_OK), 0);
	}
}

static int refuse(struct hv_file *file, void *arg, struct hv_err *err)
{
	(void)arg;
	cr_assert(file->writable);
	return hv_fail(err, -EIO, "%s: not now", file->path);
}

Test(merge_run, what_must_be_done_before_a_removal_can_fail)
{
	HV_ERR(err);

	cr_assert_eq(run((struct snap_merge_request){ .remove = true, .before_removal = refuse },
			 &err),
		     -EIO);
	cr_assert(strstr(err.sentence, "middle.vhd: not now"), "%s", err.sentence);
	cr_assert_eq(first_byte("leaf.vhd"), 'l');
	cr_assert_eq(first_byte("base.vhd"), 'l');
	cr_assert_eq(access("middle.vhd", F_OK), 0);
}

Test(merge_run, a_stopped_merge_says_so_and_leaves_its_progress)
{
	struct snap_merge_options slow = { .depth = 1, .chunk_bytes = 4096 };
	HV_ERR(err);

	cr_assert_eq(run((struct snap_merge_request){ .options = slow, .progress = stop }, &err),
		     -EINTR);
	cr_assert(strstr(err.sentence, "interrupted after"), "%s", err.sentence);
	cr_assert_eq(access("base.vhd.hvmerge", F_OK), 0);
	cr_assert_eq(first_byte("leaf.vhd"), 'l');
	must(run((struct snap_merge_request){ .remove = true }, &err), &err);
	cr_assert_eq(first_byte("base.vhd"), 'l');
	cr_assert_neq(access("base.vhd.hvmerge", F_OK), 0);
	cr_assert_neq(access("leaf.vhd", F_OK), 0);
	cr_assert_neq(access("middle.vhd", F_OK), 0);
}

/* A child of a raw image, by the rule of Xen's tools: its record of the parent has no UUID. */
static void create_on_raw(const char *path, const char *raw)
{
	struct vhd_create_options options = { .type = VHD_DIFFERENCING,
					      .size_bytes = SIZE,
					      .parent_uuid = { { 7 } },
					      .parent_name = raw };
	hv_be32 checksum;
	uint8_t uuid[16] = { 0 };
	struct hv_file *file;
	HV_ERR(err);

	must(hv_file_create(path, 0, false, loop, &file, &err), &err);
	must(vhd_create(file, &options, &err), &err);
	must(hv_file_pwrite(file, uuid, sizeof(uuid), 512 + 40, &err), &err);
	/* The complement of a sum that has lost the 7. */
	must(hv_file_pread(file, &checksum, sizeof(checksum), 512 + 36, &err), &err);
	checksum = hv_be32_make(hv_be32_get(checksum) + 7);
	must(hv_file_pwrite(file, &checksum, sizeof(checksum), 512 + 36, &err), &err);
	must(hv_file_publish(file, &err), &err);
	hv_file_close(file);
}

static int refuse_the_second(struct hv_file *file, void *arg, struct hv_err *err)
{
	unsigned *removed = arg;

	if ((*removed)++)
		return hv_fail(err, -EIO, "%s: not now", file->path);
	cr_assert(strstr(file->path, "top.vhd"), "%s", file->path);
	return 0;
}

/* It would not open without the layers between. */
Test(merge_run, child_goes_first_where_the_target_can_have_none)
{
	unsigned removed = 0;
	struct snap_merge_request request = { .child = "top.vhd",
					      .into = "base.raw",
					      .remove = true,
					      .before_removal = refuse_the_second,
					      .arg = &removed };
	struct snap_merge_report report;
	struct hv_file *raw;
	HV_ERR(err);

	must(hv_file_create("base.raw", 0, false, loop, &raw, &err), &err);
	must(hv_file_truncate(raw, SIZE, &err), &err);
	must(hv_file_publish(raw, &err), &err);
	hv_file_close(raw);
	create_on_raw("on-raw.vhd", "base.raw");
	fill("on-raw.vhd", 'm');
	create("top.vhd", "on-raw.vhd");
	fill("top.vhd", 't');
	cr_assert_eq(snap_merge_run(&request, loop, &report, &err), -EIO, "%s", err.sentence);
	snap_merge_report_free(&report);
	cr_assert_neq(access("top.vhd", F_OK), 0);
	cr_assert_eq(access("on-raw.vhd", F_OK), 0);
	cr_assert_eq(first_byte("base.raw"), 't');
}
