/* Loops for the lines of elementwise.h, for the current REAL; with ROWS defined, their rows in the op table. */

#ifndef ROWS

#if REAL_IS_F32
#define SQRT(x) __builtin_sqrtf(x)
#define POW(a, b) ((b) == 2 ? (a) * (a) : (b) == 1 ? (a) : __builtin_powf(a, b))
#elif REAL_IS_F64
#define SQRT(x) __builtin_sqrt(x)
#define POW(a, b) ((b) == 2 ? (a) * (a) : (b) == 1 ? (a) : __builtin_pow(a, b))
#endif

/* One statement for each pair of a run's operands. Each steps by 1 or by 0; both by 0 only in a run of one. */
#define FOR_PAIRS(n, as, a_step, bs, b_step, statement)                                                                \
    if (a_step && b_step) {                                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL a = as[i], b = bs[i];                                                                           \
            statement;                                                                                                 \
        }                                                                                                              \
    } else if (a_step) {                                                                                               \
        const REAL b = bs[0];                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL a = as[i];                                                                                      \
            statement;                                                                                                 \
        }                                                                                                              \
    } else {                                                                                                           \
        const REAL a = as[0];                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const REAL b = bs[i];                                                                                      \
            statement;                                                                                                 \
        }                                                                                                              \
    }

#if !REAL_IS_BOOL
typedef void FN(binary_run)(int64_t n, const REAL *as, int64_t a_step, const REAL *bs, int64_t b_step, REAL *ys);

static int FN(binary_forward)(tm_node *y, FN(binary_run) *run)
{
    const REAL *a = tm_data(y->in[0]), *b = tm_data(y->in[1]);
    REAL *to = tm_data(y);
    tm_loop loop;
    tm_loop_start(&loop, y, 2, y->in);
    for (int64_t r = 0; r < loop.runs; r++, to += loop.run, tm_loop_next(&loop))
        run(loop.run, a + loop.at[0], loop.step[0], b + loop.at[1], loop.step[1], to);
    return 0;
}
#endif

