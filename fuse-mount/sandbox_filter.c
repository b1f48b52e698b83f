/*
 * The filter of system calls. What is not named is allowed: a reader computes, reads and writes
 * what it has open, allocates memory and makes threads.
 *
 * Readers that insist on becoming daemons are told that they have: fork "returns" 0, as in the
 * child, and setsid works.
 */
#include "fuse-mount/sandbox_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#else
#define ARCH 0 /* none: fm_sandbox_filter refuses */
#endif

#define ANSWER(code) (SECCOMP_RET_ERRNO | ((code)&SECCOMP_RET_DATA))
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define ON(nr, what) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), RETURN(what)
#define DENY(nr) ON(nr, ANSWER(EPERM))
#define LOW_WORD(field) (offsetof(struct seccomp_data, field) + LOW_WORD_AT)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_WORD_AT 0
#else
#define LOW_WORD_AT 4
#endif

static const struct sock_filter program[] = {
	LOAD(offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(offsetof(struct seccomp_data, nr)),
#ifdef __x86_64__
	/* The x32 calls have numbers of their own. */
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	ON(__NR_open, SECCOMP_RET_USER_NOTIF),
	DENY(__NR_creat),
	DENY(__NR_unlink),
	DENY(__NR_rmdir),
	DENY(__NR_rename),
	DENY(__NR_link),
	DENY(__NR_symlink),
	DENY(__NR_mkdir),
	DENY(__NR_mknod),
	DENY(__NR_chmod),
	DENY(__NR_chown),
	DENY(__NR_lchown),
	DENY(__NR_utime),
	DENY(__NR_utimes),
	DENY(__NR_futimesat),
	ON(__NR_fork, ANSWER(0)),
	DENY(__NR_vfork),
#endif
	ON(__NR_openat, SECCOMP_RET_USER_NOTIF),
	ON(__NR_execve, SECCOMP_RET_USER_NOTIF),
	ON(__NR_openat2, ANSWER(ENOSYS)),
	DENY(__NR_execveat),
	DENY(__NR_open_by_handle_at),

	ON(__NR_mount, ANSWER(0)),
	ON(__NR_umount2, ANSWER(0)),
	ON(__NR_setsid, ANSWER(0)),
	ON(__NR_clone3, ANSWER(ENOSYS)), /* the C library then uses clone */

	DENY(__NR_unlinkat),
	DENY(__NR_renameat2),
#ifdef __NR_renameat
	DENY(__NR_renameat),
#endif
	DENY(__NR_linkat),
	DENY(__NR_symlinkat),
	DENY(__NR_mkdirat),
	DENY(__NR_mknodat),
	DENY(__NR_truncate),
	DENY(__NR_fchmodat),
	DENY(__NR_fchownat),
	DENY(__NR_utimensat),
	DENY(__NR_setxattr),
	DENY(__NR_lsetxattr),
	DENY(__NR_removexattr),
	DENY(__NR_lremovexattr),
	DENY(__NR_chroot),
	DENY(__NR_pivot_root),
	DENY(__NR_unshare),
	DENY(__NR_setns),
	DENY(__NR_open_tree),
	DENY(__NR_move_mount),
	DENY(__NR_fsopen),
	DENY(__NR_fspick),

	DENY(__NR_socket),
	DENY(__NR_socketpair),
	DENY(__NR_connect),
	DENY(__NR_bind),
	DENY(__NR_kill),
	DENY(__NR_tkill),
	DENY(__NR_rt_sigqueueinfo),
	DENY(__NR_rt_tgsigqueueinfo),
	DENY(__NR_pidfd_open),
	DENY(__NR_pidfd_getfd),
	DENY(__NR_pidfd_send_signal),
	DENY(__NR_ptrace),
	DENY(__NR_process_vm_readv),
	DENY(__NR_process_vm_writev),
	DENY(__NR_prlimit64),
	DENY(__NR_setpriority),
	DENY(__NR_sched_setscheduler),
	DENY(__NR_shmget),
	DENY(__NR_msgget),
	DENY(__NR_semget),
	DENY(__NR_mq_open),
	DENY(__NR_memfd_create),
	DENY(__NR_inotify_init1),
	DENY(__NR_fanotify_init),

	DENY(__NR_bpf),
	DENY(__NR_perf_event_open),
	DENY(__NR_userfaultfd),
	DENY(__NR_io_uring_setup),
	DENY(__NR_io_setup),
	DENY(__NR_add_key),
	DENY(__NR_request_key),
	DENY(__NR_keyctl),

	/* A thread is one thing, a process another. */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 1, 0),
	RETURN(SECCOMP_RET_ALLOW),
	LOAD(LOW_WORD(args[0])),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
	RETURN(SECCOMP_RET_ALLOW),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_VM, 0, 1),
	RETURN(ANSWER(EPERM)),
	RETURN(ANSWER(0)),
};

int fm_sandbox_filter(void)
{
	struct sock_fprog filter = {
		.len = sizeof(program) / sizeof(*program),
		.filter = (struct sock_filter *)(uintptr_t)program,
	};
	long fd;

	if (!ARCH)
		return -ENOSYS;
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		     &filter);
	return fd < 0 ? -errno : (int)fd;
}
