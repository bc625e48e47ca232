/* Many 0-d nodes in one: add_n, the sum of any number of them, and dot, a whole neuron.
 *
 * In place of any of them may stand lanes: an array, each element of which belongs to a computation of its own. All
 * lanes have one shape, which the result takes; a 0-d input is the same in every lane. */

#if defined(RULES)

static int lanes_rule(tm_call *call)
{
    const tm_node *lanes = NULL;
    call->dtype = call->in[0]->dtype;
    for (int i = 0; i < call->n_in; i++) {
        const tm_node *x = call->in[i];
        if (x->rank && lanes && !tm_same_shape(lanes, x))
            return tm_fail(TM_SHAPE_ERROR, "%s: got shapes %s and %s, expected Values (0-d) and arrays of one shape; "
                           "to broadcast use + and *, for products of matrices @", call->op->name,
                           tm_shape_of(lanes).text, tm_shape_of(x).text);
        if (x->rank)
            lanes = x;
    }
    if (lanes) {
        call->rank = lanes->rank;
        memcpy(call->shape, tm_shape(lanes), lanes->rank * sizeof *call->shape);
    }
    return 0;
}

/* What dot ends in; nn.Neuron names them by these numbers. */
enum { DOT_LINEAR, DOT_RELU, DOT_TANH, DOT_SIGMOID, DOT_LEAKY_RELU, DOT_ACTIVATIONS };
#define DOT_SLOPE ((REAL)0.01) /* of leaky_relu */

enum { DOT_CHUNK = 64 }; /* products that are added up together */
enum { LANES_CHUNK = 512 }; /* lanes that are worked on together, in the first-level cache */

/* inputs: w_1 ... w_n, x_1 ... x_n, and perhaps a bias; attributes: n, activation */
static int dot_rule(tm_call *call)
{
    int n = (int)call->attr[0], rest = call->n_in - 2 * n;
    if (n < 0 || rest < 0 || rest > 1 || call->attr[1] < DOT_LINEAR || call->attr[1] >= DOT_ACTIVATIONS)
        return tm_fail(TM_VALUE_ERROR, "dot: got %d inputs for %d products and activation %g", call->n_in, n,
                       call->attr[1]);
    return lanes_rule(call);
}

#elif defined(ROWS)

{.name = "add_n", .min_in = 1, .max_in = TM_ANY, .promote = TM_ANY, .rule = lanes_rule,
 .forward = {FLOATS(add_n_forward)}, .backward = {FLOATS(add_n_backward)}},
{.name = "dot", .min_in = 1, .max_in = TM_ANY, .min_attr = 2, .promote = TM_ANY, .rule = dot_rule,
 .forward = {FLOATS(dot_forward)}, .backward = {FLOATS(dot_backward)}},

#elif REAL_IS_FLOAT

static inline REAL FN(scalar)(const tm_node *x)
{
    return *(const REAL *)&x->data;
}

#define FOR_CHUNKS(i, n, size)                                                                                         \
    for (int64_t i = 0, n; n = (size) - i < LANES_CHUNK ? (size) - i : LANES_CHUNK, n > 0; i += n)

/* Where x has lane i. */
static inline const REAL *FN(lane)(tm_node *x, int64_t i)
{
    return (const REAL *)tm_data(x) + (x->rank ? i : 0);
}

/* s += a b for n lanes; a step of 0 stands for a 0-d factor. */
static void FN(add_products)(int64_t n, const REAL *a, int64_t a_step, const REAL *b, int64_t b_step, REAL *restrict s)
{
    if (a_step && b_step) {
        for (int64_t i = 0; i < n; i++)
            s[i] += a[i] * b[i];
        return;
    }
    const REAL factor = a_step ? *b : *a, *lanes = a_step ? a : b;
    if (a_step || b_step)
        for (int64_t i = 0; i < n; i++)
            s[i] += factor * lanes[i];
    else
        for (int64_t i = 0; i < n; i++)
            s[i] += factor * *lanes;
}

