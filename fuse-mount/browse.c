/*
 * The lock guards who reads what. It is held while a process is made, never while one is waited
 * for, except for one that has ended. A call that fails at once does so under it, and may not call
 * again.
 */
#include "fuse-mount/browse.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hvcore/clock.h"
#include "hvcore/log.h"

#define MOST 256        /* filesystems in a disk */
#define RETRY_SECONDS 5 /* after a failure */

struct filesystem {
	uint32_t id;
	const char *name, *type;
	bool readable;
	struct fm_process *process;
	uint8_t generation;
	time_t failed_at; /* 0: not lately */
};

struct fm_browse {
	struct fm_browse_options options;
	int directory_fd;
	pthread_mutex_t lock;
	struct filesystem filesystems[MOST];
	unsigned count;
};

int fm_browse_new(const struct fm_browse_options *options, struct fm_browse **ret,
		  struct hv_err *err)
{
	struct fm_browse *browse = calloc(1, sizeof(*browse));

	if (!browse)
		return hv_fail(err, -ENOMEM, "not enough memory");
	browse->options = *options;
	browse->directory_fd = -1;
	pthread_mutex_init(&browse->lock, NULL);
	*ret = browse;
	return 0;
}

int fm_browse_add(struct fm_browse *browse, uint64_t id, const char *name, const char *type,
		  struct hv_err *err)
{
	struct filesystem *fs = &browse->filesystems[browse->count];
	HV_AUTO(free) char *objection = fm_reader_objection(type);

	if (browse->count == MOST || id > UINT16_MAX)
		return hv_fail(err, -E2BIG, "%s: more than %d filesystems", name, MOST);
	*fs = (struct filesystem){
		.id = (uint32_t)id, .name = name, .type = type, .readable = !objection
	};
	if (objection)
		hv_log(HV_LOG_INFO, "files/%s: %s", name, objection);
	browse->count++;
	return 0;
}

static struct filesystem *find(struct fm_browse *browse, uint32_t id)
{
	for (unsigned i = 0; i < browse->count; i++)
		if (browse->filesystems[i].id == id)
			return &browse->filesystems[i];
	return NULL;
}

static time_t seconds(void)
{
	return (time_t)(hv_now_ns() / 1000000000) + 1;
}

/* A process that has ended makes room for the next one. */
static void reap(struct filesystem *fs)
{
	bool failed;

	if (!fs->process || !fm_process_ended(fs->process, &failed))
		return;
	fs->failed_at = failed ? seconds() : 0;
	fm_process_free(fs->process);
	fs->process = NULL;
}

static int open_directory(struct fm_browse *browse, struct hv_err *err)
{
	if (browse->directory_fd < 0)
		browse->directory_fd = browse->options.open_volumes(browse->options.context, err);
	return browse->directory_fd;
}

int fm_browse_volumes(struct fm_browse *browse, struct hv_err *err)
{
	int fd;

	pthread_mutex_lock(&browse->lock);
	fd = open_directory(browse, err);
	pthread_mutex_unlock(&browse->lock);
	return fd;
}

static int start(struct fm_browse *browse, struct filesystem *fs)
{
	struct fm_process_options options = {
		.type = fs->type,
		.name = fs->name,
		.write = browse->options.write,
		.uid = browse->options.uid,
		.gid = browse->options.gid,
	};
	HV_ERR(err);

	if (!fs->readable || (fs->failed_at && seconds() - fs->failed_at < RETRY_SECONDS))
		return -EIO;
	options.directory_fd = open_directory(browse, &err);
	if (options.directory_fd < 0) {
		hv_log(HV_LOG_WARN, "files: %s", hv_err_text(&err, options.directory_fd));
		return -EIO;
	}
	fs->generation = fs->generation == UINT8_MAX ? 1 : (uint8_t)(fs->generation + 1);
	return fm_process_new(&options, &fs->process, NULL);
}

bool fm_browse_started(struct fm_browse *browse, uint32_t id)
{
	struct filesystem *fs = find(browse, id);
	bool started;

	pthread_mutex_lock(&browse->lock);
	if (fs)
		reap(fs);
	started = fs && fs->process;
	pthread_mutex_unlock(&browse->lock);
	return started;
}

bool fm_browse_owners(struct fm_browse *browse, uint32_t id)
{
	const struct filesystem *fs = find(browse, id);
	bool owners;

	pthread_mutex_lock(&browse->lock);
	owners = fs && fs->process && fm_process_owners(fs->process);
	pthread_mutex_unlock(&browse->lock);
	return owners;
}

static int ready(struct fm_browse *browse, struct filesystem *fs, uint8_t wanted)
{
	reap(fs);
	if (wanted && (!fs->process || wanted != fs->generation))
		return -ESTALE;
	return fs->process ? 0 : start(browse, fs);
}

void fm_browse_call(struct fm_browse *browse, uint32_t id, struct fm_call *call,
		    uint8_t *generation)
{
	struct filesystem *fs = find(browse, id);
	int rc = -EIO;

	pthread_mutex_lock(&browse->lock);
	if (fs)
		rc = ready(browse, fs, *generation);
	if (rc == 0) {
		*generation = fs->generation;
		fm_process_send(fs->process, call);
	}
	pthread_mutex_unlock(&browse->lock);
	if (rc && call->done)
		call->done(call, rc, NULL, 0);
	else if (rc)
		free(call);
}

void fm_browse_free(struct fm_browse *browse)
{
	if (!browse)
		return;
	for (unsigned i = 0; i < browse->count; i++)
		fm_process_free(browse->filesystems[i].process);
	if (browse->directory_fd >= 0)
		close(browse->directory_fd);
	pthread_mutex_destroy(&browse->lock);
	free(browse);
}
