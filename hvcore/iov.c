/*
 * Slicing of I/O vectors.
 */
#include "hvcore/iov.h"

#include <string.h>

#include "hvcore/checked.h"

int hv_iov_slice(const struct iovec *in, int count, uint64_t start, uint64_t length,
		 struct iovec *out)
{
	int n = 0;

	for (int i = 0; i < count && length; i++) {
		uint64_t have = in[i].iov_len;

		if (start >= have) {
			start -= have;
			continue;
		}
		out[n].iov_base = (char *)in[i].iov_base + start;
		out[n].iov_len = hv_min_u64(have - start, length);
		length -= out[n].iov_len;
		start = 0;
		n++;
	}
	return n;
}

/* The first piece of [start, start + length): its address, and its length in *piece. */
static char *piece_at(const struct iovec *iov, int count, uint64_t start, uint64_t length,
		      uint64_t *piece)
{
	while (count && start >= iov->iov_len) {
		start -= iov->iov_len;
		iov++;
		count--;
	}
	if (!count)
		return NULL;
	*piece = hv_min_u64(iov->iov_len - start, length);
	return (char *)iov->iov_base + start;
}

void hv_iov_gather(const struct iovec *iov, int count, uint64_t start, void *buf, uint64_t length)
{
	uint64_t n;
	const char *from;

	while (length && (from = piece_at(iov, count, start, length, &n))) {
		memcpy(buf, from, n);
		buf = (char *)buf + n;
		start += n;
		length -= n;
	}
}

void hv_iov_scatter(const struct iovec *iov, int count, uint64_t start, const void *buf,
		    uint64_t length)
{
	uint64_t n;
	char *to;

	while (length && (to = piece_at(iov, count, start, length, &n))) {
		memcpy(to, buf, n);
		buf = (const char *)buf + n;
		start += n;
		length -= n;
	}
}
