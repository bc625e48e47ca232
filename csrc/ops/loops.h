/* Every family's loops, once for the current REAL. */
#if REAL_IS_FLOAT
#include "../vmath.h"
#include "../gemm.h"
#endif
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
#include "recurrent.h"
#include "update.h"
#if REAL_IS_F64
#include "tape.h"
#endif
#undef REAL
#undef FN
#undef REAL_IS_F32
#undef REAL_IS_F64
#undef REAL_IS_FLOAT
#undef REAL_IS_BOOL
