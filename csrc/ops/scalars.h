/* Many 0-d nodes in one: add_n, the sum of any number of them, and dot, a whole neuron. */

#if defined(RULES)

static int check_scalars(const tm_call *call)
{
    for (int i = 0; i < call->n_in; i++)
        if (call->in[i]->rank)
            return tm_fail(TM_SHAPE_ERROR, "%s: input %d has shape %s, expected 0-d nodes such as Values; for arrays "
                           "use sum() or @", call->op->name, i, tm_shape_of(call->in[i]).text);
    return 0;
}

static int add_n_rule(tm_call *call)
{
    call->dtype = call->in[0]->dtype;
    return check_scalars(call);
}

/* What dot ends in; nn.Neuron names them by these numbers. */
enum { DOT_LINEAR, DOT_RELU, DOT_TANH, DOT_SIGMOID };

/* inputs: w_1 ... w_n, x_1 ... x_n, and perhaps a bias; attributes: n, activation */
static int dot_rule(tm_call *call)
{
    int n = (int)call->attr[0], rest = call->n_in - 2 * n;
    if (n < 0 || rest < 0 || rest > 1 || call->attr[1] < DOT_LINEAR || call->attr[1] > DOT_SIGMOID)
        return tm_fail(TM_VALUE_ERROR, "dot: got %d inputs for %d products and activation %g", call->n_in, n,
                       call->attr[1]);
    call->dtype = call->in[0]->dtype;
    return check_scalars(call);
}

#elif defined(ROWS)

{.name = "add_n", .min_in = 1, .max_in = TM_ANY, .promote = TM_ANY, .rule = add_n_rule,
 .forward = {FLOATS(add_n_forward)}, .backward = {FLOATS(add_n_backward)}},
{.name = "dot", .min_in = 1, .max_in = TM_ANY, .min_attr = 2, .promote = TM_ANY, .rule = dot_rule,
 .forward = {FLOATS(dot_forward)}, .backward = {FLOATS(dot_backward)}},

#elif REAL_IS_FLOAT

static inline REAL FN(scalar)(const tm_node *x)
{
    return *(const REAL *)&x->data;
}

static int FN(add_n_forward)(tm_node *y)
{
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
        FN(add_scalar)(in[i], *(REAL *)&y->grad);
    return 0;
}

static int FN(dot_forward)(tm_node *y)
{
    const uint32_t n = (uint32_t)tm_attr(y)[0];
    tm_node **w = tm_inputs(y), **x = w + n;
    REAL s = y->n_inputs > 2 * n ? FN(scalar)(x[n]) : 0;
    for (uint32_t i = 0; i < n; i++)
        s += FN(scalar)(w[i]) * FN(scalar)(x[i]);
    switch ((int)tm_attr(y)[1]) {
    case DOT_RELU: s = s < 0 ? 0 : s; break;
    case DOT_TANH: s = FN(tanh)(s); break;
    case DOT_SIGMOID: s = FN(sigmoid)(s); break;
    }
    *(REAL *)&y->data = s;
    return 0;
}

static int FN(dot_backward)(tm_node *node)
{
    const uint32_t n = (uint32_t)tm_attr(node)[0];
    tm_node **w = tm_inputs(node), **x = w + n;
    const REAL y = *(REAL *)&node->data;
    REAL ds = *(REAL *)&node->grad; /* the gradient before the activation */
    switch ((int)tm_attr(node)[1]) {
    case DOT_RELU: ds = y > 0 ? ds : 0; break;
    case DOT_TANH: ds *= 1 - y * y; break;
    case DOT_SIGMOID: ds *= y * (1 - y); break;
    }
    for (uint32_t i = 0; i < n; i++) {
        FN(add_scalar)(w[i], FLOW(ds, FN(scalar)(x[i])));
        FN(add_scalar)(x[i], FLOW(ds, FN(scalar)(w[i])));
    }
    if (node->n_inputs > 2 * n)
        FN(add_scalar)(x[n], ds);
    return 0;
}

#endif
