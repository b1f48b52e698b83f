/*
 * What a history allows, case by case.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/crash/history.h"

#define SECTORS 8
#define BEGIN 77

static struct history *history;
static uint64_t now;

static void setup(void)
{
	history = history_new(SECTORS);
	for (uint64_t i = 0; i < SECTORS; i++)
		history_begin(history, i, BEGIN);
}

static void teardown(void)
{
	history_free(history);
}

TestSuite(history, .init = setup, .fini = teardown);

static uint32_t submit(enum history_kind kind)
{
	return history_submit(history, kind, 0, kind == HISTORY_FLUSH ? 0 : 2, ++now);
}

static void complete(uint32_t number)
{
	history_complete(history, number, 0, false, ++now);
}

static uint32_t write_one(void)
{
	uint32_t number = submit(HISTORY_WRITE);

	complete(number);
	return number;
}

static void flush(void)
{
	complete(submit(HISTORY_FLUSH));
}

static bool allows(uint32_t number, uint64_t cut)
{
	return history_allows(history, 1, history_stamp(number, 1), cut);
}

static bool allows_begin(uint64_t cut)
{
	return history_allows(history, 1, BEGIN, cut);
}

Test(history, without_a_flush_old_and_new_are_allowed)
{
	uint32_t a = write_one(), b = write_one();

	cr_assert(allows_begin(now) && allows(a, now) && allows(b, now));
	cr_assert_not(history_allows(history, 1, history_stamp(a, 0), now), "another sector's");
	cr_assert_not(history_allows(history, 1, 0, now));
	cr_assert_not(history_allows(history, 1, HISTORY_TORN, now));
}

Test(history, running_disk_shows_the_last_write)
{
	uint32_t a = write_one(), b = write_one();

	cr_assert(allows(b, HISTORY_NO_CUT));
	cr_assert_not(allows(a, HISTORY_NO_CUT) || allows_begin(HISTORY_NO_CUT));
}

Test(history, what_is_submitted_after_the_cut_is_not_there)
{
	uint32_t a = write_one();
	uint64_t cut = now;
	uint32_t b = write_one();

	cr_assert(allows(a, cut));
	cr_assert_not(allows(b, cut));
}

Test(history, flush_makes_certain_what_was_complete_when_it_was_submitted)
{
	uint32_t a = write_one(), b = submit(HISTORY_WRITE), f = submit(HISTORY_FLUSH);
	uint64_t before;

	complete(b);
	before = now;
	complete(f);
	cr_assert(allows_begin(before), "the flush is not done");
	cr_assert_not(allows_begin(now));
	cr_assert(allows(a, now) && allows(b, now));
	flush();
	/* They were in flight at different times: the second replaces the first. */
	cr_assert_not(allows(a, now));
	cr_assert(allows(b, now));
}

Test(history, of_two_at_the_same_time_either_may_be_last)
{
	uint32_t a = submit(HISTORY_WRITE), b = submit(HISTORY_WRITE);

	complete(b);
	complete(a);
	flush();
	cr_assert(allows(a, now) && allows(b, now));
	cr_assert_not(allows_begin(now));
}

Test(history, durable_write_needs_no_flush)
{
	uint32_t a = write_one(), b = submit(HISTORY_WRITE);

	history_complete(history, b, 0, true, ++now);
	cr_assert(allows(b, now));
	cr_assert_not(allows(a, now) || allows_begin(now));
	cr_assert(allows(a, now - 1));
}

Test(history, failed_write_is_old_or_new_and_a_failed_flush_nothing)
{
	uint32_t a = write_one(), b, f;

	flush();
	b = submit(HISTORY_WRITE);
	history_complete(history, b, -EIO, false, ++now);
	f = submit(HISTORY_FLUSH);
	history_complete(history, f, -EIO, false, ++now);
	cr_assert(allows(a, now) && allows(b, now));
	flush();
	cr_assert(allows(a, now) && allows(b, now), "a failed write makes nothing certain");
	a = write_one();
	flush();
	cr_assert_not(allows(b, now));
	cr_assert(allows(a, now));
}

Test(history, zeros_count)
{
	uint32_t a = write_one();

	complete(submit(HISTORY_ZERO));
	cr_assert(history_allows(history, 1, 0, now) && allows(a, now));
	flush();
	cr_assert(history_allows(history, 1, 0, now));
	cr_assert_not(allows(a, now));
}

Test(history, what_was_not_flushed_when_the_disk_was_closed_may_be_lost_for_good)
{
	uint32_t a = write_one(), b;

	flush();
	b = write_one();
	history_close(history, ++now);
	flush();
	cr_assert(allows(a, now) && allows(b, now));
	cr_assert(allows(a, HISTORY_NO_CUT) && allows(b, HISTORY_NO_CUT));
	cr_assert_not(allows_begin(now));
}

Test(history, contents_are_judged_and_become_a_new_beginning)
{
	uint8_t contents[SECTORS * 512];
	struct history *after;
	uint32_t a = write_one();
	uint64_t stamp;

	flush();
	for (uint64_t i = 0; i < SECTORS; i++)
		for (unsigned j = 0; j < 512; j += 8)
			memcpy(contents + i * 512 + j, &(uint64_t){ BEGIN }, 8);
	cr_assert_eq(history_judge(history, contents, now, &stamp), 0);
	cr_assert_eq(stamp, BEGIN);
	history_fill(contents, a, 0, 2);
	cr_assert_eq(history_judge(history, contents, now, &stamp), -1);
	after = history_after(history, contents);
	cr_assert_eq(history_judge(after, contents, now, &stamp), -1);
	cr_assert_gt(history_next(after), a);
	contents[3 * 512 + 9] ^= 1;
	cr_assert_eq(history_judge(after, contents, now, &stamp), 3);
	cr_assert_eq(stamp, HISTORY_TORN);
	history_free(after);
}
