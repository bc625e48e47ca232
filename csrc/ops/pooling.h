/* Pooling: the maximum, or the mean, of windows over the last two dimensions. Each plane is worked on by itself; in one
 * dimension windows have a height of 1, and the channels are the rows. */

#if defined(RULES)

/* attributes of all: dimensions, kernel (2), stride (2), padding (2); then of max_pool: dilation (2), ceil_mode; of
 * avg_pool: ceil_mode, count_include_pad, divisor_override (0: none). Of adaptive_avg_pool: dimensions, extents (2). */
enum { POOL_DIMENSIONS, POOL_KERNEL, POOL_STRIDE = 3, POOL_PADDING = 5, POOL_MORE = 7 };
enum { POOL_DILATION = POOL_MORE, MAX_POOL_CEIL = POOL_MORE + 2, MAX_POOL_ATTRIBUTES };
enum { AVG_POOL_CEIL = POOL_MORE, AVG_POOL_COUNTS_PADDING, AVG_POOL_DIVISOR, AVG_POOL_ATTRIBUTES };

typedef struct {
    windows rows, columns;
    int64_t planes;
} pooling;

/* In ceil_mode the last window may reach past the padding, but must begin before it. */
static windows pool_windows(int64_t extent, const double *attr, int axis, int64_t dilation, int ceils)
{
    windows s = {.extent = extent, .taps = (int64_t)attr[POOL_KERNEL + axis],
                 .stride = (int64_t)attr[POOL_STRIDE + axis], .before = (int64_t)attr[POOL_PADDING + axis],
                 .after = (int64_t)attr[POOL_PADDING + axis], .dilation = dilation};
    const int64_t left = extent + 2 * s.before - window_span(&s) + (ceils ? s.stride - 1 : 0);
    s.out = left < 0 ? 0 : left / s.stride + 1;
    if (ceils && s.out && (s.out - 1) * s.stride >= extent + s.before)
        s.out--;
    return s;
}

static pooling pooling_of(const tm_node *x, const double *attr, int takes_max)
{
    const int64_t *extent = tm_shape(x) + x->rank - 2;
    const int ceils = attr[takes_max ? MAX_POOL_CEIL : AVG_POOL_CEIL] != 0;
    return (pooling){
        .rows = pool_windows(extent[0], attr, 0, takes_max ? (int64_t)attr[POOL_DILATION] : 1, ceils),
        .columns = pool_windows(extent[1], attr, 1, takes_max ? (int64_t)attr[POOL_DILATION + 1] : 1, ceils),
        .planes = tm_shape_size(x->rank - 2, tm_shape(x)),
    };
}

static int pool_rank(const tm_call *call)
{
    const tm_node *x = call->in[0];
    const int dimensions = (int)call->attr[POOL_DIMENSIONS];
    if (x->rank == dimensions + 1 || x->rank == dimensions + 2)
        return 0;
    return tm_fail(TM_SHAPE_ERROR, "%s%dd: got shape %s, expected %s; add dimensions with unsqueeze() or merge some "
                   "with flatten()", call->op->name, dimensions, tm_shape_of(x).text,
                   dimensions == 2 ? "(N, C, H, W) or (C, H, W)" : "(N, C, L) or (C, L)");
}

/* No extent along which windows lie may be 0. */
static int pool_extents(const tm_call *call)
{
    const tm_node *x = call->in[0];
    if (tm_shape(x)[x->rank - 1] && tm_shape(x)[x->rank - 2])
        return 0;
    return tm_fail(TM_SHAPE_ERROR, "%s%dd: got shape %s, expected no 0 but for the batch: an empty window has no "
                   "value; leave empty tensors out", call->op->name, (int)call->attr[POOL_DIMENSIONS],
                   tm_shape_of(x).text);
}

