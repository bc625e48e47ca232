/* The pass that turns runs of steps on 0-d float64 nodes into tapes, see ../tape.h. */
#include "../error.h"
#include "../grad.h"
#include "../passes.h"
#include "../tape.h"
#include "../tinyml.h"

#include <stdlib.h>
#include <string.h>

enum { SHORTEST = 4 }; /* steps that are worth a tape, against bringing nodes in and out */

/* What happens between a node and its slot, before and after. */
enum { LOAD_DATA = 1, LOAD_GRAD = 2, STORE_DATA = 4, STORE_GRAD = 8, STORE_NONE = 16 };

typedef struct {
    tm_node *node;
    uint32_t slot, does;
} port;

typedef struct {
    tm_tape tape;
    port *ports;
    int n_ports;
    tm_nodes locked; /* other threads may be adding to the gradients of these */
} tape_step;

static int run_tape(tm_step *step)
{
    const tape_step *t = step->made;
    double *values = t->tape.values, *gradients = t->tape.gradients;
    const port *end = t->ports + t->n_ports;
    const uint32_t me = tm_thread_id();
    tm_leaves_lock(t->locked.node, (uint32_t)t->locked.n, me);
    for (const port *at = t->ports; at < end; at++) {
        if (at->does & LOAD_DATA)
            values[at->slot] = at->node->data.f64;
        if (at->does & LOAD_GRAD)
            gradients[at->slot] = at->node->has_grad ? at->node->grad.f64 : -0.0;
    }
    tm_run_tape(&t->tape);
    for (const port *at = t->ports; at < end; at++) {
        if (at->does & STORE_DATA)
            at->node->data.f64 = values[at->slot];
        if (at->does & STORE_GRAD) {
            at->node->grad.f64 = gradients[at->slot];
            at->node->has_grad = 1;
        } else if (at->does & STORE_NONE) {
            at->node->has_grad = 0;
        }
    }
    tm_leaves_unlock(t->locked.node, (uint32_t)t->locked.n, me);
    return 0;
}

static void free_tape(void *made)
{
    tape_step *t = made;
    free((void *)t->tape.code);
    free(t->tape.values);
    free(t->tape.gradients);
    free(t->tape.updates);
    free(t->ports);
    free(t->locked.node);
    free(t);
}

/* Of a node's gradient at some step, what the steps before tell. */
typedef enum { UNKNOWN, NONE, SOME } gradient;

enum { NO_RUN = 0, SHARED = UINT32_MAX };

enum {
    WRITTEN = 1, /* some step writes the data */
    WANTED = 2,  /* some step reads the gradient */
    /* in the tape at hand */
    RESULT = 4,      /* an op makes the node */
    HAS_DATA = 8,    /* the data is in the slot by now */
    HAS_GRAD = 16,   /* the gradient is */
    NEEDS_DATA = 32, /* the data was to be brought there */
    NEEDS_GRAD = 64, /* the gradient was */
    NEW_DATA = 128,
    NEW_GRAD = 256,
    OPEN = 512,      /* not the program, but others may have set the gradient that was brought */
};

/* What the pass knows of a node. */
typedef struct {
    const tm_node *node;
    uint32_t run;  /* the one run of steps that touches it; SHARED where others do, or may */
    uint32_t slot; /* in the tape at hand, or TAPE_NO_SLOT */
    uint16_t flags;
    uint8_t gradient;
} note;

typedef struct {
    tm_program *p;
    note *notes;        /* of the nodes made, then of the outer ones */
    uint32_t run;       /* at hand; SHARED between runs */
    tm_step_kind kind;  /* of the step looked at */
    uint8_t codes[256]; /* of ops, by their place in the table; 0 where there is none */
    /* the tape at hand */
    tape_step *t;
    tm_nodes nodes;    /* by slot */
    uint32_t *code;
    uint8_t *clearing; /* by slot: the CLEAR at hand names it */
    size_t n_code;
    uint32_t n_slots, n_updates;
    int failed;
} pass;

static note *note_of(const pass *s, const tm_node *x)
{
    const uint32_t place = __atomic_load_n(&x->mark, __ATOMIC_RELAXED) - 1;
    if (place < (uint32_t)s->p->made.n && s->notes[place].node == x)
        return &s->notes[place];
    int low = s->p->made.n;
    for (int high = low + s->p->outer.n; high - low > 1;) {
        const int middle = low + (high - low) / 2;
        if (s->notes[middle].node <= x)
            low = middle;
        else
            high = middle;
    }
    return &s->notes[low];
}

