/*
 * Sizes as people write them. K, M, G, T are powers of 1024, with or without "iB"; "KB", "MB" and
 * their like are refused because they might be meant as powers of 1000. "1.5T" is exact or an error.
 */
#ifndef HVCORE_SIZE_H
#define HVCORE_SIZE_H

#include <stdint.h>

#include "hvcore/err.h"

/* Bytes. -EINVAL with a sentence for anything that is not a size; -EOVERFLOW past 2^63 - 1. */
int hv_size_parse(const char *text, uint64_t *ret, struct hv_err *err);

#define HV_SIZE_TEXT_SIZE 24

/* "50 GiB", "1.5 TiB", "512 B": the shortest exact form, else three significant digits. */
void hv_size_format(uint64_t bytes, char text[HV_SIZE_TEXT_SIZE]);

#endif
