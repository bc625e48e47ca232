/* Blocks: a run of elementwise steps goes through its arrays once.
 *
 * A chain of steps on arrays larger than the cache reads and writes memory at every step. But element i of an
 * elementwise result needs no more than element i of its operands: so all steps of a run can be done on one block of
 * the arrays, small enough for the first-level cache, then on the next. Small arrays are one block; there, the gain is
 * less overhead per step. Either all steps of a run are FORWARD, or all are BACKWARD; they are over arrays of one size
 * and dtype, beside which operands may be single elements.
 *
 * What only steps of the same run look at never goes to memory: intermediates that no BACKWARD needs, and gradients
 * that the run both makes and uses up. They have a row, as long as a block, for as long as they are needed.
 *
 * The bits are those of single steps: the loops are the same (tm_block_kernel), and terms are added to a gradient in
 * the same order. A sum over all elements, for the gradient of a broadcast operand, depends on where it is cut, so its
 * step is left to the ordinary kernel. */
#include "../error.h"
#include "../grad.h"
#include "../parallel.h"
#include "../passes.h"

#include <stdlib.h>
#include <string.h>

enum {
    LONGEST = 32,       /* steps of a run */
    BLOCK_BYTES = 4096, /* of each array */
    ROWS = 8,           /* row 0 is for terms that wait to be added */
    PLACES = ROWS + 6 * LONGEST,
};

/* Where data or a gradient is: the first ROWS places are the rows, the others are in nodes. */
typedef struct {
    tm_node *node;
    char **array;  /* the slot with the array's address; NULL for a 0-d node */
    char *base;
    uint8_t gradient;
    uint8_t step;  /* 1: an element each; 0: one for all */
    uint8_t fresh; /* a gradient that starts here, in this replay */
} place;

/* What one step does, or in a BACKWARD step what flows to one operand. */
typedef struct {
    tm_block_kernel *forward;
    tm_block_backward_kernel *backward;
    const double *attributes;
    uint8_t a, b, y, dy, dx; /* places */
    uint8_t operand;
    uint8_t first; /* the run's first terms for dx: they are written where that is fresh, others are added */
} instruction;

typedef struct {
    int64_t n, block; /* elements of each array and of a block */
    size_t item;      /* bytes of an element */
    tm_block_kernel *add;
    int n_places, n_code, n_arrays, n_opened;
    uint8_t arrays[PLACES]; /* places whose addresses a replay looks up */
    uint8_t opened[PLACES]; /* places of gradients in memory that the run adds to */
    place places[PLACES];
    instruction code[2 * LONGEST];
    tm_nodes closed; /* whose gradients in memory are used up */
    tm_nodes locked; /* other threads may be adding to the gradients of these */
    tm_nodes data_in_rows, grad_in_rows;
} blocks;

static void run_instruction(const blocks *k, const instruction *i, int64_t n, char *const *at)
{
    const place *places = k->places;
    if (i->forward) {
        i->forward(n, at[i->a], places[i->a].step, at[i->b], places[i->b].step, at[i->y], i->attributes);
        return;
    }
    const int adds = !(i->first && places[i->dx].fresh);
    i->backward(n, i->operand, at[i->dy], at[i->a], places[i->a].step, at[i->b], places[i->b].step, at[i->y],
                at[adds ? 0 : i->dx], i->attributes);
    if (adds)
        k->add(n, at[i->dx], 1, at[0], 1, at[i->dx], NULL);
}

static void run_range(const blocks *k, int64_t from, int64_t to)
{
    _Alignas(TM_ALIGNMENT) char rows[ROWS][BLOCK_BYTES];
    char *at[PLACES];
    for (int i = 0; i < ROWS; i++)
        at[i] = rows[i];
    for (int i = ROWS; i < k->n_places; i++)
        at[i] = k->places[i].base + (size_t)from * k->places[i].step * k->item;
    while (to - from > k->block) {
        for (int i = 0; i < k->n_code; i++)
            run_instruction(k, &k->code[i], k->block, at);
        for (int i = ROWS; i < k->n_places; i++)
            at[i] += (size_t)k->block * k->places[i].step * k->item;
        from += k->block;
    }
    for (int i = 0; i < k->n_code; i++)
        run_instruction(k, &k->code[i], to - from, at);
}

static void run_part(void *context, int64_t task)
{
    const blocks *k = context;
    const int64_t part = tm_part(k->n, TM_PART), from = task * part;
    run_range(k, from, k->n - from < part ? k->n : from + part);
}

