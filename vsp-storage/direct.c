/*
 * Disks of the command line.
 */
#include "vsp-storage/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>

#include "hvcore/container.h"
#include "hvcore/log.h"
#include "vsp-storage/address.h"
#include "vsp-storage/loops.h"
#include "vsp-storage/nbd.h"
#include "vsp-storage/ready.h"
#include "vsp-storage/vhost.h"

#define DRAIN_SECONDS 5
#define DRAIN_LOOK_MS 10

struct served {
	struct vsp_device *device;
	struct vsp_loop *loop;
	struct vsp_qos_member limits;
	char *name;
};

struct direct {
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
	struct direct *direct;
	const struct vsp_direct_options *options;
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

/* Disks. */

static int open_disk(struct job *job)
{
	struct served *disk = job->disk;
	struct hv_disk *opened;
	int rc = vsp_disk_spec_open(job->spec, job->loop->loop, &opened, job->err);

	if (rc == 0)
		rc = vsp_disk_spec_device(job->spec, opened, &disk->device, job->err);
	if (rc)
		return rc;
	disk->loop = job->loop;
	disk->loop->disks++;
	disk->name = hv_steal(job->spec->name);
	job->direct->disk_count++;
	return vsp_qos_join(job->loop->qos, &disk->limits, disk->device, &job->spec->limits, NULL,
			    job->err);
}

static int open_disks(struct direct *direct, const struct vsp_direct_options *options,
		      struct hv_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < options->disk_count && rc == 0; i++) {
		struct job job = { .run = open_disk,
				   .direct = direct,
				   .disk = &direct->disks[i],
				   .spec = &options->disks[i],
				   .err = err };

		rc = do_job(vsp_loops_least(direct->loops), &job);
	}
	return rc;
}

/* vhost-user. */

static struct served *find_disk(const struct direct *direct, const char *name, size_t length)
{
	for (size_t i = 0; i < direct->disk_count; i++)
		if (strlen(direct->disks[i].name) == length &&
		    !memcmp(direct->disks[i].name, name, length))
			return &direct->disks[i];
	return NULL;
}

static int listen_vhost_user(struct job *job)
{
	return vsp_vhost_serve(job->disk->device, job->path, NULL, job->err);
}

/* PATH, or NAME=PATH. */
static int serve_vhost_user(struct direct *direct, const char *text, struct hv_err *err)
{
	size_t length = vsp_disk_spec_name_length(text);
	struct job job = {
		.run = listen_vhost_user, .disk = &direct->disks[0], .path = text, .err = err
	};

	if (!length && direct->disk_count > 1)
		return hv_fail(err, -EINVAL,
			       "\"%s\": there are several disks, say which: --vhost-user NAME=PATH",
			       text);
	if (length) {
		job.disk = find_disk(direct, text, length);
		job.path = text + length + 1;
	}
	if (!job.disk)
		return hv_fail(err, -EINVAL, "\"%s\": there is no disk of that name", text);
	return do_job(job.disk->loop, &job);
}

/* NBD: the server of the first loop, with the others as its peers. */

static int new_nbd(struct job *job)
{
	return vsp_nbd_new(job->loop->loop, &job->direct->nbd[job->loop->number], job->err);
}

static int export_disks(struct job *job)
{
	struct direct *direct = job->direct;
	int rc = 0;

	vsp_nbd_set_tls(direct->nbd[0], direct->tls, direct->tls_mode);
	for (unsigned i = 1; i < direct->loops->count; i++)
		vsp_nbd_add_peer(direct->nbd[0], direct->nbd[i]);
	for (size_t i = 0; i < direct->disk_count && rc == 0; i++)
		rc = vsp_nbd_export(direct->nbd[0], direct->disks[i].name, direct->disks[i].device,
				    job->err);
	return rc;
}

static int set_up_nbd(struct direct *direct, struct hv_err *err)
{
	struct job job = { .run = new_nbd, .direct = direct, .err = err };
	int rc = 0;

	direct->nbd = calloc(direct->loops->count, sizeof(struct vsp_nbd *));
	if (!direct->nbd)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (unsigned i = 0; i < direct->loops->count && rc == 0; i++)
		rc = do_job(&direct->loops->loop[i], &job);
	job.run = export_disks;
	return rc ? rc : do_job(&direct->loops->loop[0], &job);
}

static int set_up_tls(struct direct *direct, const struct vsp_direct_options *options,
		      struct hv_err *err)
{
	const char *mode = options->tls ? options->tls : "required";

