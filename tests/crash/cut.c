/*
 * From a log and an instant to what may be left.
 */
#include "tests/crash/cut.h"

#include <stdio.h>
#include <stdlib.h>

#include "hvcore/checked.h"

static bool done_by(const struct crash_entry *entry, uint64_t at)
{
	return entry->completed <= at && entry->completed != CRASH_IN_FLIGHT;
}

static bool is_barrier(const struct crash_entry *entry)
{
	return entry->op == CRASH_BARRIER || entry->op == CRASH_SYNC_NAMES;
}

static bool durable(const struct crash_world *world, const struct crash_entry *entry, uint64_t at)
{
	if (!done_by(entry, at))
		return false;
	if (entry->fua && !entry->result)
		return true;
	for (size_t i = 0; i < world->log_length; i++) {
		const struct crash_entry *barrier = world->log[i];

		if (is_barrier(barrier) && done_by(barrier, at) && !barrier->result &&
		    barrier->submitted > entry->completed && barrier->submitted < entry->lost &&
		    crash_entry_concerns(barrier, entry))
			return true;
	}
	return false;
}

static size_t units_of(const struct crash_entry *entry)
{
	if (entry->op != CRASH_WRITE && entry->op != CRASH_ZERO)
		return 1;
	return (size_t)(hv_div_up(entry->offset + entry->length, HV_SECTOR_SIZE) -
			entry->offset / HV_SECTOR_SIZE);
}

/* In the order of completion; what was in flight at the instant, in that of submission. */
static void insert(struct crash_cut *cut, const struct crash_entry *entry)
{
	size_t i = cut->count++;

	while (i && done_by(entry, cut->at) &&
	       (!done_by(cut->order[i - 1], cut->at) ||
		cut->order[i - 1]->completed > entry->completed)) {
		cut->order[i] = cut->order[i - 1];
		i--;
	}
	cut->order[i] = entry;
}

static void add_loose(struct crash_cut *cut, const struct crash_entry *entry)
{
	struct crash_loose loose = { entry, cut->units, units_of(entry) };

	cut->loose[cut->loose_count++] = loose;
	cut->units += loose.count;
}

void crash_cut_make(const struct crash_world *world, uint64_t at, struct crash_cut *ret)
{
	struct crash_cut cut = { .at = at, .base = crash_state_copy(&world->start) };
	unsigned nodes = world->now.node_count;

	cut.order = crash_alloc(world->log_length * sizeof(*cut.order));
	cut.loose = crash_alloc(world->log_length * sizeof(*cut.loose));
	for (size_t i = 0; i < world->log_length && world->log[i]->submitted <= at; i++) {
		if (crash_entry_changes(world->log[i]))
			insert(&cut, world->log[i]);
	}
	cut.base.nodes = crash_realloc(cut.base.nodes, nodes * sizeof(*cut.base.nodes));
	while (cut.base.node_count < nodes)
		cut.base.nodes[cut.base.node_count++] = (struct crash_node){ 0 };
	for (size_t i = 0; i < cut.count; i++) {
		bool certain = durable(world, cut.order[i], at);

		if (!certain)
			add_loose(&cut, cut.order[i]);
		else if (!cut.loose_count)
			crash_state_apply(&cut.base, cut.order[i], 0, cut.order[i]->length);
		if (certain && !cut.loose_count)
			cut.settled++;
	}
	*ret = cut;
}

void crash_cut_done(struct crash_cut *cut)
{
	crash_state_done(&cut->base);
	free(cut->order);
	free(cut->loose);
}

/* Bytes of the entry that its units before `unit` have. */
static uint64_t bytes_before(const struct crash_entry *entry, size_t unit)
{
	uint64_t end = (entry->offset / HV_SECTOR_SIZE + unit) * HV_SECTOR_SIZE;

	if (!unit)
		return 0;
	return hv_min_u64(end - entry->offset, entry->length);
}

