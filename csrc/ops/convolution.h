/* Convolutions over one or two dimensions: for each image, the product of the weights and a matrix of patches.
 *
 * The column of a position holds what the kernel sees there, one row for each channel and tap:
 *
 *     y (outs, positions) = w (outs, k) patches (k, positions), where k = channels * taps
 *     dw = dy patches^T
 *     dpatches = w^T dy, whose elements are then added to dx where they came from
 *
 * Patches are made in scratch memory for a block of output rows at a time, from a copy of the rows below with the
 * padding around them. Groups are convolutions side by side. In one dimension the height is 1. */

#if defined(RULES)

/* How windows lie along one dimension. */
typedef struct {
    int64_t extent, taps, stride, before, after, dilation; /* before, after: padding */
    int64_t out;                                           /* how many there are */
} windows;

/* What a window spans, its gaps included. */
static int64_t window_span(const windows *s)
{
    return (s->taps - 1) * s->dilation + 1;
}

typedef struct {
    int64_t images, groups, channels, outs; /* the last two of one group */
    int64_t k;                              /* channels * taps */
    windows rows, columns;
    int copies;                             /* whether patches are anything but the image itself */
    int pads;
} convolution;

/* attributes: dimensions, stride (2), padding (top, bottom, left, right), dilation (2), groups */
enum { CONV_DIMENSIONS, CONV_STRIDE, CONV_PADDING = 3, CONV_DILATION = 7, CONV_GROUPS = 9, CONV_ATTRIBUTES };

static windows conv_windows(int64_t extent, int64_t taps, const double *attr, int axis)
{
    windows s = {.extent = extent, .taps = taps, .stride = (int64_t)attr[CONV_STRIDE + axis],
                 .before = (int64_t)attr[CONV_PADDING + 2 * axis], .after = (int64_t)attr[CONV_PADDING + 2 * axis + 1],
                 .dilation = (int64_t)attr[CONV_DILATION + axis]};
    const int64_t left = s.before + extent + s.after - window_span(&s);
    s.out = left < 0 ? 0 : left / s.stride + 1;
    return s;
}

static convolution convolution_of(const tm_node *x, const tm_node *w, const double *attr)
{
    const int dimensions = (int)attr[CONV_DIMENSIONS];
    const int64_t *of_x = tm_shape(x) + x->rank - dimensions, *of_w = tm_shape(w) + 2;
    convolution c = {.images = x->rank == dimensions + 2 ? tm_shape(x)[0] : 1, .groups = (int64_t)attr[CONV_GROUPS],
                     .channels = tm_shape(w)[1], .outs = tm_shape(w)[0] / (int64_t)attr[CONV_GROUPS]};
    c.rows = conv_windows(dimensions == 2 ? of_x[0] : 1, dimensions == 2 ? of_w[0] : 1, attr, 0);
    c.columns = conv_windows(of_x[dimensions - 1], of_w[dimensions - 1], attr, 1);
    c.k = c.channels * c.rows.taps * c.columns.taps;
    c.pads = c.rows.before || c.rows.after || c.columns.before || c.columns.after;
    c.copies = c.pads || c.k != c.channels || c.rows.stride > 1 || c.columns.stride > 1;
    return c;
}

