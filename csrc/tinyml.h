/* The whole C API: plain declarations only, because Python's binding is generated from this file. */
#ifndef TINYML_H
#define TINYML_H
#include <stdint.h>

/* A node or an op, as an address: integers cross into Python faster than pointers. 0 stands for a failure, whose kind
 * and message the calling thread then reads from tm_last_error and tm_error_message; functions that return int fail
 * with -1. A tm_ref to a node that a function returns is the caller's own reference, to be given up with tm_release. */
typedef intptr_t tm_ref;

int tm_last_error(void);
const char *tm_error_message(void);

/* The instruction set: "base", "avx2", "avx512", "neon", or NULL for the best this processor has. Called once, at
 * import. */
int tm_select_isa(const char *name);
const char *tm_isa(void);
const char *tm_compiler(void);
/* The op of that name; the name of the i-th op, NULL past the last. */
tm_ref tm_find_op(const char *name);
const char *tm_op_name(int i);

int tm_set_threads(int n);
int tm_num_threads(void);
void tm_empty_cache(void);
int64_t tm_live_nodes(void);

/* Leaves. dtype: 0 float32, 1 float64, 2 int64, 3 bool. data: contiguous, copied; NULL gives zeros. */
tm_ref tm_value(double data);
tm_ref tm_leaf(int dtype, int rank, const int64_t *shape, const void *data, int requires_grad);
tm_ref tm_detach(tm_ref node);
void tm_hold(tm_ref node);
void tm_release(tm_ref node);

/* Applying an op: to one, two or three nodes, to a node and a number, to a node with up to three attributes, or to any
 * number of nodes with any attributes; the last is the general one, the others spare Python the lists.
 * number_kind: 0 a float, 1 an int, 2 a bool; reversed: the number is the first operand. */
tm_ref tm_apply1(tm_ref op, tm_ref a);
tm_ref tm_apply2(tm_ref op, tm_ref a, tm_ref b);
tm_ref tm_apply_number(tm_ref op, tm_ref a, double number, int number_kind, int reversed);
tm_ref tm_apply3(tm_ref op, tm_ref a, tm_ref b, tm_ref c);
tm_ref tm_apply1_with(tm_ref op, tm_ref a, int n_attributes, double p, double q, double r);
tm_ref tm_apply(tm_ref op, const tm_ref *inputs, int n_inputs, const double *attributes, int n_attributes);
/* The same op applied to each of `rows` runs of n_inputs nodes; the results are written to `results`, all or none. */
int tm_apply_rows(tm_ref op, const tm_ref *inputs, int rows, int n_inputs, const double *attributes, int n_attributes,
                  tm_ref *results);
/* Whether the calling thread records graphs; returns what it was. */
int tm_set_grad_enabled(int enabled);
int tm_grad_enabled(void);

/* gradient: a node of root's shape and dtype, or 0 for a root of one element. */
int tm_backward(tm_ref root, tm_ref gradient);

/* Looking at a node. */
int tm_dtype_of(tm_ref node);
int tm_rank(tm_ref node);
int64_t tm_size(tm_ref node);
int64_t tm_extent(tm_ref node, int dimension);
void tm_copy_shape(tm_ref node, int64_t *shape);
intptr_t tm_address(tm_ref node);
const char *tm_op_of(tm_ref node);
int tm_input_count(tm_ref node);
tm_ref tm_input(tm_ref node, int i);
int tm_attributes(tm_ref node, double *attributes);
double tm_item(tm_ref node);
int64_t tm_item_int(tm_ref node);
int tm_requires_grad(tm_ref node);
int tm_is_leaf(tm_ref node);
int tm_retains_grad(tm_ref node);

/* Changing a node. tm_assign copies the data of a node of the same shape and dtype. */
int tm_assign(tm_ref node, tm_ref source);
int tm_set_item(tm_ref node, double data);
int tm_set_requires_grad(tm_ref node, int requires_grad);
int tm_retain_grad(tm_ref node);

/* Gradients. tm_grad: a leaf that shares the gradient's memory; 0 without a failure when there is none.
 * tm_set_grad copies; 0 clears. */
tm_ref tm_grad(tm_ref node);
double tm_grad_item(tm_ref node);
int tm_set_grad(tm_ref node, tm_ref gradient);
int tm_set_grad_item(tm_ref node, double gradient);
void tm_zero_grad(const tm_ref *nodes, int n);

/* Optimizer updates: the rule of that name over n parameters in one call. state: states-per-parameter runs of n nodes
 * each, all of state 0 first. Parameters without a gradient are left alone. */
tm_ref tm_find_update(const char *name);
int tm_update(tm_ref rule, const tm_ref *parameters, int n, const tm_ref *state, const double *hyper);
/* Scales the gradients of n parameters so that their joint norm is at most max_norm (norm_type inf: the largest
 * magnitude); returns the norm before, or -1. */
double tm_clip_grad_norm(const tm_ref *parameters, int n, double max_norm, double norm_type);
int tm_clip_grad_value(const tm_ref *parameters, int n, double clip_value);

#endif
