/* The node: one type for scalars and arrays, leaves and results. */
#ifndef TM_NODE_H
#define TM_NODE_H

#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TM_MAX_RANK 16

typedef enum { TM_F32, TM_F64, TM_I64, TM_BOOL, TM_DTYPES } tm_dtype;

enum {
    TM_REQUIRES_GRAD = 1,
    TM_RETAIN_GRAD = 2, /* keep the gradient of a result after the sweep; 0-d nodes always do */
    TM_SAVES = 4,       /* has a saved buffer: what forward leaves for backward */
    TM_RECORDED = 8,    /* made while its thread records */
    TM_LENDS_GRAD = 16, /* its gradient's buffer is used by other nodes of a program too, at other times */
    TM_CALLS_PYTHON = 32, /* has an object there, which must hear of its end */
};

typedef struct tm_op tm_op;
typedef struct tm_node tm_node;

/* One element in place, or the address of many. */
typedef union {
    void *array;
    float f32;
    double f64;
    int64_t i64;
    uint8_t b8;
} tm_slot;

typedef union {
    int64_t extent;
    double attribute;
    tm_node *input;
    void *saved;
} tm_cell;

/* A 0-d node is exactly one cache line. All else has a tail of cells: shape, attributes, saved, and the inputs where
 * there are more than two. A node never holds itself, directly or through others. */
struct tm_node {
    const tm_op *op;
    _Atomic uint32_t refs;
    uint32_t mark; /* in a result: where the topological sort is; in a leaf: the thread that accumulates its gradient */
    uint8_t dtype : 3, rank : 5;
    uint8_t flags;
    uint8_t has_grad; /* grad holds a gradient; apart from flags because a leaf's is written under its lock */
    uint8_t n_attributes;
    uint32_t n_inputs;
    int64_t size;
    tm_slot data, grad;
    tm_node *in[2]; /* NULL in a result that keeps no graph */
    tm_cell tail[];
};

static inline size_t tm_item_size(int dtype)
{
    static const uint8_t sizes[TM_DTYPES] = {4, 8, 8, 1};
    return sizes[dtype];
}

static inline const char *tm_dtype_name(int dtype)
{
    static const char *const names[TM_DTYPES] = {"float32", "float64", "int64", "bool"};
    return names[dtype];
}

static inline int tm_is_float(int dtype)
{
    return dtype <= TM_F64;
}

static inline void *tm_data(tm_node *x)
{
    return x->rank ? x->data.array : &x->data;
}

static inline void *tm_grad_data(tm_node *x)
{
    return x->rank ? x->grad.array : &x->grad;
}

static inline const int64_t *tm_shape(const tm_node *x)
{
    return &x->tail[0].extent;
}

static inline const double *tm_attr(const tm_node *x)
{
    return &x->tail[x->rank].attribute;
}

static inline void **tm_saved_slot(tm_node *x)
{
    return &x->tail[x->rank + x->n_attributes].saved;
}

/* What the forward kernel left for the backward one. */
static inline void *tm_saved(tm_node *x)
{
    return *tm_saved_slot(x);
}

static inline tm_node **tm_inputs(tm_node *x)
{
    return x->n_inputs <= 2 ? x->in : &x->tail[x->rank + x->n_attributes + !!(x->flags & TM_SAVES)].input;
}

/* Whether a sweep stops at x: it has no graph behind it. */
static inline int tm_leaf_node(tm_node *x)
{
    return x->n_inputs == 0 || tm_inputs(x)[0] == NULL;
}

/* A fresh node with room for its data, which is not set; one reference. shape may be NULL when rank is 0. With
 * `shares`, an array node uses that node's buffer instead of its own. */
tm_node *tm_node_new(const tm_op *op, int dtype, int rank, const int64_t *shape, uint32_t n_inputs,
                     const double *attributes, int n_attributes, size_t saved_bytes, tm_node *shares);
/* A 0-d float64 node with up to two inputs, without the detours of tm_node_new. */
tm_node *tm_scalar_new(const tm_op *op, uint32_t n_inputs);

static inline void tm_node_hold(tm_node *x)
{
    atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
}

/* Gives up one reference; the last one frees the node and, without recursion, all that only it held. */
void tm_node_release(tm_node *x);
/* Lets go of a result's inputs, which makes it a leaf. */
void tm_drop_inputs(tm_node *x);

extern const tm_op tm_leaf_op;

#endif
