/* Reductions: sum, mean, prod, max, min, var, argmax, argmin; and cumsum, which walks the same way. */

#if defined(RULES)

/* Brings the axes, attributes `first` and after, to the form 0..rank-1. A 0-d input takes axis 0 or -1, and
 * then has none. */
static int reduced_axes(tm_call *call, int first)
{
    const tm_node *x = call->in[0];
    unsigned seen = 0;
    for (int i = first; i < call->n_attr; i++) {
        int axis = tm_axis(call, call->attr[i], x->rank ? x->rank : 1);
        if (axis < 0)
            return -1;
        if (seen >> axis & 1)
            return tm_fail(TM_VALUE_ERROR, "%s: axis %d is given twice for shape %s; give each axis once",
                           call->op->name, axis, tm_shape_of(x).text);
        seen |= 1u << axis;
        call->attr[i] = axis;
    }
    if (!x->rank)
        call->n_attr = first;
    return 0;
}

/* Which dimensions are reduced, one bit each; all when no axis is given. */
static unsigned reduced_mask(const double *attr, int first, int n_attr)
{
    unsigned mask = first < n_attr ? 0 : ~0u;
    for (int i = first; i < n_attr; i++)
        mask |= 1u << (int)attr[i];
    return mask;
}

/* attributes: up to `first` the op's own, of which keepdim is the last; axes */
static int reduced_shape(tm_call *call, int first)
{
    const tm_node *x = call->in[0];
    if (reduced_axes(call, first))
        return -1;
    const unsigned mask = reduced_mask(call->attr, first, call->n_attr);
    const int keepdim = call->attr[first - 1] != 0;
    call->dtype = x->dtype;
    for (int d = 0; d < x->rank; d++)
        if (!(mask >> d & 1))
            call->shape[call->rank++] = tm_shape(x)[d];
        else if (keepdim)
            call->shape[call->rank++] = 1;
    return 0;
}

/* attributes: keepdim, axes */
static int reduce_rule(tm_call *call)
{
    return reduced_shape(call, 1);
}

/* The same for ops without a value for no elements. */
static int extremum_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    if (reduced_shape(call, 1))
        return -1;
    const unsigned mask = reduced_mask(call->attr, 1, call->n_attr);
    for (int d = 0; d < x->rank; d++)
        if ((mask >> d & 1) && !tm_shape(x)[d])
            return tm_fail(TM_VALUE_ERROR, "%s: no elements along axis %d of shape %s, expected one or more; "
                           "leave empty tensors out", call->op->name, d, tm_shape_of(x).text);
    return 0;
}

/* attributes: correction, keepdim, axes */
static int var_rule(tm_call *call)
{
    return reduced_shape(call, 2);
}

/* attributes: keepdim, at most one axis */
static int arg_rule(tm_call *call)
{
    if (call->n_attr > 2)
        return tm_fail(TM_VALUE_ERROR, "%s: got %d axes, expected one, or none for the place among all; "
                       "flatten() the axes into one", call->op->name, call->n_attr - 1);
    if (extremum_rule(call))
        return -1;
    call->dtype = TM_I64;
    return 0;
}

/* attributes: axis */
static int cumsum_rule(tm_call *call)
{
    if (call->n_attr != 1)
        return tm_fail(TM_VALUE_ERROR, "cumsum: got %d axes, expected one", call->n_attr);
    return reduced_axes(call, 0) ? -1 : tm_rule_like_input(call);
}

/* x as `outer` slabs of n rows of `inner` elements; each slab becomes one row of the result. Neighbouring
 * dimensions of one kind are merged. Where kept dimensions stand between reduced ones, slabs are scattered:
 * made of runs that do not follow one another. */
typedef struct {
    int64_t outer, n, inner;
    int scattered;
    tm_loop slabs; /* the kept dimensions outside the rows: where each slab starts */
    tm_loop runs;  /* the reduced dimensions; the run is the innermost dimension of all, reduced or kept */
} reduce_plan;

static void reduce_start(reduce_plan *r, const tm_node *y, int first)
{
    const tm_node *x = y->in[0];
    const unsigned mask = reduced_mask(tm_attr(y), first, y->n_attributes);
    int64_t stride = 1, *extent = NULL;
    int merging = -1, reduced_groups = 0;
    r->outer = r->n = r->inner = r->runs.extent[0] = 1;
    r->slabs.n = r->runs.n = r->slabs.rank = r->runs.rank = 1;
    r->slabs.at[0] = r->runs.at[0] = 0;
    for (int d = x->rank - 1; d >= 0; d--) {
        const int64_t here = tm_shape(x)[d];
        const int reduced = mask >> d & 1;
        if (here == 1)
            continue;
        if (merging != reduced) {
            tm_loop *loop = reduced || !extent ? &r->runs : &r->slabs;
            const int k = extent ? loop->rank++ : 0;
            loop->stride[0][k] = stride;
            loop->index[k] = 0;
            loop->extent[k] = 1;
            extent = &loop->extent[k];
            reduced_groups += reduced;
            merging = reduced;
        }
        *extent *= here;
        stride *= here;
        if (reduced)
            r->n *= here;
        else if (extent == r->runs.extent)
            r->inner *= here;
        else
            r->outer *= here;
    }
    r->runs.run = r->runs.extent[0];
    r->runs.runs = r->runs.run ? r->n * r->inner / r->runs.run : 0;
    r->scattered = x->size && reduced_groups > 1;
}

