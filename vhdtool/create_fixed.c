/*
 * Fixed disks in files and on block devices: space is reserved, not written, and shows no old
 * contents of the host, unless the user accepts that.
 */
#include <errno.h>
#include <sys/statvfs.h>
#include <time.h>

#include "hvcore/probe.h"
#include "hvcore/size.h"
#include "vhdtool/create.h"

#define LOOKS 3
#define BETWEEN_LOOKS_NS 50000000 /* some filesystems free deleted files in the background */

static int open_disk(struct creation *creation, struct hv_err *err)
{
	int rc = vhd_create(creation->file, &creation->create, err);

	if (rc == 0)
		rc = vhd_open(creation->file, 0, &creation->disk, err);
	if (rc == 0)
		creation->file = NULL;
	return rc;
}

static int secure_zero(struct creation *creation, struct hv_file *file, bool reserved,
		       struct hv_err *err)
{
	const struct create_options *options = creation->options;
	struct tool_zero_options zero = {
		.mode = tool_zero_mode_of(options->secure_zero),
		.fill_holes = true,
		.quiet = options->quiet || options->json,
	};
	int rc;

	/* Where space cannot be reserved, it comes with the writing. */
	if (!reserved)
		zero.mode = TOOL_ZERO_WRITE;
	rc = tool_zero_file(file, 0, creation->create.size_bytes, &zero, &creation->zeroing, err);
	creation->zeroed = true;
	creation->grounds = creation->zeroing.grounds;
	return rc;
}

/* Files. */

/*
 * Reserving fails by itself where there is no room, but fills the filesystem for a moment, which
 * other programs would notice. What is larger than all that is free is not even tried.
 */
static int look_for_room(struct hv_file *file, uint64_t need, struct hv_err *err)
{
	const struct timespec pause = { .tv_nsec = BETWEEN_LOOKS_NS };
	char needed[HV_SIZE_TEXT_SIZE], free_text[HV_SIZE_TEXT_SIZE];
	uint64_t free_bytes = 0;

	for (int i = 0; i < LOOKS; i++) {
		struct statvfs fs;

		if (file->fd < 0 || fstatvfs(file->fd, &fs) || !fs.f_blocks)
			return 0;
		free_bytes = (uint64_t)fs.f_bfree * fs.f_frsize;
		if (need <= free_bytes)
			return 0;
		nanosleep(&pause, NULL);
	}
	hv_size_format(need, needed);
	hv_size_format(free_bytes, free_text);
	return hv_fail(err, -ENOSPC, "%s: needs %s, but its filesystem has %s free", file->path,
		       needed, free_text);
}

static int reserve(struct creation *creation, bool *reserved, struct hv_err *err)
{
	uint64_t bytes = creation->create.size_bytes + VHD_FOOTER_BYTES;
	struct hv_file *file = creation->file;
	int rc = look_for_room(file, bytes, err);

	if (rc)
		return rc;
	rc = hv_file_reserve(file, 0, bytes);
	*reserved = rc == 0;
	if (rc == -EOPNOTSUPP && creation->options->secure_zero)
		return 0;
	if (rc == -EOPNOTSUPP)
		return hv_fail(
			err, rc,
			"%s: %s cannot reserve space without writing to it, so that --allow-stale is of no use here; --secure-zero writes zeros",
			file->path, hv_file_fs_name(file));
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot reserve %llu bytes", file->path,
				     (unsigned long long)bytes);
	return 0;
}

/* Without --secure-zero: does the kernel vouch for zeros, or does the user accept anything else? */
static int judge_reserved(struct creation *creation, struct hv_file *file, struct hv_err *err)
{
	bool allow_stale = creation->options->allow_stale;
	int rc = tool_prove_zero(file, 0, creation->create.size_bytes, &creation->zeroing,
				 allow_stale ? NULL : err);

	if (rc > 0) {
		creation->grounds = creation->zeroing.grounds;
		return 0;
	}
	if (rc == 0 && !allow_stale)
		rc = hv_fail(
			err, -EOPNOTSUPP,
			"%s: %s does not promise that reserved space reads as zeros; --secure-zero makes sure that it does, --allow-stale lets old contents of the host show inside the disk",
			file->path, hv_file_fs_name(file));
	return allow_stale ? 0 : rc;
}

