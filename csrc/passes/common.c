/* Common subexpressions: the same op on the same data is done once.
 *
 * A node's number is the place of the first node that holds the same data. What is made by the same op, with the same
 * attributes, of inputs with the same numbers, has the same number: results already seen are found in a hash table, so
 * that the pass takes time in proportion to the program. The second of two equal arrays gets the memory of the first,
 * for good, and its step is left out; a 0-d node, whose data is within the node, is copied instead. Backward steps stay
 * as they are: the order in which gradients are added decides their bits.
 *
 * Parameters and generators are written between steps. What was made before is not the same any more if an input, or
 * anything else of that dtype, has been written since: one array may be known by several nodes, but not as two
 * types. */
#include "../passes.h"
#include "../error.h"

#include <stdlib.h>
#include <string.h>

/* A result, or a constant, and the step that made it. */
typedef struct {
    tm_node *node;
    uint64_t hash;
    int step;
} entry;

typedef struct {
    const tm_program *p;
    uint8_t *held;
    int *number;            /* by place */
    uint8_t *computed;      /* by place: a step makes the data */
    int written[TM_DTYPES]; /* the last step so far that wrote data of the dtype anew */
    int at;                 /* the step at hand */
    int unfit;              /* data of made nodes is written anew */
    entry *table;
    size_t mask;
} pass;

/* Does the step at hand overwrite x? The first write of a made node is no overwriting. */
static int overwrites(const tm_step *step, tm_access access, const tm_node *x)
{
    return access == TM_WRITES_DATA && (x != step->y || step->kind == TM_STEP_COPY);
}

typedef struct {
    pass *s;
    const tm_step *step;
} visit_context;

static void note_write(void *context, tm_access access, tm_node *x)
{
    const visit_context *c = context;
    const tm_program *p = c->s->p;
    if (overwrites(c->step, access, x))
        c->s->unfit |= tm_made(p, x) && tm_place(p, x) >= p->n_inputs;
    else if (access == TM_WRITES_DATA)
        c->s->computed[tm_place(p, x)] = 1;
}

