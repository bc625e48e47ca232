/* Per-thread pools: taking and giving back touches only the calling thread's lists, so neither locks nor waits. */
#include "pool.h"
#include "error.h"
#include "tinyml.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The sanitizer build sets TM_POOLED to 0: every block and buffer then comes from malloc, whose checks see misuse. */
#ifndef TM_POOLED
#define TM_POOLED 1
#endif

enum {
    BLOCK_CLASSES = 16,            /* 64, 128, ... 1024 bytes; larger nodes are rare and go to malloc */
    CHUNK_BYTES = 64 * 1024,       /* blocks are carved from chunks of this size, which are kept for good */
    BUFFER_CLASSES = 4 * 64,       /* four sizes per power of two, so that little of a large buffer is slack */
    MAX_THREAD_ID = 0x7fffffff,
};
static const size_t CACHE_LIMIT = (size_t)512 << 20; /* freed bytes a thread keeps for reuse */

typedef struct block {
    struct block *next;
} block;

/* Stands 64 bytes before the data it describes. */
typedef struct buffer {
    _Atomic uint32_t refs;
    int size_class;
    size_t bytes;
    struct buffer *next;
} buffer;

typedef struct pool {
    block *blocks[BLOCK_CLASSES];
    char *chunk, *chunk_end; /* what is left of the newest chunk */
    buffer *buffers[BUFFER_CLASSES];
    size_t cached_bytes;
    void *scratch[TM_SCRATCH_SLOTS];
    size_t scratch_bytes[TM_SCRATCH_SLOTS];
    int64_t taken;        /* blocks and buffers, ever */
    _Atomic int64_t live; /* blocks taken minus given; other threads read it, hence atomic */
    uint32_t id;
    struct pool *next, **link;
} pool;

/* NULL until the thread first needs it, and again after its end. */
static _Thread_local pool *mine TM_FAST_TLS;

/* What outlives a thread: the list of pools, and the blocks of threads that have ended. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static pthread_key_t at_thread_exit;
static pool *registry;
static block *orphans[BLOCK_CLASSES];
static int64_t orphans_live;
static uint32_t last_id;

static buffer *header(void *data)
{
    return (buffer *)((char *)data - TM_ALIGNMENT);
}

static void empty_cache(pool *p)
{
    for (int c = 0; c < BUFFER_CLASSES; c++)
        for (buffer *b = p->buffers[c], *next; b; b = next) {
            next = b->next;
            free(b);
        }
    for (int c = 0; c < BUFFER_CLASSES; c++)
        p->buffers[c] = NULL;
    p->cached_bytes = 0;
    for (int s = 0; s < TM_SCRATCH_SLOTS; s++) {
        free(p->scratch[s]);
        p->scratch[s] = NULL;
        p->scratch_bytes[s] = 0;
    }
}

static void retire_pool(void *argument)
{
    pool *p = argument;
    empty_cache(p);
    pthread_mutex_lock(&registry_lock);
    for (int c = 0; c < BLOCK_CLASSES; c++)
        while (p->blocks[c]) {
            block *b = p->blocks[c];
            p->blocks[c] = b->next;
            b->next = orphans[c];
            orphans[c] = b;
        }
    for (; p->chunk < p->chunk_end; p->chunk += 64) { /* the unused end of the chunk, cut into the smallest blocks */
        block *b = (block *)p->chunk;
        b->next = orphans[0];
        orphans[0] = b;
    }
    orphans_live += atomic_load_explicit(&p->live, memory_order_relaxed);
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    pthread_mutex_unlock(&registry_lock);
    mine = NULL; /* should another destructor of this thread release nodes, it gets a new pool */
    free(p);
}

static void lock_registry(void)
{
    pthread_mutex_lock(&registry_lock);
}

static void unlock_registry(void)
{
    pthread_mutex_unlock(&registry_lock);
}

/* A forked child has one thread: the others' pools are gone, though what they counted still lives. */
static void unlock_registry_in_child(void)
{
    for (pool *p = registry; p; p = p->next)
        if (p != mine)
            orphans_live += atomic_load_explicit(&p->live, memory_order_relaxed);
    registry = mine;
    if (mine) {
        mine->next = NULL;
        mine->link = &registry;
    }
    pthread_mutex_unlock(&registry_lock);
}

static void make_key(void)
{
    pthread_key_create(&at_thread_exit, retire_pool);
    pthread_atfork(lock_registry, unlock_registry, unlock_registry_in_child);
}

static pool *register_pool(void)
{
    pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    pthread_once(&registry_once, make_key);
    pthread_setspecific(at_thread_exit, p);
    pthread_mutex_lock(&registry_lock);
    last_id = last_id % MAX_THREAD_ID + 1;
    p->id = last_id;
    p->next = registry;
    p->link = &registry;
    if (registry)
        registry->link = &p->next;
    registry = p;
    pthread_mutex_unlock(&registry_lock);
    return mine = p;
}

static inline pool *my_pool(void)
{
    return mine ? mine : register_pool();
}

uint32_t tm_thread_id(void)
{
    pool *p = my_pool();
    return p ? p->id : 0;
}

static void count(pool *p, int change)
{
    int64_t live = atomic_load_explicit(&p->live, memory_order_relaxed);
    atomic_store_explicit(&p->live, live + change, memory_order_relaxed);
}

