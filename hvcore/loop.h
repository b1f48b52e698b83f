/*
 * The I/O loop: libaio for O_DIRECT files, a small thread pool for everything that libaio would do
 * synchronously (page-cached reads and writes, fdatasync, fallocate), and a list of deferred
 * completions. One thread owns a loop and everything attached to it; nothing here takes a lock on
 * the data path, and no completion is ever called from inside a submit function.
 */
#ifndef HVCORE_LOOP_H
#define HVCORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "hvcore/cleanup.h"
#include "hvcore/err.h"

struct hv_io;
struct hv_loop;
struct hv_work;

int hv_loop_new(struct hv_loop **ret, struct hv_err *err);

/* Nothing may be in flight. */
void hv_loop_free(struct hv_loop *loop);
HV_DEFINE_CLEANUP(struct hv_loop, hv_loop_free)

/*
 * Submits what is queued and runs completions; when there is none yet and wait is set, sleeps
 * until something in flight completes. Returns the number of completions called.
 */
int hv_loop_turn(struct hv_loop *loop, bool wait);

/*
 * Serving: a loop that waits for other descriptors and other threads besides its own I/O.
 *
 * Watches and posted work run in hv_loop_serve only, never in hv_loop_turn: a blocking call on a
 * disk of this loop lets I/O complete, and nothing new begin.
 */
struct hv_watch {
	int fd;
	void (*ready)(struct hv_watch *watch, uint32_t events); /* EPOLLIN, EPOLLHUP, ... */
};

/*
 * Calls ready whenever fd has one of events (level-triggered; EPOLLHUP and EPOLLERR always). The
 * caller owns the struct and the descriptor and keeps both until hv_loop_unwatch.
 */
int hv_loop_watch(struct hv_loop *loop, struct hv_watch *watch, uint32_t events,
		  struct hv_err *err);
/* Other events from now on; 0 rests. Cannot fail for what is watched. */
void hv_loop_rewatch(struct hv_loop *loop, struct hv_watch *watch, uint32_t events);
/* ready is not called again, even for what has been seen already. Of what is not watched: nothing. */
void hv_loop_unwatch(struct hv_loop *loop, struct hv_watch *watch);

/*
 * What nobody tells of as long as it is looked at, such as a ring in memory that is shared. look
 * does what there is to do, and says whether there was any. rest says that from now on one wants to
 * be told (by a watch, which calls hv_loop_poll again), and is false when there is something to do
 * already.
 */
struct hv_poller {
	bool (*look)(struct hv_poller *poller);
	bool (*rest)(struct hv_poller *poller);
	struct hv_poller *next; /* the rest is the loop's */
	unsigned vain;
	bool polled;
};

/*
 * hv_loop_serve looks again and again until it calls rest, which it does before it sleeps at the
 * latest. Of what is polled already: nothing.
 */
void hv_loop_poll(struct hv_loop *loop, struct hv_poller *poller);
/* Neither look nor rest is called again. Of what is not polled: nothing. */
void hv_loop_unpoll(struct hv_loop *loop, struct hv_poller *poller);

/*
 * How much of all time may go into looking where the loop could have slept (10 to 50 us at a
 * time, and only while that has been worth it): percent of a processor. 0, as in the beginning:
 * none.
 */
void hv_loop_set_polling(struct hv_loop *loop, unsigned percent);

/*
 * hv_loop_turn, and watches, and posted work. Sleeps until any of them has something, at most
 * timeout_ms (-1: for ever, 0: not at all). Returns how many completions, watches and works were
 * called, which may be none at any time. Needs a call of hv_loop_watch or hv_loop_listen before.
 */
int hv_loop_serve(struct hv_loop *loop, int timeout_ms);

/* Makes ready for hv_loop_post; before other threads know of the loop. */
int hv_loop_listen(struct hv_loop *loop, struct hv_err *err);

/* From any thread: work->done(work, 0) is called by hv_loop_serve, in the order of posting. */
void hv_loop_post(struct hv_loop *loop, struct hv_work *work);

/* A function run on a pool thread, then done on the loop's thread. The caller owns the struct. */
struct hv_work {
	int (*run)(struct hv_work *work); /* 0 or -errno; pool thread */
	void (*done)(struct hv_work *work, int result);
	struct hv_work *next; /* the loop's */
	int result;           /* the loop's */
};

void hv_loop_work(struct hv_loop *loop, struct hv_work *work);

/*
 * The time (hvcore/clock.h) when what is being run began: the clock is looked at once for each
 * batch of completions, each watch, and each posted work that asks, not once for each request.
 */
uint64_t hv_loop_now(struct hv_loop *loop);

/* Completes io with result (0 or -errno) on a later turn of the loop. */
void hv_loop_finish(struct hv_loop *loop, struct hv_io *io, int result);

/* Is libaio usable here? Where it is not, the pool does all I/O. Ask before hv_loop_aio. */
bool hv_loop_has_aio(struct hv_loop *loop);

/*
 * For the file layer: queues a read or write of fd for libaio. io->lower_done is called with the
 * number of bytes transferred, or -errno. io->scratch is the loop's until then.
 */
void hv_loop_aio(struct hv_loop *loop, int fd, struct hv_io *io,
		 void (*lower_done)(struct hv_io *io, long transferred));

#endif
