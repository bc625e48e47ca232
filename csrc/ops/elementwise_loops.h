/* Loops for the lines of elementwise.h: the block kernels (see op.h), and the kernels that run them over nodes. */

#if defined(RULES)

enum { TERMS = 512 }; /* how many wait to be added: they stay in the first-level cache */

/* Equal shapes and single elements make one run without a look at the shapes, as most small calls do. */
static inline int one_run(const tm_node *y, int64_t *a_step, int64_t *b_step)
{
    const int64_t n = y->size, a = y->in[0]->size, b = y->n_inputs > 1 ? y->in[1]->size : 1;
    *a_step = a == n;
    *b_step = b == n;
    return (a == n || a == 1) && (b == n || b == 1);
}

/* Part of the elements of y, beside its operands, as pieces in which each operand steps by 0 or 1. */
typedef struct {
    int64_t at, end;                /* what is left */
    int64_t n;                      /* of the current piece; 0 past the last */
    int64_t from[TM_LOOP_OPERANDS]; /* where it starts in the operands */
    tm_loop loop;
} pieces;

static inline void set_piece(pieces *p, int64_t skip)
{
    const int64_t run = p->loop.run - skip, left = p->end - p->at;
    p->n = run < left ? run : left;
    for (int k = 0; k < TM_LOOP_OPERANDS; k++)
        p->from[k] = p->loop.at[k] + skip * p->loop.step[k];
}

static inline void next_piece(pieces *p)
{
    p->at += p->n;
    p->n = 0;
    if (p->at < p->end) {
        tm_loop_next(&p->loop);
        set_piece(p, 0);
    }
}

static void start_pieces(pieces *p, tm_node *y, int64_t part, int64_t task)
{
    tm_loop *loop = &p->loop;
    p->at = task * part;
    p->end = y->size - p->at < part ? y->size : p->at + part;
    p->n = 0;
    for (int k = 0; k < TM_LOOP_OPERANDS; k++) /* the last ones may not be there */
        loop->at[k] = loop->step[k] = 0;
    tm_loop_start(loop, y, (int)y->n_inputs, tm_inputs(y));
    if (p->at < p->end) {
        tm_loop_seek(loop, p->at / loop->run);
        set_piece(p, p->at % loop->run);
    }
}

/* A block kernel's work on y, of which each task does a part. */
typedef struct {
    tm_node *y;
    tm_block_kernel *block;
    int64_t part;
} block_work;

static void forward_part(void *context, int64_t task)
{
    const block_work *work = context;
    tm_node *y = work->y, **in = y->in;
    const size_t item = tm_item_size(in[0]->dtype), y_item = tm_item_size(y->dtype);
    const char *a = tm_data(in[0]), *b = tm_data(in[y->n_inputs - 1]);
    char *to = tm_data(y);
    pieces p;
    for (start_pieces(&p, y, work->part, task); p.n; next_piece(&p))
        work->block(p.n, a + (size_t)p.from[0] * item, p.loop.step[0], b + (size_t)p.from[1] * item,
                    p.loop.step[1], to + (size_t)p.at * y_item, tm_attr(y));
}

static int block_forward(tm_node *y, tm_block_kernel *block)
{
    int64_t a_step, b_step;
    if (y->size <= TM_PART && one_run(y, &a_step, &b_step)) {
        block(y->size, tm_data(y->in[0]), a_step, tm_data(y->in[y->n_inputs - 1]), b_step, tm_data(y), tm_attr(y));
        return 0;
    }
    block_work work = {y, block, tm_part(y->size, TM_PART)};
    tm_parallel_parts(tm_parts(y->size, work.part), y->size, forward_part, &work);
    return 0;
}

#elif !defined(ROWS)

#if REAL_IS_F32
#define SQRT(x) __builtin_sqrtf(x)
#define POW(a, b) ((b) == 2 ? (a) * (a) : (b) == 1 ? (a) : __builtin_powf(a, b))
#elif REAL_IS_F64
#define SQRT(x) __builtin_sqrt(x)
#define POW(a, b) ((b) == 2 ? (a) * (a) : (b) == 1 ? (a) : __builtin_pow(a, b))
#endif

