/*
 * See mutate.h. The offsets are those of the specification, and of vhd/FORMAT.md for undo files.
 */
#include "tests/fuzz/harness/mutate.h"

#include <stdlib.h>
#include <string.h>

#include "hvcore/checked.h"
#include "tests/fuzz/harness/image.h"

#define MAX_PIECES 160
#define MAX_BATMAP_BYTES 65536

struct mutation {
	struct fuzz_image image;
	struct sparse *view; /* the file as it was before */
	uint64_t random;
	uint64_t header, bat; /* where they are, by the footer */
	uint32_t entries, block_bytes;
	size_t (*bytes)(uint8_t *data, size_t size, size_t max);
};

struct field {
	uint16_t offset;
	uint8_t width;
};

static uint32_t dice(struct mutation *m, uint32_t sides)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 20) % sides;
}

static uint64_t get(const struct sparse *view, uint64_t offset, size_t width)
{
	uint8_t raw[8];
	uint64_t value = 0;

	sparse_peek(view, offset, raw, width);
	for (size_t i = 0; i < width; i++)
		value = value << 8 | raw[i];
	return value;
}

/* The bytes of the file at offset, to be changed in place: of the uppermost piece that has all. */
static uint8_t *bytes_at(struct mutation *m, uint64_t offset, size_t length)
{
	struct fuzz_piece *piece;

	for (size_t i = m->image.count; i-- > 0;) {
		uint64_t start = fuzz_piece_offset(&m->image, &m->image.pieces[i]);

		piece = &m->image.pieces[i];
		if (piece->kind == FUZZ_BYTES && offset >= start &&
		    hv_range_inside(offset - start, length, piece->length))
			return piece->bytes + (offset - start);
	}
	if (m->image.count >= MAX_PIECES)
		return NULL;
	piece = fuzz_image_add(&m->image, FUZZ_BYTES, offset, length);
	if (offset < m->image.size_bytes && m->image.size_bytes - offset <= 4096 &&
	    m->image.size_bytes - offset >= length) {
		piece->from_end = true;
		piece->place = m->image.size_bytes - offset;
	}
	sparse_peek(m->view, offset, piece->bytes, length);
	return piece->bytes;
}

static void set_bytes(struct mutation *m, uint64_t offset, const void *data, size_t length)
{
	uint8_t *there = bytes_at(m, offset, length);

	if (there)
		memcpy(there, data, length);
}

static void set(struct mutation *m, uint64_t offset, size_t width, uint64_t value)
{
	uint8_t raw[8];

	for (size_t i = width; i-- > 0; value >>= 8)
		raw[i] = (uint8_t)value;
	set_bytes(m, offset, raw, width);
}

static uint64_t trailing_offset(const struct mutation *m)
{
	uint64_t size = m->image.size_bytes;

	return size % HV_SECTOR_SIZE == 511 ? size - 511 : size - HV_SECTOR_SIZE;
}

static uint64_t special(struct mutation *m)
{
	const uint64_t values[] = {
		0,
		1,
		2,
		3,
		4,
		5,
		0xff,
		511,
		512,
		513,
		1024,
		1536,
		2048,
		4096,
		65536,
		0x10000,
		0x10001,
		0x20000,
		512 << 10,
		2 << 20,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		UINT64_C(2040) << 30,
		UINT64_C(1) << 32,
		UINT64_C(1) << 63,
		UINT64_MAX,
		UINT64_MAX - 511,
		INT64_MAX,
		m->image.size_bytes,
		trailing_offset(m),
		trailing_offset(m) / 512,
		m->image.size_bytes / 512,
		m->header,
		m->bat,
		m->bat / 512,
		m->entries,
		m->block_bytes,
		m->block_bytes * 2,
		m->block_bytes / 2,
		(uint64_t)m->entries * m->block_bytes,
		0x57327275,
		0x57326b75,
		0x4d616358,
		0x4d616320,
		0x636f6e6563746978,
		0x6378737061727365,
		0x7464626174000000,
	};

	return values[dice(m, sizeof(values) / sizeof(values[0]))];
}

