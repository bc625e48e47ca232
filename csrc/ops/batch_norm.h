/* Normalisation of channels over a batch: moments finds their means and variances, batch_norm applies them. With what
 * normalization.h has for sums. */

#if defined(RULES)

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

{.name = "moments", .min_in = 1, .max_in = 1, .promote = TM_ANY, .rule = moments_rule,
 .forward = {FLOATS(moments_forward)}},
{.name = "batch_norm", .min_in = 2, .max_in = 4, .min_attr = 2, .promote = TM_ANY, .rule = batch_norm_rule,
 .forward = {FLOATS(batch_norm_forward)}, .backward = {FLOATS(batch_norm_backward)}},

#elif REAL_IS_FLOAT

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
