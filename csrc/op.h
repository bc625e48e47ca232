/* The op table: what an op is, and how its rows are found. */
#ifndef TM_OP_H
#define TM_OP_H

#include "node.h"

enum { TM_MAX_ATTRIBUTES = 64, TM_ANY = -1 };

/* What is known of a call before its node exists. The op's rule checks inputs and attributes and fills in the
 * result. */
typedef struct {
    const tm_op *op;
    tm_node **in;
    int n_in;
    double attr[TM_MAX_ATTRIBUTES]; /* a rule may rewrite them, as a negative axis: kernels read what it leaves */
    int n_attr;
    /* the result */
    int dtype, rank;
    int64_t shape[TM_MAX_RANK];
    size_t saved_bytes;  /* room for what forward leaves to backward */
    tm_node *shares;     /* the input whose buffer the result shares, if any */
} tm_call;

typedef int tm_rule(tm_call *call);
/* Computes y's data from its inputs, or adds to its inputs' gradients from y's. 0, or -1 after tm_fail. */
typedef int tm_kernel(tm_node *y);
/* Like backward, but an input whose bit is set in `parameters` gets no gradient: its data moves by a step of plain SGD
 * at once, with the bits of backward and then the update rule "sgd". For parameters that have no gradient from
 * elsewhere. */
typedef int tm_descend_kernel(tm_node *y, double lr, unsigned parameters);

/* What an elementwise op does to n elements: y[i] = f(a[i * a_step], b[i * b_step]). A step is 1 or 0, not both are 0,
 * and the only operand's is 1; then b is not read. y may be a or b, where that one steps by 1. */
typedef void tm_block_kernel(int64_t n, const void *a, int64_t a_step, const void *b, int64_t b_step, void *y,
                             const double *attributes);
/* terms[i] = dy[i] times the derivative of y[i] by operand 0 or 1, and 0 where dy[i] is 0; terms may be dy. */
typedef void tm_block_backward_kernel(int64_t n, int operand, const void *dy, const void *a, int64_t a_step,
                                      const void *b, int64_t b_step, const void *y, void *terms,
                                      const double *attributes);

/* One row per op. The kernels are chosen by the dtype of the first input. A dtype without a forward kernel is lifted
 * along bool, int64, float32; no backward kernel means no gradient. */
struct tm_op {
    const char *name;
    int min_in, max_in; /* TM_ANY: no upper bound */
    int min_attr;
    int promote;        /* how many leading inputs are brought to one dtype; TM_ANY: all */
    int elementwise;    /* applies to 0-d nodes without asking the rule */
    int draws;          /* moves its second input, a generator, on */
    tm_rule *rule;
    tm_kernel *forward[TM_DTYPES], *backward[TM_DTYPES];
    tm_descend_kernel *descend[TM_DTYPES]; /* linear: weight and bias; matmul: the second operand, unless it is shared */
    /* Elementwise arithmetic only: the loops of these kernels. Their bits do not depend on where blocks are cut. */
    tm_block_kernel *block[TM_DTYPES];
    tm_block_backward_kernel *block_backward[TM_DTYPES];
    /* What dy flows into each operand by, as text: backward reads the data of no others than the operands x or a, b and
     * the result y that it mentions. NULL: perhaps of all. */
    const char *derivative[3];
};

/* In-place parameter updates, which are not part of any graph. */
typedef struct {
    const char *name;
    int n_states, n_hypers;
    /* On n elements of a parameter, its gradient and its states; state 0, where there are states, is a double instead:
     * how many steps the parameter has taken, this one included. */
    void (*kernel[TM_DTYPES])(int64_t n, void *parameter, const void *gradient, void *const *states,
                              const double *hyper);
} tm_update_rule;

typedef struct tm_tape tm_tape;

/* The rows of one instruction set, each list ended by a row without a name. The first op is the cast. */
typedef struct {
    const char *isa;
    const tm_op *ops;
    const tm_update_rule *updates;
    void (*run_tape)(const tm_tape *tape);
} tm_table;

extern const tm_table tm_table_base, tm_table_avx2, tm_table_avx512, tm_table_neon;

/* The op in the chosen table; NULL when there is none. */
const tm_op *tm_op_named(const char *name);
const tm_op *tm_cast_op(void);
void tm_run_tape(const tm_tape *tape);

/* apply.c: the result of an op; NULL after tm_fail, with nothing changed. */
tm_node *tm_call_op(const tm_op *op, tm_node *const *in, int n_in, const double *attr, int n_attr);
/* The same for an elementwise op on 0-d float64 nodes; b is NULL for one operand. */
tm_node *tm_call_scalar(const tm_op *op, tm_node *a, tm_node *b);

#endif
