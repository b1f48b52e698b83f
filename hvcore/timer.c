/*
 * A timerfd that the loop watches.
 */
#include "hvcore/timer.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "hvcore/container.h"

#define NS_PER_SECOND UINT64_C(1000000000)

static void ready(struct hv_watch *watch, uint32_t events)
{
	struct hv_timer *timer = hv_container_of(watch, struct hv_timer, watch);
	uint64_t times;

	(void)events;
	/* EAGAIN: it has been set anew since the loop was told. */
	if (read(watch->fd, &times, sizeof(times)) == sizeof(times))
		timer->elapsed(timer);
}

int hv_timer_open(struct hv_timer *timer, struct hv_loop *loop,
		  void (*elapsed)(struct hv_timer *timer), struct hv_err *err)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), rc;

	if (fd < 0)
		return hv_fail_errno(err, -errno, "cannot make a timer");
	timer->watch = (struct hv_watch){ .fd = fd, .ready = ready };
	timer->elapsed = elapsed;
	rc = hv_loop_watch(loop, &timer->watch, EPOLLIN, err);
	if (rc)
		close(fd);
	else
		timer->loop = loop;
	return rc;
}

void hv_timer_set(struct hv_timer *timer, uint64_t ns)
{
	struct itimerspec once = { .it_value = { (time_t)(ns / NS_PER_SECOND),
						 (long)(ns % NS_PER_SECOND) } };

	timerfd_settime(timer->watch.fd, 0, &once, NULL);
}

void hv_timer_close(struct hv_timer *timer)
{
	if (!timer->loop)
		return;
	hv_loop_unwatch(timer->loop, &timer->watch);
	close(timer->watch.fd);
	timer->loop = NULL;
}
