/* The thread pool: the one global mutable state of the engine, because threads are a property of the process.
 *
 * A region is one call of tm_parallel. Opening it bumps `opened`, which workers watch: spinning at first, since a
 * training step has many regions in a row, then asleep. A worker that comes while seats are left takes one, and tasks
 * from `next` until they run out. The caller does the same, withdraws the seats nobody took, and waits for the workers
 * that joined, but for no others: a worker that the system keeps waiting delays nobody. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "parallel.h"
#include "error.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MAX_THREADS = 256,
    SPINS = 2000, /* looks for news before sleeping: tens of microseconds, as between two products of a step */
};

static atomic_int threads; /* 0: not yet known */
static atomic_flag in_use = ATOMIC_FLAG_INIT;
static _Thread_local int in_region;

/* Guarded by the lock, except that atomics may be read without it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t region_opened = PTHREAD_COND_INITIALIZER, all_left = PTHREAD_COND_INITIALIZER;
static int workers, sleeping, seats;
static atomic_int joined;
static atomic_uint opened;

/* The open region; constant while anyone is in it, except `next`. */
static void (*region_run)(void *context, int64_t task);
static void *region_context;
static int64_t region_tasks;
static _Alignas(64) _Atomic int64_t next;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_tasks(void)
{
    const int64_t tasks = region_tasks;
    for (int64_t task; (task = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed)) < tasks;)
        region_run(region_context, task);
}

static void *work(void *unused)
{
    unsigned seen = 0;
    in_region = 1; /* what a task calls runs serially */
    pthread_mutex_lock(&lock);
    for (;;) {
        if (seats > 0 && seen != atomic_load(&opened)) {
            seen = atomic_load(&opened);
            seats--;
            atomic_fetch_add(&joined, 1);
            pthread_mutex_unlock(&lock);
            take_tasks();
            pthread_mutex_lock(&lock);
            if (atomic_fetch_sub(&joined, 1) == 1)
                pthread_cond_signal(&all_left);
        }
        seen = atomic_load(&opened);
        pthread_mutex_unlock(&lock);
        for (int spin = 0; spin < SPINS && atomic_load_explicit(&opened, memory_order_relaxed) == seen; spin++)
            pause_briefly();
        pthread_mutex_lock(&lock);
        sleeping++;
        while (atomic_load(&opened) == seen)
            pthread_cond_wait(&region_opened, &lock);
        sleeping--;
    }
    return unused;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The child has one thread, and whatever region was open has nobody left in it. */
static void after_fork_in_child(void)
{
    workers = sleeping = seats = 0;
    atomic_store(&joined, 0);
    atomic_flag_clear(&in_use);
    pthread_cond_init(&region_opened, NULL); /* forgets the parent's sleepers */
    pthread_cond_init(&all_left, NULL);
    pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* With the lock held. Fewer workers than asked for is no failure: the caller does what they would have done. */
static void start_workers(int wanted)
{
    sigset_t all, before;
    if (workers >= wanted)
        return;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t worker; workers < wanted && pthread_create(&worker, NULL, work, NULL) == 0; workers++)
        pthread_detach(worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void open_region(int64_t tasks, int others, void (*run)(void *, int64_t), void *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    region_run = run;
    region_context = context;
    region_tasks = tasks;
    atomic_store_explicit(&next, 0, memory_order_relaxed);
    seats = others;
    atomic_fetch_add(&opened, 1);
    start_workers(others);
    for (int woken = 0; woken < sleeping && woken < others; woken++)
        pthread_cond_signal(&region_opened);
    pthread_mutex_unlock(&lock);
}

static void close_region(void)
{
    pthread_mutex_lock(&lock);
    seats = 0;
    if (atomic_load(&joined)) {
        pthread_mutex_unlock(&lock);
        for (int spin = 0; spin < SPINS && atomic_load_explicit(&joined, memory_order_relaxed); spin++)
            pause_briefly();
        pthread_mutex_lock(&lock);
        while (atomic_load(&joined))
            pthread_cond_wait(&all_left, &lock);
    }
    pthread_mutex_unlock(&lock);
}

void tm_parallel(int64_t tasks, void (*run)(void *context, int64_t task), void *context)
{
    int64_t others = tm_num_threads() - 1;
    if (others > tasks - 1)
        others = tasks - 1;
    if (others < 1 || in_region || atomic_flag_test_and_set_explicit(&in_use, memory_order_acquire)) {
        for (int64_t task = 0; task < tasks; task++)
            run(context, task);
        return;
    }
    in_region = 1;
    open_region(tasks, (int)others, run, context);
    take_tasks();
    close_region();
    in_region = 0;
    atomic_flag_clear_explicit(&in_use, memory_order_release);
}

static int default_threads(void)
{
    const char *text = getenv("TINYML_NUM_THREADS");
    if (text) {
        char *end;
        long n = strtol(text, &end, 10);
        if (end != text && *end == '\0' && n >= 1)
            return n < MAX_THREADS ? (int)n : MAX_THREADS;
    }
    long processors;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        processors = CPU_COUNT(&set);
    else
#endif
        processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors < MAX_THREADS ? (int)processors : MAX_THREADS;
}

int tm_num_threads(void)
{
    int n = atomic_load_explicit(&threads, memory_order_relaxed), unknown = 0;
    if (n)
        return n;
    atomic_compare_exchange_strong(&threads, &unknown, default_threads()); /* unless another thread was first */
    return atomic_load_explicit(&threads, memory_order_relaxed);
}

int tm_set_threads(int n)
{
    if (n < 1)
        return tm_fail(TM_VALUE_ERROR, "set_num_threads: got %d, expected 1 or more", n);
    atomic_store_explicit(&threads, n < MAX_THREADS ? n : MAX_THREADS, memory_order_relaxed);
    return 0;
}
