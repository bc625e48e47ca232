/* Shape arithmetic that the rules and kernels share: axes, broadcasting, loops over broadcast operands. */
#ifndef TM_SHAPE_H
#define TM_SHAPE_H

#include "op.h"

/* "(2, 3)", as Python writes it; for messages. */
typedef struct {
    char text[TM_MAX_RANK * 21 + 4];
} tm_shape_text;
tm_shape_text tm_shape_show(int rank, const int64_t *shape);
tm_shape_text tm_shape_of(const tm_node *x);

int64_t tm_shape_size(int rank, const int64_t *shape);
int tm_same_shape(const tm_node *a, const tm_node *b);

/* The axis in 0..rank-1 that `axis` (negative: from the end) means, or -1 after tm_fail. */
int tm_axis(const tm_call *call, double axis, int rank);

/* Fills in the result's shape with what inputs 0..n-1 broadcast to. */
int tm_broadcast(tm_call *call, int n);

/* The rules most ops have: the result is shaped like the one input, or like all inputs broadcast; its dtype is the
 * first input's, or bool. */
int tm_rule_like_input(tm_call *call);
int tm_rule_broadcast(tm_call *call);
int tm_rule_compare(tm_call *call);

/* Walks the elements of a contiguous result together with up to three operands that broadcast to it, as runs: in one
 * run the result advances by 1 and each operand by a fixed step of 0 or 1. Neighbouring dimensions that all operands
 * walk alike are merged, so that equal shapes are a single run. */
enum { TM_LOOP_OPERANDS = 3 };
typedef struct {
    int64_t run;                     /* elements per run */
    int64_t runs;                    /* how many; 0 when the result is empty */
    int64_t step[TM_LOOP_OPERANDS];  /* within a run */
    int64_t at[TM_LOOP_OPERANDS];    /* where the current run starts in each operand */
    int n, rank;                     /* operands; dimensions outside the run */
    int64_t extent[TM_MAX_RANK], index[TM_MAX_RANK];
    int64_t stride[TM_LOOP_OPERANDS][TM_MAX_RANK];
} tm_loop;
void tm_loop_start(tm_loop *loop, const tm_node *result, int n, tm_node *const *operands);
void tm_loop_next(tm_loop *loop);
/* From the start on to the given run. */
void tm_loop_seek(tm_loop *loop, int64_t run);

#endif