/* As tm_flow does: room, then the lock, then what is there. */
static int open_gradients(blocks *k)
{
    for (int i = 0; i < k->n_opened; i++)
        if (tm_grad_reserve(k->places[k->opened[i]].node))
            return -1;
    if (k->locked.n)
        tm_leaves_lock(k->locked.node, (uint32_t)k->locked.n, tm_thread_id());
    for (int i = 0; i < k->n_opened; i++) {
        place *dx = &k->places[k->opened[i]];
        dx->fresh = !dx->node->has_grad;
        dx->node->has_grad = 1;
    }
    return 0;
}

static int run_blocks(tm_step *step)
{
    blocks *k = step->made;
    if (open_gradients(k))
        return -1;
    for (int i = 0; i < k->n_arrays; i++) {
        place *p = &k->places[k->arrays[i]];
        p->base = *p->array;
    }
    tm_parallel_parts(tm_parts(k->n, tm_part(k->n, TM_PART)), k->n * k->n_code, run_part, k);
    for (int i = 0; i < k->closed.n; i++)
        k->closed.node[i]->has_grad = 0;
    if (k->locked.n)
        tm_leaves_unlock(k->locked.node, (uint32_t)k->locked.n, tm_thread_id());
    return 0;
}

static void free_blocks(void *made)
{
    blocks *k = made;
    free(k->closed.node);
    free(k->locked.node);
    free(k->data_in_rows.node);
    free(k->grad_in_rows.node);
    free(k);
}

/* What a BLOCKS step does with memory. */

typedef struct {
    const blocks *k;
    tm_visit *visit;
    void *context;
} filter;

static int contains(const tm_nodes *nodes, const tm_node *x)
{
    for (int i = 0; i < nodes->n; i++)
        if (nodes->node[i] == x)
            return 1;
    return 0;
}

static void pass_on(void *context, tm_access access, tm_node *x)
{
    const filter *f = context;
    const int data = access == TM_READS_DATA || access == TM_WRITES_DATA;
    if (!contains(data ? &f->k->data_in_rows : &f->k->grad_in_rows, x))
        f->visit(f->context, access, x);
}

void tm_blocks_accesses(const tm_step *step, tm_visit *visit, void *context)
{
    tm_true_accesses(step, pass_on, &(filter){step->made, visit, context});
}

/* Which steps make runs, and who looks at what. */

enum { NO_RUN = 0, SHARED = INT32_MAX };

/* What is known of a node, of its data and its gradient: */
typedef struct {
    int data_run, grad_run;   /* the one run whose steps look at it; SHARED where others do, or may */
    int data_last;            /* the last step of the run that reads it */
    uint8_t consumed;         /* a step reads the gradient */
    int8_t data_row, grad_row; /* 0: none */
} note;

typedef struct {
    const tm_program *p;
    tm_steps *steps;
    note *notes; /* of made nodes, by place */
    int run, at; /* at hand */
    blocks *k;
    unsigned rows; /* a bit for each that is free */
    int failed;
} pass;

/* NULL for a node that was not made while recording. */
static note *note_of(const pass *s, const tm_node *x)
{
    return tm_made(s->p, x) ? &s->notes[x->mark - 1] : NULL;
}

static int whole(const tm_node *y, const tm_node *x)
{
    return x->size == y->size;
}

/* Whether a run may have the step. */
static int fits(const tm_program *p, const tm_step *step)
{
    tm_node *y = step->y;
    const int back = step->kind == TM_STEP_BACKWARD;
    if ((step->kind != TM_STEP_FORWARD && !back) || !y->rank || !tm_made(p, y) || !y->op->block[y->dtype] ||
        (back && !y->op->block_backward[y->dtype]))
        return 0;
    for (uint32_t i = 0; i < y->n_inputs; i++) {
        const tm_node *x = y->in[i];
        const int single = x->size == 1 && !(back && x->flags & TM_REQUIRES_GRAD);
        if (x->dtype != y->dtype || !(whole(y, x) || single))
            return 0;
    }
    return 1;
}

/* How many steps from `first` on are a run; fewer than 2 are none. */
static int run_length(const pass *s, int first)
{
    const tm_step *step = &s->steps->step[first];
    int n = 0;
    while (n < LONGEST && first + n < s->steps->n && fits(s->p, step + n) && step[n].kind == step->kind &&
           step[n].y->dtype == step->y->dtype && whole(step->y, step[n].y))
        n++;
    return n;
}

