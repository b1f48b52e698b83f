#include "tests/support/memcut.h"

#include <stdlib.h>

#include "tests/crash/explore.h"
#include "tests/support/must.h"

#define NAME "memory.vhd"

struct memcut {
	struct hv_loop *loop;
	struct crash_stage *stage;
	struct crash_world *world;
	void (*judge)(struct memfile *left, void *arg);
	void *arg;
};

static void copy_bytes(struct hv_file *from, struct hv_file *to)
{
	uint64_t size = from->size_bytes;
	uint8_t *bytes = malloc(size + 1);
	HV_ERR(err);

	must(hv_file_pread(from, bytes, size, 0, &err) == 0, "%s", err.sentence);
	must(hv_file_pwrite(to, bytes, size, 0, &err) == 0, "%s", err.sentence);
	free(bytes);
}

struct memcut *memcut_new(const struct memfile *mem)
{
	struct memcut *cut = calloc(1, sizeof(*cut));
	struct memfile *copy = memfile_copy(mem);
	struct hv_file *file;
	HV_ERR(err);

	cut->loop = memfile_file(copy)->loop;
	cut->stage = crash_stage_new(cut->loop, 1);
	cut->world = crash_world_new(cut->stage);
	must(crash_create(cut->world, NAME, false, &file, &err) == 0, "%s", err.sentence);
	copy_bytes(memfile_file(copy), file);
	must(hv_file_publish(file, &err) == 0, "%s", err.sentence);
	hv_file_close(file);
	hv_file_close(memfile_file(copy));
	crash_forget(cut->world);
	return cut;
}

void memcut_free(struct memcut *cut)
{
	crash_world_free(cut->world);
	crash_stage_free(cut->stage);
	free(cut);
}

struct hv_file *memcut_open(struct memcut *cut)
{
	struct hv_file *file;
	HV_ERR(err);

	must(crash_open(cut->world, NAME, HV_FILE_WRITE, &file, &err) == 0, "%s", err.sentence);
	return file;
}

static bool judge_state(struct crash_world *state, uint64_t at, void *arg)
{
	struct memcut *cut = arg;
	struct memfile *left = memfile_new(cut->loop);
	struct hv_file *file;
	HV_ERR(err);

	(void)at;
	must(crash_open(state, NAME, 0, &file, &err) == 0, "%s", err.sentence);
	copy_bytes(file, memfile_file(left));
	hv_file_close(file);
	cut->judge(left, cut->arg);
	return true;
}

void memcut_explore(struct memcut *cut, uint64_t seed, unsigned states,
		    void (*judge)(struct memfile *left, void *arg), void *arg)
{
	struct crash_plan plan = { .seed = seed, .states = states };

	cut->judge = judge;
	cut->arg = arg;
	crash_explore(cut->world, &plan, judge_state, cut);
}
