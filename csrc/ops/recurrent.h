/* Recurrent layers: lstm, gru and rnn. One op runs one direction of one layer over a whole sequence of T steps.
 *
 * inputs: x (T, B, G H), what the layer's inputs bring to the G gates, made by one product beforehand; w (G H, H);
 * h0 (B, H); for lstm c0 (B, H); perhaps a bias (G H,). attributes: 1 to go from the last step to the first; for rnn,
 * then 0 for tanh and 1 for relu. The result is h after each step (T, B, H); for lstm the last c follows, as one more.
 *
 *     a = h w^T + bias, whose columns are the gates in the order in which they stand here, as in PyTorch:
 *     lstm   i, f = sigmoid(x + a), g = tanh(x + a), o = sigmoid(x + a); c = f c + i g; h = o tanh(c)
 *     gru    r, z = sigmoid(x + a), n = tanh(x + r a); h = (1 - z) n + z h
 *     rnn    h = tanh(x + a) or relu(x + a)
 *
 * Rows of the batch do not meet, so a task takes some of them through all steps. Backward takes the steps in reverse:
 * each gives the gradient of a, from which one product makes that of the h before. The weight's gradient is one product
 * over all steps at the end. */

#if defined(RULES)

enum { RECURRENT_ROWS = 32 }; /* of the batch, for a task */

typedef struct {
    int64_t steps, batch, hidden, gates; /* gates: G H */
    int reverse;
} recurrence;

/* cells: whether there is c. For backward, each step keeps `saved` times H numbers of each row, c and tanh c. */
static int recurrent_rule(tm_call *call, int gates, int cells, int saved)
{
    static const char *const names[] = {"x", "w", "h0", "c0"};
    const tm_node *x = call->in[0], *w = call->in[1];
    const int states = 3 + cells;
    if (x->rank != 3 || w->rank != 2 || tm_shape(w)[0] != gates * tm_shape(w)[1] || tm_shape(x)[2] != tm_shape(w)[0])
        return tm_fail(TM_SHAPE_ERROR, "%s: got x %s and w %s, expected (steps, batch, %d hidden) and (%d hidden, "
                       "hidden); project the inputs to the gates first", call->op->name, tm_shape_of(x).text,
                       tm_shape_of(w).text, gates, gates);
    const int64_t steps = tm_shape(x)[0], batch = tm_shape(x)[1], hidden = tm_shape(w)[1];
    if (steps == 0)
        return tm_fail(TM_SHAPE_ERROR, "%s: got a sequence of length zero, in x of shape %s; expected at least one "
                       "step", call->op->name, tm_shape_of(x).text);
    for (int i = 2; i < states; i++) {
        const tm_node *state = call->in[i];
        if (state->rank != 2 || tm_shape(state)[0] != batch || tm_shape(state)[1] != hidden)
            return tm_fail(TM_SHAPE_ERROR, "%s: got %s of shape %s, expected (%lld, %lld): batch and hidden size",
                           call->op->name, names[i], tm_shape_of(state).text, (long long)batch, (long long)hidden);
    }
    const tm_node *bias = call->n_in > states ? call->in[states] : NULL;
    if (bias && (bias->rank != 1 || tm_shape(bias)[0] != gates * hidden))
        return tm_fail(TM_SHAPE_ERROR, "%s: got bias %s, expected (%lld,) for w %s; reshape it", call->op->name,
                       tm_shape_of(bias).text, (long long)(gates * hidden), tm_shape_of(w).text);
    call->dtype = x->dtype;
    call->rank = 3;
    call->shape[0] = steps + cells;
    call->shape[1] = batch;
    call->shape[2] = hidden;
    call->saved_bytes = (size_t)(steps * batch * hidden * (saved + 2 * cells)) * tm_item_size(x->dtype);
    return 0;
}

enum { LSTM_SAVED = 4, GRU_SAVED = 4 }; /* i, f, g, o; r, z, the a of n, n */

