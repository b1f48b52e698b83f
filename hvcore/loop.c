/*
 * The I/O loop.
 *
 * Three sources of completions: libaio's ring, the pool's list of finished work, and the ready
 * list. One eventfd is signalled by the first two. While no pool work is in flight, the loop sleeps
 * in io_getevents itself, which saves a system call per wake-up; otherwise it sleeps on the
 * eventfd. A loop that serves sleeps in epoll, which has the eventfd as one descriptor among
 * others; before that it may look for a while (spin.h).
 *
 * Requests for libaio are collected and submitted together at the next turn. What the kernel's
 * queue does not take (EAGAIN) stays in ours until something completes.
 */
#include "hvcore/loop.h"

#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "hvcore/checked.h"
#include "hvcore/clock.h"
#include "hvcore/disk.h"
#include "hvcore/spin.h"
#include "hvcore/thread.h"

#define AIO_MAX 256  /* in flight in the kernel */
#define AIO_BATCH 64 /* submitted or reaped at once */
#define POOL_MAX 8   /* threads */
#define POOL_STACK (256u << 10)
#define EVENT_BATCH 64 /* descriptors looked at per turn of a loop that serves */
#define VAIN_MAX 4096  /* looks at what has nothing, while there is other work */

struct io_list {
	struct hv_io *head, *tail;
};

struct work_list {
	struct hv_work *head, *tail;
};

struct hv_loop {
	io_context_t aio;
	enum { AIO_UNTRIED, AIO_WORKS, AIO_REFUSED } aio_state;
	int event_fd;
	unsigned aio_in_flight;
	struct io_list aio_queue;
	struct io_list ready;

	unsigned turning; /* calls of hv_loop_turn and hv_loop_serve, which may nest */
	uint64_t now_ns;  /* 0: the clock has to be looked at */

	int epoll_fd;               /* -1: this loop does not serve */
	struct epoll_event *events; /* those being worked off */
	int event_count;

	struct hv_poller *pollers, *next_poller; /* next: of those being looked at */
	bool signalled;                          /* by another thread, lately; atomic */
	struct hv_spin spin;

	unsigned work_in_flight;
	unsigned thread_count;
	pthread_t threads[POOL_MAX];
	pthread_mutex_t lock; /* the fields below */
	pthread_cond_t wake;
	struct work_list todo, finished, posted;
	unsigned idle_threads;
	bool stop;
};

static_assert(sizeof(struct iocb) <= sizeof(((struct hv_io *)0)->scratch),
	      "the scratch space of a request holds an iocb");

static void io_list_push(struct io_list *list, struct hv_io *io)
{
	io->next = NULL;
	if (list->tail)
		list->tail->next = io;
	else
		list->head = io;
	list->tail = io;
}

static struct hv_io *io_list_pop(struct io_list *list)
{
	struct hv_io *io = list->head;

	list->head = io->next;
	if (!list->head)
		list->tail = NULL;
	io->next = NULL;
	return io;
}

static void work_list_push(struct work_list *list, struct hv_work *work)
{
	work->next = NULL;
	if (list->tail)
		list->tail->next = work;
	else
		list->head = work;
	list->tail = work;
}

static struct hv_work *work_list_pop(struct work_list *list)
{
	struct hv_work *work = list->head;

	list->head = work->next;
	if (!list->head)
		list->tail = NULL;
	return work;
}

int hv_loop_new(struct hv_loop **ret, struct hv_err *err)
{
	struct hv_loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return hv_fail(err, -ENOMEM, "not enough memory for an I/O loop");
	loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->event_fd < 0) {
		int code = -errno;

		free(loop);
		return hv_fail_errno(err, code, "cannot create an eventfd");
	}
	loop->epoll_fd = -1;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->wake, NULL);
	*ret = loop;
	return 0;
}

void hv_loop_free(struct hv_loop *loop)
{
	if (!loop)
		return;
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_cond_broadcast(&loop->wake);
	pthread_mutex_unlock(&loop->lock);
	for (unsigned i = 0; i < loop->thread_count; i++)
		pthread_join(loop->threads[i], NULL);
	if (loop->aio_state == AIO_WORKS)
		io_destroy(loop->aio);
	pthread_cond_destroy(&loop->wake);
	pthread_mutex_destroy(&loop->lock);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	close(loop->event_fd);
	free(loop);
}

/* Taking a context down takes the kernel a while: who never needs one does not pay for it. */
bool hv_loop_has_aio(struct hv_loop *loop)
{
	if (loop->aio_state == AIO_UNTRIED)
		loop->aio_state = io_setup(AIO_MAX, &loop->aio) ? AIO_REFUSED : AIO_WORKS;
	return loop->aio_state == AIO_WORKS;
}

