/* The border: the C API's addresses become nodes here, and nodes addresses. What is larger stands with its subject. */
#include "error.h"
#include "grad.h"
#include "record.h"
#include "shape.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>

#define NODE(ref) ((tm_node *)(ref))
#define OP(ref) ((const tm_op *)(ref))

_Static_assert(sizeof(tm_ref) == sizeof(tm_node *), "arrays of references are arrays of node pointers");

/* x, a leaf that has just been made of `source` or of nothing; 0 when it cannot be recorded. */
static tm_ref made(tm_node *x, tm_node *source)
{
    if (x && tm_recording && tm_record_leaf(x, source)) {
        tm_node_release(x);
        x = NULL;
    }
    return (tm_ref)x;
}

tm_ref tm_value(double data)
{
    tm_node *x = tm_scalar_new(&tm_leaf_op, 0);
    if (x) {
        x->data.f64 = data;
        x->flags = TM_REQUIRES_GRAD;
    }
    return made(x, NULL);
}

tm_ref tm_leaf(int dtype, int rank, const int64_t *shape, const void *data, int requires_grad)
{
    if (rank > TM_MAX_RANK) {
        tm_fail(TM_SHAPE_ERROR, "tensor: %d dimensions, expected at most %d; reshape before the conversion", rank,
                TM_MAX_RANK);
        return 0;
    }
    double size = 1;
    for (int i = 0; i < rank; i++)
        size *= (double)shape[i];
    if (size > 0x1p52) {
        tm_fail_memory("tensor: an array", (unsigned long long)size * tm_item_size(dtype));
        return 0;
    }
    tm_node *x = tm_node_new(&tm_leaf_op, dtype, rank, shape, 0, NULL, 0, 0, NULL);
    if (!x)
        return 0;
    size_t bytes = (size_t)x->size * tm_item_size(dtype);
    if (data && bytes)
        memcpy(tm_data(x), data, bytes);
    else
        memset(tm_data(x), 0, bytes);
    if (requires_grad)
        x->flags = TM_REQUIRES_GRAD;
    return made(x, NULL);
}

/* A leaf over memory that another node owns too; a 0-d one is a copy, because its data is in the node. */
static tm_node *shared_leaf(tm_node *x, tm_slot memory)
{
    tm_node source = {.rank = x->rank, .data = memory};
    tm_node *leaf = tm_node_new(&tm_leaf_op, x->dtype, x->rank, tm_shape(x), 0, NULL, 0, 0, &source);
    if (leaf && !x->rank)
        leaf->data = memory;
    return leaf;
}

tm_ref tm_detach(tm_ref node)
{
    return made(shared_leaf(NODE(node), NODE(node)->data), NODE(node));
}

void tm_release(tm_ref node)
{
    tm_node_release(NODE(node));
}

tm_ref tm_apply1(tm_ref op, tm_ref a)
{
    tm_node *x = NODE(a);
    if (OP(op)->elementwise && x->rank == 0 && x->dtype == TM_F64 && OP(op)->max_in == 1 && !OP(op)->min_attr)
        return (tm_ref)tm_call_scalar(OP(op), x, NULL);
    return (tm_ref)tm_call_op(OP(op), &x, 1, NULL, 0);
}

tm_ref tm_apply2(tm_ref op, tm_ref a, tm_ref b)
{
    tm_node *in[2] = {NODE(a), NODE(b)};
    if (OP(op)->elementwise && (in[0]->rank | in[1]->rank) == 0 && in[0]->dtype == TM_F64 && in[1]->dtype == TM_F64 &&
        OP(op)->min_in == 2)
        return (tm_ref)tm_call_scalar(OP(op), in[0], in[1]);
    return (tm_ref)tm_call_op(OP(op), in, 2, NULL, 0);
}

/* The dtype a Python number takes beside x: x's own, unless x has only integers for a float, or bools for an int. */
static int number_dtype(const tm_node *x, int number_kind)
{
    static const int own[] = {TM_F32, TM_I64, TM_BOOL};
    int fits = tm_is_float(x->dtype) || (x->dtype == TM_I64 && number_kind > 0) ||
               (x->dtype == TM_BOOL && number_kind == 2);
    return fits ? x->dtype : own[number_kind];
}

