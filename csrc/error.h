/* Failure: a kind and a message, kept per thread until the next failure; C never exits on what a user did. */
#ifndef TM_ERROR_H
#define TM_ERROR_H

/* Each kind becomes one Python exception; tinyml/_core.py lists them in this order. */
typedef enum {
    TM_VALUE_ERROR,
    TM_SHAPE_ERROR,
    TM_DTYPE_ERROR,
    TM_INDEX_ERROR,
    TM_MEMORY_ERROR,
    TM_RUNTIME_ERROR,
    TM_PYTHON_ERROR, /* an exception that Python has put aside */
} tm_error_kind;

/* Sets the calling thread's failure and returns -1, so that `return tm_fail(...)` reads as one thought. The message
 * names the op, what it got, what it expected and the way out. */
int tm_fail(tm_error_kind kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The failure every allocation shares. */
int tm_fail_memory(const char *what, unsigned long long bytes);

#endif
