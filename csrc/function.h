/* The kernels of the op "function". */
#ifndef TM_FUNCTION_H
#define TM_FUNCTION_H

#include "op.h"

tm_kernel tm_function_forward, tm_function_backward;

#endif
