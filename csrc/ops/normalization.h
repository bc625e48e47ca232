/* Normalisation of stretches of an array: layer_norm, rms_norm, group_norm. A mean is kept as two numbers, the second
 * being what rounding left off the first, so that d = x - mean is exact even where the mean is large: float32 numbers
 * around 1e4 come out as right as those around 0. batch_norm.h goes on from here. */

#if defined(RULES)

enum {
    NORM_LANES = 32,   /* independent sums along a stretch */
    NORM_BLOCK = 1024, /* elements added up in the dtype; the sums of blocks are added in double */
    NORM_ROWS = 128,   /* the same for sums across rows */
    NORM_WEIGHT = 4,   /* additions that an element of these kernels is worth */
};

/* What is added up over elements x: a and a d, where d = x - mean and a is one of these. */
enum {
    NORM_X,      /* x */
    NORM_D,      /* d */
    NORM_FLOW,   /* dy */
    NORM_FLOW_W, /* dy w */
};

typedef struct {
    double a, ad;
} norm_sums;

/* Parameters, inputs `first` and after, which are vectors of n. */
static int norm_parameters(const tm_call *call, int first, int64_t n)
{
    for (int i = first; i < call->n_in; i++)
        if (call->in[i]->rank != 1 || call->in[i]->size != n)
            return tm_fail(TM_SHAPE_ERROR, "%s: got a %s of shape %s, expected (%lld,), one number for each channel of "
                           "input %s", call->op->name, i == first ? "weight" : "bias", tm_shape_of(call->in[i]).text,
                           (long long)n, tm_shape_of(call->in[0]).text);
    return 0;
}

/* The rows' attributes become: elements of a row, elements in a row that share a weight, eps. */
static int norm_shape(tm_call *call, int64_t m, int64_t spread, double eps)
{
    call->attr[0] = (double)m;
    call->attr[1] = (double)spread;
    call->attr[2] = eps;
    call->n_attr = 3;
    call->saved_bytes = (size_t)(m ? call->in[0]->size / m : 0) * 3 * tm_item_size(call->in[0]->dtype);
    return tm_rule_like_input(call);
}

/* attributes: how many dimensions at the end are normalised together, eps */
static int layer_norm_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    const double dims = call->attr[0];
    int64_t m = 1;
    if (!(dims >= 1 && dims <= x->rank))
        return tm_fail(TM_SHAPE_ERROR, "%s: got input of shape %s, expected at least %g dimensions, those of "
                       "normalized_shape", call->op->name, tm_shape_of(x).text, dims < 1 ? 1 : dims);
    const int rank = (int)dims;
    const int64_t *shape = tm_shape(x) + x->rank - rank;
    for (int d = 0; d < rank; d++)
        m *= shape[d];
    for (int i = 1; i < call->n_in; i++) {
        const tm_node *w = call->in[i];
        if (w->rank != rank || memcmp(tm_shape(w), shape, (size_t)rank * sizeof *shape))
            return tm_fail(TM_SHAPE_ERROR, "%s: got a %s of shape %s, expected %s, as input %s ends", call->op->name,
                           i == 1 ? "weight" : "bias", tm_shape_of(w).text, tm_shape_show(rank, shape).text,
                           tm_shape_of(x).text);
    }
    return norm_shape(call, m, 1, call->attr[1]);
}

/* Channels are dimension 1. */
static int norm_channels(const tm_call *call, int64_t *channels, int64_t *spread)
{
    const tm_node *x = call->in[0];
    *channels = *spread = 1;
    if (x->rank < 2)
        return tm_fail(TM_SHAPE_ERROR, "%s: got input of shape %s, expected (N, C) or (N, C, ...); give a single sample "
                       "a dimension for the batch with unsqueeze(0)", call->op->name, tm_shape_of(x).text);
    *channels = tm_shape(x)[1];
    for (int d = 2; d < x->rank; d++)
        *spread *= tm_shape(x)[d];
    return 0;
}

/* attributes: groups, eps */
static int group_norm_rule(tm_call *call)
{
    const double groups = call->attr[0];
    int64_t channels, spread;
    if (norm_channels(call, &channels, &spread))
        return -1;
    if (!(groups >= 1) || channels % (int64_t)groups)
        return tm_fail(TM_VALUE_ERROR, "%s: got %g groups for the %lld channels of input %s, expected a divisor of them",
                       call->op->name, groups, (long long)channels, tm_shape_of(call->in[0]).text);
    if (norm_parameters(call, 1, channels))
        return -1;
    return norm_shape(call, channels / (int64_t)groups * spread, spread, call->attr[1]);
}

