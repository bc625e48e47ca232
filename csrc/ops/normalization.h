/* Normalisation: of stretches of an array (layer_norm, rms_norm, group_norm), and of channels over a batch (moments,
 * batch_norm). A mean is kept as two numbers, the second being what rounding left off the first, so that d = x - mean is
 * exact even where the mean is large: float32 numbers around 1e4 come out as right as those around 0. */

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

/* attributes: none. The result (3, C): means, biased variances, what rounding left off the means. */
static int moments_rule(tm_call *call)
{
    int64_t spread;
    call->dtype = call->in[0]->dtype;
    call->rank = 2;
    call->shape[0] = 3;
    return norm_channels(call, &call->shape[1], &spread);
}

/* attributes: whether the moments are those of the input, eps. inputs: x, moments (2 or 3, C), weight, bias */
static int batch_norm_rule(tm_call *call)
{
    const tm_node *moments = call->in[1];
    int64_t channels, spread;
    if (norm_channels(call, &channels, &spread))
        return -1;
    if (moments->rank != 2 || tm_shape(moments)[1] != channels || tm_shape(moments)[0] < 2)
        return tm_fail(TM_SHAPE_ERROR, "%s: got moments of shape %s, expected a mean and a variance for each of the %lld "
                       "channels of input %s", call->op->name, tm_shape_of(moments).text, (long long)channels,
                       tm_shape_of(call->in[0]).text);
    return norm_parameters(call, 2, channels) ? -1 : tm_rule_like_input(call);
}

/* x (rows, channels, spread) as tiles: some rows of one channel, or of some channels where spread is small. A wide tile
 * has NORM_LANES or more elements of a channel in each row, and is walked along it; else rows are added up, column by
 * column. */
enum { NORM_COLUMNS = 64 };
typedef struct {
    int64_t rows, channels, spread;
    int wide;
    int64_t per_tile, tiles; /* channels */
    int64_t part, parts;     /* rows */
} norm_grid;

typedef struct {
    int64_t first, channels; /* of the whole */
    int64_t part, rows;
    int64_t at, width, stride; /* the rows: where the first one starts, its elements, where the next one starts */
} norm_tile;

static norm_grid norm_tiles(const tm_node *x)
{
    norm_grid g = {.rows = tm_shape(x)[0], .channels = tm_shape(x)[1], .spread = 1};
    for (int d = 2; d < x->rank; d++)
        g.spread *= tm_shape(x)[d];
    g.wide = g.spread >= NORM_LANES;
    g.per_tile = g.wide || !g.spread ? 1 : NORM_COLUMNS / g.spread;
    g.tiles = x->size ? tm_parts(g.channels, g.per_tile) : 0;
    const int64_t width = g.per_tile * g.spread;
    g.part = tm_part(g.rows, width && width < 4 * TM_PART ? 4 * TM_PART / width : 1);
    g.parts = x->size ? tm_parts(g.rows, g.part) : 0;
    return g;
}

/* Tasks are numbered so that those of the same rows follow one another. */
static norm_tile norm_tile_of(const norm_grid *g, int64_t task)
{
    norm_tile t = {.first = task % g->tiles * g->per_tile, .part = task / g->tiles, .stride = g->channels * g->spread};
    t.channels = g->channels - t.first < g->per_tile ? g->channels - t.first : g->per_tile;
    const int64_t row = t.part * g->part;
    t.rows = g->rows - row < g->part ? g->rows - row : g->part;
    t.at = row * t.stride + t.first * g->spread;
    t.width = t.channels * g->spread;
    return t;
}

typedef struct {
    tm_node *y;
    norm_grid grid;
    norm_sums *sums;  /* of each channel, for each part of the rows */
    void *coefficients;
    void *dx;
    int add;
} batch_work;

#elif defined(ROWS)

