/*
 * vspd: serves disks to virtual machines and NBD clients.
 *
 * The main thread waits for signals; the threads of loops.h serve. SIGTERM or SIGINT end it: what
 * is in flight finishes, clients that do not take their replies within DRAIN_SECONDS are cut off,
 * and all disks are flushed.
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
#include "vsp-storage/confine.h"
#include "vsp-storage/daemon.h"
#include "vsp-storage/disk_spec.h"
#include "vsp-storage/loops.h"
#include "vsp-storage/nbd.h"
#include "vsp-storage/ready.h"
#include "vsp-storage/vhost.h"

#define DRAIN_SECONDS 5
#define DRAIN_LOOK_MS 10
#define MMAP_FROM (256 << 10)

enum { VSPD_DONE = 0, VSPD_FAILED = 1, VSPD_USAGE = 2 };

struct options {
	const char **disks, **nbd, **vhost_user;
	bool inetd, read_only;
	const char *cache, *discard, *serial, *sector, *format, *parent, *loops, *pidfile, *sandbox;
	const char *config_dir, *runtime_dir, *audit_log;
	uint64_t poll_percent;
	const char *tls_certs, *tls_psk, *tls;
};

static const struct options option_defaults = { .poll_percent = 10 };

struct served {
	struct vsp_device *device;
	struct vsp_loop *loop;
	struct vsp_qos_member limits;
	char *name;
};

struct vspd {
	struct hv_loop *loop; /* for signals */
	struct vsp_loops *loops;
	struct served *disks;
	size_t disk_count;
	struct vsp_tls *tls; /* NULL: none */
	enum vsp_tls_mode tls_mode;
	struct vsp_nbd **nbd; /* one for each loop; the first has the sockets */
	struct vsp_listener *listeners;
	size_t listener_count;
	struct hv_watch signals;
	struct hv_work client_left;
	bool left; /* client_left is posted: the only client of --inetd has gone */
	bool stops;
};

/* What a loop's thread does for us. */
struct job {
	int (*run)(struct job *job);
	struct vspd *vspd;
	const struct options *options;
	struct vsp_loop *loop;
	struct served *disk;
	struct vsp_disk_spec *spec;
	const char *path;
	struct hv_err *err;
	int rc;
};

static void run_job(void *arg)
{
	struct job *job = arg;

	job->rc = job->run(job);
}

static int do_job(struct vsp_loop *loop, struct job *job)
{
	job->loop = loop;
	vsp_loop_run(loop, run_job, job);
	return job->rc;
}

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

	spec->device = (struct vsp_device_options)VSP_DEVICE_DEFAULTS;
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

static int open_disk(struct job *job)
{
	struct served *disk = job->disk;
	int rc = vsp_disk_spec_open(job->spec, job->loop->loop, &disk->device, job->err);

	if (rc)
		return rc;
	disk->loop = job->loop;
	disk->loop->disks++;
	disk->name = hv_steal(job->spec->name);
	job->vspd->disk_count++;
	return vsp_qos_join(job->loop->qos, &disk->limits, disk->device, &job->spec->limits, NULL,
			    job->err);
}

static int open_disks(struct vspd *vspd, const struct options *options, struct vsp_disk_spec *specs,
		      struct hv_err *err)
{
	int rc = 0;

	for (size_t i = 0; options->disks[i] && rc == 0; i++) {
		struct job job = { .run = open_disk,
				   .vspd = vspd,
				   .disk = &vspd->disks[i],
				   .spec = &specs[i],
				   .err = err };

		rc = do_job(vsp_loops_least(vspd->loops), &job);
	}
	return rc;
}

/* vhost-user. */

static struct served *find_disk(const struct vspd *vspd, const char *name, size_t length)
{
	for (size_t i = 0; i < vspd->disk_count; i++)
		if (strlen(vspd->disks[i].name) == length &&
		    !memcmp(vspd->disks[i].name, name, length))
			return &vspd->disks[i];
	return NULL;
}

static int listen_vhost_user(struct job *job)
{
	return vsp_vhost_serve(job->disk->device, job->path, NULL, job->err);
}

