/*
 * A disk of a VM: how it is opened, and how it ends without losing anything.
 */
#include "vsp-storage/vm_disk.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hvcore/clock.h"
#include "hvcore/container.h"

#define LEAVE_NS UINT64_C(5000000000)
#define DIRECTORY_MODE 0755

const char *vsp_disk_state_name(const struct vsp_disk *disk)
{
	static const char *const names[] = { [VSP_DISK_ABSENT] = "absent",
					     [VSP_DISK_SERVED] = "served",
					     [VSP_DISK_DISMISSED] = "leaving",
					     [VSP_DISK_FLUSHING] = "leaving" };

	if (disk->state == VSP_DISK_SERVED && disk->device->on_error.code)
		return "stopped";
	return names[disk->state];
}

const char *vsp_disk_trouble(const struct vsp_disk *disk)
{
	if (!disk->fault && disk->device)
		return disk->device->on_error.why;
	return disk->fault;
}

struct vsp_disk *vsp_disk_new(const char *name)
{
	struct vsp_disk *disk = calloc(1, sizeof(*disk));

	if (!disk || !(disk->name = strdup(name))) {
		free(disk);
		return NULL;
	}
	disk->listener.fd = -1;
	return disk;
}

void vsp_disk_free(struct vsp_disk *disk)
{
	if (!disk)
		return;
	free(disk->name);
	free(disk->fault);
	free(disk);
}

/* Everything is idle. */
static void close_disk(struct vsp_disk *disk)
{
	vsp_qos_leave(&disk->limits);
	vsp_nbd_free(disk->nbd);
	vsp_listener_close(&disk->listener);
	vsp_device_free(disk->device);
	free(hv_steal(disk->vhost_path));
	disk->nbd = NULL;
	disk->device = NULL;
	disk->state = VSP_DISK_ABSENT;
}

/* Serving. */

static int give_to_group(const char *path, const char *group, gid_t gid, struct hv_err *err)
{
	if (chown(path, (uid_t)-1, gid) || chmod(path, group ? 0660 : 0600))
		return hv_fail_errno(err, -errno, "%s: cannot give it to the group \"%s\"", path,
				     group ? group : "");
	return 0;
}

int vsp_disk_set_group(struct vsp_disk *disk, const char *group, struct hv_err *err)
{
	const struct group *entry = group ? getgrnam(group) : NULL;
	gid_t gid = entry ? entry->gr_gid : (gid_t)-1;
	int rc;

	if (group && !entry)
		return hv_fail(err, -ENOENT, "there is no group \"%s\"", group);
	rc = give_to_group(disk->listener.path, group, gid, err);
	return rc ? rc : give_to_group(disk->vhost_path, group, gid, err);
}

static int listen_nbd(struct vsp_disk *disk, const char *directory, struct hv_err *err)
{
	HV_AUTO(free) char *path = NULL;
	int rc;

	if (asprintf(&path, "%s/%s.nbd", directory, disk->name) < 0)
		return hv_fail(err, -ENOMEM, "not enough memory");
	rc = vsp_listen_unix(path, &disk->listener, err);
	return rc ? rc : vsp_nbd_listen(disk->nbd, disk->listener.fd, err);
}

static int listen_vhost(struct vsp_disk *disk, const char *directory, struct hv_err *err)
{
	if (asprintf(&disk->vhost_path, "%s/%s.vhost", directory, disk->name) < 0) {
		disk->vhost_path = NULL;
		return hv_fail(err, -ENOMEM, "not enough memory");
	}
	return vsp_vhost_serve(disk->device, disk->vhost_path, &disk->vhost, err);
}

static int listen_all(struct vsp_disk *disk, const struct vsp_disk_place *place, struct hv_err *err)
{
	int rc;

	if (mkdir(place->directory, DIRECTORY_MODE) && errno != EEXIST)
		return hv_fail_errno(err, -errno, "%s: cannot make the directory",
				     place->directory);
	rc = listen_vhost(disk, place->directory, err);
	if (rc == 0)
		rc = listen_nbd(disk, place->directory, err);
	return rc ? rc : vsp_disk_set_group(disk, place->socket_group, err);
}

static int serve(struct vsp_disk *disk, const struct vsp_disk_spec *spec, struct hv_disk *opened,
		 const struct vsp_disk_place *place, struct hv_err *err)
{
	int rc = vsp_disk_spec_device(spec, opened, &disk->device, err);

	if (rc)
		return rc;
	rc = vsp_qos_join(place->loop->qos, &disk->limits, disk->device, &spec->limits,
			  place->meter, err);
	if (rc == 0)
		rc = vsp_nbd_new(place->loop->loop, &disk->nbd, err);
	if (rc == 0)
		rc = vsp_nbd_export(disk->nbd, disk->name, disk->device, err);
	return rc ? rc : listen_all(disk, place, err);
}

