/* cross_entropy, nll_loss and mse_loss. Attribute 0 says what becomes of the terms: none, mean or sum. */

#if defined(RULES)

enum { LOSS_NONE, LOSS_MEAN, LOSS_SUM };

static int check_reduction(const tm_call *call)
{
    if (call->attr[0] == LOSS_NONE || call->attr[0] == LOSS_MEAN || call->attr[0] == LOSS_SUM)
        return 0;
    return tm_fail(TM_VALUE_ERROR, "%s: got reduction %g, expected 0 (none), 1 (mean) or 2 (sum)",
                   call->op->name, call->attr[0]);
}

static int class_axis(const tm_node *x)
{
    return x->rank > 1;
}

/* inputs: x (C,), (N, C) or (N, C, d1, ...) and labels (), (N,) or (N, d1, ...)
 * attributes: reduction, ignore_index */
static int classes_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *labels = call->in[1];
    if (check_reduction(call))
        return -1;
    if (!x->rank)
        return tm_fail(TM_SHAPE_ERROR, "%s: got a 0-d input, expected (classes,), (N, classes) or "
                       "(N, classes, ...); reshape it", call->op->name);
    for (int d = 0; d < x->rank; d++)
        if (d != class_axis(x))
            call->shape[call->rank++] = tm_shape(x)[d];
    const size_t shape_bytes = (size_t)call->rank * sizeof *call->shape;
    if (labels->rank != call->rank || memcmp(tm_shape(labels), call->shape, shape_bytes))
        return tm_fail(TM_SHAPE_ERROR, "%s: input %s and labels %s do not fit; expected labels %s, one class "
                       "number for each row of scores (argmax turns one-hot rows into numbers)",
                       call->op->name, tm_shape_of(x).text, tm_shape_of(labels).text,
                       tm_shape_show(call->rank, call->shape).text);
    if (labels->dtype != TM_I64)
        return tm_fail(TM_DTYPE_ERROR, "%s: labels are %s, expected int64 class numbers; convert with .to()",
                       call->op->name, tm_dtype_name(labels->dtype));
    call->dtype = x->dtype;
    if (call->attr[0] != LOSS_NONE)
        call->rank = 0;
    return 0;
}

/* Saves the derivative of the loss by the input. */
static int cross_entropy_rule(tm_call *call)
{
    if (!(call->attr[2] >= 0 && call->attr[2] <= 1))
        return tm_fail(TM_VALUE_ERROR, "cross_entropy: got label_smoothing %g, expected 0 to 1; smooth less",
                       call->attr[2]);
    /* One more, because with no bytes there would be no buffer. */
    call->saved_bytes = ((size_t)call->in[0]->size + 1) * tm_item_size(call->in[0]->dtype);
    return classes_rule(call);
}

/* Saves the number of labels that count, then the place of the element each label picks, or -1. */
static int nll_loss_rule(tm_call *call)
{
    call->saved_bytes = ((size_t)call->in[1]->size + 1) * sizeof(int64_t);
    return classes_rule(call);
}

static int mse_loss_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *target = call->in[1];
    if (!tm_same_shape(x, target))
        return tm_fail(TM_SHAPE_ERROR, "mse_loss: got input %s and target %s, expected equal shapes: a loss "
                       "that broadcasts is nearly always a mistake; reshape one", tm_shape_of(x).text,
                       tm_shape_of(target).text);
    tm_rule_like_input(call);
    if (call->attr[0] != LOSS_NONE)
        call->rank = 0;
    return check_reduction(call);
}

static int ignored(const tm_node *y, int64_t label)
{
    return (double)label == tm_attr(y)[1];
}

/* How many labels count, or -1 after tm_fail when one is no class. */
static int64_t count_labels(tm_node *y, int64_t classes)
{
    const int64_t *labels = tm_data(y->in[1]);
    int64_t counted = 0;
    for (int64_t i = 0; i < y->in[1]->size; i++) {
        if (ignored(y, labels[i]))
            continue;
        if (labels[i] < 0 || labels[i] >= classes)
            return tm_fail(TM_INDEX_ERROR, "%s: label %lld at position %lld is outside the %lld classes 0 to "
                           "%lld; correct it, or leave such labels out with ignore_index=%lld", y->op->name,
                           (long long)labels[i], (long long)i, (long long)classes, (long long)classes - 1,
                           (long long)labels[i]);
        counted++;
    }
    return counted;
}

#elif defined(ROWS)

{.name = "cross_entropy", .min_in = 2, .max_in = 2, .min_attr = 3, .promote = 1, .rule = cross_entropy_rule,
 .forward = {FLOATS(cross_entropy_forward)}, .backward = {FLOATS(cross_entropy_backward)}},
{.name = "nll_loss", .min_in = 2, .max_in = 2, .min_attr = 2, .promote = 1, .rule = nll_loss_rule,
 .forward = {FLOATS(nll_loss_forward)}, .backward = {FLOATS(nll_loss_backward)}},
{.name = "mse_loss", .min_in = 2, .max_in = 2, .min_attr = 1, .promote = TM_ANY, .rule = mse_loss_rule,
 .forward = {FLOATS(mse_loss_forward)}, .backward = {FLOATS(mse_loss_backward)}},

