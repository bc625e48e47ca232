/* Making a program: begin recording, end it, put what was recorded in order, rewrite it, look at it. */
#include "program.h"
#include "error.h"
#include "grad.h"
#include "passes.h"
#include "record.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>

#define PROGRAM(ref) ((tm_program *)(ref))
#define NODE(ref) ((tm_node *)(ref))

tm_ref tm_record_start(void)
{
    if (tm_recording) {
        tm_fail(TM_RUNTIME_ERROR, "compile: this thread is recording already");
        return 0;
    }
    tm_program *p = calloc(1, sizeof *p);
    if (!p) {
        tm_fail_memory("a program", sizeof *p);
        return 0;
    }
    pthread_mutex_init(&p->lock, NULL);
    p->grad_enabled = tm_grad_enabled();
    tm_recording = p;
    return (tm_ref)p;
}

int tm_given(const tm_program *p, const tm_node *x, int n)
{
    if (x->flags & TM_REQUIRES_GRAD)
        for (int i = 0; i < n; i++)
            if (p->arguments.node[i] == x)
                return 1;
    return 0;
}

/* What an input needs of its argument but arrays' data, which they share. */
static int take_over(tm_program *p, tm_node *input, tm_node *x)
{
    const int wants = x->flags & TM_REQUIRES_GRAD;
    if (tm_nodes_add(&p->arguments, wants ? x : NULL))
        return -1;
    if (wants)
        tm_node_hold(x);
    input->flags = (uint8_t)wants;
    if (!x->rank)
        input->data = x->data;
    if (tm_record_leaf(input, NULL) || (x->has_grad && tm_grad_reserve(input)))
        return -1;
    if (x->has_grad)
        memcpy(tm_grad_data(input), tm_grad_data(x), (size_t)x->size * tm_item_size(x->dtype));
    input->has_grad = x->has_grad;
    p->n_inputs++;
    return 0;
}

tm_ref tm_record_input(tm_ref argument)
{
    tm_node *x = NODE(argument);
    tm_node *input = tm_node_new(&tm_leaf_op, x->dtype, x->rank, tm_shape(x), 0, NULL, 0, 0, x);
    if (input && take_over(tm_recording, input, x)) {
        tm_node_release(input);
        input = NULL;
    }
    return (tm_ref)input;
}

static int by_address(const void *a, const void *b)
{
    const uintptr_t x = (uintptr_t) * (tm_node *const *)a, y = (uintptr_t) * (tm_node *const *)b;
    return (x > y) - (x < y);
}

/* Each outer node once, in order. */
static void sort_outer(tm_nodes *outer)
{
    int kept = 0;
    if (outer->n)
        qsort(outer->node, (size_t)outer->n, sizeof *outer->node, by_address);
    for (int i = 0; i < outer->n; i++) {
        if (kept && outer->node[kept - 1] == outer->node[i])
            tm_node_release(outer->node[i]);
        else
            outer->node[kept++] = outer->node[i];
    }
    outer->n = kept;
}

static int count_uses(tm_program *p)
{
    const size_t n = (size_t)(p->outer.n ? p->outer.n : 1);
    p->outer_uses = calloc(n, sizeof *p->outer_uses);
    p->outer_flags = calloc(n, sizeof *p->outer_flags);
    if (!p->outer_uses || !p->outer_flags)
        return tm_fail_memory("a program", n * sizeof *p->outer_uses);
    for (int i = 0; i < p->outer.n; i++) {
        p->outer_uses[i] = 1;
        p->outer_flags[i] = p->outer.node[i]->flags;
    }
    for (int i = 0; i < p->made.n; i++) {
        tm_node *y = p->made.node[i], **inputs = tm_inputs(y), **at = NULL;
        for (uint32_t k = 0; k < y->n_inputs; k++)
            if (inputs[k] && p->outer.n && !tm_made(p, inputs[k]) &&
                (at = bsearch(&inputs[k], p->outer.node, (size_t)p->outer.n, sizeof *at, by_address)))
                p->outer_uses[at - p->outer.node]++;
    }
    return 0;
}

/* While passes run, a made node's mark tells its place. */
static void mark_made(tm_program *p, int marked)
{
    for (int i = 0; i < p->made.n; i++)
        __atomic_store_n(&p->made.node[i]->mark, marked ? (uint32_t)i + 1 : 0, __ATOMIC_RELAXED);
}

