#include "tests/support/workdir.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/must.h"

static char above[PATH_MAX], directory[] = "test-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void workdir_enter(void)
{
	must(getcwd(above, sizeof(above)) && mkdtemp(directory) && chdir(directory) == 0,
	     "no directory can be made for the test's files");
}

void workdir_leave(void)
{
	must(chdir(above) == 0, "%s has gone", above);
	remove_tree(directory);
}