static void note_access(void *context, tm_access access, tm_node *x)
{
    const pass *s = context;
    note *n = note_of(s, x);
    if (!n || access == TM_CLEARS_GRAD)
        return;
    const int data = access == TM_READS_DATA || access == TM_WRITES_DATA;
    int *run = data ? &n->data_run : &n->grad_run;
    *run = *run == NO_RUN || *run == s->run ? s->run : SHARED;
    if (access == TM_READS_DATA)
        n->data_last = s->at;
    n->consumed |= access == TM_READS_GRAD;
}

/* What others look at, or hold, or share the memory of, stays in memory. */
static int note_all(pass *s)
{
    const tm_program *p = s->p;
    uint8_t *held = tm_held(p, 1);
    if (!held)
        return -1;
    for (int i = 0; i < p->made.n; i++) {
        const tm_node *x = p->made.node[i];
        if (held[i] || i < p->n_inputs || !x->n_inputs || !x->rank || tm_buffer_shared(x->data.array))
            s->notes[i].data_run = SHARED;
        if (held[i] || i < p->n_inputs || !x->n_inputs || !x->rank || x->flags & TM_RETAIN_GRAD)
            s->notes[i].grad_run = SHARED;
    }
    free(held);
    for (int i = 0; i < p->results.n; i++)
        if (tm_made(p, p->results.node[i]))
            note_of(s, p->results.node[i])->data_run = SHARED;
    int runs = NO_RUN;
    for (int i = 0, length; i < s->steps->n; i += length) {
        length = run_length(s, i);
        s->run = length > 1 ? ++runs : SHARED;
        length = length > 1 ? length : 1;
        for (s->at = i; s->at < i + length; s->at++)
            tm_true_accesses(&s->steps->step[s->at], note_access, s);
    }
    return 0;
}

/* Writing the instructions of the run at hand. */

static int take_row(pass *s)
{
    const int row = s->rows ? __builtin_ctz(s->rows) : 0;
    s->rows &= ~(1u << row);
    return row;
}

static void give_row(pass *s, int row)
{
    s->rows |= row ? 1u << row : 0;
}

/* The place in memory of x's data or gradient. */
static uint8_t in_memory(pass *s, tm_node *x, int gradient)
{
    blocks *k = s->k;
    for (int i = ROWS; i < k->n_places; i++)
        if (k->places[i].node == x && k->places[i].gradient == gradient)
            return (uint8_t)i;
    tm_slot *slot = gradient ? &x->grad : &x->data;
    place *p = &k->places[k->n_places];
    *p = (place){.node = x, .gradient = (uint8_t)gradient, .step = x->size == k->n};
    if (x->rank) {
        p->array = (char **)&slot->array;
        k->arrays[k->n_arrays++] = (uint8_t)k->n_places;
    } else {
        p->base = (char *)slot;
    }
    return (uint8_t)k->n_places++;
}

static uint8_t data_of(pass *s, tm_node *x)
{
    const note *n = note_of(s, x);
    return n && n->data_row ? (uint8_t)n->data_row : in_memory(s, x, 0);
}

static uint8_t grad_of(pass *s, tm_node *x)
{
    const note *n = note_of(s, x);
    return n && n->grad_row ? (uint8_t)n->grad_row : in_memory(s, x, 1);
}

static void add_to(pass *s, tm_nodes *nodes, tm_node *x)
{
    if (!contains(nodes, x))
        s->failed |= tm_nodes_add(nodes, x);
}

static void put_forward(pass *s, tm_node *y)
{
    instruction *i = &s->k->code[s->k->n_code++];
    *i = (instruction){.forward = y->op->block[y->dtype], .attributes = tm_attr(y), .a = data_of(s, y->in[0])};
    if (y->n_inputs > 1)
        i->b = data_of(s, y->in[1]);
    for (uint32_t q = 0; q < y->n_inputs; q++) { /* y may have the row of an operand that is not needed any more */
        note *x = note_of(s, y->in[q]);
        if (x && x->data_last == s->at) {
            give_row(s, x->data_row);
            x->data_row = 0;
        }
    }
    note *n = note_of(s, y);
    if (n->data_run == s->run && (n->data_row = (int8_t)take_row(s)))
        add_to(s, &s->k->data_in_rows, y);
    i->y = data_of(s, y);
    if (n->data_last <= s->at) /* nobody reads it */
        give_row(s, n->data_row);
}

