/*
 * vspd: serves disks to virtual machines and NBD clients.
 *
 * One loop serves everything. SIGTERM or SIGINT end it: what is in flight finishes, clients that do
 * not take their replies within DRAIN_SECONDS are cut off, and all disks are flushed.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>

#include "hvcore/log.h"
#include "hvcore/option.h"
#include "vsp-storage/address.h"
#include "vsp-storage/daemon.h"
#include "vsp-storage/disk_spec.h"
#include "vsp-storage/loops.h"
#include "vsp-storage/nbd.h"
#include "vsp-storage/ready.h"
#include "vsp-storage/vhost.h"

#define DRAIN_SECONDS 5
#define MMAP_FROM (256 << 10)

enum { VSPD_DONE = 0, VSPD_FAILED = 1, VSPD_USAGE = 2 };

struct options {
	const char **disks, **nbd, **vhost_user;
	bool inetd, read_only;
	const char *cache, *discard, *serial, *sector, *format, *parent, *loops, *pidfile;
	const char *config_dir, *runtime_dir, *audit_log;
};

struct served {
	struct vsp_device *device;
	char *name;
};

struct vspd {
	struct hv_loop *loop;
	struct served *disks;
	size_t disk_count;
	struct vsp_nbd *nbd;
	struct vsp_listener *listeners;
	size_t listener_count;
	struct hv_watch signals;
	bool inetd; /* ends with its only connection */
	bool stops;
};

static int failed(const struct hv_err *err, int code)
{
	fprintf(stderr, "vspd: %s\n", hv_err_text(err, code));
	return VSPD_FAILED;
}

static int usage(const struct hv_err *err, int code)
{
	failed(err, code);
	fprintf(stderr, "try vspd --help\n");
	return VSPD_USAGE;
}

/* Disks. */

/* What --cache and its like say of all disks, as options of each. */
static int set_defaults(struct vsp_disk_spec *spec, const struct options *options,
			struct hv_err *err)
{
	const struct {
		const char *name, *value;
	} defaults[] = {
		{ "readonly", options->read_only ? "on" : NULL },
		{ "cache", options->cache },
		{ "discard", options->discard },
		{ "serial", options->serial },
		{ "sector", options->sector },
		{ "format", options->format },
		{ "parent", options->parent },
	};
	char option[PATH_MAX + 16];
	int rc = 0;

	spec->device.discard = true;
	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]) && rc == 0; i++) {
		if (!defaults[i].value)
			continue;
		if ((size_t)snprintf(option, sizeof(option), "%s=%s", defaults[i].name,
				     defaults[i].value) >= sizeof(option))
			return hv_fail(err, -ENAMETOOLONG, "--%s: the value is too long",
				       defaults[i].name);
		rc = vsp_disk_spec_set(spec, option, err);
	}
	return rc;
}

