/*
 * A disk that is written by many threads at once, byte by byte: what one of them writes stays.
 */
#include "fuse-mount/engine.h"

#include <errno.h>
#include <pthread.h>

#include "tests/unit/fuse-mount/chain.h"

#define WRITERS 6
#define ROUNDS 120

static struct fm_engine *engine;

static void setup(void)
{
	HV_ERR(err);

	make_chain();
	must(fm_engine_new(open_chain("leaf.vhd", SNAP_OPEN_WRITE), &engine, &err), &err);
}

static void teardown(void)
{
	fm_engine_free(engine);
	remove_chain();
}

TestSuite(engine, .init = setup, .fini = teardown);

static void assert_reads(uint64_t offset, uint64_t length)
{
	uint8_t *buf = malloc(length);

	cr_assert_eq(fm_engine_read(engine, buf, offset, length), 0);
	cr_assert_arr_eq(buf, model + offset, length, "at %lu+%lu", offset, length);
	free(buf);
}

/* A writer has a stretch of bytes of its own in each stretch of the disk: they share sectors. */
#define STRETCH 3000u

struct writer {
	pthread_t thread;
	unsigned number, seed;
};

static void change(struct writer *writer, uint64_t offset, uint64_t length)
{
	int what = rand_r(&writer->seed) % 4, rc;

	for (uint64_t i = offset; i < offset + length; i++)
		model[i] = what < 2 ? random_byte(&writer->seed) : 0;
	if (what < 2)
		rc = fm_engine_write(engine, model + offset, offset, length);
	else
		rc = fm_engine_zero(engine, offset, length, what == 2);
	cr_assert_eq(rc, 0);
}

static void *write_own(void *arg)
{
	struct writer *writer = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t stretch = (uint64_t)rand_r(&writer->seed) % (CHAIN_BYTES / STRETCH);
		uint64_t share = STRETCH / WRITERS;
		uint64_t skip = (uint64_t)rand_r(&writer->seed) % share;
		uint64_t offset = stretch * STRETCH + writer->number * share + skip;
		uint64_t length = 1 + (uint64_t)rand_r(&writer->seed) % (share - skip);

		change(writer, offset, length);
		assert_reads(offset, length);
	}
	return NULL;
}

static void write_at_once(void *(*what)(void *arg))
{
	struct writer writers[WRITERS];

	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .number = i, .seed = i + 1 };
		pthread_create(&writers[i].thread, NULL, what, &writers[i]);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
}

Test(engine, what_many_write_is_there_and_nothing_else)
{
	struct hv_disk *disk;
	static uint8_t whole[CHAIN_BYTES];
	HV_ERR(err);

	write_at_once(write_own);
	assert_reads(0, CHAIN_BYTES);
	cr_assert_eq(fm_engine_flush(engine), 0);
	fm_engine_free(engine);
	disk = open_chain("leaf.vhd", 0);
	must(hv_disk_pread(disk, whole, CHAIN_BYTES, 0, &err), &err);
	cr_assert_arr_eq(whole, model, CHAIN_BYTES);
	close_chain(disk);
	must(fm_engine_new(open_chain("leaf.vhd", SNAP_OPEN_WRITE), &engine, &err), &err);
}

/* All of them change the same sector all the time, each its own bytes. */
static void *write_share(void *arg)
{
	struct writer *writer = arg;
	uint64_t share = 512 / WRITERS, offset = CHAIN_BLOCK + writer->number * share;

	for (unsigned i = 0; i < ROUNDS; i++) {
		memset(model + offset, (int)i, share);
		cr_assert_eq(fm_engine_write(engine, model + offset, offset, share), 0);
		assert_reads(offset, share);
	}
	return NULL;
}

Test(engine, neighbours_in_one_sector_keep_their_bytes)
{
	write_at_once(write_share);
	assert_reads(0, CHAIN_BYTES);
}

Test(engine, long_writes_between_sectors_are_whole)
{
	unsigned seed = 3;

	for (uint64_t i = 777; i < 777 + (1 << 20); i++)
		model[i] = random_byte(&seed);
	cr_assert_eq(fm_engine_write(engine, model + 777, 777, 1 << 20), 0);
	memset(model + 200001, 0, 300002);
	cr_assert_eq(fm_engine_zero(engine, 200001, 300002, true), 0);
	assert_reads(0, CHAIN_BYTES);
	assert_reads(511, 2);
}

Test(engine, nothing_is_nothing)
{
	cr_assert_eq(fm_engine_write(engine, "", 100, 0), 0);
	cr_assert_eq(fm_engine_zero(engine, 100, 0, true), 0);
	cr_assert_eq(fm_engine_read(engine, NULL, 100, 0), 0);
	assert_reads(0, 4096);
}

Test(engine, seeking_finds_all_data_and_real_holes)
{
	uint64_t found;

	for (uint64_t offset = 5; offset < CHAIN_BYTES; offset += 30011) {
		cr_assert_eq(fm_engine_seek(engine, offset, CHAIN_BYTES, true, &found), 0);
		cr_assert(found >= offset && found <= CHAIN_BYTES && all_zero(offset, found));
		cr_assert_eq(fm_engine_seek(engine, offset, CHAIN_BYTES, false, &found), 0);
		cr_assert(found >= offset && (found == CHAIN_BYTES || !model[found]));
	}
	cr_assert_eq(fm_engine_seek(engine, CHAIN_HOLE, CHAIN_HOLE + 100, true, &found), 0);
	cr_assert_eq(found, CHAIN_HOLE + 100);
	/* What has just been written is data. */
	cr_assert_eq(fm_engine_write(engine, "x", CHAIN_HOLE + 5000, 1), 0);
	cr_assert_eq(fm_engine_seek(engine, CHAIN_HOLE, CHAIN_BYTES, true, &found), 0);
	cr_assert(found >= CHAIN_HOLE && found <= CHAIN_HOLE + 5000);
}

Test(engine, a_lost_block_is_an_error_of_its_own_range)
{
	uint8_t buf[1024];
	HV_ERR(err);

	fm_engine_free(engine);
	lose_block("leaf.vhd", 10);
	must(fm_engine_new(open_chain("leaf.vhd", 0), &engine, &err), &err);
	cr_assert_lt(fm_engine_read(engine, buf, 10 * CHAIN_BLOCK, 512), 0);
	cr_assert_lt(fm_engine_read(engine, buf, 10 * CHAIN_BLOCK + 3, 5), 0);
	assert_reads(0, 10 * CHAIN_BLOCK);
	assert_reads(11 * CHAIN_BLOCK, CHAIN_BYTES - 11 * CHAIN_BLOCK);
}

Test(engine, what_may_only_be_read_stays_as_it_is)
{
	HV_ERR(err);

	fm_engine_free(engine);
	must(fm_engine_new(open_chain("leaf.vhd", 0), &engine, &err), &err);
	cr_assert_eq(fm_engine_write(engine, "x", 5, 1), -EROFS);
	cr_assert_eq(fm_engine_zero(engine, 0, 4096, true), -EROFS);
	assert_reads(0, CHAIN_BYTES);
}