#define COMPARE(name, value)                                                                                           \
    static int FN(name##_forward)(tm_node *y)                                                                          \
    {                                                                                                                  \
        const REAL *first = tm_data(y->in[0]), *second = tm_data(y->in[1]);                                            \
        uint8_t *ys = tm_data(y);                                                                                      \
        tm_loop loop;                                                                                                  \
        tm_loop_start(&loop, y, 2, y->in);                                                                             \
        for (int64_t r = 0; r < loop.runs; r++, ys += loop.run, tm_loop_next(&loop)) {                                 \
            const REAL *as = first + loop.at[0], *bs = second + loop.at[1];                                            \
            FOR_PAIRS(loop.run, as, loop.step[0], bs, loop.step[1], ys[i] = value)                                     \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

#define UNARY_FORWARD(name, value, attributes)                                                                         \
    static int FN(name##_forward)(tm_node *node)                                                                       \
    {                                                                                                                  \
        attributes;                                                                                                    \
        const REAL *restrict xs = tm_data(node->in[0]);                                                                \
        REAL *restrict ys = tm_data(node);                                                                             \
        for (int64_t i = 0, n = node->size; i < n; i++) {                                                              \
            const REAL x = xs[i];                                                                                      \
            ys[i] = value;                                                                                             \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

#define BINARY_FORWARD(name, value)                                                                                    \
    static void FN(name##_run)(int64_t n, const REAL *as, int64_t a_step, const REAL *bs, int64_t b_step,              \
                               REAL *restrict ys)                                                                      \
    {                                                                                                                  \
        FOR_PAIRS(n, as, a_step, bs, b_step, ys[i] = value)                                                            \
    }                                                                                                                  \
    static int FN(name##_forward)(tm_node *node)                                                                       \
    {                                                                                                                  \
        if (node->rank)                                                                                                \
            return FN(binary_forward)(node, FN(name##_run));                                                           \
        const REAL a = *(REAL *)&node->in[0]->data, b = *(REAL *)&node->in[1]->data;                                   \
        *(REAL *)&node->data = value;                                                                                  \
        return 0;                                                                                                      \
    }

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

/* The terms of a run: dy times the derivative by one operand. */
typedef void FN(terms_run)(int64_t n, const REAL *dys, const REAL *as, int64_t a_step, const REAL *bs, int64_t b_step,
                           const REAL *ys, REAL *terms);

/* The gradient of one operand of a binary op: summed over the dimensions in which the operand was broadcast. */
static void FN(binary_flow)(tm_node *node, int operand, FN(terms_run) *run)
{
    int add;
    tm_node *x = node->in[operand];
    REAL *dx = tm_grad_open(x, &add);
    if (!dx)
        return;
    if (!add && x->size != node->size) {
        for (int64_t i = 0; i < x->size; i++)
            dx[i] = 0;
        add = 1;
    }
    const REAL *as = tm_data(node->in[0]), *bs = tm_data(node->in[1]), *ys = tm_data(node), *dys = tm_grad_data(node);
    enum { CHUNK = 512 }; /* terms wait here, in the first-level cache */
    REAL terms[CHUNK];
    tm_loop loop;
    tm_loop_start(&loop, node, 2, node->in);
    for (int64_t r = 0; r < loop.runs; r++, ys += loop.run, dys += loop.run, tm_loop_next(&loop)) {
        const REAL *a = as + loop.at[0], *b = bs + loop.at[1];
        REAL *to = dx + loop.at[operand];
        for (int64_t i = 0; i < loop.run; i += CHUNK) {
            int64_t n = loop.run - i < CHUNK ? loop.run - i : CHUNK;
            run(n, dys + i, a + i * loop.step[0], loop.step[0], b + i * loop.step[1], loop.step[1], ys + i, terms);
            FN(add_terms)(n, terms, to + i * loop.step[operand], loop.step[operand], add);
        }
    }
}

static inline void FN(add_scalar)(tm_node *x, REAL term)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    if (dx)
        *dx = add ? *dx + term : term;
}

#define UNARY_BACKWARD(name, dydx, attributes)                                                                         \
    static int FN(name##_backward)(tm_node *node)                                                                      \
    {                                                                                                                  \
        attributes;                                                                                                    \
        int add;                                                                                                       \
        const REAL *restrict xs = tm_data(node->in[0]), *restrict ys = tm_data(node),                                  \
                            *restrict dys = tm_grad_data(node);                                                        \
        REAL *restrict dxs = tm_grad_open(node->in[0], &add);                                                          \
        const int64_t n = node->size;                                                                                  \
        if (dxs && add)                                                                                                \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const REAL x = xs[i], y = ys[i], dy = dys[i];                                                          \
                (void)x, (void)y;                                                                                      \
                dxs[i] += FLOW(dy, dydx);                                                                              \
            }                                                                                                          \
        else if (dxs)                                                                                                  \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const REAL x = xs[i], y = ys[i], dy = dys[i];                                                          \
                (void)x, (void)y;                                                                                      \
                dxs[i] = FLOW(dy, dydx);                                                                               \
            }                                                                                                          \
        return 0;                                                                                                      \
    }

#define TERMS(name, factor)                                                                                            \
    static void FN(name)(int64_t n, const REAL *dys, const REAL *as, int64_t a_step, const REAL *bs, int64_t b_step,   \
                         const REAL *ys, REAL *restrict terms)                                                         \
    {                                                                                                                  \
        FOR_PAIRS(n, as, a_step, bs, b_step, const REAL y = ys[i]; (void)a; (void)b; (void)y;                          \
                  terms[i] = FLOW(dys[i], factor))                                                                     \
    }

#define BINARY_BACKWARD(name, dyda, dydb)                                                                              \
    TERMS(name##_terms_a, dyda)                                                                                        \
    TERMS(name##_terms_b, dydb)                                                                                        \
    static int FN(name##_backward)(tm_node *node)                                                                      \
    {                                                                                                                  \
        if (node->rank) {                                                                                              \
            FN(binary_flow)(node, 0, FN(name##_terms_a));                                                              \
            FN(binary_flow)(node, 1, FN(name##_terms_b));                                                              \
            return 0;                                                                                                  \
        }                                                                                                              \
        const REAL a = *(REAL *)&node->in[0]->data, b = *(REAL *)&node->in[1]->data, y = *(REAL *)&node->data,         \
                   dy = *(REAL *)&node->grad;                                                                          \
        (void)a, (void)b, (void)y;                                                                                     \
        if (node->in[0]->flags & TM_REQUIRES_GRAD)                                                                     \
            FN(add_scalar)(node->in[0], FLOW(dy, dyda));                                                               \
        if (node->in[1]->flags & TM_REQUIRES_GRAD)                                                                     \
            FN(add_scalar)(node->in[1], FLOW(dy, dydb));                                                               \
        return 0;                                                                                                      \
    }

#define P const REAL p = (REAL)tm_attr(node)[0]
#define PQ const REAL p = (REAL)tm_attr(node)[0], q = (REAL)tm_attr(node)[1]
#define UNARY(name, value, dydx) UNARY_FORWARD(name, value, ) UNARY_BACKWARD(name, dydx, )
#define UNARY_P(name, value, dydx) UNARY_FORWARD(name, value, P) UNARY_BACKWARD(name, dydx, P)
#define UNARY_PQ(name, value, dydx) UNARY_FORWARD(name, value, PQ) UNARY_BACKWARD(name, dydx, PQ)
#define UNARY_NUMBER UNARY
#define BINARY(name, value, dyda, dydb) BINARY_FORWARD(name, value) BINARY_BACKWARD(name, dyda, dydb)
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
#define BINARY_NUMBER(name, value, dyda, dydb) BINARY_FORWARD(name, value)
#endif

#endif

#include "elementwise.h"

#undef P
#undef PQ
#undef SQRT
#undef POW
#undef TERMS
#undef FOR_PAIRS
#undef UNARY_FORWARD
#undef UNARY_BACKWARD
#undef BINARY_FORWARD
#undef BINARY_BACKWARD

#else /* ROWS */

#define UNARY_ROW(op, attributes, forwards)                                                                            \
    {.name = #op, .min_in = 1, .max_in = 1, .min_attr = attributes, .promote = TM_ANY, .elementwise = 1,               \
     .rule = tm_rule_like_input, .forward = {forwards(op##_forward)}, .backward = {FLOATS(op##_backward)}},
#define BINARY_ROW(op, forwards)                                                                                       \
    {.name = #op, .min_in = 2, .max_in = 2, .promote = TM_ANY, .elementwise = 1, .rule = tm_rule_broadcast,            \
     .forward = {forwards(op##_forward)}, .backward = {FLOATS(op##_backward)}},
#define UNARY(op, value, dydx) UNARY_ROW(op, 0, FLOATS)
#define UNARY_P(op, value, dydx) UNARY_ROW(op, 1, FLOATS)
#define UNARY_PQ(op, value, dydx) UNARY_ROW(op, 2, FLOATS)
#define UNARY_NUMBER(op, value, dydx) UNARY_ROW(op, 0, NUMBERS)
#define BINARY(op, value, dyda, dydb) BINARY_ROW(op, FLOATS)
#define BINARY_NUMBER(op, value, dyda, dydb) BINARY_ROW(op, NUMBERS)
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
