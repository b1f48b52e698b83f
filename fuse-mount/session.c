/*
 * The FUSE session: what is agreed with the kernel, and coming and going. The kernel asks, threads
 * of libfuse answer, each for itself.
 */
#include "fuse-mount/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "fuse-mount/negotiate.h"
#include "fuse-mount/serve.h"
#include "hvcore/log.h"

#define MAX_READ "max_read=1048576" /* FM_REQUEST_BYTES, for mount(2) */
#define THREADS 12

static void on_init(void *context, struct fuse_conn_info *conn)
{
	(void)context;
	conn->max_read = FM_REQUEST_BYTES;
	conn->max_write = FM_REQUEST_BYTES;
	conn->max_readahead = FM_REQUEST_BYTES;
	conn->max_background = 64;
	conn->want |= conn->capable &
		      (FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
		       FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_CACHE_SYMLINKS);
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_AUTO_INVAL_DATA);
}

static const struct fuse_lowlevel_ops ops = {
	.init = on_init,
	.lookup = fm_on_lookup,
	.getattr = fm_on_getattr,
	.setattr = fm_on_setattr,
	.readlink = fm_on_readlink,
	.opendir = fm_on_opendir,
	.readdir = fm_on_readdir,
	.releasedir = fm_on_releasedir,
	.forget = fm_on_forget,
	.forget_multi = fm_on_forget_multi,
	.getxattr = fm_on_getxattr,
	.listxattr = fm_on_listxattr,
	.open = fm_on_open,
	.release = fm_on_release,
	.read = fm_on_read,
	.write = fm_on_write,
	.fallocate = fm_on_fallocate,
	.fsync = fm_on_fsync,
	.lseek = fm_on_lseek,
	.statfs = fm_on_statfs,
};

/* Coming and going. */

static char last_word[256]; /* what libfuse had to say while mounting */

static void __attribute__((format(printf, 2, 0)))
hear(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t length;

	(void)level;
	vsnprintf(last_word, sizeof(last_word), fmt, ap);
	length = strcspn(last_word, "\n");
	last_word[length] = '\0';
	hv_log(HV_LOG_WARN, "%s", last_word);
}

/* The first line of fd, which fusermount3 has written. */
static void take_words(int fd)
{
	static const char prefix[] = "fusermount3: ";
	char text[sizeof(last_word)];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	const char *words = text;

	if (length <= 0)
		return;
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(words, prefix, strlen(prefix)) == 0)
		words += strlen(prefix);
	strcpy(last_word, words);
}

/* What fusermount3 says becomes a part of our own sentence. */
static int mount_quietly(struct fuse_session *fuse, const char *directory)
{
	HV_AUTO(close) int words = memfd_create("fusermount3", MFD_CLOEXEC);
	HV_AUTO(close) int terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	int rc;

	if (words < 0 || terminal < 0 || dup2(words, STDERR_FILENO) < 0)
		return fuse_session_mount(fuse, directory);
	rc = fuse_session_mount(fuse, directory);
	dup2(terminal, STDERR_FILENO);
	if (rc)
		take_words(words);
	return rc;
}

static int add_option(struct fuse_args *args, const char *name, const char *value)
{
	HV_AUTO(free) char *text = NULL;

	if (asprintf(&text, "%s%s", name, value) < 0)
		return -1;
	return fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, text);
}

/* A comma in a value would end it. */
static char *escape(const char *value)
{
	char *escaped = malloc(2 * strlen(value) + 1), *to = escaped;

	for (; escaped && *value; value++) {
		if (*value == ',' || *value == '\\')
			*to++ = '\\';
		*to++ = *value;
	}
	if (escaped)
		*to = '\0';
	return escaped;
}

static int make_arguments(const struct fm_session_options *options, struct fuse_args *args)
{
	HV_AUTO(free) char *source = escape(options->source);
	int failed = !source || fuse_opt_add_arg(args, "vhdmount") ||
		     add_option(args, "fsname=", source) ||
		     add_option(args, "", "subtype=vhdmount," MAX_READ);

	/* Whoever has mounted the disk may look at all of it, also at what a filesystem keeps for
	 * root. */
	if (!failed && options->allow_other)
		failed = add_option(args, "", "allow_other,default_permissions");
	if (!failed && !options->write)
		failed = add_option(args, "", "ro");
	if (!failed && options->more && *options->more)
		failed = add_option(args, "", options->more);
	if (!failed && options->debug)
		failed = fuse_opt_add_arg(args, "-d");
	return failed ? -ENOMEM : 0;
}