static int lstm_rule(tm_call *call)
{
    return recurrent_rule(call, 4, 1, LSTM_SAVED);
}

static int gru_rule(tm_call *call)
{
    return recurrent_rule(call, 3, 0, GRU_SAVED);
}

static int rnn_rule(tm_call *call)
{
    return recurrent_rule(call, 1, 0, 0);
}

static recurrence recurrence_of(tm_node *y)
{
    const tm_node *x = tm_inputs(y)[0], *w = tm_inputs(y)[1];
    return (recurrence){tm_shape(x)[0], tm_shape(x)[1], tm_shape(w)[1], tm_shape(w)[0], tm_attr(y)[0] != 0};
}

/* The place in the sequence of the step that is the i-th to be taken. */
static int64_t place_of(const recurrence *r, int64_t i)
{
    return r->reverse ? r->steps - 1 - i : i;
}

#elif defined(ROWS)

{.name = "lstm", .min_in = 4, .max_in = 5, .min_attr = 1, .promote = TM_ANY, .rule = lstm_rule,
 .forward = {FLOATS(lstm_forward)}, .backward = {FLOATS(lstm_backward)}},
{.name = "gru", .min_in = 3, .max_in = 4, .min_attr = 1, .promote = TM_ANY, .rule = gru_rule,
 .forward = {FLOATS(gru_forward)}, .backward = {FLOATS(gru_backward)}},
{.name = "rnn", .min_in = 3, .max_in = 4, .min_attr = 2, .promote = TM_ANY, .rule = rnn_rule,
 .forward = {FLOATS(rnn_forward)}, .backward = {FLOATS(rnn_backward)}},

#elif REAL_IS_FLOAT

/* One step of one row: n hidden numbers, with those of before. */
typedef struct {
    int64_t n;
    const REAL *x;
    REAL *saved; /* forward finds a here; rnn: in h */
    const REAL *h_before, *c_before;
    REAL *h, *c, *tanh_c;
    /* backward: dh and dc come from later steps. They become what flows to h_before and c_before at once; through a,
     * more will. da may be dx. */
    const REAL *dy;
    REAL *dh, *dc, *dx, *da;
} FN(recurrent_row);

typedef void FN(recurrent_step)(const FN(recurrent_row) *row);

typedef struct {
    FN(recurrent_step) *forward, *backward;
    int saved;    /* as in the rule */
    int cells;    /* whether there is c */
    int apart;    /* whether da is not dx, and whether h_before takes part other than in a */
} FN(recurrent_kind);

/* The loops of a step: what they write lies apart from what they read, or at the same place. Compilers do not see that,
 * and would not check for so many arrays. */
#if defined(__clang__)
#define EACH_HIDDEN(j, n) _Pragma("clang loop vectorize(assume_safety)") for (int64_t j = 0; j < (n); j++)
#else
#define EACH_HIDDEN(j, n) _Pragma("GCC ivdep") for (int64_t j = 0; j < (n); j++)
#endif

static void FN(lstm_step)(const FN(recurrent_row) *row)
{
    const int64_t n = row->n;
    const REAL *x = row->x, *before = row->c_before;
    REAL *s = row->saved, *h = row->h, *cs = row->c, *tanh_cs = row->tanh_c;
    EACH_HIDDEN(j, n) {
        const REAL i = FN(sigmoid)(x[j] + s[j]), f = FN(sigmoid)(x[n + j] + s[n + j]);
        const REAL g = FN(tanh)(x[2 * n + j] + s[2 * n + j]), o = FN(sigmoid)(x[3 * n + j] + s[3 * n + j]);
        const REAL c = f * before[j] + i * g, tanh_c = FN(tanh)(c);
        s[j] = i;
        s[n + j] = f;
        s[2 * n + j] = g;
        s[3 * n + j] = o;
        cs[j] = c;
        tanh_cs[j] = tanh_c;
        h[j] = o * tanh_c;
    }
}

