/* Products: matmul, and linear, which is y = x w^T + b. */

#if defined(RULES)

/* The i-th batch dimension of a matmul operand, counted from the last one; 1 where it has none. */
static int64_t batch_extent(const tm_node *x, int i)
{
    return i + 2 < x->rank ? tm_shape(x)[x->rank - 3 - i] : 1;
}

static int batch_rank(const tm_node *a, const tm_node *b)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    return rank > 2 ? rank - 2 : 0;
}

/* A 1-d operand is one row on the left, one column on the right, and the result has no such dimension. */
static int matmul_rule(tm_call *call)
{
    const tm_node *a = call->in[0], *b = call->in[1];
    if (!a->rank || !b->rank)
        return tm_fail(TM_SHAPE_ERROR, "matmul: got shapes %s and %s, expected at least 1 dimension each; "
                       "multiply by a 0-d operand with *", tm_shape_of(a).text, tm_shape_of(b).text);
    int64_t columns = tm_shape(a)[a->rank - 1], rows = tm_shape(b)[b->rank > 1 ? b->rank - 2 : 0];
    if (columns != rows)
        return tm_fail(TM_SHAPE_ERROR, "matmul: shapes %s and %s do not fit: rows of %lld on the left "
                       "against columns of %lld on the right; transpose one operand with .T",
                       tm_shape_of(a).text, tm_shape_of(b).text, (long long)columns, (long long)rows);
    call->dtype = a->dtype;
    call->rank = batch_rank(a, b);
    for (int i = 0; i < call->rank; i++) {
        int64_t of_a = batch_extent(a, i), of_b = batch_extent(b, i);
        if (of_a != of_b && of_a != 1 && of_b != 1)
            return tm_fail(TM_SHAPE_ERROR, "matmul: batch dimensions of shapes %s and %s do not broadcast: "
                           "%lld against %lld; all but the last two extents must be equal or 1 (reshape or "
                           "unsqueeze one operand)", tm_shape_of(a).text, tm_shape_of(b).text,
                           (long long)of_a, (long long)of_b);
        call->shape[call->rank - 1 - i] = of_a == 1 ? of_b : of_a;
    }
    if (a->rank > 1)
        call->shape[call->rank++] = tm_shape(a)[a->rank - 2];
    if (b->rank > 1)
        call->shape[call->rank++] = tm_shape(b)[b->rank - 1];
    return 0;
}

/* A matmul as `count` products c (m, n) = a (m, k) b (k, n). Where b is the same for all of the last batch
 * dimensions, as in (B, m, k) x (k, n), these only lengthen a: `merged` of them have gone into m. */
typedef struct {
    const tm_node *a, *b;
    int64_t count, m, n, k;
    int rank, merged;
} products;

static products products_of(tm_node *y)
{
    const tm_node *a = y->in[0], *b = y->in[1];
    products p = {.a = a, .b = b, .count = 1, .m = 1, .n = 1, .rank = batch_rank(a, b)};
    p.k = tm_shape(a)[a->rank - 1];
    if (a->rank > 1)
        p.m = tm_shape(a)[a->rank - 2];
    if (b->rank > 1)
        p.n = tm_shape(b)[b->rank - 1];
    while (p.merged < p.rank && batch_extent(b, p.merged) == 1)
        p.m *= batch_extent(a, p.merged++);
    for (int i = p.merged; i < p.rank; i++)
        p.count *= batch_extent(b, i) == 1 ? batch_extent(a, i) : batch_extent(b, i);
    return p;
}

/* Which of x's matrices belongs to the i-th product. */
static int64_t matrix_of(const products *p, const tm_node *x, int64_t i)
{
    int64_t matrix = 0, stride = 1;
    for (int d = p->merged; d < p->rank; d++) {
        const int64_t own = batch_extent(x, d), extent = batch_extent(p->b, d) == 1 ? batch_extent(p->a, d)
                                                                                     : batch_extent(p->b, d);
        if (own != 1)
            matrix += i % extent * stride;
        stride *= own;
        i /= extent;
    }
    return matrix;
}

/* inputs: x, w, and perhaps a bias */
static int linear_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *w = call->in[1], *bias = call->n_in > 2 ? call->in[2] : NULL;
    if (!x->rank || w->rank != 2)
        return tm_fail(TM_SHAPE_ERROR, "linear: got input %s and weight %s, expected (..., in) and (out, in);"
                       " reshape one", tm_shape_of(x).text, tm_shape_of(w).text);
    const int64_t in = tm_shape(x)[x->rank - 1], out = tm_shape(w)[0];
    if (tm_shape(w)[1] != in)
        return tm_fail(TM_SHAPE_ERROR, "linear: input %s and weight %s do not fit: %lld features against "
                       "%lld; the weight is (out, in): transpose it with .T if it is (in, out)",
                       tm_shape_of(x).text, tm_shape_of(w).text, (long long)in, (long long)tm_shape(w)[1]);
    if (bias && (bias->rank != 1 || tm_shape(bias)[0] != out))
        return tm_fail(TM_SHAPE_ERROR, "linear: got bias %s, expected (%lld,) for weight %s; reshape it",
                       tm_shape_of(bias).text, (long long)out, tm_shape_of(w).text);
    tm_rule_like_input(call);
    call->shape[call->rank - 1] = out;
    return 0;
}

static int64_t linear_rows(const tm_node *y)
{
    return tm_shape_size(y->rank - 1, tm_shape(y));
}

#elif defined(ROWS)

