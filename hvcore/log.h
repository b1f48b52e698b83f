/*
 * Diagnostics of the libraries: silent until a program raises the level (or HVKIT_LOG=debug is in
 * the environment), one line each on standard error. Safe from any thread.
 */
#ifndef HVCORE_LOG_H
#define HVCORE_LOG_H

enum hv_log_level { HV_LOG_NONE, HV_LOG_WARN, HV_LOG_INFO, HV_LOG_DEBUG };

void hv_log_set_level(enum hv_log_level level);

void hv_log(enum hv_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
