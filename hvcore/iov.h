/*
 * Slicing of I/O vectors.
 */
#ifndef HVCORE_IOV_H
#define HVCORE_IOV_H

#include <stdint.h>
#include <sys/uio.h>

/*
 * Writes to out (room for count elements) the vector of the bytes [start, start + length) of in,
 * which holds them all. Returns the number of elements; elements of length 0 are left out.
 */
int hv_iov_slice(const struct iovec *in, int count, uint64_t start, uint64_t length,
		 struct iovec *out);

/* Copies length bytes at start of the vector's memory into buf, or from buf into it. */
void hv_iov_gather(const struct iovec *iov, int count, uint64_t start, void *buf, uint64_t length);
void hv_iov_scatter(const struct iovec *iov, int count, uint64_t start, const void *buf,
		    uint64_t length);

#endif
