/* Thread-local failure state: set by tm_fail, read through the C API. */
#include "error.h"
#include "tinyml.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local int last_kind;
static _Thread_local char last_message[1024];

int tm_fail(tm_error_kind kind, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_message, sizeof last_message, format, arguments);
    va_end(arguments);
    last_kind = (int)kind;
    return -1;
}

int tm_fail_memory(const char *what, unsigned long long bytes)
{
    return tm_fail(TM_MEMORY_ERROR, "out of memory: %s needs %llu bytes; free tensors or use smaller batches", what,
                   bytes);
}

int tm_last_error(void)
{
    return last_kind;
}

const char *tm_error_message(void)
{
    return last_message;
}