static int conv_rule(tm_call *call)
{
    const tm_node *x = call->in[0], *w = call->in[1], *bias = call->n_in > 2 ? call->in[2] : NULL;
    const int dimensions = (int)call->attr[CONV_DIMENSIONS], two = dimensions == 2;
    const char *name = two ? "conv2d" : "conv1d";
    if (w->rank != dimensions + 2 || (x->rank != dimensions + 1 && x->rank != dimensions + 2))
        return tm_fail(TM_SHAPE_ERROR, "%s: got input %s and weight %s, expected %s; reshape one", name,
                       tm_shape_of(x).text, tm_shape_of(w).text,
                       two ? "(N, C, H, W) or (C, H, W), and (O, C / groups, kh, kw)"
                           : "(N, C, L) or (C, L), and (O, C / groups, k)");
    for (int i = CONV_STRIDE; i < CONV_ATTRIBUTES; i++) {
        const int pads = i >= CONV_PADDING && i < CONV_DILATION;
        if (!(call->attr[i] >= !pads && call->attr[i] <= INT32_MAX))
            return tm_fail(TM_VALUE_ERROR, "%s: got %s %g, expected %d to %d", name,
                           pads ? "padding" : i < CONV_PADDING ? "stride" : i < CONV_GROUPS ? "dilation" : "groups",
                           call->attr[i], !pads, INT32_MAX);
    }
    const int64_t channels = tm_shape(x)[x->rank - dimensions - 1], outs = tm_shape(w)[0];
    const int64_t groups = (int64_t)call->attr[CONV_GROUPS];
    if (channels != tm_shape(w)[1] * groups)
        return tm_fail(TM_SHAPE_ERROR, "%s: got input %s of %lld channels, expected %lld: weight %s takes %lld in "
                       "each of %lld groups; reshape or permute one, or change groups", name, tm_shape_of(x).text,
                       (long long)channels, (long long)(tm_shape(w)[1] * groups), tm_shape_of(w).text,
                       (long long)tm_shape(w)[1], (long long)groups);
    if (outs % groups)
        return tm_fail(TM_SHAPE_ERROR, "%s: got weight %s of %lld output channels, expected a multiple of the %lld "
                       "groups; change one", name, tm_shape_of(w).text, (long long)outs, (long long)groups);
    if (bias && (bias->rank != 1 || tm_shape(bias)[0] != outs))
        return tm_fail(TM_SHAPE_ERROR, "%s: got bias %s, expected (%lld,) for weight %s; reshape it", name,
                       tm_shape_of(bias).text, (long long)outs, tm_shape_of(w).text);
    const convolution c = convolution_of(x, w, call->attr);
    if (!c.rows.out || !c.columns.out || !c.rows.taps || !c.columns.taps)
        return tm_fail(TM_SHAPE_ERROR, "%s: got a kernel that spans %lld x %lld for input %s, which has %lld x %lld "
                       "with its padding, expected no more than that and at least 1 x 1; add padding or use a smaller "
                       "kernel", name, (long long)window_span(&c.rows), (long long)window_span(&c.columns),
                       tm_shape_of(x).text,
                       (long long)(c.rows.before + c.rows.extent + c.rows.after),
                       (long long)(c.columns.before + c.columns.extent + c.columns.after));
    tm_rule_like_input(call);
    call->shape[x->rank - dimensions - 1] = outs;
    if (two)
        call->shape[x->rank - 2] = c.rows.out;
    call->shape[x->rank - 1] = c.columns.out;
    return 0;
}

/* Patches of so many elements are made at a time, or one row of them: they stay in the second-level cache. */
enum { CONV_PATCHES = 65536 };

/* How many output rows make a block, about the same for each. */
static int64_t conv_block(const convolution *c)
{
    const int64_t row = c->k * c->columns.out, rows = row ? CONV_PATCHES / row : c->rows.out;
    if (!c->copies || rows >= c->rows.out)
        return c->rows.out;
    return rows ? tm_parts(c->rows.out, tm_parts(c->rows.out, rows)) : 1;
}

/* The padded image below a block: rows and columns. */
static int64_t conv_slab_rows(const convolution *c, int64_t rows)
{
    return (rows - 1) * c->rows.stride + window_span(&c->rows);
}

static int64_t conv_slab_columns(const convolution *c)
{
    return c->columns.before + c->columns.extent + c->columns.after;
}

