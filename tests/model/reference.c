/*
 * Reads every image of a manifest (written by fixtures/gen/make_images.py) whose contents are
 * known with the reference reader, and compares: the two were written apart from each other.
 *
 * The manifest has one key per line; of these only "reference" matters here:
 *	"reference": "SHA256 BYTES FILE|PARENT|GRANDPARENT"
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/digest.h"
#include "tests/model/model.h"
#include "tests/model/refvhd.h"

#define MAX_FILES 8

struct wanted {
	char sha256[HV_SHA256_TEXT_SIZE];
	unsigned long long size;
	char *files[MAX_FILES];
	int count;
};

static int hash(struct ref *ref, char text[HV_SHA256_TEXT_SIZE])
{
	struct hv_sha256 *sha;
	uint8_t sector[REF_SECTOR];
	int rc = 0;

	if (hv_sha256_new(&sha) < 0)
		abort();
	for (uint64_t i = 0; i < ref_size_bytes(ref) / REF_SECTOR && !rc; i++) {
		rc = ref_read_sector(ref, i, sector);
		hv_sha256_update(sha, sector, sizeof(sector));
	}
	hv_sha256_final(sha, text);
	hv_sha256_free(sha);
	return rc;
}

static bool read_one(const struct wanted *wanted)
{
	char why[REF_WHY] = "", text[HV_SHA256_TEXT_SIZE] = "";
	struct ref *ref = ref_open(wanted->files[0], wanted->files + 1, wanted->count - 1, why);
	bool right = false;

	if (!ref) {
		printf("FAIL %s: %s\n", wanted->files[0], why);
		return false;
	}
	if (hash(ref, text) < 0)
		printf("FAIL %s: %s\n", wanted->files[0], ref_why(ref));
	else if (ref_size_bytes(ref) != wanted->size || strcmp(text, wanted->sha256) != 0)
		printf("FAIL %s: %llu bytes, %s instead of %llu bytes, %s\n", wanted->files[0],
		       (unsigned long long)ref_size_bytes(ref), text, wanted->size, wanted->sha256);
	else
		right = true;
	ref_close(ref);
	return right;
}

/* Splits FILE|PARENT..." and puts directory before each. */
static void split_files(struct wanted *wanted, char *list, const char *manifest)
{
	const char *slash = strrchr(manifest, '/');
	int directory = slash ? (int)(slash + 1 - manifest) : 0;
	char *save = NULL;

	list[strcspn(list, "\"\n")] = '\0';
	for (char *name = strtok_r(list, "|", &save); name && wanted->count < MAX_FILES;
	     name = strtok_r(NULL, "|", &save))
		if (asprintf(&wanted->files[wanted->count++], "%.*s%s", directory, manifest, name) <
		    0)
			abort();
}

int reference_check(const char *manifest)
{
	unsigned passed = 0, failed = 0;
	FILE *in = fopen(manifest, "re");
	char *line = NULL;
	size_t room = 0;

	if (!in) {
		perror(manifest);
		return 1;
	}
	while (getline(&line, &room, in) > 0) {
		struct wanted wanted = {};
		int at = 0;

		if (sscanf(line, " \"reference\": \"%64s %llu %n", wanted.sha256, &wanted.size,
			   &at) < 2 ||
		    !at)
			continue;
		split_files(&wanted, line + at, manifest);
		*(read_one(&wanted) ? &passed : &failed) += 1;
		for (int i = 0; i < wanted.count; i++)
			free(wanted.files[i]);
	}
	free(line);
	fclose(in);
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed || !passed;
}
