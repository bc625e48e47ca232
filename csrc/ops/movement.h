/* Ops that move elements: reshape, permute and expand; concat and stack, which join. */

#if defined(RULES)

/* The result is of the first input's dtype and has `rank` dimensions. */
static int result_rank(tm_call *call, int rank)
{
    if (rank > TM_MAX_RANK)
        return tm_fail(TM_SHAPE_ERROR, "%s: the result would have %d dimensions, expected at most %d; merge some with reshape()",
                       call->op->name, rank, TM_MAX_RANK);
    call->dtype = call->in[0]->dtype;
    call->rank = rank;
    return 0;
}

/* The result's extents are the attributes; each -1 is left to the rule. */
static int result_extents(tm_call *call)
{
    if (result_rank(call, call->n_attr))
        return -1;
    for (int d = 0; d < call->rank; d++) {
        if (!(call->attr[d] >= -1 && call->attr[d] <= 0x1p53))
            return tm_fail(TM_SHAPE_ERROR, "%s: got extent %g for dimension %d, expected 0 or more, or -1 to work it out",
                           call->op->name, call->attr[d], d);
        call->shape[d] = (int64_t)call->attr[d];
    }
    return 0;
}

/* attributes: the extents, of which one may be -1 */
static int reshape_rule(tm_call *call)
{
    tm_node *x = call->in[0];
    if (result_extents(call))
        return -1;
    int open = -1;
    double known = 1; /* the product of the other extents; no overflow, and exact where it matters */
    for (int d = 0; d < call->rank; d++) {
        if (call->shape[d] >= 0)
            known *= (double)call->shape[d];
        else if (open < 0)
            open = d;
        else
            return tm_fail(TM_SHAPE_ERROR, "reshape: got shape %s, expected at most one -1",
                           tm_shape_show(call->rank, call->shape).text);
    }
    if (open >= 0 && known == 0 && !x->size)
        return tm_fail(TM_SHAPE_ERROR, "reshape: any extent would do for the -1 in %s, as shape %s has no elements; write it out",
                       tm_shape_show(call->rank, call->shape).text, tm_shape_of(x).text);
    double extent = (double)x->size / known;
    int resolved = open >= 0 && known > 0 && extent == floor(extent);
    if (!resolved && known != (double)x->size)
        return tm_fail(TM_SHAPE_ERROR, "reshape: shape %s does not fit shape %s, which has %lld elements; their products must "
                       "be equal, and one extent may be -1", tm_shape_show(call->rank, call->shape).text, tm_shape_of(x).text,
                       (long long)x->size);
    if (resolved) {
        call->shape[open] = (int64_t)extent;
        call->attr[open] = extent;
    }
    call->shares = x;
    return 0;
}

/* attributes: for each dimension of the result, the axis of x it is */
static int permute_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    if (call->n_attr != x->rank)
        return tm_fail(TM_SHAPE_ERROR, "permute: got %d axes for shape %s, expected each of its %d axes once", call->n_attr,
                       tm_shape_of(x).text, x->rank);
    unsigned seen = 0;
    for (int d = 0; d < x->rank; d++) {
        int axis = tm_axis(call, call->attr[d], x->rank);
        if (axis < 0)
            return -1;
        if (seen >> axis & 1)
            return tm_fail(TM_VALUE_ERROR, "permute: got axis %d twice, expected each of 0 to %d once", axis, x->rank - 1);
        seen |= 1u << axis;
        call->attr[d] = axis;
        call->shape[d] = tm_shape(x)[axis];
    }
    return result_rank(call, x->rank);
}

/* attributes: the extents; -1 keeps x's */
static int expand_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    const int lead = call->n_attr - x->rank;
    if (result_extents(call))
        return -1;
    for (int d = 0; d < call->rank && lead >= 0; d++) {
        int64_t own = d < lead ? 1 : tm_shape(x)[d - lead];
        if (call->shape[d] == -1 && d >= lead)
            call->shape[d] = own;
        if (call->shape[d] < 0 || (own != 1 && own != call->shape[d]))
            return tm_fail(TM_SHAPE_ERROR, "expand: shape %s does not expand to %s because of dimension %d; only extents of 1 "
                           "grow, others stay (-1 keeps any), and new dimensions stand first and need an extent",
                           tm_shape_of(x).text, tm_shape_show(call->rank, call->shape).text, d);
        call->attr[d] = (double)call->shape[d];
    }
    if (lead < 0)
        return tm_fail(TM_SHAPE_ERROR, "expand: got %d extents for shape %s, expected at least %d; drop dimensions with "
                       "reshape() first", call->n_attr, tm_shape_of(x).text, x->rank);
    return 0;
}