/* What is made of the elements of a column; some kinds have a number a for each column. */
enum {
    REDUCE_SUM,
    REDUCE_PROD,
    REDUCE_MAX,
    REDUCE_MIN,
    REDUCE_SQUARES, /* sum of (x - a)^2 */
    REDUCE_POWERS,  /* sum of e^(x - a) */
    REDUCE_AT_MAX,  /* number of x that are not below a, the largest */
    REDUCE_AT_MIN,
};

enum {
    REDUCE_LANES = 32,     /* the independent results that a few columns are spread over */
    REDUCE_ROWS = 128,     /* rows joined in the dtype; the results of such blocks are joined in double */
    REDUCE_COLUMNS = 1024, /* columns at a time: what is kept for each stays in the first-level cache */
    REDUCE_RESULTS = 4096, /* of tasks that share columns, at a time */
};

/* How many of n rows one task folds; all of them unless they are many. */
static int64_t fold_part(int64_t n, int64_t width)
{
    enum { PART = 4 * TM_PART };
    if (n * width <= PART)
        return n;
    const int64_t whole = width < REDUCE_LANES ? REDUCE_ROWS * REDUCE_LANES / width : REDUCE_ROWS;
    const int64_t most = REDUCE_RESULTS / width < TM_MAX_PARTS ? REDUCE_RESULTS / width : TM_MAX_PARTS;
    const int64_t rows = PART / width > n / most ? PART / width : n / most;
    return (rows / whole + 1) * whole;
}

/* How many columns to take from column i on. */
static int64_t columns_left(const reduce_plan *r, int64_t i)
{
    return r->inner - i < REDUCE_COLUMNS ? r->inner - i : REDUCE_COLUMNS;
}

/* The work on slabs comes in units, some columns of a slab each, of which a task takes several if they are small. */
typedef struct {
    int64_t per_slab, part; /* units of a slab and of a task */
    int64_t tasks;
} reduce_units;

static reduce_units units_of(const reduce_plan *r)
{
    const int64_t columns = r->inner < REDUCE_COLUMNS ? r->inner : REDUCE_COLUMNS, size = r->n * columns;
    reduce_units u = {.per_slab = tm_parts(r->inner, REDUCE_COLUMNS)};
    const int64_t units = r->outer * u.per_slab;
    /* A scattered slab is copied once for all of its columns. */
    int64_t least = size && size < TM_PART ? TM_PART / size : 1;
    if (r->scattered)
        least = (least + u.per_slab - 1) / u.per_slab * u.per_slab;
    u.part = tm_part(units, least);
    u.tasks = tm_parts(units, u.part);
    return u;
}

/* The units of one task. */
typedef struct {
    int64_t left, slab, column;
} reduce_walk;

static inline reduce_walk start_units(const reduce_plan *r, const reduce_units *u, int64_t task)
{
    const int64_t first = task * u->part, left = r->outer * u->per_slab - first;
    return (reduce_walk){left < u->part ? left : u->part, first / u->per_slab, first % u->per_slab * REDUCE_COLUMNS};
}

static inline void next_unit(reduce_walk *w, const reduce_plan *r)
{
    w->left--;
    w->column += REDUCE_COLUMNS;
    if (w->column >= r->inner) {
        w->column = 0;
        w->slab++;
    }
}

/* For a task that failed, on a thread of its own. */
static int reduce_failed(const reduce_plan *r, size_t item)
{
    return tm_fail_memory("a reduction", (unsigned long long)(r->n * r->inner) * item);
}

#elif defined(ROWS)

