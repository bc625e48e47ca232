/* Applying an op: check the call, bring its inputs to one dtype, let the rule find the result's shape, make the node,
 * run the forward kernel. */
#include "anomaly.h"
#include "error.h"
#include "record.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>

static _Thread_local int grad_disabled TM_FAST_TLS;

int tm_set_grad_enabled(int enabled)
{
    int before = !grad_disabled;
    grad_disabled = !enabled;
    return before;
}

int tm_grad_enabled(void)
{
    return !grad_disabled;
}

/* The dtype nearest to `dtype`, going up bool, int64, float32, for which the op has a kernel; -1 when there is none. */
static int kernel_dtype(const tm_op *op, int dtype)
{
    if (dtype == TM_BOOL && !op->forward[dtype])
        dtype = TM_I64;
    if (dtype == TM_I64 && !op->forward[dtype])
        dtype = TM_F32;
    return op->forward[dtype] ? dtype : -1;
}

/* bool < int64 < float32 < float64, the order of promotion. */
static int promotion_order(int dtype)
{
    static const int order[TM_DTYPES] = {[TM_BOOL] = 0, [TM_I64] = 1, [TM_F32] = 2, [TM_F64] = 3};
    return order[dtype];
}

static int category(int dtype)
{
    return tm_is_float(dtype) ? 2 : dtype == TM_I64;
}

/* PyTorch's rule: among the operands of the highest category (bool, integer, float) arrays outvote 0-d operands, so
 * that a float64 Value leaves a float32 Tensor float32. https://docs.pytorch.org/docs/stable/tensor_attributes.html */
static int common_dtype(tm_node *const *in, int n)
{
    int best = in[0]->dtype, best_is_array = in[0]->rank > 0;
    for (int i = 1; i < n; i++) {
        int dtype = in[i]->dtype, is_array = in[i]->rank > 0;
        if (dtype == best && is_array == best_is_array)
            continue;
        int higher = category(dtype) - category(best);
        if (!higher)
            higher = is_array - best_is_array;
        if (!higher)
            higher = promotion_order(dtype) - promotion_order(best);
        if (higher > 0) {
            best = dtype;
            best_is_array = is_array;
        }
    }
    return best;
}

static tm_node *cast(tm_node *x, int dtype)
{
    const double to = dtype;
    return tm_call_op(tm_cast_op(), &x, 1, &to, 1);
}

/* Brings the first n inputs to the dtype of the kernel that will run; casts replace inputs in place. */
static int promote(const tm_op *op, tm_node **in, int n)
{
    int common = common_dtype(in, n), dtype = kernel_dtype(op, common);
    if (dtype < 0)
        return tm_fail(TM_DTYPE_ERROR, "%s: not defined for %s; convert with .float() or .double()", op->name,
                       tm_dtype_name(common));
    for (int i = 0; i < n; i++)
        if (in[i]->dtype != dtype && !(in[i] = cast(in[i], dtype)))
            return -1;
    return 0;
}

static int check(const tm_op *op, int n_in, int n_attr)
{
    if (n_in < op->min_in || (op->max_in != TM_ANY && n_in > op->max_in))
        return tm_fail(TM_VALUE_ERROR, "%s: got %d input%s, expected %s%d", op->name, n_in, n_in == 1 ? "" : "s",
                       op->min_in == op->max_in ? "" : n_in < op->min_in ? "at least " : "at most ",
                       n_in < op->min_in ? op->min_in : op->max_in);
    if (n_attr < op->min_attr || n_attr > TM_MAX_ATTRIBUTES)
        return tm_fail(TM_VALUE_ERROR, "%s: got %d attributes, expected %d to %d", op->name, n_attr, op->min_attr,
                       TM_MAX_ATTRIBUTES);
    return 0;
}

/* A result that no gradient will ever flow through keeps no graph, unless a replay will want its inputs. */
static int settle(tm_node *y)
{
    if (!grad_disabled && tm_is_float(y->dtype) && y->op->backward[tm_inputs(y)[0]->dtype]) {
        tm_node **inputs = tm_inputs(y);
        for (uint32_t i = 0; i < y->n_inputs; i++)
            if (inputs[i]->flags & TM_REQUIRES_GRAD) {
                y->flags |= TM_REQUIRES_GRAD;
                break;
            }
    }
    if (tm_anomaly && tm_anomaly_forward(y))
        return -1;
    if (tm_recording)
        return tm_record_forward(y);
    if (!(y->flags & TM_REQUIRES_GRAD))
        tm_drop_inputs(y);
    return 0;
}

static tm_node *build(const tm_call *call)
{
    const tm_op *op = call->op;
    tm_node *y = tm_node_new(op, call->dtype, call->rank, call->shape, (uint32_t)call->n_in, call->attr, call->n_attr,
                             call->saved_bytes, call->shares);
    if (!y)
        return NULL;
    tm_node **inputs = tm_inputs(y);
    for (int i = 0; i < call->n_in; i++) {
        inputs[i] = call->in[i];
        tm_node_hold(call->in[i]);
    }
    if (op->forward[call->in[0]->dtype](y) || settle(y)) {
        tm_node_release(y);
        return NULL;
    }
    return y;
}

tm_node *tm_call_op(const tm_op *op, tm_node *const *in, int n_in, const double *attr, int n_attr)
{
    if (check(op, n_in, n_attr))
        return NULL;
    tm_node *few[8], *y = NULL;
    tm_node **inputs = n_in <= 8 ? few : malloc((size_t)n_in * sizeof *inputs);
    if (!inputs) {
        tm_fail_memory(op->name, (size_t)n_in * sizeof *inputs);
        return NULL;
    }
    memcpy(inputs, in, (size_t)n_in * sizeof *inputs);
    tm_call call; /* set piece by piece: most of it stays unused */
    call.op = op;
    call.in = inputs;
    call.n_in = n_in;
    call.n_attr = n_attr;
    call.rank = 0;
    call.saved_bytes = 0;
    call.shares = NULL;
    for (int i = 0; i < n_attr; i++)
        call.attr[i] = attr[i];
    int n_promoted = op->promote == TM_ANY || op->promote > n_in ? n_in : op->promote;
    if ((n_promoted == 0 || !promote(op, inputs, n_promoted)) && !op->rule(&call))
        y = build(&call);
    for (int i = 0; i < n_in; i++)
        if (inputs[i] && inputs[i] != in[i])
            tm_node_release(inputs[i]);
    if (inputs != few)
        free(inputs);
    return y;
}

/* The path of every operator between Values: no rule, no shape, one cache line. */
tm_node *tm_call_scalar(const tm_op *op, tm_node *a, tm_node *b)
{
    tm_node *y = tm_scalar_new(op, b ? 2 : 1);
    if (!y)
        return NULL;
    tm_node_hold(y->in[0] = a);
    if (b)
        tm_node_hold(y->in[1] = b);
    op->forward[TM_F64](y);
    if (settle(y)) {
        tm_node_release(y);
        return NULL;
    }
    return y;
}
