/*
 * Memory that disks read into and write from.
 */
#ifndef HVCORE_MEMORY_H
#define HVCORE_MEMORY_H

#include <stddef.h>

/*
 * Memory that suits O_DIRECT (aligned to 4 KiB), to be given back with free(); NULL when there is
 * none. From 2 MiB on it asks for huge pages: a device is given a list of physically contiguous
 * pieces, and with ordinary pages a request of 1 MiB can be 256 of them, which many devices take in
 * several parts and some much more slowly. So one large piece is better than many small ones. Not
 * touched, it costs nothing.
 */
void *hv_io_memory(size_t size);

#endif