#define REDUCE_ROW(op, attributes, check, forwards, ...)                                                     \
    {.name = #op, .min_in = 1, .max_in = 1, .min_attr = attributes, .promote = 1, .rule = check,             \
     .forward = {forwards(op##_forward)}, .backward = {__VA_ARGS__}},
REDUCE_ROW(sum, 1, reduce_rule, NUMBERS, FLOATS(sum_backward))
REDUCE_ROW(mean, 1, reduce_rule, FLOATS, FLOATS(mean_backward))
REDUCE_ROW(prod, 1, reduce_rule, NUMBERS, FLOATS(prod_backward))
REDUCE_ROW(max, 1, extremum_rule, NUMBERS, FLOATS(max_backward))
REDUCE_ROW(min, 1, extremum_rule, NUMBERS, FLOATS(min_backward))
REDUCE_ROW(var, 2, var_rule, FLOATS, FLOATS(var_backward))
REDUCE_ROW(argmax, 1, arg_rule, NUMBERS, NULL)
REDUCE_ROW(argmin, 1, arg_rule, NUMBERS, NULL)
REDUCE_ROW(cumsum, 1, cumsum_rule, NUMBERS, FLOATS(cumsum_backward))
#undef REDUCE_ROW

#elif !REAL_IS_BOOL

/* For what takes a `how` or a function, which are constants everywhere: each use becomes code of its own. */
#define REDUCE_INLINE static inline __attribute__((always_inline))

#if REAL_IS_FLOAT
#define TOTAL double
#define LOWEST ((REAL)-INFINITY)
#define HIGHEST ((REAL)INFINITY)
#define IS_NAN(x) ((x) != (x))
#else
#define TOTAL int64_t
#define LOWEST INT64_MIN
#define HIGHEST INT64_MAX
#define IS_NAN(x) 0
#endif

/* NaN counts as the largest and as the smallest. */
#define BEATS(how, q, p) (((how) == REDUCE_MAX ? (q) > (p) : (q) < (p)) | IS_NAN(q))

/* In this form gcc makes selects of it, not branches. */
REDUCE_INLINE REAL FN(join)(const int how, REAL p, REAL q)
{
    if (how == REDUCE_MAX || how == REDUCE_MIN) {
        const REAL better = (how == REDUCE_MAX ? q > p : q < p) ? q : p;
        return IS_NAN(q) ? q : better;
    }
    return how == REDUCE_PROD ? p * q : p + q;
}

/* What joins with anything to that thing. */
REDUCE_INLINE REAL FN(neutral)(const int how)
{
    return how == REDUCE_PROD ? 1 : how == REDUCE_MAX ? LOWEST : how == REDUCE_MIN ? HIGHEST : 0;
}

/* The term that an element x contributes; a belongs to its column. */
REDUCE_INLINE REAL FN(reduce_term)(const int how, REAL x, REAL a)
{
    switch (how) {
    case REDUCE_SQUARES:
        return (x - a) * (x - a);
#if REAL_IS_FLOAT
    case REDUCE_POWERS:
        return FN(exp)(x - a);
#endif
    case REDUCE_AT_MAX:
        return x < a ? 0 : 1;
    case REDUCE_AT_MIN:
        return x > a ? 0 : 1;
    default:
        return x;
    }
}

/* Joins n rows of `width` elements, `stride` apart, into one. `as` is NULL where terms need none. */
REDUCE_INLINE void FN(fold_rows)(const int how, int64_t n, int64_t width, int64_t stride, const REAL *xs,
                                 const REAL *as, REAL *restrict to)
{
#define TERM(i, row) FN(reduce_term)(how, xs[(i) + (row) * stride], as ? as[i] : 0)
    for (int64_t i = 0; i < width; i++)
        to[i] = FN(neutral)(how);
    for (; n >= 4; n -= 4, xs += 4 * stride)
        for (int64_t i = 0; i < width; i++)
            to[i] = FN(join)(how, to[i], FN(join)(how, FN(join)(how, TERM(i, 0), TERM(i, 1)),
                                                  FN(join)(how, TERM(i, 2), TERM(i, 3))));
    for (; n > 0; n--, xs += stride)
        for (int64_t i = 0; i < width; i++)
            to[i] = FN(join)(how, to[i], TERM(i, 0));
#undef TERM
}

/* The same for many rows: sums and products in blocks, for accuracy. */
REDUCE_INLINE void FN(fold_blocks)(const int how, int64_t n, int64_t width, int64_t stride, const REAL *xs,
                                   const REAL *as, REAL *to)
{
    REAL block[REDUCE_COLUMNS];
    TOTAL total[REDUCE_COLUMNS];
    const int whole = n <= REDUCE_ROWS || how == REDUCE_MAX || how == REDUCE_MIN;
    for (int64_t r = 0; r < n || r == 0; r += REDUCE_ROWS) {
        const int64_t rows = whole || n - r < REDUCE_ROWS ? n - r : REDUCE_ROWS;
        FN(fold_rows)(how, rows, width, stride, xs + r * stride, as, whole ? to : block);
        if (whole)
            return;
        for (int64_t i = 0; i < width; i++)
            total[i] = !r ? block[i] : how == REDUCE_PROD ? total[i] * block[i] : total[i] + block[i];
    }
    for (int64_t i = 0; i < width; i++)
        to[i] = (REAL)total[i];
}

/* How often narrow rows, beside one another, fit into REDUCE_LANES columns. */
REDUCE_INLINE int64_t FN(lane_copies)(int64_t n, int64_t width, int64_t stride)
{
    const int fit = width == stride && width <= REDUCE_LANES / 2 && n * width >= REDUCE_LANES;
    return fit ? REDUCE_LANES / width : 1;
}

/* What belongs to `width` columns, over and over in all lanes. */
REDUCE_INLINE const REAL *FN(lane_columns)(int64_t width, const REAL *from, REAL *restrict to)
{
    for (int64_t lane = 0, i = 0; lane < REDUCE_LANES; lane++, i = i + 1 < width ? i + 1 : 0)
        to[lane] = from[i];
    return to;
}

/* Joins n rows, `copies` at a time as one row of independent lanes, and then the lanes. */
REDUCE_INLINE void FN(fold_lanes)(const int how, int64_t n, int64_t width, int64_t stride, int64_t copies,
                                  const REAL *xs, const REAL *as, REAL *to)
{
    REAL lanes[REDUCE_LANES], as_lanes[REDUCE_LANES];
    const int64_t wide = copies * width, known = wide - n % copies * width;
    const REAL *last = xs + n * width - wide;
    if (copies > 1 && as)
        as = FN(lane_columns)(width, as, as_lanes);
    FN(fold_blocks)(how, n / copies, wide, copies * stride, xs, as, copies > 1 ? lanes : to);
    if (copies == 1)
        return;
    for (int64_t i = 0; i < wide; i++) { /* what is left over, as the end of a whole row */
        const REAL term = FN(reduce_term)(how, last[i], as ? as[i] : 0);
        lanes[i] = FN(join)(how, lanes[i], i < known ? FN(neutral)(how) : term);
    }
    for (int64_t half; copies > 1; copies -= half) {
        half = copies / 2;
        for (int64_t i = 0, upper = (copies - half) * width; i < half * width; i++)
            lanes[i] = FN(join)(how, lanes[i], lanes[upper + i]);
    }
    for (int64_t i = 0; i < width; i++)
        to[i] = lanes[i];
}

/* Joins n rows of `width` elements, `stride` apart, into one. */
typedef void FN(fold_rows_of)(int64_t n, int64_t width, int64_t stride, const REAL *xs, const REAL *as, REAL *to);

typedef struct {
    FN(fold_rows_of) *fold;
    int64_t n, width, stride, part;
    const REAL *xs, *as;
    REAL *results; /* `width` for each part */
} FN(fold_work);

static void FN(fold_task)(void *context, int64_t task)
{
    const FN(fold_work) *work = context;
    const int64_t first = task * work->part, left = work->n - first;
    work->fold(left < work->part ? left : work->part, work->width, work->stride, work->xs + first * work->stride,
               work->as, work->results + task * work->width);
}

/* In parts of rows. Their results wait on the stack: what is folded may lie in the scratch space. */
static __attribute__((noinline)) void FN(fold_parts)(const int how, FN(fold_rows_of) *fold, int64_t n, int64_t width,
                                                     int64_t stride, const REAL *xs, const REAL *as, REAL *to)
{
    REAL results[REDUCE_RESULTS], *from = results;
    TOTAL total[REDUCE_COLUMNS];
    FN(fold_work) work = {fold, n, width, stride, fold_part(n, width), xs, as, results};
    const int64_t parts = tm_parts(n, work.part);
    tm_parallel_parts(parts, n * width / 2, FN(fold_task), &work);
    for (int64_t i = 0; i < width; i++)
        total[i] = from[i];
    for (int64_t part = 1; part < parts; part++) {
        from += width;
        for (int64_t i = 0; i < width; i++)
            if (how == REDUCE_MAX || how == REDUCE_MIN)
                total[i] = FN(join)(how, (REAL)total[i], from[i]);
            else
                total[i] = how == REDUCE_PROD ? total[i] * from[i] : total[i] + from[i];
    }
    for (int64_t i = 0; i < width; i++)
        to[i] = (REAL)total[i];
}

#define FOLD(name, how)                                                                                      \
    static __attribute__((noinline)) void FN(name)(int64_t n, int64_t width, int64_t stride, const REAL *xs, \
                                                   const REAL *as, REAL *to)                                 \
    {                                                                                                        \
        if (n > fold_part(n, width)) {                                                                       \
            FN(fold_parts)(how, FN(name), n, width, stride, xs, as, to);                                     \
        } else if (width > 1 || stride > 1) {                                                                \
            FN(fold_lanes)(how, n, width, stride, FN(lane_copies)(n, width, stride), xs, as, to);            \
        } else if (n >= REDUCE_LANES) {                                                                      \
            FN(fold_lanes)(how, n, 1, 1, REDUCE_LANES, xs, as, to); /* much faster for the constants */      \
        } else {                                                                                             \
            REAL joined = FN(neutral)(how);                                                                  \
            for (int64_t r = 0; r < n; r++)                                                                  \
                joined = FN(join)(how, joined, FN(reduce_term)(how, xs[r], as ? *as : 0));                   \
            *to = joined;                                                                                    \
        }                                                                                                    \
    }

/* Copies a scattered slab together, and goes on to the next; r->runs is at its start again. */
static const REAL *FN(slab_gather)(reduce_plan *r, const REAL *xs, REAL *copy)
{
    r->runs.at[0] = r->slabs.at[0];
    tm_loop_next(&r->slabs);
    for (int64_t k = 0; k < r->runs.runs; k++, tm_loop_next(&r->runs))
        memcpy(copy + k * r->runs.run, xs + r->runs.at[0], (size_t)r->runs.run * sizeof *copy);
    return copy;
}

/* Reduces some columns of a slab. */
typedef void FN(fold_columns)(int64_t n, int64_t width, int64_t stride, const REAL *xs, REAL *ys);

typedef struct {
    const reduce_plan *plan;
    reduce_units units;
    FN(fold_columns) *fold;
    const REAL *xs;
    REAL *ys;
    int failed;
} FN(reduce_work);

static void FN(reduce_task)(void *context, int64_t task)
{
    FN(reduce_work) *work = context;
    const reduce_plan *r = work->plan;
    reduce_walk w = start_units(r, &work->units, task);
    REAL *copy = NULL;
    reduce_plan own;
    if (r->scattered) {
        own = *r;
        r = &own;
        tm_loop_seek(&own.slabs, w.slab);
        if (!(copy = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(r->n * r->inner) * sizeof *copy))) {
            __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
            return;
        }
    }
    const REAL *from = NULL;
    for (; w.left; next_unit(&w, r)) {
        if (!from || !w.column)
            from = r->scattered ? FN(slab_gather)(&own, work->xs, copy) : work->xs + w.slab * r->n * r->inner;
        work->fold(r->n, columns_left(r, w.column), r->inner, from + w.column, work->ys + w.slab * r->inner + w.column);
    }
}

static int FN(reduce)(tm_node *y, int first, FN(fold_columns) *fold)
{
    reduce_plan r;
    reduce_start(&r, y, first);
    FN(reduce_work) work = {&r, units_of(&r), fold, tm_data(y->in[0]), tm_data(y), 0};
    tm_parallel_parts(work.units.tasks, y->in[0]->size / 2, FN(reduce_task), &work);
    return work.failed ? reduce_failed(&r, sizeof(REAL)) : 0;
}

#define REDUCE(op, how)                                                                                      \
    FOLD(fold_##op##_of, how)                                                                                \
    static void FN(fold_##op)(int64_t n, int64_t width, int64_t stride, const REAL *xs, REAL *to)            \
    {                                                                                                        \
        FN(fold_##op##_of)(n, width, stride, xs, NULL, to);                                                  \
    }                                                                                                        \
    static int FN(op##_forward)(tm_node *y)                                                                  \
    {                                                                                                        \
        return FN(reduce)(y, 1, FN(fold_##op));                                                              \
    }
REDUCE(sum, REDUCE_SUM)
REDUCE(prod, REDUCE_PROD)
REDUCE(max, REDUCE_MAX)
REDUCE(min, REDUCE_MIN)
#undef REDUCE

#if REAL_IS_FLOAT
FOLD(fold_squares_of, REDUCE_SQUARES)
FOLD(fold_powers_of, REDUCE_POWERS)
FOLD(fold_at_max, REDUCE_AT_MAX)
FOLD(fold_at_min, REDUCE_AT_MIN)
#endif
#undef FOLD

/* The place of the best of n elements that stand side by side: of the best block first, then in it. */
REDUCE_INLINE int64_t FN(arg_run)(const int how, int64_t n, const REAL *xs)
{
    enum { BLOCK = 1024 };
    REAL best = xs[0], joined;
    int64_t at = 0;
    FN(fold_columns) *fold = how == REDUCE_MAX ? FN(fold_max) : FN(fold_min);
    for (int64_t i = 0; i < n && !IS_NAN(best); i += BLOCK) {
        fold(n - i < BLOCK ? n - i : BLOCK, 1, 1, xs + i, &joined);
        if (BEATS(how, joined, best)) {
            best = joined;
            at = i;
        }
    }
    if (IS_NAN(best)) {
        while (!IS_NAN(xs[at]))
            at++;
        return at;
    }
    for (int found = 0; at + REDUCE_LANES <= n; at += REDUCE_LANES) {
        for (int lane = 0; lane < REDUCE_LANES; lane++)
            found |= xs[at + lane] == best;
        if (found)
            break;
    }
    while (xs[at] != best)
        at++;
    return at;
}

REDUCE_INLINE void FN(arg_columns)(const int how, int64_t n, int64_t width, int64_t stride, const REAL *xs,
                                   int64_t *restrict to)
{
    REAL best[REDUCE_COLUMNS];
    for (int64_t i = 0; i < width; i++) {
        best[i] = xs[i];
        to[i] = 0;
    }
    for (int64_t r = 1; r < n; r++)
        for (int64_t i = 0; i < width; i++) {
            const REAL x = xs[r * stride + i];
            const int beats = BEATS(how, x, best[i]) & !IS_NAN(best[i]);
            best[i] = beats ? x : best[i];
            to[i] = beats ? r : to[i];
        }
}

typedef struct {
    const reduce_plan *plan;
    reduce_units units;
    const REAL *xs;
    int64_t *to;
} FN(arg_work);

REDUCE_INLINE void FN(arg_task)(const int how, const FN(arg_work) *work, int64_t task)
{
    const reduce_plan *r = work->plan;
    for (reduce_walk w = start_units(r, &work->units, task); w.left; next_unit(&w, r)) {
        const REAL *xs = work->xs + w.slab * r->n * r->inner + w.column;
        int64_t *to = work->to + w.slab * r->inner + w.column;
        if (r->inner == 1)
            *to = FN(arg_run)(how, r->n, xs);
        else
            FN(arg_columns)(how, r->n, columns_left(r, w.column), r->inner, xs, to);
    }
}

static void FN(argmax_task)(void *work, int64_t task)
{
    FN(arg_task)(REDUCE_MAX, work, task);
}

static void FN(argmin_task)(void *work, int64_t task)
{
    FN(arg_task)(REDUCE_MIN, work, task);
}

static int FN(arg)(tm_node *y, void (*task)(void *work, int64_t task))
{
    reduce_plan r;
    reduce_start(&r, y, 1);
    FN(arg_work) work = {&r, units_of(&r), tm_data(y->in[0]), tm_data(y)};
    tm_parallel_parts(work.units.tasks, y->in[0]->size, task, &work);
    return 0;
}

static int FN(argmax_forward)(tm_node *y)
{
    return FN(arg)(y, FN(argmax_task));
}

static int FN(argmin_forward)(tm_node *y)
{
    return FN(arg)(y, FN(argmin_task));
}

/* Running sums of n rows, `step` apart and step < 0 for the way back; written, or added to what is there. */
REDUCE_INLINE void FN(scan_columns)(int64_t n, int64_t width, int64_t step, const REAL *from,
                                    REAL *restrict to, int add)
{
    TOTAL total[REDUCE_COLUMNS];
    for (int64_t i = 0; i < width; i++)
        total[i] = 0;
    for (int64_t r = 0; r < n; r++, from += step, to += step)
        for (int64_t i = 0; i < width; i++) {
            total[i] += from[i];
            to[i] = add ? to[i] + (REAL)total[i] : (REAL)total[i];
        }
}

typedef struct {
    const reduce_plan *plan;
    reduce_units units;
    const REAL *from;
    REAL *to;
    int back, add;
} FN(scan_work);

static void FN(scan_task)(void *context, int64_t task)
{
    const FN(scan_work) *work = context;
    const reduce_plan *r = work->plan;
    const int64_t size = r->n * r->inner, start = work->back ? size - r->inner : 0;
    const int64_t step = work->back ? -r->inner : r->inner;
    for (reduce_walk w = start_units(r, &work->units, task); w.left; next_unit(&w, r)) {
        const int64_t width = columns_left(r, w.column), at = w.slab * size + start + w.column;
        if (width == 1) /* the total in a register */
            FN(scan_columns)(r->n, 1, step, work->from + at, work->to + at, work->add);
        else
            FN(scan_columns)(r->n, width, step, work->from + at, work->to + at, work->add);
    }
}

static void FN(scan)(const tm_node *y, const REAL *from, REAL *to, int back, int add)
{
    reduce_plan r;
    reduce_start(&r, y, 0);
    FN(scan_work) work = {&r, units_of(&r), from, to, back, add};
    tm_parallel_parts(work.units.tasks, y->size, FN(scan_task), &work);
}

static int FN(cumsum_forward)(tm_node *y)
{
    FN(scan)(y, tm_data(y->in[0]), tm_data(y), 0, 0);
    return 0;
}

#if REAL_IS_FLOAT

/* Reduced elements per element of the result. */
static double FN(reduced_count)(const tm_node *y)
{
    return (double)y->in[0]->size / (double)y->size;
}

static void FN(divide_all)(int64_t n, REAL *ys, double divisor)
{
    for (int64_t i = 0; i < n; i++)
        ys[i] /= (REAL)divisor;
}

static int FN(mean_forward)(tm_node *y)
{
    if (FN(sum_forward)(y))
        return -1;
    FN(divide_all)(y->size, tm_data(y), FN(reduced_count)(y));
    return 0;
}

/* Two passes, because the difference of large sums of squares would be mostly rounding. */
static void FN(fold_squares)(int64_t n, int64_t width, int64_t stride, const REAL *xs, REAL *to)
{
    REAL means[REDUCE_COLUMNS];
    FN(fold_sum)(n, width, stride, xs, means);
    FN(divide_all)(width, means, (double)n);
    FN(fold_squares_of)(n, width, stride, xs, means, to);
}

static double FN(var_divisor)(const tm_node *y)
{
    return fmax(FN(reduced_count)(y) - tm_attr(y)[0], 0);
}

static int FN(var_forward)(tm_node *y)
{
    if (FN(reduce)(y, 2, FN(fold_squares)))
        return -1;
    FN(divide_all)(y->size, tm_data(y), FN(var_divisor)(y));
    return 0;
}

/* Some columns of a slab on the way back. */
typedef struct {
    int64_t n, width, stride;
    const REAL *xs, *ys, *dys;
    REAL *dxs, *work; /* work: room for n * width elements, for ops that ask for it */
    int add;
    double correction; /* var's */
} FN(slab_columns);
typedef void FN(flow_columns)(const FN(slab_columns) *c);

/* What flows to an element x from its column, whose gradient is g. */
REDUCE_INLINE REAL FN(flow_term)(const int how, REAL x, REAL a, REAL g)
{
    switch (how) {
    case REDUCE_SQUARES:
        return FLOW(g, x - a);
    case REDUCE_POWERS:
        return FLOW(g, FN(exp)(x - a));
    case REDUCE_AT_MAX:
        return x < a ? 0 : g;
    case REDUCE_AT_MIN:
        return x > a ? 0 : g;
    default:
        return g;
    }
}

/* `size` elements in rows of `width`, `stride` apart; as and gs step by 1 or by 0 from column to column. */
REDUCE_INLINE void FN(flow_rows)(const int how, int64_t size, int64_t width, int64_t stride, const REAL *xs,
                                 const REAL *as, const REAL *gs, const int step, REAL *restrict dxs, int add)
{
    for (; size > 0; size -= width, xs += stride, dxs += stride) {
        const int64_t n = size < width ? size : width;
        if (add)
            for (int64_t i = 0; i < n; i++)
                dxs[i] += FN(flow_term)(how, xs[i], as ? as[i * step] : 0, gs[i * step]);
        else
            for (int64_t i = 0; i < n; i++)
                dxs[i] = FN(flow_term)(how, xs[i], as ? as[i * step] : 0, gs[i * step]);
    }
}

/* FN(flow_rows) of one kind. */
typedef void FN(flow_rows_of)(int64_t size, int64_t width, int64_t stride, const REAL *xs, const REAL *as,
                              const REAL *gs, int step, REAL *dxs, int add);

#define FLOW_ROWS(name, how)                                                                                 \
    static __attribute__((noinline)) void FN(name)(int64_t size, int64_t width, int64_t stride,              \
                                                   const REAL *xs, const REAL *as, const REAL *gs, int step, \
                                                   REAL *dxs, int add)                                       \
    {                                                                                                        \
        if (step)                                                                                            \
            FN(flow_rows)(how, size, width, stride, xs, as, gs, 1, dxs, add);                                \
        else                                                                                                 \
            FN(flow_rows)(how, size, width, stride, xs, as, gs, 0, dxs, add);                                \
    }
FLOW_ROWS(flow_sum, REDUCE_SUM)
FLOW_ROWS(flow_squares, REDUCE_SQUARES)
FLOW_ROWS(flow_powers, REDUCE_POWERS)
FLOW_ROWS(flow_at_max, REDUCE_AT_MAX)
FLOW_ROWS(flow_at_min, REDUCE_AT_MIN)
#undef FLOW_ROWS

typedef struct {
    FN(flow_rows_of) *flow;
    int64_t size, width, stride, part; /* part: in rows */
    const REAL *xs, *as, *gs;
    REAL *dxs;
    int step, add;
} FN(flow_rows_work);

static void FN(flow_rows_task)(void *context, int64_t task)
{
    const FN(flow_rows_work) *work = context;
    const int64_t first = task * work->part, most = work->part * work->width, left = work->size - first * work->width;
    work->flow(left < most ? left : most, work->width, work->stride, work->xs + first * work->stride, work->as,
               work->gs, work->step, work->dxs + first * work->stride, work->add);
}

/* Many rows, in parts. */
static __attribute__((noinline)) void FN(flow_in_parts)(FN(flow_rows_work) work)
{
    const int64_t rows = tm_parts(work.size, work.width);
    work.part = tm_part(rows, work.width < TM_PART ? TM_PART / work.width : 1);
    tm_parallel_parts(tm_parts(rows, work.part), work.size, FN(flow_rows_task), &work);
}

static void FN(flow)(FN(flow_rows_of) *flow, const FN(slab_columns) *c, const REAL *as, const REAL *gs)
{
    const int64_t size = c->n * c->width;
    if (c->stride == 1) { /* a single column; rows are as long as a part may be */
        if (size <= TM_PART)
            flow(size, size, size, c->xs, as, gs, 0, c->dxs, c->add);
        else
            FN(flow_in_parts)((FN(flow_rows_work)){flow, size, TM_PART, TM_PART, 0, c->xs, as, gs, c->dxs, 0, c->add});
        return;
    }
    REAL as_lanes[REDUCE_LANES], gs_lanes[REDUCE_LANES];
    const int64_t copies = FN(lane_copies)(c->n, c->width, c->stride);
    const int64_t width = copies * c->width, stride = copies * c->stride;
    if (copies > 1) {
        as = as ? FN(lane_columns)(c->width, as, as_lanes) : NULL;
        gs = FN(lane_columns)(c->width, gs, gs_lanes);
    }
    if (size <= TM_PART)
        flow(size, width, stride, c->xs, as, gs, 1, c->dxs, c->add);
    else
        FN(flow_in_parts)((FN(flow_rows_work)){flow, size, width, stride, 0, c->xs, as, gs, c->dxs, 1, c->add});
}

static void FN(sum_flow)(const FN(slab_columns) *c)
{
    FN(flow)(FN(flow_sum), c, NULL, c->dys);
}

static void FN(mean_flow)(const FN(slab_columns) *c)
{
    REAL gs[REDUCE_COLUMNS];
    for (int64_t i = 0; i < c->width; i++)
        gs[i] = c->dys[i] / (REAL)c->n;
    FN(flow)(FN(flow_sum), c, NULL, gs);
}

/* Those that tie for the extremum have equal shares. Where it is NaN, so is what flows, to all. */
static void FN(extremum_flow)(FN(fold_rows_of) *count, FN(flow_rows_of) *flow, const FN(slab_columns) *c)
{
    REAL gs[REDUCE_COLUMNS];
    count(c->n, c->width, c->stride, c->xs, c->ys, gs);
    for (int64_t i = 0; i < c->width; i++)
        gs[i] = c->dys[i] == 0 ? 0 : IS_NAN(c->ys[i]) ? c->ys[i] : c->dys[i] / gs[i];
    FN(flow)(flow, c, c->ys, gs);
}

static void FN(max_flow)(const FN(slab_columns) *c)
{
    FN(extremum_flow)(FN(fold_at_max), FN(flow_at_max), c);
}

static void FN(min_flow)(const FN(slab_columns) *c)
{
    FN(extremum_flow)(FN(fold_at_min), FN(flow_at_min), c);
}

static void FN(var_flow)(const FN(slab_columns) *c)
{
    REAL means[REDUCE_COLUMNS], gs[REDUCE_COLUMNS];
    FN(fold_sum)(c->n, c->width, c->stride, c->xs, means);
    FN(divide_all)(c->width, means, (double)c->n);
    for (int64_t i = 0; i < c->width; i++)
        gs[i] = FLOW(c->dys[i], (REAL)(2 / fmax((double)c->n - c->correction, 0)));
    FN(flow)(FN(flow_squares), c, means, gs);
}

/* dy times the product of the elements before, from a running product, and that of the elements after, from
 * `work`: right where elements are 0, as a division by x would not be. */
REDUCE_INLINE void FN(prod_columns)(const FN(slab_columns) *c, int64_t width)
{
    const int64_t n = c->n, stride = c->stride;
    const int add = c->add;
    REAL *restrict work = c->work, *restrict dxs = c->dxs, running[REDUCE_COLUMNS];
    for (int64_t i = 0; i < width; i++)
        running[i] = 1;
    for (int64_t r = n - 1; r >= 0; r--)
        for (int64_t i = 0; i < width; i++) {
            work[r * width + i] = running[i];
            running[i] *= c->xs[r * stride + i];
        }
    for (int64_t i = 0; i < width; i++)
        running[i] = 1;
    for (int64_t r = 0; r < n; r++, dxs += stride)
        for (int64_t i = 0; i < width; i++) {
            const REAL dx = FLOW(c->dys[i], running[i] * work[r * width + i]);
            dxs[i] = add ? dxs[i] + dx : dx;
            running[i] *= c->xs[r * stride + i];
        }
}

static void FN(prod_flow)(const FN(slab_columns) *c)
{
    if (c->width == 1)
        FN(prod_columns)(c, 1); /* the running product in a register */
    else
        FN(prod_columns)(c, c->width);
}

/* The way back of FN(slab_gather): the gradient of the slab at hand. */
static void FN(slab_scatter)(reduce_plan *r, const REAL *slab, REAL *dxs, int add)
{
    for (int64_t k = 0; k < r->runs.runs; k++, slab += r->runs.run, tm_loop_next(&r->runs)) {
        REAL *to = dxs + r->runs.at[0];
        for (int64_t i = 0; i < r->runs.run; i++)
            to[i] = add ? to[i] + slab[i] : slab[i];
    }
}

typedef struct {
    tm_node *y;
    const reduce_plan *plan;
    reduce_units units;
    FN(flow_columns) *flow;
    REAL *dxs;
    int add, works, failed;
} FN(reduce_flow_work);

static void FN(reduce_flow_task)(void *context, int64_t task)
{
    FN(reduce_flow_work) *work = context;
    const REAL *xs = tm_data(work->y->in[0]), *ys = tm_data(work->y), *dys = tm_grad_data(work->y), *from = NULL;
    const reduce_plan *r = work->plan;
    const int64_t size = r->n * r->inner;
    const size_t buffers = (r->scattered ? 2 : 0) + (work->works ? 1 : 0);
    reduce_walk w = start_units(r, &work->units, task);
    REAL *room = NULL, *to = NULL;
    reduce_plan own;
    if (buffers && !(room = tm_scratch(TM_SCRATCH_KERNEL, buffers * (size_t)size * sizeof *room))) {
        __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    if (r->scattered) {
        own = *r;
        r = &own;
        tm_loop_seek(&own.slabs, w.slab);
    }
    FN(slab_columns) c = {.n = r->n, .stride = r->inner, .add = work->add && !r->scattered};
    c.work = r->scattered ? room + 2 * size : room;
    c.correction = tm_attr(work->y)[0];
    while (w.left) {
        if (!from || !w.column) {
            from = r->scattered ? FN(slab_gather)(&own, xs, room) : xs + w.slab * size;
            to = r->scattered ? room + size : work->dxs + w.slab * size;
        }
        c.width = columns_left(r, w.column);
        c.xs = from + w.column;
        c.ys = ys + w.slab * r->inner + w.column;
        c.dys = dys + w.slab * r->inner + w.column;
        c.dxs = to + w.column;
        work->flow(&c);
        next_unit(&w, r);
        if (r->scattered && !w.column)
            FN(slab_scatter)(&own, to, work->dxs, work->add);
    }
}

static int FN(reduce_backward)(tm_node *y, int first, int works, FN(flow_columns) *flow)
{
    tm_node *x = y->in[0];
    FN(reduce_flow_work) work = {.y = y, .flow = flow, .works = works};
    if (!(work.dxs = tm_grad_open(x, &work.add)) || !x->size)
        return 0;
    reduce_plan r;
    reduce_start(&r, y, first);
    work.plan = &r;
    work.units = units_of(&r);
    tm_parallel_parts(work.units.tasks, x->size, FN(reduce_flow_task), &work);
    return work.failed ? reduce_failed(&r, sizeof(REAL)) : 0;
}

#define REDUCE(op, first, works)                                                                             \
    static int FN(op##_backward)(tm_node *y)                                                                 \
    {                                                                                                        \
        return FN(reduce_backward)(y, first, works, FN(op##_flow));                                          \
    }
REDUCE(sum, 1, 0)
REDUCE(mean, 1, 0)
REDUCE(prod, 1, 1)
REDUCE(max, 1, 0)
REDUCE(min, 1, 0)
REDUCE(var, 2, 0)
#undef REDUCE

static int FN(cumsum_backward)(tm_node *y)
{
    int add;
    REAL *dxs = tm_grad_open(y->in[0], &add);
    if (dxs)
        FN(scan)(y, tm_grad_data(y), dxs, 1, add);
    return 0;
}

#endif

#undef REDUCE_INLINE
#undef TOTAL
#undef LOWEST
#undef HIGHEST
#undef IS_NAN
#undef BEATS
#endif
