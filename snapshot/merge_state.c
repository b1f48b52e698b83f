/*
 * The progress file of a merge; FORMAT.md tells its layout and what makes it valid.
 */
#include "snapshot/merge_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hvcore/bytes.h"
#include "hvcore/digest.h"
#include "hvcore/file.h"
#include "snapshot/parent.h"

#define MAGIC "hvkmerg1"
#define DIGEST_BYTES (HV_SHA256_TEXT_SIZE - 1)

struct disk_header {
	uint8_t magic[8];
	hv_be32 count;
	hv_be32 reserved;
	hv_be64 merged_bytes;
	hv_be64 size_bytes;
	uint8_t reserved2[32];
};
static_assert(sizeof(struct disk_header) == 64, "the header of a progress file has 64 bytes");

struct disk_layer {
	uint8_t uuid[16];
	hv_be64 dev, ino;
	hv_be64 size_bytes, mtime_ns, ctime_ns;
	uint8_t reserved[8];
};
static_assert(sizeof(struct disk_layer) == 64, "a layer in a progress file has 64 bytes");

/* The file as a whole, with room for the longest. */
struct disk_state {
	struct disk_header header;
	struct disk_layer layers[SNAP_MAX_DEPTH];
	char digest[DIGEST_BYTES];
};

static uint64_t nanoseconds(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

static struct snap_merge_identity identity_of(const struct stat *st)
{
	return (struct snap_merge_identity){ .dev = st->st_dev,
					     .ino = st->st_ino,
					     .size_bytes = (uint64_t)st->st_size,
					     .mtime_ns = nanoseconds(&st->st_mtim),
					     .ctime_ns = nanoseconds(&st->st_ctim) };
}

bool snap_merge_is_layer(struct hv_file *file, const struct snap_merge_identity *identity)
{
	struct snap_merge_identity now;
	struct stat st;

	if (hv_file_stat(file, &st))
		return false;
	now = identity_of(&st);
	now.uuid = identity->uuid;
	return !memcmp(&now, identity, sizeof(now));
}

static int identify(struct hv_disk *disk, bool target, struct snap_merge_identity *ret,
		    struct hv_err *err)
{
	struct stat st;
	int rc = 0;

	if (vhd_is_vhd(disk))
		rc = hv_file_stat(vhd_get_file(disk), &st);
	else if (stat(disk->path, &st))
		rc = -errno;
	if (rc)
		return hv_fail_errno(err, rc, "%s", disk->path);
	*ret = identity_of(&st);
	if (target)
		ret->size_bytes = ret->mtime_ns = ret->ctime_ns = 0;
	if (vhd_is_vhd(disk))
		ret->uuid = vhd_get_info(disk)->footer.uuid;
	return 0;
}

int snap_merge_state_of(struct hv_disk *top, unsigned levels, struct snap_merge_state *ret,
			struct hv_err *err)
{
	*ret = (struct snap_merge_state){ .count = levels + 1, .size_bytes = top->size_bytes };
	for (unsigned i = 0; i <= levels; i++) {
		int rc = identify(snap_layer_at(top, i), i == levels, &ret->layers[i], err);

		if (rc)
			return rc;
	}
	return 0;
}

char *snap_merge_state_path(const char *target)
{
	char *real = realpath(target, NULL), *path = NULL;

	if (asprintf(&path, "%s.hvmerge", real ? real : target) < 0)
		path = NULL;
	free(real);
	return path;
}

/* Encoding. The digest follows the last layer. */

static size_t length_of(unsigned count)
{
	return sizeof(struct disk_header) + count * sizeof(struct disk_layer);
}

static int digest_of(const struct disk_state *disk, unsigned count, char text[HV_SHA256_TEXT_SIZE])
{
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = NULL;
	int rc = hv_sha256_new(&sha);

	if (rc)
		return rc;
	hv_sha256_update(sha, disk, length_of(count));
	hv_sha256_final(sha, text);
	return *text ? 0 : -EIO;
}

static void encode(const struct snap_merge_state *state, struct disk_state *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->header.magic, MAGIC, sizeof(ret->header.magic));
	ret->header.count = hv_be32_make(state->count);
	ret->header.merged_bytes = hv_be64_make(state->merged_bytes);
	ret->header.size_bytes = hv_be64_make(state->size_bytes);
	for (unsigned i = 0; i < state->count; i++) {
		const struct snap_merge_identity *from = &state->layers[i];
		struct disk_layer *to = &ret->layers[i];

		memcpy(to->uuid, from->uuid.b, sizeof(to->uuid));
		to->dev = hv_be64_make(from->dev);
		to->ino = hv_be64_make(from->ino);
		to->size_bytes = hv_be64_make(from->size_bytes);
		to->mtime_ns = hv_be64_make(from->mtime_ns);
		to->ctime_ns = hv_be64_make(from->ctime_ns);
	}
}

