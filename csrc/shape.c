/* Shape arithmetic: see shape.h. */
#include "shape.h"
#include "error.h"

#include <stdio.h>
#include <string.h>

tm_shape_text tm_shape_show(int rank, const int64_t *shape)
{
    tm_shape_text t;
    size_t at = 0;
    t.text[at++] = '(';
    for (int i = 0; i < rank; i++)
        at += (size_t)snprintf(t.text + at, sizeof t.text - at, i ? ", %lld" : "%lld", (long long)shape[i]);
    snprintf(t.text + at, sizeof t.text - at, rank == 1 ? ",)" : ")");
    return t;
}

tm_shape_text tm_shape_of(const tm_node *x)
{
    return tm_shape_show(x->rank, tm_shape(x));
}

int64_t tm_shape_size(int rank, const int64_t *shape)
{
    int64_t size = 1;
    for (int i = 0; i < rank; i++)
        size *= shape[i];
    return size;
}

int tm_same_shape(const tm_node *a, const tm_node *b)
{
    return a->rank == b->rank && !memcmp(tm_shape(a), tm_shape(b), a->rank * sizeof(int64_t));
}

int tm_axis(const tm_call *call, double axis, int rank)
{
    if (axis >= -rank && axis < rank)
        return (int)(axis < 0 ? axis + rank : axis);
    if (rank == 0)
        return tm_fail(TM_INDEX_ERROR, "%s: axis %g of a 0-d tensor, which has none; leave it out or reshape to (1,)",
                       call->op->name, axis);
    return tm_fail(TM_INDEX_ERROR, "%s: axis %g is out of range for %d dimension%s; expected %d to %d", call->op->name,
                   axis, rank, rank == 1 ? "" : "s", -rank, rank - 1);
}

int tm_broadcast(tm_call *call, int n)
{
    call->rank = 0;
    for (int i = 0; i < n; i++)
        if (call->in[i]->rank > call->rank)
            call->rank = call->in[i]->rank;
    for (int d = 0; d < call->rank; d++)
        call->shape[d] = 1;
    for (int i = 0; i < n; i++) {
        const tm_node *x = call->in[i];
        int64_t *shape = call->shape + call->rank - x->rank;
        for (int d = 0; d < x->rank; d++) {
            int64_t extent = tm_shape(x)[d];
            if (shape[d] == 1)
                shape[d] = extent;
            else if (extent != 1 && extent != shape[d])
                return tm_fail(TM_SHAPE_ERROR, "%s: shapes %s and %s do not broadcast: %lld against %lld; "
                               "aligned from the right, extents must be equal or 1 (reshape or unsqueeze one operand)",
                               call->op->name, tm_shape_of(call->in[0]).text, tm_shape_of(x).text, (long long)shape[d],
                               (long long)extent);
        }
    }
    return 0;
}

int tm_rule_like_input(tm_call *call)
{
    const tm_node *x = call->in[0];
    call->dtype = x->dtype;
    call->rank = x->rank;
    memcpy(call->shape, tm_shape(x), x->rank * sizeof *call->shape);
    return 0;
}

int tm_rule_broadcast(tm_call *call)
{
    call->dtype = call->in[0]->dtype;
    return tm_broadcast(call, call->n_in);
}

int tm_rule_compare(tm_call *call)
{
    call->dtype = TM_BOOL;
    return tm_broadcast(call, call->n_in);
}

void tm_loop_start(tm_loop *loop, const tm_node *result, int n, tm_node *const *operands)
{
    loop->n = n;
    loop->rank = 0;
    for (int k = 0; k < n; k++)
        loop->at[k] = 0;
    /* From the last dimension outwards: merge a dimension into the one inside it where every operand walks on with the
     * same stride, else open a new one. Innermost is dimension 0 here; it becomes the run. */
    int64_t next[TM_LOOP_OPERANDS]; /* the stride each operand would have in the dimension at hand, were it not
    broadcast */
    for (int k = 0; k < n; k++)
        next[k] = 1;
    for (int d = result->rank - 1; d >= 0; d--) {
        int64_t extent = tm_shape(result)[d], stride[TM_LOOP_OPERANDS];
        if (extent == 1)
            continue;
        int merges = loop->rank > 0;
        for (int k = 0; k < n; k++) {
            const tm_node *x = operands[k];
            int dx = d - (result->rank - x->rank);
            int broadcast = dx < 0 || tm_shape(x)[dx] == 1;
            stride[k] = broadcast ? 0 : next[k];
            if (!broadcast)
                next[k] *= extent;
            if (merges)
                merges = stride[k] == loop->stride[k][loop->rank - 1] * loop->extent[loop->rank - 1];
        }
        if (merges) {
            loop->extent[loop->rank - 1] *= extent;
            continue;
        }
        for (int k = 0; k < n; k++)
            loop->stride[k][loop->rank] = stride[k];
        loop->extent[loop->rank] = extent;
        loop->index[loop->rank++] = 0;
    }
    loop->run = loop->rank ? loop->extent[0] : result->size;
    for (int k = 0; k < n; k++)
        loop->step[k] = loop->rank ? loop->stride[k][0] : 0;
    loop->runs = result->size ? result->size / loop->run : 0;
}

void tm_loop_next(tm_loop *loop)
{
    for (int d = 1; d < loop->rank; d++) {
        for (int k = 0; k < loop->n; k++)
            loop->at[k] += loop->stride[k][d];
        if (++loop->index[d] < loop->extent[d])
            return;
        for (int k = 0; k < loop->n; k++)
            loop->at[k] -= loop->stride[k][d] * loop->extent[d];
        loop->index[d] = 0;
    }
}

void tm_loop_seek(tm_loop *loop, int64_t run)
{
    for (int d = 1; d < loop->rank; run /= loop->extent[d++]) {
        loop->index[d] = run % loop->extent[d];
        for (int k = 0; k < loop->n; k++)
            loop->at[k] += loop->stride[k][d] * loop->index[d];
    }
}
