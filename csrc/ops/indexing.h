/* Ops that pick elements by position or make them from positions: slice, take, gather, one_hot. */

#if defined(RULES)

/* attributes: start, step and count for each dimension, the last ones left out where they are taken whole. A step may
 * be negative; step 0 stands for an index, which drops the dimension, and counts from the end when negative. */
static int slice_rule(tm_call *call)
{
    const tm_node *x = call->in[0];
    if (call->n_attr % 3 || call->n_attr > 3 * x->rank)
        return tm_fail(TM_INDEX_ERROR, "index: got %d indices for %d dimensions, of shape %s; leave some out",
                       call->n_attr / 3, x->rank, tm_shape_of(x).text);
    int rank = 0;
    for (int d = 0; d < x->rank; d++) {
        double *start = &call->attr[3 * d], *step = start + 1, *count = start + 2;
        const double extent = (double)tm_shape(x)[d];
        if (3 * d >= call->n_attr) {
            *start = 0;
            *step = 1;
            *count = extent;
        } else if (*step == 0) {
            if (!(*start >= -extent && *start < extent))
                return tm_fail(TM_INDEX_ERROR, "index: %g is out of range for dimension %d of shape %s", *start, d,
                               tm_shape_of(x).text);
            *start += *start < 0 ? extent : 0;
            continue;
        }
        const double last = *start + (*count - 1) * *step;
        if (!(*count >= 0 && *count <= extent) ||
            (*count > 0 && !(*start >= 0 && *start < extent && last >= 0 && last < extent)))
            return tm_fail(TM_INDEX_ERROR, "slice: %g elements from %g on by steps of %g do not lie in dimension %d of "
                           "shape %s; clip them to its extent", *count, *start, *step, d, tm_shape_of(x).text);
        if (*count == 0)
            *start = 0;
        if (*count <= 1)
            *step = 1;
        call->shape[rank++] = (int64_t)*count;
    }
    call->n_attr = 3 * x->rank;
    return result_rank(call, rank);
}

static walk slice_walk(tm_node *y)
{
    const double *attr = tm_attr(y);
    int64_t start = 0, stride[TM_MAX_RANK];
    contiguous_strides(y->in[0], stride);
    for (int d = 0, kept = 0; d < y->in[0]->rank; d++) {
        start += (int64_t)attr[3 * d] * stride[d];
        if (attr[3 * d + 1] != 0)
            stride[kept++] = stride[d] * (int64_t)attr[3 * d + 1];
    }
    return walk_start(y, start, stride);
}

static int check_index_dtype(const tm_call *call, const tm_node *index)
{
    if (index->dtype == TM_I64)
        return 0;
    return tm_fail(TM_DTYPE_ERROR, "%s: index is %s, expected int64; convert it with .long()", call->op->name,
                   tm_dtype_name(index->dtype));
}

/* Kernels check indices before they use them, backward too: their data may have changed since. There are n
 * `things`. */
static int check_indices(const tm_node *y, tm_node *index, int64_t n, const char *things)
{
    const int64_t *at = tm_data(index);
    int outside = 0;
    for (int64_t i = 0; i < index->size; i++)
        outside |= (uint64_t)at[i] >= (uint64_t)n;
    for (int64_t i = 0; outside; i++)
        if ((uint64_t)at[i] >= (uint64_t)n)
            return tm_fail(TM_INDEX_ERROR, "%s: got index %lld, expected 0 <= index < %lld, the number of "
                           "%s; mask out or clamp what lies outside", y->op->name, (long long)at[i],
                           (long long)n, things);
    return 0;
}

/* inputs: x, index; attributes: k, how many leading dimensions of x make its rows; perhaps a row that gets no
 * gradient */