static int pool_rule(tm_call *call, int takes_max)
{
    const tm_node *x = call->in[0];
    const double *attr = call->attr;
    const char *name = call->op->name;
    if (pool_rank(call) || pool_extents(call))
        return -1;
    const int dimensions = (int)attr[POOL_DIMENSIONS];
    for (int i = POOL_KERNEL; i < POOL_PADDING; i++)
        if (!(attr[i] >= 1 && attr[i] <= INT32_MAX))
            return tm_fail(TM_VALUE_ERROR, "%s%dd: got %s %g, expected 1 to %d", name, dimensions,
                           i < POOL_STRIDE ? "kernel_size" : "stride", attr[i], INT32_MAX);
    for (int axis = 0; axis < 2; axis++) {
        const double kernel = attr[POOL_KERNEL + axis], padding = attr[POOL_PADDING + axis];
        const double dilation = takes_max ? attr[POOL_DILATION + axis] : 1;
        if (!(dilation >= 1 && dilation <= INT32_MAX))
            return tm_fail(TM_VALUE_ERROR, "%s%dd: got dilation %g, expected 1 to %d", name, dimensions, dilation,
                           INT32_MAX);
        if (!(padding >= 0 && padding <= floor(((kernel - 1) * dilation + 1) / 2)))
            return tm_fail(TM_VALUE_ERROR, "%s%dd: got padding %g for a kernel of %g, expected 0 to half of what it "
                           "spans; pad the input itself for more", name, dimensions, padding, kernel);
    }
    const pooling p = pooling_of(x, attr, takes_max);
    if (!p.rows.out || !p.columns.out)
        return tm_fail(TM_SHAPE_ERROR, "%s%dd: got a kernel that spans %lld x %lld for input %s with padding %lld and "
                       "%lld, expected no more than the padded input; use a smaller kernel, or ceil_mode", name,
                       dimensions, (long long)window_span(&p.rows), (long long)window_span(&p.columns),
                       tm_shape_of(x).text, (long long)p.rows.before, (long long)p.columns.before);
    tm_rule_like_input(call);
    call->shape[x->rank - 2] = p.rows.out;
    call->shape[x->rank - 1] = p.columns.out;
    return 0;
}

static int max_pool_rule(tm_call *call)
{
    if (pool_rule(call, 1))
        return -1;
    call->saved_bytes = (size_t)tm_shape_size(call->rank, call->shape) * sizeof(int32_t) + 1; /* never 0 */
    return 0;
}

static int avg_pool_rule(tm_call *call)
{
    return pool_rule(call, 0);
}

static int adaptive_avg_pool_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    if (pool_rank(call) || pool_extents(call))
        return -1;
    tm_rule_like_input(call);
    for (int axis = 0; axis < 2; axis++) {
        const int d = x->rank - 2 + axis;
        if (!(call->attr[1 + axis] >= 0 && call->attr[1 + axis] <= INT32_MAX))
            return tm_fail(TM_VALUE_ERROR, "%s%dd: got output size %g, expected 0 to %d, or None for the input's",
                           call->op->name, (int)call->attr[POOL_DIMENSIONS], call->attr[1 + axis], INT32_MAX);
        call->shape[d] = (int64_t)call->attr[1 + axis];
    }
    return 0;
}

/* The part of a window that lies inside: taps `first` to `end` - 1, the first one at `at`. */
typedef struct {
    int64_t at, first, end;
} window_taps;

static inline window_taps taps_inside(const windows *s, int64_t out)
{
    const int64_t begin = out * s->stride - s->before;
    window_taps t = {.first = begin < 0 ? (-begin + s->dilation - 1) / s->dilation : 0, .end = s->taps};
    if (begin + (s->taps - 1) * s->dilation >= s->extent)
        t.end = begin >= s->extent ? 0 : (s->extent - begin + s->dilation - 1) / s->dilation;
    t.at = begin + t.first * s->dilation;
    return t;
}

/* What a mean is taken over: rows `top` to `bottom` - 1 and columns `left` to `right` - 1. */
typedef struct {
    int64_t top, bottom, left, right;
    double divisor;
} pool_window;

/* What the tasks of a kernel share: task i has `part` planes from i * part on. */
typedef struct {
    pooling p;
    tm_node *y;
    int64_t part;
    void *dx;
    int add, adapts;
} pool_work;

static void pool_run(pool_work *work, void (*run)(void *context, int64_t task))
{
    enum { WEIGHT = 2 }; /* additions that an element is worth */
    const int64_t plane = work->p.rows.extent * work->p.columns.extent,
                  outs = work->p.rows.out * work->p.columns.out * work->p.rows.taps * work->p.columns.taps,
                  of_one = (plane > outs ? plane : outs) * WEIGHT + 1;
    work->part = tm_part(work->p.planes, of_one < TM_PART ? TM_PART / of_one : 1);
    tm_parallel_parts(tm_parts(work->p.planes, work->part), work->p.planes * of_one, run, work);
}

