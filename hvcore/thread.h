/*
 * Threads beside the program's own.
 */
#ifndef HVCORE_THREAD_H
#define HVCORE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * Starts a thread that takes no signals but those of its own faults: others belong to the program.
 * (The kernel kills a process whose fault nobody may handle, and memory that guests share with us
 * may fault.) stack_bytes 0 is the system's default. 0 or -errno.
 */
int hv_thread_start(pthread_t *ret, size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
