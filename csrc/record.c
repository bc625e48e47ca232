/* Recording: each hook adds the step just taken to the program, and sees to it that the nodes it needs stay. */
#include "record.h"
#include "error.h"
#include "grad.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>

_Thread_local tm_program *tm_recording TM_FAST_TLS;

tm_ref tm_record_switch_to(tm_ref program)
{
    tm_program *before = tm_recording;
    tm_recording = (tm_program *)program;
    return (tm_ref)before;
}

static int keep_made(tm_node *y)
{
    y->flags |= TM_RECORDED;
    if (tm_nodes_add(&tm_recording->made, y))
        return -1;
    tm_node_hold(y);
    return 0;
}

/* Nodes from before the recording are listed once; which ones they are shows when recording ends. */
static int keep_outer(tm_node *x)
{
    tm_nodes *outer = &tm_recording->outer;
    if (x->flags & TM_RECORDED) /* of this recording, or found to be of another one when it ends */
        return 0;
    for (int i = outer->n; i-- > 0 && i >= outer->n - 8;) /* most are met again soon */
        if (outer->node[i] == x)
            return 0;
    if (tm_given(tm_recording, x, tm_recording->n_inputs))
        return tm_fail(TM_RUNTIME_ERROR, "compile: an argument that requires a gradient is also reached in another way, "
                       "as by an optimizer, which would not see the gradient that goes to the argument; pass it, or use "
                       "it from outside, but not both");
    if (tm_nodes_add(outer, x))
        return -1;
    tm_node_hold(x);
    return 0;
}

static tm_step *add(tm_step_kind kind, tm_node *y, tm_node *x)
{
    if ((y && keep_outer(y)) || (x && keep_outer(x)))
        return NULL;
    tm_step *step = tm_steps_add(&tm_recording->last, kind);
    if (step) {
        step->y = y;
        step->x = x;
    }
    return step;
}

static tm_node **copy_nodes(tm_node *const *nodes, int n)
{
    const size_t bytes = (size_t)(n ? n : 1) * sizeof *nodes;
    tm_node **copy = malloc(bytes);
    if (!copy) {
        tm_fail_memory("a recorded step", bytes);
        return NULL;
    }
    if (n) /* a sweep from a leaf has no results, and no list of them */
        memcpy(copy, nodes, (size_t)n * sizeof *nodes);
    for (int i = 0; i < n; i++)
        if (keep_outer(nodes[i])) {
            free(copy);
            return NULL;
        }
    return copy;
}

static tm_step *add_many(tm_step_kind kind, tm_node *const *nodes, int n)
{
    tm_node **copy = copy_nodes(nodes, n);
    tm_step *step = copy ? add(kind, NULL, NULL) : NULL;
    if (step) {
        step->nodes = copy;
        step->n = n;
    } else {
        free(copy);
    }
    return step;
}

int tm_record_result(tm_node *y)
{
    return keep_outer(y);
}

int tm_record_forward(tm_node *y)
{
    tm_node **inputs = tm_inputs(y);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        if (keep_outer(inputs[i]))
            return -1;
    if (keep_made(y))
        return -1;
    const int shared = y->rank && inputs[0]->rank && y->data.array == inputs[0]->data.array;
    tm_step *step = add(shared ? TM_STEP_ALIAS : TM_STEP_FORWARD, y, shared ? inputs[0] : NULL);
    if (!step)
        return -1;
    step->kernel = y->op->forward[inputs[0]->dtype];
    return 0;
}

int tm_record_leaf(tm_node *y, tm_node *x)
{
    return keep_made(y) || (x && !add(TM_STEP_ALIAS, y, x)) ? -1 : 0;
}

int tm_record_sweep(tm_node *root, tm_node *gradient, tm_node **order, size_t n)
{
    if (n > INT32_MAX)
        return tm_fail(TM_RUNTIME_ERROR, "compile: a graph of %zu results is more than a program holds", n);
    return !add_many(TM_STEP_CLEAR, order, (int)n) || !add(TM_STEP_SEED, root, gradient) ? -1 : 0;
}

int tm_record_backward(tm_node *y)
{
    tm_step *step = add(TM_STEP_BACKWARD, y, NULL);
    if (!step)
        return -1;
    step->kernel = y->op->backward[tm_inputs(y)[0]->dtype];
    return 0;
}

int tm_record_switch(const tm_node *x)
{
    const tm_program *p = tm_recording;
    int mine = (x->flags & TM_RECORDED) && !x->n_inputs; /* a leaf that was made within */
    for (int i = 0; i < p->n_inputs; i++)
        mine &= x != p->made.node[i];
    return mine ? 0 : tm_fail(TM_RUNTIME_ERROR, "requires_grad: switched within a compiled function, which replays would "
                              "not repeat; use .detach(), or switch it outside");
}

int tm_record_clear(tm_node *const *nodes, int n)
{
    return add_many(TM_STEP_CLEAR, nodes, n) ? 0 : -1;
}

int tm_record_copy(tm_node *y, tm_node *x)
{
    if (y->flags & TM_RECORDED)
        return tm_fail(TM_RUNTIME_ERROR, "compile: the data of an argument, or of a node made within the compiled "
                       "function, is assigned, which the next call could not undo; make a new tensor instead, or "
                       "assign outside");
    return add(TM_STEP_COPY, y, x) ? 0 : -1;
}

int tm_record_read_grad(tm_node *y, tm_node *x)
{
    return keep_made(y) || !add(TM_STEP_READ_GRAD, y, x) ? -1 : 0;
}

int tm_record_write_grad(tm_node *y, tm_node *x)
{
    return add(TM_STEP_WRITE_GRAD, y, x) ? 0 : -1;
}

int tm_record_update(const tm_update_rule *rule, tm_node *const *parameters, int n, tm_node *const *states,
                     const double *hyper)
{
    tm_program *p = tm_recording;
    tm_recorded_update *update = calloc(1, sizeof *update);
    tm_recorded_update **updates = realloc(p->updates, (size_t)(p->n_updates + 1) * sizeof *updates);
    if (updates)
        p->updates = updates;
    if (!update || !updates) {
        free(update);
        return tm_fail_memory("a recorded update", sizeof *update);
    }
    p->updates[p->n_updates++] = update;
    update->rule = rule;
    memcpy(update->hyper, hyper, (size_t)rule->n_hypers * sizeof *hyper);
    update->states = copy_nodes(states, rule->n_states * n);
    tm_step *step = update->states ? add_many(TM_STEP_UPDATE, parameters, n) : NULL;
    if (!step)
        return -1;
    step->update = update;
    return 0;
}

int tm_record_clip_norm(tm_node *y, tm_node *const *nodes, int n, double max_norm, double norm_type)
{
    if (keep_made(y))
        return -1;
    tm_step *step = add_many(TM_STEP_CLIP_NORM, nodes, n);
    if (!step)
        return -1;
    step->y = y;
    step->p = max_norm;
    step->q = norm_type;
    return 0;
}

int tm_record_clip_value(tm_node *const *nodes, int n, double clip_value)
{
    tm_step *step = add_many(TM_STEP_CLIP_VALUE, nodes, n);
    if (!step)
        return -1;
    step->p = clip_value;
    return 0;
}
