/*
 * The undo file of a repair: what was there before, and what the repair put in its place. The
 * layout, the rule of validity and the order of writes are in FORMAT.md.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "hvcore/digest.h"
#include "hvcore/scan.h"
#include "vhd/check_internal.h"

#define UNDO_MAGIC "hvkundo1"
#define UNDO_END UINT64_MAX /* the offset of the record that ends the list */
#define PIECE_BYTES (1u << 20)

struct undo_header {
	uint8_t magic[8];
	hv_be64 old_size, new_size;
	hv_be64 witness_offset, witness_length;
	uint8_t reserved[24];
	uint8_t witness_digest[64]; /* in hexadecimal */
};
static_assert(sizeof(struct undo_header) == 128, "an undo file begins with 128 bytes");

struct undo_record {
	hv_be64 offset;
	hv_be32 old_length, new_length;
};
static_assert(sizeof(struct undo_record) == 16, "an undo record begins with 16 bytes");

#define DIGEST_BYTES (HV_SHA256_TEXT_SIZE - 1) /* in hexadecimal */
static_assert(DIGEST_BYTES == sizeof(((struct undo_header *)0)->witness_digest), "as long");

/* Of [offset, offset + length) of the file. */
static int digest_range(struct hv_file *file, uint64_t offset, uint64_t length,
			char ret[HV_SHA256_TEXT_SIZE], struct hv_err *err)
{
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = NULL;
	HV_AUTO(free) uint8_t *piece = malloc(PIECE_BYTES);
	int rc = piece ? hv_sha256_new(&sha) : -ENOMEM;

	for (uint64_t done = 0; done < length && rc == 0; done += PIECE_BYTES) {
		size_t n = hv_min_u64(PIECE_BYTES, length - done);

		rc = hv_file_pread(file, piece, n, offset + done, err);
		hv_sha256_update(sha, piece, n);
	}
	if (rc == 0) {
		hv_sha256_final(sha, ret);
		rc = *ret ? 0 : -EIO;
	}
	return rc ? hv_fail_errno(err, rc, "%s: cannot compute SHA-256", file->path) : 0;
}

/* Writing. */

struct writer {
	struct hv_file *out;
	struct hv_sha256 *sha;
	uint64_t at;
};

static int put(struct writer *writer, const void *data, size_t length, struct hv_err *err)
{
	int rc = hv_file_pwrite(writer->out, data, length, writer->at, err);

	hv_sha256_update(writer->sha, data, length);
	writer->at += length;
	return rc;
}

static int put_record(struct writer *writer, uint64_t offset, const void *old, uint32_t old_length,
		      const void *new, uint32_t new_length, struct hv_err *err)
{
	struct undo_record record = { hv_be64_make(offset), hv_be32_make(old_length),
				      hv_be32_make(new_length) };
	int rc = put(writer, &record, sizeof(record), err);

	if (rc == 0 && old_length)
		rc = put(writer, old, old_length, err);
	if (rc == 0 && new_length)
		rc = put(writer, new, new_length, err);
	return rc;
}

/* [offset, offset + length) will be cut off; what is zero comes back by itself. */
static int put_piece(struct writer *writer, const uint8_t *piece, uint64_t offset, size_t length,
		     struct hv_err *err)
{
	size_t start = 0, end = length;

	while (start < end && !piece[start])
		start++;
	while (end > start && !piece[end - 1])
		end--;
	if (start == end)
		return 0;
	return put_record(writer, offset + start, piece + start, (uint32_t)(end - start), NULL, 0,
			  err);
}

static int put_tail(struct writer *writer, struct hv_file *file, uint64_t offset,
		    struct hv_err *err)
{
	HV_AUTO(free) uint8_t *piece = malloc(PIECE_BYTES);
	uint64_t size = file->size_bytes, data, hole;
	int rc = 0;

	if (!piece)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	while (offset < size && rc == 0) {
		size_t length;

		if (hv_file_next_data(file, offset, &data, &hole))
			data = offset, hole = size;
		offset = hv_max_u64(offset, data);
		length = hv_min_u64(PIECE_BYTES, hv_min_u64(hole, size) - offset);
		if (!length)
			break;
		rc = hv_file_pread(file, piece, length, offset, err);
		if (rc == 0)
			rc = put_piece(writer, piece, offset, length, err);
		offset += length;
	}
	return rc;
}

static int put_bat(struct writer *writer, const struct check *check, struct hv_err *err)
{
	HV_AUTO(free) uint8_t *buffers = malloc(2 * (size_t)CHECK_RUN_BYTES);
	struct check_bat_run run = { .old = buffers };
	int rc;

	if (!buffers)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", check->file->path);
	run.new = buffers + CHECK_RUN_BYTES;
	while ((rc = vhd_check_next_run(check, &run, err)) > 0) {
		uint32_t length = run.count * HV_SECTOR_SIZE;

		rc = put_record(writer, run.offset, run.old, length, run.new, length, err);
		if (rc)
			return rc;
	}
	return rc;
}

