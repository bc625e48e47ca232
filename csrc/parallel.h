/* One small pool of threads for large loops and products. */
#ifndef TM_PARALLEL_H
#define TM_PARALLEL_H

#include <stdint.h>

/* Runs run(context, 0) to run(context, tasks - 1), each once, on the calling thread and the pool's, in no set order;
 * returns when all are done. Tasks must not depend on one another, nor on the thread they run on. The caller runs all
 * of them itself when the pool is in use: by another thread, or by the task it is called from. */
void tm_parallel(int64_t tasks, void (*run)(void *context, int64_t task), void *context);

/* How n elements are cut into parts, each a task: by n alone, whatever the number of threads, so that sums over parts
 * have the same bits on any. A part has `least` elements, or a multiple where there would be too many parts. */
enum { TM_PART = 16384, TM_MAX_PARTS = 256 };
static inline int64_t tm_part(int64_t n, int64_t least)
{
    return n <= least * TM_MAX_PARTS ? least : (n / TM_MAX_PARTS / least + 1) * least;
}
static inline int64_t tm_parts(int64_t n, int64_t part)
{
    return (n + part - 1) / part;
}

/* tm_parallel, unless other threads would cost more than they are worth. `work` is the time that all of it takes, in
 * additions to elements of an array. To wake a thread takes some ten microseconds, to find one awake one or two. */
enum { TM_SHARED_WORK = 131072 };
static inline void tm_parallel_parts(int64_t parts, int64_t work, void (*run)(void *context, int64_t task),
                                     void *context)
{
    if (work >= TM_SHARED_WORK)
        tm_parallel(parts, run, context);
    else
        for (int64_t task = 0; task < parts; task++)
            run(context, task);
}

/* How many threads a call may use, the caller's included: TINYML_NUM_THREADS, else the processors this process may use.
 * */
int tm_num_threads(void);
/* Sets it for the calls that follow; 0, or -1 after tm_fail when n < 1. */
int tm_set_threads(int n);

#endif
