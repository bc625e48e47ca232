/* Lists of steps: making, changing and freeing them, how each kind runs, and what each does with its nodes. */
#include "error.h"
#include "grad.h"
#include "program.h"
#include "update.h"

#include <stdlib.h>
#include <string.h>

static int run_forward(tm_step *s)
{
    return s->kernel(s->y);
}

static int run_alias(tm_step *s)
{
    tm_node *y = s->y, *x = s->x;
    if (!y->rank) {
        memcpy(&y->data, tm_data(x), tm_item_size(y->dtype)); /* x may be an array of one element */
    } else if (!x->rank) {
        memcpy(y->data.array, &x->data, tm_item_size(y->dtype));
    } else if (y->data.array != x->data.array) {
        tm_buffer_drop(y->data.array);
        tm_buffer_hold(y->data.array = x->data.array);
    }
    return 0;
}

static int run_copy(tm_step *s)
{
    memmove(tm_data(s->y), tm_data(s->x), (size_t)s->y->size * tm_item_size(s->y->dtype));
    return 0;
}

static int run_clear(tm_step *s)
{
    for (int i = 0; i < s->n; i++)
        tm_grad_clear(s->nodes[i], 1);
    return 0;
}

/* The same for nodes whose gradients nobody else can see. */
static int run_forget(tm_step *s)
{
    for (int i = 0; i < s->n; i++)
        s->nodes[i]->has_grad = 0;
    return 0;
}

void tm_steps_forget(tm_step *clear)
{
    clear->run = run_forget;
}

static int run_seed(tm_step *s)
{
    return tm_seed(s->y, s->x);
}

static int run_backward(tm_step *s)
{
    const int failed = tm_flow(s->y, tm_thread_id());
    if (s->y->rank && !(s->y->flags & TM_RETAIN_GRAD))
        s->y->has_grad = 0;
    return failed;
}

static int run_read_grad(tm_step *s)
{
    const size_t bytes = (size_t)s->y->size * tm_item_size(s->y->dtype);
    if (s->x->has_grad)
        memcpy(tm_data(s->y), tm_grad_data(s->x), bytes);
    else
        memset(tm_data(s->y), 0, bytes);
    return 0;
}

static int run_write_grad(tm_step *s)
{
    return tm_grad_store(s->y, s->x);
}

static int run_update(tm_step *s)
{
    tm_update_run(s->update->rule, s->nodes, s->n, s->update->states, s->update->hyper);
    return 0;
}

static int run_clip_norm(tm_step *s)
{
    tm_clip_norm_run(s->y, s->nodes, s->n, s->p, s->q);
    return 0;
}

static int run_clip_value(tm_step *s)
{
    tm_clip_value_run(s->nodes, s->n, s->p);
    return 0;
}

static int (*const runs[TM_STEP_KINDS])(tm_step *) = {
    [TM_STEP_FORWARD] = run_forward,       [TM_STEP_ALIAS] = run_alias,
    [TM_STEP_COPY] = run_copy,             [TM_STEP_CLEAR] = run_clear,
    [TM_STEP_SEED] = run_seed,             [TM_STEP_BACKWARD] = run_backward,
    [TM_STEP_READ_GRAD] = run_read_grad,   [TM_STEP_WRITE_GRAD] = run_write_grad,
    [TM_STEP_UPDATE] = run_update,         [TM_STEP_CLIP_NORM] = run_clip_norm,
    [TM_STEP_CLIP_VALUE] = run_clip_value,
};

static int make_room(void **items, int *room, int n, size_t item)
{
    if (n < *room)
        return 0;
    const int more = *room ? 2 * *room : 16;
    void *moved = realloc(*items, (size_t)more * item);
    if (!moved)
        return tm_fail_memory("a program", (size_t)more * item);
    *items = moved;
    *room = more;
    return 0;
}

int tm_nodes_add(tm_nodes *nodes, tm_node *x)
{
    if (make_room((void **)&nodes->node, &nodes->room, nodes->n, sizeof *nodes->node))
        return -1;
    nodes->node[nodes->n++] = x;
    return 0;
}

void tm_step_become(tm_step *step, tm_step_kind kind)
{
    step->kind = kind;
    step->run = runs[kind];
}

tm_step *tm_steps_add(tm_steps *steps, tm_step_kind kind)
{
    if (make_room((void **)&steps->step, &steps->room, steps->n, sizeof *steps->step))
        return NULL;
    tm_step *step = &steps->step[steps->n++];
    memset(step, 0, sizeof *step);
    tm_step_become(step, kind);
    return step;
}