/* Something near the old value, or far from it. */
static uint64_t other_value(struct mutation *m, uint64_t old)
{
	switch (dice(m, 8)) {
	case 0:
		return old + 1;
	case 1:
		return old - 1;
	case 2:
		return old + (512u << dice(m, 4));
	case 3:
		return old - (512u << dice(m, 4));
	case 4:
		return old ^ UINT64_C(1) << dice(m, 64);
	case 5:
		return dice(m, 2) ? old << 1 : old >> 1;
	case 6:
		return dice(m, 1u << dice(m, 24));
	default:
		return special(m);
	}
}

static void change_field(struct mutation *m, uint64_t base, const struct field *fields,
			 uint32_t count)
{
	struct field field = fields[dice(m, count)];
	uint64_t offset = base + field.offset;

	set(m, offset, field.width, other_value(m, get(m->view, offset, field.width)));
}

#define CHANGE_FIELD(m, base, fields) \
	change_field(m, base, fields, sizeof(fields) / sizeof((fields)[0]))

static void change_footer(struct mutation *m)
{
	static const struct field fields[] = {
		{ 0, 8 },  { 8, 4 },  { 12, 4 }, { 16, 8 }, { 24, 4 }, { 28, 4 }, { 32, 4 },
		{ 40, 8 }, { 48, 8 }, { 48, 8 }, { 48, 8 }, { 56, 2 }, { 58, 1 }, { 59, 1 },
		{ 60, 4 }, { 60, 4 }, { 64, 4 }, { 68, 8 }, { 84, 1 }, { 85, 1 }, { 86, 4 },
	};
	static const char creators[][5] = {
		"win ", "vpc ", "qemu", "qem2", "tap\0", "CTXS", "d2v "
	};
	uint64_t base = dice(m, 3) ? trailing_offset(m) : 0;
	uint8_t opened[512];

	memset(opened, 0xc7, sizeof(opened));
	if (dice(m, 8) == 0)
		set_bytes(m, base + 28, creators[dice(m, 7)], 4);
	else if (dice(m, 30) == 0)
		set_bytes(m, base, opened, sizeof(opened));
	else
		CHANGE_FIELD(m, base, fields);
}

/* One footer becomes the other. */
static void copy_footer(struct mutation *m)
{
	uint64_t from = trailing_offset(m), to = 0;
	uint8_t raw[512];

	if (dice(m, 3) == 0)
		from = 0, to = trailing_offset(m);
	sparse_peek(m->view, from, raw, sizeof(raw));
	if (to + sizeof(raw) <= m->image.size_bytes + 1)
		set_bytes(m, to, raw, sizeof(raw));
}

static void change_header(struct mutation *m)
{
	static const struct field fields[] = {
		{ 0, 8 },  { 8, 8 },  { 16, 8 }, { 16, 8 }, { 24, 4 }, { 28, 4 },
		{ 28, 4 }, { 32, 4 }, { 32, 4 }, { 36, 4 }, { 40, 8 }, { 64, 8 },
	};

	CHANGE_FIELD(m, m->header, fields);
}

static void change_locator(struct mutation *m)
{
	static const struct field fields[] = { { 0, 4 }, { 4, 4 }, { 8, 4 }, { 16, 8 } };
	uint64_t slot = m->header + 576 + 24 * (uint64_t)dice(m, dice(m, 2) ? 8 : 3);
	uint64_t text = get(m->view, slot + 16, 8);
	uint8_t *there;

	if (dice(m, 2)) {
		CHANGE_FIELD(m, slot, fields);
		return;
	}
	if (text >= m->image.size_bytes)
		return;
	there = bytes_at(m, text, 64);
	if (there)
		m->bytes(there, 64, 64);
}

