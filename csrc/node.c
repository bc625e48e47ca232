/* Making nodes and letting them go. */
#include "node.h"
#include "callback.h"
#include "error.h"
#include "op.h"

#include <string.h>

_Static_assert(sizeof(tm_node) == 64, "a 0-d node is one cache line");
_Static_assert(sizeof(tm_cell) == 8 && sizeof(tm_slot) == 8, "cells and slots are words");

const tm_op tm_leaf_op = {.name = ""};

static size_t node_bytes(int rank, int n_attributes, int saves, uint32_t n_inputs)
{
    size_t cells = (size_t)rank + (size_t)n_attributes + (saves ? 1 : 0) + (n_inputs > 2 ? n_inputs : 0);
    return sizeof(tm_node) + cells * sizeof(tm_cell);
}

static void start(tm_node *x, const tm_op *op, int dtype, uint32_t n_inputs)
{
    x->op = op;
    atomic_init(&x->refs, 1);
    x->mark = 0;
    x->dtype = (uint8_t)(dtype & 7);
    x->rank = 0;
    x->flags = 0;
    x->has_grad = 0;
    x->n_attributes = 0;
    x->n_inputs = n_inputs;
    x->size = 1;
    x->data.i64 = 0;
    x->grad.i64 = 0;
    x->in[0] = x->in[1] = NULL;
}

tm_node *tm_scalar_new(const tm_op *op, uint32_t n_inputs)
{
    tm_node *x = tm_block_take(sizeof *x);
    if (x)
        start(x, op, TM_F64, n_inputs);
    return x;
}

tm_node *tm_node_new(const tm_op *op, int dtype, int rank, const int64_t *shape, uint32_t n_inputs,
                     const double *attributes, int n_attributes, size_t saved_bytes, tm_node *shares)
{
    tm_node *x = tm_block_take(node_bytes(rank, n_attributes, saved_bytes > 0, n_inputs));
    if (!x)
        return NULL;
    start(x, op, dtype, n_inputs);
    x->rank = (uint8_t)(rank & 31);
    x->n_attributes = (uint8_t)n_attributes;
    for (int i = 0; i < rank; i++) {
        x->tail[i].extent = shape[i];
        if (__builtin_mul_overflow(x->size, shape[i], &x->size))
            x->size = INT64_MAX; /* more than there is memory for, unless a 0 follows */
    }
    if (n_attributes)
        memcpy(&x->tail[rank], attributes, (size_t)n_attributes * sizeof *attributes);
    if (saved_bytes) {
        x->flags |= TM_SAVES;
        *tm_saved_slot(x) = NULL;
    }
    tm_node **inputs = tm_inputs(x);
    for (uint32_t i = 0; i < n_inputs; i++)
        inputs[i] = NULL;
    if (rank) {
        if (shares && shares->rank) {
            x->data.array = shares->data.array;
            tm_buffer_hold(x->data.array);
        } else {
            size_t bytes = x->size > INT64_MAX / 8 ? SIZE_MAX : (size_t)x->size * tm_item_size(dtype);
            if (!(x->data.array = tm_buffer_new(bytes))) {
                tm_node_release(x);
                return NULL;
            }
        }
    }
    if (saved_bytes && !(*tm_saved_slot(x) = tm_buffer_new(saved_bytes))) {
        tm_node_release(x);
        return NULL;
    }
    return x;
}

/* The dead wait in a list threaded through their `grad` slots until their inputs have been let go. */
static void bury(tm_node *x, tm_node **dead)
{
    /* Who holds the only reference needs no atomic subtraction: there is nobody else to race with. */
    if (atomic_load_explicit(&x->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (x->rank && x->grad.array)
        tm_buffer_drop(x->grad.array);
    x->grad.array = *dead;
    *dead = x;
}

void tm_node_release(tm_node *x)
{
    tm_node *dead = NULL;
    bury(x, &dead);
    while (dead) {
        x = dead;
        dead = x->grad.array;
        tm_node **inputs = tm_inputs(x);
        for (uint32_t i = 0; i < x->n_inputs; i++)
            if (inputs[i])
                bury(inputs[i], &dead);
        if (x->rank && x->data.array)
            tm_buffer_drop(x->data.array);
        int saves = x->flags & TM_SAVES;
        if (saves && tm_saved(x))
            tm_buffer_drop(tm_saved(x));
        if (x->flags & TM_CALLS_PYTHON)
            tm_python_let_go((int64_t)tm_attr(x)[0]);
        tm_block_give(x, node_bytes(x->rank, x->n_attributes, saves, x->n_inputs));
    }
}

void tm_drop_inputs(tm_node *x)
{
    tm_node **inputs = tm_inputs(x);
    for (uint32_t i = 0; i < x->n_inputs; i++) {
        tm_node *input = inputs[i];
        inputs[i] = NULL;
        if (input)
            tm_node_release(input);
    }
}