static void apply_chosen(struct crash_state *state, const struct crash_loose *loose,
			 const uint8_t *chosen)
{
	size_t i = 0;

	while (i < loose->count) {
		size_t start = i;

		while (i < loose->count && chosen[loose->first + i])
			i++;
		if (i > start)
			crash_state_apply(state, loose->entry, bytes_before(loose->entry, start),
					  bytes_before(loose->entry, i));
		else
			i++;
	}
}

struct crash_state crash_cut_state(const struct crash_cut *cut, const uint8_t *chosen)
{
	struct crash_state state = crash_state_copy(&cut->base);
	size_t loose = 0;

	for (size_t i = cut->settled; i < cut->count; i++) {
		const struct crash_entry *entry = cut->order[i];

		if (loose < cut->loose_count && cut->loose[loose].entry == entry)
			apply_chosen(&state, &cut->loose[loose++], chosen);
		else
			crash_state_apply(&state, entry, 0, entry->length);
	}
	return state;
}

size_t crash_cut_instants(const struct crash_world *world, uint64_t **ret)
{
	uint64_t *instants = crash_alloc((world->log_length + 1) * sizeof(*instants));
	size_t count = 0;

	for (size_t i = 0; i < world->log_length; i++) {
		const struct crash_entry *entry = world->log[i];
		size_t at = count;

		if (entry->result || entry->completed == CRASH_IN_FLIGHT ||
		    (!is_barrier(entry) && !entry->fua))
			continue;
		while (at && instants[at - 1] > entry->completed - 1) {
			instants[at] = instants[at - 1];
			at--;
		}
		instants[at] = entry->completed - 1;
		count++;
	}
	instants[count++] = crash_stage_now(world->stage);
	*ret = instants;
	return count;
}

/* Telling. */

static void tell_entry(const struct crash_world *world, const struct crash_entry *entry,
		       uint64_t at)
{
	fprintf(stderr, "    %s", crash_op_names[entry->op]);
	if (entry->op == CRASH_NAME)
		fprintf(stderr, " '%s'%s%s", entry->name, entry->gone ? ", was " : "",
			entry->gone ? entry->gone : "");
	else if (entry->op == CRASH_TRUNCATE)
		fprintf(stderr, " '%s' to %llu", crash_node_name(world, entry->node),
			(unsigned long long)entry->offset);
	else
		fprintf(stderr, " '%s' %llu + %llu", crash_node_name(world, entry->node),
			(unsigned long long)entry->offset, (unsigned long long)entry->length);
	fprintf(stderr, ", at %llu", (unsigned long long)entry->submitted);
	if (done_by(entry, at))
		fprintf(stderr, " to %llu%s", (unsigned long long)entry->completed,
			entry->result ? ", failed" : "");
}

static void tell_units(const struct crash_loose *loose, const uint8_t *chosen)
{
	size_t in = 0, i = 0;

	for (size_t unit = 0; unit < loose->count; unit++)
		in += chosen[loose->first + unit];
	fputs(!in ? ": lost" : in == loose->count ? ": kept" : ": of its sectors", stderr);
	while (in && in < loose->count && i < loose->count) {
		size_t start = i;

		while (i < loose->count && chosen[loose->first + i])
			i++;
		if (i == start + 1)
			fprintf(stderr, " %zu", start);
		else if (i > start)
			fprintf(stderr, " %zu-%zu", start, i - 1);
		else
			i++;
	}
	fputc('\n', stderr);
}

void crash_cut_describe(const struct crash_world *world, const struct crash_cut *cut,
			const uint8_t *chosen)
{
	fprintf(stderr, "  the power fails at %llu of %llu; %zu changes are durable, and of\n",
		(unsigned long long)cut->at, (unsigned long long)crash_stage_now(world->stage),
		cut->count - cut->loose_count);
	for (size_t i = 0; i < cut->loose_count; i++) {
		tell_entry(world, cut->loose[i].entry, cut->at);
		tell_units(&cut->loose[i], chosen);
	}
}
