/* Plain gradient descent in the matrix product: where a weight's gradient is made by one product, read by one sgd
 * update and cleared before anybody else could see it, the product moves the weight itself, w -= lr * dy^T x, and the
 * gradient never goes through memory. At batch 1 that is one pass over the weights instead of three. */
#include "../passes.h"
#include "../grad.h"
#include "../update.h"

#include <string.h>

enum { LR, WEIGHT_DECAY, MAXIMIZE }; /* as in ops/update.h */

/* Those inputs of y that move, with the gradients that backward has left them. */
static void move_after(tm_step *s)
{
    tm_node **inputs = tm_inputs(s->y);
    for (uint32_t i = 0; i < s->y->n_inputs; i++)
        if (s->parameters >> i & 1) {
            tm_update_run(s->update->rule, &inputs[i], 1, NULL, s->update->hyper);
            inputs[i]->has_grad = 0;
        }
}

static int run_descend(tm_step *s)
{
    const double *hyper = s->update->hyper; /* may have changed since the recording */
    tm_node *y = s->y;
    int failed;
    if (hyper[WEIGHT_DECAY] == 0 && hyper[MAXIMIZE] == 0) {
        failed = y->op->descend[tm_inputs(y)[0]->dtype](y, hyper[LR], s->parameters);
    } else if (!(failed = tm_flow(y, tm_thread_id()))) {
        move_after(s);
    }
    if (y->rank && !(y->flags & TM_RETAIN_GRAD))
        y->has_grad = 0;
    return failed;
}

/* What a step does with one node. */
typedef struct {
    const tm_node *x;
    unsigned seen; /* a bit for each tm_access */
} sight;

static void see(void *context, tm_access access, tm_node *x)
{
    sight *s = context;
    if (x == s->x)
        s->seen |= 1u << access;
}

static unsigned sees(const tm_step *step, const tm_node *x)
{
    sight s = {x, 0};
    tm_step_accesses(step, see, &s);
    return s.seen;
}

enum { ON_GRAD = 1 << TM_READS_GRAD | 1 << TM_ADDS_GRAD | 1 << TM_WRITES_GRAD | 1 << TM_CLEARS_GRAD };

/* The next step from `i` on that does something with x: with its gradient, or with `data` with either. -1: none. */
static int next_use(const tm_steps *steps, int i, const tm_node *x, int data)
{
    for (; i < steps->n; i++)
        if (sees(&steps->step[i], x) & (data ? ~0u : ON_GRAD))
            return i;
    return -1;
}

static int clears(const tm_steps *steps, int i, const tm_node *x)
{
    return i >= 0 && (sees(&steps->step[i], x) & ON_GRAD) == 1 << TM_CLEARS_GRAD;
}

/* The sgd update that alone uses the gradient of x made by step `at`; NULL where the gradient has to stay. */
static tm_step *only_update(const tm_steps *steps, int at, const tm_node *x, int inner)
{
    int before = -1;
    for (int i = next_use(steps, 0, x, 0); i >= 0 && i < at; i = next_use(steps, i + 1, x, 0))
        before = i;
    const int use = next_use(steps, at + 1, x, 1);
    if (!clears(steps, before, x) || use < 0)
        return NULL;
    tm_step *update = &steps->step[use];
    if (update->kind != TM_STEP_UPDATE || strcmp(update->update->rule->name, "sgd") != 0)
        return NULL;
    const int after = next_use(steps, use + 1, x, 0);
    return clears(steps, after < 0 && inner ? next_use(steps, 0, x, 0) : after, x) ? update : NULL;
}

static void drop_node(tm_step *update, const tm_node *x)
{
    int kept = 0;
    for (int i = 0; i < update->n; i++)
        if (update->nodes[i] != x)
            update->nodes[kept++] = update->nodes[i];
    update->n = kept;
    if (!kept)
        update->kind = TM_STEP_KINDS;
}

/* Whether the memory of x is nobody else's: an ALIAS of it would see it move early. */
static int aliased(const tm_steps *steps, const tm_node *x)
{
    for (int i = 0; i < steps->n; i++)
        if (steps->step[i].kind == TM_STEP_ALIAS && steps->step[i].x == x)
            return 1;
    return 0;
}

int tm_pass_descend(tm_program *p, tm_steps *steps, int inner)
{
    int spared = 0;
    for (int at = 0; at < steps->n; at++) {
        tm_step *step = &steps->step[at];
        if (step->kind != TM_STEP_BACKWARD || !step->y->op->descend[tm_inputs(step->y)[0]->dtype])
            continue;
        tm_node **inputs = tm_inputs(step->y);
        if ((inputs[0]->flags & TM_REQUIRES_GRAD) && !tm_made(p, inputs[0]))
            continue; /* a leaf that other threads may add to: for backward, which locks it */
        for (uint32_t i = 1; i < step->y->n_inputs; i++) {
            tm_node *x = inputs[i];
            int times = 0;
            for (uint32_t k = 0; k < step->y->n_inputs; k++)
                times += inputs[k] == x;
            if (times > 1 || tm_made(p, x) || !tm_leaf_node(x) || !(x->flags & TM_REQUIRES_GRAD) || aliased(steps, x))
                continue;
            tm_step *update = only_update(steps, at, x, inner);
            if (!update || (step->update && step->update != update->update))
                continue;
            step->parameters |= 1u << i;
            step->update = update->update;
            drop_node(update, x);
            spared++;
        }
        if (step->parameters) {
            step->kind = TM_STEP_DESCEND;
            step->run = run_descend;
        }
    }
    tm_steps_sweep(steps);
    return spared;
}
