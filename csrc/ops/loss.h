/* cross_entropy, nll_loss and mse_loss, whose attribute 0 says what becomes of the terms: none, mean or sum; and
 * probabilities, which lets through what other losses take for such. */

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

/* What nll_loss saves: the sum of the weights of labels that count, and for each label the place of the element that it
 * picks, or -1. */
typedef struct {
    double weight;
    int64_t places[];
} nll_saved;

/* Perhaps a third input: a weight for each class. Attribute 2 is the label smoothing. */
static int nll_loss_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *weight = call->n_in > 2 ? call->in[2] : NULL;
    call->saved_bytes = sizeof(nll_saved) + (size_t)call->in[1]->size * sizeof(int64_t);
    if (classes_rule(call))
        return -1;
    const int64_t classes = tm_shape(x)[class_axis(x)];
    if (weight && (weight->rank != 1 || weight->size != classes))
        return tm_fail(TM_SHAPE_ERROR, "%s: got weight %s, expected (%lld,), a number for each class", call->op->name,
                       tm_shape_of(weight).text, (long long)classes);
    if (weight && weight->dtype != x->dtype)
        return tm_fail(TM_DTYPE_ERROR, "%s: got %s weights for %s scores, expected one dtype; convert with .to()",
                       call->op->name, tm_dtype_name(weight->dtype), tm_dtype_name(x->dtype));
    return 0;
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

/* Who takes what for probabilities; functional/_loss.py names the rows by their numbers. */
static const struct {
    const char *loss, *operand;
    double most;
    const char *way_out;
} probabilities_of[] = {
    {"binary_cross_entropy", "input", 1, "apply sigmoid, or use binary_cross_entropy_with_logits"},
    {"binary_cross_entropy", "target", 1, "for labels -1 and +1 use hinge_loss, or make them 0 and 1"},
    {"binary_cross_entropy_with_logits", "target", 1, "for labels -1 and +1 use hinge_loss, or make them 0 and 1"},
    {"cross_entropy", "target", INFINITY, "apply softmax to scores, or give labels as int64"},
    {"kl_div", "target", INFINITY, "apply softmax to scores, or set log_target for logarithms"},
};

/* attributes: a row of probabilities_of */
static int probabilities_rule(tm_call *call)
{
    if (!(call->attr[0] >= 0 && call->attr[0] < sizeof probabilities_of / sizeof *probabilities_of))
        return tm_fail(TM_VALUE_ERROR, "probabilities: got attribute %g, expected the number of a loss", call->attr[0]);
    return tm_rule_like_input(call);
}

static int ignored(const tm_node *y, int64_t label)
{
    return (double)label == tm_attr(y)[1];
}

