/* The op table for x86-64 with AVX2 and FMA. */
#if defined(__x86_64__)
#define ISA avx2
#define TM_VECTOR_BYTES 32
#include "ops/headers.h" /* before the pragma: what the system's headers inline keeps its own target */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "ops/table.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int not_for_this_processor;
#endif