static int put_all(struct writer *writer, const struct check *check, struct hv_err *err)
{
	struct hv_file *file = check->file;
	const struct check_plan *plan = &check->plan;
	struct undo_header header = { .old_size = hv_be64_make(file->size_bytes),
				      .new_size = hv_be64_make(plan->new_size),
				      .witness_offset = hv_be64_make(plan->witness_offset),
				      .witness_length = hv_be64_make(plan->witness_length) };
	char digest[HV_SHA256_TEXT_SIZE];
	int rc = digest_range(file, plan->witness_offset, plan->witness_length, digest, err);

	if (rc)
		return rc;
	memcpy(header.magic, UNDO_MAGIC, sizeof(header.magic));
	memcpy(header.witness_digest, digest, DIGEST_BYTES);
	rc = put(writer, &header, sizeof(header), err);
	if (rc == 0)
		rc = put_bat(writer, check, err);
	for (int i = 0; i < CHECK_CHANGES && rc == 0; i++) {
		const struct check_change *change = &plan->changes[i];

		if (plan->wanted[i])
			rc = put_record(writer, change->offset, change->old, change->old_length,
					change->new, HV_SECTOR_SIZE, err);
	}
	if (rc == 0)
		rc = put_tail(writer, file, plan->new_size, err);
	if (rc == 0)
		rc = put_record(writer, UNDO_END, NULL, 0, NULL, 0, err);
	if (rc)
		return rc;
	hv_sha256_final(writer->sha, digest);
	if (!*digest)
		return hv_fail(err, -EIO, "%s: cannot compute SHA-256", writer->out->path);
	return hv_file_pwrite(writer->out, digest, DIGEST_BYTES, writer->at, err);
}

/* The undo file holds contents of the disk: nobody reads it who may not read that. */
static int create_undo(struct hv_file *file, const char *undo_path, struct hv_file **ret,
		       struct hv_err *err)
{
	struct stat st;
	int rc;

	if (access(undo_path, F_OK) == 0)
		return hv_fail(
			err, -EEXIST,
			"%s: exists already, and may be the only way back from an earlier repair; name another file",
			undo_path);
	rc = hv_file_create(undo_path, HV_FILE_WRITE, false, NULL, ret, err);
	if (rc == 0 && hv_file_stat(file, &st) == 0 && fchmod((*ret)->fd, st.st_mode & 0666))
		rc = hv_fail_errno(err, -errno, "%s: cannot protect", undo_path);
	return rc;
}

int vhd_undo_save(const struct check *check, struct hv_err *err)
{
	const char *undo_path = check->options->undo_path;
	HV_AUTO(hv_file_close) struct hv_file *out = NULL;
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = NULL;
	struct writer writer;
	int rc = create_undo(check->file, undo_path, &out, err);

	if (rc)
		return rc;
	rc = hv_sha256_new(&sha);
	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot compute SHA-256", undo_path);
	writer = (struct writer){ .out = out, .sha = sha };
	rc = put_all(&writer, check, err);
	return rc ? rc : hv_file_publish(out, err);
}

/* Reading. */

struct undo {
	struct hv_file *file, *in;
	uint64_t at;  /* in the undo file */
	uint64_t end; /* where the digest begins */
	uint64_t old_size, new_size;
	uint8_t *old, *new, *now; /* PIECE_BYTES each */
};

struct piece {
	uint64_t offset;
	uint32_t old_length, new_length;
};

static int bad_undo(const struct undo *undo, struct hv_err *err)
{
	return hv_fail(err, -EBADMSG, "%s: not an undo file, or a damaged one", undo->in->path);
}

/* Is it empty (wherever), or inside the file? */
static bool part_of(uint64_t offset, uint32_t length, uint64_t size)
{
	return !length || hv_range_inside(offset, length, size);
}

