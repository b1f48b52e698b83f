/*
 * SHA-256: the examples of FIPS 180-4 and the zeros.
 */
#include "hvcore/digest.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct hv_sha256 *start(void)
{
	struct hv_sha256 *sha = NULL;

	cr_assert_eq(hv_sha256_new(&sha), 0);
	return sha;
}

static void assert_ends(struct hv_sha256 *sha, const char *expected)
{
	char text[HV_SHA256_TEXT_SIZE];

	hv_sha256_final(sha, text);
	hv_sha256_free(sha);
	cr_assert_str_eq(text, expected);
}

Test(digest, of_nothing)
{
	assert_ends(start(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

Test(digest, of_abc)
{
	struct hv_sha256 *sha = start();

	hv_sha256_update(sha, "abc", 3);
	assert_ends(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(digest, does_not_depend_on_how_the_data_is_cut)
{
	struct hv_sha256 *sha = start();

	hv_sha256_update(sha, "a", 1);
	hv_sha256_update(sha, "", 0);
	hv_sha256_update(sha, "bc", 2);
	assert_ends(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(digest, of_no_zeros_is_that_of_nothing)
{
	struct hv_sha256 *sha = start();

	hv_sha256_update_zeros(sha, 0);
	assert_ends(sha, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

Test(digest, of_a_mebibyte_of_zeros)
{
	struct hv_sha256 *sha = start();

	hv_sha256_update_zeros(sha, 1 << 20);
	assert_ends(sha, "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58");
}

Test(digest, zeros_count_as_data_at_every_length)
{
	static const uint64_t lengths[] = { 1, 511, 65535, 65536, 65537, 200000 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct hv_sha256 *data = start(), *zeros = start();
		char text[HV_SHA256_TEXT_SIZE];
		void *memory = calloc(1, lengths[i]);

		cr_assert(memory);
		hv_sha256_update(data, memory, lengths[i]);
		hv_sha256_update(data, "x", 1);
		hv_sha256_final(data, text);
		hv_sha256_update_zeros(zeros, lengths[i]);
		hv_sha256_update(zeros, "x", 1);
		assert_ends(zeros, text);
		hv_sha256_free(data);
		free(memory);
	}
}

Test(digest, freeing_nothing_is_safe)
{
	hv_sha256_free(NULL);
}