/* Adds d times a factor, NULL for 1, to the gradient of x: lane by lane, or the sum over the lanes where x is 0-d. */
static void FN(flow_lanes)(int64_t size, const REAL *d, tm_node *factor, tm_node *x)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    if (!dx)
        return;
    if (!factor) {
        FN(add_terms)(size, d, dx, x->rank, add);
        return;
    }
    if (!x->rank && !add) {
        *dx = 0;
        add = 1;
    }
    FOR_CHUNKS(i, n, size) {
        REAL terms[LANES_CHUNK];
        const REAL *f = FN(lane)(factor, i);
        if (factor->rank)
            for (int64_t k = 0; k < n; k++)
                terms[k] = FLOW(d[i + k], f[k]);
        else
            for (int64_t k = 0; k < n; k++)
                terms[k] = FLOW(d[i + k], *f);
        FN(add_terms)(n, terms, dx + (x->rank ? i : 0), x->rank, add);
    }
}

static int FN(add_n_lanes_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const REAL one = 1;
    FOR_CHUNKS(i, n, y->size) {
        REAL *s = (REAL *)y->data.array + i;
        memset(s, 0, (size_t)n * sizeof *s);
        for (uint32_t k = 0; k < y->n_inputs; k++)
            FN(add_products)(n, &one, 0, FN(lane)(in[k], i), in[k]->rank, s);
    }
    return 0;
}

static int FN(add_n_forward)(tm_node *y)
{
    if (y->rank)
        return FN(add_n_lanes_forward)(y);
    tm_node **in = tm_inputs(y);
    REAL sum = 0;
    for (uint32_t i = 0; i < y->n_inputs; i++)
        sum += FN(scalar)(in[i]);
    *(REAL *)&y->data = sum;
    return 0;
}

static int FN(add_n_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    for (uint32_t i = 0; i < y->n_inputs; i++)
        if (y->rank)
            FN(flow_lanes)(y->size, y->grad.array, NULL, in[i]);
        else
            FN(add_scalar)(in[i], *(REAL *)&y->grad);
    return 0;
}

/* s + the sum of w x, for at most DOT_CHUNK products. Not inlined: kernels and tapes (see tape.h) shall get the same
 * bits, and what a compiler fuses differs from place to place. */
static __attribute__((noinline)) REAL FN(dot_sum)(uint32_t n, const REAL *w, const REAL *x, REAL s)
{
    typedef REAL lanes __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    size_t i = 0;
    if (n >= 8) {
        lanes sum = {0};
        for (; i + 8 <= n; i += 8)
            sum += *(const lanes *)(w + i) * *(const lanes *)(x + i);
        s += ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
    }
    for (; i < n; i++) {
        s += w[i] * x[i];
        __asm__("" : "+r"(i)); /* as vector code, in this order, it would be slower */
    }
    return s;
}

static inline REAL FN(dot_activate)(int activation, REAL s)
{
    switch (activation) {
    case DOT_RELU: return s < 0 ? 0 : s;
    case DOT_TANH: return FN(tanh)(s);
    case DOT_SIGMOID: return FN(sigmoid)(s);
    case DOT_LEAKY_RELU: return s > 0 ? s : DOT_SLOPE * s;
    default: return s;
    }
}

/* The gradient before the activation. */
static inline REAL FN(dot_flow)(int activation, REAL y, REAL dy)
{
    switch (activation) {
    case DOT_RELU: return y > 0 ? dy : 0;
    case DOT_TANH: return dy * (1 - y * y);
    case DOT_SIGMOID: return dy * (y * (1 - y));
    case DOT_LEAKY_RELU: return y > 0 ? dy : DOT_SLOPE * dy;
    default: return dy;
    }
}

/* What there is of a gradient, and d x, rounded once where the instruction set knows how to. That is said here and not
 * left to the compiler, because it has to be the same in a tape. As FLOW, nothing flows from a zero d. */
static inline REAL FN(add_product)(REAL before, REAL d, REAL x)
{
#if TM_VECTOR_BYTES == 16 && !defined(__aarch64__)
    return before + (d == 0 ? 0 : d * x);
#elif REAL_IS_F32
    return d == 0 ? before + 0 : __builtin_fmaf(d, x, before);
#else
    return d == 0 ? before + 0 : __builtin_fma(d, x, before);
#endif
}

/* -0.0 is what a sum starts from when there is nothing. */
static inline void FN(flow_product)(tm_node *x, REAL d, REAL factor)
{
    int add;
    REAL *dx = tm_grad_open(x, &add);
    if (dx)
        *dx = FN(add_product)(add ? *dx : (REAL)-0.0, d, factor);
}

/* A loop for each activation, so that all are vector code. */
#define ACTIVATION_LOOP(name, n, statement)                                                                            \
    case name:                                                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            enum { activation = name };                                                                                \
            statement;                                                                                                 \
        }                                                                                                              \
        break;
