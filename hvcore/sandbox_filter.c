/*
 * The filter of system calls. What is not named is allowed: a reader computes, reads and writes
 * what it has open, allocates memory and makes threads.
 *
 * Readers that insist on becoming daemons are told that they have: fork "returns" 0, as in the
 * child, and setsid works.
 */
#include "hvcore/sandbox_filter.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "hvcore/syscall_filter.h"

#define ON HV_ON
#define ANSWER HV_ANSWER
#define DENY(nr) HV_ON(nr, HV_ANSWER(EPERM))

static const struct sock_filter program[] = {
	HV_FILTER_ARCH,
#ifdef __x86_64__
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
	ON(__NR_pread64, SECCOMP_RET_ALLOW), /* unless reads are watched */
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
	HV_RETURN(SECCOMP_RET_ALLOW),
	HV_LOAD_LOW(args[0]),
	HV_ON_BITS(CLONE_THREAD, SECCOMP_RET_ALLOW),
	HV_ON_BITS(CLONE_VM, ANSWER(EPERM)),
	HV_RETURN(ANSWER(0)),
};

#define LENGTH (sizeof(program) / sizeof(*program))

int hv_sandbox_filter(bool reads)
{
	struct sock_filter own[LENGTH];
	struct sock_fprog filter = { .len = LENGTH, .filter = own };
	long fd;

	if (!HV_ARCH)
		return -ENOSYS;
	for (size_t i = 0; i < LENGTH; i++) {
		own[i] = program[i];
		if (reads && i && program[i - 1].k == __NR_pread64 &&
		    BPF_OP(program[i - 1].code) == BPF_JEQ)
			own[i].k = SECCOMP_RET_USER_NOTIF;
	}
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		     &filter);
	return fd < 0 ? -errno : (int)fd;
}
