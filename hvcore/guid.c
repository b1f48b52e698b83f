/*
 * GUIDs: version 4 (RFC 4122, section 4.4) and the text form.
 */
#include "hvcore/guid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int hv_guid_random(struct hv_guid *ret)
{
	struct hv_guid guid;
	ssize_t got;

	do {
		got = getrandom(guid.b, sizeof(guid.b), 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got != sizeof(guid.b)) /* the kernel never cuts requests of up to 256 bytes */
		return -EIO;
	guid.b[6] = (guid.b[6] & 0x0f) | 0x40;
	guid.b[8] = (guid.b[8] & 0x3f) | 0x80;
	*ret = guid;
	return 0;
}

bool hv_guid_is_null(const struct hv_guid *guid)
{
	static const struct hv_guid null;

	return hv_guid_equal(guid, &null);
}

bool hv_guid_equal(const struct hv_guid *a, const struct hv_guid *b)
{
	return !memcmp(a->b, b->b, sizeof(a->b));
}

void hv_guid_format(const struct hv_guid *guid, char text[HV_GUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *p = text;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[guid->b[i] >> 4];
		*p++ = digits[guid->b[i] & 15];
	}
	*p = '\0';
}
