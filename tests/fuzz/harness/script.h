/*
 * What to do with a disk, from the pieces of kind FUZZ_SCRIPT of an input. The first byte chooses
 * the parent; each operation takes five:
 *
 *	1	verb (lower 3 bits); what the place means (next 2)
 *	3	place
 *	1	number of sectors
 *
 * Without a script there is one that does a little of everything.
 */
#ifndef TESTS_FUZZ_SCRIPT_H
#define TESTS_FUZZ_SCRIPT_H

#include "tests/fuzz/harness/image.h"

enum script_verb {
	SCRIPT_WRITE,
	SCRIPT_WRITE_FUA,
	SCRIPT_ZERO,
	SCRIPT_READ,
	SCRIPT_FLUSH,
	SCRIPT_REOPEN,
	SCRIPT_DISCARD, /* the whole block, unless it is very large */
	SCRIPT_COMPACT,
	SCRIPT_VERBS
};

/* Does it change what is read? */
static inline bool script_changes(enum script_verb verb)
{
	return verb <= SCRIPT_ZERO || verb == SCRIPT_DISCARD;
}

struct script {
	uint8_t *bytes; /* malloc'ed */
	size_t length, at;
};

void script_init(struct script *script, const struct fuzz_image *image);
void script_done(struct script *script);

/* Of the parent that a child gets; 0: none. */
uint64_t script_parent_bytes(const struct script *script);

struct script_op {
	enum script_verb verb;
	uint64_t first, count; /* sectors; inside the disk */
};

/* The next operation on a disk of that size; false when there is none. */
bool script_next(struct script *script, uint64_t size_bytes, uint64_t block_bytes,
		 struct script_op *ret);

#endif
