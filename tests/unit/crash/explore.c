/*
 * The explorer by its contract: which states it finds, and that it finds all of them where it says
 * so. What a file may hold after a power cut is listed by hand here.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/explore.h"
#include "tests/unit/must.h"

#define MANY 1024 /* states: more than any of these cuts has */

static struct hv_loop *loop;
static struct crash_stage *stage;
static struct crash_world *world;
static struct hv_file *file;

static void setup(void)
{
	HV_ERR(err);

	must(hv_loop_new(&loop, &err), &err);
	stage = crash_stage_new(loop, 1);
	world = crash_world_new(stage);
	must(crash_create(world, "dir/file", false, &file, &err), &err);
	must(hv_file_publish(file, &err), &err);
	crash_forget(world);
}

static void teardown(void)
{
	hv_file_close(file);
	crash_world_free(world);
	crash_stage_free(stage);
	hv_loop_free(loop);
}

TestSuite(explore, .init = setup, .fini = teardown);

/* Writes sectors that are filled with the characters of text. */
static void put_to(struct hv_file *to, const char *text, uint64_t sector)
{
	HV_ERR(err);

	for (; *text; text++, sector++) {
		char data[HV_SECTOR_SIZE];

		memset(data, *text, sizeof(data));
		must(hv_file_pwrite(to, data, sizeof(data), sector * HV_SECTOR_SIZE, &err), &err);
	}
}

static void put(const char *text, uint64_t sector)
{
	put_to(file, text, sector);
}

static void barrier(void)
{
	HV_ERR(err);

	must(hv_file_barrier(file, &err), &err);
}

struct flight {
	struct hv_io io;
	struct iovec iov;
	char data[8 * HV_SECTOR_SIZE];
	bool done;
	int result;
};

static void landed(struct hv_io *io, int result)
{
	struct flight *flight = (struct flight *)io;

	flight->done = true;
	flight->result = result;
}

static void start(struct flight *flight, enum hv_io_op op, const char *text, uint64_t sector,
		  unsigned flags)
{
	size_t length = strlen(text) * HV_SECTOR_SIZE;

	*flight = (struct flight){ .io = { .op = op,
					   .flags = flags,
					   .offset = sector * HV_SECTOR_SIZE,
					   .length = length,
					   .iov = op == HV_WRITE ? &flight->iov : NULL,
					   .iov_count = op == HV_WRITE,
					   .done = landed } };
	for (size_t i = 0; i < length; i++)
		flight->data[i] = text[i / HV_SECTOR_SIZE];
	flight->iov = (struct iovec){ flight->data, length };
	hv_file_submit(file, &flight->io);
}

static void finish(struct flight *flight)
{
	while (!flight->done)
		hv_loop_turn(loop, true);
}

/* States that were seen, a word for each: a letter for a sector, '.' for zeros. */
struct seen {
	const char *name;
	char words[4096];
	unsigned count;
};

static void spell(struct crash_world *state, const char *name, char *word)
{
	struct hv_file *left;
	uint8_t data[HV_SECTOR_SIZE];

	if (crash_open(state, name, 0, &left, NULL)) {
		strcpy(word, "none");
		return;
	}
	for (uint64_t at = 0; at < left->size_bytes; at += HV_SECTOR_SIZE) {
		cr_assert_eq(hv_file_pread(left, data, sizeof(data), at, NULL), 0);
		cr_assert_eq(memcmp(data, data + 1, sizeof(data) - 1), 0, "torn inside a sector");
		*word++ = data[0] ? (char)data[0] : '.';
	}
	*word = '\0';
	hv_file_close(left);
}

static bool note(struct crash_world *state, uint64_t at, void *arg)
{
	struct seen *seen = arg;
	char word[64] = " ";

	(void)at;
	spell(state, seen->name, word + 1);
	strcat(word, " ");
	if (strstr(seen->words, word))
		return true;
	if (!seen->count)
		strcpy(seen->words, " ");
	strcat(seen->words, word + 1);
	seen->count++;
	return true;
}