/* A loop whose elements do not depend on one another: what it writes may be what it reads, but only in place. clang
 * finds that out when it runs. */
#if defined(__clang__)
#define INDEPENDENT
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* One statement for each pair of operands. Each steps by 1 or by 0; not both by 0. */
#define FOR_PAIRS(statement)                                                                                           \
    if (a_step && b_step) {                                                                                            \
        INDEPENDENT                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL a = as[i], b = bs[i];                                                                           \
            statement;                                                                                                 \
        }                                                                                                              \
    } else if (a_step) {                                                                                               \
        const REAL b = *bs;                                                                                            \
        INDEPENDENT                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL a = as[i];                                                                                      \
            statement;                                                                                                 \
        }                                                                                                              \
    } else {                                                                                                           \
        const REAL a = *as;                                                                                            \
        INDEPENDENT                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL b = bs[i];                                                                                      \
            statement;                                                                                                 \
        }                                                                                                              \
    }

#define UNARY_FORWARD(name, value, attributes)                                                                         \
    static void FN(name##_block)(int64_t n, const void *from, int64_t step, const void *none, int64_t no_step,         \
                                 void *to, const double *attribute)                                                    \
    {                                                                                                                  \
        const REAL *xs = from;                                                                                         \
        REAL *ys = to;                                                                                                 \
        (void)step, (void)none, (void)no_step, (void)attribute;                                                        \
        attributes;                                                                                                    \
        INDEPENDENT                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL x = xs[i];                                                                                      \
            ys[i] = value;                                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    static int FN(name##_forward)(tm_node *node)                                                                       \
    {                                                                                                                  \
        if (node->rank)                                                                                                \
            return block_forward(node, FN(name##_block));                                                              \
        const double *attribute = tm_attr(node);                                                                       \
        (void)attribute;                                                                                               \
        attributes;                                                                                                    \
        const REAL x = *(REAL *)&node->in[0]->data;                                                                    \
        *(REAL *)&node->data = value;                                                                                  \
        return 0;                                                                                                      \
    }

/* The result may be of another type than the operands. */
#define BINARY_FORWARD(name, type, value)                                                                              \
    static void FN(name##_block)(int64_t n, const void *first, int64_t a_step, const void *second, int64_t b_step,     \
                                 void *to, const double *none)                                                         \
    {                                                                                                                  \
        const REAL *as = first, *bs = second;                                                                          \
        type *ys = to;                                                                                                 \
        (void)none;                                                                                                    \
        FOR_PAIRS(ys[i] = value)                                                                                       \
    }                                                                                                                  \
    static int FN(name##_forward)(tm_node *node)                                                                       \
    {                                                                                                                  \
        if (node->rank)                                                                                                \
            return block_forward(node, FN(name##_block));                                                              \
        const REAL a = *(REAL *)&node->in[0]->data, b = *(REAL *)&node->in[1]->data;                                   \
        *(type *)&node->data = value;                                                                                  \
        return 0;                                                                                                      \
    }
#define COMPARE(name, value) BINARY_FORWARD(name, uint8_t, value)

#if REAL_IS_FLOAT

/* Adds a run of n terms to a gradient that steps by 1, or their sum to one that steps by 0; or writes the former. */
static void FN(add_terms)(int64_t n, const REAL *restrict terms, REAL *restrict dx, int64_t step, int add)
{
    if (step && add) {
        for (int64_t i = 0; i < n; i++)
            dx[i] += terms[i];
    } else if (step) {
        for (int64_t i = 0; i < n; i++)
            dx[i] = terms[i];
    } else {
        enum { LANES = 16 }; /* independent sums: faster, and nearer to the exact one */
        REAL sums[LANES] = {0}, sum = 0;
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int lane = 0; lane < LANES; lane++)
                sums[lane] += terms[i + lane];
        for (; i < n; i++)
            sum += terms[i];
        for (int lane = 0; lane < LANES; lane++)
            sum += sums[lane];
        *dx = add ? *dx + sum : sum;
    }
}

/* One operand's gradient. Where the operand was broadcast, parts share its elements: so the first adds to dx, each
 * other one to a copy of its own, and the copies are added up in order. */
typedef struct {
    tm_node *y;
    tm_block_backward_kernel *block;
    int operand, add;
    int64_t part;
    REAL *dx, *copies;
} FN(flow_work);

/* What flows in one run. Terms that are added wait in a small array, so that what is rounded does not depend on what a
 * compiler fuses. */
static inline void FN(flow_run)(tm_block_backward_kernel *block, int64_t n, int operand, const REAL *dy, const REAL *a,
                                int64_t a_step, const REAL *b, int64_t b_step, const REAL *y, const double *attribute,
                                REAL *dx, int add)
{
    const int64_t step = operand ? b_step : a_step;
    if (!add) {
        block(n, operand, dy, a, a_step, b, b_step, y, dx, attribute);
        return;
    }
    REAL terms[TERMS];
    for (int64_t i = 0; i < n; i += TERMS) {
        const int64_t count = n - i < TERMS ? n - i : TERMS;
        block(count, operand, dy + i, a + i * a_step, a_step, b + i * b_step, b_step, y + i, terms, attribute);
        FN(add_terms)(count, terms, dx + i * step, step, 1);
    }
}

static void FN(flow_part)(void *context, int64_t task)
{
    const FN(flow_work) *work = context;
    tm_node *y = work->y, *x = y->in[work->operand];
    const REAL *a = tm_data(y->in[0]), *b = tm_data(y->in[y->n_inputs - 1]), *ys = tm_data(y), *dys = tm_grad_data(y);
    REAL *dx = work->dx;
    if (work->copies && task) {
        dx = work->copies + (task - 1) * x->size;
        memset(dx, 0, (size_t)x->size * sizeof *dx);
    }
    pieces p;
    for (start_pieces(&p, y, work->part, task); p.n; next_piece(&p))
        FN(flow_run)(work->block, p.n, work->operand, dys + p.at, a + p.from[0], p.loop.step[0], b + p.from[1],
                     p.loop.step[1], ys + p.at, tm_attr(y), dx + p.from[work->operand], work->add);
}

static __attribute__((noinline)) int FN(flow_parts)(tm_node *y, int operand, tm_block_backward_kernel *block,
                                                    REAL *dx, int add)
{
    const int64_t n = y->size, size = y->in[operand]->size;
    const int broadcast = size != n;
    FN(flow_work) work = {.y = y, .block = block, .operand = operand, .add = add, .dx = dx};
    /* What the copies cost stays small beside the rest. */
    work.part = tm_part(n, broadcast && 8 * size > TM_PART ? 8 * size : TM_PART);
    const int64_t parts = tm_parts(n, work.part), copies = broadcast && n ? parts - 1 : 0;
    if (copies && !(work.copies = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(copies * size) * sizeof *work.copies)))
        return -1;
    tm_parallel_parts(parts, n, FN(flow_part), &work);
    for (int64_t i = 0; i < copies; i++)
        FN(add_terms)(size, work.copies + i * size, dx, 1, 1);
    return 0;
}

static int FN(block_flow)(tm_node *y, int operand, tm_block_backward_kernel *block)
{
    int add;
    tm_node *x = y->in[operand];
    REAL *dx = tm_grad_open(x, &add);
    int64_t a_step, b_step;
    if (!dx)
        return 0;
    if (x->size != y->size && !add) {
        memset(dx, 0, (size_t)x->size * sizeof *dx);
        add = 1;
    }
    if (y->size > TM_PART || !one_run(y, &a_step, &b_step))
        return FN(flow_parts)(y, operand, block, dx, add);
    FN(flow_run)(block, y->size, operand, tm_grad_data(y), tm_data(y->in[0]), a_step, tm_data(y->in[y->n_inputs - 1]),
                 b_step, tm_data(y), tm_attr(y), dx, add);
    return 0;
}

static inline void FN(add_scalar)(tm_node *x, REAL term)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    if (dx)
        *dx = add ? *dx + term : term;
}

#define UNARY_BACKWARD(name, dydx, attributes)                                                                         \
    static void FN(name##_block_backward)(int64_t n, int operand, const void *dy_data, const void *x_data,             \
                                          int64_t step, const void *none, int64_t no_step, const void *y_data,         \
                                          void *terms, const double *attribute)                                        \
    {                                                                                                                  \
        const REAL *dys = dy_data, *xs = x_data, *ys = y_data;                                                         \
        REAL *to = terms;                                                                                              \
        (void)operand, (void)step, (void)none, (void)no_step, (void)attribute;                                         \
        attributes;                                                                                                    \
        INDEPENDENT                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL x = xs[i], y = ys[i], dy = dys[i];                                                              \
            (void)x, (void)y;                                                                                          \
            to[i] = FLOW(dy, dydx);                                                                                    \
        }                                                                                                              \
    }                                                                                                                  \
    static int FN(name##_backward)(tm_node *node)                                                                      \
    {                                                                                                                  \
        if (node->rank)                                                                                                \
            return FN(block_flow)(node, 0, FN(name##_block_backward));                                                 \
        const double *attribute = tm_attr(node);                                                                       \
        (void)attribute;                                                                                               \
        attributes;                                                                                                    \
        const REAL x = *(REAL *)&node->in[0]->data, y = *(REAL *)&node->data, dy = *(REAL *)&node->grad;               \
        (void)x, (void)y;                                                                                              \
        FN(add_scalar)(node->in[0], FLOW(dy, dydx));                                                                   \
        return 0;                                                                                                      \
    }

#define BINARY_BACKWARD(name, dyda, dydb)                                                                              \
    static void FN(name##_block_backward)(int64_t n, int operand, const void *dy_data, const void *a_data,             \
                                          int64_t a_step, const void *b_data, int64_t b_step, const void *y_data,      \
                                          void *terms, const double *none)                                             \
    {                                                                                                                  \
        const REAL *dys = dy_data, *as = a_data, *bs = b_data, *ys = y_data;                                           \
        REAL *to = terms;                                                                                              \
        (void)none;                                                                                                    \
        if (operand == 0) {                                                                                            \
            FOR_PAIRS(const REAL y = ys[i]; (void)a; (void)b; (void)y; to[i] = FLOW(dys[i], dyda))                     \
        } else {                                                                                                       \
            FOR_PAIRS(const REAL y = ys[i]; (void)a; (void)b; (void)y; to[i] = FLOW(dys[i], dydb))                     \
        }                                                                                                              \
    }                                                                                                                  \
    static int FN(name##_backward)(tm_node *node)                                                                      \
    {                                                                                                                  \
        if (node->rank)                                                                                                \
            return FN(block_flow)(node, 0, FN(name##_block_backward)) ||                                               \
                           FN(block_flow)(node, 1, FN(name##_block_backward))                                          \
                       ? -1                                                                                            \
                       : 0;                                                                                            \
        const REAL a = *(REAL *)&node->in[0]->data, b = *(REAL *)&node->in[1]->data, y = *(REAL *)&node->data,         \
                   dy = *(REAL *)&node->grad;                                                                          \
        (void)a, (void)b, (void)y;                                                                                     \
        if (node->in[0]->flags & TM_REQUIRES_GRAD)                                                                     \
            FN(add_scalar)(node->in[0], FLOW(dy, dyda));                                                               \
        if (node->in[1]->flags & TM_REQUIRES_GRAD)                                                                     \
            FN(add_scalar)(node->in[1], FLOW(dy, dydb));                                                               \
        return 0;                                                                                                      \
    }

#define P const REAL p = (REAL)attribute[0]
#define PQ const REAL p = (REAL)attribute[0], q = (REAL)attribute[1]
#define UNARY(name, value, dydx) UNARY_FORWARD(name, value, ) UNARY_BACKWARD(name, dydx, )
#define UNARY_P(name, value, dydx) UNARY_FORWARD(name, value, P) UNARY_BACKWARD(name, dydx, P)
#define UNARY_PQ(name, value, dydx) UNARY_FORWARD(name, value, PQ) UNARY_BACKWARD(name, dydx, PQ)
#define UNARY_NUMBER UNARY
#define BINARY(name, value, dyda, dydb) BINARY_FORWARD(name, REAL, value) BINARY_BACKWARD(name, dyda, dydb)
#define BINARY_NUMBER BINARY

#else /* integers and bools have values only */

#define UNARY(name, value, dydx)
#define UNARY_P(name, value, dydx)
#define UNARY_PQ(name, value, dydx)
#define BINARY(name, value, dyda, dydb)
#if REAL_IS_BOOL
#define UNARY_NUMBER(name, value, dydx)
#define BINARY_NUMBER(name, value, dyda, dydb)
#else
#define UNARY_NUMBER(name, value, dydx) UNARY_FORWARD(name, value, )
#define BINARY_NUMBER(name, value, dyda, dydb) BINARY_FORWARD(name, REAL, value)
#endif

#endif

#include "elementwise.h"

#undef P
#undef PQ
#undef SQRT
#undef POW
#undef INDEPENDENT
#undef FOR_PAIRS
#undef UNARY_FORWARD
#undef UNARY_BACKWARD
#undef BINARY_FORWARD
#undef BINARY_BACKWARD

#else /* ROWS */

#define UNARY_ROW(op, attributes, forwards, dydx)                                                                      \
    {.name = #op, .min_in = 1, .max_in = 1, .min_attr = attributes, .promote = TM_ANY, .elementwise = 1,               \
     .rule = tm_rule_like_input, .forward = {forwards(op##_forward)}, .backward = {FLOATS(op##_backward)},             \
     .block = {forwards(op##_block)}, .block_backward = {FLOATS(op##_block_backward)},                                 \
     .derivative = {dydx}},
#define BINARY_ROW(op, forwards, ...)                                                                                  \
    {.name = #op, .min_in = 2, .max_in = 2, .promote = TM_ANY, .elementwise = 1, .rule = tm_rule_broadcast,            \
     .forward = {forwards(op##_forward)}, .backward = {FLOATS(op##_backward)},                                         \
     .block = {forwards(op##_block)}, .block_backward = {FLOATS(op##_block_backward)},                                 \
     .derivative = {__VA_ARGS__}},
#define UNARY(op, value, dydx) UNARY_ROW(op, 0, FLOATS, #dydx)
#define UNARY_P(op, value, dydx) UNARY_ROW(op, 1, FLOATS, #dydx)
#define UNARY_PQ(op, value, dydx) UNARY_ROW(op, 2, FLOATS, #dydx)
#define UNARY_NUMBER(op, value, dydx) UNARY_ROW(op, 0, NUMBERS, #dydx)
#define BINARY(op, value, dyda, dydb) BINARY_ROW(op, FLOATS, #dyda, #dydb)
#define BINARY_NUMBER(op, value, dyda, dydb) BINARY_ROW(op, NUMBERS, #dyda, #dydb)
#define COMPARE(op, value)                                                                                             \
    {.name = #op, .min_in = 2, .max_in = 2, .promote = TM_ANY, .rule = tm_rule_compare, .forward = {ALL(op##_forward)}},

#include "elementwise.h"

#undef UNARY_ROW
#undef BINARY_ROW

#endif

#undef UNARY
#undef UNARY_P
#undef UNARY_PQ
#undef UNARY_NUMBER
#undef BINARY
#undef BINARY_NUMBER
#undef COMPARE