/* Whether these are the run's first terms for the gradient of x, which gets its place with them. */
static int opens(pass *s, tm_node *x)
{
    blocks *k = s->k;
    note *n = note_of(s, x);
    if (n && n->grad_row)
        return 0;
    if (n && n->grad_run == s->run && n->consumed && (n->grad_row = (int8_t)take_row(s))) {
        add_to(s, &k->grad_in_rows, x);
        return 1;
    }
    const uint8_t dx = in_memory(s, x, 1);
    for (int i = 0; i < k->n_opened; i++)
        if (k->opened[i] == dx)
            return 0;
    k->opened[k->n_opened++] = dx;
    if (!tm_made(s->p, x))
        add_to(s, &k->locked, x);
    return 1;
}

static void put_backward(pass *s, tm_node *y)
{
    blocks *k = s->k;
    note *n = note_of(s, y);
    const uint8_t dy = grad_of(s, y);
    int left = 0;
    for (uint32_t q = 0; q < y->n_inputs; q++)
        left += (y->in[q]->flags & TM_REQUIRES_GRAD) != 0;
    for (uint32_t q = 0; q < y->n_inputs; q++) {
        tm_node *x = y->in[q];
        if (!(x->flags & TM_REQUIRES_GRAD))
            continue;
        if (!--left) /* the last terms may take the row of dy */
            give_row(s, n->grad_row);
        instruction *i = &k->code[k->n_code++];
        *i = (instruction){.backward = y->op->block_backward[y->dtype], .attributes = tm_attr(y), .dy = dy,
                           .operand = (uint8_t)q};
        if (tm_flow_reads_input(y, q, 0)) /* else row 0 will do: what is there makes no difference */
            i->a = data_of(s, y->in[0]);
        if (y->n_inputs > 1 && tm_flow_reads_input(y, q, 1))
            i->b = data_of(s, y->in[1]);
        if (tm_flow_reads_result(y, q))
            i->y = data_of(s, y);
        i->first = (uint8_t)opens(s, x);
        i->dx = grad_of(s, x);
    }
    if (!n->grad_row && !(y->flags & TM_RETAIN_GRAD))
        add_to(s, &k->closed, y);
    n->grad_row = 0;
}

/* Puts the steps from s->at on into one; what they leave empty is swept out later. */
static int make_blocks(pass *s, int count)
{
    tm_step *step = &s->steps->step[s->at];
    tm_steps inside = {malloc((size_t)count * sizeof *step), count, count};
    blocks *k = s->k = calloc(1, sizeof *k);
    if (!inside.step || !k) {
        free(inside.step);
        free(k);
        return tm_fail_memory("compile: blocks", sizeof *k);
    }
    memcpy(inside.step, step, (size_t)count * sizeof *step);
    for (int i = 0; i < count; i++)
        step[i] = (tm_step){.kind = TM_STEP_KINDS};
    *step = (tm_step){.kind = TM_STEP_BLOCKS, .run = run_blocks, .inside = inside, .made = k, .free_made = free_blocks};
    const tm_node *y = inside.step[0].y;
    k->n = y->size;
    k->item = tm_item_size(y->dtype);
    k->block = (int64_t)(BLOCK_BYTES / k->item);
    k->add = tm_op_named("add")->block[y->dtype];
    k->n_places = ROWS;
    for (int i = 0; i < ROWS; i++)
        k->places[i].step = k->places[i].fresh = 1;
    s->rows = (1u << ROWS) - 2;
    for (int i = 0; i < count; i++, s->at++)
        if (inside.step[i].kind == TM_STEP_FORWARD)
            put_forward(s, inside.step[i].y);
        else
            put_backward(s, inside.step[i].y);
    return s->failed ? -1 : 0;
}

int tm_pass_blocks(tm_program *p, tm_steps *steps)
{
    const size_t n = (size_t)(p->made.n ? p->made.n : 1);
    pass s = {.p = p, .steps = steps, .notes = calloc(n, sizeof *s.notes)};
    if (!s.notes)
        return tm_fail_memory("compile: blocks", n * sizeof *s.notes);
    int failed = note_all(&s);
    s.run = NO_RUN;
    for (s.at = 0; !failed && s.at < steps->n;) {
        const int length = run_length(&s, s.at);
        if (length > 1) {
            s.run++;
            failed = make_blocks(&s, length);
        } else {
            s.at++;
        }
    }
    if (!failed)
        tm_steps_sweep(steps);
    free(s.notes);
    return failed;
}