{.name = "matmul", .min_in = 2, .max_in = 2, .promote = TM_ANY, .rule = matmul_rule,
 .forward = {FLOATS(matmul_forward)}, .backward = {FLOATS(matmul_backward)}, .descend = {FLOATS(matmul_descend)},
 .derivative = {"b", "a"}},
{.name = "linear", .min_in = 2, .max_in = 3, .promote = TM_ANY, .rule = linear_rule,
 .forward = {FLOATS(linear_forward)}, .backward = {FLOATS(linear_backward)}, .descend = {FLOATS(linear_descend)},
 .derivative = {"b", "a", "1"}},

#elif REAL_IS_FLOAT

static int FN(matmul_forward)(tm_node *y)
{
    const products p = products_of(y);
    const REAL *a = tm_data(y->in[0]), *b = tm_data(y->in[1]);
    REAL *c = tm_data(y);
    int failed = 0;
    for (int64_t i = 0; i < p.count && !failed; i++)
        failed = FN(gemm)(p.m, p.n, p.k, a + matrix_of(&p, p.a, i) * p.m * p.k, p.k, 1,
                          b + matrix_of(&p, p.b, i) * p.k * p.n, p.n, 1,
                          c + i * p.m * p.n, p.n, (FN(gemm_tail)){0});
    return failed;
}

/* Opens the gradient of an operand to which several products may add: then it starts from zeros. */
static REAL *FN(open_operand)(tm_node *x, int64_t elements_written, int *add)
{
    REAL *dx = tm_grad_open(x, add);
    if (dx && !*add && x->size != elements_written) {
        memset(dx, 0, (size_t)x->size * sizeof *dx);
        *add = 1;
    }
    return dx;
}

/* da = dc b^T, db = a^T dc: transposed by their strides. */
static int FN(matmul_flow)(tm_node *y, double lr, unsigned parameters)
{
    const products p = products_of(y);
    const REAL *a = tm_data(y->in[0]), *b = tm_data(y->in[1]), *dc = tm_grad_data(y);
    int add, failed = 0;
    REAL *da = FN(open_operand)(y->in[0], p.count * p.m * p.k, &add);
    for (int64_t i = 0; da && i < p.count && !failed; i++)
        failed = FN(gemm)(p.m, p.k, p.n, dc + i * p.m * p.n, p.n, 1,
                          b + matrix_of(&p, p.b, i) * p.k * p.n, 1, p.n,
                          da + matrix_of(&p, p.a, i) * p.m * p.k, p.k, (FN(gemm_tail)){.accumulate = add});
    const int moves = parameters & 2;
    REAL *db = moves ? tm_data(y->in[1]) : FN(open_operand)(y->in[1], p.count * p.k * p.n, &add);
    const FN(gemm_tail) tail = moves ? (FN(gemm_tail)){.descend = 1,
        .rate = (REAL)lr} : (FN(gemm_tail)){.accumulate = add};
    for (int64_t i = 0; db && i < p.count && !failed; i++)
        failed = FN(gemm)(p.k, p.n, p.m, a + matrix_of(&p, p.a, i) * p.m * p.k, 1, p.k,
                          dc + i * p.m * p.n, p.n, 1, db + matrix_of(&p, p.b, i) * p.k * p.n, p.n, tail);
    return failed;
}

static int FN(matmul_backward)(tm_node *y)
{
    return FN(matmul_flow)(y, 0, 0);
}

static int FN(matmul_descend)(tm_node *y, double lr, unsigned parameters)
{
    return FN(matmul_flow)(y, lr, parameters);
}

static int FN(linear_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const int64_t outs = tm_shape(in[1])[0], ins = tm_shape(in[1])[1];
    return FN(gemm)(linear_rows(y), outs, ins, tm_data(in[0]), ins, 1, tm_data(in[1]), 1, ins,
                    tm_data(y), outs, (FN(gemm_tail)){.bias = y->n_inputs > 2 ? tm_data(in[2]) : NULL});
}

/* Where a gradient goes and how: into x's gradient, or as a step of descent into its data; NULL when x wants none. */
static inline REAL *FN(open_gradient)(tm_node *x, int moves, double lr, FN(gemm_tail) *tail)
{
    *tail = (FN(gemm_tail)){.descend = moves, .rate = (REAL)lr};
    return moves ? tm_data(x) : tm_grad_open(x, &tail->accumulate);
}

/* dx = dy w, dw = dy^T x, db = 1^T dy. */
static int FN(linear_flow)(tm_node *y, double lr, unsigned parameters)
{
    tm_node **in = tm_inputs(y);
    const int64_t rows = linear_rows(y), outs = tm_shape(in[1])[0], ins = tm_shape(in[1])[1];
    const REAL *x = tm_data(in[0]), *w = tm_data(in[1]), *dy = tm_grad_data(y), one = 1;
    FN(gemm_tail) tail;
    REAL *dx = FN(open_gradient)(in[0], 0, lr, &tail);
    if (dx && FN(gemm)(rows, ins, outs, dy, outs, 1, w, ins, 1, dx, ins, tail))
        return -1;
    REAL *dw = FN(open_gradient)(in[1], parameters >> 1 & 1, lr, &tail);
    if (dw && FN(gemm)(outs, ins, rows, dy, 1, outs, x, ins, 1, dw, ins, tail))
        return -1;
    REAL *db = y->n_inputs > 2 ? FN(open_gradient)(in[2], parameters >> 2 & 1, lr, &tail) : NULL;
    return db ? FN(gemm)(1, outs, rows, &one, 0, 0, dy, outs, 1, db, outs, tail) : 0;
}

static int FN(linear_backward)(tm_node *y)
{
    return FN(linear_flow)(y, 0, 0);
}

static int FN(linear_descend)(tm_node *y, double lr, unsigned parameters)
{
    return FN(linear_flow)(y, lr, parameters);
}

#endif