static void store(tm_node *x, double number)
{
    switch (x->dtype) {
    case TM_F32: x->data.f32 = (float)number; break;
    case TM_F64: x->data.f64 = number; break;
    case TM_I64: x->data.i64 = (int64_t)number; break;
    default: x->data.b8 = number != 0; break;
    }
}

tm_ref tm_apply_number(tm_ref op, tm_ref a, double number, int number_kind, int reversed)
{
    tm_node *x = NODE(a);
    const int dtype = number_dtype(x, number_kind);
    if (dtype == TM_I64 && !(number > -0x1p53 && number < 0x1p53)) {
        tm_fail(TM_VALUE_ERROR, "%s: got the integer %.0f, and from 2^53 on not every one arrives as it is; pass "
                "tinyml.tensor(number)", OP(op)->name, number);
        return 0;
    }
    tm_node *constant = tm_node_new(&tm_leaf_op, dtype, 0, NULL, 0, NULL, 0, 0, NULL);
    if (!constant)
        return 0;
    store(constant, number);
    if (tm_recording && tm_record_leaf(constant, NULL)) {
        tm_node_release(constant);
        return 0;
    }
    tm_ref y = reversed ? tm_apply2(op, (tm_ref)constant, a) : tm_apply2(op, a, (tm_ref)constant);
    tm_node_release(constant);
    return y;
}

tm_ref tm_apply3(tm_ref op, tm_ref a, tm_ref b, tm_ref c)
{
    tm_node *in[3] = {NODE(a), NODE(b), NODE(c)};
    return (tm_ref)tm_call_op(OP(op), in, 3, NULL, 0);
}

tm_ref tm_apply1_with(tm_ref op, tm_ref a, int n_attributes, double p, double q, double r)
{
    tm_node *x = NODE(a);
    const double attributes[3] = {p, q, r};
    return (tm_ref)tm_call_op(OP(op), &x, 1, attributes, n_attributes);
}

tm_ref tm_apply(tm_ref op, const tm_ref *inputs, int n_inputs, const double *attributes, int n_attributes)
{
    return (tm_ref)tm_call_op(OP(op), (tm_node *const *)inputs, n_inputs, attributes, n_attributes);
}

static tm_ref *new_refs(tm_ref op, int n)
{
    const size_t bytes = ((size_t)n + 1) * sizeof(tm_ref);
    tm_ref *refs = malloc(bytes);
    if (!refs)
        tm_fail_memory(OP(op)->name, bytes);
    return refs;
}

static void release_all(tm_ref *nodes, int n)
{
    while (n-- > 0)
        tm_release(nodes[n]);
}

static int apply_rows(tm_ref op, const tm_ref *inputs, int n_inputs, const tm_ref *own, int n_own, int rows,
                      const double *attributes, int n_attributes, tm_ref *results)
{
    const int n = n_inputs + n_own;
    int rank = 0;
    tm_ref *row = new_refs(op, n);
    if (!row)
        return -1;
    memcpy(row, inputs, (size_t)n_inputs * sizeof *row);
    for (int r = 0; r < rows && rank >= 0; r++, own += n_own) {
        memcpy(row + n_inputs, own, (size_t)n_own * sizeof *row);
        results[r] = tm_apply(op, row, n, attributes, n_attributes);
        if (!results[r]) {
            release_all(results, r);
            rank = -1;
        } else if (NODE(results[r])->rank > rank) {
            rank = NODE(results[r])->rank;
        }
    }
    free(row);
    return rank;
}