/* Where a block's slab meets the image: the first row of each, and how many rows they share. */
static int64_t conv_overlap(const convolution *c, int64_t row, int64_t rows, int64_t *of_image, int64_t *of_slab)
{
    const int64_t top = row * c->rows.stride - c->rows.before, bottom = top + conv_slab_rows(c, rows),
                  first = top > 0 ? top : 0, end = bottom < c->rows.extent ? bottom : c->rows.extent;
    *of_image = first;
    *of_slab = first - top;
    return end > first ? end - first : 0;
}

/* What the tasks of a kernel share: task i has `part` images from i * part on. */
typedef struct {
    convolution c;
    int64_t part, tasks;
    const void *x, *w, *bias, *dy;
    void *y, *dx, *dw, *db; /* dw and db: each task's own */
    int add;
    int failed;
} conv_work;

static int64_t conv_multiplications(const convolution *c)
{
    return c->groups * c->outs * c->k * c->rows.out * c->columns.out;
}

/* Cuts the images into parts that are worth a task; at most so many. */
static void conv_cut(conv_work *work, int64_t most)
{
    enum { LEAST = 1 << 18 }; /* multiplications */
    const int64_t of_one = conv_multiplications(&work->c) + 1, least = of_one < LEAST ? LEAST / of_one : 1;
    work->part = tm_part(work->c.images, least);
    if (tm_parts(work->c.images, work->part) > most)
        work->part = tm_parts(work->c.images, most);
    work->tasks = tm_parts(work->c.images, work->part);
}

/* How many partial gradients of weights are made side by side: not much more memory than some images take. */
static int64_t conv_sums(int64_t weights)
{
    enum { MOST = 16, ELEMENTS = 1 << 22 };
    return weights * MOST <= ELEMENTS ? MOST : weights < ELEMENTS ? ELEMENTS / weights : 1;
}

/* Where a task's groups end, and how many rows the block has that begins with this one. */
static int64_t conv_end(const conv_work *work, int64_t task)
{
    const int64_t image = (task + 1) * work->part;
    return (image < work->c.images ? image : work->c.images) * work->c.groups;
}

static int64_t conv_rows(const convolution *c, int64_t row)
{
    const int64_t rows = conv_block(c);
    return row + rows < c->rows.out ? rows : c->rows.out - row;
}

static void conv_failed(conv_work *work)
{
    __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
}

static int conv_run(conv_work *work, void (*run)(void *context, int64_t task), size_t item)
{
    enum { PER_ADDITION = 8 }; /* multiplications in the time of an addition */
    tm_parallel_parts(work->tasks, work->c.images * conv_multiplications(&work->c) / PER_ADDITION, run, work);
    return work->failed ? tm_fail_memory("conv", CONV_PATCHES * item) : 0;
}

#elif defined(ROWS)

{.name = "conv", .min_in = 2, .max_in = 3, .min_attr = CONV_ATTRIBUTES, .promote = TM_ANY, .rule = conv_rule,
 .forward = {FLOATS(conv_forward)}, .backward = {FLOATS(conv_backward)}, .derivative = {"b", "a", "1"}},

#elif REAL_IS_FLOAT

/* Memory for the patches of a block, and behind them for the padded rows below it. */
static REAL *FN(conv_scratch)(conv_work *work)
{
    const convolution *c = &work->c;
    const int64_t rows = conv_block(c), patches = c->copies ? c->k * rows * c->columns.out : 0,
                  slab = c->pads ? c->channels * conv_slab_rows(c, rows) * conv_slab_columns(c) : 0;
    REAL *scratch = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(patches + slab + 1) * sizeof *scratch);
    if (!scratch)
        conv_failed(work);
    return scratch;
}

/* to[r][i] += from[r][i] for i < width. Not by vectors with masks, which would wait for those stored to the row before
 * this one. */
static inline void FN(conv_add_rows)(int64_t width, int64_t rows, const REAL *restrict from, int64_t from_step,
                                     REAL *restrict to, int64_t to_step)
{
    for (int64_t r = 0; r < rows; r++, from += from_step, to += to_step)
        for (int64_t i = 0; i < width; i++)
            to[i] += from[i];
}