/* An entry of the table becomes that of another block, or one near it. */
static void change_entry(struct mutation *m)
{
	uint32_t few = m->entries && m->entries < 64 ? m->entries : 64;
	uint64_t at = m->bat + 4 * (uint64_t)dice(m, few);
	uint64_t other = m->bat + 4 * (uint64_t)dice(m, few);
	uint64_t value = get(m->view, other, 4);

	switch (dice(m, 5)) {
	case 0:
		value += dice(m, 20);
		break;
	case 1:
		value += m->block_bytes / 512 + dice(m, 16);
		break;
	case 2:
		value = UINT32_MAX;
		break;
	case 3:
		value = other_value(m, value);
		break;
	default:
		break;
	}
	set(m, at, 4, value);
}

static void change_bitmap(struct mutation *m)
{
	uint32_t few = m->entries && m->entries < 64 ? m->entries : 64;
	uint64_t at = m->bat + 4 * (uint64_t)dice(m, few);
	uint64_t place = get(m->view, at, 4) * 512;
	uint8_t *there;

	if (place >= m->image.size_bytes)
		return;
	there = bytes_at(m, place, 16u << dice(m, 6));
	if (!there)
		return;
	if (dice(m, 2))
		there[dice(m, 16)] = (uint8_t)dice(m, 256);
	else
		m->bytes(there, 16, 16);
}

static void change_size(struct mutation *m)
{
	static const int64_t steps[] = { 1, 511, 512, 1024, 4096, 65536, 2 << 20 };
	uint64_t step = (uint64_t)steps[dice(m, sizeof(steps) / sizeof(steps[0]))];

	switch (dice(m, 4)) {
	case 0:
		m->image.size_bytes += step;
		break;
	case 1:
		m->image.size_bytes -= hv_min_u64(step, m->image.size_bytes);
		break;
	case 2:
		m->image.size_bytes = hv_round_down(m->image.size_bytes, step & -step);
		break;
	default:
		m->image.size_bytes = special(m);
		break;
	}
	m->image.size_bytes &= (UINT64_C(1) << 42) - 1;
}

static struct fuzz_piece *some_piece(struct mutation *m, enum fuzz_kind kind)
{
	uint32_t start;

	if (!m->image.count)
		return NULL;
	start = dice(m, (uint32_t)m->image.count);
	for (size_t i = 0; i < m->image.count; i++) {
		struct fuzz_piece *piece = &m->image.pieces[(start + i) % m->image.count];

		if (piece->kind == kind)
			return piece;
	}
	return NULL;
}

/* The bytes of a piece, which may become more or fewer. */
static void change_bytes(struct mutation *m, struct fuzz_piece *piece)
{
	size_t max = piece->length + 32;

	piece->bytes = realloc(piece->bytes, max);
	memset(piece->bytes + piece->length, 0, max - piece->length);
	piece->length = (uint32_t)m->bytes(piece->bytes, piece->length, max);
	if (piece->length > UINT16_MAX)
		piece->length = UINT16_MAX;
}

static void change_script(struct mutation *m)
{
	struct fuzz_piece *piece = some_piece(m, FUZZ_SCRIPT);

	if (!piece && m->image.count < MAX_PIECES)
		piece = fuzz_image_add(&m->image, FUZZ_SCRIPT, 0, 1 + 5 * (size_t)dice(m, 5));
	if (piece)
		change_bytes(m, piece);
}

static void change_undo(struct mutation *m)
{
	static const uint16_t places[] = { 0, 8, 16, 24, 32, 40, 128, 136, 140, 144, 152 };
	struct fuzz_piece *piece = some_piece(m, FUZZ_UNDO);
	uint64_t value;

	if (piece && dice(m, 2)) {
		change_bytes(m, piece);
		return;
	}
	if (m->image.count >= MAX_PIECES)
		return;
	piece = fuzz_image_add(&m->image, FUZZ_UNDO, places[dice(m, 11)], dice(m, 2) ? 8 : 4);
	if (dice(m, 3) == 0)
		piece->place = dice(m, 2048);
	piece->from_end = dice(m, 4) == 0;
	value = special(m);
	for (size_t i = piece->length; i-- > 0; value >>= 8)
		piece->bytes[i] = (uint8_t)value;
}