int tm_apply_layers(tm_ref op, const tm_ref *inputs, int n_inputs, int n_layers, const tm_ref *const *own,
                    const int *n_own, const int *rows, const double *attributes, int n_attributes, tm_ref *results)
{
    tm_ref *before = NULL; /* the results of the layer before */
    int rank = 0;
    for (int k = 0; k < n_layers && rank >= 0; k++) {
        const int n = k ? rows[k - 1] : n_inputs;
        tm_ref *to = k == n_layers - 1 ? results : new_refs(op, rows[k]);
        rank = to ? apply_rows(op, k ? before : inputs, n, own[k], n_own[k], rows[k], attributes + k * n_attributes,
                               n_attributes, to)
                  : -1;
        if (before)
            release_all(before, n);
        free(before);
        before = to;
    }
    if (before != results)
        free(before);
    return rank;
}

int tm_dtype_of(tm_ref node)
{
    return NODE(node)->dtype;
}

int tm_rank(tm_ref node)
{
    return NODE(node)->rank;
}

int64_t tm_size(tm_ref node)
{
    return NODE(node)->size;
}

int64_t tm_extent(tm_ref node, int dimension)
{
    return tm_shape(NODE(node))[dimension];
}

void tm_copy_shape(tm_ref node, int64_t *shape)
{
    memcpy(shape, tm_shape(NODE(node)), NODE(node)->rank * sizeof *shape);
}

intptr_t tm_address(tm_ref node)
{
    return (intptr_t)tm_data(NODE(node));
}

const char *tm_op_of(tm_ref node)
{
    return NODE(node)->op->name;
}

int tm_input_count(tm_ref node)
{
    return tm_leaf_node(NODE(node)) ? 0 : (int)NODE(node)->n_inputs;
}

tm_ref tm_input(tm_ref node, int i)
{
    tm_node *x = tm_inputs(NODE(node))[i];
    tm_node_hold(x);
    return (tm_ref)x;
}

static double read(int dtype, const void *data)
{
    switch (dtype) {
    case TM_F32: return *(const float *)data;
    case TM_F64: return *(const double *)data;
    case TM_I64: return (double)*(const int64_t *)data;
    default: return *(const uint8_t *)data;
    }
}

double tm_item(tm_ref node)
{
    return read(NODE(node)->dtype, tm_data(NODE(node)));
}

int64_t tm_item_int(tm_ref node)
{
    return NODE(node)->dtype == TM_I64 ? *(int64_t *)tm_data(NODE(node)) : (int64_t)tm_item(node);
}

int tm_requires_grad(tm_ref node)
{
    return !!(NODE(node)->flags & TM_REQUIRES_GRAD);
}

int tm_is_leaf(tm_ref node)
{
    return tm_leaf_node(NODE(node)) || !(NODE(node)->flags & TM_REQUIRES_GRAD);
}

int tm_retains_grad(tm_ref node)
{
    return !!(NODE(node)->flags & TM_RETAIN_GRAD);
}

static int check_alike(const char *what, tm_node *x, tm_node *source)
{
    if (!tm_same_shape(x, source))
        return tm_fail(TM_SHAPE_ERROR, "%s: got shape %s, expected %s; make a new tensor to change the shape", what,
                       tm_shape_of(source).text, tm_shape_of(x).text);
    if (x->dtype != source->dtype)
        return tm_fail(TM_DTYPE_ERROR, "%s: got %s, expected %s; convert with .to()", what,
                       tm_dtype_name(source->dtype), tm_dtype_name(x->dtype));
    return 0;
}

int tm_assign(tm_ref node, tm_ref source)
{
    tm_node *x = NODE(node);
    if (check_alike("data", x, NODE(source)))
        return -1;
    memmove(tm_data(x), tm_data(NODE(source)), (size_t)x->size * tm_item_size(x->dtype));
    return tm_recording ? tm_record_copy(x, NODE(source)) : 0;
}

/* A constant for a step of a recording that stores a number. */
static tm_node *constant_like(tm_node *x, double number)
{
    tm_node *constant = tm_node_new(&tm_leaf_op, x->dtype, 0, NULL, 0, NULL, 0, 0, NULL);
    if (!constant)
        return NULL;
    store(constant, number);
    if (tm_record_leaf(constant, NULL)) {
        tm_node_release(constant);
        return NULL;
    }
    tm_node_release(constant); /* the recording holds it */
    return constant;
}