static void find_given_gradient(void *context, tm_access access, tm_node *x)
{
    tm_program *p = context;
    if (access != TM_READS_DATA && access != TM_WRITES_DATA && tm_made(p, x) && (int)x->mark <= p->n_inputs)
        p->gives_grad[x->mark - 1] |= access == TM_CLEARS_GRAD ? TM_GIVES_FRESH : TM_GIVES;
}

/* A leaf made by the function starts every call without a gradient. */
static int clear_fresh_leaves(tm_program *p)
{
    tm_nodes fresh = {0};
    for (int i = p->n_inputs; i < p->made.n; i++) {
        tm_node *x = p->made.node[i];
        if (!x->n_inputs && (x->flags & TM_REQUIRES_GRAD) && tm_nodes_add(&fresh, x)) {
            free(fresh.node);
            return -1;
        }
    }
    if (!fresh.n)
        return 0;
    tm_step *clear = tm_steps_add(&p->last, TM_STEP_CLEAR);
    if (!clear) {
        free(fresh.node);
        return -1;
    }
    clear->nodes = fresh.node;
    clear->n = fresh.n;
    const tm_step first = *clear;
    memmove(p->last.step + 1, p->last.step, (size_t)(p->last.n - 1) * sizeof first);
    p->last.step[0] = first;
    return 0;
}

/* Room for every gradient that a sweep needs, so that replays allocate nothing. */
static int reserve_gradients(const tm_program *p)
{
    for (int i = 0; i < p->last.n; i++) {
        const tm_step *step = &p->last.step[i];
        if (step->kind == TM_STEP_SEED && tm_grad_reserve(step->y))
            return -1;
        if (step->kind != TM_STEP_BACKWARD)
            continue;
        tm_node **inputs = tm_inputs(step->y);
        for (uint32_t k = 0; k < step->y->n_inputs; k++)
            if ((inputs[k]->flags & TM_REQUIRES_GRAD) && tm_grad_reserve(inputs[k]))
                return -1;
    }
    return 0;
}

/* Whether no Python object looks at the gradients of a step's nodes: these are made, and no inputs. */
static int all_private(const tm_program *p, const tm_step *step)
{
    for (int i = 0; i < step->n; i++)
        if (!tm_made(p, step->nodes[i]) || (int)step->nodes[i]->mark <= p->n_inputs ||
            (step->nodes[i]->flags & TM_RETAIN_GRAD))
            return 0;
    return 1;
}

static int settle(tm_program *p, const tm_ref *results, int n)
{
    const size_t inputs = (size_t)(p->n_inputs ? p->n_inputs : 1);
    for (int i = 0; i < n; i++)
        if (tm_nodes_add(&p->results, NODE(results[i])))
            return -1;
    if (!(p->gives_grad = calloc(inputs, sizeof *p->gives_grad)))
        return tm_fail_memory("a program", inputs);
    if (clear_fresh_leaves(p) || reserve_gradients(p) || count_uses(p))
        return -1;
    for (int i = 0; i < p->last.n; i++) {
        tm_step *step = &p->last.step[i];
        tm_step_accesses(step, find_given_gradient, p);
        if (step->kind == TM_STEP_CLEAR && all_private(p, step))
            tm_steps_forget(step);
    }
    for (int i = 0; i < p->n_inputs; i++)
        if (tm_given_twice(p, p->arguments.node, i))
            return tm_fail(TM_RUNTIME_ERROR, "compile: a tensor is given as two arguments, and both would add to its "
                           "gradient; pass it once");
    return tm_give_gradients(p);
}

static void end_recording(const tm_program *p)
{
    tm_recording = NULL;
    for (int i = 0; i < p->made.n; i++)
        p->made.node[i]->flags &= (uint8_t)~TM_RECORDED;
}

int tm_record_stop(const tm_ref *results, int n)
{
    tm_program *p = tm_recording;
    for (int i = 0; i < n; i++)
        if (tm_record_result(NODE(results[i])))
            return -1;
    end_recording(p);
    sort_outer(&p->outer);
    mark_made(p, 1);
    const int failed = settle(p, results, n);
    mark_made(p, 0);
    return failed;
}