int tm_steps_copy(tm_steps *to, const tm_steps *from)
{
    for (int i = 0; i < from->n; i++) {
        const tm_step *original = &from->step[i];
        tm_step *step = tm_steps_add(to, original->kind);
        if (!step)
            return -1;
        *step = *original;
        if (!original->nodes)
            continue;
        const size_t bytes = (size_t)(original->n ? original->n : 1) * sizeof *step->nodes;
        if (!(step->nodes = malloc(bytes)))
            return tm_fail_memory("a program", bytes);
        memcpy(step->nodes, original->nodes, (size_t)original->n * sizeof *step->nodes);
    }
    return 0;
}

static void free_step(tm_step *step)
{
    free(step->nodes);
    if (step->free_made)
        step->free_made(step->made);
    tm_steps_free(&step->inside);
}

void tm_steps_free(tm_steps *steps)
{
    for (int i = 0; i < steps->n; i++)
        free_step(&steps->step[i]);
    free(steps->step);
    *steps = (tm_steps){0};
}

void tm_steps_sweep(tm_steps *steps)
{
    int kept = 0;
    for (int i = 0; i < steps->n; i++) {
        if (steps->step[i].kind == TM_STEP_KINDS)
            free_step(&steps->step[i]);
        else
            steps->step[kept++] = steps->step[i];
    }
    steps->n = kept;
}

tm_step *tm_steps_wrap(tm_steps *steps, int first, int count, tm_step_kind kind)
{
    tm_steps inside = {malloc((size_t)count * sizeof *inside.step), count, count};
    if (!inside.step) {
        tm_fail_memory("a program", (size_t)count * sizeof *inside.step);
        return NULL;
    }
    tm_step *step = steps->step + first;
    memcpy(inside.step, step, (size_t)count * sizeof *step);
    memmove(step + 1, step + count, (size_t)(steps->n - first - count) * sizeof *step);
    steps->n -= count - 1;
    *step = (tm_step){.kind = kind, .inside = inside};
    return step;
}

static void visit_all(tm_visit *visit, void *context, tm_access access, const tm_step *step)
{
    for (int i = 0; i < step->n; i++)
        visit(context, access, step->nodes[i]);
}

/* BACKWARD, and DESCEND, which has `parameters`. */
static void visit_flow(const tm_step *step, tm_visit *visit, void *context)
{
    tm_node *y = step->y, **inputs = tm_inputs(y);
    visit(context, TM_READS_GRAD, y);
    visit(context, TM_READS_DATA, y);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        visit(context, TM_READS_DATA, inputs[i]);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        if (inputs[i]->flags & TM_REQUIRES_GRAD)
            visit(context, i < 32 && step->parameters >> i & 1 ? TM_WRITES_DATA : TM_ADDS_GRAD, inputs[i]);
    if (y->rank && !(y->flags & TM_RETAIN_GRAD))
        visit(context, TM_CLEARS_GRAD, y);
}

void tm_step_accesses(const tm_step *step, tm_visit *visit, void *context)
{
    tm_node *y = step->y, *x = step->x;
    switch (step->kind) {
    case TM_STEP_FORWARD:
        for (uint32_t i = 0; i < y->n_inputs; i++)
            visit(context, TM_READS_DATA, tm_inputs(y)[i]);
        visit(context, TM_WRITES_DATA, y);
        if (y->op->draws)
            visit(context, TM_WRITES_DATA, tm_inputs(y)[1]); /* the generator moves on */
        break;
    case TM_STEP_ALIAS:
    case TM_STEP_COPY:
        visit(context, TM_READS_DATA, x);
        visit(context, TM_WRITES_DATA, y);
        break;
    case TM_STEP_CLEAR:
        visit_all(visit, context, TM_CLEARS_GRAD, step);
        break;
    case TM_STEP_SEED:
        if (x)
            visit(context, TM_READS_DATA, x);
        visit(context, TM_ADDS_GRAD, y);
        break;
    case TM_STEP_BACKWARD:
    case TM_STEP_DESCEND:
        visit_flow(step, visit, context);
        break;
    case TM_STEP_READ_GRAD:
        visit(context, TM_READS_GRAD, x);
        visit(context, TM_WRITES_DATA, y);
        break;
    case TM_STEP_WRITE_GRAD:
        visit(context, TM_READS_DATA, x);
        visit(context, TM_WRITES_GRAD, y);
        break;
    case TM_STEP_UPDATE:
        visit_all(visit, context, TM_READS_GRAD, step);
        visit_all(visit, context, TM_READS_DATA, step);
        visit_all(visit, context, TM_WRITES_DATA, step);
        break;
    case TM_STEP_CLIP_NORM:
    case TM_STEP_CLIP_VALUE:
        visit_all(visit, context, TM_READS_GRAD, step);
        visit_all(visit, context, TM_WRITES_GRAD, step);
        if (y)
            visit(context, TM_WRITES_DATA, y);
        break;
    case TM_STEP_BLOCKS:
    case TM_STEP_TAPE:
        for (int i = 0; i < step->inside.n; i++)
            tm_step_accesses(&step->inside.step[i], visit, context);
        break;
    case TM_STEP_KINDS:
        break;
    }
}
