/*
 * What a confined process may do, and may not: each question in a process of its own.
 */
#include "vsp-storage/confine.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hvcore/disk.h"
#include "hvcore/file.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FILTERED 0
#else
#define FILTERED 1
#endif

/* The errno of what is refused, 0 of what works. */
static int ask(int (*question)(void))
{
	pid_t child = fork();
	int status;
	HV_ERR(err);

	if (child == 0) {
		if (vsp_confine(&err)) {
			fprintf(stderr, "%s\n", err.sentence);
			_exit(255);
		}
		_exit(question());
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
	cr_assert_neq(WEXITSTATUS(status), 255, "not confined");
	return WEXITSTATUS(status);
}

#define result_of(call) ((call) < 0 ? errno : 0)

static int other_program(void)
{
	char *const argv[] = { (char *)"true", NULL }, *const envp[] = { NULL };

	return result_of(execve("/bin/true", argv, envp));
}

static int other_process(void)
{
	return result_of(fork());
}

static int trace(void)
{
	return result_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int mount_it(void)
{
	return result_of(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int raw_socket(void)
{
	return result_of(socket(AF_PACKET, SOCK_RAW, 0));
}

static int become_somebody(void)
{
	return result_of((int)syscall(SYS_setuid, 12345));
}

static int load_module(void)
{
	return result_of((int)syscall(SYS_init_module, NULL, 0, ""));
}

Test(confine, what_serving_disks_does_not_need_is_refused)
{
	if (!FILTERED)
		cr_skip_test("the sanitizers need more");
	cr_assert_eq(ask(other_program), ENOSYS);
	cr_assert_eq(ask(other_process), EPERM);
	cr_assert_eq(ask(trace), ENOSYS);
	cr_assert_eq(ask(mount_it), ENOSYS);
	cr_assert_eq(ask(raw_socket), EAFNOSUPPORT);
	cr_assert_eq(ask(become_somebody), ENOSYS);
	cr_assert_eq(ask(load_module), ENOSYS);
}

static void *thread(void *arg)
{
	*(int *)arg = other_program();
	return NULL;
}

static int threads(void)
{
	pthread_t id;
	int refused = 0;

	if (pthread_create(&id, NULL, thread, &refused) || pthread_join(id, NULL))
		return 1;
	return refused == (FILTERED ? ENOSYS : refused) ? 0 : 2;
}

static int sockets(void)
{
	int pair[2];

	return result_of(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) ||
	       result_of(socket(AF_INET, SOCK_STREAM, 0)) ||
	       result_of(socket(AF_INET6, SOCK_STREAM, 0));
}

static int names(void)
{
	struct addrinfo *list;

	if (!getgrnam("root") || getaddrinfo("localhost", "10809", NULL, &list))
		return 1;
	freeaddrinfo(list);
	return 0;
}

static int result = 1;

static void written(struct hv_io *io, int rc)
{
	(void)io;
	result = rc;
}

static int file(unsigned flags)
{
	char page[4096] __attribute__((aligned(4096))) = "hello";
	struct iovec iov = { page, sizeof(page) };
	struct hv_io io = { .op = HV_WRITE,
			    .flags = HV_IO_FUA,
			    .length = sizeof(page),
			    .iov = &iov,
			    .iov_count = 1,
			    .done = written };
	struct hv_file *opened;
	struct hv_loop *loop;
	HV_ERR(err);
	int rc = hv_loop_new(&loop, &err);

	if (rc == 0)
		rc = hv_file_create("confined", flags, true, loop, &opened, &err);
	if (rc == 0)
		rc = hv_file_publish(opened, &err);
	if (rc) {
		fprintf(stderr, "%s\n", err.sentence);
		return 1;
	}
	hv_file_submit(opened, &io);
	while (result > 0)
		hv_loop_turn(loop, true);
	hv_file_close(opened);
	hv_loop_free(loop);
	return result || result_of(rename("confined", "renamed")) || result_of(unlink("renamed"));
}

static int cached_file(void)
{
	return file(HV_FILE_WRITE);
}

static int direct_file(void)
{
	return file(HV_FILE_WRITE | HV_FILE_DIRECT);
}

Test(confine, files_threads_and_sockets_work)
{
	cr_assert_eq(ask(threads), 0);
	cr_assert_eq(ask(sockets), 0);
	cr_assert_eq(ask(names), 0);
	cr_assert_eq(ask(cached_file), 0);
	cr_assert_eq(ask(direct_file), 0);
}

/* Of /proc/self/status. */
static unsigned long long status_of(const char *key)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long long value = ~0ull;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			value = strtoull(line + strlen(key) + 1, NULL,
					 strstr(key, "Cap") ? 16 : 10);
	if (status)
		fclose(status);
	return value;
}

static int privileges(void)
{
	unsigned long long kept = 1 << 0 | 1 << 1 | 1 << 2; /* CHOWN, DAC_* */

	if (status_of("CapEff") & ~kept || status_of("CapPrm") & ~kept || status_of("CapInh"))
		return 1;
	if (geteuid() == 0 && !(status_of("CapEff") & kept))
		return 2;
	if (status_of("NoNewPrivs") != 1)
		return 3;
	return status_of("Seccomp") == (FILTERED ? 2 : 0) ? 0 : 4;
}

Test(confine, privileges_are_dropped)
{
	cr_assert_eq(ask(privileges), 0);
}
