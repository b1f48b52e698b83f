/*
 * Which of the states that are possible are looked at.
 */
#include "tests/crash/explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/cut.h"

/* What is being looked at, of explorations inside each other. */
static char where[CRASH_WHERE];
static unsigned depth;

struct selection {
	const struct crash_cut *cut;
	uint64_t random;
	uint8_t *chosen;
};

const char *crash_explore_where(void)
{
	return where;
}

static void choose_part(struct selection *s, size_t loose, size_t start, size_t end, bool value)
{
	memset(s->chosen + s->cut->loose[loose].first + start, value, end - start);
}

static void choose_one(struct selection *s, size_t loose, bool value)
{
	choose_part(s, loose, 0, s->cut->loose[loose].count, value);
}

static void choose_all(struct selection *s, bool value)
{
	memset(s->chosen, value, s->cut->units);
}

static void choose_bits(struct selection *s, uint64_t bits)
{
	for (size_t i = 0; i < s->cut->units; i++)
		s->chosen[i] = bits >> i & 1;
}

static void choose_whole(struct selection *s, uint64_t bits)
{
	for (size_t i = 0; i < s->cut->loose_count; i++)
		choose_one(s, i, bits >> i & 1);
}

/* The corners: 0 and 1, then six for each operation. */
#define CORNERS 6

static void choose_corner(struct selection *s, size_t corner)
{
	size_t i = corner < 2 ? 0 : (corner - 2) / CORNERS;
	unsigned kind = corner < 2 ? (unsigned)corner : 2 + (unsigned)((corner - 2) % CORNERS);

	/* None but, all but. */
	choose_all(s, kind & 1);
	switch (kind) {
	case 2:
	case 3:
		choose_one(s, i, kind == 2);
		break;
	case 4:
	case 5:
		choose_one(s, i, false);
		choose_part(s, i, 0, s->cut->loose[i].count / 2, true);
		break;
	case 6:
	case 7:
		/* The first ones came, or did not. */
		for (size_t j = 0; j < i; j++)
			choose_one(s, j, kind == 6);
		break;
	default:
		break;
	}
}

static void choose_torn(struct selection *s)
{
	unsigned likely = 1 + (unsigned)crash_random(&s->random, 7);

	for (size_t i = 0; i < s->cut->loose_count; i++) {
		size_t count = s->cut->loose[i].count;

		choose_one(s, i, crash_random(&s->random, 8) < likely);
		if (count == 1 || crash_random(&s->random, 3))
			continue;
		for (size_t j = 0; j < count; j++)
			choose_part(s, i, j, j + 1, crash_random(&s->random, 8) < likely);
	}
}

/* State number k; false when there is none of that number. */
static bool choose(struct selection *s, unsigned k, unsigned states)
{
	size_t units = s->cut->units, loose = s->cut->loose_count;
	size_t corners = 2 + CORNERS * loose;

	if (units < 31 && 1ul << units <= states) {
		choose_bits(s, k);
		return k < 1ul << units;
	}
	if (k >= states)
		return false;
	if (loose < 31 && 1ul << loose <= states / 2 && k < 1ul << loose)
		choose_whole(s, k);
	else if (loose < 31 && 1ul << loose <= states / 2)
		choose_torn(s);
	else if (k < 2 || (k < corners && corners <= states / 2))
		choose_corner(s, k);
	else if (k < states / 2 && corners > states / 2)
		choose_corner(s, 2 + crash_random(&s->random, corners - 2));
	else
		choose_torn(s);
	return true;
}

/* Is it the one, or on the way to the one, that is asked for? *last: nothing comes after it. */
static bool wanted(const struct crash_plan *plan, bool *last)
{
	size_t length = strlen(where);

	*last = false;
	if (!plan->only)
		return true;
	if (strncmp(plan->only, where, length))
		return strlen(plan->only) < length &&
		       !strncmp(where, plan->only, strlen(plan->only)) &&
		       where[strlen(plan->only)] == '/';
	*last = !plan->only[length];
	return *last || plan->only[length] == '/';
}

static void tell(const struct crash_world *world, const struct crash_plan *plan,
		 const struct selection *s)
{
	fprintf(stderr, "state %s\n", where);
	crash_cut_describe(world, s->cut, s->chosen);
	if (!plan->only)
		fprintf(stderr, "  to see it again: %s%s\n",
			plan->replay ? plan->replay : "only = ", where);
}

static bool look(const struct crash_world *world, struct crash_plan *plan,
		 const struct selection *s, bool last, crash_judge *judge, void *arg)
{
	struct crash_world *state =
		crash_world_of(world->stage, crash_cut_state(s->cut, s->chosen));
	bool right;
	HV_ERR(err);

	if (last)
		tell(world, plan, s);
	if (last && plan->save && crash_save(state, plan->save, &err))
		fprintf(stderr, "  %s\n", hv_err_text(&err, err.code));
	/* What the judge does takes its course whatever has been looked at before. */
	crash_stage_seed(world->stage, plan->seed ^ s->random);
	plan->judged++;
	if (plan->told)
		strcpy(plan->told, where);
	right = judge(state, s->cut->at, arg);
	if (!right && !last)
		tell(world, plan, s);
	crash_world_free(state);
	return right;
}

static bool explore_cut(const struct crash_world *world, struct crash_plan *plan, size_t number,
			uint64_t at, crash_judge *judge, void *arg)
{
	size_t before = strlen(where);
	struct crash_cut cut;
	struct selection s = { .cut = &cut };
	bool right = true, last;

	crash_cut_make(world, at, &cut);
	s.chosen = crash_alloc(cut.units);
	plan->cuts++;
	for (unsigned k = 0; right; k++) {
		s.random = crash_random_state(plan->seed ^ number << 24 ^ k);
		if (!choose(&s, k, plan->states))
			break;
		snprintf(where + before, sizeof(where) - before, "%s%zu.%u", depth > 1 ? "/" : "",
			 number, k);
		if (wanted(plan, &last))
			right = look(world, plan, &s, last, judge, arg);
		where[before] = '\0';
	}
	free(s.chosen);
	crash_cut_done(&cut);
	return right;
}

bool crash_explore(const struct crash_world *world, struct crash_plan *plan, crash_judge *judge,
		   void *arg)
{
	uint64_t *instants;
	size_t count = crash_cut_instants(world, &instants);
	bool right = true;

	depth++;
	for (size_t i = plan->end_only ? count - 1 : 0; i < count && right; i++)
		right = explore_cut(world, plan, i, instants[i], judge, arg);
	depth--;
	free(instants);
	return right;
}
