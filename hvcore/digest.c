/*
 * SHA-256 through OpenSSL's EVP interface. A failure of the library, which cannot happen between a
 * good start and the end, would leave an empty text rather than a wrong one.
 */
#include "hvcore/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>

#define ZEROS_SIZE 65536u

struct hv_sha256 {
	EVP_MD_CTX *ctx;
	bool failed;
};

int hv_sha256_new(struct hv_sha256 **ret)
{
	HV_AUTO(hv_sha256_free) struct hv_sha256 *sha = calloc(1, sizeof(*sha));

	if (!sha)
		return -ENOMEM;
	sha->ctx = EVP_MD_CTX_new();
	if (!sha->ctx)
		return -ENOMEM;
	if (!EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL))
		return -ENOTSUP;
	*ret = hv_steal(sha);
	return 0;
}

void hv_sha256_free(struct hv_sha256 *sha)
{
	if (sha)
		EVP_MD_CTX_free(sha->ctx);
	free(sha);
}

void hv_sha256_update(struct hv_sha256 *sha, const void *data, size_t length)
{
	if (!EVP_DigestUpdate(sha->ctx, data, length))
		sha->failed = true;
}

void hv_sha256_update_zeros(struct hv_sha256 *sha, uint64_t length)
{
	static const uint8_t zeros[ZEROS_SIZE];

	while (length) {
		size_t part = length < ZEROS_SIZE ? (size_t)length : ZEROS_SIZE;

		hv_sha256_update(sha, zeros, part);
		length -= part;
	}
}

void hv_sha256_final(struct hv_sha256 *sha, char text[HV_SHA256_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[EVP_MAX_MD_SIZE];
	char *p = text;

	if (!EVP_DigestFinal_ex(sha->ctx, digest, NULL))
		sha->failed = true;
	for (int i = 0; !sha->failed && i < HV_SHA256_SIZE; i++) {
		*p++ = digits[digest[i] >> 4];
		*p++ = digits[digest[i] & 15];
	}
	*p = '\0';
}