static int take_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *index = call->in[1];
    const double k = call->attr[0];
    if (!(k >= 0 && k <= x->rank))
        return tm_fail(TM_VALUE_ERROR, "take: got %g leading dimensions to index, expected 0 to %d for shape "
                       "%s", k, x->rank, tm_shape_of(x).text);
    if (check_index_dtype(call, index) || result_rank(call, index->rank + x->rank - (int)k))
        return -1;
    memcpy(call->shape, tm_shape(index), index->rank * sizeof *call->shape);
    memcpy(call->shape + index->rank, tm_shape(x) + (int)k, (size_t)(x->rank - (int)k) * sizeof *call->shape);
    return 0;
}

/* How many rows x has, and how many elements are in one. */
static void take_rows(const tm_node *y, int64_t *rows, int64_t *row)
{
    const tm_node *x = y->in[0];
    const int k = (int)tm_attr(y)[0];
    *rows = tm_shape_size(k, tm_shape(x));
    *row = tm_shape_size(x->rank - k, tm_shape(x) + k);
}

/* inputs: x, index; attributes: axis */
static int gather_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *index = call->in[1];
    const int axis = tm_axis(call, call->attr[0], x->rank);
    if (axis < 0 || check_index_dtype(call, index))
        return -1;
    int fits = x->rank == index->rank;
    for (int d = 0; d < x->rank && fits; d++)
        fits = d == axis || tm_shape(index)[d] <= tm_shape(x)[d];
    if (!fits)
        return tm_fail(TM_SHAPE_ERROR, "gather: index has shape %s and x has shape %s; expected equally many "
                       "dimensions and, except along axis %d, no extent above x's", tm_shape_of(index).text,
                       tm_shape_of(x).text, axis);
    memcpy(call->shape, tm_shape(index), index->rank * sizeof *call->shape);
    call->attr[0] = axis;
    return result_rank(call, index->rank);
}

/* Where each element of y would come from, were all indices 0; an index more is *step elements on in x. */
static walk gather_walk(tm_node *y, int64_t *step)
{
    const int axis = (int)tm_attr(y)[0];
    int64_t stride[TM_MAX_RANK];
    contiguous_strides(y->in[0], stride);
    *step = stride[axis];
    stride[axis] = 0;
    return walk_start(y, 0, stride);
}

/* attributes: classes, or -1 for as many as the labels need; to count them, this rule alone looks at data */
static int one_hot_rule(tm_call *call)
{
    tm_node *x = call->in[0];
    if (check_index_dtype(call, x) || result_rank(call, x->rank + 1))
        return -1;
    const int64_t *labels = tm_data(x);
    double classes = call->attr[0];
    if (classes == -1 && x->size) {
        int64_t largest = 0;
        for (int64_t i = 0; i < x->size; i++)
            largest = labels[i] > largest ? labels[i] : largest;
        classes = (double)largest + 1;
    }
    if (!(classes >= 1 && classes <= 0x1p53))
        return tm_fail(TM_VALUE_ERROR, "one_hot: got %g classes for labels of shape %s, expected 1 or more; "
                       "-1 counts them, where there are labels", classes, tm_shape_of(x).text);
    memcpy(call->shape, tm_shape(x), x->rank * sizeof *call->shape);
    call->shape[x->rank] = (int64_t)classes;
    call->attr[0] = classes;
    return 0;
}

static int one_hot_forward(tm_node *y)
{
    tm_node *x = y->in[0];
    const int64_t *labels = tm_data(x), classes = tm_shape(y)[x->rank];
    int64_t *to = tm_data(y);
    if (check_indices(y, x, classes, "classes"))
        return -1;
    memset(to, 0, (size_t)y->size * sizeof *to);
    for (int64_t i = 0; i < x->size; i++)
        to[i * classes + labels[i]] = 1;
    return 0;
}

#elif defined(ROWS)