int create_fixed_file(struct creation *creation, struct hv_err *err)
{
	const struct create_options *options = creation->options;
	struct hv_file *file;
	bool reserved;
	int rc = hv_file_create(creation->path, HV_FILE_DIRECT, options->force, creation->loop,
				&creation->file, err);

	if (rc)
		return rc;
	rc = reserve(creation, &reserved, err);
	if (rc == 0)
		rc = hv_file_truncate(creation->file,
				      creation->create.size_bytes + VHD_FOOTER_BYTES, err);
	/* The footer first: then the proof is about the file as it will stay. */
	if (rc == 0)
		rc = open_disk(creation, err);
	if (rc)
		return rc;
	file = vhd_get_file(creation->disk);
	if (options->secure_zero)
		return secure_zero(creation, file, reserved, err);
	return judge_reserved(creation, file, err);
}

/* Devices. */

static int choose_size(struct creation *creation, struct hv_err *err)
{
	uint64_t device_bytes = creation->file->size_bytes;
	uint64_t *size = &creation->create.size_bytes;

	if (device_bytes <= VHD_FOOTER_BYTES)
		return hv_fail(err, -ENOSPC, "%s: the device is too small for a disk",
			       creation->path);
	if (creation->max)
		creation->asked_bytes = *size = device_bytes - VHD_FOOTER_BYTES;
	if (*size > device_bytes - VHD_FOOTER_BYTES)
		return hv_fail(err, -ENOSPC,
			       "%s: the device has room for %llu bytes, and %llu were asked for",
			       creation->path,
			       (unsigned long long)(device_bytes - VHD_FOOTER_BYTES),
			       (unsigned long long)*size);
	if (creation->options->azure &&
	    (*size % (1u << 20) || *size + VHD_FOOTER_BYTES != device_bytes))
		return hv_fail(
			err, -EINVAL,
			"%s: for Azure a device must hold whole MiB and the footer of 512 bytes, and nothing else",
			creation->path);
	return vhd_create_check(&creation->create, err);
}

/* A footer or a signature on the device calls for --force. */
static int look_at_contents(struct creation *creation, struct hv_err *err)
{
	HV_AUTO(hv_disk_close) struct hv_disk *disk = NULL;
	HV_AUTO(hv_probe_free) struct hv_probe *probe = NULL;
	HV_AUTO(free) char *what = NULL;
	struct hv_file *file;
	enum vhd_looks looks;
	/* The lock is ours already. */
	int rc = hv_file_open(creation->path, HV_FILE_NO_LOCK, creation->loop, &file, err);

	if (rc)
		return rc;
	rc = vhd_look(file, &looks, err);
	if (rc == 0)
		rc = hv_raw_open(file, file->size_bytes, &disk, err);
	if (rc) {
		hv_file_close(file);
		return rc;
	}
	rc = hv_probe_disk(disk, &probe, err);
	if (rc)
		return rc;
	what = hv_probe_describe(probe);
	if (!what && looks == VHD_LOOKS_NONE)
		return 0;
	return hv_fail(err, -EEXIST, "%s: holds %s%s%s; --force overwrites it", creation->path,
		       looks == VHD_LOOKS_NONE ? "" : "a VHD",
		       looks != VHD_LOOKS_NONE && what ? " with " : "", what ? what : "");
}

int create_fixed_device(struct creation *creation, struct hv_err *err)
{
	const struct create_options *options = creation->options;
	int rc = hv_file_open(creation->path, HV_FILE_WRITE | HV_FILE_DIRECT, creation->loop,
			      &creation->file, err);

	if (rc == 0)
		rc = choose_size(creation, err);
	if (rc == 0 && !options->secure_zero && !options->allow_stale)
		rc = hv_fail(
			err, -EOPNOTSUPP,
			"%s: what a block device held before would show inside the disk; --secure-zero overwrites it, --allow-stale accepts it",
			creation->path);
	if (rc == 0 && !options->force)
		rc = look_at_contents(creation, err);
	/* The footer last: before it is there, nobody takes the device for a disk. */
	if (rc == 0 && options->secure_zero)
		rc = secure_zero(creation, creation->file, true, err);
	if (rc == 0)
		rc = open_disk(creation, err);
	return rc;
}
