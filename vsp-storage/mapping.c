/*
 * Shared memory that may go away.
 *
 * What the handler looks at is a fixed table of slots whose members are atomics. A slot is filled
 * last with its start and emptied first of it, so that a start that is there, before and after the
 * length has been read, goes with that length. The slot of the memory that faulted cannot change
 * meanwhile: the faulting thread uses that memory.
 */
#include "vsp-storage/mapping.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "hvcore/checked.h"

#define SLOT_COUNT 4096

static struct slot {
	atomic_uintptr_t start; /* 0: free */
	atomic_size_t length;
	atomic_bool lost;
} slots[SLOT_COUNT];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* filling and emptying slots */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_uint lost_count;

static struct slot *slot_of(uintptr_t address)
{
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		uintptr_t start = atomic_load(&slots[i].start);
		size_t length = atomic_load(&slots[i].length);

		if (start && address - start < length && atomic_load(&slots[i].start) == start)
			return &slots[i];
	}
	return NULL;
}

/* Returning without a mapping there repeats the access, which then ends the process. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	struct slot *slot = slot_of((uintptr_t)info->si_addr);
	void *start;

	(void)context;
	if (slot) {
		start = (void *)atomic_load(&slot->start);
		if (mmap(start, atomic_load(&slot->length), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			 0) != MAP_FAILED) {
			atomic_store(&slot->lost, true);
			atomic_fetch_add(&lost_count, 1);
			errno = saved_errno;
			return;
		}
	}
	signal(number, SIG_DFL);
	errno = saved_errno;
}

static void install_handler(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}

static int take_slot(struct vsp_mapping *mapping, struct hv_err *err)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		struct slot *slot = &slots[i];

		if (atomic_load(&slot->start))
			continue;
		atomic_store(&slot->lost, false);
		atomic_store(&slot->length, mapping->base_length);
		atomic_store(&slot->start, (uintptr_t)mapping->base);
		mapping->slot = i;
		pthread_mutex_unlock(&lock);
		return 0;
	}
	pthread_mutex_unlock(&lock);
	return hv_fail(err, -ENOBUFS, "%u pieces of shared memory are mapped, which is the most",
		       SLOT_COUNT);
}

/*
 * Where it begins and ends in the file, by what the file's memory is made of: a huge page is mapped
 * as a whole.
 */
static int find_base(int fd, uint64_t offset, uint64_t length, uint64_t *start, uint64_t *end,
		     struct hv_err *err)
{
	struct stat st;
	uint64_t unit = 4096;

	if (fstat(fd, &st))
		return hv_fail_errno(err, -errno, "cannot look at shared memory");
	if (!S_ISREG(st.st_mode))
		return hv_fail(err, -EINVAL, "what should be shared memory is no file");
	if (length == 0 || !hv_range_inside(offset, length, (uint64_t)st.st_size))
		return hv_fail(err, -EINVAL,
			       "shared memory of %llu bytes at %llu is not inside its file of %llu",
			       (unsigned long long)length, (unsigned long long)offset,
			       (unsigned long long)st.st_size);
	if (hv_is_power_of_two((uint64_t)st.st_blksize) && (uint64_t)st.st_blksize > unit)
		unit = (uint64_t)st.st_blksize;
	*start = hv_round_down(offset, unit);
	*end = hv_round_up(offset + length, unit);
	return 0;
}

int vsp_mapping_new(int fd, uint64_t offset, uint64_t length, struct vsp_mapping *ret,
		    struct hv_err *err)
{
	struct vsp_mapping mapping = { .length = length };
	uint64_t start = 0, end = 0;
	int rc = find_base(fd, offset, length, &start, &end, err);

	if (rc)
		return rc;
	pthread_once(&once, install_handler);
	mapping.base_length = end - start;
	mapping.base = mmap(NULL, mapping.base_length, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_NORESERVE, fd, (off_t)start);
	if (mapping.base == MAP_FAILED)
		return hv_fail_errno(err, -errno, "cannot map %llu bytes of shared memory",
				     (unsigned long long)length);
	mapping.start = (uint8_t *)mapping.base + (offset - start);
	rc = take_slot(&mapping, err);
	if (rc) {
		munmap(mapping.base, mapping.base_length);
		return rc;
	}
	*ret = mapping;
	return 0;
}

void vsp_mapping_done(struct vsp_mapping *mapping)
{
	if (!mapping->start)
		return;
	pthread_mutex_lock(&lock);
	atomic_store(&slots[mapping->slot].start, 0);
	pthread_mutex_unlock(&lock);
	munmap(mapping->base, mapping->base_length);
	*mapping = (struct vsp_mapping){ 0 };
}

bool vsp_mapping_any_lost(unsigned *seen)
{
	unsigned count = atomic_load_explicit(&lost_count, memory_order_relaxed);
	bool any = count != *seen;

	*seen = count;
	return any;
}

bool vsp_mapping_lost(const struct vsp_mapping *mapping)
{
	return mapping->start && atomic_load(&slots[mapping->slot].lost);
}
