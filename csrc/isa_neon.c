/* The op table for arm64, where NEON is always there. */
#if defined(__aarch64__)
#define ISA neon
#define TM_VECTOR_BYTES 16
#include "ops/table.h"
#else
typedef int not_for_this_processor;
#endif
