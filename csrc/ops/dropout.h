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

/* What the parts of a dropout share. Element i of y has word i % 4 of counter `offset` + i / 4. */
typedef struct {
    tm_node *y;
    void *dx;
    int add;
    int64_t part;
    uint64_t seed, offset;
} dropout_work;

/* Fills in which of the elements from `first` on stay, of which n; TM_PHILOX_WORDS divides `first`. */
static void draw_kept(const dropout_work *work, int64_t first, int64_t n, uint8_t *restrict kept)
{
    const double p = tm_attr(work->y)[0];
    if (p == 0 || p == 1) {
        memset(kept, p == 0, (size_t)n);
        return;
    }
    const uint64_t offset = work->offset + (uint64_t)first / 4;
    const uint32_t drop_below = p * 0x1p32 < 0xffffffff ? (uint32_t)(p * 0x1p32) : 0xffffffff;
    uint32_t words[TM_PHILOX_WORDS];
    int64_t i = 0;
    for (; i + TM_PHILOX_WORDS <= n; i += TM_PHILOX_WORDS) {
        tm_philox(work->seed, offset + (uint64_t)i / 4, words);
        for (int k = 0; k < TM_PHILOX_WORDS; k++)
            kept[i + k] = words[k] >= drop_below;
    }
    if (i < n)
        tm_philox(work->seed, offset + (uint64_t)i / 4, words);
    for (int k = 0; i + k < n; k++)
        kept[i + k] = words[k] >= drop_below;
}

#elif defined(ROWS)

{.name = "dropout", .min_in = 2, .max_in = 2, .min_attr = 1, .promote = 1, .draws = 1, .rule = dropout_rule,
 .forward = {FLOATS(dropout_forward)}, .backward = {FLOATS(dropout_backward)}},

#elif REAL_IS_FLOAT

/* With p = 1 nothing stays, so that the factor does not matter. */
static inline REAL FN(dropout_scale)(const tm_node *y)
{
    return (REAL)(1 / (1 - tm_attr(y)[0]));
}

static void FN(dropout_part)(void *context, int64_t task)
{
    const dropout_work *work = context;
    tm_node *y = work->y;
    const int64_t first = task * work->part, left = y->size - first, n = left < work->part ? left : work->part;
    const REAL *restrict xs = (REAL *)tm_data(y->in[0]) + first;
    REAL *restrict ys = (REAL *)tm_data(y) + first;
    uint8_t *restrict kept = (uint8_t *)tm_saved(y) + first;
    const REAL scale = FN(dropout_scale)(y);
    draw_kept(work, first, n, kept);
    for (int64_t i = 0; i < n; i++) {
        const REAL scaled = xs[i] * scale; /* always: a select, where a branch would be guessed wrong */
        ys[i] = kept[i] ? scaled : 0;
    }
}

/* The offset is atomic, so that threads can share a generator. */
static int FN(dropout_forward)(tm_node *y)
{
    enum { WEIGHT = 8 }; /* additions that a random word is worth */
    int64_t *generator = tm_data(y->in[1]);
    const double p = tm_attr(y)[0];
    const int64_t counters = p == 0 || p == 1 ? 0 : (y->size + 3) / 4;
    dropout_work work = {.y = y, .part = tm_part(y->size, TM_PART / WEIGHT)};
    work.seed = (uint64_t)generator[0];
    work.offset = (uint64_t)__atomic_fetch_add(&generator[1], counters, __ATOMIC_RELAXED);
    tm_parallel_parts(tm_parts(y->size, work.part), y->size * WEIGHT, FN(dropout_part), &work);
    return 0;
}

static void FN(dropout_flow)(void *context, int64_t task)
{
    const dropout_work *work = context;
    tm_node *y = work->y;
    const int64_t first = task * work->part, left = y->size - first, n = left < work->part ? left : work->part;
    const REAL *restrict dys = (REAL *)tm_grad_data(y) + first;
    REAL *restrict dxs = (REAL *)work->dx + first;
    const uint8_t *restrict kept = (uint8_t *)tm_saved(y) + first;
    const REAL scale = FN(dropout_scale)(y);
    if (!work->add)
        memset(dxs, 0, (size_t)n * sizeof *dxs);
    for (int64_t i = 0; i < n; i++) {
        const REAL scaled = dys[i] * scale;
        dxs[i] += kept[i] ? scaled : 0;
    }
}

static int FN(dropout_backward)(tm_node *y)
{
    dropout_work work = {.y = y, .part = tm_part(y->size, TM_PART)};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        tm_parallel_parts(tm_parts(y->size, work.part), y->size, FN(dropout_flow), &work);
    return 0;
}

#endif