static void change_piece(struct mutation *m)
{
	struct fuzz_piece *piece;

	if (!m->image.count)
		return;
	piece = &m->image.pieces[dice(m, (uint32_t)m->image.count)];
	switch (dice(m, 4)) {
	case 0: /* gone */
		free(piece->bytes);
		m->image.count--;
		memmove(piece, piece + 1,
			(size_t)(m->image.pieces + m->image.count - piece) * sizeof(*piece));
		break;
	case 1:
		piece->place = other_value(m, piece->place) & ((UINT64_C(1) << 48) - 1);
		break;
	case 2:
		piece->covered = (uint32_t)other_value(m, piece->covered);
		break;
	default:
		change_bytes(m, piece);
		break;
	}
}

/* Checksums. */

static uint32_t checksum(const uint8_t *data, size_t length, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i++)
		if (i < at || i >= at + 4)
			sum += data[i];
	return ~sum;
}

static void mend_at(struct mutation *m, uint64_t offset, const char *cookie, size_t length,
		    size_t at)
{
	uint8_t raw[1024];

	if (!hv_range_inside(offset, 512, m->image.size_bytes + 1))
		return;
	sparse_peek(m->view, offset, raw, length);
	if (!memcmp(raw, cookie, 8))
		set(m, offset + at, 4, checksum(raw, length, at));
}

static void mend_batmap(struct mutation *m)
{
	uint64_t at = m->bat + hv_round_up((uint64_t)m->entries * 4, 512);
	uint64_t offset = get(m->view, at + 8, 8), length = get(m->view, at + 16, 4) * 512;
	uint32_t sum = 0;
	uint8_t *map;

	if (get(m->view, at, 8) != UINT64_C(0x74646261746d6170) || length > MAX_BATMAP_BYTES)
		return;
	map = malloc(length + 1);
	sparse_peek(m->view, offset, map, length);
	for (uint64_t i = 0; i < length; i++)
		sum += map[i];
	free(map);
	set(m, at + 24, 4, ~sum);
}

static void look(struct mutation *m)
{
	sparse_free(m->view);
	m->view = fuzz_image_lay(&m->image, false);
	m->header = get(m->view, trailing_offset(m) + 16, 8);
	if (m->header >= m->image.size_bytes)
		m->header = 512;
	m->bat = get(m->view, m->header + 16, 8);
	if (m->bat >= m->image.size_bytes)
		m->bat = 1536;
	m->entries = (uint32_t)get(m->view, m->header + 28, 4);
	m->block_bytes = (uint32_t)get(m->view, m->header + 32, 4);
}

static void mend(struct mutation *m)
{
	look(m);
	mend_at(m, 0, "conectix", 512, 64);
	mend_at(m, trailing_offset(m), "conectix", 512, 64);
	mend_at(m, m->header, "cxsparse", 1024, 36);
	mend_batmap(m);
}

static void change(struct mutation *m)
{
	static void (*const ways[])(struct mutation * m) = {
		change_footer,  change_footer, copy_footer,  change_header, change_header,
		change_locator, change_entry,  change_entry, change_bitmap, change_size,
		change_script,  change_script, change_undo,  change_piece,
	};

	look(m);
	ways[dice(m, sizeof(ways) / sizeof(ways[0]))](m);
}

size_t mutate_image(uint8_t *data, size_t size, size_t max, unsigned seed,
		    size_t (*bytes)(uint8_t *data, size_t size, size_t max))
{
	struct mutation m = { .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .bytes = bytes };

	dice(&m, 2);
	if (dice(&m, 24) == 0)
		size = bytes(data, size, max);
	fuzz_image_parse(data, size, &m.image);
	do
		change(&m);
	while (dice(&m, 3) == 0);
	if (dice(&m, 12))
		mend(&m);
	size = fuzz_image_write(&m.image, data, max);
	sparse_free(m.view);
	fuzz_image_done(&m.image);
	return size;
}