static int64_t pool_end(const pool_work *work, int64_t task)
{
    const int64_t end = (task + 1) * work->part;
    return end < work->p.planes ? end : work->p.planes;
}

/* The usual pooling: windows of 2 x 2 side by side, none of which reaches past the end. */
static int pools_pairs(const pooling *p)
{
    const windows *all[2] = {&p->rows, &p->columns};
    for (int axis = 0; axis < 2; axis++) {
        const windows *s = all[axis];
        if (s->taps != 2 || s->stride != 2 || s->dilation != 1 || s->before || 2 * s->out > s->extent)
            return 0;
    }
    return 1;
}

/* Whether they leave no row or column out. */
static int pairs_cover(const pooling *p)
{
    return 2 * p->rows.out == p->rows.extent && 2 * p->columns.out == p->columns.extent;
}

static int averages_pairs(const pool_work *work)
{
    return !work->adapts && !tm_attr(work->y)[AVG_POOL_DIVISOR] && pools_pairs(&work->p);
}

/* Pairs are worked on in strips: of rows, as many as have so many columns in all, or of one row, piece by piece. */
enum { POOL_STRIP = 1024 };

static inline int64_t strip_rows(const pooling *p, int64_t row)
{
    const int64_t most = POOL_STRIP / (2 * p->columns.out), left = p->rows.out - row;
    return most <= 1 ? 1 : most < left ? most : left;
}

static inline int64_t strip_columns(const pooling *p, int64_t column)
{
    const int64_t left = p->columns.out - column;
    return left < POOL_STRIP / 2 ? left : POOL_STRIP / 2;
}

static pool_window window_of(const pool_work *work, int64_t row, int64_t column)
{
    const windows *r = &work->p.rows, *c = &work->p.columns;
    const double *attr = tm_attr(work->y);
    if (work->adapts) {
        pool_window w = {row * r->extent / r->out, ((row + 1) * r->extent + r->out - 1) / r->out,
                         column * c->extent / c->out, ((column + 1) * c->extent + c->out - 1) / c->out, 0};
        w.divisor = (double)((w.bottom - w.top) * (w.right - w.left));
        return w;
    }
    const window_taps rows = taps_inside(r, row), columns = taps_inside(c, column);
    pool_window w = {rows.at, rows.at + rows.end - rows.first, columns.at, columns.at + columns.end - columns.first, 0};
    if (attr[AVG_POOL_DIVISOR]) {
        w.divisor = attr[AVG_POOL_DIVISOR];
    } else if (attr[AVG_POOL_COUNTS_PADDING]) { /* but not what ceil_mode reaches past it */
        const int64_t bottom = r->extent + r->after - (row * r->stride - r->before),
                      right = c->extent + c->after - (column * c->stride - c->before);
        w.divisor = (double)((bottom < r->taps ? bottom : r->taps) * (right < c->taps ? right : c->taps));
    } else {
        w.divisor = (double)((w.bottom - w.top) * (w.right - w.left));
    }
    return w;
}

static pooling adaptive_pooling_of(tm_node *y)
{
    const tm_node *x = y->in[0];
    const int64_t *in = tm_shape(x) + x->rank - 2, *out = tm_shape(y) + y->rank - 2;
    return (pooling){.rows = {.extent = in[0], .taps = 1, .stride = 1, .dilation = 1, .out = out[0]},
                     .columns = {.extent = in[1], .taps = 1, .stride = 1, .dilation = 1, .out = out[1]},
                     .planes = tm_shape_size(x->rank - 2, tm_shape(x))};
}

#elif defined(ROWS)

{.name = "max_pool", .min_in = 1, .max_in = 1, .min_attr = MAX_POOL_ATTRIBUTES, .promote = 1, .rule = max_pool_rule,
 .forward = {FLOATS(max_pool_forward)}, .backward = {FLOATS(max_pool_backward)}, .derivative = {"1"}},
{.name = "avg_pool", .min_in = 1, .max_in = 1, .min_attr = AVG_POOL_ATTRIBUTES, .promote = 1, .rule = avg_pool_rule,
 .forward = {FLOATS(avg_pool_forward)}, .backward = {FLOATS(avg_pool_backward)}, .derivative = {"1"}},
{.name = "adaptive_avg_pool", .min_in = 1, .max_in = 1, .min_attr = 3, .promote = 1, .rule = adaptive_avg_pool_rule,
 .forward = {FLOATS(adaptive_avg_pool_forward)}, .backward = {FLOATS(adaptive_avg_pool_backward)},
 .derivative = {"1"}},

