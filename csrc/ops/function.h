/* function: an op whose kernels are written in Python (tinyml.Function). The kernels are in csrc/function.c, because
 * they have no loops. */

#if defined(RULES)

#include "../function.h"

/* attributes: the number of the Python object, the result's dtype and extents; Python knows these already */
static int function_rule(tm_call *call)
{
    call->dtype = (int)call->attr[1];
    call->rank = call->n_attr - 2;
    if (call->rank > TM_MAX_RANK)
        return tm_fail(TM_SHAPE_ERROR, "function: forward gave %d dimensions, expected at most %d", call->rank,
                       TM_MAX_RANK);
    for (int i = 0; i < call->rank; i++)
        call->shape[i] = (int64_t)call->attr[2 + i];
    return 0;
}

#define EVERY(kernel) [TM_F32] = kernel, [TM_F64] = kernel, [TM_I64] = kernel, [TM_BOOL] = kernel

#elif defined(ROWS)

{.name = "function", .min_in = 1, .max_in = TM_ANY, .min_attr = 2, .rule = function_rule,
 .forward = {EVERY(tm_function_forward)}, .backward = {EVERY(tm_function_backward)}},

#endif
