/*
 * The daemon: the thread of the control plane. I/O is done by the threads of loops.h.
 */
#include "vsp-storage/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/control.h"
#include "vsp-storage/places.h"
#include "vsp-storage/ready.h"

struct daemon {
	struct hv_loop *loop;
	struct vsp_loops *loops;
	struct vsp_control_context context; /* has the registry, roles and audit log */
	struct vsp_control *control;
	struct hv_watch signals;
	char *config_dir, *runtime_dir, *audit_path, *vms_dir, *roles_path, *sockets_dir,
		*control_path;
};

static void happened(void *arg, const char *what, const char *vm, const char *disk,
		     const char *detail)
{
	struct daemon *daemon = arg;

	vsp_control_event(daemon->control, what, vm, disk, detail);
}

/* Signals. */

static void signalled(struct hv_watch *watch, uint32_t events)
{
	struct daemon *daemon = hv_container_of(watch, struct daemon, signals);
	struct signalfd_siginfo info;
	HV_ERR(err);

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGHUP)
		daemon->context.shutdown = true;
	else if (vsp_registry_reload(daemon->context.registry, NULL, &err))
		hv_log(HV_LOG_WARN, "%s", err.sentence);
}

static int watch_signals(struct daemon *daemon, struct hv_err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	daemon->signals.ready = signalled;
	daemon->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (daemon->signals.fd < 0)
		return hv_fail_errno(err, -errno, "cannot wait for signals");
	return hv_loop_watch(daemon->loop, &daemon->signals, EPOLLIN, err);
}

/* Places. */

static int say(const char *given, int (*otherwise)(char **ret, struct hv_err *err), char **ret,
	       struct hv_err *err)
{
	if (!given)
		return otherwise(ret, err);
	*ret = strdup(given);
	return *ret ? 0 : hv_fail(err, -ENOMEM, "not enough memory");
}

static int find_places(struct daemon *daemon, const struct vsp_daemon_options *options,
		       struct hv_err *err)
{
	int rc = say(options->config_dir, vsp_config_dir, &daemon->config_dir, err);

	if (rc == 0)
		rc = say(options->runtime_dir, vsp_runtime_dir, &daemon->runtime_dir, err);
	if (rc == 0)
		rc = say(options->audit_log, vsp_audit_path, &daemon->audit_path, err);
	if (rc == 0)
		rc = vsp_path_join(daemon->config_dir, "vms", &daemon->vms_dir, err);
	if (rc == 0)
		rc = vsp_path_join(daemon->config_dir, "roles.conf", &daemon->roles_path, err);
	if (rc == 0)
		rc = vsp_path_join(daemon->runtime_dir, "vsp", &daemon->sockets_dir, err);
	if (rc == 0)
		rc = vsp_path_join(daemon->runtime_dir, "vspd.sock", &daemon->control_path, err);
	return rc;
}

/* Serving. */

/* Without a file that can be read, only root and our own user have a role. */
static void read_roles(struct daemon *daemon)
{
	HV_ERR(err);

	daemon->context.roles_path = daemon->roles_path;
	if (vsp_roles_read(daemon->roles_path, &daemon->context.roles, &err))
		hv_log(HV_LOG_WARN, "%s", err.sentence);
}

static int set_up(struct daemon *daemon, const struct vsp_daemon_options *options,
		  struct hv_err *err)
{
	struct vsp_control_context *context = &daemon->context;
	int rc = find_places(daemon, options, err);

	if (rc == 0)
		rc = hv_loop_new(&daemon->loop, err);
	if (rc == 0)
		rc = watch_signals(daemon, err);
	if (rc == 0)
		rc = vsp_loops_new(options->loops, options->poll_percent, &daemon->loops, err);
	if (rc == 0)
		rc = vsp_registry_new(daemon->loop, daemon->loops, daemon->vms_dir,
				      daemon->sockets_dir, &context->registry, err);
	if (rc == 0)
		rc = vsp_audit_open(daemon->audit_path, &context->audit, err);
	/* Who is there already has the control socket, and keeps the disks. */
	if (rc == 0)
		rc = vsp_control_new(daemon->loop, daemon->control_path, context, &daemon->control,
				     err);
	if (rc)
		return rc;
	read_roles(daemon);
	context->registry->event = happened;
	context->registry->event_arg = daemon;
	rc = vsp_registry_reload(context->registry, NULL, err);
	return rc ? rc : vsp_ready_tell(options->pidfile, err);
}

static void turn(struct daemon *daemon)
{
	int sleep_ms = vsp_registry_turn(daemon->context.registry);

	vsp_control_turn(daemon->control);
	hv_loop_serve(daemon->loop, sleep_ms);
}

/* What the turn has brought to its end is nothing to sleep for. What is still told goes nowhere. */
static void settle(struct daemon *daemon, struct vsp_registry *registry)
{
	int sleep_ms = vsp_registry_turn(registry);

	while (!vsp_registry_is_settled(registry, registry->tickets)) {
		hv_loop_serve(daemon->loop, sleep_ms);
		sleep_ms = vsp_registry_turn(registry);
	}
	hv_loop_serve(daemon->loop, 0);
}

static void tear_down(struct daemon *daemon)
{
	struct vsp_registry *registry = daemon->context.registry;

	if (registry) {
		registry->event = NULL;
		vsp_registry_drain(registry, NULL);
	}
	vsp_control_free(daemon->control);
	if (registry)
		settle(daemon, registry);
	vsp_registry_free(registry);
	vsp_loops_free(daemon->loops);
	vsp_roles_free(daemon->context.roles);
	vsp_audit_close(daemon->context.audit);
	if (daemon->signals.fd >= 0)
		close(daemon->signals.fd);
	hv_loop_free(daemon->loop);
	free(daemon->config_dir);
	free(daemon->runtime_dir);
	free(daemon->audit_path);
	free(daemon->vms_dir);
	free(daemon->roles_path);
	free(daemon->sockets_dir);
	free(daemon->control_path);
}

int vsp_daemon_run(const struct vsp_daemon_options *options, struct hv_err *err)
{
	struct daemon daemon = { .signals.fd = -1 };
	int rc = set_up(&daemon, options, err);

	while (rc == 0 && !daemon.context.shutdown)
		turn(&daemon);
	tear_down(&daemon);
	vsp_ready_untell(options->pidfile);
	return rc;
}
