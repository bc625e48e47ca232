/* Ops that move elements: reshape, permute and expand; concat and stack, which join. */

#if defined(RULES)

/* The result is of the first input's dtype and has `rank` dimensions. */
static int result_rank(tm_call *call, int rank)
{
    if (rank > TM_MAX_RANK)
        return tm_fail(TM_SHAPE_ERROR, "%s: the result would have %d dimensions, expected at most %d; merge "
                       "some with reshape()", call->op->name, rank, TM_MAX_RANK);
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
            return tm_fail(TM_SHAPE_ERROR, "%s: got extent %g for dimension %d, expected 0 or more, or -1 to "
                           "have it worked out", call->op->name, call->attr[d], d);
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
        return tm_fail(TM_SHAPE_ERROR, "reshape: any extent would do for the -1 in %s, as shape %s has no "
                       "elements; write it out", tm_shape_show(call->rank, call->shape).text,
                       tm_shape_of(x).text);
    double extent = (double)x->size / known;
    int resolved = open >= 0 && known > 0 && extent == floor(extent);
    if (!resolved && known != (double)x->size)
        return tm_fail(TM_SHAPE_ERROR, "reshape: cannot make shape %s of shape %s; expected extents whose "
                       "product is %lld, of which one may be -1", tm_shape_show(call->rank, call->shape).text,
                       tm_shape_of(x).text, (long long)x->size);
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
        return tm_fail(TM_SHAPE_ERROR, "permute: got %d axes for shape %s, expected each of its %d axes once",
                       call->n_attr, tm_shape_of(x).text, x->rank);
    unsigned seen = 0;
    for (int d = 0; d < x->rank; d++) {
        int axis = tm_axis(call, call->attr[d], x->rank);
        if (axis < 0)
            return -1;
        if (seen >> axis & 1)
            return tm_fail(TM_VALUE_ERROR, "permute: got axis %d twice, expected each of 0 to %d once", axis,
                           x->rank - 1);
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
            return tm_fail(TM_SHAPE_ERROR, "expand: shape %s does not expand to %s because of dimension %d; "
                           "only extents of 1 grow, others stay (-1 keeps any), and new dimensions stand "
                           "first and need an extent", tm_shape_of(x).text,
                           tm_shape_show(call->rank, call->shape).text, d);
        call->attr[d] = (double)call->shape[d];
    }
    if (lead < 0)
        return tm_fail(TM_SHAPE_ERROR, "expand: got %d extents for shape %s, expected at least %d; drop "
                       "dimensions with reshape() first", call->n_attr, tm_shape_of(x).text, x->rank);
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
            return tm_fail(TM_SHAPE_ERROR, "concat: input %d has shape %s, which does not continue input 0, "
                           "of shape %s, along axis %d; all other extents must be equal", i,
                           tm_shape_of(x).text, tm_shape_of(first).text, axis);
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
            return tm_fail(TM_SHAPE_ERROR, "stack: input %d has shape %s, expected shape %s, which input 0 "
                           "has, to stack along a new axis %d; concat() joins unequal extents", i,
                           tm_shape_of(call->in[i]).text, tm_shape_of(first).text, axis);
    for (int d = 0; d < call->rank; d++)
        call->shape[d] = d == axis ? call->n_in : tm_shape(first)[d - (d > axis)];
    call->attr[0] = axis;
    return 0;
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