/* PATH, or NAME=PATH. */
static int serve_vhost_user(struct vspd *vspd, const char *text, struct hv_err *err)
{
	size_t length = vsp_disk_spec_name_length(text);
	struct job job = {
		.run = listen_vhost_user, .disk = &vspd->disks[0], .path = text, .err = err
	};

	if (!length && vspd->disk_count > 1)
		return hv_fail(err, -EINVAL,
			       "\"%s\": there are several disks, say which: --vhost-user NAME=PATH",
			       text);
	if (length) {
		job.disk = find_disk(vspd, text, length);
		job.path = text + length + 1;
	}
	if (!job.disk)
		return hv_fail(err, -EINVAL, "\"%s\": there is no disk of that name", text);
	return do_job(job.disk->loop, &job);
}

/* NBD: the server of the first loop, with the others as its peers. */

static int new_nbd(struct job *job)
{
	return vsp_nbd_new(job->loop->loop, &job->vspd->nbd[job->loop->number], job->err);
}

static int export_disks(struct job *job)
{
	struct vspd *vspd = job->vspd;
	int rc = 0;

	vsp_nbd_set_tls(vspd->nbd[0], vspd->tls, vspd->tls_mode);
	for (unsigned i = 1; i < vspd->loops->count; i++)
		vsp_nbd_add_peer(vspd->nbd[0], vspd->nbd[i]);
	for (size_t i = 0; i < vspd->disk_count && rc == 0; i++)
		rc = vsp_nbd_export(vspd->nbd[0], vspd->disks[i].name, vspd->disks[i].device,
				    job->err);
	return rc;
}

static int set_up_nbd(struct vspd *vspd, struct hv_err *err)
{
	struct job job = { .run = new_nbd, .vspd = vspd, .err = err };
	int rc = 0;

	vspd->nbd = calloc(vspd->loops->count, sizeof(struct vsp_nbd *));
	if (!vspd->nbd)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (unsigned i = 0; i < vspd->loops->count && rc == 0; i++)
		rc = do_job(&vspd->loops->loop[i], &job);
	job.run = export_disks;
	return rc ? rc : do_job(&vspd->loops->loop[0], &job);
}

/* Credentials without a mode are meant to be used. */
static int judge_tls(const struct options *options, struct hv_err *err)
{
	const char *mode = options->tls;

	if (options->tls_certs && options->tls_psk)
		return hv_fail(err, -EINVAL, "--tls-certs and --tls-psk exclude each other");
	if (mode && strcmp(mode, "off") && !options->tls_certs && !options->tls_psk)
		return hv_fail(err, -EINVAL, "--tls=%s needs --tls-certs or --tls-psk", mode);
	return 0;
}

static int set_up_tls(struct vspd *vspd, const struct options *options, struct hv_err *err)
{
	const char *mode = options->tls ? options->tls : "required";

	if (!strcmp(mode, "off") || (!options->tls_certs && !options->tls_psk))
		return 0;
	vspd->tls_mode = strcmp(mode, "on") ? VSP_TLS_REQUIRED : VSP_TLS_ON;
	if (options->tls_certs)
		return vsp_tls_new_certificates(options->tls_certs, &vspd->tls, err);
	return vsp_tls_new_psk(options->tls_psk, &vspd->tls, err);
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
	return vsp_nbd_listen(vspd->nbd[0], listener->fd, err);
}

static void stop(struct hv_work *work, int result)
{
	struct vspd *vspd = (struct vspd *)((char *)work - offsetof(struct vspd, client_left));

	(void)result;
	vspd->stops = true;
}

/* On the loop. */
static void client_left(void *arg)
{
	struct vspd *vspd = arg;

	if (vspd->left)
		return;
	vspd->left = true;
	vspd->client_left.done = stop;
	hv_loop_post(vspd->loop, &vspd->client_left);
}

/* The client is on standard input and, being a socket, output. */
static int serve_stdin(struct vspd *vspd, struct hv_err *err)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot use standard input");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	vsp_nbd_on_empty(vspd->nbd[0], client_left, vspd);
	return vsp_nbd_connect(vspd->nbd[0], fd, err);
}

static int listen_nbd(struct job *job)
{
	const struct options *options = job->options;
	struct vspd *vspd = job->vspd;
	struct hv_err *err = job->err;
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
		rc = vsp_nbd_listen(vspd->nbd[0], fd, err);
	}
	for (const char **address = options->nbd; address && *address && rc == 0; address++) {
		if (!strcmp(*address, "-"))
			inetd = true;
		else
			rc = listen_on(vspd, *address, err);
	}
	if (inetd && rc == 0)
		rc = serve_stdin(vspd, err);
	if (rc == 0 && !vspd->listener_count && !inetd && !options->vhost_user)
		rc = hv_fail(err, -EINVAL,
			     "nothing to listen on: give --vhost-user PATH or --nbd ADDRESS");
	return rc;
}