#define FOR_LANES(activation, n, statement)                                                                            \
    switch (activation) {                                                                                              \
        ACTIVATION_LOOP(DOT_LINEAR, n, statement)                                                                      \
        ACTIVATION_LOOP(DOT_RELU, n, statement)                                                                        \
        ACTIVATION_LOOP(DOT_TANH, n, statement)                                                                        \
        ACTIVATION_LOOP(DOT_SIGMOID, n, statement)                                                                     \
        ACTIVATION_LOOP(DOT_LEAKY_RELU, n, statement)                                                                  \
    }

static int FN(dot_lanes_forward)(tm_node *y)
{
    const uint32_t n_products = (uint32_t)tm_attr(y)[0];
    const REAL one = 1;
    tm_node **w = tm_inputs(y), **x = w + n_products, *bias = y->n_inputs > 2 * n_products ? x[n_products] : NULL;
    FOR_CHUNKS(at, n, y->size) {
        REAL *s = (REAL *)y->data.array + at;
        memset(s, 0, (size_t)n * sizeof *s);
        if (bias)
            FN(add_products)(n, &one, 0, FN(lane)(bias, at), bias->rank, s);
        for (uint32_t k = 0; k < n_products; k++)
            FN(add_products)(n, FN(lane)(w[k], at), w[k]->rank, FN(lane)(x[k], at), x[k]->rank, s);
        FOR_LANES((int)tm_attr(y)[1], n, s[i] = FN(dot_activate)(activation, s[i]))
    }
    return 0;
}

static int FN(dot_lanes_backward)(tm_node *node)
{
    const uint32_t n = (uint32_t)tm_attr(node)[0];
    tm_node **w = tm_inputs(node), **x = w + n;
    const REAL *y = node->data.array, *dy = node->grad.array;
    REAL *restrict ds = tm_scratch(TM_SCRATCH_KERNEL, (size_t)node->size * sizeof *ds);
    if (!ds && node->size)
        return -1;
    FOR_LANES((int)tm_attr(node)[1], node->size, ds[i] = FN(dot_flow)(activation, y[i], dy[i]))
    for (uint32_t k = 0; k < n; k++) {
        FN(flow_lanes)(node->size, ds, x[k], w[k]);
        FN(flow_lanes)(node->size, ds, w[k], x[k]);
    }
    if (node->n_inputs > 2 * n)
        FN(flow_lanes)(node->size, ds, NULL, x[n]);
    return 0;
}

static int FN(dot_forward)(tm_node *y)
{
    if (y->rank)
        return FN(dot_lanes_forward)(y);
    const uint32_t n = (uint32_t)tm_attr(y)[0];
    tm_node **w = tm_inputs(y), **x = w + n;
    REAL s = y->n_inputs > 2 * n ? FN(scalar)(x[n]) : 0, ws[DOT_CHUNK], xs[DOT_CHUNK];
    for (uint32_t at = 0; at < n; at += DOT_CHUNK) {
        const uint32_t count = n - at < DOT_CHUNK ? n - at : DOT_CHUNK;
        for (uint32_t i = 0; i < count; i++) {
            ws[i] = FN(scalar)(w[at + i]);
            xs[i] = FN(scalar)(x[at + i]);
        }
        s = FN(dot_sum)(count, ws, xs, s);
    }
    *(REAL *)&y->data = FN(dot_activate)((int)tm_attr(y)[1], s);
    return 0;
}

static int FN(dot_backward)(tm_node *node)
{
    if (node->rank)
        return FN(dot_lanes_backward)(node);
    const uint32_t n = (uint32_t)tm_attr(node)[0];
    tm_node **w = tm_inputs(node), **x = w + n;
    const REAL ds = FN(dot_flow)((int)tm_attr(node)[1], *(REAL *)&node->data, *(REAL *)&node->grad);
    for (uint32_t i = 0; i < n; i++) {
        FN(flow_product)(w[i], ds, FN(scalar)(x[i]));
        FN(flow_product)(x[i], ds, FN(scalar)(w[i]));
    }
    if (node->n_inputs > 2 * n)
        FN(add_scalar)(x[n], ds);
    return 0;
}

#undef FOR_CHUNKS
#undef FOR_LANES
#undef ACTIVATION_LOOP

#endif