/* All states of the file are these words, and no others. */
static void assert_states_of(const char *name, unsigned states, const char *words)
{
	struct crash_plan plan = { .seed = 1, .states = states };
	struct seen seen = { .name = name };
	unsigned expected = 0;
	char copy[1024], *word, *rest = copy;

	cr_assert(crash_explore(world, &plan, note, &seen));
	strcpy(copy, words);
	while ((word = strsep(&rest, " "))) {
		char whole[64];

		snprintf(whole, sizeof(whole), " %s ", word);
		cr_assert(strstr(seen.words, whole), "'%s' is not among:%s", word, seen.words);
		expected++;
	}
	cr_assert_eq(seen.count, expected, "seen:%s, expected: %s", seen.words, words);
}

static void assert_states(const char *words)
{
	assert_states_of("dir/file", MANY, words);
}

Test(explore, sectors_that_no_barrier_covers_are_there_or_not)
{
	put("abc", 0);
	crash_forget(world);
	put("XY", 1);
	assert_states("abc aXc abY aXY");
}

Test(explore, what_a_barrier_covers_is_there)
{
	put("abc", 0);
	crash_forget(world);
	put("X", 0);
	barrier();
	put("Y", 2);
	assert_states("abc Xbc XbY");
}

Test(explore, sector_written_twice_shows_any_of_its_versions)
{
	put("ab", 0);
	crash_forget(world);
	put("X", 0);
	put("Y", 0);
	assert_states("ab Xb Yb");
}

Test(explore, what_is_in_flight_when_a_barrier_begins_is_not_covered)
{
	struct flight flight;

	put("ab", 0);
	crash_forget(world);
	start(&flight, HV_WRITE, "X", 0, 0);
	barrier();
	finish(&flight);
	assert_states("ab Xb");
	barrier();
	put("Y", 1);
	assert_states("ab Xb XY");
}

Test(explore, barrier_that_is_in_flight_covers_nothing)
{
	struct flight flight;

	put("ab", 0);
	crash_forget(world);
	put("X", 0);
	start(&flight, HV_FLUSH, "", 0, 0);
	assert_states("ab Xb");
	finish(&flight);
	put("Y", 1);
	assert_states("ab Xb XY");
}

Test(explore, durable_write_covers_itself_and_what_it_replaces)
{
	struct flight flight;

	put("abc", 0);
	crash_forget(world);
	put("X", 0);
	put("Y", 1);
	start(&flight, HV_WRITE, "Z", 1, HV_IO_FUA);
	finish(&flight);
	/* Before it is durable, anything goes; afterwards no older version can come back. */
	assert_states("abc Xbc aYc XYc aZc XZc");
	put("V", 2);
	crash_forget(world);
	assert_states("XZV");
}

Test(explore, truncation_is_all_or_nothing_and_files_grow_with_their_data)
{
	HV_ERR(err);

	put("abc", 0);
	crash_forget(world);
	must(hv_file_truncate(file, HV_SECTOR_SIZE, &err), &err);
	put("Y", 3);
	assert_states("abc a abcY a..Y");
}

Test(explore, zeros_are_sectors_too)
{
	HV_ERR(err);

	put("abc", 0);
	crash_forget(world);
	must(hv_file_zero(file, HV_SECTOR_SIZE, 2 * HV_SECTOR_SIZE, &err), &err);
	assert_states("abc a.c ab. a..");
}

Test(explore, name_is_durable_when_its_directory_is_synced)
{
	struct hv_file *other;
	HV_ERR(err);

	must(crash_create(world, "dir/new", false, &other, &err), &err);
	put_to(other, "ab", 0);
	must(hv_file_publish(other, &err), &err);
	put_to(other, "c", 2);
	assert_states_of("dir/new", MANY, "none ab abc");
	must(crash_unlink(world, "dir/new", &err), &err);
	crash_sync_names(world, "elsewhere", &err);
	assert_states_of("dir/new", MANY, "none ab abc");
	hv_file_close(other);
}

Test(explore, renaming_replaces_in_one_step)
{
	struct hv_file *other;
	HV_ERR(err);

	put("old", 0);
	must(crash_create(world, "dir/new", false, &other, &err), &err);
	put_to(other, "new", 0);
	must(hv_file_publish(other, &err), &err);
	barrier();
	crash_forget(world);
	must(crash_rename(world, "dir/new", "dir/file", &err), &err);
	assert_states_of("dir/file", MANY, "old new");
	assert_states_of("dir/new", MANY, "new none");
	must(crash_sync_names(world, "dir", &err), &err);
	crash_forget(world);
	assert_states_of("dir/file", MANY, "new");
	hv_file_close(other);
}