static int listen_all(struct vspd *vspd, const struct options *options, struct hv_err *err)
{
	struct job job = { .run = listen_nbd, .vspd = vspd, .options = options, .err = err };
	int rc = do_job(&vspd->loops->loop[0], &job);

	for (const char **path = options->vhost_user; path && *path && rc == 0; path++)
		rc = serve_vhost_user(vspd, *path, err);
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

static int stop_nbd(struct job *job)
{
	vsp_nbd_stop(job->vspd->nbd[job->loop->number]);
	return 0;
}

static int cut_nbd(struct job *job)
{
	vsp_nbd_cut(job->vspd->nbd[job->loop->number]);
	return 0;
}

static int count_clients(struct job *job)
{
	return (int)vsp_nbd_connections(job->vspd->nbd[job->loop->number]);
}

static int dismiss(struct job *job)
{
	vsp_qos_leave(&job->disk->limits);
	vsp_device_dismiss(job->disk->device);
	return 0;
}

static int is_busy(struct job *job)
{
	return !vsp_device_is_idle(job->disk->device);
}

/* The sum of what the job returns for each disk, or for the server of each loop. */
static int for_disks(struct vspd *vspd, int (*run)(struct job *job))
{
	struct job job = { .run = run, .vspd = vspd };
	int sum = 0;

	for (size_t i = 0; i < vspd->disk_count; i++) {
		job.disk = &vspd->disks[i];
		sum += do_job(job.disk->loop, &job);
	}
	return sum;
}

static int for_nbd(struct vspd *vspd, int (*run)(struct job *job))
{
	struct job job = { .run = run, .vspd = vspd };
	int sum = 0;

	for (unsigned i = 0; i < vspd->loops->count && vspd->nbd && vspd->nbd[i]; i++)
		sum += do_job(&vspd->loops->loop[i], &job);
	return sum;
}

static void drain(struct vspd *vspd)
{
	time_t deadline = time(NULL) + DRAIN_SECONDS;

	for_nbd(vspd, stop_nbd);
	for (size_t i = 0; i < vspd->listener_count; i++)
		vsp_listener_close(&vspd->listeners[i]);
	for_disks(vspd, dismiss);
	while (for_nbd(vspd, count_clients) || for_disks(vspd, is_busy)) {
		hv_loop_serve(vspd->loop, DRAIN_LOOK_MS);
		if (time(NULL) > deadline)
			for_nbd(vspd, cut_nbd);
	}
}

static int flush(struct job *job)
{
	HV_ERR(err);
	int rc = job->disk->device->read_only ? 0 : hv_disk_flush(job->disk->device->disk, &err);

	return rc ? failed(&err, rc) : 0;
}

static int close_disk(struct job *job)
{
	vsp_device_free(job->disk->device);
	return 0;
}

static int free_nbd(struct job *job)
{
	vsp_nbd_free(job->vspd->nbd[job->loop->number]);
	return 0;
}

/* Every disk is flushed, whatever becomes of the others. */
static int close_all(struct vspd *vspd)
{
	int failures;

	drain(vspd);
	free(vspd->listeners);
	for_nbd(vspd, free_nbd);
	failures = for_disks(vspd, flush);
	for_disks(vspd, close_disk);
	return failures;
}

static int serve(struct vspd *vspd, const struct options *options)
{
	HV_ERR(err);
	int rc = vsp_ready_tell(options->pidfile, &err);

	if (rc)
		return failed(&err, rc);
	while (!vspd->stops)
		hv_loop_serve(vspd->loop, -1);
	return VSPD_DONE;
}

static int set_up(struct vspd *vspd, const struct options *options, struct vsp_disk_spec *specs,
		  unsigned loops, struct hv_err *err)
{
	int rc = hv_loop_new(&vspd->loop, err);

	if (rc)
		return rc;
	rc = watch_signals(vspd, err);
	if (rc == 0)
		rc = vsp_loops_new(loops, (unsigned)options->poll_percent, &vspd->loops, err);
	if (rc == 0)
		rc = open_disks(vspd, options, specs, err);
	if (rc == 0)
		rc = set_up_tls(vspd, options, err);
	if (rc == 0)
		rc = set_up_nbd(vspd, err);
	if (rc == 0)
		rc = listen_all(vspd, options, err);
	return rc;
}

static void tear_down(struct vspd *vspd)
{
	vsp_loops_free(vspd->loops);
	vsp_tls_free(vspd->tls);
	for (size_t i = 0; i < vspd->disk_count; i++)
		free(vspd->disks[i].name);
	free(vspd->disks);
	free(vspd->nbd);
	if (vspd->signals.fd >= 0)
		close(vspd->signals.fd);
	hv_loop_free(vspd->loop);
}

/* Loops without a disk are of no use. */
static int run_specs(const struct options *options, struct vsp_disk_spec *specs, size_t count,
		     unsigned loops)
{
	struct vspd vspd = { .signals.fd = -1, .disks = calloc(count, sizeof(struct served)) };
	HV_ERR(err);
	int rc = vspd.disks ? set_up(&vspd, options, specs, loops < count ? loops : (unsigned)count,
				     &err) :
			      -ENOMEM;
	int status = rc ? failed(&err, rc) : serve(&vspd, options);

	if (vspd.loops && close_all(&vspd))
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
					     .pidfile = options->pidfile,
					     .poll_percent = (unsigned)options->poll_percent };
	HV_ERR(err);
	int rc = vsp_loops_parse(options->loops, &daemon.loops, &err);

	if (rc)
		return usage(&err, rc);
	if (options->nbd || options->inetd || options->tls_certs || options->tls_psk)
		return usage(&err, hv_fail(&err, -EINVAL, "no disk: give --disk FILE"));
	rc = vsp_daemon_run(&daemon, &err);
	return rc ? failed(&err, rc) : VSPD_DONE;
}