void hv_loop_finish(struct hv_loop *loop, struct hv_io *io, int result)
{
	io->result = result;
	io_list_push(&loop->ready, io);
}

static int run_ready(struct hv_loop *loop)
{
	struct io_list list = loop->ready;
	int count = 0;

	loop->ready = (struct io_list){ 0 };
	loop->now_ns = 0;
	while (list.head) {
		struct hv_io *io = io_list_pop(&list);

		io->done(io, io->result);
		count++;
	}
	return count;
}

/* The pool. */

static void signal_loop(struct hv_loop *loop)
{
	uint64_t one = 1;
	ssize_t n = write(loop->event_fd, &one, sizeof(one));

	__atomic_store_n(&loop->signalled, true, __ATOMIC_RELAXED);
	(void)n; /* EAGAIN: the counter is full, so the loop wakes up anyway */
}

static void *pool_thread(void *arg)
{
	struct hv_loop *loop = arg;

	pthread_mutex_lock(&loop->lock);
	for (;;) {
		loop->idle_threads++;
		while (!loop->todo.head && !loop->stop)
			pthread_cond_wait(&loop->wake, &loop->lock);
		loop->idle_threads--;
		if (!loop->todo.head)
			break;
		struct hv_work *work = work_list_pop(&loop->todo);

		pthread_mutex_unlock(&loop->lock);
		work->result = work->run(work);
		pthread_mutex_lock(&loop->lock);
		work_list_push(&loop->finished, work);
		signal_loop(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	return NULL;
}

static bool start_thread(struct hv_loop *loop)
{
	pthread_t *thread = &loop->threads[loop->thread_count];

	if (hv_thread_start(thread, POOL_STACK, pool_thread, loop))
		return false;
	loop->thread_count++;
	return true;
}

void hv_loop_work(struct hv_loop *loop, struct hv_work *work)
{
	bool more;

	loop->work_in_flight++;
	pthread_mutex_lock(&loop->lock);
	work_list_push(&loop->todo, work);
	more = loop->idle_threads == 0;
	pthread_cond_signal(&loop->wake);
	pthread_mutex_unlock(&loop->lock);
	if ((more && loop->thread_count < POOL_MAX) || loop->thread_count == 0) {
		if (start_thread(loop) || loop->thread_count > 0)
			return;
		/* No thread at all can be had: do the work here. */
		pthread_mutex_lock(&loop->lock);
		work = work_list_pop(&loop->todo);
		work->result = work->run(work);
		work_list_push(&loop->finished, work);
		pthread_mutex_unlock(&loop->lock);
		signal_loop(loop);
	}
}

static int reap_work(struct hv_loop *loop)
{
	struct work_list list;
	int count = 0;

	if (!loop->work_in_flight)
		return 0;
	pthread_mutex_lock(&loop->lock);
	list = loop->finished;
	loop->finished = (struct work_list){ 0 };
	pthread_mutex_unlock(&loop->lock);
	loop->now_ns = 0;
	while (list.head) {
		struct hv_work *work = work_list_pop(&list);

		loop->work_in_flight--;
		work->done(work, work->result);
		count++;
	}
	return count;
}

/* libaio. */

void hv_loop_aio(struct hv_loop *loop, int fd, struct hv_io *io,
		 void (*lower_done)(struct hv_io *io, long transferred))
{
	struct iocb *cb = (struct iocb *)io->scratch;

	if (io->op == HV_READ)
		io_prep_preadv(cb, fd, io->iov, io->iov_count, (long long)io->offset);
	else
		io_prep_pwritev2(cb, fd, io->iov, io->iov_count, (long long)io->offset,
				 io->flags & HV_IO_FUA ? RWF_DSYNC : 0);
	io_set_eventfd(cb, loop->event_fd);
	cb->data = io;
	io->lower_done = lower_done;
	io_list_push(&loop->aio_queue, io);
}

static int submit_aio(struct hv_loop *loop)
{
	int failed = 0;

	while (loop->aio_queue.head && loop->aio_in_flight < AIO_MAX) {
		struct iocb *batch[AIO_BATCH];
		int count = 0, taken;

		for (struct hv_io *io = loop->aio_queue.head;
		     io && count < AIO_BATCH && loop->aio_in_flight + (unsigned)count < AIO_MAX;
		     io = io->next)
			batch[count++] = (struct iocb *)io->scratch;
		taken = io_submit(loop->aio, count, batch);
		if (taken == -EINTR)
			continue;
		if (taken == -EAGAIN && loop->aio_in_flight)
			break;
		if (taken <= 0) { /* the first of the batch is what the kernel refused */
			struct hv_io *io = io_list_pop(&loop->aio_queue);

			io->lower_done(io, taken ? taken : -EIO);
			failed++;
			continue;
		}
		loop->aio_in_flight += (unsigned)taken;
		while (taken--)
			io_list_pop(&loop->aio_queue);
	}
	return failed;
}

/* The kernel's ring of completions, which is mapped into the process: the context is its address. */
struct aio_ring {
	unsigned id, count, head, tail;
	unsigned magic, compatible_features, incompatible_features, header_bytes;
	struct io_event events[];
};

#define AIO_RING_MAGIC 0xa10a10a1

/* io_getevents that does not wait; without a system call where the ring is of the kind we know. */
static int take_events(struct hv_loop *loop, struct io_event events[AIO_BATCH])
{
	struct aio_ring *ring = (struct aio_ring *)loop->aio;
	struct timespec zero = { 0 };
	unsigned head, tail;
	int count = 0;

	if (ring->magic != AIO_RING_MAGIC || ring->incompatible_features)
		return io_getevents(loop->aio, 0, AIO_BATCH, events, &zero);
	head = ring->head;
	tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	for (; head != tail && count < AIO_BATCH; head = (head + 1) % ring->count)
		events[count++] = ring->events[head];
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	return count;
}

static int reap_aio(struct hv_loop *loop, bool wait)
{
	struct io_event events[AIO_BATCH];
	int count;

	if (!loop->aio_in_flight)
		return 0;
	do
		count = wait ? io_getevents(loop->aio, 1, AIO_BATCH, events, NULL) :
			       take_events(loop, events);
	while (count == -EINTR);
	if (count <= 0)
		return 0;
	loop->aio_in_flight -= (unsigned)count;
	loop->now_ns = 0;
	for (int i = 0; i < count; i++) {
		struct hv_io *io = events[i].data;

		io->lower_done(io, (long)events[i].res);
	}
	return count;
}

static void reset_eventfd(struct hv_loop *loop)
{
	uint64_t count;
	ssize_t n = read(loop->event_fd, &count, sizeof(count));

	(void)n; /* EAGAIN or EINTR: look again */
}

static void sleep_on_eventfd(struct hv_loop *loop)
{
	struct pollfd pfd = { .fd = loop->event_fd, .events = POLLIN };

	poll(&pfd, 1, -1);
	reset_eventfd(loop);
}

static int turn(struct hv_loop *loop, bool wait)
{
	int count = run_ready(loop);

	count += submit_aio(loop);
	count += reap_aio(loop, false);
	count += reap_work(loop);
	while (wait && count == 0 && !loop->ready.head) {
		if (loop->work_in_flight) {
			sleep_on_eventfd(loop);
			count += reap_aio(loop, false);
			count += reap_work(loop);
		} else if (loop->aio_in_flight) {
			count += reap_aio(loop, true);
		} else {
			break;
		}
	}
	return count ? count : run_ready(loop);
}

int hv_loop_turn(struct hv_loop *loop, bool wait)
{
	int count;

	loop->turning++;
	count = turn(loop, wait);
	loop->turning--;
	loop->now_ns = 0;
	return count;
}

/* Between turns nobody tells when the time has gone on. */
uint64_t hv_loop_now(struct hv_loop *loop)
{
	if (!loop->now_ns || !loop->turning)
		loop->now_ns = hv_now_ns();
	return loop->now_ns;
}

/* Serving. */

int hv_loop_listen(struct hv_loop *loop, struct hv_err *err)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };
	int code;

	if (loop->epoll_fd >= 0)
		return 0;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return hv_fail_errno(err, -errno, "cannot create an epoll descriptor");
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->event_fd, &event) == 0)
		return 0;
	code = -errno;
	close(loop->epoll_fd);
	loop->epoll_fd = -1;
	return hv_fail_errno(err, code, "cannot watch an eventfd");
}