/* Off the common path: takes over what ended threads left behind, else carves the next block from the chunk. */
static void *new_block(pool *p, int class)
{
    size_t bytes = (size_t)(class + 1) * 64;
    pthread_mutex_lock(&registry_lock);
    p->blocks[class] = orphans[class];
    orphans[class] = NULL;
    pthread_mutex_unlock(&registry_lock);
    block *b = p->blocks[class];
    if (b) {
        p->blocks[class] = b->next;
        return b;
    }
    if ((size_t)(p->chunk_end - p->chunk) < bytes) {
        for (; p->chunk_end - p->chunk >= 64; p->chunk += 64) {
            b = (block *)p->chunk;
            b->next = p->blocks[0];
            p->blocks[0] = b;
        }
        p->chunk = aligned_alloc(TM_ALIGNMENT, CHUNK_BYTES);
        p->chunk_end = p->chunk ? p->chunk + CHUNK_BYTES : NULL;
        if (!p->chunk) {
            tm_fail_memory("a node", bytes);
            return NULL;
        }
    }
    void *fresh = p->chunk;
    p->chunk += bytes;
    return fresh;
}

void *tm_block_take(size_t bytes)
{
    pool *p = my_pool();
    int class = (int)((bytes - 1) / 64);
    void *taken;
    if (!p) {
        taken = NULL;
        tm_fail_memory("a thread's pool", sizeof *p);
    } else if (!TM_POOLED || class >= BLOCK_CLASSES) {
        taken = aligned_alloc(TM_ALIGNMENT, (bytes + 63) / 64 * 64);
        if (!taken)
            tm_fail_memory("a node", bytes);
    } else if (p->blocks[class]) {
        taken = p->blocks[class];
        p->blocks[class] = p->blocks[class]->next;
    } else {
        taken = new_block(p, class);
    }
    if (taken) {
        count(p, 1);
        p->taken++;
    }
    return taken;
}

void tm_block_give(void *given, size_t bytes)
{
    pool *p = my_pool();
    int class = (int)((bytes - 1) / 64);
    if (!p)
        return; /* a thread without memory for a pool of its own can only lose it */
    count(p, -1);
    if (!TM_POOLED || class >= BLOCK_CLASSES) {
        free(given);
        return;
    }
    block *b = given;
    b->next = p->blocks[class];
    p->blocks[class] = b;
}

int64_t tm_allocations(void)
{
    return mine ? mine->taken : 0;
}

int64_t tm_live_nodes(void)
{
    pthread_mutex_lock(&registry_lock);
    int64_t live = orphans_live;
    for (pool *p = registry; p; p = p->next)
        live += atomic_load_explicit(&p->live, memory_order_relaxed);
    pthread_mutex_unlock(&registry_lock);
    return live;
}

/* The smallest class that holds `bytes`, and through *rounded its size: 2^e * {4, 5, 6, 7} / 4, from 64 bytes up. */
static int buffer_class(size_t bytes, size_t *rounded)
{
    if (bytes < 64)
        bytes = 64;
    int e = 63 - __builtin_clzll((unsigned long long)bytes);
    size_t quarter = (size_t)1 << (e - 2);
    size_t quarters = (bytes + quarter - 1) / quarter; /* 4 to 8 */
    *rounded = (quarters * quarter + 63) / 64 * 64;
    return (e - 6) * 4 + (int)quarters - 4;
}

void *tm_buffer_new(size_t bytes)
{
    size_t rounded;
    if (bytes > SIZE_MAX / 4) {
        tm_fail_memory("an array", bytes);
        return NULL;
    }
    int class = buffer_class(bytes, &rounded);
    pool *p = my_pool();
    buffer *b = p ? p->buffers[class] : NULL;
    if (b) {
        p->buffers[class] = b->next;
        p->cached_bytes -= b->bytes;
    } else {
        b = aligned_alloc(TM_ALIGNMENT, TM_ALIGNMENT + rounded);
        if (!b) {
            tm_fail_memory("an array", bytes);
            return NULL;
        }
        b->size_class = class;
        b->bytes = rounded;
    }
    atomic_init(&b->refs, 1);
    if (p)
        p->taken++;
    return (char *)b + TM_ALIGNMENT;
}

void tm_buffer_hold(void *data)
{
    atomic_fetch_add_explicit(&header(data)->refs, 1, memory_order_relaxed);
}

void tm_buffer_drop(void *data)
{
    buffer *b = header(data);
    if (atomic_load_explicit(&b->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    pool *p = my_pool();
    if (!TM_POOLED || !p || p->cached_bytes + b->bytes > CACHE_LIMIT) {
        free(b);
        return;
    }
    b->next = p->buffers[b->size_class];
    p->buffers[b->size_class] = b;
    p->cached_bytes += b->bytes;
}

int tm_buffer_shared(const void *data)
{
    return atomic_load_explicit(&header((void *)data)->refs, memory_order_acquire) > 1;
}

uint32_t tm_buffer_refs(const void *data)
{
    return atomic_load_explicit(&header((void *)data)->refs, memory_order_acquire);
}

size_t tm_buffer_bytes(const void *data)
{
    return header((void *)data)->bytes;
}

void tm_empty_cache(void)
{
    if (mine)
        empty_cache(mine);
}

void *tm_scratch(int slot, size_t bytes)
{
    pool *p = my_pool();
    if (!p) {
        tm_fail_memory("a thread's pool", sizeof *p);
        return NULL;
    }
    if (p->scratch_bytes[slot] < bytes) {
        free(p->scratch[slot]);
        size_t rounded = (bytes + bytes / 4 + 63) / 64 * 64;
        p->scratch[slot] = aligned_alloc(TM_ALIGNMENT, rounded);
        p->scratch_bytes[slot] = p->scratch[slot] ? rounded : 0;
        if (!p->scratch[slot])
            tm_fail_memory("scratch space", bytes);
    }
    return p->scratch[slot];
}