#elif REAL_IS_FLOAT

/* Each strip in turn: `rows` rows of windows from `row` on, and in each `n` from `at` on. */
#define POOL_STRIPS(p, row, rows, at, n)                                                                               \
    for (int64_t row = 0, rows; row < (p)->rows.out && (rows = strip_rows(p, row)); row += rows)                       \
        for (int64_t at = 0, n; at < (p)->columns.out && (n = strip_columns(p, at)); at += n)

#if REAL_IS_F32
typedef int32_t FN(pool_tap);
#else
typedef int64_t FN(pool_tap); /* as wide as REAL, for selects side by side */
#endif

/* Whether a later element takes the place of the maximum: of equal ones the first stays, and a nan always comes in. */
#define POOL_BEATS(x, best) (((x) > (best)) | ((x) != (x)))

/* The maximum of a window's taps inside the plane, and its number among all taps; -1 where no tap is inside. */
static inline REAL FN(max_of_window)(const pooling *p, const REAL *x, int64_t row, int64_t column, int32_t *tap)
{
    const window_taps rows = taps_inside(&p->rows, row), columns = taps_inside(&p->columns, column);
    REAL best = (REAL)-INFINITY;
    const int any = rows.first < rows.end && columns.first < columns.end;
    int64_t at = any ? rows.first * p->columns.taps + columns.first : -1;
    for (int64_t ky = rows.first; ky < rows.end; ky++) {
        const REAL *from = x + (rows.at + (ky - rows.first) * p->rows.dilation) * p->columns.extent + columns.at;
        for (int64_t kx = columns.first; kx < columns.end; kx++, from += p->columns.dilation)
            if (POOL_BEATS(*from, best)) {
                best = *from;
                at = ky * p->columns.taps + kx;
            }
    }
    *tap = (int32_t)at;
    return best;
}

/* The maxima of some rows of 2 x 2 windows, n in each. What they lie over is copied first, so that the loop can go on
 * from row to row: these are short. */
static void FN(max_of_pairs)(int64_t rows, int64_t n, int64_t columns, const REAL *x, REAL *restrict y,
                             int32_t *restrict taps)
{
    REAL upper[POOL_STRIP], lower[POOL_STRIP];
    FN(gemm_copy_rows)(2 * n, 2 * n, rows, x, 2 * columns, upper);
    FN(gemm_copy_rows)(2 * n, 2 * n, rows, x + columns, 2 * columns, lower);
    for (int64_t i = 0; i < rows * n; i++) {
        const REAL x1 = upper[2 * i + 1], x2 = lower[2 * i], x3 = lower[2 * i + 1];
        REAL best = upper[2 * i];
        FN(pool_tap) tap = 0;
        tap = POOL_BEATS(x1, best) ? 1 : tap;
        best = POOL_BEATS(x1, best) ? x1 : best;
        tap = POOL_BEATS(x2, best) ? 2 : tap;
        best = POOL_BEATS(x2, best) ? x2 : best;
        tap = POOL_BEATS(x3, best) ? 3 : tap;
        best = POOL_BEATS(x3, best) ? x3 : best;
        y[i] = best;
        taps[i] = (int32_t)tap;
    }
}

static void FN(max_pool_part)(void *context, int64_t task)
{
    const pool_work *work = context;
    const pooling *p = &work->p;
    const int64_t columns = p->columns.extent, outs = p->columns.out;
    const int pairs = pools_pairs(p);
    for (int64_t plane = task * work->part; plane < pool_end(work, task); plane++) {
        const REAL *x = (const REAL *)tm_data(work->y->in[0]) + plane * p->rows.extent * columns;
        REAL *y = (REAL *)tm_data(work->y) + plane * p->rows.out * outs;
        int32_t *taps = (int32_t *)tm_saved(work->y) + plane * p->rows.out * outs;
        if (pairs)
            POOL_STRIPS(p, row, rows, at, n)
                FN(max_of_pairs)(rows, n, columns, x + 2 * row * columns + 2 * at, y + row * outs + at,
                                 taps + row * outs + at);
        else
            for (int64_t row = 0; row < p->rows.out; row++)
                for (int64_t i = 0; i < outs; i++)
                    *y++ = FN(max_of_window)(p, x, row, i, taps++);
    }
}

