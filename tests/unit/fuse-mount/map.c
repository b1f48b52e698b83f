/*
 * A chain as a map: every byte of it where the map says, to many threads at once.
 */
#include "fuse-mount/map.h"

#include <errno.h>
#include <pthread.h>

#include "tests/unit/fuse-mount/chain.h"

#define READERS 8

static struct fm_map *map;

static void setup(void)
{
	HV_ERR(err);

	make_chain();
	must(fm_map_new(open_chain("leaf.vhd", 0), &map, &err), &err);
}

static void teardown(void)
{
	fm_map_free(map);
	remove_chain();
}

TestSuite(map, .init = setup, .fini = teardown);

static void assert_reads(uint64_t offset, uint64_t length)
{
	uint8_t *buf = malloc(length);
	int rc;

	memset(buf, 0xee, length);
	rc = fm_map_read(map, buf, offset, length);
	cr_assert(rc == 1 || rc == 0, "%d", rc);
	if (rc)
		cr_assert_arr_eq(buf, model + offset, length, "at %lu+%lu", offset, length);
	else
		cr_assert(all_zero(offset, offset + length), "at %lu+%lu", offset, length);
	free(buf);
}

static void *read_anywhere(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < 150; i++) {
		uint64_t offset = (uint64_t)rand_r(&seed) % CHAIN_BYTES;
		uint64_t most = i % 3 ? 1500 : CHAIN_BYTES;
		uint64_t length = 1 + (uint64_t)rand_r(&seed) % most;

		assert_reads(offset, length < CHAIN_BYTES - offset ? length : CHAIN_BYTES - offset);
	}
	return NULL;
}

Test(map, any_bytes_are_read_right_by_many_threads)
{
	pthread_t threads[READERS];

	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&threads[i], NULL, read_anywhere, (void *)(i + 1)); // NOLINT
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_reads(0, CHAIN_BYTES);
}

Test(map, a_hole_leaves_the_memory_alone)
{
	uint8_t buf[1000];

	memset(buf, 0xee, sizeof(buf));
	cr_assert_eq(fm_map_read(map, buf, CHAIN_HOLE + 77, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], 0xee);
}

Test(map, pieces_make_up_the_range_and_say_where_it_lies)
{
	struct fm_piece pieces[64];
	uint64_t offset = 333, end = CHAIN_BYTES - 7;
	static uint8_t buf[CHAIN_BYTES];

	while (offset < end) {
		int count = fm_map_look(map, offset, end - offset, pieces, 64);

		cr_assert_gt(count, 0);
		for (int i = 0; i < count; i++) {
			const struct fm_piece *piece = &pieces[i];

			cr_assert(piece->length && piece->length <= end - offset);
			if (piece->fd < 0) {
				cr_assert(all_zero(offset, offset + piece->length));
			} else {
				cr_assert_eq(pread(piece->fd, buf, piece->length,
						   (off_t)piece->offset),
					     (ssize_t)piece->length);
				cr_assert_arr_eq(buf, model + offset, piece->length);
			}
			offset += piece->length;
		}
	}
	cr_assert_eq(offset, end);
}

Test(map, no_more_pieces_are_told_than_there_is_room_for)
{
	struct fm_piece pieces[3] = { { .length = 0 }, { .length = 0 }, { .length = 99 } };

	cr_assert_eq(fm_map_look(map, 0, CHAIN_BYTES, pieces, 2), 2);
	cr_assert_eq(pieces[2].length, 99);
}

/* From any place, to the next that differs; in between there is nothing else. */
Test(map, seeking_finds_all_data_and_real_holes)
{
	uint64_t found;

	for (uint64_t offset = 5; offset < CHAIN_BYTES; offset += 3001) {
		cr_assert_eq(fm_map_seek(map, offset, CHAIN_BYTES, true, &found), 0);
		cr_assert(found >= offset && found <= CHAIN_BYTES);
		cr_assert(all_zero(offset, found), "at %lu", offset);
		cr_assert_eq(fm_map_seek(map, offset, CHAIN_BYTES, false, &found), 0);
		cr_assert(found >= offset && found <= CHAIN_BYTES);
		cr_assert(found == CHAIN_BYTES || !model[found], "at %lu", offset);
	}
	cr_assert_eq(fm_map_seek(map, CHAIN_HOLE, CHAIN_BYTES, true, &found), 0);
	cr_assert_eq(found, 10 * CHAIN_BLOCK);
	cr_assert_eq(fm_map_seek(map, CHAIN_HOLE, CHAIN_HOLE + 100, true, &found), 0);
	cr_assert_eq(found, CHAIN_HOLE + 100);
	cr_assert_eq(fm_map_seek(map, 10, CHAIN_BYTES, false, &found), 0);
	cr_assert_eq(found, 3 * CHAIN_BLOCK);
}

Test(map, a_lost_block_is_an_error_of_its_own_range)
{
	uint8_t buf[1024];
	struct fm_piece piece;
	HV_ERR(err);

	fm_map_free(map);
	lose_block("leaf.vhd", 10);
	must(fm_map_new(open_chain("leaf.vhd", 0), &map, &err), &err);
	cr_assert_eq(fm_map_read(map, buf, 10 * CHAIN_BLOCK, 512), -EIO);
	cr_assert_eq(fm_map_look(map, 10 * CHAIN_BLOCK, 512, &piece, 1), -EIO);
	cr_assert_eq(fm_map_read(map, buf, 10 * CHAIN_BLOCK - 512, 1024), -EIO);
	assert_reads(0, 10 * CHAIN_BLOCK);
	assert_reads(11 * CHAIN_BLOCK, CHAIN_BYTES - 11 * CHAIN_BLOCK);
}

Test(map, reading_ahead_of_holes_ends_and_of_losses_is_survived)
{
	fm_map_read_ahead(map, 0, CHAIN_BYTES);
	fm_map_read_ahead(map, CHAIN_HOLE + 1, 12345);
	assert_reads(0, CHAIN_BYTES);
}

Test(map, what_a_raw_file_does_not_hold_reads_as_zero)
{
	int fd = open("disk.raw", O_CREAT | O_RDWR, 0600);
	HV_ERR(err);

	memset(model, 0, sizeof(model));
	memset(model + 700, 'x', 1000);
	cr_assert_eq(pwrite(fd, model, 4096, 0), 4096);
	cr_assert_eq(ftruncate(fd, CHAIN_BYTES), 0);
	close(fd);
	fm_map_free(map);
	must(fm_map_new(open_chain("disk.raw", 0), &map, &err), &err);
	assert_reads(0, CHAIN_BYTES);
	assert_reads(699, 1002);
	assert_reads(1 << 20, 1 << 20);
}