int tm_set_item(tm_ref node, double data)
{
    tm_node *constant;
    if (NODE(node)->rank)
        return tm_fail(TM_SHAPE_ERROR, "data: got a number, expected an array of shape %s",
                       tm_shape_of(NODE(node)).text);
    store(NODE(node), data);
    if (tm_recording)
        return !(constant = constant_like(NODE(node), data)) || tm_record_copy(NODE(node), constant) ? -1 : 0;
    return 0;
}

int tm_set_requires_grad(tm_ref node, int requires_grad)
{
    tm_node *x = NODE(node);
    if (requires_grad && !tm_is_float(x->dtype))
        return tm_fail(TM_DTYPE_ERROR, "requires_grad: got %s, expected float32 or float64; convert with .float()",
                       tm_dtype_name(x->dtype));
    if (!tm_leaf_node(x) && !requires_grad)
        return tm_fail(TM_RUNTIME_ERROR, "requires_grad: only a leaf's can be switched off, and this is a result of "
                       "%s; use .detach()", x->op->name);
    if (tm_recording && !requires_grad != !(x->flags & TM_REQUIRES_GRAD) && tm_record_switch(x))
        return -1;
    x->flags = (uint8_t)(requires_grad ? x->flags | TM_REQUIRES_GRAD : x->flags & ~TM_REQUIRES_GRAD);
    return 0;
}

int tm_retain_grad(tm_ref node)
{
    if (!(NODE(node)->flags & TM_REQUIRES_GRAD))
        return tm_fail(TM_RUNTIME_ERROR, "retain_grad: this tensor does not require a gradient; set requires_grad=True "
                       "on an input first");
    NODE(node)->flags |= TM_RETAIN_GRAD;
    return 0;
}

/* While recording a copy, because a replay may put the gradient elsewhere. */
static tm_node *recorded_grad(tm_node *x)
{
    tm_node *y = tm_node_new(&tm_leaf_op, x->dtype, x->rank, tm_shape(x), 0, NULL, 0, 0, NULL);
    if (!y)
        return NULL;
    memcpy(tm_data(y), tm_grad_data(x), (size_t)x->size * tm_item_size(x->dtype));
    if (!tm_record_read_grad(y, x))
        return y;
    tm_node_release(y);
    return NULL;
}

int tm_grad(tm_ref node, tm_ref *gradient)
{
    tm_node *x = NODE(node), *y = NULL;
    if (x->has_grad && !(y = tm_recording ? recorded_grad(x) : shared_leaf(x, x->grad)))
        return -1;
    *gradient = (tm_ref)y;
    return 0;
}

double tm_grad_item(tm_ref node)
{
    return NODE(node)->has_grad ? read(NODE(node)->dtype, tm_grad_data(NODE(node))) : 0;
}

int tm_set_grad(tm_ref node, tm_ref gradient)
{
    tm_node *x = NODE(node);
    if (gradient && check_alike("grad", x, NODE(gradient)))
        return -1;
    if (tm_grad_store(x, NODE(gradient)))
        return -1;
    if (tm_recording)
        return gradient ? tm_record_write_grad(x, NODE(gradient)) : tm_record_clear(&x, 1);
    return 0;
}

int tm_set_grad_item(tm_ref node, double gradient)
{
    tm_node *x = NODE(node), *constant;
    if (x->rank || !tm_is_float(x->dtype))
        return tm_fail(TM_SHAPE_ERROR, "grad: got a number, expected a %s array of shape %s", tm_dtype_name(x->dtype),
                       tm_shape_of(x).text);
    if (x->dtype == TM_F32)
        x->grad.f32 = (float)gradient;
    else
        x->grad.f64 = gradient;
    x->has_grad = 1;
    if (tm_recording)
        return !(constant = constant_like(x, gradient)) || tm_record_write_grad(x, constant) ? -1 : 0;
    return 0;
}

int tm_zero_grad(const tm_ref *nodes, int n)
{
    for (int i = 0; i < n; i++)
        tm_grad_clear(NODE(nodes[i]), 1);
    return tm_recording ? tm_record_clear((tm_node *const *)nodes, n) : 0;
}
