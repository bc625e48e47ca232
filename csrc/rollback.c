/* Copies of the gradients of leaves. Most have none when a sweep begins, so that there is little to copy. */
#include "rollback.h"
#include "error.h"
#include "grad.h"

#include <stdlib.h>
#include <string.h>

static int by_address(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t)((const tm_kept_gradient *)a)->leaf;
    const uintptr_t y = (uintptr_t)((const tm_kept_gradient *)b)->leaf;
    return (x > y) - (x < y);
}

static int wanted(tm_node *x)
{
    return (x->flags & TM_REQUIRES_GRAD) && tm_leaf_node(x);
}

/* Each leaf once. */
static int list_leaves(tm_rollback *r, tm_node *const *results, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < results[i]->n_inputs; k++)
            found += (size_t)wanted(tm_inputs(results[i])[k]);
    if (!found)
        return 0;
    if (!(r->kept = calloc(found, sizeof *r->kept)))
        return tm_fail_memory("backward: the leaves of the graph", found * sizeof *r->kept);
    found = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < results[i]->n_inputs; k++)
            if (wanted(tm_inputs(results[i])[k]))
                r->kept[found++].leaf = tm_inputs(results[i])[k];
    qsort(r->kept, found, sizeof *r->kept, by_address);
    for (size_t i = 0; i < found; i++)
        if (!i || r->kept[i].leaf != r->kept[r->n - 1].leaf)
            r->kept[r->n++].leaf = r->kept[i].leaf;
    return 0;
}

static int keep(tm_kept_gradient *kept)
{
    tm_node *x = kept->leaf;
    const size_t bytes = (size_t)x->size * tm_item_size(x->dtype);
    int failed = 0;
    tm_leaves_lock(&x, 1, tm_thread_id());
    kept->has_grad = x->has_grad;
    if (!x->rank)
        kept->grad = x->grad;
    else if (x->has_grad && (kept->grad.array = tm_buffer_new(bytes)))
        memcpy(kept->grad.array, x->grad.array, bytes);
    else
        failed = x->has_grad ? -1 : 0;
    tm_leaves_unlock(&x, 1, tm_thread_id());
    return failed;
}

static void bring_back(const tm_kept_gradient *kept)
{
    tm_node *x = kept->leaf;
    tm_leaves_lock(&x, 1, tm_thread_id());
    if (!kept->has_grad) {
        tm_grad_clear(x, 1);
    } else if (!x->rank) {
        x->grad = kept->grad;
    } else if (kept->grad.array && x->grad.array) {
        memcpy(x->grad.array, kept->grad.array, (size_t)x->size * tm_item_size(x->dtype));
    }
    tm_leaves_unlock(&x, 1, tm_thread_id());
}

int tm_rollback_begin(tm_rollback *rollback, tm_node *const *results, size_t n)
{
    *rollback = (tm_rollback){0};
    if (list_leaves(rollback, results, n))
        return -1;
    for (size_t i = 0; i < rollback->n; i++)
        if (keep(&rollback->kept[i])) {
            rollback->n = i;
            return -1;
        }
    return 0;
}

void tm_rollback_end(tm_rollback *rollback, int failed)
{
    for (size_t i = 0; i < rollback->n; i++) {
        tm_kept_gradient *kept = &rollback->kept[i];
        if (failed)
            bring_back(kept);
        if (kept->leaf->rank && kept->grad.array)
            tm_buffer_drop(kept->grad.array);
    }
    free(rollback->kept);
}
