/*
 * A loop device lets go of its volume by itself when the filesystem upon it has gone, whoever
 * unmounts that. While one of ours still has a volume, somebody still uses the filesystem.
 */
#include "fuse-mount/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse-mount/reader.h"
#include "hvcore/log.h"

#define ATTEMPTS 16 /* to get a loop device before somebody else does */

struct place {
	char target[PATH_MAX];
	char device[32];         /* /dev/loopN */
	char name[LO_NAME_SIZE]; /* by which the device is known to be ours */
	dev_t mounted;           /* what stat tells of the filesystem */
};

struct fm_kernel {
	unsigned count;
	struct place *places;
};

/* ---- Loop devices ---- */

static int open_free_device(struct place *place)
{
	HV_AUTO(close) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE), fd;

	if (number < 0)
		return -errno;
	snprintf(place->device, sizeof(place->device), "/dev/loop%d", number);
	fd = open(place->device, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Returns a descriptor of the device, or -errno. */
static int attach(struct place *place, int volume_fd)
{
	struct loop_config config = { .fd = (uint32_t)volume_fd,
				      .info.lo_flags = LO_FLAGS_AUTOCLEAR };

	memcpy(config.info.lo_file_name, place->name, sizeof(place->name));
	for (int i = 0; i < ATTEMPTS; i++) {
		int fd = open_free_device(place), code;

		if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return fd;
		code = -errno;
		close(fd);
		if (code != -EBUSY)
			return code;
	}
	return -EBUSY;
}

static bool is_attached(const struct place *place)
{
	HV_AUTO(close) int fd = open(place->device, O_RDONLY | O_CLOEXEC);
	struct loop_info64 info;

	return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
	       strncmp((char *)info.lo_file_name, place->name, sizeof(place->name)) == 0;
}

/* ---- Mounts ---- */

static int mount_device(struct place *place, const char *type, bool write)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | (write ? 0 : MS_RDONLY);
	/* A copy of a disk of this very host has its UUID. */
	const char *data = strcmp(type, "xfs") == 0 ? "nouuid" : NULL;
	struct stat st;

	if (mount(place->device, place->target, type, flags, data) || stat(place->target, &st))
		return -errno;
	place->mounted = st.st_dev;
	return 0;
}

static int mount_volume(struct place *place, int volumes_fd, const struct fm_node *node, bool write)
{
	HV_AUTO(close) int volume = openat(volumes_fd, node->name, O_RDWR | O_CLOEXEC);
	HV_AUTO(close) int device = -1;

	if (volume < 0)
		return -errno;
	snprintf(place->name, sizeof(place->name), "vhdmount %d %s", (int)getpid(), node->name);
	device = attach(place, volume);
	return device < 0 ? device : mount_device(place, node->content->type, write);
}

static void try_volume(struct fm_kernel *kernel, const struct fm_kernel_options *options,
		       int volumes_fd, const struct fm_node *node)
{
	struct place *place = &kernel->places[kernel->count];
	int rc, length = snprintf(place->target, sizeof(place->target), "%s/files/%s",
				  options->directory, node->name);

	if (length >= (int)sizeof(place->target))
		rc = -ENAMETOOLONG;
	else
		rc = mount_volume(place, volumes_fd, node, options->write);
	if (rc)
		hv_log(HV_LOG_WARN, "files/%s: cannot be mounted by the kernel as %s: %s",
		       node->name, node->content->type, strerror(-rc));
	else
		hv_log(HV_LOG_INFO, "files/%s: read by the kernel, through %s", node->name,
		       place->device);
	kernel->count += rc == 0;
}

int fm_kernel_new(const struct fm_kernel_options *options, struct fm_kernel **ret,
		  struct hv_err *err)
{
	const struct fm_node *directory = fm_tree_find(fm_tree_get(options->tree, 1), "files");
	HV_AUTO(fm_kernel_free) struct fm_kernel *kernel = calloc(1, sizeof(*kernel));
	int volumes_fd;

	if (kernel && directory)
		kernel->places = calloc(directory->child_count, sizeof(*kernel->places));
	if (!kernel || (directory && !kernel->places))
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (unsigned i = 0; directory && i < directory->child_count; i++) {
		const struct fm_node *node = directory->children[i];

		if (fm_reader_own(node->content->type))
			continue;
		volumes_fd = fm_browse_volumes(options->browse, err);
		if (volumes_fd < 0)
			return volumes_fd;
		try_volume(kernel, options, volumes_fd, node);
	}
	*ret = hv_steal(kernel);
	return 0;
}

static void unmount(const struct place *place)
{
	struct stat st;
	int fd;

	if (stat(place->target, &st) || st.st_dev != place->mounted)
		return; /* somebody has done it */
	if (umount2(place->target, UMOUNT_NOFOLLOW) == 0 || errno != EBUSY)
		return;
	fd = open(place->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		syncfs(fd);
		close(fd);
	}
	umount2(place->target, UMOUNT_NOFOLLOW | MNT_DETACH);
}

void fm_kernel_unmount(struct fm_kernel *kernel)
{
	for (unsigned i = kernel ? kernel->count : 0; i-- > 0;)
		unmount(&kernel->places[i]);
}

bool fm_kernel_in_use(struct fm_kernel *kernel)
{
	for (unsigned i = 0; kernel && i < kernel->count; i++)
		if (is_attached(&kernel->places[i]))
			return true;
	return false;
}

void fm_kernel_free(struct fm_kernel *kernel)
{
	if (!kernel)
		return;
	free(kernel->places);
	free(kernel);
}