static void look(void *context, tm_access access, tm_node *x)
{
    pass *s = context;
    note *n = note_of(s, x);
    n->run = n->run == NO_RUN || n->run == s->run ? s->run : SHARED;
    if (access == TM_WRITES_DATA)
        n->flags |= WRITTEN;
    if (access == TM_READS_GRAD)
        n->flags |= WANTED;
    if (access == TM_CLEARS_GRAD)
        n->gradient = NONE;
    if (access == TM_ADDS_GRAD || (access == TM_WRITES_GRAD && s->kind == TM_STEP_WRITE_GRAD))
        n->gradient = SOME; /* the other writes are bounds, where there is a gradient */
}

static void look_at(pass *s, const tm_step *step)
{
    s->kind = step->kind;
    tm_step_accesses(step, look, s);
}

/* What a tape can do. */

static void list_codes(pass *s)
{
    static const struct {
        const char *name;
        uint8_t code;
    } known[] = {
        {"add_n", TAPE_ADD_N}, {"dot", TAPE_DOT},
#define UNARY(name, value, dydx) {#name, TAPE_##name},
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define UNARY_NUMBER UNARY
#define BINARY(name, value, dyda, dydb) {#name, TAPE_##name},
#define BINARY_NUMBER BINARY
#define COMPARE(name, value)
#include "../ops/elementwise.h"
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const size_t place = (size_t)(tm_op_named(known[i].name) - tm_cast_op());
        if (place < sizeof s->codes)
            s->codes[place] = known[i].code;
    }
}

static uint32_t code_of(const pass *s, const tm_op *op)
{
    const size_t place = (size_t)(op - tm_cast_op());
    return place < sizeof s->codes ? s->codes[place] : 0;
}

static int scalar(const tm_node *x)
{
    return x->rank == 0 && x->dtype == TM_F64;
}

static int scalars(tm_node *const *nodes, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!scalar(nodes[i]))
            return 0;
    return 1;
}

static int known_gradients(const pass *s, tm_node *const *nodes, int n)
{
    for (int i = 0; i < n; i++)
        if (note_of(s, nodes[i])->gradient == UNKNOWN)
            return 0;
    return 1;
}

static int fits(const pass *s, const tm_step *step)
{
    tm_node *y = step->y, *x = step->x;
    switch (step->kind) {
    case TM_STEP_FORWARD:
    case TM_STEP_BACKWARD:
        return scalar(y) && code_of(s, y->op) && scalars(tm_inputs(y), y->n_inputs);
    case TM_STEP_ALIAS:
    case TM_STEP_COPY:
    case TM_STEP_WRITE_GRAD:
        return scalar(y) && scalar(x);
    case TM_STEP_SEED:
        return scalar(y) && (!x || scalar(x)) && known_gradients(s, &y, 1);
    case TM_STEP_READ_GRAD:
        return scalar(y) && scalar(x) && known_gradients(s, &x, 1);
    case TM_STEP_CLEAR:
        return scalars(step->nodes, step->n);
    case TM_STEP_UPDATE:
        return step->update->rule->n_states <= TAPE_STATES && scalars(step->nodes, step->n) &&
               scalars(step->update->states, (int64_t)step->n * step->update->rule->n_states) &&
               known_gradients(s, step->nodes, step->n);
    default:
        return 0;
    }
}

/* Slots for nodes. */

static void place(pass *s, tm_node *x)
{
    note *n = note_of(s, x);
    if (n->slot != TAPE_NO_SLOT)
        return;
    n->slot = (uint32_t)s->nodes.n;
    s->failed |= tm_nodes_add(&s->nodes, x);
}

static void place_leaf(void *context, tm_access access, tm_node *x)
{
    (void)access;
    if (!(note_of(context, x)->flags & RESULT))
        place(context, x);
}

