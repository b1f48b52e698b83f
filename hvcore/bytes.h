/*
 * Byte-order types for structures on disks and wires: arrays of bytes that can neither be
 * misaligned nor be mistaken for host integers. Read with hv_beNN_get, write with hv_beNN_make;
 * hv_leNN_ likewise.
 */
#ifndef HVCORE_BYTES_H
#define HVCORE_BYTES_H

#include <stdint.h>

typedef struct {
	uint8_t b[2];
} hv_be16;

typedef struct {
	uint8_t b[4];
} hv_be32;

typedef struct {
	uint8_t b[8];
} hv_be64;

static inline uint16_t hv_be16_get(hv_be16 v)
{
	return (uint16_t)(v.b[0] << 8 | v.b[1]);
}

static inline uint32_t hv_be32_get(hv_be32 v)
{
	return (uint32_t)v.b[0] << 24 | (uint32_t)v.b[1] << 16 | (uint32_t)v.b[2] << 8 | v.b[3];
}

static inline uint64_t hv_be64_get(hv_be64 v)
{
	uint64_t x = 0;

	for (int i = 0; i < 8; i++)
		x = x << 8 | v.b[i];
	return x;
}

static inline hv_be16 hv_be16_make(uint16_t x)
{
	return (hv_be16){ { (uint8_t)(x >> 8), (uint8_t)x } };
}

static inline hv_be32 hv_be32_make(uint32_t x)
{
	return (hv_be32){ { (uint8_t)(x >> 24), (uint8_t)(x >> 16), (uint8_t)(x >> 8),
			    (uint8_t)x } };
}

static inline hv_be64 hv_be64_make(uint64_t x)
{
	hv_be64 v;

	for (int i = 7; i >= 0; i--, x >>= 8)
		v.b[i] = (uint8_t)x;
	return v;
}

typedef struct {
	uint8_t b[2];
} hv_le16;

typedef struct {
	uint8_t b[4];
} hv_le32;

typedef struct {
	uint8_t b[8];
} hv_le64;

static inline uint32_t hv_le32_get(hv_le32 v)
{
	return (uint32_t)v.b[3] << 24 | (uint32_t)v.b[2] << 16 | (uint32_t)v.b[1] << 8 | v.b[0];
}

static inline uint64_t hv_le64_get(hv_le64 v)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | v.b[i];
	return x;
}

static inline hv_le16 hv_le16_make(uint16_t x)
{
	return (hv_le16){ { (uint8_t)x, (uint8_t)(x >> 8) } };
}

static inline hv_le32 hv_le32_make(uint32_t x)
{
	return (hv_le32){ { (uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16),
			    (uint8_t)(x >> 24) } };
}

static inline hv_le64 hv_le64_make(uint64_t x)
{
	hv_le64 v;

	for (int i = 0; i < 8; i++, x >>= 8)
		v.b[i] = (uint8_t)x;
	return v;
}

#endif