/* attributes: the axis along which the inputs follow each other */
static int concat_rule(tm_call *call)
{
    const tm_node *first = call->in[0];
    const int axis = tm_axis(call, call->attr[0], first->rank);
    if (axis < 0)
        return -1;
    tm_rule_like_input(call);
    for (int i = 1; i < call->n_in; i++) {
        const tm_node *x = call->in[i];
        int fits = x->rank == first->rank;
        for (int d = 0; d < first->rank && fits; d++)
            fits = d == axis || tm_shape(x)[d] == tm_shape(first)[d];
        if (!fits)
            return tm_fail(TM_SHAPE_ERROR, "concat: input %d has shape %s, which does not continue input 0, of shape %s, along "
                           "axis %d; all other extents must be equal", i, tm_shape_of(x).text, tm_shape_of(first).text, axis);
        call->shape[axis] += tm_shape(x)[axis];
    }
    call->attr[0] = axis;
    return 0;
}

/* attributes: where in the result's shape the new axis stands */
static int stack_rule(tm_call *call)
{
    const tm_node *first = call->in[0];
    const int axis = tm_axis(call, call->attr[0], first->rank + 1);
    if (axis < 0 || result_rank(call, first->rank + 1))
        return -1;
    for (int i = 1; i < call->n_in; i++)
        if (!tm_same_shape(call->in[i], first))
            return tm_fail(TM_SHAPE_ERROR, "stack: input %d has shape %s, expected shape %s, which input 0 has, to stack along "
                           "a new axis %d; concat() joins unequal extents", i, tm_shape_of(call->in[i]).text,
                           tm_shape_of(first).text, axis);
    for (int d = 0; d < call->rank; d++)
        call->shape[d] = d == axis ? call->n_in : tm_shape(first)[d - (d > axis)];
    call->attr[0] = axis;
    return 0;
}

/* What moves at once: rows of columns, with strides of their own where they come from and where they go. */
typedef struct {
    int64_t rows, columns, from_row, from_column, to_row, to_column;
} plane;

/* One dimension of a walk: its extent, and how far apart its elements are in x and in y. */
typedef struct {
    int64_t extent, x, y;
} walk_axis;

/* A walk over a contiguous y and the elements of x that y's come from, plane by plane. */
typedef struct {
    walk_axis row, column;         /* within a plane */
    int64_t planes;                /* how many; 0 when y is empty */
    int64_t x, y;                  /* where the current plane starts in x and in y */
    int rank;                      /* dimensions outside the plane, innermost first */
    walk_axis axes[TM_MAX_RANK];
    int64_t index[TM_MAX_RANK];
} walk;

/* y's first element is x's element `start`; one step along dimension d of y goes stride[d] elements on in x. Neighbouring
 * dimensions that x walks like one are merged. Columns are the innermost dimension, rows the one nearest together in x: for
 * a transposition they are the one contiguous in x. */
static walk walk_start(const tm_node *y, int64_t start, const int64_t *stride)
{
    walk w = {.row = {1, 0, 0}, .column = {1, 1, 1}, .x = start};
    int n = 0, row = 1;
    for (int64_t d = y->rank - 1, step = 1; d >= 0; step *= tm_shape(y)[d--]) {
        int64_t extent = tm_shape(y)[d];
        if (extent == 1)
            continue;
        if (n && stride[d] == w.axes[n - 1].x * w.axes[n - 1].extent)
            w.axes[n - 1].extent *= extent;
        else
            w.axes[n++] = (walk_axis){extent, stride[d], step};
    }
    for (int i = 2; i < n; i++)
        if (fabs((double)w.axes[i].x) < fabs((double)w.axes[row].x))
            row = i;
    if (n > 0)
        w.column = w.axes[0];
    if (n > 1)
        w.row = w.axes[row];
    for (int i = 1; i < n; i++)
        if (i != row)
            w.axes[w.rank++] = w.axes[i];
    w.planes = y->size ? y->size / (w.row.extent * w.column.extent) : 0;
    return w;
}

static void walk_next(walk *w)
{
    for (int d = 0; d < w->rank; d++) {
        const walk_axis *axis = &w->axes[d];
        w->x += axis->x;
        w->y += axis->y;
        if (++w->index[d] < axis->extent)
            return;
        w->x -= axis->x * axis->extent;
        w->y -= axis->y * axis->extent;
        w->index[d] = 0;
    }
}

/* The distance in elements between neighbours along each dimension. */
static void contiguous_strides(const tm_node *x, int64_t *stride)
{
    int64_t step = 1;
    for (int d = x->rank - 1; d >= 0; step *= tm_shape(x)[d--])
        stride[d] = step;
}

static walk permute_walk(tm_node *y)
{
    int64_t own[TM_MAX_RANK], stride[TM_MAX_RANK];
    contiguous_strides(y->in[0], own);
    for (int d = 0; d < y->rank; d++)
        stride[d] = own[(int)tm_attr(y)[d]];
    return walk_start(y, 0, stride);
}