	if (!strcmp(mode, "off") || (!options->tls_certs && !options->tls_psk))
		return 0;
	direct->tls_mode = strcmp(mode, "on") ? VSP_TLS_REQUIRED : VSP_TLS_ON;
	if (options->tls_certs)
		return vsp_tls_new_certificates(options->tls_certs, &direct->tls, err);
	return vsp_tls_new_psk(options->tls_psk, &direct->tls, err);
}

/* Listening. */

static int listen_on(struct direct *direct, const char *address, struct hv_err *err)
{
	struct vsp_listener *listener = &direct->listeners[direct->listener_count];
	int rc;

	*listener = (struct vsp_listener)VSP_NO_LISTENER;
	rc = vsp_listen(address, listener, err);
	if (rc)
		return rc;
	direct->listener_count++;
	return vsp_nbd_listen(direct->nbd[0], listener->fd, err);
}

static void stop(struct hv_work *work, int result)
{
	struct direct *direct = hv_container_of(work, struct direct, client_left);

	(void)result;
	direct->stops = true;
}

/* On the loop. */
static void client_left(void *arg)
{
	struct direct *direct = arg;

	if (direct->left)
		return;
	direct->left = true;
	direct->client_left.done = stop;
	hv_loop_post(direct->loop, &direct->client_left);
}

/* The client is on standard input and, being a socket, output. */
static int serve_stdin(struct direct *direct, struct hv_err *err)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot use standard input");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	vsp_nbd_on_empty(direct->nbd[0], client_left, direct);
	return vsp_nbd_connect(direct->nbd[0], fd, err);
}

static int listen_nbd(struct job *job)
{
	const struct vsp_direct_options *options = job->options;
	struct direct *direct = job->direct;
	struct hv_err *err = job->err;
	unsigned given = vsp_ready_sockets();
	size_t count = given;
	bool inetd = options->inetd;
	int rc = 0;

	for (const char **address = options->nbd; address && *address; address++)
		count++;
	direct->listeners = calloc(count + 1, sizeof(*direct->listeners));
	if (!direct->listeners)
		return hv_fail(err, -ENOMEM, "not enough memory");
	for (unsigned i = 0; i < given && rc == 0; i++) {
		int fd = VSP_READY_FIRST_SOCKET + (int)i;

		direct->listeners[direct->listener_count++] = (struct vsp_listener){ .fd = fd };
		rc = vsp_nbd_listen(direct->nbd[0], fd, err);
	}
	for (const char **address = options->nbd; address && *address && rc == 0; address++) {
		if (!strcmp(*address, "-"))
			inetd = true;
		else
			rc = listen_on(direct, *address, err);
	}
	if (inetd && rc == 0)
		rc = serve_stdin(direct, err);
	if (rc == 0 && !direct->listener_count && !inetd && !options->vhost_user)
		rc = hv_fail(err, -EINVAL,
			     "nothing to listen on: give --vhost-user PATH or --nbd ADDRESS");
	return rc;
}

static int listen_all(struct direct *direct, const struct vsp_direct_options *options,
		      struct hv_err *err)
{
	struct job job = { .run = listen_nbd, .direct = direct, .options = options, .err = err };
	int rc = do_job(&direct->loops->loop[0], &job);

	for (const char **path = options->vhost_user; path && *path && rc == 0; path++)
		rc = serve_vhost_user(direct, *path, err);
	return rc;
}

/* Serving. */

static void signalled(struct hv_watch *watch, uint32_t events)
{
	struct direct *direct = hv_container_of(watch, struct direct, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(watch->fd, &info, sizeof(info)) == sizeof(info))
		direct->stops = true;
}

static int watch_signals(struct direct *direct, struct hv_err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	direct->signals.ready = signalled;
	direct->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (direct->signals.fd < 0)
		return hv_fail_errno(err, -errno, "cannot wait for signals");
	return hv_loop_watch(direct->loop, &direct->signals, EPOLLIN, err);
}

static int stop_nbd(struct job *job)
{
	vsp_nbd_stop(job->direct->nbd[job->loop->number]);
	return 0;
}

static int cut_nbd(struct job *job)
{
	vsp_nbd_cut(job->direct->nbd[job->loop->number]);
	return 0;
}