#define NORM_ROW(op, parameters, rows_rule)                                                                            \
    {.name = #op, .min_in = 1, .max_in = 1 + parameters, .min_attr = 2, .promote = TM_ANY, .rule = rows_rule,          \
     .forward = {FLOATS(op##_forward)}, .backward = {FLOATS(op##_backward)}},
NORM_ROW(layer_norm, 2, layer_norm_rule)
NORM_ROW(rms_norm, 1, layer_norm_rule)
NORM_ROW(group_norm, 2, group_norm_rule)
#undef NORM_ROW
{.name = "moments", .min_in = 1, .max_in = 1, .promote = TM_ANY, .rule = moments_rule,
 .forward = {FLOATS(moments_forward)}},
{.name = "batch_norm", .min_in = 2, .max_in = 4, .min_attr = 2, .promote = TM_ANY, .rule = batch_norm_rule,
 .forward = {FLOATS(batch_norm_forward)}, .backward = {FLOATS(batch_norm_backward)}},

#elif REAL_IS_FLOAT

/* Each use becomes code of its own, for the constants among its arguments. */
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

/* ---- rows */

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

/* ---- channels over a batch */

/* Sums for each channel of a tile; means are the channels'. */
NORM_INLINE void FN(tile_sums)(const int kind, const norm_grid *g, const norm_tile *t, const REAL *dy, const REAL *x,
                          const FN(norm_mean) *means, norm_sums *sums)
{
    for (int64_t c = 0; c < t->channels; c++)
        sums[c] = (norm_sums){0, 0};
    if (g->wide) {
        for (int64_t r = 0; r < t->rows; r++, x += t->stride) {
            const norm_sums row = kind == NORM_X   ? (norm_sums){FN(norm_total)(t->width, x), 0}
                                  : kind == NORM_D ? FN(norm_deviations)(t->width, x, means->high)
                                                   : FN(norm_flow_sums)(t->width, dy + r * t->stride, NULL, x, *means);
            sums->a += row.a;
            sums->ad += row.ad;
        }
        return;
    }
    REAL high[NORM_COLUMNS], low[NORM_COLUMNS];
    const int64_t width = t->width;
    for (int64_t i = 0; i < width; i++) {
        high[i] = means[i / g->spread].high;
        low[i] = means[i / g->spread].low;
    }
    for (int64_t r = 0; r < t->rows; r += NORM_ROWS) {
        REAL as[NORM_COLUMNS] = {0}, ads[NORM_COLUMNS] = {0};
        const int64_t end = t->rows - r < NORM_ROWS ? t->rows : r + NORM_ROWS;
        for (int64_t row = r; row < end; row++) {
            const REAL *restrict xs = x + row * t->stride, *restrict dys = dy + (kind == NORM_FLOW ? row * t->stride : 0);
            for (int64_t i = 0; i < width; i++) {
                const REAL d = kind == NORM_X ? xs[i] : xs[i] - high[i] - low[i], a = kind == NORM_FLOW ? dys[i] : d;
                as[i] += a;
                ads[i] += a * d;
            }
        }
        for (int64_t i = 0; i < width; i++) {
            sums[i / g->spread].a += as[i];
            sums[i / g->spread].ad += ads[i];
        }
    }
    for (int64_t c = 0; kind == NORM_FLOW && c < t->channels; c++)
        if (!isfinite(sums[c].a) || !isfinite(sums[c].ad))
            sums[c] = FN(norm_flow_each)(t->rows, g->spread, t->stride, dy + c * g->spread, NULL, x + c * g->spread,
                                         means[c]);
}

/* Leaves, for each channel of the tile, the mean and the sum of the squared deviations from it. */
static void FN(moments_task)(void *context, int64_t task)
{
    const batch_work *work = context;
    const norm_grid *g = &work->grid;
    const norm_tile t = norm_tile_of(g, task);
    const REAL *x = (const REAL *)tm_data(work->y->in[0]) + t.at;
    const double n = (double)(t.rows * g->spread);
    norm_sums *sums = work->sums + t.part * g->channels + t.first;
    FN(norm_mean) means[NORM_COLUMNS] = {{0, 0}};
    FN(tile_sums)(NORM_X, g, &t, x, x, means, sums);
    for (int64_t c = 0; c < t.channels; c++)
        means[c].high = (REAL)(sums[c].a / n);
    FN(tile_sums)(NORM_D, g, &t, x, x, means, sums);
    for (int64_t c = 0; c < t.channels; c++) {
        const double low = sums[c].a / n, squares = sums[c].ad - low * low * n;
        sums[c] = (norm_sums){means[c].high + low, squares < 0 ? 0 : squares};
    }
}

/* Parts of the rows are joined as by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
 * sample variances" (1979). */
static int FN(moments_forward)(tm_node *y)
{
    batch_work work = {.y = y, .grid = norm_tiles(y->in[0])};
    const norm_grid *g = &work.grid;
    REAL *to = tm_data(y);
    if (!(work.sums = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(g->parts * g->channels + 1) * sizeof *work.sums)))
        return -1;
    tm_parallel_parts(g->tiles * g->parts, y->in[0]->size * NORM_WEIGHT, FN(moments_task), &work);
    for (int64_t c = 0; c < g->channels; c++) {
        double count = 0, mean = 0, squares = 0;
        for (int64_t p = 0; p < g->parts; p++) {
            const int64_t left = g->rows - p * g->part;
            const double n = (double)((left < g->part ? left : g->part) * g->spread);
            const norm_sums part = work.sums[p * g->channels + c];
            const double gap = part.a - mean;
            mean += gap * (n / (count + n));
            squares += part.ad + gap * gap * (count * n / (count + n));
            count += n;
        }
        mean = count ? mean : NAN;
        to[c] = (REAL)mean;
        to[g->channels + c] = (REAL)(squares / count);
        to[2 * g->channels + c] = (REAL)(mean - to[c]);
    }
    return 0;
}

/* What becomes of the elements of a channel: y = d scale + bias; dx = scale dy - flat - slope d. */
typedef struct {
    FN(norm_mean) mean;
    REAL rstd, scale, bias, flat, slope;
} FN(norm_channel);

static FN(norm_channel) FN(norm_channel_of)(tm_node *y, int64_t c)
{
    tm_node **in = tm_inputs(y);
    const int64_t channels = tm_shape(in[1])[1];
    const REAL *moments = tm_data(in[1]);
    FN(norm_channel) of = {.mean = {moments[c], tm_shape(in[1])[0] > 2 ? moments[2 * channels + c] : 0}};
    of.rstd = (REAL)(1 / sqrt((double)moments[channels + c] + tm_attr(y)[1]));
    of.scale = y->n_inputs > 2 ? of.rstd * ((const REAL *)tm_data(in[2]))[c] : of.rstd;
    of.bias = y->n_inputs > 3 ? ((const REAL *)tm_data(in[3]))[c] : 0;
    return of;
}

/* The same for the columns of a tile. */
typedef struct {
    REAL high[NORM_COLUMNS], low[NORM_COLUMNS], scale[NORM_COLUMNS], bias[NORM_COLUMNS], flat[NORM_COLUMNS],
        slope[NORM_COLUMNS];
} FN(norm_columns);

static void FN(spread_column)(FN(norm_columns) *to, int64_t i, const FN(norm_channel) *of)
{
    to->high[i] = of->mean.high;
    to->low[i] = of->mean.low;
    to->scale[i] = of->scale;
    to->bias[i] = of->bias;
    to->flat[i] = of->flat;
    to->slope[i] = of->slope;
}

/* step 0: all of the elements are in column 0. */
NORM_INLINE void FN(scale_tile)(const int step, const norm_tile *t, const FN(norm_columns) *restrict k, const REAL *restrict x,
                           REAL *restrict y)
{
    for (int64_t r = 0; r < t->rows; r++, x += t->stride, y += t->stride)
        for (int64_t i = 0, j = 0; i < t->width; i++, j += step)
            y[i] = (x[i] - k->high[j] - k->low[j]) * k->scale[j] + k->bias[j];
}

static void FN(batch_norm_task)(void *context, int64_t task)
{
    const batch_work *work = context;
    const norm_grid *g = &work->grid;
    const norm_tile t = norm_tile_of(g, task);
    const REAL *x = (const REAL *)tm_data(tm_inputs(work->y)[0]) + t.at;
    REAL *y = (REAL *)tm_data(work->y) + t.at;
    FN(norm_columns) columns;
    for (int64_t i = 0, c = 0; c < t.channels; c++) {
        const FN(norm_channel) of = FN(norm_channel_of)(work->y, t.first + c);
        for (int64_t end = g->wide ? i + 1 : i + g->spread; i < end; i++)
            FN(spread_column)(&columns, i, &of);
    }
    g->wide ? FN(scale_tile)(0, &t, &columns, x, y) : FN(scale_tile)(1, &t, &columns, x, y);
}

static int FN(batch_norm_forward)(tm_node *y)
{
    batch_work work = {.y = y, .grid = norm_tiles(tm_inputs(y)[0])};
    tm_parallel_parts(work.grid.tiles * work.grid.parts, y->size * NORM_WEIGHT, FN(batch_norm_task), &work);
    return 0;
}

static void FN(batch_sums_task)(void *context, int64_t task)
{
    const batch_work *work = context;
    const norm_tile t = norm_tile_of(&work->grid, task);
    const REAL *x = (const REAL *)tm_data(tm_inputs(work->y)[0]) + t.at, *dy = (REAL *)tm_grad_data(work->y) + t.at;
    FN(norm_mean) means[NORM_COLUMNS];
    for (int64_t c = 0; c < t.channels; c++)
        means[c] = FN(norm_channel_of)(work->y, t.first + c).mean;
    FN(tile_sums)(NORM_FLOW, &work->grid, &t, dy, x, means, work->sums + t.part * work->grid.channels + t.first);
}

NORM_INLINE void FN(flow_tile)(const int step, const int training, const int add, const norm_tile *t,
                          const FN(norm_columns) *restrict k, const REAL *restrict dy, const REAL *restrict x,
                          REAL *restrict dx)
{
    for (int64_t r = 0; r < t->rows; r++, dy += t->stride, x += t->stride, dx += t->stride)
        for (int64_t i = 0, j = 0; i < t->width; i++, j += step) {
            const REAL rest = training ? k->flat[j] + FLOW(k->slope[j], x[i] - k->high[j] - k->low[j]) : 0;
            dx[i] = FLOW(dy[i], k->scale[j]) - rest + (add ? dx[i] : 0);
        }
}

static void FN(batch_flow_task)(void *context, int64_t task)
{
    const batch_work *work = context;
    const norm_grid *g = &work->grid;
    const norm_tile t = norm_tile_of(g, task);
    const int training = tm_attr(work->y)[0] != 0, add = work->add;
    const FN(norm_channel) *channels = (const FN(norm_channel) *)work->coefficients + t.first;
    const REAL *x = (const REAL *)tm_data(tm_inputs(work->y)[0]) + t.at, *dy = (REAL *)tm_grad_data(work->y) + t.at;
    REAL *dx = (REAL *)work->dx + t.at;
    FN(norm_columns) columns;
    for (int64_t i = 0, c = 0; c < t.channels; c++)
        for (int64_t end = g->wide ? i + 1 : i + g->spread; i < end; i++)
            FN(spread_column)(&columns, i, channels + c);
#define TILE(step, training)                                                                                           \
    (add ? FN(flow_tile)(step, training, 1, &t, &columns, dy, x, dx)                                                   \
         : FN(flow_tile)(step, training, 0, &t, &columns, dy, x, dx))
    if (g->wide)
        training ? TILE(0, 1) : TILE(0, 0);
    else
        training ? TILE(1, 1) : TILE(1, 0);
#undef TILE
}

/* The terms that all elements of a channel share. A gradient of nothing but zeros has none, even if they are undefined. */
static void FN(find_terms)(const norm_grid *g, int64_t c, norm_sums total, const REAL *dy, FN(norm_channel) *of)
{
    const double n = (double)(g->rows * g->spread);
    of->flat = (REAL)(of->scale * (total.a / n));
    of->slope = (REAL)(of->scale * (total.ad / n) * of->rstd * of->rstd);
    if (!(isfinite(of->flat) && isfinite(of->slope)) &&
        FN(norm_nothing)(g->rows, g->spread, g->channels * g->spread, dy + c * g->spread))
        of->flat = of->slope = 0;
}

/* With n the elements of a channel: dx = scale (dy - sum(dy) / n - d rstd^2 sum(dy d) / n), where the last two terms are
 * those of mean and variance. Where moments are constants, dx = scale dy. */
static int FN(batch_norm_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    batch_work work = {.y = y, .grid = norm_tiles(in[0])};
    const norm_grid *g = &work.grid;
    const int64_t tasks = g->tiles * g->parts, work_of_all = y->size * NORM_WEIGHT;
    const int training = tm_attr(y)[0] != 0;
    int wanted = training;
    for (uint32_t i = 2; i < y->n_inputs; i++)
        wanted |= in[i]->flags & TM_REQUIRES_GRAD;
    const size_t sums = (size_t)(g->parts * g->channels + 1), n_channels = (size_t)g->channels;
    work.sums = tm_scratch(TM_SCRATCH_KERNEL, sums * sizeof *work.sums +
                                                  n_channels * (2 * sizeof(double) + sizeof(FN(norm_channel))));
    if (!work.sums)
        return -1;
    double *dw = (double *)(work.sums + sums), *db = dw + n_channels;
    FN(norm_channel) *channels = (FN(norm_channel) *)(db + n_channels);
    if (wanted)
        tm_parallel_parts(tasks, work_of_all, FN(batch_sums_task), &work);
    for (int64_t c = 0; c < g->channels; c++) {
        norm_sums total = {0, 0};
        for (int64_t p = 0; wanted && p < g->parts; p++) {
            total.a += work.sums[p * g->channels + c].a;
            total.ad += work.sums[p * g->channels + c].ad;
        }
        channels[c] = FN(norm_channel_of)(y, c);
        FN(find_terms)(g, c, total, tm_grad_data(y), channels + c);
        dw[c] = FLOW(total.ad, channels[c].rstd);
        db[c] = total.a;
    }
    work.coefficients = channels;
    if ((work.dx = tm_grad_open(in[0], &work.add)))
        tm_parallel_parts(tasks, work_of_all, FN(batch_flow_task), &work);
    for (uint32_t i = 2; i < y->n_inputs; i++)
        FN(norm_gradient)(in[i], i == 2 ? dw : db);
    return 0;
}

#undef NORM_INLINE

#endif
