/* Shared buffers: arrays that are not needed at the same time lie in the same memory.
 *
 * A buffer lives from the step of a replay that first writes it to the one that last reads it. Going through the
 * steps in order, a buffer that is born takes the memory of one of its size that has died, as registers are given to
 * variables. A replay may run either of two lists of steps, and what shares memory must not meet in either. Buffers
 * that nobody uses, as of what stays in the rows of BLOCKS, are let go of.
 *
 * Left alone is what lives on between replays: arguments, constants, parameters, results, whatever is read before it is
 * written; and all that somebody outside holds, down to what it was made from. Several nodes may have one buffer
 * (ALIAS, common subexpressions): it has one life, and if anybody else has it, it is left alone, too. */
#include "../passes.h"
#include "../error.h"

#include <stdlib.h>
#include <string.h>

enum { LISTS = 2, NEVER = INT32_MAX, NONE = -1 };

/* What a node has buffers for. */
enum { DATA, GRAD, SAVED, SLOTS };

typedef struct {
    void *buffer;
    uint32_t slots;                /* how many of made nodes have it */
    int first[LISTS], last[LISTS]; /* steps; first is NEVER, last NONE where there are none */
    uint8_t cleared[LISTS];        /* a gradient that starts from nothing */
    uint8_t barred, touched;       /* touched: kernels get its address, perhaps for nothing */
    int home; /* the life whose buffer it takes over; its own, unless another one has died */
    int next; /* in a list of lives */
} life;

/* Buffers of one size whose lives are over. */
typedef struct {
    size_t bytes;
    int free;
} size_class;

typedef struct {
    const tm_program *p;
    life *lives;
    int n_lives;
    int *of;            /* by place and slot: the life, or NONE */
    int *table;         /* lives by address */
    size_t mask;
    int list, at;       /* at hand */
    size_class *classes;
    int n_classes;
} pass;

static void **slot_of(tm_node *x, int slot)
{
    if (slot == SAVED)
        return x->flags & TM_SAVES ? tm_saved_slot(x) : NULL;
    return !x->rank ? NULL : slot == DATA ? &x->data.array : &x->grad.array;
}

/* The life of a buffer, which may be new. */
static int life_of(pass *s, void *buffer)
{
    size_t i = ((uintptr_t)buffer >> 6) * 0x9e3779b97f4a7c15u >> 20 & s->mask;
    while (s->table[i] != NONE && s->lives[s->table[i]].buffer != buffer)
        i = (i + 1) & s->mask;
    if (s->table[i] == NONE) {
        s->table[i] = s->n_lives++;
        s->lives[s->table[i]] = (life){.buffer = buffer, .first = {NEVER, NEVER}, .last = {NONE, NONE},
                                       .home = s->table[i]};
    }
    return s->table[i];
}

static void list_lives(pass *s)
{
    for (int i = 0; i < s->p->made.n; i++)
        for (int slot = 0; slot < SLOTS; slot++) {
            void **at = slot_of(s->p->made.node[i], slot);
            int *of = &s->of[SLOTS * i + slot];
            *of = at && *at ? life_of(s, *at) : NONE;
            if (*of != NONE)
                s->lives[*of].slots++;
        }
}

static void bar(pass *s, int place, int slot)
{
    const int of = s->of[SLOTS * place + slot];
    if (of != NONE)
        s->lives[of].barred = 1;
}

/* What is not of one replay alone. */
static void bar_lasting(pass *s, const uint8_t *held)
{
    const tm_program *p = s->p;
    for (int i = 0; i < p->made.n; i++)
        for (int slot = 0; (i < p->n_inputs || held[i]) && slot < SLOTS; slot++)
            bar(s, i, slot);
    for (int i = 0; i < p->results.n; i++)
        if (tm_made(p, p->results.node[i]))
            bar(s, tm_place(p, p->results.node[i]), DATA);
    for (int i = 0; i < s->n_lives; i++)
        if (tm_buffer_refs(s->lives[i].buffer) != s->lives[i].slots)
            s->lives[i].barred = 1;
}

/* The step at hand uses a buffer; `starts`: writes all of it. */
static void use(pass *s, const tm_node *x, int slot, int starts)
{
    const int of = s->of[SLOTS * (x->mark - 1) + (uint32_t)slot];
    if (of == NONE)
        return;
    life *l = &s->lives[of];
    if (l->first[s->list] == NEVER) {
        l->first[s->list] = s->at;
        l->barred |= !starts;
    }
    l->last[s->list] = s->at;
}

static void note_access(void *context, tm_access access, tm_node *x)
{
    pass *s = context;
    if (!tm_made(s->p, x))
        return;
    const int grad = s->of[SLOTS * (x->mark - 1) + GRAD];
    switch (access) {
    case TM_READS_DATA:
    case TM_WRITES_DATA:
        use(s, x, DATA, access == TM_WRITES_DATA);
        break;
    case TM_CLEARS_GRAD:
        if (grad != NONE)
            s->lives[grad].cleared[s->list] = 1;
        break;
    default:
        use(s, x, GRAD, access == TM_ADDS_GRAD && grad != NONE && s->lives[grad].cleared[s->list]);
    }
}

static void note_touch(void *context, tm_access access, tm_node *x)
{
    const pass *s = context;
    const int of = tm_made(s->p, x) ? s->of[SLOTS * (x->mark - 1) + DATA] : NONE;
    if (access == TM_READS_DATA && of != NONE)
        s->lives[of].touched = 1;
}

