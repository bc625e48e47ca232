/* A program: the steps that a function took while a thread recorded them, as a flat list that replays without Python.
 *
 * Nodes stay what they are: a step calls the kernels of the very nodes that were made while recording, whose memory
 * every replay writes anew. Data and gradients are found through the nodes at every replay, because an input's buffer
 * is that of the argument at hand. */
#ifndef TM_PROGRAM_H
#define TM_PROGRAM_H

#include "op.h"

#include <pthread.h>

typedef enum {
    TM_STEP_FORWARD,    /* y's data, from its inputs' */
    TM_STEP_ALIAS,      /* y's data is x's: arrays share the memory, 0-d nodes copy */
    TM_STEP_COPY,       /* y's data, from x's */
    TM_STEP_CLEAR,      /* none of `nodes` has a gradient any more */
    TM_STEP_SEED,       /* y's gradient starts from x's data, or from 1 without x */
    TM_STEP_BACKWARD,   /* y's gradient flows into its inputs', and is let go of as backward() does */
    TM_STEP_READ_GRAD,  /* y's data, from x's gradient */
    TM_STEP_WRITE_GRAD, /* y's gradient, from x's data */
    TM_STEP_UPDATE,     /* an optimizer moves `nodes` */
    TM_STEP_CLIP_NORM,  /* the joint norm of the gradients of `nodes` is bounded; y is the norm before */
    TM_STEP_CLIP_VALUE, /* every element of the gradients of `nodes` is bounded */
    /* Made by passes: */
    TM_STEP_DESCEND,    /* BACKWARD, and those inputs that are `parameters` move at once instead of keeping a gradient */
    TM_STEP_BLOCKS,     /* the elementwise steps `inside`, all of them block by block */
    TM_STEP_TAPE,       /* the steps `inside`, whose nodes are 0-d, as a tape */
    TM_STEP_KINDS,
} tm_step_kind;

enum { TM_MAX_HYPERS = 8 };
enum { TM_GIVES = 1, TM_GIVES_FRESH = 3 }; /* fresh: cleared on the way, so that who holds the one before keeps it */

/* An optimizer's update as it was recorded; its hyperparameters may be set between replays. */
typedef struct {
    const tm_update_rule *rule;
    tm_node **states; /* n of each state, all of state 0 first */
    double hyper[TM_MAX_HYPERS];
} tm_recorded_update;

typedef struct tm_step tm_step;

typedef struct {
    tm_step *step;
    int n, room;
} tm_steps;

struct tm_step {
    int (*run)(tm_step *step); /* 0, or -1 after tm_fail */
    tm_node *y, *x;
    tm_kernel *kernel; /* of FORWARD and BACKWARD */
    tm_node **nodes;
    int n;
    tm_step_kind kind;
    tm_recorded_update *update; /* of UPDATE, and the one that a DESCEND has taken over */
    double p, q;                /* bounds: the norm and its type, or the value */
    unsigned parameters;        /* of DESCEND: a bit for each input that moves */
    tm_steps inside;
    void *made; /* what the pass that made this step keeps for it */
    void (*free_made)(void *made);
};

typedef struct {
    tm_node **node;
    int n, room;
} tm_nodes;

typedef struct {
    pthread_mutex_t lock; /* held during replays */
    int grad_enabled;     /* whether the recording thread kept graphs when it began */
    tm_nodes made;        /* while recording, with a reference to each; the n_inputs inputs first */
    int n_inputs;
    uint8_t *gives_grad;  /* whether an input's gradient is that of the argument: 0, TM_GIVES, or TM_GIVES_FRESH too */
    tm_nodes arguments;   /* of the replay at hand, with a reference to each; NULL for numbers. While recording only those
                           * that require a gradient */
    tm_nodes results;     /* of the function; without references of their own, as the nodes of steps */
    tm_nodes outer;       /* nodes from before that steps use, in the order of their addresses, with a reference each */
    uint32_t *outer_uses; /* how many of the references to an outer node are due to this program */
    uint8_t *outer_flags; /* its flags at the time */
    /* `last` leaves behind all that the function would. `inner` is for a replay that another one follows at once: it
     * need not leave gradients that the next replay begins by clearing. Empty when it would be the same. */
    tm_steps last, inner;
    tm_recorded_update **updates; /* in the order of recording */
    int n_updates;
} tm_program;

/* steps.c: what steps are made of, and what they do. */

/* A new step at the end, zero but for its kind and run; NULL after tm_fail. The list may move. */
tm_step *tm_steps_add(tm_steps *steps, tm_step_kind kind);
/* A copy of a list of steps that passes have not touched yet. */
int tm_steps_copy(tm_steps *to, const tm_steps *from);
/* Turns a recorded step into one of another recorded kind. */
void tm_step_become(tm_step *step, tm_step_kind kind);
/* Takes out the steps whose kind is TM_STEP_KINDS. */
void tm_steps_sweep(tm_steps *steps);
/* Moves `count` steps from `first` on into `inside` of a new step of that kind in their place; NULL after tm_fail. Its
 * run is for the caller to set. */
tm_step *tm_steps_wrap(tm_steps *steps, int first, int count, tm_step_kind kind);
void tm_steps_free(tm_steps *steps);
/* Lets a CLEAR step whose nodes' gradients nobody else can see keep their memory without looking. */
void tm_steps_forget(tm_step *clear);
int tm_nodes_add(tm_nodes *nodes, tm_node *x);

/* What a step does with data and gradients of nodes. ADDS_GRAD starts a gradient where there is none. */
typedef enum {
    TM_READS_DATA,
    TM_WRITES_DATA,
    TM_READS_GRAD,
    TM_ADDS_GRAD,
    TM_WRITES_GRAD,
    TM_CLEARS_GRAD,
} tm_access;
typedef void tm_visit(void *context, tm_access access, tm_node *x);
/* Tells all of it to `visit`, reads before writes. */
void tm_step_accesses(const tm_step *step, tm_visit *visit, void *context);

/* Runs the steps in order; 0, or -1 after tm_fail. */
static inline int tm_steps_run(const tm_steps *steps)
{
    for (tm_step *step = steps->step, *end = step + steps->n; step < end; step++)
        if (step->run(step))
            return -1;
    return 0;
}

/* Gradients of inputs go to their arguments. */
int tm_give_gradients(tm_program *p);
/* Whether x is one of the first n arguments that require a gradient. */
int tm_given(const tm_program *p, const tm_node *x, int n);
/* Whether the gradients of argument i and of one before it both go to the same node. */
int tm_given_twice(const tm_program *p, tm_node *const *arguments, int i);
/* Whether x is a node from before that steps use. */
int tm_is_outer(const tm_program *p, const tm_node *x);

/* Whether x was made while the program was recorded, so that no one else changes it. For passes. */
static inline int tm_made(const tm_program *p, const tm_node *x)
{
    const uint32_t place = __atomic_load_n(&x->mark, __ATOMIC_RELAXED);
    return place > 0 && place <= (uint32_t)p->made.n && p->made.node[place - 1] == x;
}

#endif