static int parse_disks(const struct options *options, struct vsp_disk_spec *specs,
		       struct hv_err *err)
{
	for (size_t i = 0; options->disks[i]; i++) {
		int rc = set_defaults(&specs[i], options, err);

		if (rc == 0)
			rc = vsp_disk_spec_parse(options->disks[i], &specs[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_disk(struct vspd *vspd, struct vsp_disk_spec *spec, struct hv_err *err)
{
	struct served *served = &vspd->disks[vspd->disk_count];
	int rc = vsp_disk_spec_open(spec, vspd->loop, &served->device, err);

	if (rc)
		return rc;
	vspd->disk_count++;
	served->name = hv_steal(spec->name);
	return vsp_nbd_export(vspd->nbd, served->name, served->device, err);
}

/* vhost-user. */

static struct vsp_device *find_disk(const struct vspd *vspd, const char *name, size_t length)
{
	for (size_t i = 0; i < vspd->disk_count; i++)
		if (strlen(vspd->disks[i].name) == length &&
		    !memcmp(vspd->disks[i].name, name, length))
			return vspd->disks[i].device;
	return NULL;
}

/* PATH, or NAME=PATH. */
static int serve_vhost_user(struct vspd *vspd, const char *text, struct hv_err *err)
{
	size_t length = vsp_disk_spec_name_length(text);
	struct vsp_device *device;

	if (!length && vspd->disk_count > 1)
		return hv_fail(err, -EINVAL,
			       "\"%s\": there are several disks, say which: --vhost-user NAME=PATH",
			       text);
	if (!length)
		return vsp_vhost_serve(vspd->disks[0].device, text, NULL, err);
	device = find_disk(vspd, text, length);
	if (!device)
		return hv_fail(err, -EINVAL, "\"%s\": there is no disk of that name", text);
	return vsp_vhost_serve(device, text + length + 1, NULL, err);
}

/* Listening. */

static int listen_on(struct vspd *vspd, const char *address, struct hv_err *err)
{
	struct vsp_listener *listener = &vspd->listeners[vspd->listener_count];
	int rc;

	*listener = (struct vsp_listener)VSP_NO_LISTENER;
	rc = vsp_listen(address, listener, err);
	if (rc)
		return rc;
	vspd->listener_count++;
	return vsp_nbd_listen(vspd->nbd, listener->fd, err);
}

/* The client is on standard input and, being a socket, output. */
static int serve_stdin(struct vspd *vspd, struct hv_err *err)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot use standard input");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	vspd->inetd = true;
	return vsp_nbd_connect(vspd->nbd, fd, err);
}

static int listen_all(struct vspd *vspd, const struct options *options, struct hv_err *err)
{
	unsigned given = vsp_ready_sockets();
	size_t count = given;
	bool inetd = options->inetd;
	int rc = 0;

	for (const char **address = options->nbd; address && *address; address++)
		count++;
	vspd->listeners = calloc(count + 1, sizeof(*vspd->listeners));
	if (!vspd->listeners)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (unsigned i = 0; i < given && rc == 0; i++) {
		int fd = VSP_READY_FIRST_SOCKET + (int)i;

		vspd->listeners[vspd->listener_count++] = (struct vsp_listener){ .fd = fd };
		rc = vsp_nbd_listen(vspd->nbd, fd, err);
	}
	for (const char **address = options->nbd; address && *address && rc == 0; address++) {
		if (!strcmp(*address, "-"))
			inetd = true;
		else
			rc = listen_on(vspd, *address, err);
	}
	if (inetd && rc == 0)
		rc = serve_stdin(vspd, err);
	for (const char **path = options->vhost_user; path && *path && rc == 0; path++)
		rc = serve_vhost_user(vspd, *path, err);
	if (rc == 0 && !vspd->listener_count && !inetd && !options->vhost_user)
		rc = hv_fail(err, -EINVAL,
			     "nothing to listen on: give --vhost-user PATH or --nbd ADDRESS");
	return rc;
}

/* Serving. */

static void signalled(struct hv_watch *watch, uint32_t events)
{
	struct vspd *vspd = (struct vspd *)((char *)watch - offsetof(struct vspd, signals));
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) == sizeof(info))
		vspd->stops = true;
}

static int watch_signals(struct vspd *vspd, struct hv_err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	vspd->signals.ready = signalled;
	vspd->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vspd->signals.fd < 0)
		return hv_fail_errno(err, -errno, "cannot wait for signals");
	return hv_loop_watch(vspd->loop, &vspd->signals, EPOLLIN, err);
}

static bool is_idle(const struct vspd *vspd)
{
	for (size_t i = 0; i < vspd->disk_count; i++)
		if (!vsp_device_is_idle(vspd->disks[i].device))
			return false;
	return !vsp_nbd_connections(vspd->nbd);
}

static void drain(struct vspd *vspd)
{
	time_t deadline = time(NULL) + DRAIN_SECONDS;

	vsp_nbd_stop(vspd->nbd);
	for (size_t i = 0; i < vspd->disk_count; i++)
		vsp_device_dismiss(vspd->disks[i].device);
	while (!is_idle(vspd)) {
		hv_loop_serve(vspd->loop, 100);
		if (time(NULL) > deadline)
			vsp_nbd_cut(vspd->nbd);
	}
}