/* One group of an image as the patches of some output rows see it: channels, rows, and how far apart they are. */
typedef struct {
    REAL *at;
    int64_t channel_step, row_step;
} FN(conv_view);

/* x with the padding around it, as a copy where there is any. */
static FN(conv_view) FN(conv_pad)(const convolution *c, const REAL *x, int64_t row, int64_t rows, REAL *slab)
{
    const int64_t columns = c->columns.extent, image = c->rows.extent * columns;
    if (!c->pads)
        return (FN(conv_view)){(REAL *)x + row * c->rows.stride * columns, image, columns};
    int64_t of_image, of_slab;
    const int64_t shared = conv_overlap(c, row, rows, &of_image, &of_slab);
    const FN(conv_view) v = {slab, conv_slab_rows(c, rows) * conv_slab_columns(c), conv_slab_columns(c)};
    memset(slab, 0, (size_t)(c->channels * v.channel_step) * sizeof *slab);
    for (int64_t i = 0; i < c->channels; i++)
        FN(gemm_copy_rows)(columns, v.row_step, shared, x + i * image + of_image * columns, columns,
                           slab + i * v.channel_step + of_slab * v.row_step + c->columns.before);
    return v;
}

/* One tap's row of patches: what it sees from each position of some output rows. */
static inline void FN(conv_gather)(const convolution *c, int64_t rows, const REAL *from, int64_t row_step, REAL *to)
{
    const int64_t width = c->columns.out, step = c->columns.stride;
    if (step == 1)
        FN(gemm_copy_rows)(width, width, rows, from, row_step * c->rows.stride, to);
    else
        for (int64_t r = 0; r < rows; r++, from += row_step * c->rows.stride, to += width)
            for (int64_t i = 0; i < width; i++)
                to[i] = from[i * step];
}

/* Adds it to where it came from. */
static inline void FN(conv_scatter)(const convolution *c, int64_t rows, const REAL *from, REAL *to, int64_t row_step)
{
    const int64_t width = c->columns.out, step = c->columns.stride;
    if (step == 1)
        FN(conv_add_rows)(width, rows, from, width, to, row_step * c->rows.stride);
    else
        for (int64_t r = 0; r < rows; r++, from += width, to += row_step * c->rows.stride)
            for (int64_t i = 0; i < width; i++)
                to[i * step] += from[i];
}

/* The patches (k, positions) of some output rows of x, one group of an image; *step: from a row to the next. */
static const REAL *FN(conv_patches)(const convolution *c, const REAL *x, int64_t row, int64_t rows, REAL *scratch,
                                    int64_t *step)
{
    *step = rows * c->columns.out;
    if (!c->copies)
        return x + row * c->columns.extent;
    const FN(conv_view) v = FN(conv_pad)(c, x, row, rows, scratch + c->k * *step);
    REAL *to = scratch;
    for (int64_t i = 0; i < c->channels; i++)
        for (int64_t ky = 0; ky < c->rows.taps; ky++)
            for (int64_t kx = 0; kx < c->columns.taps; kx++, to += *step)
                FN(conv_gather)(c, rows, v.at + i * v.channel_step + ky * c->rows.dilation * v.row_step +
                                kx * c->columns.dilation, v.row_step, to);
    return scratch;
}

