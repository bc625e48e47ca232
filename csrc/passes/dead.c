/* Dead steps: gradients that nobody needs are not computed, and steps whose data nobody reads are left out.
 *
 * What may be read at the end of a replay: the results, every outer node, and the gradients that arguments take over.
 * Going backwards from there, a step is needed if it writes something that is still to be read. */
#include "../passes.h"
#include "../error.h"

#include <stdlib.h>

typedef struct {
    const tm_program *p;
    uint8_t *data, *grad; /* by place of a made node: whether it will be read */
    int needed;
} liveness;

/* Whether the step writes what will be read. */
static void is_needed(void *context, tm_access access, tm_node *x)
{
    liveness *live = context;
    const int made = tm_made(live->p, x);
    const uint32_t place = made ? x->mark - 1 : 0;
    if (access == TM_WRITES_DATA)
        live->needed |= !made || live->data[place];
    else if (access == TM_ADDS_GRAD || access == TM_WRITES_GRAD)
        live->needed |= !made || live->grad[place];
    else if (access == TM_CLEARS_GRAD)
        live->needed |= !made; /* of made nodes: decided by take_in */
}

static void take_in(void *context, tm_access access, tm_node *x)
{
    liveness *live = context;
    if (!tm_made(live->p, x))
        return;
    if (access == TM_READS_DATA)
        live->data[x->mark - 1] = 1;
    else if (access == TM_READS_GRAD)
        live->grad[x->mark - 1] = 1;
}

static int all_made(const tm_program *p, const tm_step *step)
{
    for (int i = 0; i < step->n; i++)
        if (!tm_made(p, step->nodes[i]))
            return 0;
    return 1;
}

/* No gradient needs to flow to a made leaf that nobody asks for its gradient: kernels then skip it. */
static void stop_gradients(tm_program *p, const liveness *live)
{
    for (int i = 0; i < p->made.n; i++) {
        tm_node *x = p->made.node[i];
        const int given = i < p->n_inputs && p->gives_grad[i];
        if (!x->n_inputs && !live->grad[i] && !given && i >= p->n_inputs)
            x->flags &= (uint8_t)~TM_REQUIRES_GRAD;
    }
}

int tm_pass_dead(tm_program *p, tm_steps *steps)
{
    const size_t n = (size_t)(p->made.n ? p->made.n : 1);
    liveness live = {p, calloc(n, 1), calloc(n, 1), 0};
    if (!live.data || !live.grad) {
        free(live.data);
        free(live.grad);
        return tm_fail_memory("compile: dead steps", n);
    }
    for (int i = 0; i < p->results.n; i++)
        take_in(&live, TM_READS_DATA, p->results.node[i]);
    for (int i = 0; i < p->n_inputs; i++)
        live.grad[i] = p->gives_grad[i];
    for (int i = steps->n; i-- > 0;) {
        tm_step *step = &steps->step[i];
        live.needed = 0;
        tm_step_accesses(step, is_needed, &live);
        if (step->kind == TM_STEP_CLEAR && all_made(p, step))
            for (int k = 0; k < step->n; k++)
                live.needed |= live.grad[step->nodes[k]->mark - 1];
        if (live.needed)
            tm_step_accesses(step, take_in, &live);
        else
            step->kind = TM_STEP_KINDS;
    }
    tm_steps_sweep(steps);
    stop_gradients(p, &live);
    free(live.data);
    free(live.grad);
    return 0;
}
