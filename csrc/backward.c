/* The backward pass: put the graph in order, seed the root, sweep. */
#include "anomaly.h"
#include "error.h"
#include "grad.h"
#include "record.h"
#include "rollback.h"
#include "shape.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    tm_node **nodes;
    size_t n, room;
} list;

static int push(list *l, tm_node *x)
{
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        tm_node **nodes = realloc(l->nodes, room * sizeof *nodes);
        if (!nodes)
            return tm_fail_memory("backward: the order of the graph", room * sizeof *nodes);
        l->nodes = nodes;
        l->room = room;
    }
    l->nodes[l->n++] = x;
    return 0;
}

/* Appends every result that root's gradient flows through, inputs before what is made from them. Depth first, the path
 * kept in a list instead of the call stack. A result's mark is 0 before it is met, then 1 + the inputs looked at so
 * far; it stays above 0 until the sweep, so that no result enters twice. Leaves have no place in the order: nothing
 * comes after them. */
static int topological_order(tm_node *root, list *order, list *path)
{
    if (push(path, root))
        return -1;
    root->mark = 1;
    while (path->n) {
        tm_node *y = path->nodes[path->n - 1];
        tm_node **inputs = tm_inputs(y), *next = NULL;
        while (!next && y->mark <= y->n_inputs) {
            tm_node *x = inputs[y->mark++ - 1];
            if ((x->flags & TM_REQUIRES_GRAD) && !tm_leaf_node(x) && !x->mark)
                next = x;
        }
        if (next) {
            if (push(path, next))
                return -1;
            next->mark = 1;
        } else {
            if (push(order, y))
                return -1;
            path->n--;
        }
    }
    return 0;
}

int tm_flow(tm_node *y, uint32_t me)
{
    tm_node **inputs = tm_inputs(y);
    int failed = 0;
    tm_leaves_lock(inputs, y->n_inputs, me);
    for (uint32_t i = 0; i < y->n_inputs && !failed; i++)
        if (inputs[i]->flags & TM_REQUIRES_GRAD)
            failed = tm_grad_reserve(inputs[i]);
    if (!failed)
        failed = y->op->backward[inputs[0]->dtype](y);
    tm_leaves_unlock(inputs, y->n_inputs, me);
    return failed;
}

int tm_seed(tm_node *root, tm_node *gradient)
{
    const uint32_t me = tm_thread_id();
    tm_leaves_lock(&root, 1, me);
    int add = 0, failed = tm_grad_reserve(root);
    void *to = failed ? NULL : tm_grad_open(root, &add);
    const void *from = gradient ? tm_data(gradient) : NULL;
    if (to && root->dtype == TM_F32)
        for (int64_t i = 0; i < root->size; i++)
            ((float *)to)[i] = (from ? ((const float *)from)[i] : 1) + (add ? ((float *)to)[i] : 0);
    else if (to)
        for (int64_t i = 0; i < root->size; i++)
            ((double *)to)[i] = (from ? ((const double *)from)[i] : 1) + (add ? ((double *)to)[i] : 0);
    tm_leaves_unlock(&root, 1, me);
    return failed;
}

/* Last made, first served: when a result's turn comes, all that used it has added to its gradient. After a failure the
 * sweep goes on only to clear the marks. */
static int sweep(const list *order, int failed, uint32_t me)
{
    int (*const flow)(tm_node *, uint32_t) = tm_anomaly ? tm_anomaly_flow : tm_flow;
    for (size_t i = order->n; i-- > 0;) {
        tm_node *y = order->nodes[i];
        y->mark = 0;
        if (!failed && y->has_grad && !(failed = flow(y, me)) && tm_recording)
            failed = tm_record_backward(y);
        if (y->rank && !(y->flags & TM_RETAIN_GRAD))
            tm_grad_clear(y, 0);
    }
    return failed;
}

static int check(tm_node *root, tm_node *gradient)
{
    if (!(root->flags & TM_REQUIRES_GRAD))
        return tm_fail(TM_RUNTIME_ERROR, "backward: this %s%s%s does not require a gradient; make an input with "
                       "requires_grad=True, outside no_grad()", tm_dtype_name(root->dtype),
                       *root->op->name ? " result of " : " leaf", root->op->name);
    if (!gradient && root->size != 1)
        return tm_fail(TM_RUNTIME_ERROR, "backward: this result has shape %s, and only for one element goes without "
                       "saying what to start from; reduce it (.sum(), .mean()) or pass backward(gradient)",
                       tm_shape_of(root).text);
    if (gradient && !tm_same_shape(root, gradient))
        return tm_fail(TM_SHAPE_ERROR, "backward: gradient has shape %s, expected the result's, %s",
                       tm_shape_of(gradient).text, tm_shape_of(root).text);
    if (gradient && gradient->dtype != root->dtype)
        return tm_fail(TM_DTYPE_ERROR, "backward: gradient is %s, expected the result's %s; convert it with .to()",
                       tm_dtype_name(gradient->dtype), tm_dtype_name(root->dtype));
    return 0;
}

int tm_backward(tm_ref root_ref, tm_ref gradient_ref)
{
    tm_node *root = (tm_node *)root_ref, *gradient = (tm_node *)gradient_ref;
    list order = {0}, path = {0};
    if (check(root, gradient))
        return -1;
    const uint32_t me = tm_thread_id();
    int failed = tm_leaf_node(root) ? 0 : topological_order(root, &order, &path), may_fail = tm_anomaly != 0;
    for (size_t i = 0; i < path.n; i++) /* only after a failure */
        path.nodes[i]->mark = 0;
    for (size_t i = 0; i < order.n; i++) { /* results start every sweep without a gradient; leaves keep theirs */
        tm_grad_clear(order.nodes[i], 1);
        may_fail |= order.nodes[i]->flags & TM_CALLS_PYTHON;
    }
    tm_rollback rollback = {0};
    if (!failed && may_fail)
        failed = tm_rollback_begin(&rollback, order.nodes, order.n);
    if (!failed && !(failed = tm_seed(root, gradient)) && tm_recording)
        failed = tm_record_sweep(root, gradient, order.nodes, order.n);
    failed = sweep(&order, failed, me);
    tm_rollback_end(&rollback, failed);
    free(order.nodes);
    free(path.nodes);
    return failed;
}
