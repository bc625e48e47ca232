/* The op table of one instruction set: every family's loops once per dtype, then every family's rows.
 * The including file sets ISA, the suffix of its table, and TM_VECTOR_BYTES. */
#include "headers.h"

/* An op's kernels in the columns of the table. */
#define FLOATS(f) [TM_F32] = f##_f32, [TM_F64] = f##_f64
#define NUMBERS(f) FLOATS(f), [TM_I64] = f##_i64
#define ALL(f) NUMBERS(f), [TM_BOOL] = f##_b8

#define RULES
#include "select.h"
#include "elementwise_loops.h"
#include "reduce.h"
#include "walk.h"
#include "movement.h"
#include "indexing.h"
#include "matmul.h"
#include "convolution.h"
#include "pooling.h"
#include "softmax.h"
#include "normalization.h"
#include "batch_norm.h"
#include "loss.h"
#include "scalars.h"
#include "dropout.h"
#include "function.h"
#include "recurrent.h"
#include "update.h"
#undef RULES

#define REAL float
#define FN(name) name##_f32
#define REAL_IS_F32 1
#define REAL_IS_F64 0
#define REAL_IS_FLOAT 1
#define REAL_IS_BOOL 0
#include "loops.h"

#define REAL double
#define FN(name) name##_f64
#define REAL_IS_F32 0
#define REAL_IS_F64 1
#define REAL_IS_FLOAT 1
#define REAL_IS_BOOL 0
#include "loops.h"

#define REAL int64_t
#define FN(name) name##_i64
#define REAL_IS_F32 0
#define REAL_IS_F64 0
#define REAL_IS_FLOAT 0
#define REAL_IS_BOOL 0
#include "loops.h"

#define REAL uint8_t
#define FN(name) name##_b8
#define REAL_IS_F32 0
#define REAL_IS_F64 0
#define REAL_IS_FLOAT 0
#define REAL_IS_BOOL 1
#include "loops.h"

#define ROWS
static const tm_op ops[] = {
#include "select.h" /* the cast stands first */
#include "elementwise_loops.h"
#include "reduce.h"
#include "movement.h"
#include "indexing.h"
#include "matmul.h"
#include "convolution.h"
#include "pooling.h"
#include "softmax.h"
#include "normalization.h"
#include "batch_norm.h"
#include "loss.h"
#include "scalars.h"
#include "dropout.h"
#include "function.h"
#include "recurrent.h"
    {.name = NULL},
};

static const tm_update_rule updates[] = {
#include "update.h"
    {.name = NULL},
};

#define TABLE_OF_(isa) tm_table_##isa
#define TABLE_OF(isa) TABLE_OF_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)
const tm_table TABLE_OF(ISA) = {TEXT(ISA), ops, updates, tape_run};