Test(explore, barrier_of_one_file_does_not_cover_another)
{
	struct hv_file *other;
	HV_ERR(err);

	must(crash_create(world, "dir/other", false, &other, &err), &err);
	put_to(other, "a", 0);
	must(hv_file_publish(other, &err), &err);
	crash_forget(world);
	put_to(other, "X", 0);
	barrier();
	assert_states_of("dir/other", MANY, "a X");
	hv_file_close(other);
}

Test(explore, failed_barrier_loses_what_it_should_have_covered)
{
	struct hv_file *again;
	HV_ERR(err);

	put("ab", 0);
	crash_forget(world);
	put("X", 0);
	crash_fail(world, CRASH_BARRIER, 1, -EIO, false);
	cr_assert_eq(hv_file_barrier(file, &err), -EIO);
	cr_assert_eq(hv_file_barrier(file, &err), -EIO);
	must(crash_open(world, "dir/file", HV_FILE_WRITE, &again, &err), &err);
	must(hv_file_barrier(again, &err), &err);
	hv_file_close(again);
	assert_states("ab Xb");
}

Test(explore, failed_write_changes_any_sectors_from_its_start)
{
	char words[64] = "";

	for (unsigned seed = 1; seed < 40; seed++) {
		char data[2 * HV_SECTOR_SIZE], word[64];

		crash_stage_seed(stage, seed);
		put("ab", 0);
		memset(data, 'X', sizeof(data));
		crash_fail(world, CRASH_WRITE, 1, -ENOSPC, false);
		cr_assert_eq(hv_file_pwrite(file, data, sizeof(data), 0, NULL), -ENOSPC);
		spell(world, "dir/file", word);
		if (!strstr(words, word))
			strcat(strcat(words, word), " ");
	}
	cr_assert_eq(strlen(words), strlen("ab Xb XX "), "%s", words);
}

/* Where not all states are looked at, none, all, each alone and all but each still are. */
Test(explore, corners_are_looked_at_where_there_are_too_many_states)
{
	put("abcdefgh", 0);
	crash_forget(world);
	put("ABCDEFGH", 0);
	struct crash_plan plan = { .seed = 1, .states = 128 };
	struct seen seen = { .name = "dir/file" };

	cr_assert(crash_explore(world, &plan, note, &seen));
	cr_assert_eq(plan.judged, 128);
	cr_assert(strstr(seen.words, " abcdefgh ") && strstr(seen.words, " ABCDEFGH "));
	cr_assert(strstr(seen.words, " Abcdefgh ") && strstr(seen.words, " aBCDEFGH "));
	cr_assert(strstr(seen.words, " abcdefgH ") && strstr(seen.words, " ABCDEFGh "));
}

static bool refuse(struct crash_world *state, uint64_t at, void *arg)
{
	char word[64];

	(void)at;
	spell(state, "dir/file", word);
	if (strcmp(word, "aYc"))
		return true;
	strcpy(arg, crash_explore_where());
	return false;
}

static bool count(struct crash_world *state, uint64_t at, void *arg)
{
	(void)at;
	spell(state, "dir/file", arg);
	return true;
}

Test(explore, state_that_was_refused_is_found_again_by_its_number)
{
	struct crash_plan plan = { .seed = 1, .states = MANY };
	char where[32], word[64];

	put("abc", 0);
	crash_forget(world);
	put("XYZ", 0);
	barrier();
	cr_assert_not(crash_explore(world, &plan, refuse, where));
	plan = (struct crash_plan){ .seed = 1, .states = MANY, .only = where };
	cr_assert(crash_explore(world, &plan, count, word));
	cr_assert_str_eq(word, "aYc");
	cr_assert_eq(plan.judged, 1);
}

/* The same seed, the same run: which of two writes in flight comes last. */
Test(explore, order_of_completion_depends_on_the_seed_only)
{
	char last[41];

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned seed = 1; seed <= 40; seed++) {
			struct flight one, two;
			char word[64];

			crash_stage_seed(stage, seed);
			start(&one, HV_WRITE, "X", 0, 0);
			start(&two, HV_WRITE, "Y", 0, 0);
			finish(&one);
			finish(&two);
			spell(world, "dir/file", word);
			cr_assert(!round || last[seed] == word[0]);
			last[seed] = word[0];
		}
	}
	cr_assert(memchr(last + 1, 'X', 40) && memchr(last + 1, 'Y', 40));
}