/* Every disk is flushed, whatever becomes of the others. */
static int flush_all(struct vspd *vspd)
{
	int status = VSPD_DONE;

	for (size_t i = 0; i < vspd->disk_count; i++) {
		struct vsp_device *device = vspd->disks[i].device;
		HV_ERR(err);
		int rc = device->read_only ? 0 : hv_disk_flush(device->disk, &err);

		if (rc)
			status = failed(&err, rc);
	}
	return status;
}

static void close_all(struct vspd *vspd)
{
	for (size_t i = 0; i < vspd->listener_count; i++)
		vsp_listener_close(&vspd->listeners[i]);
	free(vspd->listeners);
	if (vspd->nbd)
		drain(vspd);
	vsp_nbd_free(vspd->nbd);
}

static int serve(struct vspd *vspd, const struct options *options)
{
	HV_ERR(err);
	int rc = vsp_ready_tell(options->pidfile, &err);

	if (rc)
		return failed(&err, rc);
	while (!vspd->stops && !(vspd->inetd && !vsp_nbd_connections(vspd->nbd)))
		hv_loop_serve(vspd->loop, -1);
	return VSPD_DONE;
}

static int set_up(struct vspd *vspd, const struct options *options, struct vsp_disk_spec *specs,
		  struct hv_err *err)
{
	int rc = hv_loop_new(&vspd->loop, err);

	if (rc == 0)
		rc = watch_signals(vspd, err);
	if (rc == 0)
		rc = vsp_nbd_new(vspd->loop, &vspd->nbd, err);
	for (size_t i = 0; options->disks[i] && rc == 0; i++)
		rc = add_disk(vspd, &specs[i], err);
	if (rc == 0)
		rc = listen_all(vspd, options, err);
	return rc;
}

static void tear_down(struct vspd *vspd)
{
	for (size_t i = 0; i < vspd->disk_count; i++) {
		vsp_device_free(vspd->disks[i].device);
		free(vspd->disks[i].name);
	}
	free(vspd->disks);
	if (vspd->signals.fd >= 0)
		close(vspd->signals.fd);
	hv_loop_free(vspd->loop);
}

static int run_specs(const struct options *options, struct vsp_disk_spec *specs, size_t count)
{
	struct vspd vspd = { .signals.fd = -1, .disks = calloc(count, sizeof(struct served)) };
	HV_ERR(err);
	int rc = vspd.disks ? set_up(&vspd, options, specs, &err) : -ENOMEM;
	int status = rc ? failed(&err, rc) : serve(&vspd, options);

	close_all(&vspd);
	if (flush_all(&vspd))
		status = VSPD_FAILED;
	vsp_ready_untell(options->pidfile);
	tear_down(&vspd);
	return status;
}

/* Without --disk, the VMs of the configuration directory. */
static int run_daemon(const struct options *options)
{
	struct vsp_daemon_options daemon = { .config_dir = options->config_dir,
					     .runtime_dir = options->runtime_dir,
					     .audit_log = options->audit_log,
					     .pidfile = options->pidfile };
	HV_ERR(err);
	int rc = vsp_loops_parse(options->loops, &daemon.loops, &err);

	if (rc)
		return usage(&err, rc);
	if (options->nbd || options->inetd)
		return usage(&err, hv_fail(&err, -EINVAL, "no disk: give --disk FILE"));
	rc = vsp_daemon_run(&daemon, &err);
	return rc ? failed(&err, rc) : VSPD_DONE;
}

static int run(void *arg, int operand_count, char **operands)
{
	const struct options *options = arg;
	struct vsp_disk_spec *specs;
	size_t count = 0;
	int status, rc;
	HV_ERR(err);

	(void)operand_count;
	(void)operands;
	while (options->disks && options->disks[count])
		count++;
	if (!count)
		return run_daemon(options);
	specs = calloc(count, sizeof(*specs));
	if (!specs)
		return failed(&err, -ENOMEM);
	rc = parse_disks(options, specs, &err);
	status = rc ? usage(&err, rc) : run_specs(options, specs, count);
	for (size_t i = 0; i < count; i++)
		vsp_disk_spec_done(&specs[i]);
	free(specs);
	return status;
}

