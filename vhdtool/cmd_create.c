/*
 * vhdtool create: a new fixed, dynamic or differencing disk.
 *
 * A file has no name until it is complete, proven and durable, so that a failure leaves nothing
 * behind and an old file of the name stays as it was.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "hvcore/checked.h"
#include "hvcore/progress.h"
#include "hvcore/size.h"
#include "snapshot/chain.h"
#include "vhdtool/create.h"
#include "vhdtool/tool.h"

#define DEFAULT_PATH "disk.vhd"
#define AZURE_UNIT (1u << 20)
#define AZURE_MIN (20u << 20)
#define AZURE_MAX (UINT64_C(32) << 40)

/* Dynamic and differencing disks. */

/* The new file may replace another one, but no layer that it depends on. */
static int refuse_own_parent(const char *path, struct hv_disk *parent, struct hv_err *err)
{
	struct stat target, layer;

	if (stat(path, &target))
		return 0;
	for (; parent; parent = vhd_is_vhd(parent) ? vhd_get_backing(parent) : NULL) {
		if (stat(parent->path, &layer) == 0 && layer.st_dev == target.st_dev &&
		    layer.st_ino == target.st_ino)
			return hv_fail(err, -EBUSY,
				       "%s: the new disk would depend on it, so it is not replaced",
				       path);
	}
	return 0;
}

static int create_sparse(struct creation *creation, struct hv_err *err)
{
	const struct create_options *options = creation->options;
	int rc = hv_file_create(creation->path, 0, options->force, creation->loop, &creation->file,
				err);

	if (rc == 0)
		rc = vhd_create(creation->file, &creation->create, err);
	if (rc == 0)
		rc = vhd_open(creation->file, 0, &creation->disk, err);
	if (rc)
		return rc;
	creation->file = NULL;
	if (creation->create.type == VHD_DYNAMIC)
		creation->grounds = "no block is allocated";
	creation->zeroed = options->secure_zero;
	creation->zeroing = (struct tool_zeroing){
		.method = "written",
		.bytes = vhd_get_file(creation->disk)->size_bytes,
		.verified = "the file holds metadata only",
	};
	return 0;
}

static int create_child(struct creation *creation, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *parent = NULL;
	struct snap_open_options open = { 0 };
	struct snap_child_paths paths = { 0 };
	int rc = snap_open(creation->options->diff, &open, creation->loop, &parent, err);

	if (rc == 0)
		rc = refuse_own_parent(creation->path, parent, err);
	if (rc == 0)
		rc = snap_describe_child(creation->path, parent, &creation->create, &paths, err);
	if (rc == 0)
		rc = create_sparse(creation, err);
	/* The parent stays locked until its child is there. */
	if (rc == 0)
		rc = hv_file_publish(vhd_get_file(creation->disk), err);
	snap_child_paths_free(&paths);
	return rc;
}

static int create(struct creation *creation, struct hv_err *err)
{
	int rc;

	if (creation->create.type == VHD_DIFFERENCING)
		return create_child(creation, err);
	if (creation->device && creation->create.type == VHD_FIXED) {
		rc = create_fixed_device(creation, err);
		return rc ? rc : hv_disk_flush(creation->disk, err);
	}
	rc = creation->create.type == VHD_FIXED ? create_fixed_file(creation, err) :
						  create_sparse(creation, err);
	return rc ? rc : hv_file_publish(vhd_get_file(creation->disk), err);
}

/* What is said at the end. */

static int report_json(const struct creation *creation)
{
	HV_AUTO(hv_json_free) struct hv_json *json = hv_json_object();
	const struct vhd_info *info = vhd_get_info(creation->disk);
	char uuid[HV_GUID_TEXT_SIZE];

	hv_guid_format(&info->footer.uuid, uuid);
	hv_json_set_string(json, "file", creation->path);
	hv_json_set_string(json, "type", hv_disk_format(creation->disk));
	hv_json_set_number(json, "size_bytes", creation->disk->size_bytes);
	if (creation->options->azure)
		hv_json_set_number(json, "requested_bytes", creation->asked_bytes);
	if (info->block_bytes)
		hv_json_set_number(json, "block_bytes", info->block_bytes);
	else
		hv_json_set_null(json, "block_bytes");
	hv_json_set_string(json, "uuid", uuid);
	tool_zeroing_json(json, creation->zeroed ? &creation->zeroing : NULL);
	hv_json_set_string(json, "reads_as_zeros", creation->grounds);
	hv_json_set_real(json, "seconds", hv_now() - creation->started);
	return tool_print_json(json);
}

