/*
 * The target as a plain program.
 *
 *	TARGET FILE_OR_DIRECTORY...	runs the files, and all files of the directories
 *
 * The last line counts them. What goes wrong is said together with the name of the file, and ends
 * the program: a sanitizer's report, a finding, or more than 10 seconds for one file.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hvcore/cleanup.h"
#include "tests/fuzz/harness/fuzz.h"

#define SECONDS 10

/* Of the sanitizers. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
void __ubsan_on_report(void);

static const char *current;
static unsigned count;

static void say_file(void)
{
	static const char words[] = "\nwhile running ";

	if (!current)
		return;
	if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0 ||
	    write(STDERR_FILENO, current, strlen(current)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(1);
}

void __ubsan_on_report(void)
{
	say_file();
}

static void on_signal(int number)
{
	static const char words[] = "finding: no end after 10 seconds\n";

	if (number == SIGALRM && write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
		_exit(1);
	say_file();
	_exit(1);
}

static int run_file(const char *path)
{
	FILE *file = fopen(path, "re");
	HV_AUTO(free) uint8_t *data = NULL;
	struct stat st;
	size_t size;

	if (!file || fstat(fileno(file), &st)) {
		perror(path);
		return 1;
	}
	/* Exactly as large, so that reading past the end is seen. */
	data = malloc((size_t)st.st_size);
	size = fread(data, 1, (size_t)st.st_size, file);
	fclose(file);
	current = path;
	alarm(SECONDS);
	fuzz_target.run(data, size);
	alarm(0);
	current = NULL;
	count++;
	return 0;
}

static int is_shown(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run_path(const char *path)
{
	struct dirent **entries;
	struct stat st;
	int n, failed = 0;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return run_file(path);
	n = scandir(path, &entries, is_shown, alphasort);
	if (n < 0) {
		perror(path);
		return 1;
	}
	for (int i = 0; i < n; i++) {
		HV_AUTO(free) char *below = NULL;

		if (asprintf(&below, "%s/%s", path, entries[i]->d_name) < 0)
			abort();
		failed |= run_path(below);
		free(entries[i]);
	}
	free(entries);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	signal(SIGABRT, on_signal);
	signal(SIGALRM, on_signal);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(say_file);
	for (int i = 1; i < argc; i++)
		failed |= run_path(argv[i]);
	hv_loop_free(fuzz_loop());
	printf("%u inputs\n", count);
	return failed || !count;
}