static void FN(lstm_step_back)(const FN(recurrent_row) *row)
{
    const int64_t n = row->n;
    const REAL *s = row->saved, *cs_before = row->c_before, *tanh_cs = row->tanh_c, *dy = row->dy, *dh = row->dh;
    REAL *dc = row->dc, *dx = row->dx;
    EACH_HIDDEN(j, n) {
        const REAL i = s[j], f = s[n + j], g = s[2 * n + j], o = s[3 * n + j];
        const REAL tanh_c = tanh_cs[j], c_before = cs_before[j];
        const REAL d = dh[j] + dy[j], d_c = dc[j] + FLOW(d, o * (1 - tanh_c * tanh_c));
        dx[j] = FLOW(d_c, g * i * (1 - i));
        dx[n + j] = FLOW(d_c, c_before * f * (1 - f));
        dx[2 * n + j] = FLOW(d_c, i * (1 - g * g));
        dx[3 * n + j] = FLOW(d, tanh_c * o * (1 - o));
        dc[j] = FLOW(d_c, f);
    }
}

static void FN(gru_step)(const FN(recurrent_row) *row)
{
    const int64_t n = row->n;
    const REAL *x = row->x, *before = row->h_before;
    REAL *s = row->saved, *h = row->h;
    EACH_HIDDEN(j, n) {
        const REAL r = FN(sigmoid)(x[j] + s[j]), z = FN(sigmoid)(x[n + j] + s[n + j]);
        const REAL fresh = FN(tanh)(x[2 * n + j] + r * s[2 * n + j]);
        s[j] = r;
        s[n + j] = z;
        s[3 * n + j] = fresh;
        h[j] = fresh + z * (before[j] - fresh);
    }
}

static void FN(gru_step_back)(const FN(recurrent_row) *row)
{
    const int64_t n = row->n;
    const REAL *s = row->saved, *before = row->h_before, *dy = row->dy;
    REAL *dh = row->dh, *dx = row->dx, *da = row->da;
    EACH_HIDDEN(j, n) {
        const REAL r = s[j], z = s[n + j], a = s[2 * n + j], fresh = s[3 * n + j], h_before = before[j];
        const REAL d = dh[j] + dy[j], d_fresh = FLOW(d, (1 - z) * (1 - fresh * fresh));
        dx[j] = da[j] = FLOW(d_fresh, a * r * (1 - r));
        dx[n + j] = da[n + j] = FLOW(d, (h_before - fresh) * z * (1 - z));
        dx[2 * n + j] = d_fresh;
        da[2 * n + j] = FLOW(d_fresh, r);
        dh[j] = FLOW(d, z);
    }
}

static void FN(rnn_tanh_step)(const FN(recurrent_row) *row)
{
    const REAL *x = row->x;
    REAL *h = row->h;
    EACH_HIDDEN(j, row->n)
        h[j] = FN(tanh)(x[j] + h[j]);
}

static void FN(rnn_relu_step)(const FN(recurrent_row) *row)
{
    const REAL *x = row->x;
    REAL *h = row->h;
    EACH_HIDDEN(j, row->n) {
        const REAL sum = x[j] + h[j];
        h[j] = sum < 0 ? 0 : sum; /* nan stays */
    }
}

static void FN(rnn_tanh_step_back)(const FN(recurrent_row) *row)
{
    const REAL *h = row->h, *dh = row->dh, *dy = row->dy;
    REAL *dx = row->dx;
    EACH_HIDDEN(j, row->n) {
        const REAL d = dh[j] + dy[j];
        dx[j] = FLOW(d, 1 - h[j] * h[j]);
    }
}

