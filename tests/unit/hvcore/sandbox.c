/*
 * What a confined program can do, tried with programs that are everywhere.
 */
#include "hvcore/sandbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static char volume[] = "/tmp/hvkit-sandbox-volume.XXXXXX";
static char other[] = "/tmp/hvkit-sandbox-other.XXXXXX";
static char said[4096];

static void make_file(char *path, const char *text)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(fchmod(fd, 0666), 0);
	close(fd);
}

static void make_files(void)
{
	if (!hv_sandbox_possible())
		cr_skip_test("seccomp user notification is not there");
	make_file(volume, "the volume");
	make_file(other, "the secret");
}

static void remove_files(void)
{
	unlink(volume);
	unlink(other);
}

TestSuite(sandbox, .init = make_files, .fini = remove_files, .timeout = 20);

/* Runs argv to its end; what it says is in said. */
static const char *run(char *const argv[], bool close_after_start)
{
	struct hv_sandbox sandbox = { .volume_path = volume,
				      .mount_path = "/nonexistent",
				      .device_fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
				      .volume_fd = open(volume, O_RDWR | O_CLOEXEC) };
	struct pollfd fds[2];
	size_t length = 0;
	ssize_t got;
	HV_ERR(err);

	cr_assert_eq(hv_sandbox_start(&sandbox, argv, NOBODY, NOBODY, &err), 0, "%s", err.sentence);
	fds[0] = (struct pollfd){ .fd = sandbox.notify_fd, .events = POLLIN };
	do {
		cr_assert_geq(poll(fds, 1, -1), 0);
		if (fds[0].revents & POLLIN)
			hv_sandbox_turn(&sandbox);
		sandbox.closed |= close_after_start && sandbox.started;
	} while (!(fds[0].revents & (POLLHUP | POLLERR)));
	while (length < sizeof(said) - 1 &&
	       (got = read(sandbox.stderr_fd, said + length, sizeof(said) - 1 - length)) > 0)
		length += (size_t)got;
	said[length] = '\0';
	close(sandbox.volume_fd);
	hv_sandbox_end(&sandbox);
	return said;
}

#define RUN(...) run((char *const[]){ __VA_ARGS__, NULL }, false)

Test(sandbox, the_volume_is_read)
{
	cr_assert_str_eq(RUN("/bin/cat", volume), "the volume");
}

Test(sandbox, no_other_file_is_read)
{
	const char *text = RUN("/bin/cat", other);

	cr_assert_null(strstr(text, "secret"), "%s", text);
	cr_assert_not_null(strstr(text, "Permission denied"), "%s", text);
}

Test(sandbox, a_way_around_through_what_may_be_read_is_none)
{
	char path[128];

	snprintf(path, sizeof(path), "/usr/../%s", other);
	cr_assert_not_null(strstr(RUN("/bin/cat", path), "Permission denied"), "%s", said);
	cr_assert_not_null(strstr(RUN("/bin/cat", "/proc/self/environ"), "denied"), "%s", said);
}

Test(sandbox, no_file_is_written_or_removed)
{
	char command[256];

	snprintf(command, sizeof(command), "echo x >%s", other);
	cr_assert_not_null(strstr(RUN("/bin/sh", "-c", command), "Permission denied"), "%s", said);
	RUN("/bin/rm", "-f", other);
	cr_assert_eq(access(other, F_OK), 0);
	RUN("/bin/mv", other, volume);
	cr_assert_eq(access(other, F_OK), 0);
	RUN("/bin/chmod", "0777", other);
	cr_assert_neq(access(other, X_OK), 0);
	RUN("/bin/mkdir", "/tmp/hvkit-sandbox-made");
	cr_assert_neq(access("/tmp/hvkit-sandbox-made", F_OK), 0);
}

Test(sandbox, no_other_program_is_executed)
{
	cr_assert_not_null(strstr(RUN("/usr/bin/env", "true"), "denied"), "%s", said);
}

Test(sandbox, no_other_process_is_made_or_killed)
{
	char command[64];

	/* A fork works, as the child: the shell comes to the end of the list before its time. */
	cr_assert_not_null(strstr(RUN("/bin/sh", "-c", "(echo one); echo two"), "one"));
	cr_assert_null(strstr(said, "two"), "%s", said);
	snprintf(command, sizeof(command), "kill -TERM %d", (int)getpid());
	cr_assert_not_null(strstr(RUN("/bin/sh", "-c", command), "not permitted"), "%s", said);
}

Test(sandbox, once_closed_nothing_is_opened)
{
	char *const argv[] = { (char[]){ "/bin/cat" }, volume, NULL };

	cr_assert_null(strstr(run(argv, true), "the volume"), "%s", said);
}

Test(sandbox, root_becomes_nobody)
{
	int uid = -1;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(sscanf(RUN("/usr/bin/id", "-u"), "%d", &uid), 1, "%s", said);
	cr_assert_eq(uid, NOBODY);
}

Test(sandbox, descriptors_of_the_parent_stay_there)
{
	int secret = open(other, O_RDONLY);
	char path[32];

	snprintf(path, sizeof(path), "/dev/fd/%d", secret);
	cr_assert_null(strstr(RUN("/bin/cat", path), "secret"), "%s", said);
	close(secret);
}

/* A tool whose reads are watched: the linker's, of libraries, are among them. */
static unsigned asked;
static int answer;

static int count_read(struct hv_sandbox *sandbox, uint64_t offset, uint64_t length)
{
	(void)offset;
	cr_assert_gt(length, 0);
	cr_assert_str_eq(sandbox->volume_path, volume);
	asked++;
	return answer;
}

static int run_tool(char *const argv[])
{
	struct hv_sandbox sandbox = { .volume_path = volume,
				      .device_fd = -1,
				      .volume_fd = open(volume, O_RDONLY | O_CLOEXEC),
				      .fill = count_read,
				      .output = true };
	struct pollfd fd = { .events = POLLIN };
	ssize_t got;
	HV_ERR(err);

	cr_assert_eq(hv_sandbox_start(&sandbox, argv, NOBODY, NOBODY, &err), 0, "%s", err.sentence);
	fd.fd = sandbox.notify_fd;
	do {
		cr_assert_geq(poll(&fd, 1, -1), 0);
		if (fd.revents & POLLIN)
			hv_sandbox_turn(&sandbox);
	} while (!(fd.revents & (POLLHUP | POLLERR)));
	got = read(sandbox.stdout_fd, said, sizeof(said) - 1);
	said[got > 0 ? got : 0] = '\0';
	close(sandbox.volume_fd);
	return hv_sandbox_end(&sandbox);
}

Test(sandbox, output_is_apart_from_words_and_the_status_is_told)
{
	int status = run_tool(
		(char *const[]){ "/bin/sh", "-c", "echo out; echo words >&2; exit 7", NULL });

	cr_assert_str_eq(said, "out\n");
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

Test(sandbox, reads_are_announced_and_can_be_failed)
{
	char *const argv[] = { "/bin/cat", volume, NULL };

	cr_assert_eq(run_tool(argv), 0);
	cr_assert_str_eq(said, "the volume");
	cr_assert_gt(asked, 0);
	answer = -EIO;
	cr_assert_neq(run_tool(argv), 0);
}