static int report(const struct creation *creation)
{
	const struct create_options *options = creation->options;
	uint64_t size_bytes = creation->disk->size_bytes;
	char size[HV_SIZE_TEXT_SIZE], uuid[HV_GUID_TEXT_SIZE];

	if (options->json)
		return report_json(creation);
	if (options->quiet)
		return TOOL_DONE;
	hv_size_format(size_bytes, size);
	hv_guid_format(&vhd_get_info(creation->disk)->footer.uuid, uuid);
	printf("%s: %s, %s (%llu bytes), UUID %s, in %.2f s\n", creation->path,
	       hv_disk_format(creation->disk), size, (unsigned long long)size_bytes, uuid,
	       hv_now() - creation->started);
	if (options->azure && creation->asked_bytes != size_bytes)
		printf("rounded up for Azure: from %llu to %llu bytes\n",
		       (unsigned long long)creation->asked_bytes, (unsigned long long)size_bytes);
	tool_zeroing_print(creation->zeroed ? &creation->zeroing : NULL);
	if (creation->create.type == VHD_DIFFERENCING)
		printf("reads as its parent: %s\n", options->diff);
	else if (creation->grounds)
		printf("reads as zeros: %s\n", creation->grounds);
	else
		printf("may not read as zeros: old contents of the host may show inside the disk\n");
	return tool_flush_output();
}

/* The command line. */

static int check_options(const struct create_options *options)
{
	int types = !!options->fixed + !!options->dynamic + !!options->diff;

	if (types != 1)
		return tool_usage("create",
				  "exactly one of --fixed, --dynamic and --diff is needed");
	if (options->secure_zero && options->allow_stale)
		return tool_usage("create", "--secure-zero and --allow-stale exclude each other");
	if (options->allow_stale && !options->fixed)
		return tool_usage("create", "--allow-stale goes with --fixed only");
	if (options->azure && !options->fixed)
		return tool_usage("create",
				  "--azure goes with --fixed only: Azure takes no other type");
	if (options->block_bytes && options->fixed)
		return tool_usage("create", "--block-size goes with --dynamic and --diff only");
	if (options->block_bytes > UINT32_MAX)
		return tool_usage(
			"create",
			"a block size of %llu bytes is not possible; it is a power of two from 512K to 256M",
			(unsigned long long)options->block_bytes);
	return TOOL_DONE;
}

static int round_for_azure(struct creation *creation)
{
	uint64_t *size = &creation->create.size_bytes;

	if (*size > AZURE_MAX)
		return tool_usage("create",
				  "%llu bytes are too many for Azure, whose limit is 32 TiB",
				  (unsigned long long)*size);
	*size = hv_max_u64(hv_round_up(*size, AZURE_UNIT), AZURE_MIN);
	return TOOL_DONE;
}

static int settle_size(struct creation *creation)
{
	const struct create_options *options = creation->options;
	const char *text = options->fixed ? options->fixed : options->dynamic;
	HV_ERR(err);
	int rc;

	if (options->diff)
		return TOOL_DONE;
	creation->max = options->fixed && !strcmp(text, "max");
	if (creation->max && !creation->device)
		return tool_usage("create",
				  "--fixed max goes with a block device only, and %s is none",
				  creation->path);
	if (creation->max)
		return TOOL_DONE;
	rc = hv_size_parse(text, &creation->create.size_bytes, &err);
	if (rc)
		return tool_usage("create", "%s", hv_err_text(&err, rc));
	creation->asked_bytes = creation->create.size_bytes;
	if (options->azure && round_for_azure(creation) != TOOL_DONE)
		return TOOL_USAGE;
	rc = vhd_create_check(&creation->create, &err);
	return rc ? tool_usage("create", "%s", hv_err_text(&err, rc)) : TOOL_DONE;
}

