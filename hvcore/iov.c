/*
 * Slicing of I/O vectors.
 */
#include "hvcore/iov.h"

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

uint64_t hv_iov_length(const struct iovec *iov, int count)
{
	uint64_t sum = 0;

	for (int i = 0; i < count; i++)
		sum += iov[i].iov_len;
	return sum;
}