static int run(void *arg, int operand_count, char **operands)
{
	const struct options *options = arg;
	struct vsp_disk_spec *specs;
	unsigned loops;
	size_t count = 0;
	int status, rc;
	HV_ERR(err);

	(void)operand_count;
	(void)operands;
	if (options->poll_percent > 100)
		return usage(&err, hv_fail(&err, -EINVAL, "--poll is from 0 to 100 percent"));
	if (!options->sandbox || !strcmp(options->sandbox, "on")) {
		rc = vsp_confine(&err);
		if (rc)
			return failed(&err, rc);
	}
	while (options->disks && options->disks[count])
		count++;
	if (!count)
		return run_daemon(options);
	specs = calloc(count, sizeof(*specs));
	if (!specs)
		return failed(&err, -ENOMEM);
	rc = vsp_loops_parse(options->loops, &loops, &err);
	if (rc == 0)
		rc = judge_tls(options, &err);
	if (rc == 0)
		rc = parse_disks(options, specs, &err);
	status = rc ? usage(&err, rc) : run_specs(options, specs, count, loops);
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
	{ .name = "tls",
	  .kind = HV_OPTION_STRING,
	  .argument = "MODE",
	  .choices = "required|on|off",
	  .help = "NBD clients: all have to use TLS, those of Unix sockets may, or none can",
	  .offset = offsetof(struct options, tls) },
	{ .name = "tls-certs",
	  .kind = HV_OPTION_STRING,
	  .argument = "DIR",
	  .help = "certificates for TLS: ca-cert.pem, server-cert.pem, server-key.pem",
	  .offset = offsetof(struct options, tls_certs) },
	{ .name = "tls-psk",
	  .kind = HV_OPTION_STRING,
	  .argument = "FILE",
	  .help = "pre-shared keys for TLS, lines USER:KEY",
	  .offset = offsetof(struct options, tls_psk) },
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
	{ .name = "poll",
	  .kind = HV_OPTION_NUMBER,
	  .argument = "PERCENT",
	  .help = "of a processor, to look for requests before sleeping (default: 10)",
	  .offset = offsetof(struct options, poll_percent) },
	{ .name = "sandbox",
	  .kind = HV_OPTION_STRING,
	  .argument = "on|off",
	  .choices = "on|off",
	  .help = "do without privileges and system calls that are not needed (default: on)",
	  .offset = offsetof(struct options, sandbox) },
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
	.defaults = &option_defaults,
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