static walk expand_walk(tm_node *y)
{
    const tm_node *x = y->in[0];
    const int lead = y->rank - x->rank;
    int64_t own[TM_MAX_RANK], stride[TM_MAX_RANK];
    contiguous_strides(x, own);
    for (int d = 0; d < y->rank; d++)
        stride[d] = d < lead || tm_shape(x)[d - lead] == 1 ? 0 : own[d - lead];
    return walk_start(y, 0, stride);
}

#elif defined(ROWS)

{.name = "reshape", .min_in = 1, .max_in = 1, .rule = reshape_rule,
 .forward = {ALL(reshape_forward)}, .backward = {FLOATS(reshape_backward)}},
{.name = "permute", .min_in = 1, .max_in = 1, .rule = permute_rule,
 .forward = {ALL(permute_forward)}, .backward = {FLOATS(permute_backward)}},
{.name = "expand", .min_in = 1, .max_in = 1, .rule = expand_rule,
 .forward = {ALL(expand_forward)}, .backward = {FLOATS(expand_backward)}},
{.name = "concat", .min_in = 1, .max_in = TM_ANY, .min_attr = 1, .promote = TM_ANY, .rule = concat_rule,
 .forward = {ALL(join_forward)}, .backward = {FLOATS(join_backward)}},
{.name = "stack", .min_in = 1, .max_in = TM_ANY, .min_attr = 1, .promote = TM_ANY, .rule = stack_rule,
 .forward = {ALL(join_forward)}, .backward = {FLOATS(join_backward)}},

#else

/* Part of a transposition, at most TILE x TILE. It goes through a small array, so that x's cache lines and y's, which may
 * all fall into the same few places of the cache, are each touched once. */
#define TILE (int)(64 / sizeof(REAL))
static inline void FN(move_tile)(int64_t rows, int64_t columns, const REAL *restrict from, int64_t from_column,
                                 REAL *restrict to, int64_t to_row, int add)
{
    REAL tile[TILE][TILE];
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            tile[c][r] = from[c * from_column + r];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[r * to_row + c] = tile[c][r] + (add ? to[r * to_row + c] : 0);
}

static void FN(move_transposed)(plane p, const REAL *from, REAL *to, int add)
{
    for (int64_t r = 0; r < p.rows; r += TILE)
        for (int64_t c = 0; c < p.columns; c += TILE) {
            const REAL *source = from + c * p.from_column + r;
            REAL *target = to + r * p.to_row + c;
            int64_t rows = p.rows - r < TILE ? p.rows - r : TILE, columns = p.columns - c < TILE ? p.columns - c : TILE;
            if (rows == TILE && columns == TILE && !add) /* constants, for the compiler to unroll */
                FN(move_tile)(TILE, TILE, source, p.from_column, target, p.to_row, 0);
            else
                FN(move_tile)(rows, columns, source, p.from_column, target, p.to_row, add);
        }
}
#undef TILE