/* Rows of m elements; each `spread` of them share a weight, of which there are `channels`. */
typedef struct {
    tm_node *y;
    int64_t rows, m, spread, channels, part;
    void *dx;
    int add;
    double *totals; /* of every task: for dw, then for db */
    void *blocks;   /* and the same of the last few rows, in the dtype */
} norm_work;

/* With `sums` each task has some for every channel; they must be worth it. */
static norm_work norm_rows(tm_node *y, int sums)
{
    enum { ROOM = 1 << 18, LEAST = 32 }; /* channels of all tasks, rows of one */
    const int64_t m = (int64_t)tm_attr(y)[0];
    norm_work work = {.y = y, .rows = y->size ? y->size / m : 0, .m = m, .spread = (int64_t)tm_attr(y)[1]};
    work.channels = y->n_inputs > 1 ? tm_inputs(y)[1]->size : 0;
    work.part = tm_part(work.rows, m && m < TM_PART ? TM_PART / m : 1);
    if (sums && work.part < LEAST)
        work.part = LEAST;
    if (sums && tm_parts(work.rows, work.part) * work.channels > ROOM)
        work.part = tm_parts(work.rows, work.channels < ROOM ? ROOM / work.channels : 1);
    return work;
}

#elif defined(ROWS)

#define NORM_ROW(op, parameters, rows_rule)                                                                            \
    {.name = #op, .min_in = 1, .max_in = 1 + parameters, .min_attr = 2, .promote = TM_ANY, .rule = rows_rule,          \
     .forward = {FLOATS(op##_forward)}, .backward = {FLOATS(op##_backward)}},
NORM_ROW(layer_norm, 2, layer_norm_rule)
NORM_ROW(rms_norm, 1, layer_norm_rule)
NORM_ROW(group_norm, 2, group_norm_rule)
#undef NORM_ROW

#elif REAL_IS_FLOAT

/* Each use becomes code of its own, for the constants among its arguments. batch_norm.h ends it. */
#define NORM_INLINE static inline __attribute__((always_inline))

/* A mean, as two numbers. */
typedef struct {
    REAL high, low;
} FN(norm_mean);

NORM_INLINE norm_sums FN(norm_add)(const int kind, int64_t n, const REAL *dy, const REAL *w, const REAL *x, FN(norm_mean) mean)
{
#define ADD(i, sum_a, sum_ad)                                                                                          \
    do {                                                                                                               \
        const REAL d = kind == NORM_X ? x[i] : x[i] - mean.high - mean.low;                                            \
        const REAL a = kind == NORM_FLOW_W ? dy[i] * w[i] : kind == NORM_FLOW ? dy[i] : d;                             \
        sum_a += a;                                                                                                    \
        sum_ad += a * d;                                                                                               \
    } while (0)
#define FOLD(sums, lane, step) ((sums[lane] + sums[lane + step]) + (sums[lane + 2 * step] + sums[lane + 3 * step]))
    norm_sums total = {0, 0};
    for (int64_t at = 0; at < n; at += NORM_BLOCK) {
        const int64_t end = n - at < NORM_BLOCK ? n : at + NORM_BLOCK;
        REAL as[NORM_LANES] = {0}, ads[NORM_LANES] = {0}, last_a = 0, last_ad = 0;
        int64_t i = at;
        for (; i + NORM_LANES <= end; i += NORM_LANES)
            for (int lane = 0; lane < NORM_LANES; lane++)
                ADD(i + lane, as[lane], ads[lane]);
        for (; i < end; i++)
            ADD(i, last_a, last_ad);
        for (int lane = 0; lane < NORM_LANES / 4; lane++) {
            as[lane] = FOLD(as, lane, NORM_LANES / 4);
            ads[lane] = FOLD(ads, lane, NORM_LANES / 4);
        }
        total.a += FOLD(as, 0, 2) + FOLD(as, 1, 2) + last_a;
        total.ad += FOLD(ads, 0, 2) + FOLD(ads, 1, 2) + last_ad;
    }
    return total;
#undef ADD
#undef FOLD
}

/* Sums of dy w and dy w d with nothing flowing from a zero dy; rows may follow at a stride. */
static norm_sums FN(norm_flow_each)(int64_t rows, int64_t n, int64_t stride, const REAL *dy, const REAL *w, const REAL *x,
                                    FN(norm_mean) mean)
{
    norm_sums total = {0, 0};
    for (int64_t row = 0; row < rows; row++, dy += stride, x += stride)
        for (int64_t i = 0; i < n; i++) {
            const REAL a = w ? FLOW(dy[i], w[i]) : dy[i];
            total.a += a;
            total.ad += FLOW(a, x[i] - mean.high - mean.low);
        }
    return total;
}

static __attribute__((noinline)) norm_sums FN(norm_flow_sums)(int64_t n, const REAL *dy, const REAL *w, const REAL *x,
                                                              FN(norm_mean) mean)
{
    const norm_sums sums = w ? FN(norm_add)(NORM_FLOW_W, n, dy, w, x, mean) : FN(norm_add)(NORM_FLOW, n, dy, w, x, mean);
    return isfinite(sums.a) && isfinite(sums.ad) ? sums : FN(norm_flow_each)(1, n, 0, dy, w, x, mean);
}

static __attribute__((noinline)) double FN(norm_total)(int64_t n, const REAL *x)
{
    return FN(norm_add)(NORM_X, n, NULL, NULL, x, (FN(norm_mean)){0, 0}).a;
}

/* The sums of d and d^2. */
static __attribute__((noinline)) norm_sums FN(norm_deviations)(int64_t n, const REAL *x, REAL mean)
{
    return FN(norm_add)(NORM_D, n, NULL, NULL, x, (FN(norm_mean)){mean, 0});
}

/* Whether no gradient comes to rows of n elements: then none flows on, whatever the factors are. */
static int FN(norm_nothing)(int64_t rows, int64_t n, int64_t stride, const REAL *dy)
{
    for (int64_t row = 0; row < rows; row++, dy += stride)
        for (int64_t i = 0; i < n; i++)
            if (dy[i] != 0)
                return 0;
    return 1;
}

/* What forward leaves to backward for each row. */
typedef struct {
    FN(norm_mean) mean;
    REAL rstd;
} FN(norm_row);

/* The mean is corrected by the mean deviation from it, and so is the variance. Without `center` it stays 0. */
static FN(norm_row) FN(norm_row_of)(int center, int64_t m, const REAL *x, double eps)
{
    const REAL mean = center ? (REAL)(FN(norm_total)(m, x) / (double)m) : 0;
    const norm_sums sums = FN(norm_deviations)(m, x, mean);
    const double low = center ? sums.a / (double)m : 0, variance = sums.ad / (double)m - low * low;
    return (FN(norm_row)){{mean, (REAL)low}, (REAL)(1 / sqrt((variance < 0 ? 0 : variance) + eps))};
}

/* y = d rstd w + b; step 0: one weight for all of the n elements. */
NORM_INLINE void FN(norm_scale_by)(const int step, const int weighted, const int biased, int64_t n, const REAL *restrict x,
                              FN(norm_row) row, const REAL *restrict w, const REAL *restrict b, REAL *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - row.mean.high - row.mean.low) * (weighted ? row.rstd * w[i * step] : row.rstd) +
               (biased ? b[i * step] : 0);
}

static void FN(norm_scale)(int step, int64_t n, const REAL *x, FN(norm_row) row, const REAL *w, const REAL *b, REAL *y)
{
    if (!w)
        FN(norm_scale_by)(1, 0, 0, n, x, row, w, b, y);
    else if (!b)
        step ? FN(norm_scale_by)(1, 1, 0, n, x, row, w, b, y) : FN(norm_scale_by)(0, 1, 0, n, x, row, w, b, y);
    else
        step ? FN(norm_scale_by)(1, 1, 1, n, x, row, w, b, y) : FN(norm_scale_by)(0, 1, 1, n, x, row, w, b, y);
}

NORM_INLINE void FN(norm_forward_rows)(const int center, const norm_work *work, int64_t task)
{
    tm_node *y = work->y, **in = tm_inputs(y);
    const int64_t first = task * work->part, left = work->rows - first, m = work->m, spread = work->spread;
    const REAL *x = (const REAL *)tm_data(in[0]) + first * m;
    const REAL *w = y->n_inputs > 1 ? tm_data(in[1]) : NULL, *b = y->n_inputs > 2 ? tm_data(in[2]) : NULL;
    REAL *to = (REAL *)tm_data(y) + first * m;
    FN(norm_row) *rows = (FN(norm_row) *)tm_saved(y) + first;
    for (int64_t r = 0; r < (left < work->part ? left : work->part); r++, x += m, to += m) {
        rows[r] = FN(norm_row_of)(center, m, x, tm_attr(y)[2]);
        if (spread == 1 || !w) {
            const int64_t c = w ? (first + r) * m % work->channels : 0;
            FN(norm_scale)(1, m, x, rows[r], w ? w + c : NULL, b ? b + c : NULL, to);
            continue;
        }
        for (int64_t i = 0, c = (first + r) * (m / spread) % work->channels; i < m; i += spread, c++)
            FN(norm_scale)(0, spread, x + i, rows[r], w + c, b ? b + c : NULL, to + i);
    }
}

/* dx = rstd g - flat - slope d, where g = dy w. */
NORM_INLINE void FN(norm_dx_by)(const int step, const int weighted, const int add, int64_t n, const REAL *restrict dy,
                           const REAL *restrict w, const REAL *restrict x, FN(norm_row) row, REAL flat, REAL slope,
                           REAL *restrict dx)
{
    for (int64_t i = 0; i < n; i++) {
        const REAL d = x[i] - row.mean.high - row.mean.low;
        dx[i] = (weighted ? row.rstd * w[i * step] : row.rstd) * dy[i] - flat - slope * d + (add ? dx[i] : 0);
    }
}

static void FN(norm_dx)(int step, int add, int64_t n, const REAL *dy, const REAL *w, const REAL *x, FN(norm_row) row,
                        REAL flat, REAL slope, REAL *dx)
{
#define DX(step, weighted)                                                                                             \
    (add ? FN(norm_dx_by)(step, weighted, 1, n, dy, w, x, row, flat, slope, dx)                                        \
         : FN(norm_dx_by)(step, weighted, 0, n, dy, w, x, row, flat, slope, dx))
    if (!w)
        DX(1, 0);
    else if (step)
        DX(1, 1);
    else
        DX(0, 1);
#undef DX
}

/* Adds to dw and db, which run along the row. */
static void FN(norm_dw)(int defined, int64_t n, const REAL *restrict dy, const REAL *restrict x, FN(norm_row) row,
                        REAL *restrict dw, REAL *restrict db)
{
#define NORMAL(i) ((x[i] - row.mean.high - row.mean.low) * row.rstd)
    for (int64_t i = 0; i < n && defined; i++) {
        dw[i] += dy[i] * NORMAL(i);
        db[i] += dy[i];
    }
    for (int64_t i = 0; i < n && !defined; i++) {
        dw[i] += FLOW(dy[i], NORMAL(i));
        db[i] += dy[i];
    }
#undef NORMAL
}

static void FN(norm_flush)(int64_t n, REAL *restrict block, double *restrict total)
{
    for (int64_t i = 0; i < n; i++) {
        total[i] += block[i];
        block[i] = 0;
    }
}

/* With n the row's length: dx = rstd (g - sum(g) / n - d rstd^2 sum(g d) / n); the middle term is the mean's, so that
 * it is absent without `center`. */
NORM_INLINE void FN(norm_backward_rows)(const int center, const norm_work *work, int64_t task)
{
    tm_node *y = work->y, **in = tm_inputs(y);
    const int64_t first = task * work->part, left = work->rows - first, m = work->m;
    const int64_t count = left < work->part ? left : work->part, channels = work->channels;
    const REAL *w = channels ? tm_data(in[1]) : NULL;
    const FN(norm_row) *rows = (const FN(norm_row) *)tm_saved(y) + first;
    const int64_t spread = w ? work->spread : 1;
    double *dw = work->totals ? work->totals + task * 2 * channels : NULL, *db = dw ? dw + channels : NULL;
    REAL *dw_block = dw ? (REAL *)work->blocks + task * 2 * channels : NULL;
    for (int64_t i = 0; dw && i < 2 * channels; i++)
        dw[i] = dw_block[i] = 0;
    for (int64_t r = 0; r < count; r++) {
        const FN(norm_row) row = rows[r];
        const int64_t at = (first + r) * m, c = w ? at / spread % channels : 0;
        const REAL *x = (const REAL *)tm_data(in[0]) + at, *dy = (const REAL *)tm_grad_data(y) + at;
        REAL *dx = work->dx ? (REAL *)work->dx + at : NULL;
        norm_sums sums = {0, 0};
        if (spread == 1) {
            sums = FN(norm_flow_sums)(m, dy, w ? w + c : NULL, x, row.mean);
        } else {
            for (int64_t i = 0; i < m / spread; i++) {
                const norm_sums part = FN(norm_flow_sums)(spread, dy + i * spread, NULL, x + i * spread, row.mean);
                sums.a += FLOW(part.a, w[c + i]);
                sums.ad += FLOW(part.ad, w[c + i]);
                if (dw) {
                    dw[c + i] += FLOW(part.ad, row.rstd);
                    db[c + i] += part.a;
                }
            }
        }
        const REAL flat = center ? (REAL)(sums.a * row.rstd / (double)m) : 0;
        const REAL slope = (REAL)(sums.ad * row.rstd / (double)m * row.rstd * row.rstd);
        const int defined = isfinite(flat) && isfinite(slope) && isfinite(row.mean.high) && isfinite(row.rstd) &&
                            row.rstd > 0;
        if (dw && spread == 1) {
            FN(norm_dw)(defined, m, dy, x, row, dw_block + c, dw_block + channels + c);
            if (r % NORM_ROWS == NORM_ROWS - 1)
                FN(norm_flush)(2 * channels, dw_block, dw);
        }
        if (!dx)
            continue;
        if (!defined && FN(norm_nothing)(1, m, 0, dy)) {
            if (!work->add)
                memset(dx, 0, (size_t)m * sizeof *dx);
        } else if (spread == 1) {
            FN(norm_dx)(1, work->add, m, dy, w ? w + c : NULL, x, row, flat, slope, dx);
        } else {
            for (int64_t i = 0; i < m; i += spread)
                FN(norm_dx)(0, work->add, spread, dy + i, w + c + i / spread, x + i, row, flat, slope, dx + i);
        }
    }
    if (dw)
        FN(norm_flush)(2 * channels, dw_block, dw);
}

static void FN(norm_gradient)(tm_node *x, const double *totals)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    for (int64_t i = 0; dx && i < x->size; i++)
        dx[i] = (REAL)totals[i] + (add ? dx[i] : 0);
}

static int FN(norm_backward)(tm_node *y, void (*run)(void *context, int64_t task))
{
    tm_node **in = tm_inputs(y);
    const int wanted = y->n_inputs > 1 && ((in[1]->flags | in[y->n_inputs - 1]->flags) & TM_REQUIRES_GRAD);
    norm_work work = norm_rows(y, wanted);
    const int64_t tasks = tm_parts(work.rows, work.part), sums = 2 * work.channels;
    const size_t room = (size_t)((tasks ? tasks : 1) * sums + 1);
    if (wanted && !(work.totals = tm_scratch(TM_SCRATCH_KERNEL, room * (sizeof(double) + sizeof(REAL)))))
        return -1;
    work.blocks = wanted ? work.totals + room : NULL;
    work.dx = tm_grad_open(in[0], &work.add);
    tm_parallel_parts(tasks, y->size * NORM_WEIGHT, run, &work);
    if (!wanted)
        return 0;
    for (int64_t i = 0; !tasks && i < sums; i++)
        work.totals[i] = 0;
    for (int64_t task = 1; task < tasks; task++)
        for (int64_t i = 0; i < sums; i++)
            work.totals[i] += work.totals[task * sums + i];
    for (uint32_t i = 1; i < y->n_inputs; i++)
        FN(norm_gradient)(in[i], work.totals + (i - 1) * work.channels);
    return 0;
}

#define NORM(op, center)                                                                                               \
    static void FN(op##_task)(void *context, int64_t task)                                                             \
    {                                                                                                                  \
        FN(norm_forward_rows)(center, context, task);                                                                  \
    }                                                                                                                  \
    static int FN(op##_forward)(tm_node *y)                                                                            \
    {                                                                                                                  \
        norm_work work = norm_rows(y, 0);                                                                              \
        tm_parallel_parts(tm_parts(work.rows, work.part), y->size * NORM_WEIGHT, FN(op##_task), &work);                \
        return 0;                                                                                                      \
    }                                                                                                                  \
    static void FN(op##_flow)(void *context, int64_t task)                                                             \
    {                                                                                                                  \
        FN(norm_backward_rows)(center, context, task);                                                                 \
    }                                                                                                                  \
    static int FN(op##_backward)(tm_node *y)                                                                           \
    {                                                                                                                  \
        return FN(norm_backward)(y, FN(op##_flow));                                                                    \
    }
NORM(layer_norm, 1)
NORM(rms_norm, 0)
NORM(group_norm, 1)
#undef NORM

#endif