static void note_overwriting(void *context, tm_access access, tm_node *x)
{
    const visit_context *c = context;
    if (overwrites(c->step, access, x))
        c->s->written[x->dtype] = c->s->at;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

/* What is equal in equal nodes: all but the inputs. */
static size_t described(const tm_node *y)
{
    return (size_t)(y->rank + y->n_attributes) * sizeof *y->tail;
}

static uint64_t hash_of(const pass *s, tm_node *y)
{
    uint64_t hash = mix((uintptr_t)y->op, y->dtype);
    for (int i = 0; i < y->rank + y->n_attributes; i++)
        hash = mix(hash, (uint64_t)y->tail[i].extent);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        hash = mix(hash, (uint64_t)s->number[tm_place(s->p, tm_inputs(y)[i])]);
    return y->n_inputs ? hash : mix(hash, (uint64_t)y->data.i64);
}

static int equal(const pass *s, tm_node *y, tm_node *z)
{
    if (y->op != z->op || y->dtype != z->dtype || y->rank != z->rank || y->n_attributes != z->n_attributes ||
        y->n_inputs != z->n_inputs || (y->flags ^ z->flags) & TM_SAVES || memcmp(y->tail, z->tail, described(y)) != 0)
        return 0;
    for (uint32_t i = 0; i < y->n_inputs; i++)
        if (s->number[tm_place(s->p, tm_inputs(y)[i])] != s->number[tm_place(s->p, tm_inputs(z)[i])])
            return 0;
    return y->n_inputs || y->data.i64 == z->data.i64;
}

/* Whether y's data, made by that step, and all that it was made of, is still there. */
static int still_holds(const pass *s, tm_node *y, int step)
{
    int holds = step > s->written[y->dtype];
    for (uint32_t i = 0; i < y->n_inputs; i++)
        holds &= step > s->written[tm_inputs(y)[i]->dtype];
    return holds;
}

/* The first node with the same data as y, which may be y. */
static tm_node *first_equal(pass *s, tm_node *y)
{
    const uint64_t hash = hash_of(s, y);
    size_t i = hash & s->mask;
    while (s->table[i].node && (s->table[i].hash != hash || !equal(s, s->table[i].node, y)))
        i = (i + 1) & s->mask;
    if (!s->table[i].node || !still_holds(s, s->table[i].node, s->table[i].step))
        s->table[i] = (entry){y, hash, s->at};
    s->number[tm_place(s->p, y)] = s->number[tm_place(s->p, s->table[i].node)];
    return s->table[i].node;
}

static void share(void **to, void *from)
{
    if (*to == from)
        return;
    tm_buffer_hold(from);
    tm_buffer_drop(*to);
    *to = from;
}

static void do_once(pass *s, tm_step *step)
{
    tm_node *y = step->y, *first = first_equal(s, y);
    if (first == y || s->held[tm_place(s->p, y)] || s->held[tm_place(s->p, first)])
        return;
    if (y->flags & TM_SAVES)
        share(tm_saved_slot(y), tm_saved(first));
    if (y->rank) {
        share(&y->data.array, first->data.array);
        step->kind = TM_STEP_KINDS;
    } else {
        tm_step_become(step, TM_STEP_ALIAS);
        step->x = first;
    }
}

/* An array y with the memory of x is the same data, or makes the same of the same data. */
static void follow_alias(pass *s, const tm_step *step)
{
    tm_node *y = step->y, *x = step->x;
    if (!y->rank || !x->rank)
        return;
    share(&y->data.array, x->data.array); /* that of x may have changed just now */
    if (y->n_inputs)
        first_equal(s, y);
    else
        s->number[tm_place(s->p, y)] = s->number[tm_place(s->p, x)];
}

static void look_at(pass *s, tm_step *step)
{
    if (step->kind == TM_STEP_FORWARD && !step->y->op->draws)
        do_once(s, step);
    else if (step->kind == TM_STEP_ALIAS)
        follow_alias(s, step);
    tm_step_accesses(step, note_overwriting, &(visit_context){s, step});
}

/* Numbers from the source text, as in 2 * x: equal if their bits are. */
static int is_constant(const pass *s, int place)
{
    const tm_node *x = s->p->made.node[place];
    return place >= s->p->n_inputs && !x->n_inputs && !x->rank && !s->computed[place] && !s->held[place];
}

static void do_pass(pass *s, tm_steps *steps, int places)
{
    for (int i = 0; i < TM_DTYPES; i++)
        s->written[i] = -2;
    for (int i = 0; i < places; i++)
        s->number[i] = i;
    for (int i = 0; i < steps->n; i++)
        tm_step_accesses(&steps->step[i], note_write, &(visit_context){s, &steps->step[i]});
    if (s->unfit)
        return;
    s->at = -1;
    for (int i = 0; i < s->p->made.n; i++)
        if (is_constant(s, i))
            first_equal(s, s->p->made.node[i]);
    for (s->at = 0; s->at < steps->n; s->at++)
        look_at(s, &steps->step[s->at]);
    tm_steps_sweep(steps);
}

int tm_pass_common(tm_program *p, tm_steps *steps)
{
    const size_t places = (size_t)p->made.n + (size_t)p->outer.n + 1;
    size_t room = 16;
    while (room < 2 * (size_t)p->made.n)
        room *= 2;
    pass s = {.p = p, .held = tm_held(p, 1), .mask = room - 1};
    s.number = malloc(places * sizeof *s.number);
    s.computed = calloc(places, 1);
    s.table = calloc(room, sizeof *s.table);
    const int failed = !s.held || !s.number || !s.computed || !s.table;
    if (failed)
        tm_fail_memory("compile: common subexpressions", room * sizeof *s.table);
    else
        do_pass(&s, steps, (int)places - 1);
    free(s.held);
    free(s.number);
    free(s.computed);
    free(s.table);
    return failed ? -1 : 0;
}
