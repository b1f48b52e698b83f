/*
 * UTF-8 and UTF-16 (Unicode 15, chapter 3.9), for the file names inside VHD headers.
 */
#ifndef HVCORE_UTF_H
#define HVCORE_UTF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hv_utf16_order { HV_UTF16_BE, HV_UTF16_LE };

/* Bytes of the well-formed character that text starts with; 0 at its end and where there is none. */
size_t hv_utf8_length(const char *text);

/* The same; *ret is the character, untouched where there is none. */
size_t hv_utf8_decode(const char *text, uint32_t *ret);

/* Is text well-formed UTF-8 (no surrogates, no overlong forms, up to U+10FFFF)? */
bool hv_utf8_valid(const char *text);

/*
 * Encodes well-formed UTF-8 without its NUL. Returns the number of bytes written, -EINVAL when
 * text is not well-formed, -EOVERFLOW when size bytes do not hold it.
 */
ptrdiff_t hv_utf16_encode(const char *text, enum hv_utf16_order order, uint8_t *out, size_t size);

/*
 * Decodes size bytes, up to the first NUL unit; an odd last byte is ignored and an unpaired
 * surrogate becomes U+FFFD. Returns malloc'ed UTF-8 that the caller frees, or NULL (no memory).
 */
char *hv_utf16_decode(const uint8_t *in, size_t size, enum hv_utf16_order order);

#endif
