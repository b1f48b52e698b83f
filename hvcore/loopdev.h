/*
 * Inside hvcore: loop devices take no file locks, so that sysfs is asked whether a file is behind
 * one.
 */
#ifndef HVCORE_LOOPDEV_H
#define HVCORE_LOOPDEV_H

#include <stdbool.h>
#include <sys/types.h>

/* Is the file with this identity behind a loop device? */
bool hv_loopdev_uses(dev_t dev, ino_t ino);

#endif
