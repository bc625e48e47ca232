/* Memory: per-thread pools of small blocks, reference-counted 64-byte aligned buffers, and scratch space. */
#ifndef TM_POOL_H
#define TM_POOL_H

#include <stddef.h>
#include <stdint.h>

#define TM_ALIGNMENT 64

/* For thread-local words read in every call: glibc reserves room for a few in any library that is loaded later, and
 * they are reached in one instruction. Elsewhere such a library might not load. */
#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#define TM_FAST_TLS __attribute__((tls_model("initial-exec")))
#else
#define TM_FAST_TLS
#endif

/* A block for a node: a multiple of 64 bytes, from the calling thread's free list. NULL after tm_fail when there is
 * none. Any thread may give a block back; it joins that thread's list. */
void *tm_block_take(size_t bytes);
void tm_block_give(void *block, size_t bytes);

/* A buffer for array data, with one reference, not cleared. The last tm_buffer_drop returns it to a cache. */
void *tm_buffer_new(size_t bytes);
void tm_buffer_hold(void *data);
void tm_buffer_drop(void *data);
int tm_buffer_shared(const void *data);
uint32_t tm_buffer_refs(const void *data);
size_t tm_buffer_bytes(const void *data);

/* Memory of the calling thread for use within one kernel: valid until the next call with the same slot on that thread.
 * */
enum { TM_SCRATCH_A, TM_SCRATCH_B, TM_SCRATCH_KERNEL, TM_SCRATCH_SLOTS };
void *tm_scratch(int slot, size_t bytes);

/* A number that no other running thread has; never 0. */
uint32_t tm_thread_id(void);

#endif
