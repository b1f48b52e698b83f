/*
 * What O_DIRECT wants, from statx (Linux 6.1), else by trying. Apart because the kernel's struct
 * statx and the C library's cannot be seen by one file.
 */
#include <fcntl.h>
#include <linux/stat.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

unsigned hv_direct_alignment(int fd);

static unsigned ask(int fd)
{
	struct statx stx = { 0 };
	unsigned align;

	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	align = stx.stx_dio_offset_align;
	return stx.stx_dio_mem_align > align ? stx.stx_dio_mem_align : align;
}

static unsigned try_reads(int fd)
{
	unsigned align = 4096;
	void *buf;

	if (posix_memalign(&buf, 4096, 4096))
		return align;
	for (unsigned n = 512; n < 4096; n *= 2) {
		if (pread(fd, buf, n, n) >= 0) {
			align = n;
			break;
		}
	}
	free(buf);
	return align;
}

unsigned hv_direct_alignment(int fd)
{
	unsigned align;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT))
		return 0;
	align = ask(fd);
	if (!align)
		align = try_reads(fd);
	return align < 512 ? 512 : align;
}