int tm_given_twice(const tm_program *p, tm_node *const *arguments, int i)
{
    if (arguments[i] && p->gives_grad[i])
        for (int k = 0; k < i; k++)
            if (arguments[k] == arguments[i] && p->gives_grad[k])
                return 1;
    return 0;
}

static tm_node **find_outer(const tm_program *p, const tm_node *x)
{
    return p->outer.n ? bsearch(&x, p->outer.node, (size_t)p->outer.n, sizeof *p->outer.node, by_address) : NULL;
}

int tm_is_outer(const tm_program *p, const tm_node *x)
{
    return find_outer(p, x) != NULL;
}

int tm_place(const tm_program *p, const tm_node *x)
{
    if (tm_made(p, x))
        return (int)x->mark - 1;
    tm_node **at = find_outer(p, x);
    return at ? p->made.n + (int)(at - p->outer.node) : -1;
}

uint8_t *tm_held(const tm_program *p, int behind)
{
    const size_t n = (size_t)(p->made.n ? p->made.n : 1);
    uint32_t *uses = calloc(n, sizeof *uses); /* by the program's own graph */
    uint8_t *held = calloc(n, 1);
    if (!uses || !held) {
        tm_fail_memory("a program", n * sizeof *uses);
        free(uses);
        free(held);
        return NULL;
    }
    for (int i = 0; i < p->made.n; i++) {
        tm_node *y = p->made.node[i], **inputs = tm_inputs(y);
        for (uint32_t k = 0; k < y->n_inputs; k++)
            if (inputs[k] && tm_made(p, inputs[k]))
                uses[inputs[k]->mark - 1]++;
    }
    for (int i = p->made.n; i-- > 0;) {
        tm_node *y = p->made.node[i], **inputs = tm_inputs(y);
        held[i] |= atomic_load(&y->refs) > uses[i] + 1;
        for (uint32_t k = 0; behind && held[i] && k < y->n_inputs; k++)
            if (inputs[k] && tm_made(p, inputs[k]))
                held[inputs[k]->mark - 1] = 1;
    }
    free(uses);
    return held;
}

int tm_program_escaped(tm_ref program)
{
    tm_program *p = PROGRAM(program);
    int escaped = 0;
    mark_made(p, 1);
    uint8_t *held = tm_held(p, 0);
    for (int i = 0; held && i < p->last.n; i++) {
        const tm_node *y = p->last.step[i].y; /* what replays change: not the states of optimizers, for example */
        if (y && tm_made(p, y) && held[y->mark - 1]) {
            held[y->mark - 1] = 0;
            escaped++;
        }
    }
    for (int i = 0; held && i < p->n_inputs; i++)
        escaped += held[i];
    mark_made(p, 0);
    free(held);
    return held ? escaped : -1;
}

static int rewrite(tm_program *p, unsigned passes)
{
    if ((passes & TM_PASS_DEAD && tm_pass_dead(p, &p->last)) || (passes & TM_PASS_COMMON && tm_pass_common(p, &p->last)))
        return -1;
    if (passes & TM_PASS_DESCEND) {
        if (tm_steps_copy(&p->inner, &p->last))
            return -1;
        const int inner = tm_pass_descend(p, &p->inner, 1), last = tm_pass_descend(p, &p->last, 0);
        if (inner < 0 || last < 0)
            return -1;
        if (inner == last)
            tm_steps_free(&p->inner);
    }
    tm_steps *lists[] = {&p->last, &p->inner};
    for (int i = 0; i < 2; i++)
        if ((passes & TM_PASS_TAPE && tm_pass_tape(p, lists[i])) ||
            (passes & TM_PASS_BLOCKS && tm_pass_blocks(p, lists[i])))
            return -1;
    return passes & TM_PASS_SHARE ? tm_pass_share(p) : 0;
}

int tm_program_rewrite(tm_ref program, unsigned passes)
{
    tm_program *p = PROGRAM(program);
    mark_made(p, 1);
    const int failed = rewrite(p, passes);
    mark_made(p, 0);
    return failed;
}

static void release_all(tm_nodes *nodes)
{
    for (int i = 0; i < nodes->n; i++)
        if (nodes->node[i])
            tm_node_release(nodes->node[i]);
    free(nodes->node);
}