/* Adds the gradient of patches to dx. */
static void FN(conv_unpatch)(const convolution *c, const REAL *patches, int64_t row, int64_t rows, REAL *slab,
                             REAL *dx)
{
    const int64_t columns = c->columns.extent, image = c->rows.extent * columns, step = rows * c->columns.out;
    FN(conv_view) v = {dx + row * c->rows.stride * columns, image, columns};
    if (c->pads) {
        v = (FN(conv_view)){slab, conv_slab_rows(c, rows) * conv_slab_columns(c), conv_slab_columns(c)};
        memset(slab, 0, (size_t)(c->channels * v.channel_step) * sizeof *slab);
    }
    for (int64_t i = 0; i < c->channels; i++)
        for (int64_t ky = 0; ky < c->rows.taps; ky++)
            for (int64_t kx = 0; kx < c->columns.taps; kx++, patches += step)
                FN(conv_scatter)(c, rows, patches, v.at + i * v.channel_step + ky * c->rows.dilation * v.row_step +
                                 kx * c->columns.dilation, v.row_step);
    if (!c->pads)
        return;
    int64_t of_image, of_slab;
    const int64_t shared = conv_overlap(c, row, rows, &of_image, &of_slab);
    for (int64_t i = 0; i < c->channels; i++)
        FN(conv_add_rows)(columns, shared, slab + i * v.channel_step + of_slab * v.row_step + c->columns.before,
                          v.row_step, dx + i * image + of_image * columns, columns);
}

/* Tasks go through groups, those of an image one after the other, and through blocks of output rows. */
#define CONV_EACH(work, task, group, row, rows)                                                                        \
    for (int64_t group = (task) * (work)->part * (work)->c.groups, end_ = conv_end(work, task); group < end_; group++) \
        for (int64_t row = 0, rows; row < (work)->c.rows.out && (rows = conv_rows(&(work)->c, row)); row += rows)

static void FN(conv_forward_part)(void *context, int64_t task)
{
    conv_work *work = context;
    const convolution *c = &work->c;
    const int64_t positions = c->rows.out * c->columns.out, image = c->channels * c->rows.extent * c->columns.extent;
    REAL *scratch = FN(conv_scratch)(work);
    CONV_EACH(work, task, group, row, rows) {
        const int64_t out = group % c->groups * c->outs, n = rows * c->columns.out;
        const REAL *w = (const REAL *)work->w + out * c->k, *bias = work->bias ? (const REAL *)work->bias + out : NULL;
        REAL *y = (REAL *)work->y + group * c->outs * positions + row * c->columns.out;
        int64_t step;
        if (!scratch)
            return;
        const REAL *patches = FN(conv_patches)(c, (const REAL *)work->x + group * image, row, rows, scratch, &step);
        for (int64_t o = 0; bias && o < c->outs; o++)
            for (int64_t i = 0; i < n; i++)
                y[o * positions + i] = bias[o];
        if (FN(gemm)(c->outs, n, c->k, w, c->k, 1, patches, step, 1, y, positions,
                     (FN(gemm_tail)){.accumulate = bias != NULL}))
            conv_failed(work);
    }
}

static int FN(conv_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    conv_work work = {.c = convolution_of(in[0], in[1], tm_attr(y)), .x = tm_data(in[0]), .w = tm_data(in[1]),
                      .bias = y->n_inputs > 2 ? tm_data(in[2]) : NULL, .y = tm_data(y)};
    conv_cut(&work, TM_MAX_PARTS);
    return conv_run(&work, FN(conv_forward_part), sizeof(REAL));
}

static void FN(conv_dx_part)(void *context, int64_t task)
{
    conv_work *work = context;
    const convolution *c = &work->c;
    const int64_t positions = c->rows.out * c->columns.out, image = c->channels * c->rows.extent * c->columns.extent;
    REAL *scratch = FN(conv_scratch)(work);
    CONV_EACH(work, task, group, row, rows) {
        const int64_t n = rows * c->columns.out;
        const REAL *w = (const REAL *)work->w + group % c->groups * c->outs * c->k;
        const REAL *dy = (const REAL *)work->dy + group * c->outs * positions + row * c->columns.out;
        REAL *dx = (REAL *)work->dx + group * image;
        if (!scratch)
            return;
        if (c->copies && !work->add && row == 0)
            memset(dx, 0, (size_t)image * sizeof *dx);
        REAL *patches = c->copies ? scratch : dx;
        if (FN(gemm)(c->k, n, c->outs, w, 1, c->k, dy, positions, 1, patches, n,
                     (FN(gemm_tail)){.accumulate = !c->copies && work->add}))
            conv_failed(work);
        if (c->copies)
            FN(conv_unpatch)(c, patches, row, rows, scratch + c->k * n, dx);
    }
}

