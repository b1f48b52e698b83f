/*
 * The progress line. Drawn on standard error only when that is a terminal, over itself, never wider
 * than the terminal, so that one "erase line" removes it.
 */
#include "hvcore/progress.h"

#include <math.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hvcore/clock.h"
#include "hvcore/size.h"

#define REDRAW_SECONDS 0.2
#define DEFAULT_COLUMNS 80
#define ERASE_TO_END "\033[K"

double hv_now(void)
{
	return (double)hv_now_ns() / 1e9;
}

static int columns(void)
{
	struct winsize window;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) < 0 || !window.ws_col)
		return DEFAULT_COLUMNS;
	return window.ws_col;
}

/* Amounts that change while one looks: always three digits, never the exact form. */
static void format_amount(double bytes, char text[HV_SIZE_TEXT_SIZE])
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	int places;

	for (; unit < 4 && bytes >= 999.5; unit++)
		bytes /= 1024;
	places = bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0;
	snprintf(text, HV_SIZE_TEXT_SIZE, "%.*f %s", unit ? places : 0, bytes, names[unit]);
}

/* "1:02:03 left", "2:03 left", or nothing where it cannot be told. */
static void format_left(double seconds, char *text, size_t size)
{
	unsigned long s = seconds < 360000 ? (unsigned long)(seconds + 0.5) : 0;

	text[0] = '\0';
	if (seconds >= 360000)
		return;
	if (s >= 3600)
		snprintf(text, size, ", %lu:%02lu:%02lu left", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(text, size, ", %lu:%02lu left", s / 60, s % 60);
}

static void draw(const struct hv_progress *progress, uint64_t done_bytes, double now)
{
	char amount[HV_SIZE_TEXT_SIZE], rate[HV_SIZE_TEXT_SIZE], left[32], line[256];
	double per_second = (double)done_bytes / (now - progress->started);
	double percent = 100, rest = 0;

	if (done_bytes < progress->total_bytes) {
		percent = 100 * (double)done_bytes / (double)progress->total_bytes;
		rest = (double)(progress->total_bytes - done_bytes);
	}
	format_amount((double)done_bytes, amount);
	format_amount(per_second, rate);
	format_left(per_second > 0 ? rest / per_second : INFINITY, left, sizeof(left));
	/* The label is cut to what leaves room for the numbers. */
	snprintf(line, sizeof(line), "%.150s: %d%%, %s, %s/s%s", progress->label, (int)percent,
		 amount, rate, left);
	fprintf(stderr, "\r%.*s" ERASE_TO_END, columns() - 1, line);
	fflush(stderr);
}

void hv_progress_start(struct hv_progress *progress, const char *label, uint64_t total_bytes,
		       bool quiet)
{
	*progress = (struct hv_progress){
		.label = label,
		.total_bytes = total_bytes,
		.active = !quiet && isatty(STDERR_FILENO),
		.started = hv_now(),
	};
	/* Work that is over at once draws nothing. */
	progress->drawn = progress->started;
}

void hv_progress_update(struct hv_progress *progress, uint64_t done_bytes)
{
	double now;

	if (!progress->active)
		return;
	now = hv_now();
	if (now - progress->drawn < REDRAW_SECONDS)
		return;
	draw(progress, done_bytes, now);
	progress->drawn = now;
}

void hv_progress_end(struct hv_progress *progress)
{
	if (progress->active)
		fputs("\r" ERASE_TO_END, stderr);
	progress->active = false;
}
