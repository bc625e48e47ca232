/* Gradients: their memory, and the lock under which threads add to those of shared leaves. */
#include "grad.h"

#include <sched.h>
#include <string.h>

int tm_grad_reserve(tm_node *x)
{
    if (x->rank && !x->grad.array) {
        x->grad.array = tm_buffer_new((size_t)x->size * tm_item_size(x->dtype));
        if (!x->grad.array)
            return -1;
    }
    return 0;
}

void tm_grad_clear(tm_node *x, int keep)
{
    x->has_grad = 0;
    if (!x->rank || !x->grad.array)
        return;
    if (!keep || (tm_buffer_shared(x->grad.array) && !(x->flags & TM_LENDS_GRAD))) {
        tm_buffer_drop(x->grad.array);
        x->grad.array = NULL;
    }
}

int tm_grad_store(tm_node *x, tm_node *source)
{
    tm_grad_clear(x, 1);
    if (!source)
        return 0;
    if (tm_grad_reserve(x))
        return -1;
    memmove(tm_grad_data(x), tm_data(source), (size_t)x->size * tm_item_size(x->dtype));
    x->has_grad = 1;
    return 0;
}

void tm_leaves_unlock(tm_node **inputs, uint32_t n, uint32_t me)
{
    for (uint32_t i = 0; i < n; i++)
        if (tm_leaf_node(inputs[i]) && __atomic_load_n(&inputs[i]->mark, __ATOMIC_RELAXED) == me)
            __atomic_store_n(&inputs[i]->mark, 0, __ATOMIC_RELEASE);
}

static int try_lock(tm_node *x, uint32_t me)
{
    uint32_t holder = 0;
    return __atomic_compare_exchange_n(&x->mark, &holder, me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ||
           holder == me; /* the same leaf may be an input twice */
}

void tm_leaves_lock(tm_node **inputs, uint32_t n, uint32_t me)
{
    for (uint32_t i = 0; i < n;) {
        tm_node *x = inputs[i];
        if (!(x->flags & TM_REQUIRES_GRAD) || !tm_leaf_node(x) || try_lock(x, me)) {
            i++;
        } else {
            tm_leaves_unlock(inputs, i, me);
            sched_yield();
            i = 0;
        }
    }
}
