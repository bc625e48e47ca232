/* One small pool of threads for large loops and products. */
#ifndef TM_PARALLEL_H
#define TM_PARALLEL_H

#include <stdint.h>

/* Runs run(context, 0) to run(context, tasks - 1), each once, on the calling thread and the pool's, in no set order;
 * returns when all are done. Tasks must not depend on one another, nor on the thread they run on. The caller runs all
 * of them itself when the pool is in use: by another thread, or by the task it is called from. */
void tm_parallel(int64_t tasks, void (*run)(void *context, int64_t task), void *context);

/* How many threads a call may use, the caller's included: TINYML_NUM_THREADS, else the processors this process may use.
 * */
int tm_num_threads(void);
/* Sets it for the calls that follow; 0, or -1 after tm_fail when n < 1. */
int tm_set_threads(int n);

#endif