static void give_up(struct vsp_disk *disk)
{
	disk->vhost = NULL;
	if (disk->nbd)
		vsp_nbd_stop(disk->nbd);
	if (disk->device)
		vsp_device_dismiss(disk->device);
	close_disk(disk);
}

void vsp_disk_refuse(struct vsp_disk *disk, const char *why)
{
	free(disk->fault);
	disk->fault = strdup(why);
	disk->wanted = false;
}

int vsp_disk_serve(struct vsp_disk *disk, const struct vsp_disk_spec *spec, struct hv_disk *opened,
		   const struct vsp_disk_place *place, struct hv_err *err)
{
	HV_ERR(cause);
	int rc = serve(disk, spec, opened, place, &cause);

	if (rc) {
		give_up(disk);
		vsp_disk_refuse(disk, hv_err_text(&cause, rc));
		return hv_fail(err, rc, "%s", hv_err_text(&cause, rc));
	}
	free(hv_steal(disk->fault));
	disk->wanted = false;
	disk->state = VSP_DISK_SERVED;
	return 0;
}

/* Leaving. */

void vsp_disk_dismiss(struct vsp_disk *disk, uint64_t ticket)
{
	if (disk->state != VSP_DISK_SERVED)
		return;
	disk->state = VSP_DISK_DISMISSED;
	disk->ticket = ticket;
	disk->deadline_ns = hv_now_ns() + LEAVE_NS;
	vsp_nbd_stop(disk->nbd);
	vsp_listener_close(&disk->listener);
	vsp_qos_leave(&disk->limits);
	disk->vhost = NULL;
	vsp_device_dismiss(disk->device);
}

static void flush_done(struct hv_io *io, int result)
{
	struct vsp_disk *disk = hv_container_of(io, struct vsp_disk, flush);

	disk->flushed = true;
	disk->flush_result = result;
}

static void note_flush(struct vsp_disk *disk)
{
	if (disk->flush_result == 0)
		return;
	free(disk->fault);
	if (asprintf(&disk->fault, "%s: the last flush failed: %s", disk->device->disk->path,
		     strerror(-disk->flush_result)) < 0)
		disk->fault = NULL;
}

static void begin_flush(struct vsp_disk *disk)
{
	disk->state = VSP_DISK_FLUSHING;
	disk->flushed = disk->device->read_only;
	disk->flush_result = 0;
	disk->flush = (struct hv_io){ .op = HV_FLUSH, .done = flush_done };
	if (!disk->flushed)
		hv_disk_submit(disk->device->disk, &disk->flush);
}

void vsp_disk_turn(struct vsp_disk *disk)
{
	if (disk->state == VSP_DISK_DISMISSED) {
		if (hv_now_ns() > disk->deadline_ns)
			vsp_nbd_cut(disk->nbd);
		if (vsp_device_is_idle(disk->device) && !vsp_nbd_connections(disk->nbd))
			begin_flush(disk);
	}
	if (disk->state == VSP_DISK_FLUSHING && disk->flushed) {
		note_flush(disk);
		close_disk(disk);
	}
}

/* Growing. */

int vsp_disk_grow_begin(struct vsp_disk *disk, uint64_t size_bytes, struct hv_err *err)
{
	const struct hv_disk *layer;

	layer = disk->device->disk;
	if (disk->device->read_only)
		return hv_fail(err, -EROFS, "%s: is served read-only", layer->path);
	if (!strcmp(hv_disk_format(layer), "raw") || !strcmp(hv_disk_format(layer), "null"))
		return hv_fail(err, -ENOTSUP, "%s: only a VHD can grow while it is served",
			       layer->path);
	if (size_bytes < layer->size_bytes)
		return hv_fail(err, -EINVAL, "%s: a disk does not shrink while it is served",
			       layer->path);
	if (size_bytes % HV_SECTOR_SIZE)
		return hv_fail(err, -EINVAL, "a size of %llu bytes is not a multiple of 512",
			       (unsigned long long)size_bytes);
	vsp_qos_pause(&disk->limits);
	return 0;
}

bool vsp_disk_grow_lend(struct vsp_disk *disk, struct hv_loop *loop)
{
	if (!vsp_qos_is_quiet(&disk->limits))
		return false;
	vsp_device_lend(disk->device, loop);
	return true;
}

void vsp_disk_grow_end(struct vsp_disk *disk)
{
	vsp_device_take_back(disk->device);
	vsp_device_resized(disk->device);
	vsp_qos_resume(&disk->limits);
}
