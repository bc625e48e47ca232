/* The kernels of the op "function" are calls to Python, where tinyml/_function.py finds the object by its number. */
#include "function.h"
#include "callback.h"
#include "grad.h"
#include "tinyml.h"

#include <string.h>

int tm_function_forward(tm_node *y)
{
    y->flags |= TM_CALLS_PYTHON;
    return tm_call_python(TM_EVENT_FORWARD, (int64_t)tm_attr(y)[0], y);
}

/* Without the lock on the leaves: what Python does may take long, and may sweep other graphs over the same leaves. */
int tm_function_backward(tm_node *y)
{
    const uint32_t me = tm_thread_id();
    tm_leaves_unlock(tm_inputs(y), y->n_inputs, me);
    const int failed = tm_call_python(TM_EVENT_BACKWARD, (int64_t)tm_attr(y)[0], y);
    tm_leaves_lock(tm_inputs(y), y->n_inputs, me);
    return failed;
}

int tm_function_flow(tm_ref node, int input, const void *gradient)
{
    tm_node *x = tm_inputs((tm_node *)node)[input], terms = {.rank = x->rank};
    if (x->rank)
        terms.data.array = (void *)gradient;
    else
        memcpy(&terms.data, gradient, tm_item_size(x->dtype));
    return tm_seed(x, &terms);
}

int64_t tm_function_number(tm_ref node)
{
    return (int64_t)tm_attr((tm_node *)node)[0];
}
