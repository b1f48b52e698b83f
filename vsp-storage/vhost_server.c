/*
 * The listening socket, and one session at a time. While there is one, the next front end waits in
 * the socket's queue: two guests never write to one disk, and what the last one left in flight has
 * ended when the next one begins.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/address.h"
#include "vsp-storage/vhost.h"
#include "vsp-storage/vhost_session.h"

struct vsp_vhost {
	struct vsp_client client;
	struct vsp_device *device;
	struct vsp_listener listener;
	struct hv_watch watch;
	struct vsp_session *session; /* NULL: none */
	bool leaving;
};

static void end(struct vsp_vhost *vhost)
{
	hv_loop_unwatch(vhost->device->loop, &vhost->watch);
	vsp_listener_close(&vhost->listener);
	vsp_device_detach(vhost->device, &vhost->client);
	free(vhost);
}

static void session_ended(struct vsp_session *session)
{
	struct vsp_vhost *vhost = session->owner;

	vsp_session_free(session);
	vhost->session = NULL;
	if (vhost->leaving)
		end(vhost);
	else
		hv_loop_rewatch(vhost->device->loop, &vhost->watch, EPOLLIN);
}

static void knocked(struct hv_watch *watch, uint32_t events)
{
	struct vsp_vhost *vhost = hv_container_of(watch, struct vsp_vhost, watch);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	HV_ERR(err);

	(void)events;
	if (fd < 0)
		return;
	if (vsp_session_new(vhost->device, fd, vhost->listener.path, &vhost->session, &err)) {
		hv_log(HV_LOG_WARN, "%s: %s", vhost->listener.path, err.sentence);
		close(fd);
		return;
	}
	vhost->session->owner = vhost;
	vhost->session->ended = session_ended;
	hv_loop_rewatch(vhost->device->loop, watch, 0);
}

static void resized(struct vsp_client *client)
{
	struct vsp_vhost *vhost = (struct vsp_vhost *)client;

	if (vhost->session)
		vsp_session_resized(vhost->session);
}

static void kept(struct vsp_client *client)
{
	struct vsp_vhost *vhost = (struct vsp_vhost *)client;

	if (vhost->session)
		vsp_session_kept(vhost->session);
}

static void detach(struct vsp_client *client)
{
	struct vsp_vhost *vhost = (struct vsp_vhost *)client;

	vhost->leaving = true;
	if (vhost->session)
		vsp_session_close(vhost->session);
	else
		end(vhost);
}

bool vsp_vhost_is_connected(const struct vsp_vhost *vhost)
{
	return vhost->session;
}

int vsp_vhost_serve(struct vsp_device *device, const char *path, struct vsp_vhost **ret,
		    struct hv_err *err)
{
	struct vsp_vhost *vhost = calloc(1, sizeof(*vhost));
	int rc;

	if (!vhost)
		return hv_fail(err, -ENOMEM, "not enough memory for a vhost-user socket");
	vhost->device = device;
	vhost->client = (struct vsp_client){ .resized = resized, .detach = detach, .kept = kept };
	rc = vsp_listen_unix(path, &vhost->listener, err);
	if (rc) {
		free(vhost);
		return rc;
	}
	vhost->watch = (struct hv_watch){ .fd = vhost->listener.fd, .ready = knocked };
	rc = hv_loop_watch(device->loop, &vhost->watch, EPOLLIN, err);
	if (rc) {
		vsp_listener_close(&vhost->listener);
		free(vhost);
		return rc;
	}
	vsp_device_attach(device, &vhost->client);
	if (ret)
		*ret = vhost;
	return 0;
}