static void FN(rnn_relu_step_back)(const FN(recurrent_row) *row)
{
    const REAL *h = row->h, *dh = row->dh, *dy = row->dy;
    REAL *dx = row->dx;
    EACH_HIDDEN(j, row->n) {
        const REAL d = dh[j] + dy[j];
        dx[j] = h[j] > 0 ? d : 0;
    }
}
#undef EACH_HIDDEN

static const FN(recurrent_kind) FN(lstm_kind) = {FN(lstm_step), FN(lstm_step_back), LSTM_SAVED, 1, 0};
static const FN(recurrent_kind) FN(gru_kind) = {FN(gru_step), FN(gru_step_back), GRU_SAVED, 0, 1};
static const FN(recurrent_kind) FN(rnn_kinds)[2] = {
    {FN(rnn_tanh_step), FN(rnn_tanh_step_back), 0, 0, 0},
    {FN(rnn_relu_step), FN(rnn_relu_step_back), 0, 0, 0},
};

/* What the tasks of a kernel on y share. */
typedef struct {
    const FN(recurrent_kind) *kind;
    recurrence r;
    const REAL *x, *w, *h0, *c0, *bias, *dy;
    REAL *y, *saved, *c, *tanh_c;
    int64_t w_row, w_column; /* how far apart its elements are */
    REAL *dx, *da, *dh, *dc;
    int to_h0; /* whether dh has to reach h0 */
    atomic_int *failed;
} FN(recurrent_work);

static FN(recurrent_work) FN(recurrent_start)(tm_node *y, const FN(recurrent_kind) *kind)
{
    tm_node **in = tm_inputs(y);
    const uint32_t states = 3 + (uint32_t)kind->cells;
    FN(recurrent_work) work = {.kind = kind, .r = recurrence_of(y), .x = tm_data(in[0]), .w = tm_data(in[1]),
                               .h0 = tm_data(in[2]), .y = tm_data(y), .w_column = 1};
    work.w_row = work.r.hidden;
    if (kind->cells)
        work.c0 = tm_data(in[3]);
    if (y->n_inputs > states)
        work.bias = tm_data(in[states]);
    if (y->flags & TM_SAVES)
        work.saved = tm_saved(y);
    if (work.saved && kind->cells) {
        const int64_t states = work.r.steps * work.r.batch * work.r.hidden;
        work.c = work.saved + kind->saved * states;
        work.tanh_c = work.c + states;
    }
    return work;
}

/* The row of that number at the i-th step to be taken. */
static FN(recurrent_row) FN(recurrent_row_at)(const FN(recurrent_work) *work, int64_t i, int64_t row)
{
    const recurrence *r = &work->r;
    const FN(recurrent_kind) *kind = work->kind;
    const int64_t n = r->hidden, at = place_of(r, i) * r->batch + row;
    const int64_t before = i ? (place_of(r, i - 1) * r->batch + row) * n : row * n;
    FN(recurrent_row) found = {.n = n, .x = work->x + at * r->gates, .h = work->y + at * n};
    found.h_before = (i ? work->y : work->h0) + before;
    found.saved = kind->saved ? work->saved + at * kind->saved * n : found.h;
    if (kind->cells) {
        found.c = work->c + at * n;
        found.tanh_c = work->tanh_c + at * n;
        found.c_before = (i ? work->c : work->c0) + before;
    }
    if (work->dy) {
        found.dy = work->dy + at * n;
        found.dh = work->dh + row * n;
        found.dc = work->dc + row * n;
        found.dx = work->dx + at * r->gates;
        found.da = work->da + at * r->gates;
    }
    return found;
}