static int FN(max_pool_forward)(tm_node *y)
{
    pool_work work = {.p = pooling_of(y->in[0], tm_attr(y), 1), .y = y};
    pool_run(&work, FN(max_pool_part));
    return 0;
}

/* Puts rows of gradients of 2 x 2 windows where they belong, or adds them. */
static void FN(put_pairs)(int64_t rows, int64_t n, int64_t columns, const REAL *upper, const REAL *lower, REAL *dx,
                          int add)
{
    if (add) {
        FN(conv_add_rows)(2 * n, rows, upper, 2 * n, dx, 2 * columns);
        FN(conv_add_rows)(2 * n, rows, lower, 2 * n, dx + columns, 2 * columns);
    } else {
        FN(gemm_copy_rows)(2 * n, 2 * columns, rows, upper, 2 * n, dx);
        FN(gemm_copy_rows)(2 * n, 2 * columns, rows, lower, 2 * n, dx + columns);
    }
}

/* Each window's gradient and tap are doubled, for the left and the right half, which is one tap further. */
static void FN(max_flow_to_pairs)(int64_t rows, int64_t n, int64_t columns, const REAL *restrict dy,
                                  const int32_t *restrict taps, REAL *dx, int add)
{
    REAL flow[POOL_STRIP], upper[POOL_STRIP], lower[POOL_STRIP];
    FN(pool_tap) tap[POOL_STRIP];
    for (int64_t i = 0; i < rows * n; i++)
        flow[2 * i] = flow[2 * i + 1] = dy[i];
    for (int64_t i = 0; i < rows * n; i++) {
        tap[2 * i] = taps[i];
        tap[2 * i + 1] = taps[i] - 1;
    }
    for (int64_t i = 0; i < 2 * rows * n; i++) {
        upper[i] = tap[i] == 0 ? flow[i] : 0;
        lower[i] = tap[i] == 2 ? flow[i] : 0;
    }
    FN(put_pairs)(rows, n, columns, upper, lower, dx, add);
}

static void FN(max_pool_flow)(void *context, int64_t task)
{
    const pool_work *work = context;
    const pooling *p = &work->p;
    const int64_t columns = p->columns.extent, outs = p->columns.out;
    const int pairs = pools_pairs(p), covers = pairs && pairs_cover(p);
    for (int64_t plane = task * work->part; plane < pool_end(work, task); plane++) {
        REAL *dx = (REAL *)work->dx + plane * p->rows.extent * columns;
        if (!work->add && !covers)
            memset(dx, 0, (size_t)(p->rows.extent * columns) * sizeof *dx);
        const REAL *dy = (const REAL *)tm_grad_data(work->y) + plane * p->rows.out * outs;
        const int32_t *taps = (const int32_t *)tm_saved(work->y) + plane * p->rows.out * outs;
        if (pairs) {
            POOL_STRIPS(p, row, rows, at, n)
                FN(max_flow_to_pairs)(rows, n, columns, dy + row * outs + at, taps + row * outs + at,
                                      dx + 2 * row * columns + 2 * at, work->add || !covers);
            continue;
        }
        for (int64_t row = 0; row < p->rows.out; row++)
            for (int64_t i = 0; i < outs; i++, dy++, taps++)
                if (*taps >= 0) {
                    const int64_t y_at = row * p->rows.stride - p->rows.before +
                                         *taps / p->columns.taps * p->rows.dilation,
                                  x_at = i * p->columns.stride - p->columns.before +
                                         *taps % p->columns.taps * p->columns.dilation;
                    dx[y_at * columns + x_at] += *dy;
                }
    }
}

static int FN(max_pool_backward)(tm_node *y)
{
    pool_work work = {.p = pooling_of(y->in[0], tm_attr(y), 1), .y = y};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        pool_run(&work, FN(max_pool_flow));
    return 0;
}

/* The sum of n elements side by side. */
static inline REAL FN(pool_sum)(int64_t n, const REAL *x)
{
    enum { FEW = 8 };
    REAL sum = 0;
    if (n > FEW)
        FN(fold_sum)(n, 1, 1, x, &sum);
    else
        for (int64_t i = 0; i < n; i++)
            sum += x[i];
    return sum;
}

