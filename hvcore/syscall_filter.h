/*
 * What filters of system calls (seccomp(2), SECCOMP_SET_MODE_FILTER) are put together from.
 *
 *	static const struct sock_filter program[] = {
 *		HV_FILTER_ARCH,
 *		HV_ON(__NR_execve, HV_ANSWER(EPERM)),
 *		HV_RETURN(SECCOMP_RET_ALLOW),
 *	};
 */
#ifndef HVCORE_SYSCALL_FILTER_H
#define HVCORE_SYSCALL_FILTER_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define HV_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define HV_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define HV_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HV_ARCH AUDIT_ARCH_PPC64LE
#else
#define HV_ARCH 0 /* none: nothing is filtered */
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HV_LOW_WORD_AT 0
#else
#define HV_LOW_WORD_AT 4
#endif

/* Statements: loads of a field, or the low word of a long one; ends; answers by number. */
#define HV_LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define HV_LOAD_LOW(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + HV_LOW_WORD_AT)
#define HV_RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define HV_ANSWER(code) (SECCOMP_RET_ERRNO | ((code)&SECCOMP_RET_DATA))
/* By what was loaded: a number, or bits any of which are set. */
#define HV_ON(number, what) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), HV_RETURN(what)
#define HV_ON_BITS(bits, what) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, 1), HV_RETURN(what)

/* What comes first: another architecture's calls, and x32's, end the process. */
#ifdef __x86_64__
#define HV_FILTER_X32                                             \
	, BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1), \
		HV_RETURN(SECCOMP_RET_KILL_PROCESS)
#else
#define HV_FILTER_X32
#endif
#define HV_FILTER_ARCH                                                     \
	HV_LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HV_ARCH, 1, 0), \
		HV_RETURN(SECCOMP_RET_KILL_PROCESS), HV_LOAD(nr) HV_FILTER_X32

#endif
