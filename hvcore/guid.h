/*
 * 128-bit unique identifiers in raw big-endian order, as VHD stores them (RFC 4122 text form).
 */
#ifndef HVCORE_GUID_H
#define HVCORE_GUID_H

#include <stdbool.h>
#include <stdint.h>

struct hv_guid {
	uint8_t b[16];
};

#define HV_GUID_TEXT_SIZE 37 /* 36 characters and NUL */

/* Version 4, from the kernel's random source. Returns 0 or -errno. */
int hv_guid_random(struct hv_guid *ret);

bool hv_guid_is_null(const struct hv_guid *guid);
bool hv_guid_equal(const struct hv_guid *a, const struct hv_guid *b);

/* Lower-case text form. */
void hv_guid_format(const struct hv_guid *guid, char text[HV_GUID_TEXT_SIZE]);

#endif
