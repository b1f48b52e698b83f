/*
 * See script.h.
 */
#include "tests/fuzz/harness/script.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"

#define OP_BYTES 5
#define MAX_OPS 64
#define MAX_DISCARD (2u << 20)

enum { FROM_START, FROM_END, BLOCKS, SHARE }; /* what a place means */

#define OP(verb, mode, a, b, c, count) (verb) | (mode) << 3, a, b, c, count

static const uint8_t usual[] = {
	1,
	OP(SCRIPT_WRITE, FROM_START, 3, 0, 0, 2),
	OP(SCRIPT_WRITE, BLOCKS, 1, 0, 250, 9),
	OP(SCRIPT_READ, FROM_START, 0, 0, 0, 40),
	OP(SCRIPT_FLUSH, FROM_START, 0, 0, 0, 0),
	OP(SCRIPT_ZERO, BLOCKS, 2, 0, 1, 3),
	OP(SCRIPT_WRITE_FUA, FROM_END, 1, 0, 0, 1),
	OP(SCRIPT_ZERO, FROM_START, 1, 0, 0, 200),
	OP(SCRIPT_REOPEN, FROM_START, 0, 0, 0, 0),
	OP(SCRIPT_WRITE, BLOCKS, 0, 0, 7, 190),
	OP(SCRIPT_WRITE, SHARE, 0, 128, 0, 5),
	OP(SCRIPT_DISCARD, BLOCKS, 1, 0, 0, 1),
	OP(SCRIPT_FLUSH, FROM_START, 0, 0, 0, 0),
	OP(SCRIPT_WRITE, FROM_END, 1, 0, 0, 1),
	OP(SCRIPT_COMPACT, FROM_START, 0, 0, 0, 0),
	OP(SCRIPT_FLUSH, FROM_START, 0, 0, 0, 0),
};

static void append(struct script *script, const uint8_t *bytes, size_t length)
{
	script->bytes = realloc(script->bytes, script->length + length + 1);
	memcpy(script->bytes + script->length, bytes, length);
	script->length += length;
}

void script_init(struct script *script, const struct fuzz_image *image)
{
	*script = (struct script){ .at = 1 };
	for (size_t i = 0; i < image->count; i++)
		if (image->pieces[i].kind == FUZZ_SCRIPT)
			append(script, image->pieces[i].bytes, image->pieces[i].length);
	if (!script->length)
		append(script, usual, sizeof(usual));
}

void script_done(struct script *script)
{
	free(script->bytes);
}

uint64_t script_parent_bytes(const struct script *script)
{
	static const uint64_t sizes[] = { 0, UINT64_C(4) << 40, 700 << 10, HV_SECTOR_SIZE };

	return sizes[script->bytes[0] % 4];
}

static uint64_t first_of(const uint8_t *op, uint64_t sectors, uint64_t block_sectors)
{
	uint64_t place = op[1] | (uint64_t)op[2] << 8 | (uint64_t)op[3] << 16;

	switch (op[0] >> 3 & 3) {
	case FROM_START:
		return place;
	case FROM_END:
		return place < sectors ? sectors - place : 0;
	case BLOCKS: /* a little before or behind the beginning of a block */
		return (uint64_t)(op[1] | op[2] << 8) * block_sectors + (uint64_t)(int8_t)op[3];
	default:
		return sectors * (place >> 8) >> 16;
	}
}

bool script_next(struct script *script, uint64_t size_bytes, uint64_t block_bytes,
		 struct script_op *ret)
{
	uint64_t sectors = size_bytes / HV_SECTOR_SIZE;
	const uint8_t *op = script->bytes + script->at;

	if (script->at + OP_BYTES > script->length || script->at > OP_BYTES * MAX_OPS)
		return false;
	script->at += OP_BYTES;
	ret->verb = (op[0] & 7) % SCRIPT_VERBS;
	ret->first = first_of(op, sectors, block_bytes / HV_SECTOR_SIZE) % sectors;
	ret->count = op[4] < 192 ? op[4] % 64u + 1 : (op[4] - 191u) * 16;
	if (ret->verb == SCRIPT_DISCARD && block_bytes >= HV_SECTOR_SIZE &&
	    block_bytes <= MAX_DISCARD) {
		ret->count = block_bytes / HV_SECTOR_SIZE;
		ret->first -= ret->first % ret->count;
	}
	ret->count = hv_min_u64(ret->count, sectors - ret->first);
	return true;
}