/* Has libfuse take one request, from whatever its descriptor is. */
static void take_request(void *context)
{
	struct fm_session *session = context;
	struct fuse_buf buf = { 0 };

	if (fuse_session_receive_buf(session->fuse, &buf) > 0)
		fuse_session_process_buf(session->fuse, &buf);
	free(buf.mem);
}

static int negotiate(struct fm_session *session, struct hv_err *err)
{
	int fd = fuse_session_fd(session->fuse);
	struct fm_negotiation negotiation = { .passthrough = session->options.passthrough_fd >= 0 };
	int rc = fm_negotiate(fd, take_request, session, &negotiation, err);

	if (rc == 0 && negotiation.passthrough)
		fm_passthrough_open(fd, session->options.passthrough_fd, &session->backing_id);
	return rc;
}

bool fm_session_passes_through(const struct fm_session *session)
{
	return session->backing_id != 0;
}

int fm_session_new(const struct fm_tree *tree, struct fm_volumes *volumes,
		   const struct fm_session_options *options, struct fm_session **ret,
		   struct hv_err *err)
{
	HV_AUTO(fm_session_free) struct fm_session *session = calloc(1, sizeof(*session));
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc;

	if (!session)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", options->directory);
	session->tree = tree;
	session->volumes = volumes;
	session->options = *options;
	session->forward = (struct fm_forward){ .browse = options->browse,
						.handles = &session->handles,
						.write = volumes->engine,
						.uid = options->uid,
						.gid = options->gid,
						.timeout = volumes->engine ? 1 : FM_FOREVER };
	pthread_mutex_init(&session->lock, NULL);
	fm_handles_init(&session->handles);
	session->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (session->ended_fd < 0)
		return hv_fail_errno(err, -errno, "cannot create an eventfd");
	fuse_set_log_func(hear);
	if (make_arguments(options, &args) == 0)
		session->fuse = fuse_session_new(&args, &ops, sizeof(ops), session);
	fuse_opt_free_args(&args);
	if (!session->fuse)
		return hv_fail(err, -EINVAL, "%s: cannot be mounted so: %s", options->directory,
			       last_word);
	if (mount_quietly(session->fuse, options->directory))
		return hv_fail(err, -EPERM, "%s: cannot be mounted upon: %s", options->directory,
			       *last_word ? last_word : "fusermount3 refused");
	rc = negotiate(session, err);
	if (rc == 0)
		*ret = hv_steal(session);
	return rc;
}

static void *serve(void *arg)
{
	struct fm_session *session = arg;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	uint64_t one = 1;

	if (config) {
		fuse_loop_cfg_set_clone_fd(config, 1);
		fuse_loop_cfg_set_max_threads(config, THREADS);
		fuse_loop_cfg_set_idle_threads(config, THREADS);
		session->result = fuse_session_loop_mt(session->fuse, config);
		fuse_loop_cfg_destroy(config);
	}
	if (write(session->ended_fd, &one, sizeof(one)) < 0)
		hv_log(HV_LOG_WARN, "cannot signal an eventfd: %s", strerror(errno));
	return NULL;
}

int fm_session_start(struct fm_session *session, int *fd, struct hv_err *err)
{
	int rc = pthread_create(&session->thread, NULL, serve, session);

	if (rc)
		return hv_fail_errno(err, -rc, "cannot start a thread");
	session->started = true;
	*fd = session->ended_fd;
	return 0;
}

/* Only to interrupt what the loop of libfuse waits in. */
static void nothing(int signal)
{
	(void)signal;
}

int fm_session_stop(struct fm_session *session)
{
	struct sigaction interrupt = { .sa_handler = nothing };
	struct pollfd ended = { .fd = session->ended_fd, .events = POLLIN };

	if (!session->started)
		return 0;
	sigaction(SIGUSR1, &interrupt, NULL);
	fuse_session_exit(session->fuse);
	/* It may be just about to wait. */
	do
		pthread_kill(session->thread, SIGUSR1);
	while (poll(&ended, 1, 20) == 0);
	pthread_join(session->thread, NULL);
	session->started = false;
	return session->result < 0 ? -EIO : 0;
}

void fm_session_free(struct fm_session *session)
{
	if (!session)
		return;
	fm_session_stop(session);
	if (session->fuse) {
		fuse_session_unmount(session->fuse);
		fuse_session_destroy(session->fuse);
	}
	fm_serve_free_buffers(session);
	fm_handles_done(&session->handles);
	if (session->ended_fd >= 0)
		close(session->ended_fd);
	pthread_mutex_destroy(&session->lock);
	free(session);
}