static void FN(recurrent_part)(void *context, int64_t task)
{
    const FN(recurrent_work) *work = context;
    const recurrence *r = &work->r;
    const int64_t n = r->hidden, first = task * RECURRENT_ROWS;
    const int64_t end = first + RECURRENT_ROWS < r->batch ? first + RECURRENT_ROWS : r->batch;
    for (int64_t i = 0; i < r->steps; i++) {
        FN(recurrent_row) row = FN(recurrent_row_at)(work, i, first);
        if (FN(gemm)(end - first, r->gates, n, row.h_before, n, 1, work->w, work->w_column, work->w_row, row.saved,
                     work->kind->saved ? work->kind->saved * n : n, (FN(gemm_tail)){.bias = work->bias})) {
            atomic_store(work->failed, 1);
            return;
        }
        for (int64_t b = first; b < end; b++) {
            row = FN(recurrent_row_at)(work, i, b);
            work->kind->forward(&row);
        }
    }
    for (int64_t b = first; work->kind->cells && b < end; b++)
        memcpy(work->y + (r->steps * r->batch + b) * n,
               FN(recurrent_row_at)(work, r->steps - 1, b).c, (size_t)n * sizeof(REAL));
}

static void FN(recurrent_part_back)(void *context, int64_t task)
{
    const FN(recurrent_work) *work = context;
    const recurrence *r = &work->r;
    const int64_t n = r->hidden, first = task * RECURRENT_ROWS;
    const int64_t end = first + RECURRENT_ROWS < r->batch ? first + RECURRENT_ROWS : r->batch;
    const size_t bytes = (size_t)((end - first) * n) * sizeof(REAL);
    memset(work->dh + first * n, 0, bytes);
    if (work->kind->cells)
        memcpy(work->dc + first * n, work->dy + (r->steps * r->batch + first) * n, bytes);
    for (int64_t i = r->steps - 1; i >= 0; i--) {
        FN(recurrent_row) row;
        for (int64_t b = first; b < end; b++) {
            row = FN(recurrent_row_at)(work, i, b);
            work->kind->backward(&row);
        }
        row = FN(recurrent_row_at)(work, i, first);
        if ((i || work->to_h0) &&
            FN(gemm)(end - first, n, r->gates, row.da, r->gates, 1, work->w, work->w_row, work->w_column, row.dh, n,
                     (FN(gemm_tail)){.accumulate = work->kind->apart})) {
            atomic_store(work->failed, 1);
            return;
        }
    }
}

/* All parts; where one had no memory, -1. */
static int FN(recurrent_run)(tm_node *y, FN(recurrent_work) *work, void (*part)(void *context, int64_t task))
{
    enum { PRODUCTS = 16, CELL = 16 }; /* products that take as long as an addition, additions as long as a cell */
    const recurrence *r = &work->r;
    const int64_t elements = r->steps * r->batch * r->gates;
    atomic_int failed = 0;
    work->failed = &failed;
    tm_parallel_parts(tm_parts(r->batch, RECURRENT_ROWS), elements * (r->hidden / PRODUCTS + CELL), part, work);
    return failed ? tm_fail(TM_MEMORY_ERROR, "%s: no memory to pack a product's operands", y->op->name) : 0;
}

/* Products read the weight's transpose; they would turn it at every step. */
static int FN(recurrent_forward)(tm_node *y, const FN(recurrent_kind) *kind)
{
    enum { FEW_ROWS = 8 }; /* products with few rows read it as it is */
    FN(recurrent_work) work = FN(recurrent_start)(y, kind);
    const recurrence *r = &work.r;
    if (r->steps > 1 && r->batch > FEW_ROWS) {
        REAL *turned = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(r->gates * r->hidden) * sizeof *turned);
        if (!turned)
            return -1;
        FN(gemm_pack)(r->gates, r->gates, r->hidden, work.w, r->hidden, 1, turned);
        work.w = turned;
        work.w_row = 1;
        work.w_column = r->gates;
    }
    return FN(recurrent_run)(y, &work, FN(recurrent_part));
}

/* A gradient that is complete goes to where x wants it. */
static void FN(recurrent_give)(tm_node *x, const REAL *restrict from)
{
    int add;
    REAL *restrict dx = tm_grad_open(x, &add);
    for (int64_t i = 0; dx && i < x->size; i++)
        dx[i] = from[i] + (add ? dx[i] : 0);
}

