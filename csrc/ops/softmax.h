/* softmax, log_softmax and logsumexp, all relative to a row's maximum; loss.h builds on their loops. */

#if defined(RULES)

/* An array seen along one axis: `rows` rows of n elements, `step` apart, walked in strips of neighbours.
 * Where step is 1 these lie end to end, up to STRIP elements or one row; else side by side, up to STRIP. */
enum { STRIP = 512 };
typedef struct {
    int64_t rows, n, step;
    int64_t most;         /* rows of a strip; the last one of a block may have fewer */
    int64_t first, count; /* the rows of this strip */
    int64_t at, row_step; /* where the first row begins, and how far on the next one */
} strip;

/* Rows that strips may span: all of them where step is 1, else those with the same place before the axis. */
static int64_t strip_block(const strip *s)
{
    return s->step == 1 ? s->rows : s->step;
}

static int64_t strip_count(const strip *s)
{
    return s->rows ? s->rows / strip_block(s) * tm_parts(strip_block(s), s->most) : 0;
}

/* The first row of the strip of that number. */
static int64_t strip_first(const strip *s, int64_t number)
{
    const int64_t per_block = tm_parts(strip_block(s), s->most);
    return number / per_block * strip_block(s) + number % per_block * s->most;
}

/* The strip that begins with that row. */
static void take_strip(strip *s, int64_t first)
{
    const int64_t before = s->step == 1 ? first : first % s->step, left = strip_block(s) - before;
    s->first = first;
    s->count = left < s->most ? left : s->most;
    s->at = s->step == 1 ? first * s->n : (first - before) * s->n + before;
    s->row_step = s->step == 1 ? s->n : 1;
}

/* A 0-d node is one row of one element. */
static strip strips_along(const tm_node *x, int axis)
{
    strip s = {.rows = 1, .n = 1, .step = 1};
    for (int d = 0; d < x->rank; d++) {
        const int64_t extent = tm_shape(x)[d];
        if (d == axis)
            s.n = extent;
        else
            s.rows *= extent;
        if (d > axis)
            s.step *= extent;
    }
    if (s.step == 1)
        s.most = s.n >= STRIP ? 1 : STRIP / (s.n ? s.n : 1);
    else
        s.most = s.step < STRIP ? s.step : STRIP;
    return s;
}

/* What a kernel does to the strips along an axis of x, some of them in each task. `run` returns what a strip adds to a
 * total, if the kernel makes one; `made` is the kernel's own. */
typedef struct strip_work strip_work;
struct strip_work {
    double (*run)(const strip_work *work, strip s);
    tm_node *node;
    const void *made;
    void *dx;
    int add;
    strip all;
    int64_t part;
    double *totals; /* of each task */
};

static void run_strips(void *context, int64_t task)
{
    const strip_work *work = context;
    strip s = work->all;
    int64_t row = strip_first(&s, task * work->part);
    double total = 0;
    for (int64_t left = work->part; left > 0 && row < s.rows; left--, row += s.count) {
        take_strip(&s, row);
        total += work->run(work, s);
    }
    work->totals[task] = total;
}

/* Returns the total. An element of such kernels is worth several additions. */
static double each_strip(strip_work *work, const tm_node *x, int axis)
{
    enum { WEIGHT = 4 };
    double totals[TM_MAX_PARTS], total = 0;
    work->totals = totals;
    work->all = strips_along(x, axis);
    const int64_t count = strip_count(&work->all), elements = work->all.most * work->all.n * WEIGHT;
    work->part = tm_part(count, elements < TM_PART ? TM_PART / (elements ? elements : 1) : 1);
    const int64_t tasks = tm_parts(count, work->part);
    tm_parallel_parts(tasks, x->size * WEIGHT, run_strips, work);
    for (int64_t task = 0; task < tasks; task++)
        total += totals[task];
    return total;
}

/* One statement for every element of a strip: i is its place, q its row's number in the strip. */
#define FOR_STRIP(s, statement)                                                                                        \
    do {                                                                                                               \
        if ((s).step == 1) {                                                                                           \
            for (int64_t q = 0, i = (s).at; q < (s).count; q++)                                                        \
                for (const int64_t end = i + (s).n; i < end; i++)                                                      \
                    statement;                                                                                         \
        } else {                                                                                                       \
            for (int64_t j = 0; j < (s).n; j++)                                                                        \
                for (int64_t q = 0, i = (s).at + j * (s).step; q < (s).count; q++, i++)                                \
                    statement;                                                                                         \
        }                                                                                                              \
    } while (0)

/* attributes: axis */
static int softmax_rule(tm_call *call)
{
    const int axis = tm_axis(call, call->attr[0], call->in[0]->rank ? call->in[0]->rank : 1);
    call->attr[0] = axis;
    return axis < 0 ? -1 : tm_rule_like_input(call);
}