/* How many labels count, or -1 after tm_fail when one is no class. */
static int64_t count_labels(tm_node *y, int64_t classes)
{
    tm_node *target = tm_inputs(y)[1];
    const int64_t *labels = tm_data(target);
    int64_t counted = 0;
    for (int64_t i = 0; i < target->size; i++) {
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
{.name = "nll_loss", .min_in = 2, .max_in = 3, .min_attr = 3, .promote = 1, .rule = nll_loss_rule,
 .forward = {FLOATS(nll_loss_forward)}, .backward = {FLOATS(nll_loss_backward)}},
{.name = "probabilities", .min_in = 1, .max_in = 1, .min_attr = 1, .promote = TM_ANY, .rule = probabilities_rule,
 .forward = {FLOATS(probabilities_forward)}, .backward = {FLOATS(probabilities_backward)}},
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

/* A row's loss is minus the sum of w x over its classes, times smoothing / C, and 1 - smoothing times that of its label
 * alone. */
static int FN(nll_loss_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const int reduction = (int)tm_attr(y)[0];
    const double smoothing = tm_attr(y)[2];
    const REAL *x = tm_data(in[0]), *w = y->n_inputs > 2 ? tm_data(in[2]) : NULL;
    const int64_t *labels = tm_data(in[1]);
    strip s = strips_along(in[0], class_axis(in[0]));
    if (count_labels(y, s.n) < 0)
        return -1;
    REAL *to = tm_data(y);
    nll_saved *saved = tm_saved(y);
    double total = 0, weight = 0;
    for (int64_t row = 0; row < s.rows; row += s.count) {
        take_strip(&s, row);
        for (int64_t q = 0; q < s.count; q++) {
            const int64_t label = labels[row + q], at = s.at + q * s.row_step;
            const int64_t place = saved->places[row + q] = ignored(y, label) ? -1 : at + label * s.step;
            double loss = 0;
            if (place >= 0) {
                const double w_label = w ? w[label] : 1;
                weight += w_label;
                loss = -FLOW((1 - smoothing) * w_label, (double)x[place]);
                for (int64_t c = 0; smoothing && c < s.n; c++)
                    loss -= FLOW(smoothing / (double)s.n * (w ? w[c] : 1), (double)x[at + c * s.step]);
            }
            total += loss;
            if (reduction == LOSS_NONE)
                to[row + q] = (REAL)loss;
        }
    }
    saved->weight = weight;
    if (reduction != LOSS_NONE)
        *to = (REAL)(reduction == LOSS_MEAN ? total / weight : total);
    return 0;
}

static int FN(nll_loss_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const nll_saved *saved = tm_saved(y);
    const int64_t *labels = tm_data(in[1]);
    const int reduction = (int)tm_attr(y)[0];
    const double smoothing = tm_attr(y)[2], scale = reduction == LOSS_MEAN ? 1 / saved->weight : 1;
    const REAL *dy = tm_grad_data(y), *w = y->n_inputs > 2 ? tm_data(in[2]) : NULL;
    const strip s = strips_along(in[0], class_axis(in[0]));
    int add;
    REAL *dx = tm_grad_open(in[0], &add);
    if (!dx)
        return 0;
    if (!add)
        memset(dx, 0, (size_t)in[0]->size * sizeof *dx);
    for (int64_t i = 0; i < in[1]->size; i++) {
        const int64_t place = saved->places[i];
        const double flows = FLOW((double)dy[reduction == LOSS_NONE ? i : 0], scale);
        if (place < 0)
            continue;
        dx[place] -= (REAL)((1 - smoothing) * (w ? w[labels[i]] : 1) * flows);
        REAL *row = dx + place - labels[i] * s.step;
        for (int64_t c = 0; smoothing && c < s.n; c++)
            row[c * s.step] -= (REAL)(smoothing / (double)s.n * (w ? w[c] : 1) * flows);
    }
    return 0;
}

/* x, unless an element of it is no probability. NaN is for the loss to show. */
static int FN(probabilities_forward)(tm_node *y)
{
    const int who = (int)tm_attr(y)[0];
    const REAL *x = tm_data(y->in[0]), most = (REAL)probabilities_of[who].most;
    REAL *to = tm_data(y);
    int outside = 0;
    for (int64_t i = 0; i < y->size; i++) {
        outside |= (x[i] < 0) | (x[i] > most);
        to[i] = x[i];
    }
    for (int64_t i = 0; outside; i++)
        if (x[i] < 0 || x[i] > most)
            return tm_fail(TM_VALUE_ERROR, "%s: got probability %g at position %lld of %s, expected %s; %s",
                           probabilities_of[who].loss, (double)x[i], (long long)i, probabilities_of[who].operand,
                           most == 1 ? "0 to 1" : "at least 0", probabilities_of[who].way_out);
    return 0;
}

static int FN(probabilities_backward)(tm_node *y)
{
    int add;
    REAL *dx = tm_grad_open(y->in[0], &add);
    if (dx)
        FN(add_terms)(y->size, tm_grad_data(y), dx, 1, add);
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
