/*
 * Fuzz target: undoing a repair with a hostile undo file. That file is the one that repairing the
 * image makes (or an empty one), changed by the input's pieces of kind FUZZ_UNDO. The first byte of
 * the script says what else is done:
 *
 *	1	the digest at the end is left wrong
 *	2	the digest of the witness is left wrong
 *	4	it meets the file as it was before the repair
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/bytes.h"
#include "hvcore/checked.h"
#include "hvcore/digest.h"
#include "tests/fuzz/harness/checking.h"
#include "tests/fuzz/harness/fuzz.h"
#include "tests/fuzz/harness/reading.h"
#include "tests/fuzz/harness/script.h"

#define HEADER_BYTES 128
#define RECORD_BYTES 16
#define DIGEST_BYTES 64
#define MAX_BYTES (1u << 20) /* of an undo file; records of 1 MiB are none of our inputs */
#define MAX_WITNESS (1u << 20)

struct undo_file {
	uint8_t *bytes;
	size_t length;
};

static uint64_t number(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static void put_number(uint8_t *at, uint64_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 8)
		at[i] = (uint8_t)value;
}

static void digest(const void *data, size_t length, uint8_t out[DIGEST_BYTES])
{
	struct hv_sha256 *sha;
	char text[HV_SHA256_TEXT_SIZE];

	if (hv_sha256_new(&sha))
		abort();
	hv_sha256_update(sha, data, length);
	hv_sha256_final(sha, text);
	hv_sha256_free(sha);
	memcpy(out, text, DIGEST_BYTES);
}

static bool load(const char *path, struct undo_file *ret)
{
	FILE *file = fopen(path, "re");

	ret->bytes = calloc(1, MAX_BYTES);
	ret->length = file ? fread(ret->bytes, 1, MAX_BYTES, file) : 0;
	if (file)
		fclose(file);
	return ret->length && ret->length < MAX_BYTES;
}

static void save(const char *path, const struct undo_file *undo)
{
	FILE *file = fopen(path, "we");

	if (!file || fwrite(undo->bytes, 1, undo->length, file) != undo->length || fclose(file))
		abort();
}

static void make_empty(struct undo_file *undo, uint64_t size)
{
	memset(undo->bytes, 0, MAX_BYTES);
	memcpy(undo->bytes, "hvkundo1", 8);
	put_number(undo->bytes + 8, size);
	put_number(undo->bytes + 16, size);
	memset(undo->bytes + HEADER_BYTES, 0xff, 8);
	undo->length = HEADER_BYTES + RECORD_BYTES + DIGEST_BYTES;
}

static void spoil(struct undo_file *undo, const struct fuzz_image *image)
{
	for (size_t i = 0; i < image->count; i++) {
		const struct fuzz_piece *piece = &image->pieces[i];
		uint64_t place = piece->place;

		if (piece->kind != FUZZ_UNDO)
			continue;
		if (piece->from_end)
			place = place < undo->length ? undo->length - place : 0;
		if (place + piece->length > MAX_BYTES - 1)
			continue;
		memcpy(undo->bytes + place, piece->bytes, piece->length);
		undo->length = hv_max_u64(undo->length, place + piece->length);
	}
}

static void digest_of_file(const struct sparse *file, uint64_t offset, uint64_t length,
			   uint8_t out[DIGEST_BYTES])
{
	uint8_t *data;

	if (length > MAX_WITNESS)
		return;
	data = malloc(length + 1);
	sparse_peek(file, offset, data, length);
	digest(data, length, out);
	free(data);
}

/* The records one after the other; applied to file when cut is 0 or 1. False when one is wrong. */
static bool apply(const struct undo_file *undo, struct sparse *file, bool cut)
{
	uint64_t new_size = number(undo->bytes + 16, 8);
	size_t at = HEADER_BYTES;

	while (number(undo->bytes + at, 8) != UINT64_MAX) {
		uint64_t offset = number(undo->bytes + at, 8);
		uint32_t old = (uint32_t)number(undo->bytes + at + 8, 4);
		uint32_t new = (uint32_t)number(undo->bytes + at + 12, 4);

		at += RECORD_BYTES;
		fuzz_assert((uint64_t)old + new < undo->length - at, "a record was not refused");
		if ((offset >= new_size) == cut)
			sparse_poke(file, offset, undo->bytes + at, old);
		at += (size_t)old + new;
	}
	return at + RECORD_BYTES + DIGEST_BYTES == undo->length;
}