static void place_all(pass *s, const tm_step *steps, int count)
{
    for (int i = 0; i < count; i++) {
        const tm_step *step = &steps[i];
        if (step->kind == TM_STEP_FORWARD)
            note_of(s, step->y)->flags |= RESULT;
        if (step->kind != TM_STEP_UPDATE)
            continue;
        for (int k = 0; k < step->n; k++)
            place(s, step->nodes[k]);
        for (int k = 0; k < step->n * step->update->rule->n_states; k++)
            place(s, step->update->states[k]);
    }
    for (int i = 0; i < count; i++) /* where a result's gradient flows is known from the op that made it */
        if (steps[i].kind != TM_STEP_BACKWARD || !(note_of(s, steps[i].y)->flags & RESULT))
            tm_step_accesses(&steps[i], place_leaf, s);
    for (int i = 0; i < count; i++)
        if (steps[i].kind == TM_STEP_FORWARD)
            place(s, steps[i].y);
}

/* Slots as instructions name them. What the tape needs and leaves is noted on the way. */

static uint32_t read_data(pass *s, tm_node *x)
{
    note *n = note_of(s, x);
    if (!(n->flags & HAS_DATA))
        n->flags |= HAS_DATA | NEEDS_DATA;
    return n->slot;
}

static uint32_t write_data(pass *s, tm_node *x)
{
    note *n = note_of(s, x);
    n->flags |= HAS_DATA | NEW_DATA;
    return n->slot;
}

static uint32_t read_grad(pass *s, tm_node *x)
{
    note *n = note_of(s, x);
    if (!(n->flags & HAS_GRAD))
        n->flags |= HAS_GRAD | NEEDS_GRAD | (n->gradient == UNKNOWN ? OPEN : 0);
    return n->slot;
}

static uint32_t write_grad(pass *s, tm_node *x, gradient becomes)
{
    note *n = note_of(s, x);
    n->flags |= HAS_GRAD | NEW_GRAD;
    n->gradient = becomes;
    return n->slot;
}

/* Whether to add to the gradient of x: nobody reads that of a private leaf. */
static int add_grad(pass *s, tm_node *x)
{
    const note *n = note_of(s, x);
    if (!(x->flags & TM_REQUIRES_GRAD) || !(n->flags & WANTED || n->run == SHARED))
        return 0;
    read_grad(s, x);
    write_grad(s, x, SOME);
    return 1;
}

static uint32_t constant(pass *s, double value)
{
    s->t->tape.values[s->n_slots] = value;
    return s->n_slots++;
}

/* Instructions. */

static void put(pass *s, uint32_t first, uint32_t second, uint32_t third, uint32_t fourth)
{
    const uint32_t words[] = {first, second, third, fourth};
    memcpy(s->code + s->n_code, words, sizeof words);
    s->n_code += 4;
}

static void put_slots(pass *s, tm_node **nodes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->code[s->n_code++] = note_of(s, nodes[i])->slot;
}

/* The slot of the first of n neighbours; TAPE_NO_SLOT when they are none. */
static uint32_t neighbours(const pass *s, tm_node **nodes, uint32_t n)
{
    const uint32_t first = n ? note_of(s, nodes[0])->slot : 0;
    for (uint32_t i = 1; i < n; i++)
        if (note_of(s, nodes[i])->slot != first + i)
            return TAPE_NO_SLOT;
    return first;
}

static void put_add_n(pass *s, tm_node *y, int back)
{
    tm_node **x = tm_inputs(y);
    const uint32_t first = neighbours(s, x, y->n_inputs);
    const uint32_t code = first == TAPE_NO_SLOT ? TAPE_ADD_N : TAPE_ADD_N_RUN;
    put(s, back ? code + (TAPE_ADD_N_BACK - TAPE_ADD_N) : code, note_of(s, y)->slot, y->n_inputs, first);
    if (code == TAPE_ADD_N)
        put_slots(s, x, y->n_inputs);
}

static void put_dot(pass *s, tm_node *y, int back, int wants_w, int wants_x, int bias)
{
    const uint32_t n = (uint32_t)tm_attr(y)[0];
    tm_node **inputs = tm_inputs(y);
    const uint32_t w = neighbours(s, inputs, n), x = neighbours(s, inputs + n, n);
    const int run = w != TAPE_NO_SLOT && x != TAPE_NO_SLOT && (w + n <= x || x + n <= w || !n);
    const uint32_t code = run ? TAPE_DOT_RUN : TAPE_DOT;
    put(s, back ? code + (TAPE_DOT_BACK - TAPE_DOT) : code, note_of(s, y)->slot, n, (uint32_t)tm_attr(y)[1]);
    put(s, bias ? note_of(s, inputs[2 * n])->slot : TAPE_NO_SLOT, w, x,
        (wants_w ? TAPE_WANTS_W : 0) | (wants_x ? TAPE_WANTS_X : 0));
    if (!run)
        put_slots(s, inputs, 2 * n);
}