/* The next record, its bytes in undo->old and undo->new; 0 at the end of the list. */
static int next_piece(struct undo *undo, struct piece *ret, struct hv_err *err)
{
	struct undo_record record;
	int rc;

	if (!hv_range_inside(undo->at, sizeof(record), undo->end))
		return bad_undo(undo, err);
	rc = hv_file_pread(undo->in, &record, sizeof(record), undo->at, err);
	if (rc)
		return rc;
	undo->at += sizeof(record);
	*ret = (struct piece){ hv_be64_get(record.offset), hv_be32_get(record.old_length),
			       hv_be32_get(record.new_length) };
	if (ret->offset == UNDO_END)
		return undo->at == undo->end ? 0 : bad_undo(undo, err);
	if (ret->old_length > PIECE_BYTES || ret->new_length > PIECE_BYTES ||
	    !part_of(ret->offset, ret->old_length, undo->old_size) ||
	    !part_of(ret->offset, ret->new_length, undo->new_size) ||
	    !hv_range_inside(undo->at, (uint64_t)ret->old_length + ret->new_length, undo->end))
		return bad_undo(undo, err);
	rc = hv_file_pread(undo->in, undo->old, ret->old_length, undo->at, err);
	undo->at += ret->old_length;
	if (rc == 0)
		rc = hv_file_pread(undo->in, undo->new, ret->new_length, undo->at, err);
	undo->at += ret->new_length;
	return rc ? rc : 1;
}

static int changed_since(const struct undo *undo, struct hv_err *err)
{
	return hv_fail(err, -ESTALE,
		       "%s: is not as the repair left it, so that '%s' is not put back",
		       undo->file->path, undo->in->path);
}

static int read_undo_header(struct undo *undo, struct undo_header *ret, struct hv_err *err)
{
	char stored[DIGEST_BYTES], digest[HV_SHA256_TEXT_SIZE];
	int rc;

	if (undo->in->size_bytes < sizeof(*ret) + sizeof(struct undo_record) + DIGEST_BYTES)
		return bad_undo(undo, err);
	undo->end = undo->in->size_bytes - DIGEST_BYTES;
	rc = hv_file_pread(undo->in, ret, sizeof(*ret), 0, err);
	if (rc == 0)
		rc = hv_file_pread(undo->in, stored, DIGEST_BYTES, undo->end, err);
	if (rc)
		return rc;
	if (memcmp(ret->magic, UNDO_MAGIC, sizeof(ret->magic)))
		return bad_undo(undo, err);
	rc = digest_range(undo->in, 0, undo->end, digest, err);
	if (rc)
		return rc;
	undo->old_size = hv_be64_get(ret->old_size);
	undo->new_size = hv_be64_get(ret->new_size);
	return memcmp(stored, digest, DIGEST_BYTES) ? bad_undo(undo, err) : 0;
}

/* What the records say was in the witness, as far as they say anything. */
static int restore_witness(struct undo *undo, uint8_t *table, uint64_t offset, uint64_t length,
			   struct hv_err *err)
{
	struct piece piece = { 0 };
	int rc;

	undo->at = sizeof(struct undo_header);
	while ((rc = next_piece(undo, &piece, err)) > 0) {
		uint64_t from = hv_max_u64(piece.offset, offset);
		uint64_t to = hv_min_u64(piece.offset + piece.old_length, offset + length);

		if (from < to)
			memcpy(table + (from - offset), undo->old + (from - piece.offset),
			       to - from);
	}
	return rc;
}

static int digest_witness(struct undo *undo, uint64_t offset, uint64_t length,
			  char ret[HV_SHA256_TEXT_SIZE], struct hv_err *err)
{
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = NULL;
	HV_AUTO(free) uint8_t *table = malloc(length + 1);
	int rc = table ? hv_sha256_new(&sha) : -ENOMEM;

	if (rc)
		return hv_fail_errno(err, rc, "%s: cannot compute SHA-256", undo->file->path);
	rc = hv_file_pread(undo->file, table, length, offset, err);
	if (rc == 0)
		rc = restore_witness(undo, table, offset, length, err);
	if (rc)
		return rc;
	hv_sha256_update(sha, table, length);
	hv_sha256_final(sha, ret);
	return *ret ? 0 : hv_fail(err, -EIO, "%s: cannot compute SHA-256", undo->file->path);
}

/*
 * Is it that file, with the size it had before or after the repair, and all blocks where they were
 * before it, but for those that it has moved?
 */
static int check_witness(struct undo *undo, const struct undo_header *header, struct hv_err *err)
{
	uint64_t offset = hv_be64_get(header->witness_offset);
	uint64_t length = hv_be64_get(header->witness_length);
	uint64_t size = undo->file->size_bytes;
	char digest[HV_SHA256_TEXT_SIZE];
	int rc;

	if (length > VHD_MAX_BAT_BYTES || !hv_range_inside(offset, length, undo->old_size))
		return bad_undo(undo, err);
	if ((size != undo->old_size && size != undo->new_size) ||
	    !hv_range_inside(offset, length, size))
		return changed_since(undo, err);
	rc = digest_witness(undo, offset, length, digest, err);
	if (rc)
		return rc;
	return memcmp(header->witness_digest, digest, DIGEST_BYTES) ? changed_since(undo, err) : 0;
}