/* dw = da^T h_before: over the steps that come after another one, whose h lie side by side, and over the first. */
static int FN(recurrent_weight_flow)(tm_node *w, const FN(recurrent_work) *work)
{
    const recurrence *r = &work->r;
    const int64_t n = r->hidden, later = (r->steps - 1) * r->batch, skipped = r->batch;
    FN(gemm_tail) tail = {0};
    REAL *dw = tm_grad_open(w, &tail.accumulate);
    if (!dw)
        return 0;
    if (later && FN(gemm)(r->gates, n, later, work->da + (r->reverse ? 0 : skipped) * r->gates, 1, r->gates,
                          work->y + (r->reverse ? skipped : 0) * n, n, 1, dw, n, tail))
        return -1;
    tail.accumulate |= later > 0;
    return FN(gemm)(r->gates, n, r->batch, work->da + place_of(r, 0) * r->batch * r->gates, 1, r->gates, work->h0, n, 1,
                    dw, n, tail);
}

static int FN(recurrent_backward)(tm_node *y, const FN(recurrent_kind) *kind)
{
    tm_node **in = tm_inputs(y), *bias = y->n_inputs > 3 + (uint32_t)kind->cells ? in[3 + kind->cells] : NULL;
    FN(recurrent_work) work = FN(recurrent_start)(y, kind);
    const recurrence *r = &work.r;
    const int64_t states = r->batch * r->hidden, rows = r->steps * r->batch;
    const REAL one = 1;
    int add;
    work.dy = tm_grad_data(y);
    work.to_h0 = in[2]->flags & TM_REQUIRES_GRAD;
    /* dx takes the gates' gradients where it need not keep what it holds. */
    REAL *dx = tm_grad_open(in[0], &add);
    const int in_place = dx && !add;
    const int64_t needed = 2 * states + (!in_place + kind->apart) * rows * r->gates;
    /* +1: not NULL where all is empty */
    REAL *scratch = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(needed + 1) * sizeof *scratch);
    if (!scratch)
        return -1;
    work.dh = scratch;
    work.dc = scratch + states;
    work.dx = in_place ? dx : scratch + 2 * states;
    work.da = kind->apart ? scratch + 2 * states + !in_place * rows * r->gates : work.dx;
    if (FN(recurrent_run)(y, &work, FN(recurrent_part_back)))
        return -1;
    for (int64_t i = 0; dx && !in_place && i < rows * r->gates; i++)
        dx[i] += work.dx[i];
    if (FN(recurrent_weight_flow)(in[1], &work))
        return -1;
    FN(recurrent_give)(in[2], work.dh);
    if (kind->cells)
        FN(recurrent_give)(in[3], work.dc);
    REAL *db = bias ? tm_grad_open(bias, &add) : NULL;
    return db ? FN(gemm)(1, r->gates, rows, &one, 0, 0, work.da, r->gates, 1, db, r->gates,
                         (FN(gemm_tail)){.accumulate = add}) : 0;
}

static int FN(lstm_forward)(tm_node *y)
{
    return FN(recurrent_forward)(y, &FN(lstm_kind));
}

static int FN(lstm_backward)(tm_node *y)
{
    return FN(recurrent_backward)(y, &FN(lstm_kind));
}

static int FN(gru_forward)(tm_node *y)
{
    return FN(recurrent_forward)(y, &FN(gru_kind));
}

static int FN(gru_backward)(tm_node *y)
{
    return FN(recurrent_backward)(y, &FN(gru_kind));
}

static int FN(rnn_forward)(tm_node *y)
{
    return FN(recurrent_forward)(y, &FN(rnn_kinds)[tm_attr(y)[1] != 0]);
}

static int FN(rnn_backward)(tm_node *y)
{
    return FN(recurrent_backward)(y, &FN(rnn_kinds)[tm_attr(y)[1] != 0]);
}

#endif