static void judge_done(const struct undo_file *undo, const struct sparse *before,
		       struct sparse *after)
{
	HV_AUTO(sparse_free) struct sparse *expected = sparse_copy(before, true);
	uint64_t old_size = number(undo->bytes + 8, 8), both;
	HV_ERR(err);

	both = hv_max_u64(sparse_file(expected)->size_bytes, old_size);
	hv_file_truncate(sparse_file(expected), both, &err);
	fuzz_assert(apply(undo, expected, true) && apply(undo, expected, false),
		    "a list of records that does not end was not refused");
	hv_file_truncate(sparse_file(expected), old_size, &err);
	fuzz_assert(sparse_difference(expected, after) == UINT64_MAX,
		    "byte %llu is not what the undo file says",
		    (unsigned long long)sparse_difference(expected, after));
}

/* Do both digests say what is there, now that the recorded bytes are back? */
static bool is_genuine(const struct undo_file *undo, const struct sparse *file)
{
	uint64_t offset = number(undo->bytes + 24, 8), length = number(undo->bytes + 32, 8);
	const uint8_t *stored = undo->bytes + undo->length - DIGEST_BYTES;
	uint8_t now[DIGEST_BYTES];

	digest(undo->bytes, undo->length - DIGEST_BYTES, now);
	if (memcmp(now, stored, DIGEST_BYTES) != 0)
		return false;
	digest_of_file(file, offset, length, now);
	return length > MAX_WITNESS || !memcmp(now, undo->bytes + 64, DIGEST_BYTES);
}

/* Everything or nothing. */
static void judge(const struct undo_file *undo, const struct sparse *before, const char *path)
{
	HV_AUTO(sparse_free) struct sparse *file = sparse_copy(before, true);
	HV_ERR(err);
	int rc = vhd_undo(sparse_file(file), path, &err);

	if (rc == 0) {
		fuzz_assert(is_genuine(undo, file), "a wrong digest was not refused");
		judge_done(undo, before, file);
		return;
	}
	fuzz_judge_failure("vhd_undo", rc, &err);
	fuzz_assert(!sparse_changes(file), "vhd_undo failed with %d (%s) after changing the file",
		    rc, err.sentence);
}

static void run(const uint8_t *data, size_t size)
{
	HV_AUTO(fuzz_image_done) struct fuzz_image image = { 0 };
	HV_AUTO(sparse_free) struct sparse *original = NULL;
	HV_AUTO(sparse_free) struct sparse *repaired = NULL;
	const struct sparse *met;
	const char *path = fuzz_temp_path();
	struct undo_file undo;
	struct checked repair;
	struct script script;
	uint8_t how = 0;

	fuzz_image_parse(data, size, &image);
	original = fuzz_image_lay(&image, true);
	if (reading_is_too_large(original))
		return;
	script_init(&script, &image);
	for (size_t i = 0; i < image.count; i++)
		if (image.pieces[i].kind == FUZZ_SCRIPT)
			how = script.bytes[0];
	script_done(&script);
	unlink(path);
	repaired = sparse_copy(original, true);
	checking_run(repaired, path, &repair);
	met = how & 4 ? original : repaired;
	if (!load(path, &undo))
		make_empty(&undo, sparse_file(repaired)->size_bytes);
	spoil(&undo, &image);
	if (!(how & 2))
		digest_of_file(met, number(undo.bytes + 24, 8), number(undo.bytes + 32, 8),
			       undo.bytes + 64);
	if (!(how & 1))
		digest(undo.bytes, undo.length - DIGEST_BYTES,
		       undo.bytes + undo.length - DIGEST_BYTES);
	save(path, &undo);
	judge(&undo, met, path);
	unlink(path);
	free(undo.bytes);
}

const struct fuzz_target fuzz_target = { .run = run, .image = true };