static bool same(const uint8_t *now, const uint8_t *then, size_t at, size_t end, size_t length)
{
	/* Beyond the length that was recorded there was nothing, which reads as zero. */
	size_t known = hv_min_u64(end, hv_max_u64(at, length));

	return !memcmp(now + at, then + at, known - at) && hv_is_zero(now + known, end - known);
}

/*
 * Sector by sector, the file holds what it did before or after the repair. Zero is what an
 * interrupted undo leaves beyond the shorter of both sizes.
 */
static bool is_expected(const struct undo *undo, const struct piece *piece)
{
	size_t length = hv_max_u64(piece->old_length, piece->new_length);
	uint64_t both = hv_min_u64(undo->old_size, undo->new_size);

	for (size_t at = 0; at < length; at += HV_SECTOR_SIZE) {
		size_t end = hv_min_u64(at + HV_SECTOR_SIZE, length);

		if (!same(undo->now, undo->old, at, end, piece->old_length) &&
		    !same(undo->now, undo->new, at, end, piece->new_length) &&
		    !(piece->offset + at >= both && hv_is_zero(undo->now + at, end - at)))
			return false;
	}
	return true;
}

/* Takes what was cut off (cut) or what was overwritten back from the current record. */
static int put_piece_back(struct undo *undo, const struct piece *piece, bool cut,
			  struct hv_err *err)
{
	if ((piece->offset >= undo->new_size) != cut)
		return 0;
	return hv_file_pwrite(undo->file, undo->old, piece->old_length, piece->offset, err);
}

static int compare_piece(struct undo *undo, const struct piece *piece, struct hv_err *err)
{
	size_t length = hv_max_u64(piece->old_length, piece->new_length);
	int rc = hv_file_pread(undo->file, undo->now, length, piece->offset, err);

	if (rc)
		return rc;
	return is_expected(undo, piece) ? 0 : changed_since(undo, err);
}

enum pass { COMPARE, PUT_BACK_CUT, PUT_BACK_REST };

static int walk(struct undo *undo, enum pass pass, struct hv_err *err)
{
	struct piece piece = { 0 };
	int rc;

	undo->at = sizeof(struct undo_header);
	while ((rc = next_piece(undo, &piece, err)) > 0) {
		rc = pass == COMPARE ? compare_piece(undo, &piece, err) :
				       put_piece_back(undo, &piece, pass == PUT_BACK_CUT, err);
		if (rc)
			return rc;
	}
	return rc;
}

static int put_back(struct undo *undo, struct hv_err *err)
{
	int rc = 0;

	/* The old size at once, so that whatever happens the file has one of the two sizes. */
	if (undo->file->size_bytes < undo->old_size) {
		rc = hv_file_truncate(undo->file, undo->old_size, err);
		if (rc == 0)
			rc = hv_file_barrier(undo->file, err);
	}
	if (rc == 0)
		rc = walk(undo, PUT_BACK_CUT, err);
	/* The old trailing footer is durable before the one that repair wrote, or the copy, goes. */
	if (rc == 0)
		rc = hv_file_barrier(undo->file, err);
	if (rc == 0)
		rc = walk(undo, PUT_BACK_REST, err);
	/* The bytes are back and durable before what came after them goes. */
	if (rc == 0)
		rc = hv_file_barrier(undo->file, err);
	if (rc == 0 && undo->file->size_bytes > undo->old_size)
		rc = hv_file_truncate(undo->file, undo->old_size, err);
	return rc ? rc : hv_file_barrier(undo->file, err);
}

static int check_and_put_back(struct undo *undo, struct hv_err *err)
{
	struct undo_header header;
	int rc = read_undo_header(undo, &header, err);

	if (rc == 0)
		rc = check_witness(undo, &header, err);
	if (rc == 0)
		rc = walk(undo, COMPARE, err);
	return rc ? rc : put_back(undo, err);
}

int vhd_undo(struct hv_file *file, const char *undo_path, struct hv_err *err)
{
	HV_AUTO(hv_file_close) struct hv_file *in = NULL;
	HV_AUTO(free) uint8_t *buffers = malloc(3 * (size_t)PIECE_BYTES);
	struct undo undo = { .file = file };
	int rc;

	if (!buffers)
		return hv_fail(err, -ENOMEM, "%s: not enough memory", file->path);
	rc = hv_file_open(undo_path, 0, NULL, &in, err);
	if (rc)
		return rc;
	undo.in = in;
	undo.old = buffers;
	undo.new = buffers + PIECE_BYTES;
	undo.now = buffers + 2 * (size_t)PIECE_BYTES;
	return check_and_put_back(&undo, err);
}
