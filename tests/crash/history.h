/*
 * What the sectors of a disk may read as: every request that changed them, in flight, done or
 * failed, and every flush. Independent of worlds and of VHD; only the clock is shared.
 *
 * Each request has a number, and each sector that it writes a stamp made of both, so that a sector
 * that turns up in another place is found out. Zeroed sectors hold stamp 0.
 *
 * The rule: a sector reads as a request left it, or as in the beginning, unless another request
 * whose effect is certain began after that one had ended. Certain, after a power cut, is what
 * completed before a flush that completed before the cut was submitted, and a completed request
 * with HV_IO_FUA; without a power cut, whatever completed. A failed request may have changed what
 * it wanted to, and makes nothing certain.
 */
#ifndef TESTS_CRASH_HISTORY_H
#define TESTS_CRASH_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history;

#define HISTORY_TORN UINT64_MAX /* the stamp of a sector that holds no stamp */

/* All sectors hold stamp 0. */
struct history *history_new(uint64_t sectors);
void history_free(struct history *history);

/* A new beginning: the disk now holds contents, and numbers go on where the old history is. */
struct history *history_after(const struct history *old, const void *contents);

uint64_t history_sectors(const struct history *history);

/* In the beginning sector held this. Before any request. */
void history_begin(struct history *history, uint64_t sector, uint64_t stamp);

enum history_kind { HISTORY_WRITE, HISTORY_ZERO, HISTORY_FLUSH };

/* Submitted; returns the request's number. Every call has an instant of its own. */
uint32_t history_submit(struct history *history, enum history_kind kind, uint64_t first,
			uint64_t count, uint64_t now);

/* The number that the next request will have. */
uint32_t history_next(const struct history *history);

/* Completed; result 0 or -errno. durable: it was a request with HV_IO_FUA. */
void history_complete(struct history *history, uint32_t number, int result, bool durable,
		      uint64_t now);

/* The disk is closed: what no flush has made certain may be lost, whatever is flushed later. */
void history_close(struct history *history, uint64_t now);

/* The stamp that request number writes to sector. */
uint64_t history_stamp(uint32_t number, uint64_t sector);

/* Fills count sectors with their stamps, and back: the stamp of one sector, or HISTORY_TORN. */
void history_fill(void *data, uint32_t number, uint64_t first, uint64_t count);
uint64_t history_read(const void *sector);

#define HISTORY_NO_CUT UINT64_MAX

/*
 * Whether sector may hold stamp after a power cut at the instant `cut`, or with HISTORY_NO_CUT
 * on the running disk.
 */
bool history_allows(struct history *history, uint64_t sector, uint64_t stamp, uint64_t cut);

/*
 * The first sector of contents (all of the disk) that is not allowed, and its stamp, or -1. The
 * same as asking for each, and quicker.
 */
int64_t history_judge(struct history *history, const void *contents, uint64_t cut, uint64_t *stamp);

#endif