/* A task's images add up in its own place, which is dw and db themselves if there is but one. */
static void FN(conv_dw_part)(void *context, int64_t task)
{
    conv_work *work = context;
    const convolution *c = &work->c;
    const int64_t positions = c->rows.out * c->columns.out, image = c->channels * c->rows.extent * c->columns.extent,
                  outs = c->groups * c->outs, first = task * work->part * c->groups;
    REAL *scratch = work->dw ? FN(conv_scratch)(work) : NULL;
    CONV_EACH(work, task, group, row, rows) {
        const int64_t out = group % c->groups * c->outs, n = rows * c->columns.out;
        const REAL *dy = (const REAL *)work->dy + group * c->outs * positions + row * c->columns.out;
        const int add = work->add || group - first >= c->groups || row > 0;
        if (work->dw) {
            REAL *dw = (REAL *)work->dw + (task * outs + out) * c->k;
            int64_t step;
            if (!scratch)
                return;
            const REAL *patches = FN(conv_patches)(c, (const REAL *)work->x + group * image, row, rows, scratch, &step);
            if (FN(gemm)(c->outs, c->k, n, dy, positions, 1, patches, 1, step, dw, c->k,
                         (FN(gemm_tail)){.accumulate = add}))
                conv_failed(work);
        }
        if (work->db) {
            REAL *db = (REAL *)work->db + task * outs + out, sum;
            for (int64_t o = 0; o < c->outs; o++) {
                FN(fold_sum)(n, 1, 1, dy + o * positions, &sum);
                db[o] = add ? db[o] + sum : sum;
            }
        }
    }
}

/* to = the sum of n-element parts, or adds it. */
static void FN(conv_join)(int64_t parts, int64_t n, const REAL *from, REAL *to, int add)
{
    if (!add)
        memset(to, 0, (size_t)n * sizeof *to);
    for (int64_t part = 0; part < parts; part++, from += n)
        for (int64_t i = 0; i < n; i++)
            to[i] += from[i];
}

static int FN(conv_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    conv_work work = {.c = convolution_of(in[0], in[1], tm_attr(y)), .x = tm_data(in[0]), .w = tm_data(in[1]),
                      .dy = tm_grad_data(y)};
    if ((work.dx = tm_grad_open(in[0], &work.add))) {
        conv_cut(&work, TM_MAX_PARTS);
        if (conv_run(&work, FN(conv_dx_part), sizeof(REAL)))
            return -1;
    }
    int add_w = 0, add_b = 0;
    REAL *dw = tm_grad_open(in[1], &add_w), *db = y->n_inputs > 2 ? tm_grad_open(in[2], &add_b) : NULL;
    if (!dw && !db)
        return 0;
    const int64_t weights = in[1]->size, outs = tm_shape(in[1])[0];
    conv_cut(&work, conv_sums(weights));
    REAL *sums = tm_buffer_new((size_t)(work.tasks * (weights + outs)) * sizeof *sums);
    if (!sums)
        return -1;
    work.add = 0;
    work.dw = dw ? sums : NULL;
    work.db = db ? sums + work.tasks * weights : NULL;
    const int failed = conv_run(&work, FN(conv_dw_part), sizeof(REAL));
    if (dw)
        FN(conv_join)(work.tasks, weights, work.dw, dw, add_w);
    if (db)
        FN(conv_join)(work.tasks, outs, work.db, db, add_b);
    tm_buffer_drop(sums);
    return failed;
}

#undef CONV_EACH

#endif