#elif defined(ROWS)

{.name = "softmax", .min_in = 1, .max_in = 1, .min_attr = 1, .promote = TM_ANY, .rule = softmax_rule,
 .forward = {FLOATS(softmax_forward)}, .backward = {FLOATS(softmax_backward)}},
{.name = "log_softmax", .min_in = 1, .max_in = 1, .min_attr = 1, .promote = TM_ANY, .rule = softmax_rule,
 .forward = {FLOATS(log_softmax_forward)}, .backward = {FLOATS(log_softmax_backward)}},
{.name = "logsumexp", .min_in = 1, .max_in = 1, .min_attr = 1, .promote = TM_ANY, .rule = reduce_rule,
 .forward = {FLOATS(logsumexp_forward)}, .backward = {FLOATS(logsumexp_backward)}},

#elif REAL_IS_FLOAT

/* Reductions of one row, in lanes: the compiler may not reorder a serial chain. NaN is no maximum. */
#define ROW_REDUCTION(name, start, term, combine)                                                                      \
    static REAL FN(name)(int64_t n, const REAL *a, const REAL *b)                                                      \
    {                                                                                                                  \
        enum { LANES = 2 * TM_VECTOR_BYTES / sizeof(REAL) };                                                           \
        REAL result = start;                                                                                           \
        int64_t i = 0;                                                                                                 \
        (void)b;                                                                                                       \
        if (n >= LANES) {                                                                                              \
            REAL lanes[LANES];                                                                                         \
            for (int lane = 0; lane < LANES; lane++)                                                                   \
                lanes[lane] = start;                                                                                   \
            for (; i + LANES <= n; i += LANES)                                                                         \
                for (int lane = 0; lane < LANES; lane++)                                                               \
                    lanes[lane] = combine(lanes[lane], term(i + lane));                                                \
            for (int half = LANES / 2; half; half /= 2)                                                                \
                for (int lane = 0; lane < half; lane++)                                                                \
                    lanes[lane] = combine(lanes[lane], lanes[lane + half]);                                            \
            result = lanes[0];                                                                                         \
        }                                                                                                              \
        for (; i < n; i++)                                                                                             \
            result = combine(result, term(i));                                                                         \
        return result;                                                                                                 \
    }
#define LARGER(x, y) ((y) > (x) ? (y) : (x))
#define PLUS(x, y) ((x) + (y))
#define OF_A(i) a[i]
#define OF_BOTH(i) a[i] * b[i]
ROW_REDUCTION(row_max, -(REAL)INFINITY, OF_A, LARGER)
ROW_REDUCTION(row_sum, 0, OF_A, PLUS)
ROW_REDUCTION(row_dot, 0, OF_BOTH, PLUS)
#undef ROW_REDUCTION
#undef LARGER
#undef PLUS
#undef OF_A
#undef OF_BOTH

/* The sum of a b, where nothing flows from a zero a. The lanes take no conditions, which gcc 12 gets wrong in them; so
 * only rows with a nan are summed again one by one. */
static REAL FN(row_flow)(int64_t n, const REAL *a, const REAL *b)
{
    REAL sum = FN(row_dot)(n, a, b);
    if (isnan(sum)) {
        sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += FLOW(a[i], b[i]);
    }
    return sum;
}

/* e = exp(x - max), and each row's sum of e and, unless z_sum is NULL, of x - max. Rows may be long: sums are
 * in double where they are not made in lanes. */
static void FN(exp_strip)(const strip s, const REAL *restrict x, REAL *restrict e, REAL *restrict max,
                          double *restrict sum, double *restrict z_sum)
{
    if (s.step == 1) {
        for (int64_t q = 0, at = s.at; q < s.count; q++, at += s.n) {
            const REAL largest = max[q] = FN(row_max)(s.n, x + at, NULL);
            for (int64_t i = at; i < at + s.n; i++)
                e[i] = x[i] - largest;
            if (z_sum)
                z_sum[q] = FN(row_sum)(s.n, e + at, NULL);
        }
        for (int64_t i = s.at; i < s.at + s.count * s.n; i++)
            e[i] = FN(exp)(e[i]);
        for (int64_t q = 0; q < s.count; q++)
            sum[q] = FN(row_sum)(s.n, e + s.at + q * s.n, NULL);
        return;
    }
    for (int64_t q = 0; q < s.count; q++)
        max[q] = -(REAL)INFINITY, sum[q] = 0;
    FOR_STRIP(s, max[q] = x[i] > max[q] ? x[i] : max[q]);
    FOR_STRIP(s, sum[q] += e[i] = FN(exp)(x[i] - max[q]));
    for (int64_t q = 0; z_sum && q < s.count; q++)
        z_sum[q] = 0;
    if (z_sum)
        FOR_STRIP(s, z_sum[q] += x[i] - max[q]);
}

