/*
 * Capabilities, and the filter of system calls: what is named is allowed.
 *
 * Up to the first use of an argument, the answer depends on the call's number alone, which lets the
 * kernel (since 5.11) work it out once and not again for every call.
 */
#include "vsp-storage/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hvcore/syscall_filter.h"

/* Capabilities. */

#define bit(capability) (UINT64_C(1) << (capability))
#define KEPT (bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) | bit(CAP_CHOWN))

/* What others could get from us; without CAP_SETPCAP it stays, and is of no use without exec. */
static void bound_capabilities(void)
{
	for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (capability >= 64 || !(KEPT & bit(capability)))
			prctl(PR_CAPBSET_DROP, capability);
}

static int drop_capabilities(struct hv_err *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	bound_capabilities();
	if (syscall(SYS_capget, &header, data))
		return hv_fail_errno(err, -errno, "cannot look at our capabilities");
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t kept = (uint32_t)(KEPT >> 32 * i) & data[i].permitted;

		data[i] = (struct __user_cap_data_struct){ .effective = kept, .permitted = kept };
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, data))
		return hv_fail_errno(err, -errno, "cannot drop capabilities");
	return 0;
}

/* System calls. */

#define ALLOW(name) HV_ON(__NR_##name, SECCOMP_RET_ALLOW)

/* clang-format off */
static const struct sock_filter program[] = {
	HV_FILTER_ARCH,

	/* Disks. */
	ALLOW(io_submit), ALLOW(io_getevents), ALLOW(io_pgetevents), ALLOW(io_setup),
	ALLOW(io_destroy), ALLOW(io_cancel),
	ALLOW(pread64), ALLOW(pwrite64), ALLOW(preadv), ALLOW(pwritev), ALLOW(preadv2),
	ALLOW(pwritev2), ALLOW(read), ALLOW(write), ALLOW(readv), ALLOW(writev), ALLOW(lseek),
	ALLOW(fsync), ALLOW(fdatasync), ALLOW(sync_file_range), ALLOW(fallocate),
	ALLOW(ftruncate), ALLOW(copy_file_range), ALLOW(fadvise64), ALLOW(readahead),

	/* Waiting, and waking each other. */
	ALLOW(futex), ALLOW(epoll_pwait), ALLOW(epoll_ctl), ALLOW(epoll_create1), ALLOW(eventfd2),
	ALLOW(signalfd4), ALLOW(timerfd_create), ALLOW(timerfd_settime), ALLOW(timerfd_gettime),
	ALLOW(ppoll), ALLOW(pselect6), ALLOW(clock_gettime), ALLOW(clock_getres),
	ALLOW(clock_nanosleep), ALLOW(nanosleep), ALLOW(gettimeofday), ALLOW(restart_syscall),

	/* Guests and clients. */
	ALLOW(recvmsg), ALLOW(sendmsg), ALLOW(recvfrom), ALLOW(sendto), ALLOW(recvmmsg),
	ALLOW(sendmmsg), ALLOW(accept4), ALLOW(accept), ALLOW(connect), ALLOW(bind), ALLOW(listen),
	ALLOW(shutdown), ALLOW(getsockname), ALLOW(getpeername), ALLOW(getsockopt),
	ALLOW(setsockopt), ALLOW(memfd_create),

	/* Files. */
	ALLOW(openat), ALLOW(close), ALLOW(fstat), ALLOW(newfstatat), ALLOW(statx), ALLOW(statfs),
	ALLOW(fstatfs), ALLOW(fcntl), ALLOW(flock), ALLOW(ioctl), ALLOW(dup), ALLOW(dup3),
	ALLOW(pipe2), ALLOW(getdents64), ALLOW(getcwd), ALLOW(readlinkat), ALLOW(faccessat),
	ALLOW(faccessat2), ALLOW(mkdirat), ALLOW(unlinkat), ALLOW(renameat2), ALLOW(linkat),
	ALLOW(fchmod), ALLOW(fchmodat), ALLOW(fchown), ALLOW(fchownat), ALLOW(utimensat),
	ALLOW(umask), ALLOW(fgetxattr), ALLOW(fsetxattr), ALLOW(close_range),

	/* Memory and threads. */
	ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(mprotect), ALLOW(mremap), ALLOW(madvise),
	ALLOW(exit), ALLOW(exit_group), ALLOW(gettid), ALLOW(getpid), ALLOW(tgkill), ALLOW(rseq),
	ALLOW(set_robust_list), ALLOW(set_tid_address), ALLOW(sched_yield),
	ALLOW(sched_getaffinity), ALLOW(sched_setaffinity), ALLOW(getcpu), ALLOW(membarrier),
	ALLOW(rt_sigaction), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(rt_sigtimedwait),
	ALLOW(sigaltstack), ALLOW(prctl), ALLOW(prlimit64),

	/* Who we are, and where. */
	ALLOW(getuid), ALLOW(geteuid), ALLOW(getgid), ALLOW(getegid), ALLOW(getgroups),
	ALLOW(getppid), ALLOW(getrandom), ALLOW(getrusage), ALLOW(uname), ALLOW(sysinfo),

#ifdef __NR_open
	/* The same by their older names. */
	ALLOW(open), ALLOW(stat), ALLOW(lstat), ALLOW(access), ALLOW(readlink), ALLOW(mkdir),
	ALLOW(rmdir), ALLOW(unlink), ALLOW(rename), ALLOW(link), ALLOW(chmod),
	ALLOW(chown), ALLOW(lchown), ALLOW(dup2), ALLOW(pipe), ALLOW(poll), ALLOW(select),
	ALLOW(epoll_wait), ALLOW(epoll_create), ALLOW(eventfd), ALLOW(getrlimit), ALLOW(time),
#endif
#ifdef __NR_renameat
	ALLOW(renameat),
#endif
#ifdef __NR_arch_prctl
	ALLOW(arch_prctl),
#endif
#ifdef __NR_epoll_pwait2
	ALLOW(epoll_pwait2),
#endif

	/* clone3 cannot be looked into: then the C library uses clone. Threads, no processes. */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 4),
	HV_LOAD_LOW(args[0]),
	HV_ON_BITS(CLONE_THREAD, SECCOMP_RET_ALLOW),
	HV_RETURN(HV_ANSWER(EPERM)),

	/* The last of these is what the C library looks up addresses with. */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 1, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socketpair, 0, 10),
	HV_LOAD_LOW(args[0]),
	HV_ON(AF_UNIX, SECCOMP_RET_ALLOW),
	HV_ON(AF_INET, SECCOMP_RET_ALLOW),
	HV_ON(AF_INET6, SECCOMP_RET_ALLOW),
	HV_ON(AF_NETLINK, SECCOMP_RET_ALLOW),
	HV_RETURN(HV_ANSWER(EAFNOSUPPORT)),

	HV_RETURN(HV_ANSWER(ENOSYS)),
};
/* clang-format on */

/* The sanitizers trace us, and fork. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int filter_calls(struct hv_err *err)
{
	struct sock_fprog filter = {
		.len = sizeof(program) / sizeof(*program),
		.filter = (struct sock_filter *)(uintptr_t)program,
	};
	unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;

	if (!HV_ARCH || SANITIZED)
		return 0;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter))
		return hv_fail_errno(
			err, -errno,
			"this kernel cannot filter our system calls (--sandbox off goes without)");
	return 0;
}

int vsp_confine(struct hv_err *err)
{
	int rc = drop_capabilities(err);

	if (rc)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return hv_fail_errno(err, -errno, "cannot do without new privileges");
	return filter_calls(err);
}