/* What kernels leave for one another, and the states of an update. */
static void note_hidden(pass *s, const tm_step *step)
{
    const int states = step->kind == TM_STEP_UPDATE ? step->n * step->update->rule->n_states : 0;
    for (int i = 0; i < states; i++)
        if (tm_made(s->p, step->update->states[i]))
            use(s, step->update->states[i], DATA, 0);
    if ((step->kind == TM_STEP_FORWARD || step->kind == TM_STEP_BACKWARD || step->kind == TM_STEP_DESCEND) &&
        tm_made(s->p, step->y))
        use(s, step->y, SAVED, step->kind == TM_STEP_FORWARD);
    for (int i = 0; i < step->inside.n; i++)
        note_hidden(s, &step->inside.step[i]);
}

static void note_lives(pass *s, const tm_steps *lists[])
{
    for (s->list = 0; s->list < LISTS; s->list++)
        for (s->at = 0; s->at < lists[s->list]->n; s->at++) {
            const tm_step *step = &lists[s->list]->step[s->at];
            if (step->kind == TM_STEP_BLOCKS) {
                tm_blocks_accesses(step, note_access, s);
            } else {
                tm_true_accesses(step, note_access, s);
                tm_step_accesses(step, note_touch, s);
            }
            note_hidden(s, step);
        }
}

static size_class *class_of(pass *s, const life *l)
{
    const size_t bytes = tm_buffer_bytes(l->buffer);
    for (int i = 0; i < s->n_classes; i++)
        if (s->classes[i].bytes == bytes)
            return &s->classes[i];
    s->classes[s->n_classes] = (size_class){bytes, NONE};
    return &s->classes[s->n_classes++];
}

/* The buffer of a life that is over in both lists, or its own. */
static void settle(pass *s, life *l)
{
    size_class *c = class_of(s, l);
    if (c->free == NONE || s->lives[c->free].last[1] >= l->first[1])
        return;
    const life *dead = &s->lives[c->free];
    l->home = dead->home;
    if (l->last[1] < dead->last[1]) /* the other list may have the two in another order */
        l->last[1] = dead->last[1];
    c->free = dead->next;
}

/* In the order of the first list; lives of the second alone come last. */
static void settle_all(pass *s, int *born, int *dying, int steps)
{
    for (int i = 0; i <= steps; i++)
        born[i] = dying[i] = NONE;
    for (int i = s->n_lives; i-- > 0;) {
        life *l = &s->lives[i];
        const int first = l->first[0] == NEVER ? steps : l->first[0];
        if (l->barred || (l->first[0] == NEVER && l->first[1] == NEVER))
            continue;
        l->next = born[first];
        born[first] = i;
    }
    for (int at = 0; at <= steps; at++) {
        for (int i = born[at], next; i != NONE; i = next) {
            next = s->lives[i].next;
            settle(s, &s->lives[i]);
            const int last = s->lives[i].last[0] == NONE ? steps : s->lives[i].last[0];
            s->lives[i].next = dying[last];
            dying[last] = i;
        }
        for (int i = dying[at], next; i != NONE; i = next) {
            next = s->lives[i].next;
            size_class *c = class_of(s, &s->lives[i]);
            s->lives[i].next = c->free;
            c->free = i;
        }
    }
}

static void take_home(pass *s, tm_node *x, int slot, const life *l)
{
    void **at = slot_of(x, slot), *home = s->lives[l->home].buffer;
    const int unused = l->first[0] == NEVER && l->first[1] == NEVER && !l->touched && x->n_inputs;
    if (*at == home && !unused)
        return;
    if (unused)
        home = NULL;
    else
        tm_buffer_hold(home);
    tm_buffer_drop(*at);
    *at = home;
}

/* Points the nodes to where their lives are spent. */
static void move_all(pass *s)
{
    for (int i = 0; i < SLOTS * s->p->made.n; i++)
        if (s->of[i] != NONE && !s->lives[s->of[i]].barred)
            take_home(s, s->p->made.node[i / SLOTS], i % SLOTS, &s->lives[s->of[i]]);
    for (int i = 0; i < s->p->made.n; i++) {
        tm_node *x = s->p->made.node[i];
        const int of = s->of[SLOTS * i + GRAD];
        if (of != NONE && !s->lives[of].barred && x->grad.array && tm_buffer_shared(x->grad.array))
            x->flags |= TM_LENDS_GRAD;
    }
}

int tm_pass_share(tm_program *p)
{
    const tm_steps *lists[LISTS] = {&p->last, &p->inner};
    const size_t steps = (size_t)p->last.n + 1;
    size_t n = 1, room = 16; /* of buffers, and for them */
    for (int i = 0; i < SLOTS * p->made.n; i++)
        n += slot_of(p->made.node[i / SLOTS], i % SLOTS) != NULL;
    while (room < 2 * n)
        room *= 2;
    pass s = {.p = p, .mask = room - 1};
    uint8_t *held = tm_held(p, 1);
    int *born = malloc(2 * steps * sizeof *born);
    s.lives = malloc(n * sizeof *s.lives);
    s.of = malloc((SLOTS * (size_t)p->made.n + 1) * sizeof *s.of);
    s.table = malloc(room * sizeof *s.table);
    s.classes = malloc(n * sizeof *s.classes);
    const int failed = !held || !born || !s.lives || !s.of || !s.table || !s.classes;
    if (failed) {
        tm_fail_memory("compile: shared buffers", n * sizeof *s.lives);
    } else {
        for (size_t i = 0; i < room; i++)
            s.table[i] = NONE;
        list_lives(&s);
        bar_lasting(&s, held);
        note_lives(&s, lists);
        settle_all(&s, born, born + steps, p->last.n);
        move_all(&s);
    }
    free(held);
    free(born);
    free(s.lives);
    free(s.of);
    free(s.table);
    free(s.classes);
    return failed ? -1 : 0;
}