static inline void FN(run_copy)(int64_t n, const REAL *restrict from, int64_t from_step, REAL *restrict to, int64_t to_step)
{
    const REAL first = *from;
    if (to_step != 1)
        for (int64_t i = 0; i < n; i++)
            to[i * to_step] = from[i * from_step];
    else if (from_step == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (from_step == 0)
        for (int64_t i = 0; i < n; i++)
            to[i] = first;
    else if (from_step == -1)
        for (int64_t i = 0; i < n; i++)
            to[i] = from[-i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i * from_step];
}

#if REAL_IS_FLOAT

static inline void FN(run_add)(int64_t n, const REAL *restrict from, int64_t from_step, REAL *restrict to, int64_t to_step)
{
    REAL sum;
    if (from_step == 1 && to_step == 1)
        FN(add_terms)(n, from, to, 1, 1);
    else if (from_step == 1 && to_step == 0) {
        FN(fold_sum)(n, 1, 1, from, &sum);
        *to += sum;
    } else
        for (int64_t i = 0; i < n; i++)
            to[i * to_step] += from[i * from_step];
}

/* Adds up rows that all go to one place, where columns are 1 or 0 apart. */
static void FN(add_rows)(plane p, const REAL *from, REAL *to)
{
    REAL sums[REDUCE_COLUMNS];
    for (int64_t c = 0; c < p.columns; c += REDUCE_COLUMNS) {
        const int64_t columns = p.columns - c < REDUCE_COLUMNS ? p.columns - c : REDUCE_COLUMNS;
        FN(fold_sum)(p.rows, columns, p.from_row, from + c, sums);
        FN(run_add)(columns, sums, 1, to + c * p.to_column, p.to_column);
    }
}

#endif

/* Copies one plane, or adds it to what is there (floats only). Elements go to one place several times only if added. */
static void FN(move)(plane p, const REAL *from, REAL *to, int add)
{
    enum { SHORT = 8 }; /* a loop not worth starting */
    const int narrow = p.rows < SHORT || p.columns < SHORT;
#if REAL_IS_FLOAT
    if (add && p.to_row == 0 && p.rows > 1) {
        FN(add_rows)(p, from, to);
        return;
    }
#endif
    if (narrow ? p.rows > p.columns : p.to_row == 1 && p.to_column > 1)
        p = (plane){p.columns, p.rows, p.from_column, p.from_row, p.to_column, p.to_row};
    if (!narrow && p.from_row == 1 && p.from_column > 1 && p.to_column == 1) {
        FN(move_transposed)(p, from, to, add);
        return;
    }
    for (int64_t r = 0; r < p.rows; r++, from += p.from_row, to += p.to_row)
#if REAL_IS_FLOAT
        if (add)
            FN(run_add)(p.columns, from, p.from_column, to, p.to_column);
        else
#endif
            FN(run_copy)(p.columns, from, p.from_column, to, p.to_column);
}

/* Takes y's elements from where the walk finds them in x. */
static int FN(walk_forward)(tm_node *y, walk w)
{
    const plane p = {w.row.extent, w.column.extent, w.row.x, w.column.x, w.row.y, w.column.y};
    const REAL *x = tm_data(y->in[0]);
    REAL *to = tm_data(y);
    for (; w.planes; w.planes--, walk_next(&w))
        FN(move)(p, x + w.x, to + w.y, 0);
    return 0;
}

static int FN(reshape_forward)(tm_node *y)
{
    const REAL *from = tm_data(y->in[0]);
    REAL *to = tm_data(y);
    if (to != from) /* as between 0-d and one element */
        memcpy(to, from, (size_t)y->size * sizeof *to);
    return 0;
}

static int FN(permute_forward)(tm_node *y)
{
    return FN(walk_forward)(y, permute_walk(y));
}

static int FN(expand_forward)(tm_node *y)
{
    return FN(walk_forward)(y, expand_walk(y));
}

/* concat and stack both lay the rows of all inputs side by side: one row for every index before the axis. */
static int FN(join_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    REAL *to = tm_data(y);
    const int64_t rows = tm_shape_size((int)tm_attr(y)[0], tm_shape(y)), row = y->size ? y->size / rows : 0;
    for (uint32_t i = 0; i < y->n_inputs && row; i++) {
        const int64_t columns = in[i]->size / rows;
        const REAL *from = tm_data(in[i]);
        if (in[i]->size == 1) /* there may be thousands */
            *to = *from;
        else
            FN(move)((plane){rows, columns, columns, 1, row, 1}, from, to, 0);
        to += columns;
    }
    return 0;
}

#if REAL_IS_FLOAT

/* dy flows to where the walk found y's elements in x: adds up where it went several times, 0 where it did not go. */
static int FN(walk_backward)(tm_node *y, walk w)
{
    int add;
    tm_node *x = y->in[0];
    const REAL *dy = tm_grad_data(y);
    REAL *dx = tm_grad_open(x, &add);
    if (!dx)
        return 0;
    if (!add && x->size != y->size) {
        memset(dx, 0, (size_t)x->size * sizeof *dx);
        add = 1;
    }
    const plane p = {w.row.extent, w.column.extent, w.row.y, w.column.y, w.row.x, w.column.x};
    for (; w.planes; w.planes--, walk_next(&w))
        FN(move)(p, dy + w.y, dx + w.x, add);
    return 0;
}

static int FN(reshape_backward)(tm_node *y)
{
    int add;
    REAL *dx = tm_grad_open(y->in[0], &add);
    if (dx)
        FN(add_terms)(y->size, tm_grad_data(y), dx, 1, add);
    return 0;
}

static int FN(permute_backward)(tm_node *y)
{
    return FN(walk_backward)(y, permute_walk(y));
}

static int FN(expand_backward)(tm_node *y)
{
    return FN(walk_backward)(y, expand_walk(y));
}

static int FN(join_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const REAL *dy = tm_grad_data(y);
    const int64_t rows = tm_shape_size((int)tm_attr(y)[0], tm_shape(y)), row = y->size ? y->size / rows : 0;
    for (uint32_t i = 0; i < y->n_inputs; i++) {
        int add;
        const int64_t columns = row ? in[i]->size / rows : 0;
        REAL *dx = tm_grad_open(in[i], &add);
        if (dx && in[i]->size == 1)
            *dx = add ? *dx + *dy : *dy;
        else if (dx && row)
            FN(move)((plane){rows, columns, row, 1, columns, 1}, dy, dx, add);
        dy += columns;
    }
    return 0;
}

#endif
#endif