static void FN(mean_of_pairs)(int64_t rows, int64_t n, int64_t columns, const REAL *x, REAL *restrict y)
{
    REAL upper[POOL_STRIP], lower[POOL_STRIP];
    FN(gemm_copy_rows)(2 * n, 2 * n, rows, x, 2 * columns, upper);
    FN(gemm_copy_rows)(2 * n, 2 * n, rows, x + columns, 2 * columns, lower);
    for (int64_t i = 0; i < rows * n; i++)
        y[i] = ((upper[2 * i] + upper[2 * i + 1]) + (lower[2 * i] + lower[2 * i + 1])) / 4;
}

static void FN(mean_flow_to_pairs)(int64_t rows, int64_t n, int64_t columns, const REAL *restrict dy, REAL *dx, int add)
{
    REAL share[POOL_STRIP];
    for (int64_t i = 0; i < rows * n; i++)
        share[2 * i] = share[2 * i + 1] = dy[i] / 4;
    FN(put_pairs)(rows, n, columns, share, share, dx, add);
}

static void FN(avg_pool_part)(void *context, int64_t task)
{
    const pool_work *work = context;
    const pooling *p = &work->p;
    const int64_t columns = p->columns.extent;
    const int pairs = averages_pairs(work);
    for (int64_t plane = task * work->part; plane < pool_end(work, task); plane++) {
        const REAL *x = (const REAL *)tm_data(work->y->in[0]) + plane * p->rows.extent * columns;
        REAL *y = (REAL *)tm_data(work->y) + plane * p->rows.out * p->columns.out;
        if (pairs) {
            POOL_STRIPS(p, row, rows, at, n)
                FN(mean_of_pairs)(rows, n, columns, x + 2 * row * columns + 2 * at, y + row * p->columns.out + at);
            continue;
        }
        for (int64_t row = 0; row < p->rows.out; row++)
            for (int64_t i = 0; i < p->columns.out; i++) {
                const pool_window w = window_of(work, row, i);
                REAL sum = 0;
                for (int64_t r = w.top; r < w.bottom; r++)
                    sum += FN(pool_sum)(w.right - w.left, x + r * columns + w.left);
                *y++ = sum / (REAL)w.divisor;
            }
    }
}

static void FN(avg_pool_flow)(void *context, int64_t task)
{
    const pool_work *work = context;
    const pooling *p = &work->p;
    const int64_t columns = p->columns.extent;
    const int pairs = averages_pairs(work), covers = pairs && pairs_cover(p);
    for (int64_t plane = task * work->part; plane < pool_end(work, task); plane++) {
        const REAL *dy = (const REAL *)tm_grad_data(work->y) + plane * p->rows.out * p->columns.out;
        REAL *dx = (REAL *)work->dx + plane * p->rows.extent * columns;
        if (!work->add && !covers)
            memset(dx, 0, (size_t)(p->rows.extent * columns) * sizeof *dx);
        if (pairs) {
            POOL_STRIPS(p, row, rows, at, n)
                FN(mean_flow_to_pairs)(rows, n, columns, dy + row * p->columns.out + at,
                                       dx + 2 * row * columns + 2 * at, work->add || !covers);
            continue;
        }
        for (int64_t row = 0; row < p->rows.out; row++)
            for (int64_t i = 0; i < p->columns.out; i++) {
                const pool_window w = window_of(work, row, i);
                const REAL share = *dy++ / (REAL)w.divisor;
                for (int64_t r = w.top; r < w.bottom; r++)
                    for (int64_t at = r * columns + w.left; at < r * columns + w.right; at++)
                        dx[at] += share;
            }
    }
}

static int FN(avg_pool_forward)(tm_node *y)
{
    pool_work work = {.p = pooling_of(y->in[0], tm_attr(y), 0), .y = y};
    pool_run(&work, FN(avg_pool_part));
    return 0;
}

static int FN(avg_pool_backward)(tm_node *y)
{
    pool_work work = {.p = pooling_of(y->in[0], tm_attr(y), 0), .y = y};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        pool_run(&work, FN(avg_pool_flow));
    return 0;
}

static int FN(adaptive_avg_pool_forward)(tm_node *y)
{
    pool_work work = {.p = adaptive_pooling_of(y), .y = y, .adapts = 1};
    pool_run(&work, FN(avg_pool_part));
    return 0;
}

static int FN(adaptive_avg_pool_backward)(tm_node *y)
{
    pool_work work = {.p = adaptive_pooling_of(y), .y = y, .adapts = 1};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        pool_run(&work, FN(avg_pool_flow));
    return 0;
}

#undef POOL_BEATS
#undef POOL_STRIPS

#endif