int hv_loop_watch(struct hv_loop *loop, struct hv_watch *watch, uint32_t events, struct hv_err *err)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };
	int rc = hv_loop_listen(loop, err);

	if (rc)
		return rc;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event))
		return hv_fail_errno(err, -errno, "cannot watch descriptor %d", watch->fd);
	return 0;
}

void hv_loop_rewatch(struct hv_loop *loop, struct hv_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void hv_loop_unwatch(struct hv_loop *loop, struct hv_watch *watch)
{
	if (loop->epoll_fd < 0)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (int i = 0; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
}

void hv_loop_post(struct hv_loop *loop, struct hv_work *work)
{
	pthread_mutex_lock(&loop->lock);
	work_list_push(&loop->posted, work);
	pthread_mutex_unlock(&loop->lock);
	signal_loop(loop);
}

static int run_posted(struct hv_loop *loop)
{
	struct work_list list;
	int count = 0;

	pthread_mutex_lock(&loop->lock);
	list = loop->posted;
	loop->posted = (struct work_list){ 0 };
	pthread_mutex_unlock(&loop->lock);
	while (list.head) {
		struct hv_work *work = work_list_pop(&list);

		loop->now_ns = 0;
		work->done(work, 0);
		count++;
	}
	return count;
}

/* The eventfd's own entry has no watch; being edge-triggered, it need not be read. */
static int run_watches(struct hv_loop *loop, struct epoll_event *events, int event_count)
{
	int count = 0;

	loop->events = events;
	loop->event_count = event_count;
	for (int i = 0; i < event_count; i++) {
		struct hv_watch *watch = events[i].data.ptr;

		if (!watch)
			continue;
		loop->now_ns = 0;
		watch->ready(watch, events[i].events);
		count++;
	}
	loop->event_count = 0;
	return count;
}

/* Polling. */

void hv_loop_set_polling(struct hv_loop *loop, unsigned percent)
{
	loop->spin.percent = percent;
}

void hv_loop_poll(struct hv_loop *loop, struct hv_poller *poller)
{
	poller->vain = 0;
	if (poller->polled)
		return;
	poller->polled = true;
	poller->next = loop->pollers;
	loop->pollers = poller;
}

void hv_loop_unpoll(struct hv_loop *loop, struct hv_poller *poller)
{
	struct hv_poller **link = &loop->pollers;

	if (!poller->polled)
		return;
	poller->polled = false;
	while (*link != poller)
		link = &(*link)->next;
	*link = poller->next;
	if (loop->next_poller == poller)
		loop->next_poller = poller->next;
}

/* True when it has nothing to do, and will tell. */
static bool let_rest(struct hv_loop *loop, struct hv_poller *poller)
{
	hv_loop_unpoll(loop, poller);
	if (poller->rest(poller))
		return true;
	hv_loop_poll(loop, poller);
	return false;
}

static int look(struct hv_loop *loop)
{
	int count = 0;

	loop->next_poller = loop->pollers;
	while (loop->next_poller) {
		struct hv_poller *poller = loop->next_poller;

		loop->next_poller = poller->next;
		loop->now_ns = 0;
		if (poller->look(poller)) {
			poller->vain = 0;
			count++;
		} else if (poller->polled && ++poller->vain == VAIN_MAX) {
			let_rest(loop, poller);
		}
	}
	return count;
}

static bool all_rest(struct hv_loop *loop)
{
	while (loop->pollers)
		if (!let_rest(loop, loop->pollers))
			return false;
	return true;
}

/* Without a system call, and without the lock: what is not seen now is seen by and by. */
static bool look_around(struct hv_loop *loop)
{
	return look(loop) || reap_aio(loop, false) ||
	       __atomic_load_n(&loop->signalled, __ATOMIC_RELAXED);
}

/* Nothing is left to do: looks for more, as long as that pays. */
static bool look_for_work(struct hv_loop *loop)
{
	uint64_t now = hv_now_ns(), end = now + hv_spin_begin(&loop->spin, now);
	bool found = false;

	__atomic_store_n(&loop->signalled, false, __ATOMIC_RELAXED);
	while (!found && now < end) {
		found = look_around(loop);
		now = hv_now_ns();
	}
	hv_spin_end(&loop->spin, now);
	return found;
}

/* Sleeps in epoll unless there is something to do; how many descriptors have something. */
static int wait_for_events(struct hv_loop *loop, bool busy, int timeout_ms,
			   struct epoll_event *events)
{
	bool polls = !busy && timeout_ms && loop->pollers, sleeps;
	int count;

	if (polls)
		busy = look_for_work(loop);
	sleeps = !busy && timeout_ms && all_rest(loop);
	count = epoll_wait(loop->epoll_fd, events, EVENT_BATCH, sleeps ? timeout_ms : 0);
	if (polls && sleeps)
		hv_spin_woken(&loop->spin, hv_now_ns());
	return count;
}

/* A turn may use up the signal of something posted, so that is looked for after each. */
int hv_loop_serve(struct hv_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENT_BATCH];
	int count, event_count;
	bool busy;

	loop->turning++;
	count = hv_loop_turn(loop, false) + run_posted(loop) + look(loop);
	busy = count || loop->ready.head || loop->aio_queue.head;
	event_count = wait_for_events(loop, busy, timeout_ms, events);
	if (event_count > 0)
		count += run_watches(loop, events, event_count);
	count += run_posted(loop) + hv_loop_turn(loop, false);
	/* What completions have left for later, answers to clients above all, before the next
	 * sleep. */
	count += run_ready(loop);
	loop->turning--;
	return count;
}
