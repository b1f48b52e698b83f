/*
 * GUIDs.
 */
#include "hvcore/guid.h"

#include <criterion/criterion.h>

static const struct hv_guid sample = { {
	0x01,
	0x23,
	0x45,
	0x67,
	0x89,
	0xab,
	0xcd,
	0xef,
	0xfe,
	0xdc,
	0xba,
	0x98,
	0x76,
	0x54,
	0x32,
	0x10,
} };

Test(guid, format_is_lower_case_and_in_byte_order)
{
	char text[HV_GUID_TEXT_SIZE];

	hv_guid_format(&sample, text);
	cr_assert_str_eq(text, "01234567-89ab-cdef-fedc-ba9876543210");
}

Test(guid, random_is_version_4_of_the_rfc_variant)
{
	for (int i = 0; i < 100; i++) {
		struct hv_guid guid;

		cr_assert_eq(hv_guid_random(&guid), 0);
		cr_assert_eq(guid.b[6] >> 4, 4);
		cr_assert_eq(guid.b[8] >> 6, 2);
	}
}

Test(guid, random_differs_each_time)
{
	struct hv_guid a, b;

	cr_assert_eq(hv_guid_random(&a), 0);
	cr_assert_eq(hv_guid_random(&b), 0);
	cr_assert_not(hv_guid_equal(&a, &b));
}

Test(guid, equal_compares_every_byte)
{
	for (int i = 0; i < 16; i++) {
		struct hv_guid other = sample;

		cr_assert(hv_guid_equal(&sample, &other));
		other.b[i] ^= 1;
		cr_assert_not(hv_guid_equal(&sample, &other), "byte %d is not compared", i);
	}
}

Test(guid, null_is_all_zero)
{
	struct hv_guid guid = { { 0 } };

	cr_assert(hv_guid_is_null(&guid));
	for (int i = 0; i < 16; i++) {
		guid = (struct hv_guid){ { 0 } };
		guid.b[i] = 0x80;
		cr_assert_not(hv_guid_is_null(&guid), "byte %d is not looked at", i);
	}
}