static void decode(const struct disk_state *disk, struct snap_merge_state *ret)
{
	*ret = (struct snap_merge_state){ .count = hv_be32_get(disk->header.count),
					  .size_bytes = hv_be64_get(disk->header.size_bytes),
					  .merged_bytes = hv_be64_get(disk->header.merged_bytes) };
	for (unsigned i = 0; i < ret->count; i++) {
		const struct disk_layer *from = &disk->layers[i];
		struct snap_merge_identity *to = &ret->layers[i];

		memcpy(to->uuid.b, from->uuid, sizeof(from->uuid));
		to->dev = hv_be64_get(from->dev);
		to->ino = hv_be64_get(from->ino);
		to->size_bytes = hv_be64_get(from->size_bytes);
		to->mtime_ns = hv_be64_get(from->mtime_ns);
		to->ctime_ns = hv_be64_get(from->ctime_ns);
	}
}

/* Reading. */

static bool is_valid(const struct disk_state *disk, uint64_t file_bytes)
{
	unsigned count = hv_be32_get(disk->header.count);
	char digest[HV_SHA256_TEXT_SIZE];

	if (count < 2 || count > SNAP_MAX_DEPTH || file_bytes != length_of(count) + DIGEST_BYTES ||
	    digest_of(disk, count, digest))
		return false;
	return !memcmp((const char *)disk + length_of(count), digest, DIGEST_BYTES) &&
	       hv_be64_get(disk->header.merged_bytes) <= hv_be64_get(disk->header.size_bytes) &&
	       hv_be64_get(disk->header.merged_bytes) % HV_SECTOR_SIZE == 0;
}

static bool is_complete(const struct disk_state *disk)
{
	return hv_be64_get(disk->header.merged_bytes) == hv_be64_get(disk->header.size_bytes);
}

/* disk is valid: what does it say of the merge that is about to begin? */
static enum snap_merge_found compare(const struct disk_state *disk, struct snap_merge_state *now)
{
	struct disk_state want;

	encode(now, &want);
	if (memcmp(disk->layers[0].uuid, want.layers[0].uuid, sizeof(want.layers[0].uuid)))
		return is_complete(disk) ? SNAP_MERGE_NOTHING : SNAP_MERGE_OTHER;
	want.header.merged_bytes = disk->header.merged_bytes;
	if (memcmp(disk, &want, length_of(now->count)))
		return SNAP_MERGE_CHANGED;
	now->merged_bytes = hv_be64_get(disk->header.merged_bytes);
	return SNAP_MERGE_SAME;
}

static int read_file(const char *path, struct disk_state *ret, enum snap_merge_found *found,
		     struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	struct stat st;
	int rc;

	*found = SNAP_MERGE_NOTHING;
	if (lstat(path, &st))
		return errno == ENOENT ? 0 : hv_fail_errno(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return hv_fail(
			err, -EEXIST,
			"%s: is in the way: a merge keeps its progress in a file of that name",
			path);
	rc = hv_file_open(path, 0, NULL, &file, err);
	if (rc == 0)
		rc = hv_file_pread(file, ret, sizeof(*ret), 0, err);
	if (rc)
		return rc;
	if (memcmp(ret->header.magic, MAGIC, sizeof(ret->header.magic)))
		return hv_fail(err, -EEXIST,
			       "%s: is in the way, and no progress file of a merge; move it away",
			       path);
	*found = is_valid(ret, file->size_bytes) ? SNAP_MERGE_SAME : SNAP_MERGE_DAMAGED;
	return 0;
}

int snap_merge_state_load(const char *path, struct snap_merge_state *now,
			  enum snap_merge_found *ret, struct hv_err *err)
{
	struct disk_state disk = { 0 };
	int rc = read_file(path, &disk, ret, err);

	if (rc == 0 && *ret == SNAP_MERGE_SAME)
		*ret = compare(&disk, now);
	return rc;
}

int snap_merge_state_read(const char *path, struct snap_merge_state *ret, struct hv_err *err)
{
	struct disk_state disk = { 0 };
	enum snap_merge_found found;
	int rc = read_file(path, &disk, &found, err);

	if (rc || found != SNAP_MERGE_SAME)
		return rc;
	decode(&disk, ret);
	return 1;
}

/* Writing. */

int snap_merge_state_save(const char *path, const struct snap_merge_state *state,
			  struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *file = NULL;
	size_t length = length_of(state->count);
	char digest[HV_SHA256_TEXT_SIZE];
	struct disk_state disk;
	int rc;

	encode(state, &disk);
	rc = digest_of(&disk, state->count, digest);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot compute SHA-256", path);
	memcpy((char *)&disk + length, digest, DIGEST_BYTES);
	rc = hv_file_create(path, 0, true, NULL, &file, err);
	if (rc == 0)
		rc = hv_file_pwrite(file, &disk, length + DIGEST_BYTES, 0, err);
	if (rc == 0)
		rc = hv_file_publish(file, err);
	return rc;
}

int snap_merge_state_remove(const char *path, struct hv_err *err)
{
	return access(path, F_OK) ? 0 : hv_file_unlink(path, err);
}
