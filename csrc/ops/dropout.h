/* Dropout: each element is zeroed with probability p, the others grow by 1 / (1 - p). */

#if defined(RULES)

#include "../random.h"

/* inputs: x, generator; attributes: p. The generator holds {seed, how many counters have been used}. */
static int dropout_rule(tm_call *call)
{
    const tm_node *generator = call->in[1];
    const double p = call->attr[0];
    if (!(p >= 0 && p <= 1))
        return tm_fail(TM_VALUE_ERROR, "dropout: p is %g, expected a probability between 0 and 1", p);
    if (generator->dtype != TM_I64)
        return tm_fail(TM_DTYPE_ERROR, "dropout: the generator is %s, expected int64: seed and offset",
                       tm_dtype_name(generator->dtype));
    if (generator->rank != 1 || generator->size != 2)
        return tm_fail(TM_SHAPE_ERROR, "dropout: the generator has shape %s, expected (2,): seed and offset",
                       tm_shape_of(generator).text);
    call->saved_bytes = (size_t)call->in[0]->size + 1; /* never 0: backward must find a buffer */
    return tm_rule_like_input(call);
}

/* Fills in which of n elements stay. Element i has word i % 4 of counter i / 4, counted from an offset that is atomic,
 * so that threads can share a generator. */
static void draw_kept(int64_t *generator, double p, int64_t n, uint8_t *restrict kept)
{
    if (p == 0 || p == 1) {
        memset(kept, p == 0, (size_t)n);
        return;
    }
    const uint64_t seed = (uint64_t)generator[0];
    const uint64_t offset = (uint64_t)__atomic_fetch_add(&generator[1], (n + 3) / 4, __ATOMIC_RELAXED);
    const uint32_t drop_below = p * 0x1p32 < 0xffffffff ? (uint32_t)(p * 0x1p32) : 0xffffffff;
    uint32_t words[TM_PHILOX_WORDS];
    int64_t i = 0;
    for (; i + TM_PHILOX_WORDS <= n; i += TM_PHILOX_WORDS) {
        tm_philox(seed, offset + (uint64_t)i / 4, words);
        for (int k = 0; k < TM_PHILOX_WORDS; k++)
            kept[i + k] = words[k] >= drop_below;
    }
    if (i < n)
        tm_philox(seed, offset + (uint64_t)i / 4, words);
    for (int k = 0; i + k < n; k++)
        kept[i + k] = words[k] >= drop_below;
}

#elif defined(ROWS)

{.name = "dropout", .min_in = 2, .max_in = 2, .min_attr = 1, .promote = 1, .rule = dropout_rule,
 .forward = {FLOATS(dropout_forward)}, .backward = {FLOATS(dropout_backward)}},

#elif REAL_IS_FLOAT

/* With p = 1 nothing stays, so that the factor does not matter. */
static inline REAL FN(dropout_scale)(const tm_node *y)
{
    return (REAL)(1 / (1 - tm_attr(y)[0]));
}

static int FN(dropout_forward)(tm_node *y)
{
    const REAL *restrict xs = tm_data(y->in[0]);
    REAL *restrict ys = tm_data(y);
    uint8_t *restrict kept = tm_saved(y);
    const REAL scale = FN(dropout_scale)(y);
    draw_kept(tm_data(y->in[1]), tm_attr(y)[0], y->size, kept);
    for (int64_t i = 0, n = y->size; i < n; i++) {
        const REAL scaled = xs[i] * scale; /* always: a select, where a branch would be guessed wrong */
        ys[i] = kept[i] ? scaled : 0;
    }
    return 0;
}

static int FN(dropout_backward)(tm_node *y)
{
    int add;
    REAL *restrict dxs = tm_grad_open(y->in[0], &add);
    const REAL *restrict dys = tm_grad_data(y);
    const uint8_t *restrict kept = tm_saved(y);
    const REAL scale = FN(dropout_scale)(y);
    const int64_t n = y->size;
    if (!dxs)
        return 0;
    if (!add)
        memset(dxs, 0, (size_t)n * sizeof *dxs);
    for (int64_t i = 0; i < n; i++) {
        const REAL scaled = dys[i] * scale;
        dxs[i] += kept[i] ? scaled : 0;
    }
    return 0;
}

#endif
