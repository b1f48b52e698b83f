/*
 * Random programs: a disk is made, operations are drawn, and everything is compared at the end.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/model/model.h"
#include "tests/model/run.h"

static const struct op {
	const char *name;
	unsigned weight;
	bool (*run)(struct program *p);
} ops[] = {
	{ "write", 12, op_write },      { "zero", 4, op_zero },       { "discard", 4, op_discard },
	{ "read", 4, op_read },         { "flush", 2, op_flush },     { "batch", 6, op_batch },
	{ "overlap", 2, op_overlap },   { "extents", 2, op_extents }, { "reopen", 2, op_reopen },
	{ "snapshot", 3, op_snapshot },
};

bool bad(struct program *p, const char *fmt, ...)
{
	va_list args;

	if (p->failed)
		return false;
	p->failed = true;
	va_start(args, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, args);
	va_end(args);
	return false;
}

void say(struct program *p, const char *fmt, ...)
{
	va_list args;

	if (!p->verbose)
		return;
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

static const struct op *any_op(struct program *p)
{
	unsigned sum = 0, count = sizeof(ops) / sizeof(*ops);
	uint64_t dice;

	for (unsigned i = 0; i < count; i++)
		sum += ops[i].weight;
	dice = any(p, sum);
	for (unsigned i = 0; i < count; i++) {
		if (dice < ops[i].weight)
			return &ops[i];
		dice -= ops[i].weight;
	}
	abort();
}

static void make_directories(const char *directory)
{
	static const char *const names[] = { "sub", "a b", "a b/c" };
	char path[PATH_MAX];

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		mkdir(path, 0755);
	}
}

static bool run_ops(struct program *p)
{
	unsigned count = 3 + (unsigned)any(p, one_in(p, 8) ? 50 : 16);

	if (!create_base(p))
		return false;
	for (p->op = 1; p->op <= count; p->op++) {
		const struct op *op = any_op(p);

		say(p, "%u: %s", p->op, op->name);
		if (!op->run(p))
			return false;
	}
	if (!verify_disk(p) || !op_extents(p) || !close_top(p))
		return false;
	/* Every layer still holds what it held when its child was made. */
	for (unsigned i = 0; i < p->layer_count; i++)
		if (!verify_file(p, i))
			return false;
	return true;
}

bool program_run(uint64_t seed, const char *directory, struct hv_loop *loop, bool verbose)
{
	struct program *p = calloc(1, sizeof(*p));
	bool right;

	if (!p)
		abort();
	p->seed = seed;
	p->random = seed * 0x2545f4914f6cdd1d;
	p->verbose = verbose;
	p->directory = directory;
	p->loop = loop;
	p->direct = one_in(p, 6);
	p->type = one_in(p, 4) ? VHD_FIXED : VHD_DYNAMIC;
	make_directories(directory);
	right = run_ops(p) && !p->failed;
	if (p->disk)
		hv_disk_close(p->disk);
	if (!right)
		printf("FAIL seed %llu, operation %u: %s\n", (unsigned long long)seed, p->op,
		       p->why);
	fflush(stdout);
	for (unsigned i = 0; i < p->layer_count; i++)
		free(p->layers[i].model);
	free(p);
	return right;
}