#elif REAL_IS_FLOAT

/* What the rows of cross_entropy share. */
typedef struct {
    double scale;
    REAL everywhere, at_label; /* the target, scaled */
} FN(cross_entropy);

/* The smoothed target gives every class smoothing / C and the label 1 - smoothing more. With p = e / sum and
 * z = x - max, the loss is log(sum) minus the target's mean of z, and its derivative p minus the target. */
static double FN(cross_entropy_strip)(const strip_work *work, strip s)
{
    tm_node *y = work->node;
    const FN(cross_entropy) *shared = work->made;
    const double smoothing = tm_attr(y)[2];
    const REAL *restrict x = tm_data(y->in[0]);
    const int64_t *labels = tm_data(y->in[1]);
    REAL *restrict d = tm_saved(y), *to = tm_data(y), max[STRIP], factor[STRIP], less[STRIP];
    double sum[STRIP], z_sum[STRIP], total = 0;
    FN(exp_strip)(s, x, d, max, sum, smoothing ? z_sum : NULL);
    for (int64_t q = 0; q < s.count; q++) {
        const int64_t label = labels[s.first + q];
        double loss = 0;
        factor[q] = less[q] = 0;
        if (!ignored(y, label)) {
            const REAL z = x[s.at + q * s.row_step + label * s.step] - max[q];
            const double elsewhere = smoothing ? smoothing * z_sum[q] / (double)s.n : 0;
            loss = FN(log)((REAL)sum[q]) - (1 - smoothing) * z - elsewhere;
            factor[q] = (REAL)(shared->scale / sum[q]);
            less[q] = shared->everywhere;
        }
        total += loss;
        if (tm_attr(y)[0] == LOSS_NONE)
            to[s.first + q] = (REAL)loss;
    }
    FOR_STRIP(s, d[i] = FLOW(factor[q], d[i]) - less[q]);
    for (int64_t q = 0; q < s.count; q++)
        if (!ignored(y, labels[s.first + q]))
            d[s.at + q * s.row_step + labels[s.first + q] * s.step] -= shared->at_label;
    return total;
}

static int FN(cross_entropy_forward)(tm_node *y)
{
    const int axis = class_axis(y->in[0]), reduction = (int)tm_attr(y)[0];
    const int64_t classes = tm_shape(y->in[0])[axis], counted = count_labels(y, classes);
    if (counted < 0)
        return -1;
    const double smoothing = tm_attr(y)[2], scale = reduction == LOSS_MEAN ? 1 / (double)counted : 1;
    const FN(cross_entropy) shared = {.scale = scale,
                                      .everywhere = (REAL)(scale * smoothing / (double)classes),
                                      .at_label = (REAL)(scale * (1 - smoothing))};
    strip_work work = {.run = FN(cross_entropy_strip), .node = y, .made = &shared};
    const double total = each_strip(&work, y->in[0], axis);
    if (reduction != LOSS_NONE)
        *(REAL *)tm_data(y) = (REAL)(reduction == LOSS_MEAN ? total / (double)counted : total);
    return 0;
}

/* A strip's rows have a dy each, or all have one. */
static double FN(cross_entropy_flow)(const strip_work *work, strip s)
{
    const REAL *restrict d = tm_saved(work->node), *restrict dy = tm_grad_data(work->node);
    REAL *restrict dx = work->dx;
    const int add = work->add;
    const REAL flows = *dy;
    if (tm_attr(work->node)[0] == LOSS_NONE)
        FOR_STRIP(s, dx[i] = FLOW(dy[s.first + q], d[i]) + (add ? dx[i] : 0));
    else if (s.step == 1) /* rows may be short */
        for (int64_t i = s.at; i < s.at + s.count * s.n; i++)
            dx[i] = FLOW(flows, d[i]) + (add ? dx[i] : 0);
    else
        FOR_STRIP(s, dx[i] = FLOW(flows, d[i]) + (add ? dx[i] : 0));
    return 0;
}

static int FN(cross_entropy_backward)(tm_node *y)
{
    strip_work work = {.run = FN(cross_entropy_flow), .node = y};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        each_strip(&work, y->in[0], class_axis(y->in[0]));
    return 0;
}

static int FN(nll_loss_forward)(tm_node *y)
{
    const int axis = class_axis(y->in[0]), reduction = (int)tm_attr(y)[0];
    const REAL *logp = tm_data(y->in[0]);
    const int64_t *labels = tm_data(y->in[1]);
    strip s = strips_along(y->in[0], axis);
    const int64_t counted = count_labels(y, s.n);
    if (counted < 0)
        return -1;
    REAL *to = tm_data(y);
    int64_t *places = tm_saved(y);
    double total = 0;
    *places++ = counted;
    for (int64_t row = 0; row < s.rows; row += s.count) {
        take_strip(&s, row);
        for (int64_t q = 0; q < s.count; q++) {
            const int64_t label = labels[s.first + q];
            const int64_t place = ignored(y, label) ? -1 : s.at + q * s.row_step + label * s.step;
            const REAL loss = place < 0 ? 0 : -logp[place];
            places[s.first + q] = place;
            total += loss;
            if (reduction == LOSS_NONE)
                to[s.first + q] = loss;
        }
    }
    if (reduction != LOSS_NONE)
        *to = (REAL)(reduction == LOSS_MEAN ? total / (double)counted : total);
    return 0;
}

