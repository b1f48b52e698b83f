/*
 * Random choices, the same for the same seed (splitmix64).
 */
#include <string.h>

#include "tests/model/run.h"

static uint64_t next(struct program *p)
{
	uint64_t z = p->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t any(struct program *p, uint64_t bound)
{
	return next(p) % bound;
}

bool one_in(struct program *p, unsigned n)
{
	return any(p, n) == 0;
}

void any_bytes(struct program *p, uint8_t *out, uint64_t length)
{
	uint64_t word = next(p);

	for (uint64_t i = 0; i < length; i += 8) {
		word = word * 0xd1342543de82ef95 + 1;
		memcpy(out + i, &word, 8);
	}
}

/* The first sector of something: the disk, a block, its end, a 4 KiB page; and around it. */
static uint64_t any_start(struct program *p, uint64_t sectors)
{
	uint64_t block = p->block / SECTOR, blocks = (sectors + block - 1) / block;
	uint64_t at = any(p, sectors);

	switch (any(p, 6)) {
	case 0:
		at = 0;
		break;
	case 1:
		at = sectors;
		break;
	case 2:
	case 3:
		at = any(p, blocks + 1) * block;
		break;
	case 4:
		at &= ~UINT64_C(7);
		break;
	}
	if (one_in(p, 2))
		at += any(p, 3);
	else if (at)
		at -= any(p, at < 9 ? at : 9);
	return at < sectors ? at : sectors - 1;
}

void any_range(struct program *p, uint64_t *offset, uint64_t *length)
{
	uint64_t sectors = top(p)->size / SECTOR, start = any_start(p, sectors), count;

	switch (any(p, 16)) {
	case 0 ... 4:
		count = 1;
		break;
	case 5 ... 8:
		count = 1 + any(p, 8);
		break;
	case 9 ... 11:
		count = 8 * (1 + any(p, 4));
		break;
	case 12 ... 13:
		count = 1 + any(p, 128);
		break;
	case 14:
		count = p->block / SECTOR + any(p, 3) - 1;
		break;
	default:
		count = 1 + any(p, 2 * p->block / SECTOR);
	}
	if (count > sectors - start)
		count = sectors - start;
	*offset = start * SECTOR;
	*length = count * SECTOR;
}