/* What the words of an elementwise op end in: the second operand, or the first of its attributes. */
static uint32_t second_operand(pass *s, tm_node *y)
{
    const uint32_t first = s->n_slots;
    if (y->n_inputs == 2)
        return note_of(s, y->in[1])->slot;
    for (int i = 0; i < y->n_attributes; i++)
        constant(s, tm_attr(y)[i]);
    return first;
}

static void put_forward(pass *s, tm_node *y)
{
    const uint32_t code = code_of(s, y->op);
    tm_node **inputs = tm_inputs(y);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        read_data(s, inputs[i]);
    write_data(s, y);
    if (code == TAPE_ADD_N)
        put_add_n(s, y, 0);
    else if (code == TAPE_DOT)
        put_dot(s, y, 0, 0, 0, y->n_inputs > 2 * tm_attr(y)[0]);
    else
        put(s, code, note_of(s, y)->slot, note_of(s, y->in[0])->slot, second_operand(s, y));
}

static int add_grads(pass *s, tm_node **nodes, uint32_t n)
{
    int any = 0;
    for (uint32_t i = 0; i < n; i++)
        any |= add_grad(s, nodes[i]);
    return any;
}

static void put_backward(pass *s, tm_node *y)
{
    const uint32_t code = code_of(s, y->op);
    tm_node **inputs = tm_inputs(y);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        read_data(s, inputs[i]);
    read_data(s, y);
    read_grad(s, y);
    if (code == TAPE_ADD_N) {
        if (add_grads(s, inputs, y->n_inputs))
            put_add_n(s, y, 1);
    } else if (code == TAPE_DOT) {
        const uint32_t n = (uint32_t)tm_attr(y)[0];
        const int w = add_grads(s, inputs, n), x = add_grads(s, inputs + n, n);
        const int bias = y->n_inputs > 2 * n && add_grad(s, inputs[2 * n]);
        if (w || x || bias)
            put_dot(s, y, 1, w, x, bias);
    } else {
        const int a = add_grad(s, y->in[0]), b = y->n_inputs == 2 && add_grad(s, y->in[1]);
        if (a || b)
            put(s, code + (uint32_t)a + 2 * (uint32_t)b, note_of(s, y)->slot, note_of(s, y->in[0])->slot,
                second_operand(s, y));
    }
}

/* Clears run of slots by run of slots: mostly one, although they are listed as a sweep meets them. */
static void put_clear(pass *s, tm_node **nodes, int n)
{
    uint32_t low = TAPE_NO_SLOT, high = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t slot = write_grad(s, nodes[i], NONE);
        s->clearing[slot] = 1;
        low = slot < low ? slot : low;
        high = slot > high ? slot : high;
    }
    if (n && high - low < 4 * (uint32_t)n)
        for (uint32_t first = low, end; first <= high; first = end + 1) {
            for (end = first; end <= high && s->clearing[end]; end++)
                s->clearing[end] = 0;
            if (end > first)
                put(s, TAPE_FILL, first, end - first, 0);
        }
    for (int i = 0; i < n; i++) { /* what is left, far apart */
        const uint32_t slot = note_of(s, nodes[i])->slot;
        if (s->clearing[slot])
            put(s, TAPE_FILL, slot, 1, 0);
        s->clearing[slot] = 0;
    }
}

/* Whether the i-th parameter of an UPDATE has a gradient, and its slots come `after` places after those in `words`. */
static int joins(const pass *s, const tm_step *step, int i, const uint32_t *words, uint32_t after)
{
    const note *n = note_of(s, step->nodes[i]);
    int joined = n->gradient == SOME && n->slot == words[2] + after;
    for (int k = 0; k < step->update->rule->n_states; k++)
        joined &= note_of(s, step->update->states[k * step->n + i])->slot == words[4 + k] + after;
    return joined;
}