static int count_clients(struct job *job)
{
	return (int)vsp_nbd_connections(job->direct->nbd[job->loop->number]);
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
static int for_disks(struct direct *direct, int (*run)(struct job *job), struct hv_err *err)
{
	struct job job = { .run = run, .direct = direct, .err = err };
	int sum = 0;

	for (size_t i = 0; i < direct->disk_count; i++) {
		job.disk = &direct->disks[i];
		sum += do_job(job.disk->loop, &job);
	}
	return sum;
}

static int for_nbd(struct direct *direct, int (*run)(struct job *job))
{
	struct job job = { .run = run, .direct = direct };
	int sum = 0;

	for (unsigned i = 0; i < direct->loops->count && direct->nbd && direct->nbd[i]; i++)
		sum += do_job(&direct->loops->loop[i], &job);
	return sum;
}

static void drain(struct direct *direct)
{
	time_t deadline = time(NULL) + DRAIN_SECONDS;

	for_nbd(direct, stop_nbd);
	for (size_t i = 0; i < direct->listener_count; i++)
		vsp_listener_close(&direct->listeners[i]);
	for_disks(direct, dismiss, NULL);
	while (for_nbd(direct, count_clients) || for_disks(direct, is_busy, NULL)) {
		hv_loop_serve(direct->loop, DRAIN_LOOK_MS);
		if (time(NULL) > deadline)
			for_nbd(direct, cut_nbd);
	}
}

/* The first failure is the caller's; others are at least said. */
static int flush(struct job *job)
{
	struct vsp_device *device = job->disk->device;
	HV_ERR(cause);
	int rc = device->read_only ? 0 : hv_disk_flush(device->disk, &cause);

	if (rc && job->err->code)
		hv_log(HV_LOG_WARN, "%s", hv_err_text(&cause, rc));
	else if (rc)
		hv_fail(job->err, rc, "%s", hv_err_text(&cause, rc));
	return 0;
}

static int close_disk(struct job *job)
{
	vsp_device_free(job->disk->device);
	return 0;
}

static int free_nbd(struct job *job)
{
	vsp_nbd_free(job->direct->nbd[job->loop->number]);
	return 0;
}

/* Every disk is flushed, whatever becomes of the others. */
static int close_all(struct direct *direct, struct hv_err *err)
{
	HV_ERR(first);

	drain(direct);
	free(direct->listeners);
	for_nbd(direct, free_nbd);
	for_disks(direct, flush, &first);
	for_disks(direct, close_disk, NULL);
	return first.code ? hv_fail(err, first.code, "%s", first.sentence) : 0;
}

/* Loops without a disk are of no use. */
static unsigned loop_count(const struct vsp_direct_options *options)
{
	return options->loops < options->disk_count ? options->loops :
						      (unsigned)options->disk_count;
}

static int set_up(struct direct *direct, const struct vsp_direct_options *options,
		  struct hv_err *err)
{
	int rc;

	direct->disks = calloc(options->disk_count, sizeof(*direct->disks));
	if (!direct->disks)
		return hv_fail(err, -ENOMEM, "not enough memory");
	rc = hv_loop_new(&direct->loop, err);
	if (rc)
		return rc;
	rc = watch_signals(direct, err);
	if (rc == 0)
		rc = vsp_loops_new(loop_count(options), options->poll_percent, &direct->loops, err);
	if (rc == 0)
		rc = open_disks(direct, options, err);
	if (rc == 0)
		rc = set_up_tls(direct, options, err);
	if (rc == 0)
		rc = set_up_nbd(direct, err);
	if (rc == 0)
		rc = listen_all(direct, options, err);
	return rc;
}

static void tear_down(struct direct *direct)
{
	vsp_loops_free(direct->loops);
	vsp_tls_free(direct->tls);
	for (size_t i = 0; i < direct->disk_count; i++)
		free(direct->disks[i].name);
	free(direct->disks);
	free(direct->nbd);
	if (direct->signals.fd >= 0)
		close(direct->signals.fd);
	hv_loop_free(direct->loop);
}

int vsp_direct_run(const struct vsp_direct_options *options, struct hv_err *err)
{
	struct direct direct = { .signals.fd = -1 };
	int rc = set_up(&direct, options, err), closed = 0;

	if (rc == 0)
		rc = vsp_ready_tell(options->pidfile, err);
	while (rc == 0 && !direct.stops)
		hv_loop_serve(direct.loop, -1);
	if (direct.loops)
		closed = close_all(&direct, err);
	vsp_ready_untell(options->pidfile);
	tear_down(&direct);
	return rc ? rc : closed;
}