static const struct hv_option table[] = {
	{ .name = "disk",
	  .letter = 'd',
	  .kind = HV_OPTION_STRINGS,
	  .argument = "[NAME=]FILE[,OPTION...]",
	  .help = "a disk to serve; may be given several times",
	  .offset = offsetof(struct options, disks) },
	{ .name = "nbd",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "ADDRESS",
	  .help = "serve NBD on unix:PATH, tcp:HOST:PORT or - (standard input)",
	  .offset = offsetof(struct options, nbd) },
	{ .name = "vhost-user",
	  .kind = HV_OPTION_STRINGS,
	  .argument = "[NAME=]PATH",
	  .help = "serve a disk to a virtual machine on this Unix socket",
	  .offset = offsetof(struct options, vhost_user) },
	{ .name = "inetd",
	  .kind = HV_OPTION_FLAG,
	  .help = "serve one NBD client on standard input, then end",
	  .offset = offsetof(struct options, inetd) },
	{ .name = "read-only",
	  .letter = 'r',
	  .kind = HV_OPTION_FLAG,
	  .help = "open disks read-only",
	  .offset = offsetof(struct options, read_only) },
	{ .name = "cache",
	  .kind = HV_OPTION_STRING,
	  .argument = "MODE",
	  .choices = "none|writeback|unsafe",
	  .help = "bypass the page cache (default), use it, or ignore flushes, too",
	  .offset = offsetof(struct options, cache) },
	{ .name = "discard",
	  .kind = HV_OPTION_STRING,
	  .argument = "on|off",
	  .choices = "on|off",
	  .help = "give back space that clients discard (default: on)",
	  .offset = offsetof(struct options, discard) },
	{ .name = "serial",
	  .kind = HV_OPTION_STRING,
	  .argument = "TEXT",
	  .help = "serial number, up to 20 characters",
	  .offset = offsetof(struct options, serial) },
	{ .name = "sector-size",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .choices = "512|4096",
	  .help = "logical sector size shown to guests (default: 512)",
	  .offset = offsetof(struct options, sector) },
	{ .name = "format",
	  .kind = HV_OPTION_STRING,
	  .argument = "FMT",
	  .choices = "raw|vhd",
	  .help = "format of the disks (default: found by looking)",
	  .offset = offsetof(struct options, format) },
	{ .name = "parent",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "where the parent of a differencing disk is",
	  .offset = offsetof(struct options, parent) },
	{ .name = "loops",
	  .kind = HV_OPTION_STRING,
	  .argument = "N",
	  .help = "threads that do I/O (default: one for each processor)",
	  .offset = offsetof(struct options, loops) },
	{ .name = "config-dir",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "without --disk: serve the VMs of DIR/vms/NAME.conf",
	  .offset = offsetof(struct options, config_dir) },
	{ .name = "runtime-dir",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "likewise: where sockets are",
	  .offset = offsetof(struct options, runtime_dir) },
	{ .name = "audit-log",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "likewise: where changes are recorded",
	  .offset = offsetof(struct options, audit_log) },
	{ .name = "pidfile",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "write the process id there once clients can connect",
	  .offset = offsetof(struct options, pidfile) },
	{ 0 },
};

static const struct hv_command command = {
	.name = "vspd",
	.synopsis = "--disk [NAME=]FILE[,OPTION...] [--vhost-user PATH] [--nbd ADDRESS] [OPTIONS]",
	.help = "serves virtual disks",
	.details = "Options of one disk stand after its file, with commas: readonly, cache=MODE,\n"
		   "discard=on|off, serial=TEXT, sector=N, format=FMT, parent=FILE.\n"
		   "SIGTERM and SIGINT end it cleanly.",
	.options = table,
	.options_size = sizeof(struct options),
	.run = run,
};

static const struct hv_program program = {
	.name = "vspd",
	.summary = "serves virtual disks",
	.version = HVKIT_VERSION,
	.command = &command,
};

int main(int argc, char **argv)
{
	hv_log_set_level(HV_LOG_WARN);
	/* What clients made us allocate goes back to the system when they have gone. */
	mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
	return hv_program_run(&program, argc, argv);
}