/* Parameters without a gradient stay as they are; neighbours whose states are neighbours go together. */
static void put_update(pass *s, const tm_step *step)
{
    tm_node **states = step->update->states;
    const int n_states = step->update->rule->n_states, n = step->n;
    for (int i = 0; i < n;) {
        uint32_t words[TAPE_UPDATE_WORDS] = {TAPE_UPDATE, s->n_updates, note_of(s, step->nodes[i])->slot, 0};
        for (int k = 0; k < n_states; k++)
            words[4 + k] = note_of(s, states[k * n + i])->slot;
        for (; i < n && joins(s, step, i, words, words[3]); i++, words[3]++) {
            read_data(s, step->nodes[i]);
            read_grad(s, step->nodes[i]);
            write_data(s, step->nodes[i]);
            for (int k = 0; k < n_states; k++) {
                read_data(s, states[k * n + i]);
                write_data(s, states[k * n + i]);
            }
        }
        if (!words[3]) {
            i++;
            continue;
        }
        memcpy(s->code + s->n_code, words, sizeof words);
        s->n_code += TAPE_UPDATE_WORDS;
    }
    s->t->tape.updates[s->n_updates++] = step->update;
}

static void put_step(pass *s, const tm_step *step)
{
    tm_node *y = step->y, *x = step->x;
    switch (step->kind) {
    case TM_STEP_FORWARD:
        put_forward(s, y);
        break;
    case TM_STEP_BACKWARD:
        put_backward(s, y);
        break;
    case TM_STEP_ALIAS:
    case TM_STEP_COPY: {
        const uint32_t from = read_data(s, x);
        put(s, TAPE_COPY, write_data(s, y), from, 0);
        break;
    }
    case TM_STEP_SEED: {
        const uint32_t from = x ? read_data(s, x) : constant(s, 1);
        const int more = note_of(s, y)->gradient == SOME;
        if (more)
            read_grad(s, y);
        put(s, more ? TAPE_SEED_MORE : TAPE_SEED, write_grad(s, y, SOME), from, 0);
        break;
    }
    case TM_STEP_READ_GRAD: {
        const int some = note_of(s, x)->gradient == SOME;
        const uint32_t from = some ? read_grad(s, x) : constant(s, 0);
        put(s, some ? TAPE_READ_GRAD : TAPE_COPY, write_data(s, y), from, 0);
        break;
    }
    case TM_STEP_WRITE_GRAD: {
        const uint32_t from = read_data(s, x);
        put(s, TAPE_WRITE_GRAD, write_grad(s, y, SOME), from, 0);
        break;
    }
    case TM_STEP_CLEAR:
        put_clear(s, step->nodes, step->n);
        break;
    case TM_STEP_UPDATE:
        put_update(s, step);
        break;
    default:
        break;
    }
}

/* Room for the tape, whose every step needs less than is counted here. */
static int make_room(pass *s, const tm_step *steps, int count)
{
    size_t words = TAPE_WORDS, slots = (size_t)s->nodes.n, updates = 0;
    for (int i = 0; i < count; i++) {
        const tm_step *step = &steps[i];
        words += TAPE_UPDATE_WORDS * ((size_t)step->n + 1);
        slots++;
        if (step->kind == TM_STEP_FORWARD || step->kind == TM_STEP_BACKWARD) {
            words += step->y->n_inputs;
            slots += step->y->n_attributes;
        }
        updates += step->kind == TM_STEP_UPDATE;
    }
    tape_step *t = s->t;
    t->tape.values = calloc(slots, sizeof *t->tape.values);
    t->tape.gradients = calloc(slots, sizeof *t->tape.gradients);
    t->tape.updates = calloc(updates + 1, sizeof *t->tape.updates);
    t->tape.code = s->code = malloc(words * sizeof *s->code);
    t->ports = malloc(((size_t)s->nodes.n + 1) * sizeof *t->ports);
    s->clearing = calloc((size_t)s->nodes.n + 1, 1);
    if (!t->tape.values || !t->tape.gradients || !t->tape.updates || !s->code || !t->ports || !s->clearing)
        return tm_fail_memory("a tape", words * sizeof *s->code);
    return 0;
}

/* What the tape has to bring in and out of this node. What is private and comes out is there for the next replay. */
static int connect(pass *s, tm_node *x)
{
    const note *n = note_of(s, x);
    tape_step *t = s->t;
    const uint32_t flags = n->flags, visible = n->run == SHARED;
    uint32_t does = 0;
    if (flags & NEEDS_DATA && !visible && !(flags & (WRITTEN | NEW_DATA)))
        t->tape.values[n->slot] = x->data.f64;
    else if (flags & NEEDS_DATA)
        does |= LOAD_DATA;
    if (flags & NEEDS_GRAD)
        does |= LOAD_GRAD;
    if (flags & NEW_DATA && (visible || flags & NEEDS_DATA))
        does |= STORE_DATA;
    if (flags & NEW_GRAD && (visible || flags & NEEDS_GRAD))
        does |= n->gradient == SOME ? STORE_GRAD : STORE_NONE;
    if (does)
        t->ports[t->n_ports++] = (port){x, n->slot, does};
    return does & LOAD_GRAD && flags & OPEN && flags & NEW_GRAD && !tm_made(s->p, x) ? tm_nodes_add(&t->locked, x) : 0;
}

