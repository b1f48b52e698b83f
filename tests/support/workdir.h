/*
 * A directory for a test's files, and its end.
 */
#ifndef TESTS_WORKDIR_H
#define TESTS_WORKDIR_H

/* A new directory in the current one, which it becomes. */
void workdir_enter(void);

/* Back to where one came from, wherever a test that failed stands; the directory goes. */
void workdir_leave(void);

/* Removes what is there, with all below it. */
void remove_tree(const char *path);

#endif