/* Each row's sum of a, or of a b. */
static void FN(sum_strip)(const strip s, const REAL *restrict a, const REAL *restrict b, REAL *restrict sum)
{
    if (s.step == 1) {
        for (int64_t q = 0, at = s.at; q < s.count; q++, at += s.n)
            sum[q] = b ? FN(row_flow)(s.n, a + at, b + at) : FN(row_sum)(s.n, a + at, NULL);
        return;
    }
    double total[STRIP];
    for (int64_t q = 0; q < s.count; q++)
        total[q] = 0;
    FOR_STRIP(s, total[q] += b ? FLOW(a[i], b[i]) : a[i]);
    for (int64_t q = 0; q < s.count; q++)
        sum[q] = (REAL)total[q];
}

static double FN(softmax_strip)(const strip_work *work, strip s)
{
    const REAL *restrict x = tm_data(work->node->in[0]);
    REAL *restrict to = tm_data(work->node), max[STRIP], scale[STRIP];
    double sum[STRIP];
    FN(exp_strip)(s, x, to, max, sum, NULL);
    for (int64_t q = 0; q < s.count; q++)
        scale[q] = (REAL)(1 / sum[q]);
    FOR_STRIP(s, to[i] *= scale[q]);
    return 0;
}

static double FN(log_softmax_strip)(const strip_work *work, strip s)
{
    const REAL *restrict x = tm_data(work->node->in[0]);
    REAL *restrict to = tm_data(work->node), max[STRIP], log_sum[STRIP];
    double sum[STRIP];
    FN(exp_strip)(s, x, to, max, sum, NULL);
    for (int64_t q = 0; q < s.count; q++)
        log_sum[q] = FN(log)((REAL)sum[q]);
    FOR_STRIP(s, to[i] = x[i] - max[q] - log_sum[q]);
    return 0;
}

/* dx = y (dy - sum(dy y)) */
static double FN(softmax_flow)(const strip_work *work, strip s)
{
    const REAL *restrict y = tm_data(work->node), *restrict dy = tm_grad_data(work->node);
    REAL *restrict dx = work->dx, sum[STRIP];
    const int add = work->add;
    FN(sum_strip)(s, dy, y, sum);
    FOR_STRIP(s, dx[i] = FLOW(dy[i] - sum[q], y[i]) + (add ? dx[i] : 0));
    return 0;
}

/* dx = dy - exp(y) sum(dy) */
static double FN(log_softmax_flow)(const strip_work *work, strip s)
{
    const REAL *restrict y = tm_data(work->node), *restrict dy = tm_grad_data(work->node);
    REAL *restrict dx = work->dx, sum[STRIP];
    const int add = work->add;
    FN(sum_strip)(s, dy, NULL, sum);
    FOR_STRIP(s, dx[i] = dy[i] - FLOW(sum[q], FN(exp)(y[i])) + (add ? dx[i] : 0));
    return 0;
}

#define SOFTMAX(op)                                                                                                    \
    static int FN(op##_forward)(tm_node *y)                                                                            \
    {                                                                                                                  \
        each_strip(&(strip_work){.run = FN(op##_strip), .node = y}, y, (int)tm_attr(y)[0]);                            \
        return 0;                                                                                                      \
    }                                                                                                                  \
    static int FN(op##_backward)(tm_node *y)                                                                           \
    {                                                                                                                  \
        strip_work work = {.run = FN(op##_flow), .node = y};                                                           \
        if ((work.dx = tm_grad_open(y->in[0], &work.add)))                                                             \
            each_strip(&work, y, (int)tm_attr(y)[0]);                                                                  \
        return 0;                                                                                                      \
    }
SOFTMAX(softmax)
SOFTMAX(log_softmax)
#undef SOFTMAX

/* Some columns of logsumexp: max + log(sum(exp(x - max))), where an infinite maximum is not subtracted. */
static void FN(fold_powers)(int64_t n, int64_t width, int64_t stride, const REAL *x, REAL *y)
{
    REAL max[REDUCE_COLUMNS];
    FN(fold_max)(n, width, stride, x, max);
    for (int64_t i = 0; i < width; i++)
        max[i] = isinf(max[i]) ? 0 : max[i];
    FN(fold_powers_of)(n, width, stride, x, max, y);
    for (int64_t i = 0; i < width; i++)
        y[i] = max[i] + FN(log)(y[i]);
}

static int FN(logsumexp_forward)(tm_node *y)
{
    return FN(reduce)(y, 1, FN(fold_powers));
}

/* dx = dy exp(x - y) */
static void FN(powers_flow)(const FN(slab_columns) *c)
{
    FN(flow)(FN(flow_powers), c, c->ys, c->dys);
}

static int FN(logsumexp_backward)(tm_node *y)
{
    return FN(reduce_backward)(y, 1, 0, FN(powers_flow));
}

#endif