static int put_all(pass *s, const tm_step *steps, int count)
{
    s->n_code = 0;
    s->n_updates = 0;
    s->n_slots = (uint32_t)s->nodes.n;
    for (int i = 0; i < count; i++)
        put_step(s, &steps[i]);
    put(s, TAPE_END, 0, 0, 0);
    for (int i = 0; i < s->nodes.n; i++)
        if (connect(s, s->nodes.node[i]))
            return -1;
    uint32_t *code = realloc(s->code, s->n_code * sizeof *code);
    if (code)
        s->t->tape.code = code;
    return 0;
}

/* Turns `count` steps from `first` on into a tape. */
static int make_tape(pass *s, tm_steps *steps, int first, int count)
{
    const tm_step *run = steps->step + first;
    if (!(s->t = calloc(1, sizeof *s->t)))
        return tm_fail_memory("a tape", sizeof *s->t);
    s->nodes.n = 0;
    s->clearing = NULL;
    place_all(s, run, count);
    const int failed = s->failed || make_room(s, run, count) || put_all(s, run, count);
    for (int i = 0; i < s->nodes.n; i++) {
        note *n = note_of(s, s->nodes.node[i]);
        n->slot = TAPE_NO_SLOT;
        n->flags &= WRITTEN | WANTED;
    }
    free(s->clearing);
    tm_step *step = failed ? NULL : tm_steps_wrap(steps, first, count, TM_STEP_TAPE);
    if (!step) {
        free_tape(s->t);
        return -1;
    }
    step->run = run_tape;
    step->made = s->t;
    step->free_made = free_tape;
    return 0;
}

/* Finds the maximal runs: lengths[i] of that which begins with step i. */
static void find_runs(pass *s, const tm_steps *steps, int *lengths)
{
    int first = 0;
    s->run = SHARED;
    for (int i = 0; i < steps->n; i++) {
        if (!fits(s, &steps->step[i])) {
            s->run = SHARED;
        } else {
            if (s->run == SHARED) {
                first = i;
                s->run = (uint32_t)i + 1;
            }
            lengths[first]++;
        }
        look_at(s, &steps->step[i]);
    }
}

static int make_tapes(pass *s, tm_steps *steps, const int *lengths)
{
    const int n = steps->n;
    for (int i = 0, at = 0; i < n; at++) {
        if (lengths[i] < SHORTEST) {
            s->run = SHARED;
            look_at(s, &steps->step[at]);
            i++;
            continue;
        }
        s->run = (uint32_t)i + 1;
        if (make_tape(s, steps, at, lengths[i]))
            return -1;
        i += lengths[i];
    }
    return 0;
}

int tm_pass_tape(tm_program *p, tm_steps *steps)
{
    const int made = p->made.n, n_notes = made + p->outer.n + 1; /* the last for an outer node that no step uses */
    pass s = {.p = p, .notes = calloc((size_t)n_notes, sizeof *s.notes)};
    int *lengths = calloc((size_t)steps->n + 1, sizeof *lengths), failed = -1;
    if (s.notes && lengths) {
        list_codes(&s);
        for (int i = 0; i < n_notes - 1; i++)
            s.notes[i] = (note){.node = i < made ? p->made.node[i] : p->outer.node[i - made],
                                .run = i < p->n_inputs || i >= made ? SHARED : NO_RUN,
                                .slot = TAPE_NO_SLOT};
        for (int i = 0; i < p->results.n; i++)
            note_of(&s, p->results.node[i])->run = SHARED;
        find_runs(&s, steps, lengths);
        for (int i = 0; i < n_notes; i++)
            s.notes[i].gradient = UNKNOWN;
        failed = make_tapes(&s, steps, lengths);
    } else {
        tm_fail_memory("the notes on a program", (size_t)n_notes * sizeof *s.notes);
    }
    free(s.nodes.node);
    free(s.notes);
    free(lengths);
    return failed;
}
