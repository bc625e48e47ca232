/* The passes that rewrite a recorded program, one file each in passes/, and their switches. A pass leaves the bits of
 * every result, parameter and gradient that anybody can still see as they are. */
#ifndef TM_PASSES_H
#define TM_PASSES_H

#include "program.h"

enum {
    TM_PASS_DEAD = 1,
    TM_PASS_COMMON = 2,
    TM_PASS_DESCEND = 4,
    TM_PASS_TAPE = 8,
    TM_PASS_BLOCKS = 16,
    TM_PASS_SHARE = 32,
};

/* 0, or -1 after tm_fail, with a list that may be freed but not run. */
typedef int tm_pass(tm_program *p, tm_steps *steps);

tm_pass tm_pass_dead;    /* steps whose data nobody reads, gradients that nobody needs */
tm_pass tm_pass_common;  /* the same op on the same data, done once */
tm_pass tm_pass_tape;    /* runs of steps on 0-d float64 nodes become tapes */
tm_pass tm_pass_blocks;  /* runs of elementwise steps on arrays go through the cache once */
/* Weight gradients and the plain descent that consumes them are one pass over the weights. `inner`: gradients that the
 * program begins by clearing need not be there in the end. Returns how many gradients are spared, or -1. */
int tm_pass_descend(tm_program *p, tm_steps *steps, int inner);
/* Nodes whose lives do not overlap share buffers; over both lists, and last of all. */
int tm_pass_share(tm_program *p);

/* For passes: */

/* By place of each made node, whether anybody but the program and its graph holds it, or with `behind` a node that was
 * made from it. For free(); NULL after tm_fail. */
uint8_t *tm_held(const tm_program *p, int behind);
/* The place of x among all nodes of the program: those made, then the outer ones. -1 for a node behind an outer one,
 * which only gradients flow to. */
int tm_place(const tm_program *p, const tm_node *x);
/* reads.c: what flows from y to an operand is made of y's gradient and, it may be, of these data. */
int tm_flow_reads_result(const tm_node *y, uint32_t operand);
int tm_flow_reads_input(const tm_node *y, uint32_t operand, uint32_t input);
/* As tm_step_accesses, but of a BACKWARD step only the reads that make a difference. */
void tm_true_accesses(const tm_step *step, tm_visit *visit, void *context);
/* The same for a BLOCKS step, without what stays in its blocks. */
void tm_blocks_accesses(const tm_step *step, tm_visit *visit, void *context);

#endif