{.name = "slice", .min_in = 1, .max_in = 1, .rule = slice_rule,
 .forward = {ALL(slice_forward)}, .backward = {FLOATS(slice_backward)}},
{.name = "take", .min_in = 2, .max_in = 2, .min_attr = 1, .rule = take_rule,
 .forward = {ALL(take_forward)}, .backward = {FLOATS(take_backward)}},
{.name = "gather", .min_in = 2, .max_in = 2, .min_attr = 1, .rule = gather_rule,
 .forward = {ALL(gather_forward)}, .backward = {FLOATS(gather_backward)}},
{.name = "one_hot", .min_in = 1, .max_in = 1, .min_attr = 1, .rule = one_hot_rule,
 .forward = {[TM_I64] = one_hot_forward}},

#else

static int FN(slice_forward)(tm_node *y)
{
    return FN(walk_forward)(y, slice_walk(y));
}

static int FN(take_forward)(tm_node *y)
{
    int64_t rows, row;
    take_rows(y, &rows, &row);
    const REAL *from = tm_data(y->in[0]);
    const int64_t *index = tm_data(y->in[1]), n = y->in[1]->size;
    REAL *to = tm_data(y);
    if (check_indices(y, y->in[1], rows, "rows"))
        return -1;
    if (row == 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = from[index[i]];
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(to + i * row, from + index[i] * row, (size_t)row * sizeof *to);
    return 0;
}

/* Reads y's values from x, or with `back` adds them to it, at the same places. */
static int FN(gather_move)(tm_node *y, REAL *restrict x, REAL *restrict values, int back)
{
    int64_t step;
    walk w = gather_walk(y, &step);
    const int64_t n = w.column.extent, *indices = tm_data(y->in[1]);
    if (check_indices(y, y->in[1], tm_shape(y->in[0])[(int)tm_attr(y)[0]], "elements along the axis"))
        return -1;
    for (; w.planes; w.planes--, walk_next(&w))
        for (int64_t r = 0; r < w.row.extent; r++) {
            const int64_t at = w.y + r * w.row.y, *index = indices + at;
            REAL *run = values + at, *places = x + w.x + r * w.row.x;
            if (back)
                for (int64_t c = 0; c < n; c++)
                    places[c * w.column.x + index[c] * step] += run[c];
            else
                for (int64_t c = 0; c < n; c++)
                    run[c] = places[c * w.column.x + index[c] * step];
        }
    return 0;
}

static int FN(gather_forward)(tm_node *y)
{
    return FN(gather_move)(y, tm_data(y->in[0]), tm_data(y), 0);
}

#if REAL_IS_FLOAT

static int FN(slice_backward)(tm_node *y)
{
    return FN(walk_backward)(y, slice_walk(y));
}

/* The gradient of x, with 0 where there was none; NULL when x wants none. */
static REAL *FN(grad_to_add_to)(tm_node *x)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    if (dx && !add)
        memset(dx, 0, (size_t)x->size * sizeof *dx);
    return dx;
}

static int FN(take_backward)(tm_node *y)
{
    int64_t rows, row;
    take_rows(y, &rows, &row);
    const int64_t *index = tm_data(y->in[1]), n = y->in[1]->size;
    const REAL *dy = tm_grad_data(y);
    const int64_t frozen = y->n_attributes > 1 ? (int64_t)tm_attr(y)[1] : -1;
    REAL *dx = FN(grad_to_add_to)(y->in[0]);
    if (!dx || check_indices(y, y->in[1], rows, "rows"))
        return dx ? -1 : 0;
    if (row == 1 && frozen < 0)
        for (int64_t i = 0; i < n; i++)
            dx[index[i]] += dy[i];
    else
        for (int64_t i = 0; i < n; i++)
            if (index[i] != frozen)
                FN(add_terms)(row, dy + i * row, dx + index[i] * row, 1, 1);
    return 0;
}

static int FN(gather_backward)(tm_node *y)
{
    REAL *dx = FN(grad_to_add_to)(y->in[0]);
    return dx ? FN(gather_move)(y, dx, tm_grad_data(y), 1) : 0;
}

#endif
#endif
