/*
 * Barriers of one file: what each of them may say when one has failed, and how many reach the
 * kernel. fdatasync and fsync are this program's own, which fail on demand and tell so once, as
 * the kernel does.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/file.h"
#include "hvcore/loop.h"

#define FLUSHES 6

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned begun, running, hold; /* as many as hold have to run before any ends */
	bool written_back_badly;
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static char path[] = "barrier-XXXXXX", new_path[sizeof(path) + 4];
static struct hv_loop *loop;
static struct hv_file *file;

/* The first that is told takes the error along, and whoever runs beside it hears of none. */
static int sync_fd(void)
{
	struct timespec until;
	bool failed;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_mutex_lock(&kernel.lock);
	kernel.begun++;
	kernel.running++;
	pthread_cond_broadcast(&kernel.changed);
	while (kernel.running < kernel.hold &&
	       !pthread_cond_timedwait(&kernel.changed, &kernel.lock, &until))
		;
	kernel.hold = 0;
	failed = kernel.written_back_badly;
	kernel.written_back_badly = false;
	kernel.running--;
	pthread_cond_broadcast(&kernel.changed);
	pthread_mutex_unlock(&kernel.lock);
	errno = EIO;
	return failed ? -1 : 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return sync_fd();
}

int fsync(int fd)
{
	(void)fd;
	return sync_fd();
}

static void setup(void)
{
	int fd = mkstemp(path);
	HV_ERR(err);

	cr_assert_geq(fd, 0);
	close(fd);
	snprintf(new_path, sizeof(new_path), "%s.new", path);
	cr_assert_eq(hv_loop_new(&loop, &err), 0, "%s", err.sentence);
	cr_assert_eq(hv_file_open(path, HV_FILE_WRITE, loop, &file, &err), 0, "%s", err.sentence);
}

static void teardown(void)
{
	hv_file_close(file);
	hv_loop_free(loop);
	unlink(path);
	unlink(new_path);
}

TestSuite(barrier, .init = setup, .fini = teardown);

struct request {
	struct hv_io io;
	struct iovec iov;
	int result;
	bool done;
};

static void landed(struct hv_io *io, int result)
{
	struct request *request = (struct request *)io;

	request->result = result;
	request->done = true;
}

static void wait_for(struct request *requests, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		while (!requests[i].done)
			hv_loop_turn(loop, true);
	}
}

static void flush_together(struct request *requests, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		requests[i] = (struct request){ .io = { .op = HV_FLUSH, .done = landed } };
		hv_file_submit(file, &requests[i].io);
	}
	wait_for(requests, count);
}

/* What was dropped may be what any of them is about. */
Test(barrier, those_beside_one_that_failed_fail_too)
{
	struct request requests[2];

	kernel.written_back_badly = true;
	kernel.hold = 2;
	flush_together(requests, 2);
	cr_assert_eq(requests[0].result, -EIO);
	cr_assert_eq(requests[1].result, -EIO);
}

Test(barrier, none_succeeds_after_one_that_failed)
{
	static char data[HV_SECTOR_SIZE];
	struct request request = { .iov = { data, sizeof(data) },
				   .io = { .op = HV_WRITE,
					   .flags = HV_IO_FUA,
					   .length = sizeof(data),
					   .iov_count = 1,
					   .done = landed } };
	struct hv_file *again;
	HV_ERR(err);

	request.io.iov = &request.iov;
	kernel.written_back_badly = true;
	cr_assert_eq(hv_file_barrier(file, &err), -EIO);
	cr_assert(strstr(err.sentence, "cannot flush"), "%s", err.sentence);
	cr_assert_eq(hv_file_barrier(file, NULL), -EIO);
	hv_file_submit(file, &request.io);
	wait_for(&request, 1);
	cr_assert_eq(request.result, -EIO);
	flush_together(&request, 1);
	cr_assert_eq(request.result, -EIO);
	/* Who opens the file afterwards sees what there is. */
	cr_assert_eq(hv_file_open(path, HV_FILE_NO_LOCK, loop, &again, &err), 0);
	cr_assert_eq(hv_file_barrier(again, &err), 0);
	hv_file_close(again);
}

Test(barrier, file_is_not_published_after_one_that_failed)
{
	struct hv_file *new;
	HV_ERR(err);

	cr_assert_eq(hv_file_create(new_path, 0, false, loop, &new, &err), 0, "%s", err.sentence);
	kernel.written_back_badly = true;
	cr_assert_eq(hv_file_barrier(new, NULL), -EIO);
	cr_assert_eq(hv_file_publish(new, NULL), -EIO);
	cr_assert_eq(access(new_path, F_OK), -1);
	hv_file_close(new);
}

/* One that begins serves all who have asked by then. */
Test(barrier, those_who_wait_share_one)
{
	struct request requests[FLUSHES];

	kernel.hold = FLUSHES; /* none other comes: the first ends when time is up */
	flush_together(requests, FLUSHES);
	for (unsigned i = 0; i < FLUSHES; i++)
		cr_assert_eq(requests[i].result, 0);
	cr_assert_lt(kernel.begun, FLUSHES);
	/* Each that is asked for later takes another one. */
	kernel.begun = 0;
	flush_together(requests, 1);
	cr_assert_eq(hv_file_barrier(file, NULL), 0);
	cr_assert_eq(kernel.begun, 2);
}
