/*
 * Inside fuse-mount/: which program reads which filesystem.
 */
#ifndef FUSE_MOUNT_READER_H
#define FUSE_MOUNT_READER_H

#include <stdbool.h>

#define FM_READER_ARGUMENTS 12

struct fm_reader {
	const char *type; /* libblkid's word */
	const char *program, *package;
	/* After the program's name; "%v" is the volume, "%m" a directory. */
	const char *arguments[FM_READER_ARGUMENTS];
	const char *write_arguments[FM_READER_ARGUMENTS]; /* for --rw; none: it can only read */
	bool owners;  /* files have owners and modes of their own */
	bool general; /* reads the names and contents of many filesystems, and no more of any */
};

/* The readers of type, the best first: what comes after previous (NULL: the best). NULL: no more. */
const struct fm_reader *fm_reader_next(const char *type, const struct fm_reader *previous);

/* Where the program is; NULL: not installed, or no memory. The caller frees. */
char *fm_reader_program(const struct fm_reader *reader);

/* Is a program installed that was made for this type of filesystem? */
bool fm_reader_own(const char *type);

/* NULL: a filesystem of that type can be read. Else one sentence to free, which says what helps. */
char *fm_reader_objection(const char *type);

#endif
