/* The op table for x86-64 with AVX-512 F, DQ, BW and VL. */
#if defined(__x86_64__)
#define ISA avx512
#define TM_VECTOR_BYTES 64
#include "ops/headers.h" /* before the pragma: what the system's headers inline keeps its own target */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
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
