/* A tape: steps on 0-d float64 nodes as code for a small machine.
 *
 * A scalar op is one arithmetic instruction, and a node is a cache line that is found through pointers. The tape keeps
 * the arithmetic and leaves out the node: each node of its steps has a slot, a number for its place in two arrays of
 * doubles, its value and its gradient. An instruction is four or more words, the first of which says what to do and the
 * others, mostly, to which slots. passes/tape.c writes the code and moves what others can see between slots and nodes,
 * before and after; ops/tape.h runs it, once per instruction set, with the formulas of ops/elementwise.h. It rounds
 * what the kernels round, in their order, so that the bits are the same.
 *
 * Gradients only ever get added to: a slot without one holds -0.0, the number to which x + -0.0 = x for every x,
 * +0.0 and -0.0 included. So a first contribution needs no instruction of its own, and to clear is to fill.
 *
 * Slots come in this order: parameters as their optimizer lists them, other leaves as they are first used, results as
 * they are made, constants. The weights of a neuron, or the outputs of a layer, are thus neighbours, and a dot over
 * neighbours (DOT_RUN) is vector code. */
#ifndef TM_TAPE_H
#define TM_TAPE_H

#include "program.h"

#define TAPE_NO_SLOT UINT32_MAX

/* In the comments: the words of an instruction, v and g for value and gradient. */
enum {
    TAPE_END,
    TAPE_FILL,       /* first n -: g = -0.0 for n slots */
    TAPE_COPY,       /* y x -: v[y] = v[x] */
    TAPE_SEED,       /* y x -: g[y] = v[x] + 0.0, where there is no gradient */
    TAPE_SEED_MORE,  /* y x -: g[y] = v[x] + g[y] */
    TAPE_READ_GRAD,  /* y x -: v[y] = g[x] */
    TAPE_WRITE_GRAD, /* y x -: g[y] = v[x] */
    TAPE_UPDATE,     /* update, first parameter, n, first slot of each state: TAPE_UPDATE_WORDS in all */
    /* y n x, x being the first of n neighbours, or for the others y n - and then n slots */
    TAPE_ADD_N_RUN,
    TAPE_ADD_N,
    TAPE_ADD_N_RUN_BACK,
    TAPE_ADD_N_BACK,
    /* y n, activation, bias, w x, wants, -; w and x being the first of n neighbours each. For the others y n,
     * activation, bias, and then n slots of w and n of x. */
    TAPE_DOT_RUN,
    TAPE_DOT,
    TAPE_DOT_RUN_BACK,
    TAPE_DOT_BACK,
/* y a b: b is the first attribute's slot where there are attributes. Gradients flow to a, to b, or to both. */
#define UNARY(name, value, dydx) TAPE_##name, TAPE_##name##_BACK,
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define UNARY_NUMBER UNARY
#define BINARY(name, value, dyda, dydb) TAPE_##name, TAPE_##name##_BACK_A, TAPE_##name##_BACK_B, TAPE_##name##_BACK,
#define BINARY_NUMBER BINARY
#define COMPARE(name, value)
#include "ops/elementwise.h"
#undef UNARY
#undef UNARY_P
#undef UNARY_PQ
#undef UNARY_NUMBER
#undef BINARY
#undef BINARY_NUMBER
#undef COMPARE
    TAPE_OPS,
};

enum {
    TAPE_WORDS = 4,        /* of the instructions that have no other number */
    TAPE_DOT_WORDS = 8,
    TAPE_STATES = 4, /* of an optimizer, at most */
    TAPE_UPDATE_WORDS = 4 + TAPE_STATES,
    TAPE_WANTS_W = 1,
    TAPE_WANTS_X = 2,
};

/* The machine's state. */
struct tm_tape {
    const uint32_t *code;
    double *values, *gradients;
    const tm_recorded_update **updates;
};

#endif
