/* The op table for any processor of the target architecture. */
#define ISA base
#define TM_VECTOR_BYTES 16
#include "ops/table.h"
