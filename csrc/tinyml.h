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

/* Leaves. dtype: 0 float32, 1 float64, 2 int64, 3 bool. data: contiguous, copied; NULL gives zeros. tm_detach: over
 * the same memory, tm_copy: over its own; 0-d nodes are copied by both. */
tm_ref tm_value(double data);
tm_ref tm_leaf(int dtype, int rank, const int64_t *shape, const void *data, int requires_grad);
tm_ref tm_detach(tm_ref node);
tm_ref tm_copy(tm_ref node);
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
/* The same op applied in layers. Layer k gives rows[k] results: of its inputs, followed by the first n_own[k] nodes of
 * own[k], by the next ones, and so on, each with the k-th run of n_attributes attributes. Its inputs are the results of
 * the layer before, the first one's `inputs`. Those of the last are written to `results`, all or none. Returns the
 * largest rank among them. */
int tm_apply_layers(tm_ref op, const tm_ref *inputs, int n_inputs, int n_layers, const tm_ref *const *own,
                    const int *n_own, const int *rows, const double *attributes, int n_attributes, tm_ref *results);
/* Whether the calling thread records graphs; returns what it was. */
int tm_set_grad_enabled(int enabled);
int tm_grad_enabled(void);

/* gradient: a node of root's shape and dtype, or 0 for a root of one element. */
int tm_backward(tm_ref root, tm_ref gradient);

/* Calling Python: see callback.h for the events. 0, or -1 when Python has put an exception aside. */
typedef int (*tm_callback)(int event, int64_t number, tm_ref node);
void tm_set_callback(tm_callback callback);
/* For results of the op "function": the number of the Python object, and in its backward the way for a gradient of the
 * i-th input, contiguous and of its shape and dtype. */
int64_t tm_function_number(tm_ref node);
int tm_function_flow(tm_ref node, int input, const void *gradient);

/* What the calling thread looks for in results and gradients: 1 nan, 2 infinity, 3 both; returns what it was. */
unsigned tm_set_anomaly(unsigned what);
unsigned tm_anomaly_mode(void);

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

/* Gradients. tm_grad: a leaf that shares the gradient's memory, 0 when there is none. tm_set_grad copies; 0 clears. */
int tm_grad(tm_ref node, tm_ref *gradient);
double tm_grad_item(tm_ref node);
int tm_set_grad(tm_ref node, tm_ref gradient);
int tm_set_grad_item(tm_ref node, double gradient);
int tm_zero_grad(const tm_ref *nodes, int n);

/* Optimizer updates: the rule of that name over n parameters in one call. state: states-per-parameter runs of n nodes
 * each, all of state 0 first. Parameters without a gradient are left alone. */
tm_ref tm_find_update(const char *name);
int tm_update(tm_ref rule, const tm_ref *parameters, int n, const tm_ref *state, const double *hyper);
/* Scales the gradients of n parameters so that their joint norm is at most max_norm (norm_type inf: the largest
 * magnitude); returns the norm before, as a 0-d float64 node. */
tm_ref tm_clip_grad_norm(const tm_ref *parameters, int n, double max_norm, double norm_type);
int tm_clip_grad_value(const tm_ref *parameters, int n, double clip_value);

/* Recording: from tm_record_start to tm_record_stop, or to tm_program_free, the calling thread's steps go into a
 * program. tm_record_input makes an input that stands for an argument, before anything else is recorded.
 * tm_record_stop names the results. tm_is_recorded: 0 where a node's numbers stay what they are, as a constant's; 1
 * where replays change them; 2 + i for input i. */
tm_ref tm_record_start(void);
tm_ref tm_record_input(tm_ref argument);
int tm_record_stop(const tm_ref *results, int n);
int tm_is_recorded(tm_ref node);
/* What the calling thread records from here on: 0 for nothing, or a program that this has returned before. */
tm_ref tm_record_switch_to(tm_ref program);
void tm_program_free(tm_ref program);
/* How many results of the recording somebody else holds; -1 after a failure. */
int tm_program_escaped(tm_ref program);
/* Applies the passes of csrc/passes.h, by their bits. Once, before the first replay. */
int tm_program_rewrite(tm_ref program, unsigned passes);
/* Hyperparameters for the i-th update from the next replay on. */
void tm_program_set_hyper(tm_ref program, int update, const double *hyper);

/* Replay: with arguments for the inputs, nodes or, where that is 0, numbers (NULL: no numbers). 0, -1 after a failure,
 * or 1 when the program does not fit: arguments of another shape, dtype or need for a gradient, another gradient mode,
 * an outer node that nobody else holds any more, or whose need for a gradient has changed. results: fresh leaves. */
int tm_program_call(tm_ref program, const tm_ref *arguments, const double *numbers, tm_ref *results);
/* The same for one result, which it returns; 0 after a failure, 1 when the program does not fit. */
tm_ref tm_program_call1(tm_ref program, const tm_ref *arguments, const double *numbers);
/* The same in pieces: many replays between enter and leave. The i-th replay's results are written to row i of
 * outputs[k] for each result k. Returns how many have been done by when `seconds` were over, at least one; -1 after a failure.
 * over: the i-th replay takes the rows of input k, as many as that has, from sources[k], unless that is NULL: those that
 * order names from (first + i) * rows on, or without an order those themselves. */
int tm_program_enter(tm_ref program, const tm_ref *arguments, const double *numbers);
int64_t tm_program_repeat(tm_ref program, int64_t n, double seconds, void *const *outputs);
int64_t tm_program_over(tm_ref program, int64_t first, int64_t n, double seconds, void *const *outputs,
                        const void *const *sources, const int64_t *order);
void tm_program_leave(tm_ref program);

/* Looking at a program's steps, by place, and with inside >= 0 at those that a step has taken in: the kind, the op's
 * update rule or "", the node (no reference given; may be 0), how many nodes a step on many has. bytes: of all arrays
 * that the program's nodes have. seconds: how long each step takes, the fastest of so many replays. */
int tm_program_steps(tm_ref program);
int tm_program_inside(tm_ref program, int step);
const char *tm_step_kind_name(tm_ref program, int step, int inside);
const char *tm_step_rule_name(tm_ref program, int step, int inside);
tm_ref tm_step_node(tm_ref program, int step, int inside);
int tm_step_nodes(tm_ref program, int step, int inside);
int64_t tm_program_bytes(tm_ref program);
int tm_program_profile(tm_ref program, int replays, double *seconds);
/* How many blocks and buffers the calling thread has taken from its pool so far. */
int64_t tm_allocations(void);

#endif
