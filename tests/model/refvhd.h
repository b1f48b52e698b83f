/*
 * The reference reader: VHD files read the slow and simple way, one sector at a time, from a
 * mapping of the whole file. It shares no code with the engine; what the two agree on was thought
 * of twice. The rules are those of the VHD 1.0 specification, and of the files found in the wild.
 */
#ifndef TESTS_MODEL_REFVHD_H
#define TESTS_MODEL_REFVHD_H

#include <stddef.h>
#include <stdint.h>

#define REF_WHY 512
#define REF_SECTOR 512u

struct ref;

/*
 * ancestors are the paths of the parents, nearest first. Where they end, and the disk still has a
 * parent, its relative locator (W2ru) is followed. NULL, and a sentence in why, on failure.
 */
struct ref *ref_open(const char *path, char *const ancestors[], int ancestor_count,
		     char why[REF_WHY]);
void ref_close(struct ref *ref);

uint64_t ref_size_bytes(const struct ref *ref);

/* 0, or -1 where the file does not hold what its own tables say; ref_why tells. */
int ref_read_sector(struct ref *ref, uint64_t sector, uint8_t buf[REF_SECTOR]);
const char *ref_why(const struct ref *ref);

/*
 * Is the file (not its parents) as we want our own to be: footers alike, blocks inside the file and
 * apart from each other and from the metadata, data on 4 KiB, absent sectors of a dynamic disk zero
 * in the file, the footer after everything? 0 or -1 with a reason in ref_why.
 */
int ref_audit(struct ref *ref);

#endif
