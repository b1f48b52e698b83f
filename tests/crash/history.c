/*
 * A list of requests for each sector; whether one is certain is found out once for each instant.
 */
#include "tests/crash/history.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/disk.h"
#include "tests/crash/bytes.h"

#define NEVER UINT64_MAX
#define FIRST_NUMBER 2 /* 0 are zeros, 1 is for what was there in the beginning */

struct request {
	enum history_kind kind;
	uint64_t submitted, completed;
	bool failed, durable;
	bool certain; /* at the instant that was asked for last */
};

/* One sector of a request. */
struct link {
	uint32_t number, older;
};

struct history {
	uint64_t sectors;
	uint64_t *begin;  /* stamps */
	uint32_t *newest; /* of each sector: an index of links, 0: none */
	struct link *links;
	uint32_t link_count, link_limit;
	struct request *requests; /* from first on */
	uint32_t first, count, limit;
	uint64_t cut; /* the instant that was asked for last */
	bool known;   /* certain is right */
};

static struct history *make(uint64_t sectors, uint32_t first)
{
	struct history *history = crash_alloc(sizeof(*history));

	history->sectors = sectors;
	history->begin = crash_alloc(sectors * sizeof(*history->begin));
	history->newest = crash_alloc(sectors * sizeof(*history->newest));
	history->link_count = 1;
	history->first = history->count = first;
	return history;
}

struct history *history_new(uint64_t sectors)
{
	return make(sectors, FIRST_NUMBER);
}

struct history *history_after(const struct history *old, const void *contents)
{
	struct history *history = make(old->sectors, old->count);
	const uint8_t *bytes = contents;

	for (uint64_t i = 0; i < old->sectors; i++)
		history->begin[i] = history_read(bytes + i * HV_SECTOR_SIZE);
	return history;
}

void history_free(struct history *history)
{
	if (!history)
		return;
	free(history->begin);
	free(history->newest);
	free(history->links);
	free(history->requests);
	free(history);
}

uint64_t history_sectors(const struct history *history)
{
	return history->sectors;
}

void history_begin(struct history *history, uint64_t sector, uint64_t stamp)
{
	history->begin[sector] = stamp;
}

static void add_link(struct history *history, uint64_t sector, uint32_t number)
{
	if (history->link_count >= history->link_limit) {
		history->link_limit = 2 * history->link_limit + 1024;
		history->links = crash_realloc(history->links,
					       history->link_limit * sizeof(*history->links));
	}
	history->links[history->link_count] =
		(struct link){ .number = number, .older = history->newest[sector] };
	history->newest[sector] = history->link_count++;
}

uint32_t history_submit(struct history *history, enum history_kind kind, uint64_t first,
			uint64_t count, uint64_t now)
{
	uint32_t number = history->count++;

	if (history->count > history->limit) {
		history->limit = 2 * history->count;
		history->requests = crash_realloc(history->requests,
						  history->limit * sizeof(*history->requests));
	}
	history->requests[number] =
		(struct request){ .kind = kind, .submitted = now, .completed = NEVER };
	for (uint64_t i = 0; i < count; i++)
		add_link(history, first + i, number);
	history->known = false;
	return number;
}

uint32_t history_next(const struct history *history)
{
	return history->count;
}

void history_complete(struct history *history, uint32_t number, int result, bool durable,
		      uint64_t now)
{
	struct request *request = &history->requests[number];

	request->completed = now;
	request->failed = result != 0;
	request->durable = durable;
	history->known = false;
}

uint64_t history_stamp(uint32_t number, uint64_t sector)
{
	return (uint64_t)number << 40 | sector;
}

void history_fill(void *data, uint32_t number, uint64_t first, uint64_t count)
{
	uint8_t *to = data;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t stamp = history_stamp(number, first + i);

		for (unsigned j = 0; j < HV_SECTOR_SIZE; j += sizeof(stamp), to += sizeof(stamp))
			memcpy(to, &stamp, sizeof(stamp));
	}
}

uint64_t history_read(const void *sector)
{
	const uint8_t *bytes = sector;
	uint64_t stamp;

	memcpy(&stamp, bytes, sizeof(stamp));
	return memcmp(bytes, bytes + sizeof(stamp), HV_SECTOR_SIZE - sizeof(stamp)) ? HISTORY_TORN :
										      stamp;
}

static bool ended(const struct request *request, uint64_t cut)
{
	return request->completed <= cut && request->completed != NEVER && !request->failed;
}

static void find_certain(struct history *history, uint64_t cut)
{
	uint64_t flushed = 0; /* when the last flush that is done by then was submitted */

	if (history->known && history->cut == cut)
		return;
	for (uint32_t i = history->first; i < history->count; i++) {
		const struct request *request = &history->requests[i];

		if (request->kind == HISTORY_FLUSH && ended(request, cut) &&
		    request->submitted > flushed)
			flushed = request->submitted;
	}
	for (uint32_t i = history->first; i < history->count; i++) {
		struct request *request = &history->requests[i];

		request->certain =
			ended(request, cut) &&
			(cut == HISTORY_NO_CUT || request->durable || request->completed < flushed);
	}
	history->cut = cut;
	history->known = true;
}

void history_close(struct history *history, uint64_t now)
{
	find_certain(history, now);
	for (uint32_t i = history->first; i < history->count; i++) {
		if (history->requests[i].kind != HISTORY_FLUSH)
			history->requests[i].failed |= !history->requests[i].certain;
	}
	history->known = false;
}

static uint64_t value(const struct history *history, uint32_t number, uint64_t sector)
{
	return history->requests[number].kind == HISTORY_ZERO ? 0 : history_stamp(number, sector);
}

bool history_allows(struct history *history, uint64_t sector, uint64_t stamp, uint64_t cut)
{
	uint64_t certain = 0; /* when the last certain request began */

	find_certain(history, cut);
	for (uint32_t at = history->newest[sector]; at; at = history->links[at].older) {
		const struct request *request = &history->requests[history->links[at].number];

		if (request->certain && request->submitted > certain)
			certain = request->submitted;
	}
	if (stamp == history->begin[sector] && !certain)
		return true;
	for (uint32_t at = history->newest[sector]; at; at = history->links[at].older) {
		uint32_t number = history->links[at].number;
		const struct request *request = &history->requests[number];

		if (value(history, number, sector) == stamp && request->submitted <= cut &&
		    request->completed > certain)
			return true;
	}
	return false;
}

int64_t history_judge(struct history *history, const void *contents, uint64_t cut, uint64_t *stamp)
{
	const uint8_t *bytes = contents;

	for (uint64_t i = 0; i < history->sectors; i++) {
		uint64_t have = history_read(bytes + i * HV_SECTOR_SIZE);

		if (!history->newest[i] ? have == history->begin[i] :
					  history_allows(history, i, have, cut))
			continue;
		*stamp = have;
		return (int64_t)i;
	}
	return -1;
}