void tm_program_free(tm_ref program)
{
    tm_program *p = PROGRAM(program);
    if (tm_recording == p)
        end_recording(p);
    tm_steps_free(&p->last);
    tm_steps_free(&p->inner);
    for (int i = 0; i < p->n_updates; i++) {
        free(p->updates[i]->states);
        free(p->updates[i]);
    }
    free(p->updates);
    release_all(&p->made);
    release_all(&p->outer);
    release_all(&p->arguments);
    free(p->results.node);
    free(p->gives_grad);
    free(p->outer_uses);
    free(p->outer_flags);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int tm_is_recorded(tm_ref node)
{
    const tm_program *p = tm_recording;
    if (!p)
        return 0;
    for (int i = 0; i < p->n_inputs; i++)
        if (p->made.node[i] == NODE(node))
            return 2 + i;
    if (!(NODE(node)->flags & TM_RECORDED) || NODE(node)->n_inputs)
        return 1;
    for (int i = p->last.n; i-- > 0;) { /* a leaf, which may be a detached result, a gradient or a norm */
        const tm_step *step = &p->last.step[i];
        if (step->y == NODE(node))
            return step->kind == TM_STEP_ALIAS ? tm_is_recorded((tm_ref)step->x) : 1;
    }
    return 0;
}

void tm_program_set_hyper(tm_ref program, int update, const double *hyper)
{
    tm_program *p = PROGRAM(program);
    tm_recorded_update *u = p->updates[update];
    pthread_mutex_lock(&p->lock);
    memcpy(u->hyper, hyper, (size_t)u->rule->n_hypers * sizeof *hyper);
    pthread_mutex_unlock(&p->lock);
}

/* -- looking at a program */

/* Step `i`, or with inside >= 0 that of the steps it has taken in. */
static const tm_step *look(tm_ref program, int i, int inside)
{
    const tm_step *step = &PROGRAM(program)->last.step[i];
    return inside < 0 ? step : &step->inside.step[inside];
}

int tm_program_steps(tm_ref program)
{
    return PROGRAM(program)->last.n;
}

int tm_program_inside(tm_ref program, int step)
{
    return look(program, step, -1)->inside.n;
}

const char *tm_step_kind_name(tm_ref program, int step, int inside)
{
    static const char *const names[TM_STEP_KINDS] = {
        [TM_STEP_FORWARD] = "forward",       [TM_STEP_ALIAS] = "alias",
        [TM_STEP_COPY] = "copy",             [TM_STEP_CLEAR] = "clear",
        [TM_STEP_SEED] = "seed",             [TM_STEP_BACKWARD] = "backward",
        [TM_STEP_READ_GRAD] = "read grad",   [TM_STEP_WRITE_GRAD] = "write grad",
        [TM_STEP_UPDATE] = "update",         [TM_STEP_CLIP_NORM] = "clip norm",
        [TM_STEP_CLIP_VALUE] = "clip value", [TM_STEP_DESCEND] = "descend",
        [TM_STEP_BLOCKS] = "blocks",         [TM_STEP_TAPE] = "tape",
    };
    return names[look(program, step, inside)->kind];
}

const char *tm_step_rule_name(tm_ref program, int step, int inside)
{
    const tm_recorded_update *update = look(program, step, inside)->update;
    return update ? update->rule->name : "";
}

tm_ref tm_step_node(tm_ref program, int step, int inside)
{
    return (tm_ref)look(program, step, inside)->y;
}

int tm_step_nodes(tm_ref program, int step, int inside)
{
    return look(program, step, inside)->n;
}

int64_t tm_program_bytes(tm_ref program)
{
    const tm_program *p = PROGRAM(program);
    tm_nodes arrays = {0};
    int64_t bytes = -1;
    for (int i = 0; i < p->made.n; i++) {
        tm_node *x = p->made.node[i];
        void *const buffers[] = {x->rank ? x->data.array : NULL, x->rank ? x->grad.array : NULL,
                                 x->flags & TM_SAVES ? tm_saved(x) : NULL};
        for (int k = 0; k < 3; k++)
            if (buffers[k] && tm_nodes_add(&arrays, buffers[k]))
                goto end;
    }
    bytes = 0;
    if (arrays.n)
        qsort(arrays.node, (size_t)arrays.n, sizeof *arrays.node, by_address);
    for (int i = 0; i < arrays.n; i++)
        if (!i || arrays.node[i] != arrays.node[i - 1])
            bytes += (int64_t)tm_buffer_bytes(arrays.node[i]);
end:
    free(arrays.node);
    return bytes;
}