static int FN(nll_loss_backward)(tm_node *y)
{
    tm_node *x = y->in[0];
    const int64_t *places = tm_saved(y), counted = *places++;
    int add;
    const REAL *dy = tm_grad_data(y), scale = tm_attr(y)[0] == LOSS_MEAN ? 1 / (REAL)counted : 1;
    REAL *dx = tm_grad_open(x, &add);
    if (!dx)
        return 0;
    if (!add)
        memset(dx, 0, (size_t)x->size * sizeof *dx);
    for (int64_t i = 0; i < y->in[1]->size; i++)
        if (places[i] >= 0)
            dx[places[i]] -= scale * dy[tm_attr(y)[0] == LOSS_NONE ? i : 0];
    return 0;
}

/* Parts of mse_loss: of its terms, or of one operand's gradient. */
typedef struct {
    tm_node *y;
    int64_t part;
    double total[TM_MAX_PARTS];
    REAL *dx, scale;
    int add;
} FN(mse_work);

static void FN(mse_part)(void *context, int64_t task)
{
    FN(mse_work) *work = context;
    tm_node *y = work->y;
    const int64_t first = task * work->part, left = y->in[0]->size - first;
    const int64_t size = left < work->part ? left : work->part;
    const REAL *a = (REAL *)tm_data(y->in[0]) + first, *b = (REAL *)tm_data(y->in[1]) + first;
    if (tm_attr(y)[0] == LOSS_NONE) {
        REAL *restrict to = (REAL *)tm_data(y) + first;
        for (int64_t i = 0; i < size; i++)
            to[i] = (a[i] - b[i]) * (a[i] - b[i]);
        return;
    }
    double total = 0;
    for (int64_t i = 0; i < size; i += STRIP) {
        const int64_t n = size - i < STRIP ? size - i : STRIP;
        REAL difference[STRIP];
        for (int64_t j = 0; j < n; j++)
            difference[j] = a[i + j] - b[i + j];
        total += FN(row_dot)(n, difference, difference);
    }
    work->total[task] = total;
}

static int FN(mse_loss_forward)(tm_node *y)
{
    const int64_t size = y->in[0]->size;
    FN(mse_work) work; /* set piece by piece: most totals stay unused */
    work.y = y;
    work.part = tm_part(size, TM_PART);
    const int64_t parts = tm_parts(size, work.part);
    tm_parallel_parts(parts, size, FN(mse_part), &work);
    if (tm_attr(y)[0] == LOSS_NONE)
        return 0;
    double total = 0;
    for (int64_t task = 0; task < parts; task++)
        total += work.total[task];
    *(REAL *)tm_data(y) = (REAL)(tm_attr(y)[0] == LOSS_MEAN ? total / (double)size : total);
    return 0;
}

static void FN(mse_flow)(void *context, int64_t task)
{
    const FN(mse_work) *work = context;
    tm_node *y = work->y;
    const int64_t first = task * work->part, left = y->in[0]->size - first;
    const int64_t size = left < work->part ? left : work->part;
    const REAL *a = (REAL *)tm_data(y->in[0]) + first, *b = (REAL *)tm_data(y->in[1]) + first, *dy = tm_grad_data(y);
    REAL *restrict dx = work->dx + first;
    const REAL scale = work->scale;
    const int add = work->add;
    if (tm_attr(y)[0] == LOSS_NONE) {
        dy += first;
        for (int64_t i = 0; i < size; i++)
            dx[i] = FLOW(scale * dy[i], a[i] - b[i]) + (add ? dx[i] : 0);
    } else {
        const REAL flows = scale * *dy;
        for (int64_t i = 0; i < size; i++)
            dx[i] = FLOW(flows, a[i] - b[i]) + (add ? dx[i] : 0);
    }
}

/* da = 2 (a - b) dy = -db */
static int FN(mse_loss_backward)(tm_node *y)
{
    const int64_t size = y->in[0]->size;
    FN(mse_work) work;
    work.y = y;
    work.part = tm_part(size, TM_PART);
    for (int operand = 0; operand < 2; operand++) {
        work.scale = (REAL)(operand ? -2 : 2) / (tm_attr(y)[0] == LOSS_MEAN ? (REAL)size : 1);
        if ((work.dx = tm_grad_open(y->in[operand], &work.add)))
            tm_parallel_parts(tm_parts(size, work.part), size, FN(mse_flow), &work);
    }
    return 0;
}

#endif
