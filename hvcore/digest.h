/*
 * SHA-256 (FIPS 180-4) through OpenSSL's EVP interface.
 */
#ifndef HVCORE_DIGEST_H
#define HVCORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "hvcore/cleanup.h"

#define HV_SHA256_SIZE 32
#define HV_SHA256_TEXT_SIZE 65

struct hv_sha256;

/* 0, -ENOMEM, or -ENOTSUP where the library offers no SHA-256. */
int hv_sha256_new(struct hv_sha256 **ret);
void hv_sha256_free(struct hv_sha256 *sha);
HV_DEFINE_CLEANUP(struct hv_sha256, hv_sha256_free)

void hv_sha256_update(struct hv_sha256 *sha, const void *data, size_t length);

/* As if length bytes of zero had been passed. */
void hv_sha256_update_zeros(struct hv_sha256 *sha, uint64_t length);

/* Ends the computation; text is lower-case hexadecimal, or empty should the library have failed. */
void hv_sha256_final(struct hv_sha256 *sha, char text[HV_SHA256_TEXT_SIZE]);

#endif