static int settle_options(struct creation *creation)
{
	const struct create_options *options = creation->options;
	struct vhd_create_options *to = &creation->create;
	struct stat st;
	int status = check_options(options);

	if (status != TOOL_DONE)
		return status;
	to->type = options->fixed ? VHD_FIXED : options->dynamic ? VHD_DYNAMIC : VHD_DIFFERENCING;
	to->block_bytes = (uint32_t)options->block_bytes;
	if (options->geometry && !strcmp(options->geometry, "spec"))
		to->geometry = VHD_GEOMETRY_SPEC;
	creation->device = stat(creation->path, &st) == 0 && S_ISBLK(st.st_mode);
	if (creation->device && !options->fixed)
		return tool_usage("create", "%s: a block device can hold a fixed disk only",
				  creation->path);
	return settle_size(creation);
}

static int run_create(void *arg, int count, char **operands)
{
	struct creation creation = {
		.options = arg,
		.path = count ? operands[0] : DEFAULT_PATH,
		.started = hv_now(),
	};
	HV_AUTO(hv_loop_free) struct hv_loop *loop = NULL;
	HV_ERR(err);
	int status = settle_options(&creation);
	int rc;

	if (status != TOOL_DONE)
		return status;
	rc = hv_loop_new(&loop, &err);
	creation.loop = loop;
	if (rc == 0)
		rc = create(&creation, &err);
	status = rc ? tool_failed(&err, rc) : report(&creation);
	hv_disk_close(creation.disk);
	hv_file_close(creation.file);
	return status;
}

static const struct hv_option options_table[] = {
	{ .name = "fixed",
	  .kind = HV_OPTION_STRING,
	  .argument = "SIZE",
	  .help = "a fixed disk; on a block device SIZE may be max",
	  .offset = offsetof(struct create_options, fixed) },
	{ .name = "dynamic",
	  .kind = HV_OPTION_STRING,
	  .argument = "SIZE",
	  .help = "a dynamic disk, which grows as it is written",
	  .offset = offsetof(struct create_options, dynamic) },
	{ .name = "diff",
	  .kind = HV_OPTION_STRING,
	  .argument = "PARENT",
	  .help = "a differencing disk, which holds what differs from PARENT",
	  .offset = offsetof(struct create_options, diff) },
	{ .name = "secure-zero",
	  .kind = HV_OPTION_OPTIONAL,
	  .argument = "MODE",
	  .choices = TOOL_ZERO_CHOICES,
	  .help = "make the disk read as zeros, and prove it (default: auto)",
	  .offset = offsetof(struct create_options, secure_zero) },
	{ .name = "allow-stale",
	  .kind = HV_OPTION_FLAG,
	  .help = "let old contents of the host show inside the disk",
	  .offset = offsetof(struct create_options, allow_stale) },
	{ .name = "block-size",
	  .kind = HV_OPTION_SIZE,
	  .argument = "N",
	  .help = "a power of two from 512K to 256M (default: 2M)",
	  .offset = offsetof(struct create_options, block_bytes) },
	{ .name = "geometry",
	  .kind = HV_OPTION_STRING,
	  .argument = "RULE",
	  .choices = "exact-max|spec",
	  .help = "CHS: exact or largest, so that all agree on the size; or the spec's",
	  .offset = offsetof(struct create_options, geometry) },
	{ .name = "azure",
	  .kind = HV_OPTION_FLAG,
	  .help = "round SIZE up to what Azure takes: whole MiB, 20 MiB at least",
	  .offset = offsetof(struct create_options, azure) },
	{ .name = "force",
	  .letter = 'f',
	  .kind = HV_OPTION_FLAG,
	  .help = "replace an existing file, overwrite a device that holds something",
	  .offset = offsetof(struct create_options, force) },
	TOOL_JSON_OPTION(struct create_options, json),
	TOOL_QUIET_OPTION(struct create_options, quiet),
	{ .name = NULL },
};

const struct hv_command cmd_create = {
	.name = "create",
	.synopsis = "(--fixed SIZE | --dynamic SIZE | --diff PARENT) [OPTION]... [FILE]",
	.help = "make a new disk",
	.details =
		"FILE is disk.vhd where none is given; for --fixed it may be a block device.\n"
		"\n"
		"A fixed disk has all its space reserved at once, and reads as zeros because the\n"
		"filesystem vouches for it; where it does not, nothing is made without --secure-zero\n"
		"or --allow-stale. --secure-zero takes the fastest way that leaves zeros, and\n"
		"proves it; --secure-zero=write writes zeros over every byte and reads them back.",
	.options = options_table,
	.min_operands = 0,
	.max_operands = 1,
	.options_size = sizeof(struct create_options),
	.run = run_create,
};
